//! Rejected webhook calls: each is counted; the first of a kind is logged and stored immediately, then a summary every
//! ten seconds, so that a misconfigured sender or an attacker costs next to nothing.

use std::collections::HashMap;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use crate::domain::clock::Timestamp;
use crate::domain::id::SourceId;
use crate::domain::rejection::Rejection;
use crate::store::rejections::RejectedCalls;
use crate::store::sources::Source;
use crate::telemetry::{Sampled, names};

/// Minimum interval between log lines for the same source and reason.
const EVERY: TimeDelta = TimeDelta::seconds(10);

/// Counts that this process has not stored yet.
#[derive(Debug, Default)]
pub struct Rejections {
    counted: Mutex<HashMap<(SourceId, &'static str), Counted>>,
    nobodys: Sampled,
}

#[derive(Debug)]
struct Counted {
    calls: u64,
    first_at: Timestamp,
    last_at: Timestamp,
    written_at: Option<Timestamp>,
}

impl Rejections {
    /// Counts a call. Returns the counts to store when the interval has passed.
    fn count(&self, source: SourceId, reason: &'static str, now: Timestamp) -> Option<RejectedCalls> {
        let mut counted = self.counted.lock();
        let entry = counted.entry((source, reason)).or_insert(Counted {
            calls: 0,
            first_at: now,
            last_at: now,
            written_at: None,
        });
        if entry.calls == 0 {
            entry.first_at = now;
        }
        entry.calls += 1;
        entry.last_at = now;
        // Must keep working if the clock goes backwards.
        let is_due = entry.written_at.is_none_or(|at| (now - at).abs() >= EVERY);
        is_due.then(|| entry.take(reason, now))
    }

    /// Counts of one source that are not stored yet.
    fn take(&self, source: SourceId, now: Timestamp) -> Vec<RejectedCalls> {
        let mut counted = self.counted.lock();
        let of_source = counted.iter_mut().filter(|((of, _), entry)| *of == source && entry.calls > 0);
        of_source.map(|((_, reason), entry)| entry.take(reason, now)).collect()
    }
}

impl Counted {
    fn take(&mut self, reason: &str, now: Timestamp) -> RejectedCalls {
        self.written_at = Some(now);
        let calls = std::mem::take(&mut self.calls);
        RejectedCalls { reason: reason.to_owned(), calls, first_at: self.first_at, last_at: self.last_at }
    }
}

/// Number of a source's calls rejected for one reason.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RejectedBody {
    /// A stable code: `wrong_signature`.
    reason: String,
    /// What it means, and how to fix it.
    detail: &'static str,
    /// How many calls there were.
    calls: u64,
    first_at: DateTime<Utc>,
    last_at: DateTime<Utc>,
}

impl From<RejectedCalls> for RejectedBody {
    fn from(counted: RejectedCalls) -> Self {
        Self {
            detail: Rejection::words(&counted.reason),
            reason: counted.reason,
            calls: counted.calls,
            first_at: counted.first_at,
            last_at: counted.last_at,
        }
    }
}

impl Api {
    /// Counts a rejected call. The caller gets the same response in any case.
    pub(super) async fn reject(&self, source: Option<&Source>, rejection: Rejection) {
        let reason = rejection.code();
        let name = source.map_or_else(|| "unknown".to_owned(), |source| source.name.clone());
        metrics::counter!(names::REJECTED_CALLS, "source" => name.clone(), "reason" => reason).increment(1);
        let Some(source) = source else {
            if let Some(count) = self.rejections.nobodys.count() {
                tracing::warn!(count, "{count} webhook calls for unknown sources were rejected");
            }
            return;
        };
        let Some(counted) = self.rejections.count(source.id, reason, self.clock.now()) else { return };
        let calls = counted.calls;
        tracing::warn!(
            source.name = name,
            reason,
            calls,
            "{calls} webhook calls of {name} were rejected ({reason}); {}",
            Rejection::words(reason)
        );
        self.store_rejected(source, &counted).await;
    }

    async fn store_rejected(&self, source: &Source, counted: &RejectedCalls) {
        if let Err(error) = self.store.add_rejected_calls(source.id, counted).await {
            let error = &error as &dyn std::error::Error;
            let name = &source.name;
            tracing::warn!(
                error,
                source.name = name,
                "rejected webhook calls of {name} could not be counted"
            );
        }
    }

    /// A source's rejected calls.
    ///
    /// # Errors
    /// 503 while the database is unavailable.
    pub(super) async fn rejected(&self, source: &Source) -> Result<Vec<RejectedBody>, Problem> {
        for counted in self.rejections.take(source.id, self.clock.now()) {
            self.store_rejected(source, &counted).await;
        }
        let stored = self.store.rejected_calls(source.id).await?;
        Ok(stored.into_iter().map(RejectedBody::from).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::TypedId;

    #[test]
    fn the_first_is_stored_at_once_and_then_a_sum_every_ten_seconds() {
        let rejections = Rejections::default();
        let source = SourceId::from_uuid(uuid::Uuid::nil());
        let at = |second: i64| Timestamp::from_timestamp(second, 0).unwrap();
        let count = |second| rejections.count(source, "wrong_signature", at(second)).map(|it| it.calls);
        assert_eq!(count(100), Some(1));
        assert!((100..110).all(|second| count(second).is_none()));
        assert_eq!(count(110), Some(11));
        assert_eq!(count(111), None);
        assert_eq!(rejections.take(source, at(112))[0].calls, 1);
        assert_eq!(count(50), Some(1), "the clock went back");
    }
}
