//! Circuit breaker: stops an app's calls when too large a share of the recent ones failed.

use std::collections::VecDeque;
use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::retry::delta;

/// When the breaker opens, and how its app recovers.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct BreakerPolicy {
    /// The time window in which calls are counted.
    pub window: Duration,
    /// With fewer calls than this, the failure rate is not evaluated.
    pub calls: usize,
    /// Consecutive connection failures that open the breaker regardless of the failure rate.
    pub connects: usize,
    /// How long it stays open at first …
    pub first: Duration,
    /// … and at most, after failed probes.
    pub longest: Duration,
    /// The interval between probes, across all replicas.
    pub probe_gap: Duration,
    /// The ramp-up time after which calls reach their full rate again.
    pub ramp: Duration,
}

impl Default for BreakerPolicy {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(30),
            calls: 20,
            connects: 5,
            first: Duration::from_secs(15),
            longest: Duration::from_mins(5),
            probe_gap: Duration::from_secs(5),
            ramp: Duration::from_mins(1),
        }
    }
}

/// The result of a call, as the breaker counts it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    /// The provider answered, with any status.
    Well,
    /// No definite answer.
    Failed,
    /// No connection.
    NotConnected,
}

/// The recent calls of one app.
#[derive(Debug, Clone, Default)]
pub(super) struct Breaker {
    calls: VecDeque<(Timestamp, bool)>,
    failed: usize,
    connects_in_a_row: usize,
}

/// The largest number of calls to remember: the failure rate among the last of them is representative.
const REMEMBERED: usize = 1_000;

impl Breaker {
    /// Records a call; returns whether to stop making calls. The counts are then reset.
    pub fn note(&mut self, health: Health, policy: &BreakerPolicy, now: Timestamp) -> bool {
        let failed = health != Health::Well;
        self.calls.push_back((now, failed));
        self.failed += usize::from(failed);
        self.connects_in_a_row = if health == Health::NotConnected { self.connects_in_a_row + 1 } else { 0 };
        let since = now - delta(policy.window);
        while self.calls.front().is_some_and(|(at, _)| *at < since) || self.calls.len() > REMEMBERED {
            if let Some((_, failed)) = self.calls.pop_front() {
                self.failed -= usize::from(failed);
            }
        }
        let is_many = self.calls.len() >= policy.calls && self.failed * 2 >= self.calls.len();
        let opens = failed && (is_many || self.connects_in_a_row >= policy.connects);
        if opens {
            *self = Self::default();
        }
        opens
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chrono::TimeDelta;

    fn at(seconds: i64) -> Timestamp {
        "2026-11-25T10:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::seconds(seconds)
    }

    fn noted(calls: impl IntoIterator<Item = (i64, Health)>) -> bool {
        let mut breaker = Breaker::default();
        calls.into_iter().any(|(s, health)| breaker.note(health, &BreakerPolicy::default(), at(s)))
    }

    #[test]
    fn it_opens_when_half_of_twenty_calls_fail() {
        let mixed = |failed: usize| {
            (0..20).map(move |n| (0, if n < 20 - failed { Health::Well } else { Health::Failed }))
        };
        assert!(noted(mixed(10)));
        assert!(!noted(mixed(9)));
    }

    #[test]
    fn a_few_failures_say_nothing_nor_do_old_ones() {
        assert!(!noted((0..19).map(|_| (0, Health::Failed))));
        assert!(!noted((0..100).map(|n| (n * 2, Health::Failed))));
    }

    #[test]
    fn five_connections_that_fail_in_a_row_open_it_at_once() {
        assert!(noted((0..5).map(|_| (0, Health::NotConnected))));
        let broken = [Health::NotConnected, Health::NotConnected, Health::Well].repeat(6);
        assert!(!noted(broken.into_iter().map(|health| (0, health))));
    }

    #[test]
    fn after_it_opened_it_counts_anew() {
        let mut breaker = Breaker::default();
        let policy = BreakerPolicy::default();
        let opened = (0..40).filter(|_| breaker.note(Health::Failed, &policy, at(0))).count();
        assert_eq!(opened, 2);
    }
}
