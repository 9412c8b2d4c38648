//! Stores calls of Event Streams before they are answered. Calls that arrive during a commit go into the next one.

use std::collections::VecDeque;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};
use tokio_util::sync::CancellationToken;

use super::{Archive, stream};
use crate::store::outcome_reports::Received;
use crate::telemetry::names;

/// Why a call is not stored: OneSignal sends it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the event could not be stored")]
pub struct NotStored;

/// Calls that wait for their commit.
pub(super) struct Intake {
    slots: Arc<Semaphore>,
    waiting: Mutex<VecDeque<Waiting>>,
    arrived: Notify,
}

struct Waiting {
    call: Received,
    reply: oneshot::Sender<Result<(), NotStored>>,
    /// Given back once the call is answered.
    slot: OwnedSemaphorePermit,
}

impl Intake {
    pub(super) fn new(slots: usize) -> Self {
        Self { slots: Arc::new(Semaphore::new(slots)), waiting: Mutex::default(), arrived: Notify::new() }
    }

    fn take(&self, limit: usize) -> Vec<Waiting> {
        let mut waiting = self.waiting.lock();
        let count = waiting.len().min(limit);
        let group = waiting.drain(..count).collect();
        if !waiting.is_empty() {
            self.arrived.notify_one();
        }
        group
    }
}

impl Archive {
    /// Stores the body of a call. Whatever is in it, it is stored: as a report, or as it is.
    ///
    /// # Errors
    /// [`NotStored`] if the database is unavailable or too many calls wait; the same call helps later.
    pub async fn accept(&self, body: &[u8]) -> Result<(), NotStored> {
        let slot = Arc::clone(&self.intake.slots).try_acquire_owned().map_err(|_| NotStored)?;
        let read = stream::read(body, self.clock.now());
        let malformed = read.problem.map(|problem| (problem, body.to_vec()));
        let call = Received { key: read.key, report: read.report, malformed };
        let (reply, stored) = oneshot::channel();
        self.intake.waiting.lock().push_back(Waiting { call, reply, slot });
        self.intake.arrived.notify_one();
        stored.await.unwrap_or(Err(NotStored))
    }

    /// Stores groups of calls until `stop`, and then what is still waiting.
    pub async fn store_groups(self: Arc<Self>, stop: CancellationToken) {
        loop {
            let group = self.intake.take(self.limits.group_calls);
            if !group.is_empty() {
                self.store_group(group).await;
            } else if stop.is_cancelled() {
                return;
            } else {
                tokio::select! {
                    () = self.intake.arrived.notified() => {}
                    () = stop.cancelled() => {}
                }
            }
        }
    }

    async fn store_group(&self, group: Vec<Waiting>) {
        let (calls, replies): (Vec<Received>, Vec<_>) =
            group.into_iter().map(|waiting| (waiting.call, (waiting.reply, waiting.slot))).unzip();
        let stored = self.store.insert_reports(&calls, self.clock.now()).await;
        let result = if stored.is_ok() { "stored" } else { "unavailable" };
        metrics::counter!(names::REPORTS, "result" => result).increment(calls.len() as u64);
        if let Err(error) = &stored {
            let error = error.with_causes();
            tracing::warn!(
                error,
                count = calls.len(),
                "{} events of OneSignal's streams could not be stored; they are sent again",
                calls.len()
            );
        }
        let reply = stored.map_err(|_| NotStored);
        for (waiting, slot) in replies {
            // Who has hung up sends it again.
            let _ = waiting.send(reply);
            drop(slot);
        }
        self.wake.notify_one();
    }
}
