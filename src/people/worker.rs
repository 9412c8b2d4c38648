//! The loops of one process: they run when something is due or was just stored, and sleep otherwise.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio_util::sync::CancellationToken;

use super::People;
use crate::domain::clock::Timestamp;
use crate::store::StoreError;

/// Concurrent writers of a process.
const WRITERS: usize = 4;
/// How often changes that other processes have stored are looked for.
const POLL: Duration = Duration::from_secs(1);
/// How often old imports are deleted and times are checked.
const PRUNE_EVERY: TimeDelta = TimeDelta::minutes(1);
/// Nothing is put off for longer.
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(15);
/// How long an import that was not started is kept.
const UNFINISHED: TimeDelta = TimeDelta::days(7);
/// How long the loop pauses after the database was unavailable.
const AFTER_FAILURE: Duration = Duration::from_millis(500);

impl People {
    /// Writes what is due, for every app. Returns how much was done, and when to look again.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; what was claimed is claimed again later.
    pub async fn run_once(&self) -> Result<(usize, Option<Timestamp>), StoreError> {
        let now = self.clock.now();
        if let Err(error) = self.prune(now).await {
            tracing::warn!(error = %error.with_causes(), "old imports could not be deleted; trying again");
        }
        let share = 1.0 / f64::from(self.store.live_workers(now).await?.max(1));
        let imported = self.import_step().await.unwrap_or_else(|error| {
            tracing::warn!(error = %error.with_causes(), "an import could not go on; trying again");
            0
        });
        let erased = self.erasure_step().await?;
        let (mut done, mut next) = (imported + erased, self.store.next_erasure().await?);
        for app in self.open_apps(now).await? {
            for (count, due) in
                [self.write_users(&app, share).await?, self.send_custom_events(&app, share).await?]
            {
                done += count;
                next = earlier(next, due);
            }
        }
        Ok((done, next))
    }

    /// Runs until `stop`, with several writers: a slow call keeps one of them.
    pub async fn keep_writing(self: Arc<Self>, stop: CancellationToken) {
        let writers = (0..WRITERS).map(|_| Arc::clone(&self).write_until(stop.clone()));
        futures_util::future::join_all(writers).await;
    }

    async fn write_until(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            let wait = match self.run_once().await {
                Ok((0, next)) => self.until(next),
                Ok((_, _)) => continue,
                Err(error) => {
                    let error = error.with_causes();
                    tracing::warn!(
                        error,
                        "users could not be written because the database is unavailable; retrying"
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

    /// Deletes old imports, now and then: rejected rows are personal data. Also repairs times after the clock went back.
    async fn prune(&self, now: Timestamp) -> Result<(), StoreError> {
        let is_time = self.pruned_at.lock().is_none_or(|at| at + PRUNE_EVERY <= now || at > now);
        if is_time {
            let kept = TimeDelta::days(i64::from(self.limits.import_days));
            self.store.prune_imports(now - kept, now - UNFINISHED, now).await?;
            let repaired = self.store.repair_people_times(now + LONGEST_WAIT, now).await?;
            if repaired > 0 {
                tracing::warn!("the clock went back: {repaired} users and custom events are due again");
            }
            *self.pruned_at.lock() = Some(now);
        }
        Ok(())
    }

    fn until(&self, next: Option<Timestamp>) -> Duration {
        let until = next.map_or(POLL, |next| (next - self.clock.now()).to_std().unwrap_or_default());
        until.clamp(Duration::from_millis(5), POLL)
    }
}

fn earlier(one: Option<Timestamp>, other: Option<Timestamp>) -> Option<Timestamp> {
    match (one, other) {
        (Some(one), Some(other)) => Some(one.min(other)),
        (one, other) => one.or(other),
    }
}
