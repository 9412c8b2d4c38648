//! Overload protection: the lowest priority is rejected first, before anything of it is stored.
//!
//! The load is read every few seconds while events arrive: open deliveries according to Postgres' statistics (nothing
//! is counted, so the cost is constant) and how long the oldest urgent delivery has been due.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::pipeline::Pipeline;
use crate::pipeline::plan::Plan;
use crate::store::StoreError;
use crate::store::health::Load;

/// How often the load is read while events arrive.
const READ_EVERY: Duration = Duration::from_secs(5);
/// Urgent deliveries that are due for longer than this cause bulk to be rejected, whatever the backlog.
const URGENT_WAITS: TimeDelta = TimeDelta::seconds(60);
/// The minimum delay that a rejected client is asked to wait; up to as much again is added.
const WAIT: Duration = Duration::from_secs(20);

/// The load as it was last read.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Overload {
    load: Mutex<Load>,
    has_events: AtomicBool,
}

/// The highest priority that is rejected under this load, if any.
fn refused_from(load: &Load, limit: u64, now: Timestamp) -> Option<Priority> {
    let urgent_waits = load.oldest_urgent_due_at.is_some_and(|due| due + URGENT_WAITS < now);
    match load.open_deliveries {
        open if open >= limit.saturating_mul(2) => Some(Priority::Urgent),
        open if open >= limit.saturating_add(limit / 2) => Some(Priority::Normal),
        open if open >= limit || urgent_waits => Some(Priority::Bulk),
        _ => None,
    }
}

impl Pipeline {
    /// How long the client of an event with this plan is asked to wait, if there is too much load.
    pub(in crate::pipeline) fn refuses(&self, plan: &Plan, now: Timestamp) -> Option<Duration> {
        self.overload.has_events.store(true, Ordering::Relaxed);
        let limit = self.limits.backlog;
        let from = refused_from(&self.overload.load.lock(), limit, now)?;
        let is_refused = plan.deliveries.iter().any(|planned| planned.rule.definition.priority >= from);
        is_refused.then(|| WAIT.mul_f64(1.0 + self.ids.jitter()))
    }

    /// Reads the load.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; the previous load then stays.
    pub async fn read_load(&self) -> Result<(), StoreError> {
        let load = self.store.load().await?;
        let now = self.clock.now();
        let limit = self.limits.backlog;
        let mut last = self.overload.load.lock();
        let (before, after) = (refused_from(&last, limit, now), refused_from(&load, limit, now));
        if before != after {
            if let Some(priority) = after {
                let open = load.open_deliveries;
                let why = if open >= limit {
                    format!("{open} deliveries are open, more than ingest.backlog ({limit})")
                } else {
                    let waits = URGENT_WAITS.num_seconds();
                    format!("urgent deliveries have been due for more than {waits} s")
                };
                tracing::warn!(open, "events of priority {priority} or below are rejected for now: {why}");
            } else {
                tracing::info!("events of every priority are accepted again");
            }
        }
        *last = load;
        Ok(())
    }

    /// Reads the load every few seconds while events arrive, until `stop`.
    pub async fn keep_watch(self: std::sync::Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if self.overload.has_events.swap(false, Ordering::Relaxed)
                && let Err(error) = self.read_load().await
            {
                tracing::warn!(error = %error.with_causes(), "the load could not be read");
            }
            tokio::select! {
                () = tokio::time::sleep(READ_EVERY) => {}
                () = stop.cancelled() => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::pipeline::ingest::overload::*;

    fn refused(open: u64, urgent_waits_s: i64) -> Option<Priority> {
        let now: Timestamp = "2026-11-25T10:00:00Z".parse().unwrap();
        let oldest_urgent_due_at = Some(now - TimeDelta::seconds(urgent_waits_s));
        refused_from(&Load { open_deliveries: open, oldest_urgent_due_at }, 1_000, now)
    }

    #[test]
    fn the_less_urgent_is_refused_first() {
        assert_eq!(refused(999, 0), None);
        assert_eq!(refused(1_000, 0), Some(Priority::Bulk));
        assert_eq!(refused(1_500, 0), Some(Priority::Normal));
        assert_eq!(refused(2_000, 0), Some(Priority::Urgent));
    }

    #[test]
    fn while_urgent_ones_wait_no_bulk_is_taken() {
        assert_eq!(refused(0, 61), Some(Priority::Bulk));
        assert_eq!(refused(0, 59), None);
    }
}
