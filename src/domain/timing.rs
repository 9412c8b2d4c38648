//! When a rule acts: delays, send windows and quiet hours, with daylight saving time. Pure.

use chrono::{
    Datelike, Days, NaiveDate, NaiveDateTime, NaiveTime, Offset, TimeDelta, TimeZone, Utc, Weekday,
};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::clock::Timestamp;
use super::id::EventId;

/// When a rule acts.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Timing {
    /// The delay after the event, in seconds.
    #[serde(skip_serializing_if = "is_zero")]
    pub delay_s: u32,
    /// The time in the event that it is relative to: an expression such as `data.starts_at`.
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
    /// What OneSignal does with the scheduled time.
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
    /// At this local time of the person.
    Timezone {
        /// `9:00AM` or `21:45`; OneSignal uses the call's time of day if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        time_of_day: Option<String>,
    },
    /// At the time of day when the person was last active.
    LastActive,
}

/// What OneSignal does with the scheduled time of one message, pinned when it is planned.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Schedule {
    /// The mode.
    pub timing: ProviderTiming,
    /// Set if the message is submitted to OneSignal before its time.
    pub scheduled_messages: Option<HandOver>,
}

/// A message that is submitted before its time. It shares its call only with deliveries of its own event, so that it
/// can be recalled without recalling others.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HandOver {
    /// When OneSignal sends it, or begins to.
    pub send_after: Timestamp,
    /// Its event.
    pub event: EventId,
}

impl Schedule {
    /// When OneSignal is to send messages that are submitted before their time.
    pub fn send_after(&self) -> Option<Timestamp> {
        self.scheduled_messages.as_ref().map(|over| over.send_after)
    }
}

/// When a message that is to be sent at `send_after` can be submitted: OneSignal accepts it at most 30 days ahead, and
/// its clock may differ from ours.
pub fn schedule_at_provider_from(send_after: Timestamp) -> Timestamp {
    const AHEAD: TimeDelta = TimeDelta::minutes(30 * 24 * 60 - 10);
    send_after - AHEAD
}

/// The time zone that hours are in.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Zone {
    /// An IANA name, such as `Europe/Berlin`.
    pub name: Tz,
    /// Whether the person's own is used if it is known.
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

    /// Their beginnings and ends from the day before `day` on: a local time can come again when the clock is set back.
    fn edges(&self, day: NaiveDate) -> impl Iterator<Item = NaiveDateTime> {
        let days = (0..=DAYS_AHEAD + 1).filter_map(move |n| day.pred_opt()?.checked_add_days(Days::new(n)));
        days.flat_map(|day| [day.and_time(self.from), day.and_time(self.until)])
    }
}

/// How far ahead an allowed time is searched: hours on one day of the week recur within eight days, unless the clock
/// skips them.
const DAYS_AHEAD: u64 = 15;

impl Timing {
    /// Whether there are hours to keep.
    pub fn has_hours(&self) -> bool {
        self.window.is_some() || self.quiet.is_some()
    }

    /// The first allowed time not before `at`, in `zone`; `None` if the hours allow none.
    pub fn allowed(&self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        if self.is_allowed(at, zone) {
            return Some(at);
        }
        if self.quiet.as_ref().is_some_and(Hours::is_always) {
            return None;
        }
        self.edges(at, zone).into_iter().find(|at| self.is_allowed(*at, zone))
    }

    /// When the allowed period that `at` is in ends; `None` if no end is near.
    pub fn closes_after(&self, at: Timestamp, zone: Tz) -> Option<Timestamp> {
        self.edges(at, zone).into_iter().find(|at| !self.is_allowed(*at, zone))
    }

    fn is_allowed(&self, at: Timestamp, zone: Tz) -> bool {
        let local = at.with_timezone(&zone).naive_local();
        self.window.as_ref().is_none_or(|window| window.contains(local))
            && !self.quiet.as_ref().is_some_and(|quiet| quiet.contains(local))
    }

    /// Every instant after `at` at which it may change whether sending is allowed, ascending: the edges of the hours,
    /// each as often as the clock shows it, and the instants when the clock is changed.
    fn edges(&self, at: Timestamp, zone: Tz) -> Vec<Timestamp> {
        let today = at.with_timezone(&zone).date_naive();
        let hours = self.window.iter().chain(&self.quiet);
        let mut edges: Vec<Timestamp> =
            hours.flat_map(|hours| hours.edges(today)).flat_map(|local| instants(local, zone)).collect();
        edges.extend((0..=DAYS_AHEAD).filter_map(|day| {
            let from = at + TimeDelta::days(i64::try_from(day).unwrap_or_default());
            clock_change(from, from + TimeDelta::days(1), zone)
        }));
        edges.retain(|edge| *edge > at);
        edges.sort_unstable();
        edges
    }
}

/// The instants at which the clock shows a local time: none, one or two.
fn instants(local: NaiveDateTime, zone: Tz) -> impl Iterator<Item = Timestamp> {
    let found = zone.from_local_datetime(&local);
    let (earliest, latest) = (found.earliest(), found.latest());
    let second = latest.filter(|latest| Some(*latest) != earliest);
    earliest.into_iter().chain(second).map(|at| at.with_timezone(&Utc))
}

/// The instant of a local time: the first of two if the clock is set back, the instant of the change if the clock skips
/// that time.
pub fn instant(local: NaiveDateTime, zone: Tz) -> Option<Timestamp> {
    instants(local, zone).next().or_else(|| {
        let around = local.and_utc();
        clock_change(around - LONGEST_GAP, around + LONGEST_GAP, zone)
    })
}

