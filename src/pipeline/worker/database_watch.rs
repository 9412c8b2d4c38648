//! Reacts when the database's clock went back, and after the database was restored.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::retry::delta;
use crate::pipeline::{Pipeline, WorkerLease};
use crate::store::StoreError;
use crate::store::watch::{DatabaseWatch, WatchOptions};
use crate::telemetry::names;

/// How often the database is checked.
pub const WATCH_EVERY: Duration = Duration::from_secs(5);
/// A clock that goes back by less is ignored.
const SMALLEST_STEP_US: i64 = 1_000_000;

impl Pipeline {
    /// Checks whether the database's clock went back or the database was restored, and reacts.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; the next check finds the same.
    pub async fn watch_database(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let options = WatchOptions {
            every: WATCH_EVERY,
            lease: self.limits.lease,
            restored_window: self.limits.restored_window,
            ambiguous_gap: self.limits.retry.ambiguous_gap,
        };
        let again = self.skipped_watches.load(Ordering::SeqCst) > 0;
        let found = match self.store.watch_database(options, again, now).await {
            Ok(Some(found)) => {
                self.skipped_watches.store(0, Ordering::SeqCst);
                found
            }
            // Another process is doing it.
            Ok(None) => {
                self.skipped_watches.fetch_add(1, Ordering::SeqCst);
                **self.watch.load()
            }
            Err(error) => {
                // If the database does not reveal a restore, an operator reports it.
                if error.is_refusal() {
                    self.watch.store(Arc::new(self.store.database_watch().await?));
                }
                return Err(error);
            }
        };
        let before = self.watch.swap(Arc::new(found));
        let watched_at = self.watched_at.swap(now.timestamp_micros(), Ordering::SeqCst);
        if watched_at.saturating_sub(now.timestamp_micros()) >= SMALLEST_STEP_US {
            self.follow_clock_back(now);
        }
        report(*before, found, now);
        Ok(())
    }

    /// The maximum number of deliveries in a call. After a restore, a delivery that was sent alone before gets the same
    /// idempotency key only if it is alone again, whether it is posted again or was in the backup.
    pub(in crate::pipeline) fn max_targets(&self, now: Timestamp) -> usize {
        if self.watch.load().sends_alone(now) { 1 } else { self.limits.max_targets }
    }

    /// Forgets every time in memory that was computed before the clock went back.
    fn follow_clock_back(&self, now: Timestamp) {
        self.budget.clock_went_back(now);
        let until = now + delta(self.limits.lease);
        self.lease.rcu(|lease| {
            lease.as_deref().map(|lease| Arc::new(WorkerLease { until: lease.until.min(until), ..*lease }))
        });
        self.look.notify_one();
        self.memory_queue.to_dispatch.notify_one();
    }
}

/// Logs what was not known before.
fn report(before: DatabaseWatch, found: DatabaseWatch, now: Timestamp) {
    if let Some(step) =
        found.step.filter(|step| before.step != Some(*step) && now - step.at < delta(WATCH_EVERY * 3))
    {
        let back = humantime_serde::re::humantime::format_duration(step.back);
        metrics::counter!(names::CLOCK_STEPS).increment(1);
        tracing::warn!(
            step_s = step.back.as_secs_f64(),
            "the database's clock went back by {back}; overdue work is due now"
        );
    }
    if let Some(restore) =
        found.restore.filter(|restore| before.restore != Some(*restore) && now < restore.alone_until)
    {
        tracing::warn!(
            "the database was restored: commits after {} may be missing. Until {} each delivery is sent alone, so that \
             nothing is sent again that was sent alone before; `herald restored end` ends that",
            restore.lost_since,
            restore.alone_until
        );
    }
}
