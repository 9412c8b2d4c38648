//! How many calls may be made through each app now. Replicas share an app's rate in equal parts.

use std::collections::HashMap;
use std::time::Duration;

use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;

/// What a call is about; each kind has its own rate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Kind {
    /// A user.
    User,
    /// Custom events.
    CustomEvents,
}

/// A bucket that holds at most one second of calls.
#[derive(Debug)]
struct Bucket {
    tokens: f64,
    filled_at: Timestamp,
}

/// The paces of all apps.
#[derive(Debug, Default)]
pub(super) struct Paces {
    buckets: HashMap<(AppId, Kind), Bucket>,
    closed_until: HashMap<AppId, Timestamp>,
}

impl Paces {
    /// Reserves up to `wanted` calls that may be made now, at `rate` per second; returns how many.
    pub fn reserve(&mut self, app: AppId, kind: Kind, rate: f64, wanted: usize, now: Timestamp) -> usize {
        let bucket = self.buckets.entry((app, kind)).or_insert(Bucket { tokens: rate, filled_at: now });
        let elapsed = (now - bucket.filled_at).to_std().unwrap_or_default();
        bucket.tokens = (bucket.tokens + elapsed.as_secs_f64() * rate).min(rate.max(1.0));
        bucket.filled_at = now;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 0 and the rate")]
        let reserved = (bucket.tokens.max(0.0) as usize).min(wanted);
        bucket.tokens -= calls(reserved);
        reserved
    }

    /// Gives back reserved calls that are not made.
    pub fn give_back(&mut self, app: AppId, kind: Kind, unused: usize) {
        if let Some(bucket) = self.buckets.get_mut(&(app, kind)) {
            bucket.tokens += calls(unused);
        }
    }

    /// When the next call may be made at `rate` per second, after all that were available were taken.
    pub fn next(rate: f64, now: Timestamp) -> Timestamp {
        let gap = Duration::from_secs_f64((1.0 / rate.max(0.01)).max(0.02));
        now + chrono::TimeDelta::from_std(gap).unwrap_or_default()
    }

    /// Makes no calls through an app until a time.
    pub fn close(&mut self, app: AppId, until: Timestamp) {
        self.closed_until.insert(app, until);
    }

    /// Whether no calls are made through an app now.
    pub fn is_closed(&self, app: AppId, now: Timestamp) -> bool {
        self.closed_until.get(&app).is_some_and(|until| *until > now)
    }
}

#[expect(clippy::cast_precision_loss, reason = "at most a few thousand")]
fn calls(count: usize) -> f64 {
    count as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_of_calls_is_available_at_once_and_no_more_than_the_rate_afterwards() {
        let app = AppId(uuid::Uuid::nil());
        let start: Timestamp = "2026-11-24T10:00:00Z".parse().unwrap();
        let mut paces = Paces::default();
        let mut reserve = |kind, rate, wanted, now| paces.reserve(app, kind, rate, wanted, now);
        assert_eq!(reserve(Kind::User, 10.0, 100, start), 10);
        assert_eq!(reserve(Kind::User, 10.0, 100, start), 0);
        let later = start + chrono::TimeDelta::milliseconds(500);
        assert_eq!(reserve(Kind::User, 10.0, 100, later), 5);
        assert_eq!(reserve(Kind::CustomEvents, 3.0, 100, later), 3, "the other kind is apart");
        let much_later = start + chrono::TimeDelta::hours(1);
        assert_eq!(reserve(Kind::User, 10.0, 4, much_later), 4);
        assert_eq!(reserve(Kind::User, 10.0, 100, much_later), 6);
        paces.give_back(app, Kind::User, 6);
        assert_eq!(paces.reserve(app, Kind::User, 10.0, 100, much_later), 6);
    }
}