/// No zone is further from UTC, and none has ever skipped more, than a day; both combined.
const LONGEST_GAP: TimeDelta = TimeDelta::hours(40);

/// When the clock of a zone is set between two instants, to the second.
fn clock_change(from: Timestamp, until: Timestamp, zone: Tz) -> Option<Timestamp> {
    let offset = |seconds: i64| {
        let at = chrono::DateTime::from_timestamp(seconds, 0)?;
        Some(zone.offset_from_utc_datetime(&at.naive_utc()).fix())
    };
    let (mut before, mut after) = (from.timestamp(), until.timestamp());
    let old = offset(before)?;
    if offset(after)? == old {
        return None;
    }
    while after - before > 1 {
        let middle = before.midpoint(after);
        if offset(middle)? == old { before = middle } else { after = middle }
    }
    chrono::DateTime::from_timestamp(after, 0)
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
            .map_err(|_| D::Error::custom(format!("`{text}` is not a time of day; write it as 21:30")))
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
            word.parse().map_err(|_| {
                D::Error::custom(format!("`{word}` is not a day of the week; write mon, tue, …"))
            })
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
    fn a_message_keeps_out_of_quiet_hours_that_the_clock_shows_twice() {
        let timing = Timing { quiet: Some(hours("22:00", "02:30", &[])), ..Timing::default() };
        // The clock goes back from 03:00 to 02:00 at 01:00 UTC; 02:15 is shown at 00:15 and at 01:15.
        assert_eq!(timing.allowed(at("2027-10-31T00:15:00Z"), BERLIN), Some(at("2027-10-31T00:30:00Z")));
        assert_eq!(timing.allowed(at("2027-10-31T01:15:00Z"), BERLIN), Some(at("2027-10-31T01:30:00Z")));
        assert_eq!(timing.closes_after(at("2027-10-31T00:45:00Z"), BERLIN), Some(at("2027-10-31T01:00:00Z")));
    }

    #[test]
    fn a_time_that_the_clock_skips_is_the_moment_when_it_is_set() {
        let skipped = "2027-03-28T02:10:00".parse().unwrap();
        assert_eq!(instant(skipped, BERLIN), Some(at("2027-03-28T01:00:00Z")));
        // Samoa skipped a whole day.
        let skipped = "2011-12-30T12:00:00".parse().unwrap();
        assert_eq!(instant(skipped, Tz::Pacific__Apia), Some(at("2011-12-30T10:00:00Z")));
    }

    /// What the hours say of an instant, worked out in minutes of the week.
    fn is_open(timing: &Timing, at: Timestamp, zone: Tz) -> bool {
        let local = at.with_timezone(&zone).naive_local();
        let day = i64::from(local.weekday().num_days_from_monday());
        let minute =
            day * 1_440 + local.signed_duration_since(local.date().and_time(NaiveTime::MIN)).num_minutes();
        let of_day = |time: NaiveTime| time.signed_duration_since(NaiveTime::MIN).num_minutes();
        let within = |hours: &Hours| {
            let length = (of_day(hours.until) - of_day(hours.from) - 1).rem_euclid(1_440) + 1;
            let days = (0..7).filter(|day| {
                hours.days.is_empty()
                    || hours.days.iter().any(|d| i64::from(d.num_days_from_monday()) == *day)
            });
            days.map(|day| day * 1_440 + of_day(hours.from))
                .any(|from| (minute - from).rem_euclid(10_080) < length)
        };
        timing.window.as_ref().is_none_or(within) && !timing.quiet.as_ref().is_some_and(within)
    }

    /// Some hours, to five minutes, so that all that changes does so on such a minute.
    fn some_hours(random: &mut impl rand::RngExt) -> Hours {
        let mut time = || {
            let minute = random.random_range(0..288_u32) * 5;
            NaiveTime::from_hms_opt(minute / 60, minute % 60, 0).unwrap()
        };
        let (from, until) = (time(), time());
        let days = if random.random_bool(0.3) { vec![Weekday::Sat, Weekday::Sun] } else { Vec::new() };
        Hours { from, until, days }
    }

    #[test]
    fn in_every_zone_a_message_goes_at_the_first_allowed_moment_around_every_change_of_its_clock() {
        use rand::{RngExt, SeedableRng};
        let mut random = rand::rngs::StdRng::seed_from_u64(18);
        let five_minutes = TimeDelta::minutes(5);
        for zone in chrono_tz::TZ_VARIANTS {
            // A change of the clock within twenty years, or any time if there is none.
            let start = at("2026-01-01T00:00:00Z") + TimeDelta::days(random.random_range(0..7_000));
            let change = (0..260)
                .map(|day| start + TimeDelta::days(day))
                .find_map(|day| clock_change(day, day + TimeDelta::days(1), zone))
                .unwrap_or(start);
            for _ in 0..2 {
                let quiet = random.random_bool(0.7).then(|| some_hours(&mut random));
                let window = (quiet.is_none() || random.random_bool(0.3)).then(|| some_hours(&mut random));
                let timing = Timing { window, quiet, ..Timing::default() };
                let from = change + five_minutes * random.random_range(-300..60);
                let expected =
                    (0..4_400).map(|n| from + five_minutes * n).find(|at| is_open(&timing, *at, zone));
                let found = timing.allowed(from, zone);
                assert_eq!(found, expected, "{zone} from {from}: {timing:?}");
                if let Some(found) = found {
                    let close =
                        (1..4_400).map(|n| found + five_minutes * n).find(|at| !is_open(&timing, *at, zone));
                    let said = timing.closes_after(found, zone);
                    assert_eq!(said, close, "{zone} after {found}: {timing:?}");
                }
            }
        }
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
