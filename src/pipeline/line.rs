//! What this process holds in memory: deliveries that wait for a call, frozen batches that wait for their turn, and
//! answers that wait to be written down. All of it also stands in Postgres under this worker's name.

use std::collections::{BTreeMap, HashMap, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::pack::{PackKey, Ready};
use crate::domain::answer::BatchAnswer;
use crate::domain::app::AppId;
use crate::domain::batch::Batch;
use crate::domain::channel::Lane;
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, EventId, WorkerId};
use crate::store::queue::Claim;

/// One delivery of a frozen batch.
#[derive(Debug, Clone)]
pub struct Member {
    /// Our claim on it; its state is `sending`.
    pub claim: Claim,
    /// Its recipient's id; `None` for an audience.
    pub recipient_id: Option<String>,
    /// Its event.
    pub event: EventId,
    /// Its rule's key.
    pub rule: std::sync::Arc<str>,
}

/// A frozen batch with the attempt that is to be made.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// What goes out.
    pub batch: Batch,
    /// The members that we hold.
    pub members: Vec<Member>,
    /// In whose name it is sent.
    pub worker: WorkerId,
    /// How many members the batch has in all.
    pub size: usize,
    /// The attempt's number, from 1.
    pub attempt: i32,
    /// When the attempt began in the books.
    pub started_at: Timestamp,
}

/// A call that came back.
#[derive(Debug)]
pub struct Answered {
    /// The batch.
    pub frozen: Frozen,
    /// What it came back with.
    pub answer: BatchAnswer,
}

/// What this process holds. Its queues are bounded by the places of the hand-over and by calls in flight.
#[derive(Debug)]
pub struct Line {
    places: usize,
    state: Mutex<State>,
    /// Rings when something may be sent: new deliveries, a place that came free.
    pub(super) to_dispatch: Notify,
    /// Rings when a frozen batch wants its call.
    pub(super) to_call: Notify,
    /// Rings when an answer wants to be written down.
    pub(super) to_record: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<PackKey, VecDeque<Ready>>,
    waiting_count: usize,
    reserved: usize,
    retries: VecDeque<Frozen>,
    frozen: VecDeque<Frozen>,
    answered: Vec<Answered>,
    /// Every delivery in our name that we know of, with the epoch of our claim.
    held: HashMap<DeliveryId, i32>,
}

impl Line {
    /// A line with this many places for waiting deliveries.
    pub fn new(places: usize) -> Self {
        Self {
            places,
            state: Mutex::new(State::default()),
            to_dispatch: Notify::new(),
            to_call: Notify::new(),
            to_record: Notify::new(),
        }
    }

    /// Takes `count` places for deliveries that are about to be committed in our name.
    pub fn reserve(&self, count: usize) -> bool {
        let mut state = self.state.lock();
        if state.waiting_count + state.reserved + count > self.places {
            return false;
        }
        state.reserved += count;
        true
    }

