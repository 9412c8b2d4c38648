//! Rate limits: one token bucket per source and process.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;

use crate::domain::clock::Timestamp;
use crate::domain::id::SourceId;

/// The buckets of all sources that have a limit.
#[derive(Debug, Default)]
pub(super) struct RateLimits {
    buckets: Mutex<HashMap<SourceId, Bucket>>,
}

#[derive(Debug)]
struct Bucket {
    tokens: f64,
    refilled_at: Timestamp,
}

impl RateLimits {
    /// Takes `events` tokens of a source that may post `per_second`; at most a second's worth is saved up.
    ///
    /// # Errors
    /// The time until they are available. A batch larger than a second's worth waits until the bucket is full.
    pub fn take(
        &self,
        source: SourceId,
        per_second: u32,
        events: usize,
        now: Timestamp,
    ) -> Result<(), Duration> {
        let rate = f64::from(per_second.max(1));
        let mut buckets = self.buckets.lock();
        let bucket = buckets.entry(source).or_insert(Bucket { tokens: rate, refilled_at: now });
        let elapsed = (now - bucket.refilled_at).to_std().unwrap_or_default();
        bucket.tokens = (bucket.tokens + elapsed.as_secs_f64() * rate).min(rate);
        bucket.refilled_at = bucket.refilled_at.max(now);
        let events = f64::from(u32::try_from(events).unwrap_or(u32::MAX));
        let needed = events.min(rate);
        if bucket.tokens < needed {
            return Err(Duration::from_secs_f64((needed - bucket.tokens) / rate));
        }
        // Anything beyond a second's worth becomes a debt for the next request.
        bucket.tokens -= events;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::domain::id::TypedId;

    #[test]
    fn a_source_gets_its_rate_and_learns_how_long_to_wait() {
        let limits = RateLimits::default();
        let source = SourceId::from_uuid(uuid::Uuid::from_u128(1));
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        for _ in 0..10 {
            assert!(limits.take(source, 10, 1, now).is_ok());
        }
        assert_eq!(limits.take(source, 10, 1, now), Err(Duration::from_millis(100)));
        assert!(limits.take(source, 10, 1, now + TimeDelta::milliseconds(100)).is_ok());
    }

    #[test]
    fn a_batch_over_a_second_s_worth_goes_when_the_bucket_is_full_and_is_paid_afterwards() {
        let limits = RateLimits::default();
        let source = SourceId::from_uuid(uuid::Uuid::from_u128(1));
        let now: Timestamp = "2026-11-23T10:00:00Z".parse().unwrap();
        assert!(limits.take(source, 10, 30, now).is_ok());
        assert!(limits.take(source, 10, 1, now + TimeDelta::seconds(2)).is_err());
        assert!(limits.take(source, 10, 1, now + TimeDelta::milliseconds(2_200)).is_ok());
    }
}
