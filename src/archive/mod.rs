//! Outcomes: what happened to messages after OneSignal accepted them.
//!
//! `stream` reads a call of Event Streams, and `intake` stores it before it is answered, many calls per commit. `record`
//! joins stored reports to deliveries, merges them, counts what is new and numbers it for readers, one round at a time
//! over all processes. `people` opts people out after a bounce or a complaint. Nothing is sent here.

pub mod comparison;
pub mod funnel;
mod intake;
mod join;
mod people;
mod record;
pub mod secrets;
pub mod silence;
pub mod stream;
mod worker;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::IdSource;
use crate::store::Store;

pub use intake::NotStored;

/// How often readers of the feed look for what other processes have recorded.
const FEED_POLL: Duration = Duration::from_millis(500);

/// The limits of this module.
#[derive(Debug, Clone, Copy)]
pub struct ArchiveLimits {
    /// The maximum number of calls that wait for their commit.
    pub waiting_calls: usize,
    /// The maximum number of calls in one commit.
    pub group_calls: usize,
    /// The maximum number of reports recorded in one transaction.
    pub reports_at_once: i64,
    /// How long a report waits until its message is known; then it is foreign.
    pub foreign_after: TimeDelta,
    /// How long feed entries and malformed bodies are kept.
    pub feed_kept: TimeDelta,
}

impl Default for ArchiveLimits {
    fn default() -> Self {
        Self {
            waiting_calls: 8_192,
            group_calls: 1_000,
            reports_at_once: 2_000,
            foreign_after: TimeDelta::minutes(15),
            feed_kept: TimeDelta::days(30),
        }
    }
}

/// What the use cases of outcomes share.
pub struct Archive {
    store: Store,
    clock: Arc<dyn Clock>,
    ids: Arc<IdSource>,
    limits: ArchiveLimits,
    intake: intake::Intake,
    /// When old rows were last deleted.
    pruned_at: Mutex<Option<Timestamp>>,
    /// Whether OneSignal reported nothing when it was last looked at.
    is_silent: Mutex<bool>,
    /// Notified when reports were stored.
    wake: Notify,
    /// Notified when outcomes were recorded by this process.
    fed: Notify,
}

impl std::fmt::Debug for Archive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Archive")
    }
}

impl Archive {
    /// Builds it; nothing runs yet.
    pub fn new(store: Store, clock: Arc<dyn Clock>, ids: Arc<IdSource>, limits: ArchiveLimits) -> Arc<Self> {
        Arc::new(Self {
            store,
            clock,
            ids,
            intake: intake::Intake::new(limits.waiting_calls),
            limits,
            pruned_at: Mutex::new(None),
            is_silent: Mutex::new(false),
            wake: Notify::new(),
            fed: Notify::new(),
        })
    }

    /// Waits until outcomes were recorded: by this process, or a while, in which another one may have.
    pub fn recorded(&self) -> impl Future<Output = ()> + '_ {
        let mut fed = Box::pin(self.fed.notified());
        fed.as_mut().enable();
        async move {
            tokio::select! {
                () = fed => {}
                () = tokio::time::sleep(FEED_POLL) => {}
            }
        }
    }
}
