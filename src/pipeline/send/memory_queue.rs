//! What this process holds in memory: deliveries that wait for a call, frozen batches that wait for their call, and
//! answers that wait to be recorded. All of it is also stored in Postgres under this worker's name.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::domain::answer::BatchAnswer;
use crate::domain::app::AppId;
use crate::domain::batch::Batch;
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, EventId, SourceId, TemplateVersionId, WorkerId};
use crate::pipeline::rate::budget::Waiting;
use crate::pipeline::send::fair_order::FairOrder;
use crate::pipeline::send::pack::{PackKey, Ready};
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

/// A frozen batch with its next attempt.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// The request.
    pub batch: Batch,
    /// The members that we hold.
    pub members: Vec<Member>,
    /// The version that all of them use.
    pub version: TemplateVersionId,
    /// The worker that sends it.
    pub worker: WorkerId,
    /// How many members the batch has in all.
    pub size: usize,
    /// The attempt's number, from 1.
    pub attempt: i32,
    /// The recorded start of the attempt.
    pub started_at: Timestamp,
    /// When the send windows of its members' rules close.
    pub closes_at: Option<Timestamp>,
}

/// A finished call.
#[derive(Debug)]
pub struct Answered {
    /// The batch.
    pub frozen: Frozen,
    /// Its answer.
    pub answer: BatchAnswer,
}

/// What this process holds. Its queues are bounded by the size of the memory queue and by the calls in flight.
#[derive(Debug)]
pub struct MemoryQueue {
    slots: usize,
    state: Mutex<State>,
    /// Notified when something may be sent: new deliveries, a slot that became free.
    pub(in crate::pipeline) to_dispatch: Notify,
    /// Notified when a frozen batch is ready for its call.
    pub(in crate::pipeline) to_call: Notify,
    /// Notified when an answer is ready to be recorded.
    pub(in crate::pipeline) to_record: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<PackKey, VecDeque<Ready>>,
    waiting_count: usize,
    /// How many deliveries of each priority and source are queued.
    waiting_of: HashMap<(Priority, SourceId), usize>,
    order: FairOrder,
    reserved: usize,
    retries: VecDeque<Frozen>,
    frozen: VecDeque<Frozen>,
    answered: Vec<Answered>,
    /// Every delivery known to be leased to this worker, with the epoch of its claim.
    held: HashMap<DeliveryId, i32>,
}

impl State {
    fn free(&self, slots: usize) -> usize {
        slots.saturating_sub(self.waiting_count + self.reserved)
    }

    /// How many deliveries of a priority are queued.
    fn waiting_in(&self, priority: Priority) -> usize {
        self.waiting_of.iter().filter(|((of, _), _)| *of == priority).map(|(_, count)| count).sum()
    }

    /// Updates the counts for deliveries that left the queue.
    fn left<'a>(&mut self, taken: impl IntoIterator<Item = &'a Ready>) {
        for ready in taken {
            self.waiting_count = self.waiting_count.saturating_sub(1);
            let group = (ready.key.priority, ready.posted.0);
            if let Some(count) = self.waiting_of.get_mut(&group) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.waiting_of.remove(&group);
                }
            }
        }
        if self.waiting_count == 0 {
            self.order.begin_anew();
        }
    }
}

/// The number of slots that a priority may use: lower priorities leave room for higher ones.
fn max_of(priority: Priority, slots: usize) -> usize {
    match priority {
        Priority::Urgent => slots,
        Priority::Normal => slots - slots / 4,
        Priority::Bulk => slots - slots / 2,
    }
}

impl MemoryQueue {
    /// A queue with this many slots for waiting deliveries.
    pub fn new(slots: usize) -> Self {
        Self {
            slots,
            state: Mutex::new(State::default()),
            to_dispatch: Notify::new(),
            to_call: Notify::new(),
            to_record: Notify::new(),
        }
    }

    /// Reserves slots for deliveries of a priority that are about to be claimed, up to `max`; returns how many.
    pub fn reserve_for(&self, priority: Priority, max: usize) -> usize {
        let mut state = self.state.lock();
        let left = max_of(priority, self.slots).saturating_sub(state.waiting_in(priority));
        let count = state.free(self.slots).min(left).min(max);
        state.reserved += count;
        count
    }

