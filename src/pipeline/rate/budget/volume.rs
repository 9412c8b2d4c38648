//! The volume guard: OneSignal disables an app that sends ten times its subscriptions within a quarter of an hour.
//!
//! <https://documentation.onesignal.com/docs/rate-limits>: the messages delivered in a rolling window of 15 minutes
//! have to stay below ten times the number of subscriptions. Herald counts the recipients that it sends to, across all
//! replicas, and stops well before the limit.

use chrono::{DurationRound, TimeDelta};

use crate::domain::clock::Timestamp;

/// The window that OneSignal counts in.
pub const WINDOW: TimeDelta = TimeDelta::minutes(15);
/// Messages per subscription at which it disables an app.
const TIMES: u64 = 10;
/// Percentages of the limit at which Herald warns, stops sending, and resumes.
const WARN_AT: u64 = 50;
const STOP_AT: u64 = 80;
const GO_ON_AT: u64 = 70;

/// How much an app has sent, relative to its limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum VolumeState {
    /// The app's number of subscriptions is not known.
    Unknown,
    /// Below half.
    Low,
    /// At least half of the limit.
    High,
    /// So close to the limit that nothing more is sent until this time.
    TooHigh {
        /// When enough of it has left the window.
        until: Timestamp,
    },
}

/// One app's messages, by minute.
#[derive(Debug, Clone, Default)]
pub(super) struct Volume {
    /// What all replicas had sent at the last exchange, by minute, oldest first.
    known: Vec<(Timestamp, u64)>,
    /// What this replica has sent since.
    since: u64,
    subscriptions: Option<u64>,
    was_high: bool,
}

/// The minute that a time falls in.
pub fn minute(at: Timestamp) -> Timestamp {
    at.duration_trunc(TimeDelta::minutes(1)).unwrap_or(at)
}

impl Volume {
    /// Counts messages that were sent.
    pub fn sent(&mut self, messages: u64) {
        self.since = self.since.saturating_add(messages);
    }

    /// Whether this process has counted anything that is not stored yet.
    pub fn has_unwritten(&self) -> bool {
        self.since > 0
    }

    /// Takes this process's unstored counts, to be stored.
    pub fn take_unwritten(&mut self) -> u64 {
        std::mem::take(&mut self.since)
    }

    /// Applies what all replicas have sent, by minute, and the app's number of subscriptions.
    pub fn learn(&mut self, known: Vec<(Timestamp, u64)>, subscriptions: Option<u64>) {
        self.known = known;
        self.known.sort_unstable();
        self.subscriptions = subscriptions;
    }

    /// Messages within the window.
    pub fn used(&self, now: Timestamp) -> u64 {
        let from = minute(now) - WINDOW;
        self.known.iter().filter(|(at, _)| *at >= from).map(|(_, sent)| sent).sum::<u64>() + self.since
    }

    /// The app's state.
    pub fn state(&self, now: Timestamp) -> VolumeState {
        let Some(subscriptions) = self.subscriptions else { return VolumeState::Unknown };
        let limit = subscriptions.max(1).saturating_mul(TIMES);
        let reaches = |used: u64, part: u64| used.saturating_mul(100) >= limit.saturating_mul(part);
        let used = self.used(now);
        if reaches(used, STOP_AT) {
            return VolumeState::TooHigh {
                until: self.low_again(used, |left| !reaches(left, GO_ON_AT), now),
            };
        }
        if reaches(used, WARN_AT) { VolumeState::High } else { VolumeState::Low }
    }

    /// Whether the app has just reached half of its limit: reported once each time.
    pub fn rises(&mut self, now: Timestamp) -> bool {
        let is_high = matches!(self.state(now), VolumeState::High | VolumeState::TooHigh { .. });
        let rises = is_high && !self.was_high;
        self.was_high = is_high;
        rises
    }

    /// When enough has left the window for sending to resume.
    fn low_again(&self, used: u64, is_low: impl Fn(u64) -> bool, now: Timestamp) -> Timestamp {
        let mut left = used;
        for (at, sent) in &self.known {
            left = left.saturating_sub(*sent);
            // A minute has left the window once its end has.
            let out = *at + WINDOW + TimeDelta::minutes(1);
            if is_low(left) && out > now {
                return out;
            }
        }
        now + WINDOW
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(minutes: i64) -> Timestamp {
        "2026-11-25T10:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::minutes(minutes)
    }

    fn volume(known: &[(i64, u64)], subscriptions: u64) -> Volume {
        let mut volume = Volume::default();
        volume.learn(known.iter().map(|(m, sent)| (at(*m), *sent)).collect(), Some(subscriptions));
        volume
    }

    #[test]
    fn half_of_the_limit_is_high_and_four_fifths_are_too_high() {
        assert_eq!(volume(&[(0, 499)], 100).state(at(0)), VolumeState::Low);
        assert_eq!(volume(&[(0, 500)], 100).state(at(0)), VolumeState::High);
        assert_eq!(volume(&[(0, 799)], 100).state(at(0)), VolumeState::High);
        assert!(matches!(volume(&[(0, 800)], 100).state(at(0)), VolumeState::TooHigh { .. }));
    }

    #[test]
    fn it_goes_on_once_enough_is_older_than_the_window() {
        let volume = volume(&[(0, 300), (5, 500), (9, 100)], 100);
        assert_eq!(volume.state(at(10)), VolumeState::TooHigh { until: at(16) });
        assert_eq!(volume.state(at(16)), VolumeState::High);
    }

    #[test]
    fn what_is_older_than_the_window_does_not_count_and_what_is_not_written_down_does() {
        let mut volume = volume(&[(0, 700)], 100);
        volume.sent(100);
        assert!(matches!(volume.state(at(3)), VolumeState::TooHigh { .. }));
        assert_eq!(volume.state(at(17)), VolumeState::Low);
    }

    #[test]
    fn without_a_count_of_subscriptions_nothing_is_stopped() {
        let mut volume = Volume::default();
        volume.sent(1_000_000);
        assert_eq!((volume.state(at(0)), volume.used(at(0))), (VolumeState::Unknown, 1_000_000));
    }

    #[test]
    fn a_rise_is_reported_once() {
        let mut volume = volume(&[(0, 500)], 100);
        assert!(volume.rises(at(0)));
        assert!(!volume.rises(at(1)));
        assert!(!volume.rises(at(30)));
        volume.sent(600);
        assert!(volume.rises(at(30)));
    }
}
