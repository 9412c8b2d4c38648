//! The loop of one process: it records reports when some were stored, and looks for those of other processes.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::Archive;
use crate::domain::clock::Timestamp;
use crate::store::StoreError;

/// How often what other processes have stored is looked for.
const POLL: Duration = Duration::from_secs(1);
/// How often old rows are deleted.
const PRUNE_EVERY: TimeDelta = TimeDelta::minutes(1);
/// How long keys are kept: OneSignal's month, and a few days of retries.
const KEYS_KEPT: TimeDelta = TimeDelta::days(35);
/// How long a message's reports can be joined to its deliveries.
const MESSAGES_KEPT: TimeDelta = TimeDelta::days(60);
/// Rows deleted at once.
const PRUNED_AT_ONCE: i64 = 50_000;
/// How long the loop pauses after the database was unavailable.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

impl Archive {
    /// Records everything that is due at the clock's current time.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; nothing is lost, and retrying helps.
    pub async fn run_until_idle(&self) -> Result<(), StoreError> {
        while self.record_once().await? {}
        Ok(())
    }

    /// Runs until `stop`.
    pub async fn keep_recording(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let done = self.maintain().await;
            let wait = match (done, self.record_once().await) {
                (Ok(()), Ok(true)) => continue,
                (Ok(()), Ok(false)) => POLL,
                (Err(error), _) | (_, Err(error)) => {
                    let error = error.with_causes();
                    tracing::warn!(
                        error,
                        "outcomes could not be recorded because the database is unavailable; retrying"
                    );
                    AFTER_FAILURE
                }
            };
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = self.wake.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Deletes old rows, and looks whether OneSignal still reports, now and then.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn maintain(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let is_time = self.pruned_at.lock().is_none_or(|at| at + PRUNE_EVERY <= now || at > now);
        if !is_time {
            return Ok(());
        }
        let latest = now + self.limits.foreign_after + PRUNE_EVERY;
        let kept: Timestamp = now - self.limits.feed_kept;
        self.store.prune_reports(now - KEYS_KEPT, kept, (now, latest), PRUNED_AT_ONCE).await?;
        self.store.prune_provider_messages(now - MESSAGES_KEPT, PRUNED_AT_ONCE).await?;
        self.store.prune_feed(kept, PRUNED_AT_ONCE).await?;
        self.watch_stream(now).await?;
        *self.pruned_at.lock() = Some(now);
        Ok(())
    }
}
