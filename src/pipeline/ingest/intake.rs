//! Events that wait for a group commit: a bounded queue, with urgent events in a separate one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, oneshot};

use crate::domain::channel::Priority;
use crate::domain::event::Event;
use crate::domain::facts::GivenFacts;
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::ingest::group_commit::Reply;
use crate::pipeline::ingest::repeats::Content;
use crate::pipeline::plan::Plan;
use crate::store::events::KeyClaim;

/// The maximum number of planned deliveries in one group, unless a single event has more.
const GROUP_DELIVERIES: usize = 20_000;

/// An event that waits for a group commit.
pub(in crate::pipeline) struct Pending {
    pub event: Arc<Event>,
    pub claim: KeyClaim,
    pub content: Content,
    /// What it says about its recipients.
    pub facts: Arc<[GivenFacts]>,
    /// The plan, and the catalog's revision that it was made on.
    pub plan: (i64, Plan),
    /// The version, if it is a test send.
    pub test_of: Option<Arc<CompiledVersion>>,
    pub data: String,
    pub sealed: Option<Vec<u8>>,
    pub reply: oneshot::Sender<Reply>,
    /// A counter for the order of arrival. Ids of the same millisecond are not ordered.
    pub arrival: u64,
    pub _slot: OwnedSemaphorePermit,
}

/// Which events a committer takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Committing {
    /// Those with an urgent delivery: they never wait behind other events.
    Urgent,
    /// All others.
    Ordinary,
}

/// Events that wait for a group commit: bounded, each of the two queues in order of arrival.
pub struct Intake {
    slots: Arc<Semaphore>,
    arrivals: AtomicU64,
    urgent: Waiting,
    ordinary: Waiting,
    /// Whether the last group failed entirely because of locks.
    is_locked_out: AtomicBool,
}

/// Events of one kind that wait for a group commit.
#[derive(Default)]
pub(in crate::pipeline) struct Waiting {
    events: Mutex<VecDeque<Pending>>,
    pub arrived: Notify,
}

impl Intake {
    /// An intake with room for this many events.
    pub fn new(slots: usize) -> Self {
        Self {
            slots: Arc::new(Semaphore::new(slots)),
            arrivals: AtomicU64::new(0),
            urgent: Waiting::default(),
            ordinary: Waiting::default(),
            is_locked_out: AtomicBool::new(false),
        }
    }

    pub(in crate::pipeline) fn is_locked_out(&self) -> bool {
        self.is_locked_out.load(Ordering::Relaxed)
    }

    pub(in crate::pipeline) fn set_locked_out(&self, is_locked_out: bool) {
        self.is_locked_out.store(is_locked_out, Ordering::Relaxed);
    }

    /// Reserves a slot; `None` if there is none.
    pub(in crate::pipeline) fn enter(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.slots).try_acquire_owned().ok()
    }

    pub(in crate::pipeline) fn waiting_count(&self) -> usize {
        self.urgent.events.lock().len() + self.ordinary.events.lock().len()
    }

    /// Queues events for their commit, those of one client together and in this order.
    pub(in crate::pipeline) fn push(&self, pending: Vec<Pending>) {
        let (urgent, ordinary): (Vec<Pending>, Vec<Pending>) =
            pending.into_iter().partition(|pending| is_urgent(&pending.plan.1));
        for (waiting, arriving) in [(&self.urgent, urgent), (&self.ordinary, ordinary)] {
            if arriving.is_empty() {
                continue;
            }
            let mut events = waiting.events.lock();
            for mut pending in arriving {
                pending.arrival = self.arrivals.fetch_add(1, Ordering::Relaxed);
                events.push_back(pending);
            }
            drop(events);
            waiting.arrived.notify_one();
        }
    }

    pub(in crate::pipeline) fn of(&self, kind: Committing) -> &Waiting {
        match kind {
            Committing::Urgent => &self.urgent,
            Committing::Ordinary => &self.ordinary,
        }
    }

    pub(in crate::pipeline) fn take(&self, kind: Committing, limit: usize) -> Vec<Pending> {
        let waiting = self.of(kind);
        let mut events = waiting.events.lock();
        // An event to thousands of recipients counts as thousands of events.
        let mut deliveries = 0;
        let fitting = events.iter().take(limit).take_while(|pending| {
            deliveries += pending.plan.1.deliveries.len();
            deliveries <= GROUP_DELIVERIES
        });
        let count = fitting.count().max(1).min(events.len());
        let group = events.drain(..count).collect();
        if !events.is_empty() {
            // There is work for another committer.
            waiting.arrived.notify_one();
        }
        group
    }
}

fn is_urgent(plan: &Plan) -> bool {
    plan.deliveries.iter().any(|delivery| delivery.rule.definition.priority == Priority::Urgent)
}