    /// Reserves a slot for a delivery that is about to be committed with a lease to this worker. A source gets no more
    /// slots than it leaves free for others, and a lower priority leaves room for higher ones, so that no burst keeps
    /// the rest out of memory.
    pub fn reserve_one(&self, priority: Priority, source: SourceId) -> bool {
        let mut state = self.state.lock();
        let free = state.free(self.slots);
        let has = state.waiting_of.get(&(priority, source)).copied().unwrap_or_default();
        let is_full = state.waiting_in(priority) >= max_of(priority, self.slots);
        if free == 0 || is_full || (priority != Priority::Urgent && has >= free) {
            return false;
        }
        state.reserved += 1;
        true
    }

    /// Releases slots that were not used.
    pub fn unreserve(&self, count: usize) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(count);
    }

    /// Whether no delivery of this app with the same or a higher priority than `priority` is queued.
    pub fn is_free(&self, app: AppId, priority: Priority) -> bool {
        let state = self.state.lock();
        !state.retries.iter().any(|f| f.batch.app.id == app && f.batch.priority <= priority)
            && !state.waiting.keys().any(|key| key.app == app && key.priority <= priority)
    }

    /// Notes claims as held, before they are committed.
    pub fn hold(&self, claims: impl IntoIterator<Item = (DeliveryId, i32)>) {
        self.state.lock().held.extend(claims);
    }

    /// Forgets claims: recorded, released, or never committed. A claim that was renewed under a later epoch stays.
    pub fn forget(&self, claims: impl IntoIterator<Item = (DeliveryId, i32)>) {
        let mut state = self.state.lock();
        for (delivery, epoch) in claims {
            if state.held.get(&delivery) == Some(&epoch) {
                state.held.remove(&delivery);
            }
        }
    }

    /// Whether this claim is held.
    pub fn holds(&self, delivery: DeliveryId, epoch: i32) -> bool {
        self.state.lock().held.get(&delivery) == Some(&epoch)
    }

    /// Deliveries that we hold.
    pub fn held_count(&self) -> usize {
        self.state.lock().held.len()
    }

    /// Queues deliveries into slots that were reserved before. Each gets its position: sources take turns, and a person
    /// with many pending messages lets others pass.
    pub fn put_waiting(&self, ready: Vec<Ready>) {
        if ready.is_empty() {
            return;
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.reserved = state.reserved.saturating_sub(ready.len());
        state.waiting_count += ready.len();
        for mut delivery in ready {
            let group = (delivery.key.priority, delivery.posted.0);
            *state.waiting_of.entry(group).or_default() += 1;
            if delivery.turn == 0 {
                delivery.turn = state.order.turn_of(group.0, group.1, delivery.to.person());
            }
            let line = state.waiting.entry(delivery.key.clone()).or_default();
            let at = line.partition_point(|other| other.turn <= delivery.turn);
            line.insert(at, delivery);
        }
        drop(guard);
        self.to_dispatch.notify_one();
    }

    /// Requeues deliveries that were taken out and could not be sent: they have no reserved slots and keep their
    /// positions.
    pub fn put_back(&self, ready: Vec<Ready>) {
        let mut state = self.state.lock();
        state.reserved += ready.len();
        drop(state);
        self.put_waiting(ready);
    }

    /// The apps that have something to send, first attempts or retries.
    pub fn waiting_apps(&self) -> BTreeSet<AppId> {
        let state = self.state.lock();
        let retries = state.retries.iter().map(|frozen| frozen.batch.app.id);
        state.waiting.keys().map(|key| key.app).chain(retries).collect()
    }

    /// The priorities of an app in which something is queued that `skip` does not name.
    pub fn waiting_priorities(&self, app: AppId, skip: &HashSet<PackKey>) -> Waiting {
        let state = self.state.lock();
        Priority::ALL.map(|priority| {
            state.retries.iter().any(|f| f.batch.app.id == app && f.batch.priority == priority)
                || state.waiting.keys().any(|k| k.priority == priority && k.app == app && !skip.contains(k))
        })
    }

    /// The next key to send in a priority of an app, leaving out what `skip` names.
    pub fn next_key(&self, app: AppId, priority: Priority, skip: &HashSet<PackKey>) -> Option<PackKey> {
        let state = self.state.lock();
        let of_priority =
            state.waiting.iter().filter(|(k, _)| k.priority == priority && k.app == app && !skip.contains(k));
        let first = of_priority.filter_map(|(key, line)| Some((line.front()?.turn, key))).min()?;
        Some(first.1.clone())
    }

    /// Whether a retry is queued in a priority of an app.
    pub fn has_retry(&self, app: AppId, priority: Priority) -> bool {
        let state = self.state.lock();
        state.retries.iter().any(|frozen| frozen.batch.app.id == app && frozen.batch.priority == priority)
    }

    /// Takes the oldest retry in a priority of an app.
    pub fn take_retry(&self, app: AppId, priority: Priority) -> Option<Frozen> {
        let mut state = self.state.lock();
        let index =
            state.retries.iter().position(|f| f.batch.app.id == app && f.batch.priority == priority)?;
        state.retries.remove(index)
    }

    /// Lets `pick` take deliveries of this key out of the queue.
    pub fn take(&self, key: &PackKey, pick: impl FnOnce(&mut VecDeque<Ready>) -> Vec<Ready>) -> Vec<Ready> {
        let mut guard = self.state.lock();
        let state = &mut *guard;
        let Some(line) = state.waiting.get_mut(key) else { return Vec::new() };
        let picked = pick(line);
        if line.is_empty() {
            state.waiting.remove(key);
        }
        if let Some(last) = picked.first() {
            state.order.reached(key.priority, last.turn);
        }
        state.left(&picked);
        picked
    }

    /// Takes out what `wanted` selects, to be released.
    pub fn take_where(&self, wanted: impl Fn(&Ready) -> bool) -> Vec<Ready> {
        let mut state = self.state.lock();
        let mut taken = Vec::new();
        state.waiting.retain(|_, line| {
            if line.iter().any(&wanted) {
                let (go, stay) = std::mem::take(line).into_iter().partition::<VecDeque<_>, _>(&wanted);
                taken.extend(go);
                *line = stay;
            }
            !line.is_empty()
        });
        state.left(&taken);
        taken
    }

    /// Takes out everything, to be released.
    pub fn take_all_waiting(&self) -> Vec<Ready> {
        let mut state = self.state.lock();
        let taken: Vec<Ready> = std::mem::take(&mut state.waiting).into_values().flatten().collect();
        state.left(&taken);
        taken
    }

    /// Queues a batch whose next attempt has been recorded.
    pub fn put_retry(&self, frozen: Frozen) {
        self.state.lock().retries.push_back(frozen);
        self.to_dispatch.notify_one();
    }

    /// Batches that wait for their next attempt.
    pub fn retries_waiting(&self) -> usize {
        self.state.lock().retries.len()
    }

    /// Takes the retries that `wanted` selects.
    pub fn take_retries(&self, mut wanted: impl FnMut(&Frozen) -> bool) -> Vec<Frozen> {
        let mut state = self.state.lock();
        let (go, stay): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.retries).into_iter().partition(|f| wanted(f));
        state.retries = stay.into();
        go
    }

    /// Queues a frozen batch for its call; its slot and token are taken.
    pub fn put_frozen(&self, frozen: Vec<Frozen>) {
        if frozen.is_empty() {
            return;
        }
        self.state.lock().frozen.extend(frozen);
        self.to_call.notify_one();
    }

    /// The batches that are ready for their call.
    pub fn take_frozen(&self) -> Vec<Frozen> {
        self.state.lock().frozen.drain(..).collect()
    }

    /// Queues an answer to be recorded.
    pub fn put_answered(&self, answered: Vec<Answered>) {
        self.state.lock().answered.extend(answered);
        self.to_record.notify_one();
    }

    /// The answers that are ready to be recorded, at most `limit`.
    pub fn take_answered(&self, limit: usize) -> Vec<Answered> {
        let mut state = self.state.lock();
        let count = state.answered.len().min(limit);
        state.answered.drain(..count).collect()
    }

    /// Whether every batch that was frozen here has been answered and recorded.
    pub fn is_settled(&self) -> bool {
        self.state.lock().held.is_empty()
    }
}
