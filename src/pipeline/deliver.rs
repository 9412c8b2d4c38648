//! Making the calls: one Create message call a frozen batch, with no transaction open.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::line::{Answered, Frozen};
use super::{Pipeline, crash};
use crate::domain::answer::{BatchAnswer, Verdict};
use crate::domain::batch::Batch;
use crate::domain::clock::Timestamp;
use crate::provider::MessageProvider;
use crate::telemetry::names;

/// Makes one call. A batch whose time is over is not sent any more.
pub async fn attempt(provider: &dyn MessageProvider, batch: &Batch, now: Timestamp) -> BatchAnswer {
    if batch.expires_at <= now {
        let detail = "its time was over before the call".to_owned();
        return BatchAnswer::without_response(Verdict::NotConnected { detail });
    }
    AssertUnwindSafe(provider.send(batch, now)).catch_unwind().await.unwrap_or_else(|_| {
        let cause = "the call broke off in a way that it never should".to_owned();
        BatchAnswer::without_response(Verdict::Ambiguous { cause, retry_after: None })
    })
}

impl Pipeline {
    /// Gives every frozen batch its call, until `stop`; calls under way are in `calls`.
    pub(super) async fn call_frozen(self: Arc<Self>, calls: TaskTracker, stop: CancellationToken) {
        loop {
            for frozen in self.line.take_frozen() {
                calls.spawn(Arc::clone(&self).call(frozen));
            }
            tokio::select! {
                () = self.line.to_call.notified() => {}
                () = stop.cancelled() => return,
            }
        }
    }

    /// The calls that frozen batches want, each of them yet to be made: for tests, which say when each goes on.
    pub fn take_calls(self: &Arc<Self>) -> Vec<impl Future<Output = ()> + Send + use<>> {
        self.line.take_frozen().into_iter().map(|frozen| Arc::clone(self).call(frozen)).collect()
    }

    /// Makes one batch's call and puts the answer in line.
    pub(super) async fn call(self: Arc<Self>, frozen: Frozen) {
        let began = std::time::Instant::now();
        let answer = attempt(self.provider.as_ref(), &frozen.batch, self.clock.now()).await;
        crash::point("after_call");
        metrics::counter!(names::CALLS, "answer" => answer.verdict.code()).increment(1);
        metrics::histogram!(names::CALL_SECONDS).record(began.elapsed().as_secs_f64());
        self.budget.end(frozen.batch.app.id);
        self.line.put_answered(vec![Answered { frozen, answer }]);
        self.line.to_dispatch.notify_one();
    }
}
