//! What this process holds in memory: deliveries that wait for a call, frozen batches that wait for their turn, and
//! answers that wait to be written down. All of it also stands in Postgres under this worker's name.

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

/// A frozen batch with the attempt that is to be made.
#[derive(Debug, Clone)]
pub struct Frozen {
    /// What goes out.
    pub batch: Batch,
    /// The members that we hold.
    pub members: Vec<Member>,
    /// The version that all of them say.
    pub version: TemplateVersionId,
    /// In whose name it is sent.
    pub worker: WorkerId,
    /// How many members the batch has in all.
    pub size: usize,
    /// The attempt's number, from 1.
    pub attempt: i32,
    /// When the attempt began in the books.
    pub started_at: Timestamp,
    /// When the hours of its members' rules are over.
    pub closes_at: Option<Timestamp>,
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
pub struct MemoryQueue {
    places: usize,
    state: Mutex<State>,
    /// Rings when something may be sent: new deliveries, a place that came free.
    pub(in crate::pipeline) to_dispatch: Notify,
    /// Rings when a frozen batch wants its call.
    pub(in crate::pipeline) to_call: Notify,
    /// Rings when an answer wants to be written down.
    pub(in crate::pipeline) to_record: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: BTreeMap<PackKey, VecDeque<Ready>>,
    waiting_count: usize,
    /// How many wait of each priority and source.
    waiting_of: HashMap<(Priority, SourceId), usize>,
    order: FairOrder,
    reserved: usize,
    retries: VecDeque<Frozen>,
    frozen: VecDeque<Frozen>,
    answered: Vec<Answered>,
    /// Every delivery in our name that we know of, with the epoch of our claim.
    held: HashMap<DeliveryId, i32>,
}

impl State {
    fn free(&self, places: usize) -> usize {
        places.saturating_sub(self.waiting_count + self.reserved)
    }

    /// How many wait in a priority.
    fn waiting_in(&self, priority: Priority) -> usize {
        self.waiting_of.iter().filter(|((of, _), _)| *of == priority).map(|(_, count)| count).sum()
    }

    /// Takes account of deliveries that left the line.
    fn left<'a>(&mut self, taken: impl IntoIterator<Item = &'a Ready>) {
        for ready in taken {
            self.waiting_count = self.waiting_count.saturating_sub(1);
            let place = (ready.key.priority, ready.posted.0);
            if let Some(count) = self.waiting_of.get_mut(&place) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.waiting_of.remove(&place);
                }
            }
        }
        if self.waiting_count == 0 {
            self.order.begin_anew();
        }
    }
}

/// Places that a priority may have in all: what is less urgent leaves room.
fn most_of(priority: Priority, places: usize) -> usize {
    match priority {
        Priority::Urgent => places,
        Priority::Normal => places - places / 4,
        Priority::Bulk => places - places / 2,
    }
}

impl MemoryQueue {
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

    /// Takes places for as many deliveries of a priority as may be claimed now, `max` at most; returns how many.
    pub fn reserve_for(&self, priority: Priority, max: usize) -> usize {
        let mut state = self.state.lock();
        let left = most_of(priority, self.places).saturating_sub(state.waiting_in(priority));
        let count = state.free(self.places).min(left).min(max);
        state.reserved += count;
        count
    }

    /// Takes a place for a delivery that is about to be committed in our name. A source gets no more places than it leaves
    /// free for others, and a less urgent priority leaves room for more urgent ones: no flood keeps the rest out of memory.
    pub fn reserve_one(&self, priority: Priority, source: SourceId) -> bool {
        let mut state = self.state.lock();
        let free = state.free(self.places);
        let has = state.waiting_of.get(&(priority, source)).copied().unwrap_or_default();
        let is_full = state.waiting_in(priority) >= most_of(priority, self.places);
        if free == 0 || is_full || (priority != Priority::Urgent && has >= free) {
            return false;
        }
        state.reserved += 1;
        true
    }

    /// Gives places back that were not used.
    pub fn unreserve(&self, count: usize) {
        let mut state = self.state.lock();
        state.reserved = state.reserved.saturating_sub(count);
    }