    /// Gives places back that were not used.
    pub fn unreserve(&self, count: usize) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(count);
    }

    /// Places that are free.
    pub fn free_places(&self) -> usize {
        let state = self.state.lock();
        self.places.saturating_sub(state.waiting_count + state.reserved)
    }

    /// Whether nothing of this lane or a more urgent one waits.
    pub fn is_free(&self, lane: Lane) -> bool {
        let state = self.state.lock();
        state.retries.is_empty() && !state.waiting.keys().any(|key| key.lane <= lane)
    }

    /// Notes claims as ours, before they are committed.
    pub fn hold(&self, claims: impl IntoIterator<Item = (DeliveryId, i32)>) {
        self.state.lock().held.extend(claims);
    }

    /// Forgets claims: written down, given back, or never committed.
    /// A claim that was renewed under a later epoch stays.
    pub fn let_go(&self, claims: impl IntoIterator<Item = (DeliveryId, i32)>) {
        let mut state = self.state.lock();
        for (delivery, epoch) in claims {
            if state.held.get(&delivery) == Some(&epoch) {
                state.held.remove(&delivery);
            }
        }
    }

    /// Whether we know of this claim.
    pub fn holds(&self, delivery: DeliveryId, epoch: i32) -> bool {
        self.state.lock().held.get(&delivery) == Some(&epoch)
    }

    /// Deliveries that we hold.
    pub fn held_count(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Puts deliveries in line, using places that were reserved before.
    pub fn put_waiting(&self, ready: Vec<Ready>) {
        if ready.is_empty() {
            return;
        }
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(ready.len());
        state.waiting_count += ready.len();
        for delivery in ready {
            state.waiting.entry(delivery.key.clone()).or_default().push_back(delivery);
        }
        drop(state);
        self.to_dispatch.notify_one();
    }

    /// Puts deliveries back that were taken out and could not go: they have no places reserved.
    pub fn put_back(&self, ready: Vec<Ready>) {
        let mut state = self.state.lock();
        state.reserved += ready.len();
        drop(state);
        self.put_waiting(ready);
    }

    /// The keys of what waits, most urgent lane first and then by how long the oldest has been waiting.
    pub fn waiting_keys(&self) -> Vec<PackKey> {
        let state = self.state.lock();
        let mut keys: Vec<(&PackKey, Timestamp)> = state
            .waiting
            .iter()
            .filter_map(|(key, line)| {
                let claim = &line.front()?.claim;
                Some((key, claim.delivery.due_at().unwrap_or(claim.expires_at)))
            })
            .collect();
        keys.sort_by(|(one, since), (other, later)| (one.lane, since).cmp(&(other.lane, later)));
        keys.into_iter().map(|(key, _)| key.clone()).collect()
    }

    /// Lets `pick` take deliveries of this key out of the line.
    pub fn take<T>(&self, key: &PackKey, pick: impl FnOnce(&mut VecDeque<Ready>) -> T) -> Option<T> {
        let mut state = self.state.lock();
        let line = state.waiting.get_mut(key)?;
        let before = line.len();
        let picked = pick(line);
        let taken = before.saturating_sub(line.len());
        if line.is_empty() {
            state.waiting.remove(key);
        }
        state.waiting_count = state.waiting_count.saturating_sub(taken);
        Some(picked)
    }

    /// Takes out what waits for these apps, to give it back.
    pub fn take_waiting_of(&self, apps: &[AppId]) -> Vec<Ready> {
        let mut state = self.state.lock();
        let keys: Vec<PackKey> =
            state.waiting.keys().filter(|key| apps.contains(&key.app)).cloned().collect();
        let taken: Vec<Ready> = keys.iter().filter_map(|key| state.waiting.remove(key)).flatten().collect();
        state.waiting_count = state.waiting_count.saturating_sub(taken.len());
        taken
    }

    /// Takes out everything that waits, to give it back.
    pub fn take_all_waiting(&self) -> Vec<Ready> {
        let mut state = self.state.lock();
        state.waiting_count = 0;
        std::mem::take(&mut state.waiting).into_values().flatten().collect()
    }

    /// Puts a batch in line whose next attempt has begun in the books.
    pub fn put_retry(&self, frozen: Frozen) {
        self.state.lock().retries.push_back(frozen);
        self.to_dispatch.notify_one();
    }

    /// Batches that wait for their next attempt.
    pub fn retries_waiting(&self) -> usize {
        self.state.lock().retries.len()
    }

    /// Takes the retries that `wanted` says can go now.
    pub fn take_retries(&self, mut wanted: impl FnMut(&Frozen) -> bool) -> Vec<Frozen> {
        let mut state = self.state.lock();
        let (go, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.retries).into_iter().partition(|f| wanted(f));
        state.retries = stay.into();
        go
    }

    /// Puts a frozen batch in line for its call; place and token are taken.
    pub fn put_frozen(&self, frozen: Vec<Frozen>) {
        if frozen.is_empty() {
            return;
        }
        self.state.lock().frozen.extend(frozen);
        self.to_call.notify_one();
    }

    /// The batches that want their call.
    pub fn take_frozen(&self) -> Vec<Frozen> {
        self.state.lock().frozen.drain(..).collect()
    }

    /// Puts an answer in line to be written down.
    pub fn put_answered(&self, answered: Vec<Answered>) {
        self.state.lock().answered.extend(answered);
        self.to_record.notify_one();
    }

    /// The answers that want to be written down, at most `limit`.
    pub fn take_answered(&self, limit: usize) -> Vec<Answered> {
        let mut state = self.state.lock();
        let count = state.answered.len().min(limit);
        state.answered.drain(..count).collect()
    }

    /// Whether every batch that was frozen here has been answered and written down.
    pub fn is_settled(&self) -> bool {
        self.state.lock().held.is_empty()
    }
}
