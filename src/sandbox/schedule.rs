//! When each recipient of a message gets it: at once, at its time, in their own time zone, or so many a minute.

use chrono::{NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;
use serde_json::Value;

use super::json::{Object, field};
use super::message::{Message, Recipient};
use crate::domain::clock::Timestamp;

/// The delivery times of one message.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Schedule {
    base: Timestamp,
    per_minute: Option<usize>,
    /// The local time at which every recipient gets it.
    local: Option<NaiveTime>,
}

impl Schedule {
    pub(super) fn of(message: &Message) -> Self {
        let base = message.send_after.unwrap_or(message.received_at);
        if !message.paced {
            return Self { base, per_minute: None, local: None };
        }
        let request = message.request();
        let by_zone = field(&request, "delayed_option").and_then(Value::as_str) == Some("timezone");
        let wanted = field(&request, "delivery_time_of_day").and_then(Value::as_str).and_then(time_of_day);
        let local = by_zone.then(|| wanted.unwrap_or_else(|| base.time()));
        Self { base, per_minute: per_minute(&request), local }
    }

    /// When the recipient at `place` gets it.
    pub(super) fn due(&self, place: usize, recipient: &Recipient) -> Timestamp {
        let base = match self.local {
            None => self.base,
            Some(time) => next_local(self.base, time, zone(recipient)),
        };
        let minutes = self.per_minute.map_or(0, |rate| place / rate.max(1));
        base + TimeDelta::minutes(i64::try_from(minutes).unwrap_or(i64::MAX / 100_000).min(10_000_000))
    }

    /// Whether all recipients get it at the same time, and when.
    pub(super) fn at_once(&self) -> Option<Timestamp> {
        (self.per_minute.is_none() && self.local.is_none()).then_some(self.base)
    }
}

/// Whether a request distributes its recipients over time.
pub(super) fn is_paced(request: &Object) -> bool {
    let by_zone = field(request, "delayed_option").and_then(Value::as_str) == Some("timezone");
    by_zone || per_minute(request).is_some()
}

fn per_minute(request: &Object) -> Option<usize> {
    let rate = field(request, "throttle_rate_per_minute")?;
    let number = rate.as_u64().or_else(|| rate.as_str().and_then(|text| text.parse().ok()))?;
    usize::try_from(number).ok().filter(|rate| *rate > 0)
}

/// `9:00AM`, `21:45` or `09:45:30`.
pub(super) fn time_of_day(text: &str) -> Option<NaiveTime> {
    let upper = text.trim().to_uppercase();
    let spaced = upper.strip_suffix("AM").map(|rest| (rest, "AM"));
    let twelve = spaced.or_else(|| upper.strip_suffix("PM").map(|rest| (rest, "PM")));
    if let Some((rest, half)) = twelve {
        return NaiveTime::parse_from_str(&format!("{} {half}", rest.trim()), "%I:%M %p").ok();
    }
    ["%H:%M", "%H:%M:%S"].iter().find_map(|form| NaiveTime::parse_from_str(&upper, form).ok())
}

fn zone(recipient: &Recipient) -> Tz {
    let named = recipient.person.as_ref().and_then(|person| person.timezone_id.as_deref());
    named.and_then(|name| name.parse().ok()).unwrap_or(Tz::UTC)
}

/// The first moment from `base` on at which the clocks of `zone` show `time`.
fn next_local(base: Timestamp, time: NaiveTime, zone: Tz) -> Timestamp {
    let start = base.with_timezone(&zone).date_naive();
    let days = start.iter_days().take(3);
    // A clock time that a change of the clocks leaves out is skipped to the next day.
    let moments = days.filter_map(|day| {
        zone.from_local_datetime(&day.and_time(time)).earliest().map(|at| at.with_timezone(&Utc))
    });
    moments.into_iter().find(|at| *at >= base).unwrap_or(base)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::people::Person;
    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    #[test]
    fn times_of_day_are_read_in_all_three_forms() {
        let read = |text| time_of_day(text).map(|time| time.to_string());
        assert_eq!(read("9:00AM").as_deref(), Some("09:00:00"));
        assert_eq!(read("9:15 pm").as_deref(), Some("21:15:00"));
        assert_eq!(read("21:45").as_deref(), Some("21:45:00"));
        assert_eq!(read("09:45:30").as_deref(), Some("09:45:30"));
        for wrong in ["", "25:00", "13:00PM", "noon", "9"] {
            assert_eq!(read(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn everybody_gets_it_at_their_own_nine_o_clock() {
        let base = at("2026-03-01T12:00:00Z");
        let schedule = Schedule { base, per_minute: None, local: time_of_day("9:00AM") };
        let due = |zone: &str| {
            let person = Person { timezone_id: Some(zone.to_owned()), ..Person::default() };
            let mut recipient = Recipient::made_up("external_id", "u");
            recipient.person = Some(Arc::new(person));
            schedule.due(0, &recipient)
        };
        assert_eq!(due("Europe/Berlin"), at("2026-03-02T08:00:00Z"));
        assert_eq!(due("America/New_York"), at("2026-03-01T14:00:00Z"));
        assert_eq!(due("Nowhere/Else"), at("2026-03-02T09:00:00Z"), "UTC where the zone is unknown");
    }

    #[test]
    fn a_rate_lets_so_many_through_each_minute() {
        let base = at("2026-03-01T12:00:00Z");
        let schedule = Schedule { base, per_minute: Some(2), local: None };
        let due = |place| (schedule.due(place, &Recipient::made_up("external_id", "u")) - base).num_minutes();
        assert_eq!([0, 1, 2, 5].map(due), [0, 0, 1, 2]);
    }
}
