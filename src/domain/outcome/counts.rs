//! What a person's outcomes add to the statistics. The unit is people; devices are counted beside them.

use std::ops::{Add, AddAssign, Sub};

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};

use super::super::clock::Timestamp;
use super::{Fact, Facts, OutcomeKind, Status, confirms};

/// How long after its acceptance a message's outcomes count, so that a day's figures do not depend on when they are
/// read.
pub const WINDOW: TimeDelta = TimeDelta::hours(72);
/// An open or click that follows the delivery within this time is probably automatic.
pub const SOON: TimeDelta = TimeDelta::seconds(10);

/// Counts of people, and of devices.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Deliveries that OneSignal accepted.
    pub accepted: i64,
    /// With any outcome.
    pub reported: i64,
    /// On a device that can confirm delivery.
    pub measurable: i64,
    /// Sent to at least one device.
    pub sent: i64,
    /// Confirmed by at least one device.
    pub delivered: i64,
    /// Opened.
    pub opened: i64,
    /// Opened only within seconds of the delivery.
    pub opened_soon: i64,
    /// Clicked.
    pub clicked: i64,
    /// Clicked only within seconds of the delivery.
    pub clicked_soon: i64,
    /// Not delivered to any device.
    pub failed: i64,
    /// Permanently undeliverable.
    pub bounced: i64,
    /// Not sent because of OneSignal's suppression list.
    pub suppressed: i64,
    /// Unsubscribed with this message.
    pub unsubscribed: i64,
    /// Reported it as spam.
    pub complained: i64,
    /// Devices with any outcome.
    pub devices: i64,
    /// Devices that confirmed.
    pub devices_delivered: i64,
}

impl Counts {
    /// What one person's outcomes of one delivery, accepted at `accepted_at`, add.
    pub fn of(facts: &Facts, accepted_at: Timestamp) -> Self {
        let counted: Facts = facts
            .iter()
            .filter(|(_, fact)| fact.first_at <= accepted_at + WINDOW)
            .map(|(place, fact)| (place.clone(), fact.clone()))
            .collect();
        let mut counts = Self::default();
        if counted.0.is_empty() {
            return counts;
        }
        counts.reported = 1;
        let (mut can_confirm, mut was_sent) = (false, false);
        for kinds in counted.devices().values() {
            let status = super::status_of(kinds.keys().copied());
            counts.devices += 1;
            counts.devices_delivered += i64::from(status == Some(Status::Delivered));
            can_confirm |=
                status == Some(Status::Delivered) || kinds.values().any(|fact| confirms(&fact.device));
            was_sent |= kinds.contains_key(&OutcomeKind::Sent)
                || matches!(status, Some(Status::Delivered | Status::Bounced));
        }
        let status = counted.status();
        counts.measurable = i64::from(can_confirm);
        counts.sent = i64::from(was_sent);
        counts.delivered = i64::from(status == Some(Status::Delivered));
        counts.failed = i64::from(status == Some(Status::Failed));
        counts.bounced = i64::from(status == Some(Status::Bounced));
        counts.suppressed = i64::from(status == Some(Status::Suppressed));
        (counts.opened, counts.opened_soon) = engaged(&counted, &OutcomeKind::Opened, accepted_at);
        (counts.clicked, counts.clicked_soon) = engaged(&counted, &OutcomeKind::Clicked, accepted_at);
        let any = |wanted: &OutcomeKind| i64::from(counted.iter().any(|((_, kind), _)| kind == wanted));
        counts.unsubscribed = any(&OutcomeKind::Unsubscribed);
        counts.complained = any(&OutcomeKind::Complained);
        counts
    }

    /// Whether there is nothing to add.
    pub fn is_zero(&self) -> bool {
        *self == Self::default()
    }

