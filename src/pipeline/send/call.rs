//! Makes the calls: one Create message call per frozen batch, with no transaction open.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::answer::{BatchAnswer, Verdict};
use crate::domain::app::AppId;
use crate::domain::batch::Batch;
use crate::domain::clock::Timestamp;
use crate::pipeline::Pipeline;
use crate::pipeline::plan::redaction::without_quotes;
use crate::pipeline::rate::budget::CallEnd;
use crate::pipeline::send::memory_queue::{Answered, Frozen};
use crate::pipeline::worker::failpoints;
use crate::provider::MessageProvider;
use crate::store::StoreError;
use crate::telemetry::names;

/// How long after its recorded start a call may be made. A process that stalled in between does not make it any more:
/// others may have taken the batch over, and assume from that time how long OneSignal may be working on it.
pub(in crate::pipeline) const LATEST_START: TimeDelta = TimeDelta::seconds(5);

/// How long a call keeps its slot while others are answered.
const PATIENCE: Duration = Duration::from_secs(1);

/// Makes one call. A batch that has expired is not sent.
pub async fn attempt(provider: &dyn MessageProvider, batch: &Batch, now: Timestamp) -> BatchAnswer {
    if batch.expires_at <= now {
        let detail = "it expired before the call".to_owned();
        return BatchAnswer::without_response(Verdict::NotConnected { detail });
    }
    AssertUnwindSafe(provider.send(batch, now)).catch_unwind().await.unwrap_or_else(|_| {
        let cause = "the call failed because of an internal error".to_owned();
        BatchAnswer::without_response(Verdict::Ambiguous { cause, retry_after: None })
    })
}

impl Pipeline {
    /// Calls the provider for every frozen batch, until `stop`; calls in flight are in `calls`.
    pub(in crate::pipeline) async fn call_frozen(
        self: Arc<Self>,
        calls: TaskTracker,
        stop: CancellationToken,
    ) {
        loop {
            for frozen in self.memory_queue.take_frozen() {
                calls.spawn(Arc::clone(&self).call(frozen, Some(PATIENCE)));
            }
            tokio::select! {
                () = self.memory_queue.to_call.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The calls for the frozen batches, none started yet: for tests, which decide when each one proceeds.
    pub fn take_calls(self: &Arc<Self>) -> Vec<impl Future<Output = ()> + Send + use<>> {
        self.memory_queue
            .take_frozen()
            .into_iter()
            .map(|frozen| Arc::clone(self).call(frozen, None))
            .collect()
    }

    /// Makes one batch's call and queues the answer. A call that takes longer than `patience` releases its slot.
    pub(in crate::pipeline) async fn call(self: Arc<Self>, mut frozen: Frozen, patience: Option<Duration>) {
        let now = self.clock.now();
        if is_late(&frozen, now) {
            return self.release_uncalled(frozen, now).await;
        }
        // Delays are counted from the call, not from the recorded start of the attempt.
        frozen.started_at = frozen.started_at.max(now);
        let began = std::time::Instant::now();
        let app = frozen.batch.app.id;
        let (answer, was_set_aside) = {
            let mut call = std::pin::pin!(attempt(self.provider.as_ref(), &frozen.batch, now));
            match self.until_overdue(call.as_mut(), app, patience).await {
                Some(answer) => (answer, false),
                None => (call.await, true),
            }
        };
        let answer =
            if frozen.batch.holds_secrets { without_quotes(answer, &frozen.batch.content) } else { answer };
        failpoints::point("after_call");
        metrics::counter!(names::CALLS, "answer" => answer.verdict.code()).increment(1);
        let took = began.elapsed();
        metrics::histogram!(names::CALL_SECONDS).record(took.as_secs_f64());
        let end = call_end(&answer.verdict, took);
        if was_set_aside {
            self.budget.end_set_aside(app, end);
        } else {
            self.budget.end(app, end);
        }
        self.memory_queue.put_answered(vec![Answered { frozen, answer }]);
        self.memory_queue.to_dispatch.notify_one();
    }

    /// The answer, or `None` once the call is overdue and has released its slot.
    async fn until_overdue(
        &self,
        mut call: Pin<&mut impl Future<Output = BatchAnswer>>,
        app: AppId,
        patience: Option<Duration>,
    ) -> Option<BatchAnswer> {
        let Some(patience) = patience else { return Some(call.await) };
        let answered = self.budget.answered(app);
        loop {
            match tokio::time::timeout(patience, call.as_mut()).await {
                Ok(answer) => return Some(answer),
                Err(_) if self.budget.set_aside(app, answered) => {
                    self.memory_queue.to_dispatch.notify_one();
                    return None;
                }
                Err(_) => {}
            }
        }
    }

    /// Releases a batch whose call comes too late to be made.
    async fn release_uncalled(&self, frozen: Frozen, now: Timestamp) {
        self.budget.cancel(frozen.batch.app.id, now);
        tracing::warn!(batch.id = %frozen.batch.id, "batch {} was released: its call came too late", frozen.batch.id);
        // If it fails, the poller reclaims it.
        let _ = self.release_frozen(vec![frozen]).await;
        self.memory_queue.to_dispatch.notify_one();
    }

    /// Records a new start for attempts that were queued for too long. Returns those whose calls can be made now; those
    /// that were taken over meanwhile are dropped.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; all of them are queued again.
    pub(in crate::pipeline) async fn restart_late(
        &self,
        retries: Vec<Frozen>,
        now: Timestamp,
    ) -> Result<Vec<Frozen>, StoreError> {
        let (late, mut ready): (Vec<Frozen>, Vec<Frozen>) =
            retries.into_iter().partition(|frozen| is_late(frozen, now));
        if late.is_empty() {
            return Ok(ready);
        }
        let attempts: Vec<_> =
            late.iter().map(|frozen| (frozen.batch.id, frozen.attempt, frozen.worker)).collect();
        let begun = match self.store.begin_anew(&attempts, now).await {
            Ok(begun) => begun,
            Err(error) => {
                for frozen in late.into_iter().chain(ready) {
                    self.budget.cancel(frozen.batch.app.id, now);
                    self.memory_queue.put_retry(frozen);
                }
                return Err(error);
            }
        };
        for mut frozen in late {
            // An earlier attempt of the same batch may also be queued, from before the lease lapsed.
            if begun.contains(&(frozen.batch.id, frozen.attempt)) {
                frozen.started_at = now;
                ready.push(frozen);
            } else {
                self.budget.cancel(frozen.batch.app.id, now);
                self.memory_queue.forget(frozen.members.iter().map(|member| member.claim.key()));
                self.raise_doubt();
            }
        }
        Ok(ready)
    }
}

/// A clock that went back since then does not show how long ago it was: such an attempt begins anew, too.
fn is_late(frozen: &Frozen, now: Timestamp) -> bool {
    frozen.started_at + LATEST_START < now || now + LATEST_START < frozen.started_at
}

/// What an answer means for the concurrency limit.
fn call_end(verdict: &Verdict, took: Duration) -> CallEnd {
    match verdict {
        Verdict::Accepted { .. } | Verdict::NobodySubscribed { .. } | Verdict::Refused { .. } => {
            CallEnd::Answered(took)
        }
        Verdict::Ambiguous { .. } => CallEnd::WithIssue,
        Verdict::KeyRefused { .. }
        | Verdict::AppUnusable { .. }
        | Verdict::TemplateUnknown
        | Verdict::RateLimited { .. }
        | Verdict::NotConnected { .. }
        | Verdict::Conflict => CallEnd::Neutral,
    }
}
