//! When a rule acts: delays, send windows and quiet hours, with daylight saving right. Pure.

use chrono::{Datelike, Days, NaiveDateTime, NaiveTime, TimeZone, Utc, Weekday};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::id::EventId;

/// When a rule acts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// How long after the event, in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_s: u32,
    /// The time in the event that it is counted from: an expression such as `data.starts_at`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// Seconds before that time.
    #[serde(skip_serializing_if = "is_zero")]
    pub before_s: u32,
    /// Only within these hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub window: Option<Hours>,
    /// Never within these hours.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet: Option<Hours>,
    /// The time zone of the hours.
    #[serde(skip_serializing_if = "Zone::is_utc")]
    pub zone: Zone,
    /// What OneSignal does with the time of the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<ProviderTiming>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
fn is_zero(value: &u32) -> bool {
    *value == 0
}

/// OneSignal's own timing of a message.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum ProviderTiming {
    /// At this time of day where the person is.
    Timezone {
        /// `9:00AM` or `21:45`; OneSignal takes the call's time of day if there is none.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_of_day: Option<String>,
    },
    /// When the person was last active.
    LastActive,
}

/// What OneSignal does with the time of one message, pinned when it is planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Schedule {
    /// In which way.
    pub timing: ProviderTiming,
    /// Set when OneSignal gets the message before its time.
    pub handed_over: Option<HandOver>,
}

/// A message that is handed over before its time. It shares its call with none but its own event's, so that it can be
/// taken back without taking others back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandOver {
    /// When OneSignal sends it, or begins to.
    pub send_after: Timestamp,
    /// Whose it is.
    pub event: EventId,
}

impl Schedule {
    /// When OneSignal is to send what it gets before its time.
    pub fn send_after(&self) -> Option<Timestamp> {
        self.handed_over.as_ref().map(|over| over.send_after)
    }
}

/// When a message can be handed over that is to be sent at `send_after`: OneSignal takes it at most 30 days ahead, and
/// its clock may differ from ours.
pub fn hand_over_from(send_after: Timestamp) -> Timestamp {
    const AHEAD: chrono::TimeDelta = chrono::TimeDelta::minutes(30 * 24 * 60 - 10);
    send_after - AHEAD
}

/// The time zone that hours are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// An IANA name, such as `Europe/Berlin`.
    pub name: Tz,
    /// Whether the person's own is used where it is known.
    #[serde(default)]
    pub of_recipient: bool,
}

impl Default for Zone {
    fn default() -> Self {
        Self { name: Tz::UTC, of_recipient: false }
    }
}

impl Zone {
    fn is_utc(&self) -> bool {
        *self == Self::default()
    }

    /// The zone to use for a person whose own may be known.
    pub fn of(&self, person: Option<&str>) -> Tz {
        let own = person.filter(|_| self.of_recipient).and_then(|name| name.parse().ok());
        own.unwrap_or(self.name)
    }
}

/// Hours of the day, on some days of the week; over midnight if `until` is not after `from`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hours {
    /// From this time on, …
    #[serde(with = "minutes")]
    pub from: NaiveTime,
    /// … until before this one.
    #[serde(with = "minutes")]
    pub until: NaiveTime,
    /// The days on which they begin (`mon` to `sun`); every day if none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty", with = "days")]
    pub days: Vec<Weekday>,
}

impl Hours {
    fn begins_on(&self, day: Weekday) -> bool {
        self.days.is_empty() || self.days.contains(&day)
    }

    /// Whether they last all day, every day.
    fn is_always(&self) -> bool {
        self.from == self.until && self.days.is_empty()
    }

    fn contains(&self, local: NaiveDateTime) -> bool {
        let (time, today) = (local.time(), local.weekday());
        if self.from < self.until {
            return self.begins_on(today) && time >= self.from && time < self.until;
        }
        (self.begins_on(today) && time >= self.from) || (self.begins_on(today.pred()) && time < self.until)
    }

    /// Beginnings and ends on the day of `local` and the next ones, ascending.
    fn edges(&self, local: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> {
        let (first, last) = (self.from.min(self.until), self.from.max(self.until));
        let days = (0..=DAYS_AHEAD).filter_map(move |ahead| local.date().checked_add_days(Days::new(ahead)));
        days.flat_map(move |day| [day.and_time(first), day.and_time(last)]).filter(move |edge| *edge > local)
    }
}

/// How far ahead an allowed time is looked for: hours on one day of the week come again within eight days.
const DAYS_AHEAD: u64 = 8;

impl Timing {
    /// The first allowed time not before `at`, in `zone`; `None` if the hours leave none.
    pub fn allowed(&self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        if self.is_allowed(at, zone) {
            return Some(at);
        }
        if self.quiet.as_ref().is_some_and(Hours::is_always) {
            return None;
        }
        let local = at.with_timezone(&zone).naive_local();
        let mut edges: Vec<NaiveDateTime> =
            self.window.iter().chain(&self.quiet).flat_map(|hours| hours.edges(local)).collect();
        edges.sort_unstable();
        edges.into_iter().filter_map(|edge| instant(edge, zone)).find(|at| self.is_allowed(*at, zone))
    }

