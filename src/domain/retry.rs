//! When a delivery is due again: a pure function of the answer, with jitter as an argument.

use std::time::Duration;

use chrono::TimeDelta;

use super::answer::Answer;
use super::channel::Priority;
use super::clock::Timestamp;
use super::delivery::Delivery;

/// How deliveries of one priority are retried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PriorityRetry {
    /// The delay after the first attempt.
    pub base: Duration,
    /// The longest delay.
    pub cap: Duration,
    /// The maximum number of attempts; `None`: limited by time only.
    pub max_attempts: Option<u16>,
    /// The maximum time since the first attempt.
    pub horizon: Duration,
}

/// Every duration of the retry table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RetryPolicy {
    /// One-time codes: until they expire.
    pub urgent: PriorityRetry,
    /// Messages that a person expects.
    pub normal: PriorityRetry,
    /// Announcements to many.
    pub bulk: PriorityRetry,
    /// Priorities other than urgent wait this long after the start of an ambiguous attempt: OneSignal may still be
    /// processing it.
    pub ambiguous_gap: Duration,
    /// The delay after a 409.
    pub conflict_wait: Duration,
    /// The delay before the one recheck after an empty `id`.
    pub recheck_wait: Duration,
    /// OneSignal forgets idempotency keys after 30 days; nothing ambiguous is sent again after this.
    pub ambiguous_horizon: Duration,
    /// The delay after a 429 without `Retry-After`.
    pub default_retry_after: Duration,
    /// The longest `Retry-After` that is accepted.
    pub max_retry_after: Duration,
}

/// The number of attempts after which a conflict is no longer retried.
const CONFLICT_TRIES: u16 = 3;

const MINUTE: u64 = 60;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;

impl Default for RetryPolicy {
    fn default() -> Self {
        let priority = |base, cap, max_attempts, horizon| PriorityRetry {
            base: Duration::from_secs(base),
            cap: Duration::from_secs(cap),
            max_attempts,
            horizon: Duration::from_secs(horizon),
        };
        Self {
            urgent: priority(1, 30, None, 3 * DAY),
            normal: priority(5, HOUR, Some(25), 3 * DAY),
            bulk: priority(MINUTE, 4 * HOUR, None, 3 * DAY),
            ambiguous_gap: Duration::from_secs(100),
            conflict_wait: Duration::from_secs(5),
            recheck_wait: Duration::from_secs(30),
            ambiguous_horizon: Duration::from_secs(25 * DAY),
            default_retry_after: Duration::from_secs(MINUTE),
            max_retry_after: Duration::from_secs(15 * MINUTE),
        }
    }
}

impl RetryPolicy {
    /// How deliveries of `priority` are retried.
    pub fn priority(&self, priority: Priority) -> &PriorityRetry {
        match priority {
            Priority::Urgent => &self.urgent,
            Priority::Normal => &self.normal,
            Priority::Bulk => &self.bulk,
        }
    }

    /// When `delivery`, whose attempt began at `started_at` and was answered with `answer`, is due again; `None` if no
    /// further attempt is allowed. `jitter` is in 0..1.
    pub fn next_due(
        &self,
        delivery: &Delivery,
        answer: &Answer,
        started_at: Timestamp,
        now: Timestamp,
        jitter: f64,
    ) -> Option<Timestamp> {
        // An attempt that began later than now began before the clock was set back.
        let begun = |at: Timestamp| at.min(now);
        match answer {
            Answer::Accepted | Answer::Unreachable | Answer::Rejected { .. } => None,
            Answer::NothingSent => Some(now + delta(self.recheck_wait)),
            Answer::Split | Answer::Gated => Some(now),
            // A conflict is most likely after a lost response, so earlier attempts don't rule out the one that settles
            // it.
            Answer::Conflict if delivery.attempts >= CONFLICT_TRIES => None,
            Answer::Conflict => Some(now + delta(self.conflict_wait)),
            Answer::NotConnected { .. } => self.backed_off(delivery, None, now, jitter),
            Answer::Ambiguous { retry_after, .. } => {
                let due = self.backed_off(delivery, *retry_after, now, jitter)?;
                self.after_gap(delivery, due, begun(started_at))
            }
            Answer::LeaseExpired { started_at } => self.after_gap(delivery, now, begun(*started_at)),
        }
    }

    /// How long an app is paused after a 429: what OneSignal asks for, within bounds, and up to a tenth more.
    pub fn rate_limit_wait(&self, retry_after: Option<Duration>, jitter: f64) -> Duration {
        let asked = retry_after.unwrap_or(self.default_retry_after);
        asked.clamp(Duration::from_secs(1), self.max_retry_after).mul_f64(1.0 + jitter.clamp(0.0, 1.0) / 10.0)
    }