    fn combine(self, other: Self, by: impl Fn(i64, i64) -> i64) -> Self {
        Self {
            accepted: by(self.accepted, other.accepted),
            reported: by(self.reported, other.reported),
            measurable: by(self.measurable, other.measurable),
            sent: by(self.sent, other.sent),
            delivered: by(self.delivered, other.delivered),
            opened: by(self.opened, other.opened),
            opened_soon: by(self.opened_soon, other.opened_soon),
            clicked: by(self.clicked, other.clicked),
            clicked_soon: by(self.clicked_soon, other.clicked_soon),
            failed: by(self.failed, other.failed),
            bounced: by(self.bounced, other.bounced),
            suppressed: by(self.suppressed, other.suppressed),
            unsubscribed: by(self.unsubscribed, other.unsubscribed),
            complained: by(self.complained, other.complained),
            devices: by(self.devices, other.devices),
            devices_delivered: by(self.devices_delivered, other.devices_delivered),
        }
    }
}

impl Add for Counts {
    type Output = Self;
    fn add(self, other: Self) -> Self {
        self.combine(other, |one, other| one + other)
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl Sub for Counts {
    type Output = Self;
    fn sub(self, other: Self) -> Self {
        self.combine(other, |one, other| one - other)
    }
}

/// Whether the person did this, and whether only so soon after the delivery that it was probably not the person.
fn engaged(facts: &Facts, wanted: &OutcomeKind, accepted_at: Timestamp) -> (i64, i64) {
    let (mut did, mut only_soon) = (false, true);
    for kinds in facts.devices().values() {
        let Some(fact) = kinds.get(wanted) else { continue };
        let arrived = [OutcomeKind::Delivered, OutcomeKind::Sent].iter().find_map(|kind| kinds.get(kind));
        let arrived_at = arrived.map_or(accepted_at, |fact: &&Fact| fact.first_at);
        did = true;
        only_soon &= fact.last_at <= arrived_at + SOON;
    }
    (i64::from(did), i64::from(did && only_soon))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        "2026-11-24T10:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::seconds(seconds)
    }

    fn facts(reports: &[(OutcomeKind, &str, i64)]) -> Facts {
        let fact = |(kind, device, seconds): &(OutcomeKind, &str, i64)| {
            let at = at(*seconds);
            let fact =
                Fact { first_at: at, last_at: at, device: (*device).to_owned(), reason: String::new() };
            ((String::new(), kind.clone()), fact)
        };
        reports.iter().map(fact).collect()
    }

    #[test]
    fn an_open_within_seconds_is_counted_apart_until_there_is_a_later_one() {
        let soon = [(OutcomeKind::Delivered, "Email", 0), (OutcomeKind::Opened, "Email", 1)];
        let counts = Counts::of(&facts(&soon), at(0));
        assert_eq!((counts.opened, counts.opened_soon), (1, 1));
        let later = Counts::of(
            &facts(&[soon[0].clone(), soon[1].clone(), (OutcomeKind::Opened, "Email", 60)]),
            at(0),
        );
        assert_eq!((later.opened, later.opened_soon), (1, 0));
    }

    #[test]
    fn a_device_that_cannot_confirm_is_not_in_the_denominator() {
        let counts = Counts::of(&facts(&[(OutcomeKind::Sent, "Safari", 0)]), at(0));
        assert_eq!((counts.sent, counts.measurable), (1, 0));
        let counts = Counts::of(&facts(&[(OutcomeKind::Sent, "iOS", 0)]), at(0));
        assert_eq!((counts.sent, counts.measurable, counts.delivered), (1, 1, 0));
    }

    #[test]
    fn what_happens_after_three_days_does_not_change_the_figures() {
        let early = facts(&[(OutcomeKind::Sent, "iOS", 0)]);
        let late = facts(&[(OutcomeKind::Sent, "iOS", 0), (OutcomeKind::Clicked, "iOS", 72 * 3_600 + 1)]);
        assert_eq!(Counts::of(&early, at(0)), Counts::of(&late, at(0)));
    }
}