    /// Whether nothing of this app waits that is as urgent as `priority`, or more.
    pub fn is_free(&self, app: AppId, priority: Priority) -> bool {
        let state = self.state.lock();
        !state.retries.iter().any(|f| f.batch.app.id == app && f.batch.priority <= priority)
            && !state.waiting.keys().any(|key| key.app == app && key.priority <= priority)
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

    /// Puts deliveries in line, using places that were reserved before. Each gets its turn: sources take turns with
    /// each other, and a person of whom much waits lets others pass.
    pub fn put_waiting(&self, ready: Vec<Ready>) {
        if ready.is_empty() {
            return;
        }
        let mut guard = self.state.lock();
        let state = &mut *guard;
        state.reserved = state.reserved.saturating_sub(ready.len());
        state.waiting_count += ready.len();
        for mut delivery in ready {
            let place = (delivery.key.priority, delivery.posted.0);
            *state.waiting_of.entry(place).or_default() += 1;
            if delivery.turn == 0 {
                delivery.turn = state.order.turn_of(place.0, place.1, delivery.to.person());
            }
            let line = state.waiting.entry(delivery.key.clone()).or_default();
            let at = line.partition_point(|other| other.turn <= delivery.turn);
            line.insert(at, delivery);
        }
        drop(guard);
        self.to_dispatch.notify_one();
    }

    /// Puts deliveries back that were taken out and could not go: they have no places reserved and keep their turns.
    pub fn put_back(&self, ready: Vec<Ready>) {
        let mut state = self.state.lock();
        state.reserved += ready.len();
        drop(state);
        self.put_waiting(ready);
    }

    /// The apps that have something to send, first tries or retries.
    pub fn waiting_apps(&self) -> BTreeSet<AppId> {
        let state = self.state.lock();
        let retries = state.retries.iter().map(|frozen| frozen.batch.app.id);
        state.waiting.keys().map(|key| key.app).chain(retries).collect()
    }

    /// The priorities of an app in which something waits that `skip` does not name.
    pub fn waiting_priorities(&self, app: AppId, skip: &HashSet<PackKey>) -> Waiting {
        let state = self.state.lock();
        Priority::ALL.map(|priority| {
            state.retries.iter().any(|f| f.batch.app.id == app && f.batch.priority == priority)
                || state.waiting.keys().any(|k| k.priority == priority && k.app == app && !skip.contains(k))
        })
    }

    /// The key whose turn it is in a priority of an app, leaving out what `skip` names.
    pub fn next_key(&self, app: AppId, priority: Priority, skip: &HashSet<PackKey>) -> Option<PackKey> {
        let state = self.state.lock();
        let of_priority =
            state.waiting.iter().filter(|(k, _)| k.priority == priority && k.app == app && !skip.contains(k));
        let first = of_priority.filter_map(|(key, line)| Some((line.front()?.turn, key))).min()?;
        Some(first.1.clone())
    }

    /// Whether a retry waits in a priority of an app.
    pub fn has_retry(&self, app: AppId, priority: Priority) -> bool {
        let state = self.state.lock();
        state.retries.iter().any(|frozen| frozen.batch.app.id == app && frozen.batch.priority == priority)
    }

    /// Takes the retry that waits longest in a priority of an app.
    pub fn take_retry(&self, app: AppId, priority: Priority) -> Option<Frozen> {
        let mut state = self.state.lock();
        let place =
            state.retries.iter().position(|f| f.batch.app.id == app && f.batch.priority == priority)?;
        state.retries.remove(place)
    }

    /// Lets `pick` take deliveries of this key out of the line.
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

    /// Takes out what `wanted` says, to give it back.
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

    /// Takes out everything that waits, to give it back.
    pub fn take_all_waiting(&self) -> Vec<Ready> {
        let mut state = self.state.lock();
        let taken: Vec<Ready> = std::mem::take(&mut state.waiting).into_values().flatten().collect();
        state.left(&taken);
        taken
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