    fn backed_off(
        &self,
        delivery: &Delivery,
        retry_after: Option<Duration>,
        now: Timestamp,
        jitter: f64,
    ) -> Option<Timestamp> {
        let priority = self.priority(delivery.priority);
        let tries = delivery.attempts.saturating_add(1);
        if priority.max_attempts.is_some_and(|max| tries >= max) {
            return None;
        }
        let doubled =
            priority.base.saturating_mul(1_u32.checked_shl(u32::from(tries - 1)).unwrap_or(u32::MAX));
        let wait = doubled.min(priority.cap).mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0);
        let asked = retry_after.unwrap_or_default().min(self.max_retry_after);
        let due = now + delta(wait.max(asked));
        let begun = delivery.first_attempt_at.unwrap_or(now);
        (due <= begun + delta(priority.horizon)).then_some(due)
    }

    fn after_gap(&self, delivery: &Delivery, due: Timestamp, started_at: Timestamp) -> Option<Timestamp> {
        let due = match delivery.priority {
            Priority::Urgent => due,
            Priority::Normal | Priority::Bulk => due.max(started_at + delta(self.ambiguous_gap)),
        };
        let doubtful_since = delivery.first_ambiguous_at.unwrap_or(started_at);
        (due <= doubtful_since + delta(self.ambiguous_horizon)).then_some(due)
    }
}

/// A `Duration` as chrono counts it; far beyond any setting it stops growing.
pub fn delta(duration: Duration) -> TimeDelta {
    TimeDelta::from_std(duration).unwrap_or(TimeDelta::days(36_500))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::delivery::{DeliveryState, NO_PACK_LIMIT};
    use crate::domain::id::IdSource;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn delivery(priority: Priority, attempts: u16) -> Delivery {
        Delivery {
            id: IdSource::seeded(1).next(now()),
            state: DeliveryState::Sending,
            priority,
            attempts,
            generation: 0,
            is_rechecked: false,
            pack_limit: NO_PACK_LIMIT,
            first_attempt_at: Some(now()),
            first_ambiguous_at: None,
        }
    }

    fn wait_s(priority: Priority, attempts: u16, answer: &Answer, jitter: f64) -> Option<i64> {
        let due =
            RetryPolicy::default().next_due(&delivery(priority, attempts), answer, now(), now(), jitter);
        due.map(|due| (due - now()).num_seconds())
    }

    #[test]
    fn waits_double_up_to_the_cap_and_jitter_halves_them_at_most() {
        let refused = Answer::NotConnected { detail: String::new() };
        assert_eq!(wait_s(Priority::Normal, 0, &refused, 1.0), Some(5));
        assert_eq!(wait_s(Priority::Normal, 3, &refused, 1.0), Some(40));
        assert_eq!(wait_s(Priority::Normal, 3, &refused, 0.0), Some(20));
        assert_eq!(wait_s(Priority::Normal, 20, &refused, 1.0), Some(3600));
        assert_eq!(wait_s(Priority::Normal, 24, &refused, 1.0), None);
        assert_eq!(wait_s(Priority::Urgent, 60, &refused, 1.0), Some(30));
    }

    #[test]
    fn an_ambiguous_attempt_rests_while_onesignal_may_still_work_on_it_unless_urgent() {
        let lost = Answer::Ambiguous { cause: String::new(), retry_after: None };
        assert_eq!(wait_s(Priority::Normal, 0, &lost, 1.0), Some(100));
        assert_eq!(wait_s(Priority::Urgent, 0, &lost, 1.0), Some(1));
    }

    #[test]
    fn absurd_retry_after_is_clamped() {
        let policy = RetryPolicy::default();
        assert_eq!(policy.rate_limit_wait(Some(Duration::MAX), 0.0), Duration::from_mins(15));
        assert_eq!(policy.rate_limit_wait(Some(Duration::ZERO), 0.0), Duration::from_secs(1));
        assert_eq!(policy.rate_limit_wait(None, 0.0), Duration::from_mins(1));
    }

    #[test]
    fn nothing_doubtful_is_sent_again_after_25_days() {
        let policy = RetryPolicy::default();
        let mut old = delivery(Priority::Normal, 3);
        old.first_ambiguous_at = Some(now() - TimeDelta::days(26));
        let answer = Answer::LeaseExpired { started_at: now() };
        assert_eq!(policy.next_due(&old, &answer, now(), now(), 0.5), None);
    }
}