    fn is_allowed(&self, at: Timestamp, zone: Tz) -> bool {
        let local = at.with_timezone(&zone).naive_local();
        self.window.as_ref().is_none_or(|window| window.contains(local))
            && !self.quiet.as_ref().is_some_and(|quiet| quiet.contains(local))
    }
}

/// The instant of a local time: the first of two where the clock is set back, the first after the gap where it is set
/// forward.
pub fn instant(local: NaiveDateTime, zone: Tz) -> Option<Timestamp> {
    let quarter = chrono::TimeDelta::minutes(15);
    (0..=12)
        .map(|step| local + quarter * step)
        .find_map(|local| zone.from_local_datetime(&local).earliest())
        .map(|found| found.with_timezone(&Utc))
}

mod minutes {
    use chrono::NaiveTime;
    use serde::{Deserialize, Deserializer, Serializer, de::Error};

    #[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes references")]
    pub fn serialize<S: Serializer>(time: &NaiveTime, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&time.format("%H:%M"))
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<NaiveTime, D::Error> {
        let text = String::deserialize(deserializer)?;
        NaiveTime::parse_from_str(&text, "%H:%M")
            .map_err(|_| D::Error::custom(format!("`{text}` is no time of day; write it as 21:30")))
    }
}

mod days {
    use chrono::Weekday;
    use serde::{Deserialize, Deserializer, Serializer, de::Error, ser::SerializeSeq};

    pub fn serialize<S: Serializer>(days: &[Weekday], serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(days.len()))?;
        for day in days {
            list.serialize_element(&day.to_string().to_lowercase())?;
        }
        list.end()
    }

    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Weekday>, D::Error> {
        let words = Vec::<String>::deserialize(deserializer)?;
        let day = |word: String| {
            word.parse()
                .map_err(|_| D::Error::custom(format!("`{word}` is no day of the week; write mon, tue, …")))
        };
        words.into_iter().map(day).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hours(from: &str, until: &str, days: &[Weekday]) -> Hours {
        let time = |text| NaiveTime::parse_from_str(text, "%H:%M").unwrap();
        Hours { from: time(from), until: time(until), days: days.to_vec() }
    }

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    const BERLIN: Tz = Tz::Europe__Berlin;

    #[test]
    fn quiet_hours_over_midnight_move_a_message_to_their_end() {
        let timing = Timing { quiet: Some(hours("22:00", "07:00", &[])), ..Timing::default() };
        assert_eq!(timing.allowed(at("2026-11-23T22:30:00Z"), BERLIN), Some(at("2026-11-24T06:00:00Z")));
        assert_eq!(timing.allowed(at("2026-11-24T05:59:59Z"), BERLIN), Some(at("2026-11-24T06:00:00Z")));
        assert_eq!(timing.allowed(at("2026-11-24T06:00:00Z"), BERLIN), Some(at("2026-11-24T06:00:00Z")));
    }

    #[test]
    fn a_window_on_working_days_skips_the_weekend() {
        let days = [Weekday::Mon, Weekday::Tue, Weekday::Wed, Weekday::Thu, Weekday::Fri];
        let timing = Timing { window: Some(hours("09:00", "17:00", &days)), ..Timing::default() };
        // A Friday evening.
        assert_eq!(timing.allowed(at("2026-11-27T18:00:00Z"), BERLIN), Some(at("2026-11-30T08:00:00Z")));
    }

    #[test]
    fn hours_keep_to_the_clock_on_the_wall_when_it_is_set_back_or_forward() {
        let timing = Timing { window: Some(hours("09:00", "17:00", &[])), ..Timing::default() };
        // The clock is set back on 2026-10-25 and forward on 2027-03-28.
        assert_eq!(timing.allowed(at("2026-10-24T20:00:00Z"), BERLIN), Some(at("2026-10-25T08:00:00Z")));
        assert_eq!(timing.allowed(at("2027-03-27T20:00:00Z"), BERLIN), Some(at("2027-03-28T07:00:00Z")));
        // 02:30 does not exist on that day: the window opens when the clock jumps over it.
        let night = Timing { window: Some(hours("02:30", "05:00", &[])), ..Timing::default() };
        assert_eq!(night.allowed(at("2027-03-28T00:00:00Z"), BERLIN), Some(at("2027-03-28T01:00:00Z")));
    }

    #[test]
    fn a_window_that_is_quiet_all_through_leaves_no_time() {
        let hours = hours("09:00", "10:00", &[]);
        let timing = Timing { window: Some(hours.clone()), quiet: Some(hours), ..Timing::default() };
        assert_eq!(timing.allowed(at("2026-11-23T10:00:00Z"), BERLIN), None);
    }

    #[test]
    fn a_persons_own_zone_is_used_where_it_is_known_and_asked_for() {
        let zone = Zone { name: BERLIN, of_recipient: true };
        assert_eq!(zone.of(Some("America/New_York")), Tz::America__New_York);
        assert_eq!(zone.of(Some("Nowhere/Land")), BERLIN);
        assert_eq!(Zone { of_recipient: false, ..zone }.of(Some("America/New_York")), BERLIN);
    }

    #[test]
    fn hours_are_written_as_people_write_them() {
        let timing: Timing = serde_json::from_value(serde_json::json!({
            "quiet": {"from": "22:00", "until": "07:00", "days": ["mon", "sun"]},
            "zone": {"name": "Europe/Berlin", "of_recipient": true},
        }))
        .unwrap();
        assert_eq!(timing.quiet, Some(hours("22:00", "07:00", &[Weekday::Mon, Weekday::Sun])));
        let again: Timing = serde_json::from_value(serde_json::to_value(&timing).unwrap()).unwrap();
        assert_eq!(again, timing);
        let wrong = serde_json::json!({"quiet": {"from": "10pm", "until": "07:00"}});
        let error = serde_json::from_value::<Timing>(wrong).unwrap_err().to_string();
        assert!(error.contains("write it as 21:30"), "{error}");
    }
}
