//! Dispatch: due deliveries are claimed, packed into batches and frozen, as far as tokens and call slots allow.
//!
//! Freezing takes only rows that this worker still holds and that are still allowed; the batch is made of exactly the
//! rows that were returned, and stored with its key in the same transaction.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::TimeDelta;

use crate::domain::app::{App, AppId};
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::erasure::Identifier;
use crate::domain::event::Recipient;
use crate::domain::id::{BatchId, DeliveryId};
use crate::domain::retry::delta;
use crate::pipeline::compiled::CompiledCatalog;
use crate::pipeline::rate::budget::{Call, KnownGate, Wait, Waiting};
use crate::pipeline::send::batch_draft::Draft;
use crate::pipeline::send::memory_queue::Frozen;
use crate::pipeline::send::pack;
use crate::pipeline::send::pack::{Copy, PackKey, PackLimits, Ready};
use crate::pipeline::send::record::{Transition, committed};
use crate::pipeline::worker::failpoints;
use crate::pipeline::{Pipeline, WorkerLease};
use crate::store::batches::NewBatch;
use crate::store::gates::Probe;
use crate::store::queue::FreezeRow;
use crate::store::{Committed, StoreError, batches, commit, queue};
use crate::telemetry::names;
use crate::vault::DigestKey;

/// The maximum number of batches frozen in one transaction.
const BATCHES_AT_ONCE: usize = 64;
/// How long a delivery waits whose template is not uploaded.
const UPLOAD_WAIT: TimeDelta = TimeDelta::seconds(2);

/// The result of a round of dispatch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Batches were sent off; there may be more.
    Sent,
    /// Nothing can be sent before this time, or before a wake-up.
    Rest(Option<Timestamp>),
}

/// A batch being built: its members are chosen, its token and slot are taken.
struct Picked {
    id: BatchId,
    app: Arc<App>,
    copy: Copy,
    members: Vec<Ready>,
}

/// What a round of dispatch has chosen so far, each with its token and slot taken.
#[derive(Default)]
struct Choice {
    retries: Vec<Frozen>,
    picked: Vec<Picked>,
    not_uploaded: HashSet<PackKey>,
    /// Deliveries whose rule's send window has closed.
    closed: Vec<Ready>,
    rest: Option<Timestamp>,
}

impl Choice {
    fn len(&self) -> usize {
        self.retries.len() + self.picked.len()
    }

    fn rest_until(&mut self, moment: Timestamp) {
        self.rest = Some(self.rest.map_or(moment, |earlier| earlier.min(moment)));
    }
}

impl Pipeline {
    /// Freezes what can be sent now and queues it for its call.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; nothing is lost and retrying helps.
    pub async fn dispatch(&self) -> Result<Round, StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.present_lease(now) else { return Ok(Round::Rest(None)) };
        let catalog = self.catalog.get(&self.store).await?;
        self.claim_probes(&catalog, now).await?;
        let mut choice = Choice::default();
        let mut apps: Vec<Arc<App>> = self
            .memory_queue
            .waiting_apps()
            .into_iter()
            .filter_map(|id| catalog.app(Some(id)).cloned())
            .collect();
        // One call for each app in turn, so that none takes the whole round.
        while !apps.is_empty() && choice.len() < BATCHES_AT_ONCE {
            apps.retain(|app| self.choose_next(app, &mut choice, now));
        }
        let Choice { retries, picked, not_uploaded, closed, rest } = choice;
        let (late, retries): (Vec<Frozen>, Vec<Frozen>) =
            retries.into_iter().partition(|frozen| is_closed(frozen.closes_at, now));
        for frozen in &late {
            self.budget.cancel(frozen.batch.app.id, now);
        }
        let went = self.send_chosen(lease, retries, picked, now).await;
        // They are claimed again, and then wait for the next window. No queue contains them any more, so that they are
        // released even if the rest has failed.
        let released = self.release_claims(lease, &closed, None).await;
        self.release_frozen(late).await?;
        released?;
        let went = went?;
        for key in not_uploaded {
            self.wait_for_upload(&key, lease, now).await?;
        }
        Ok(if went { Round::Sent } else { Round::Rest(rest) })
    }

    /// Queues chosen batches for their calls: retries as they are, the others once they are frozen. Returns whether
    /// there are any.
    async fn send_chosen(
        &self,
        lease: WorkerLease,
        retries: Vec<Frozen>,
        picked: Vec<Picked>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let retries = match self.restart_late(retries, now).await {
            Ok(retries) => retries,
            Err(error) => {
                self.unpick(picked, now);
                return Err(error);
            }
        };
        let went = !retries.is_empty();
        self.memory_queue.put_frozen(retries);
        Ok(if picked.is_empty() { went } else { self.freeze(lease, picked, now).await? || went })
    }

    /// Chooses an app's next call; returns whether there may be another one.
    fn choose_next(&self, app: &Arc<App>, choice: &mut Choice, now: Timestamp) -> bool {
        let waiting = self.memory_queue.waiting_priorities(app.id, &choice.not_uploaded);
        let Some(mut priority) = self.budget.turn(app.id, waiting, now) else { return false };
        let call_in =
            |priority| Call { priority, is_retry: self.memory_queue.has_retry(app.id, priority), waiting };
        let mut call = call_in(priority);
        let mut begun = self.budget.begin(app, call, now);
        if begun == Err(Wait::ForPlace) && priority != Priority::Urgent && waiting[0] {
            // The shared slots are taken; urgent calls have some of their own.
            priority = Priority::Urgent;
            call = call_in(priority);
            begun = self.budget.begin(app, call, now);
        }
        if let Err(Wait::ForRetry(until)) = begun {
            choice.rest_until(until);
            call.is_retry = false;
            if self.memory_queue.next_key(app.id, priority, &choice.not_uploaded).is_none() {
                return self.choose_below(app, priority, waiting, choice, now);
            }
            begun = self.budget.begin(app, call, now);
        }
        match begun {
            Ok(()) => self.choose_in(app, call, choice, now),
            Err(Wait::Until(until) | Wait::ForRetry(until)) => {
                choice.rest_until(until);
                false
            }
            Err(Wait::ForPlace | Wait::ForProbe) => false,
        }
    }

    /// Chooses a first attempt of a lower priority when a higher one has only retries and these have to wait.
    fn choose_below(
        &self,
        app: &Arc<App>,
        above: Priority,
        waiting: Waiting,
        choice: &mut Choice,
        now: Timestamp,
    ) -> bool {
        let has_first = |priority: &Priority| {
            self.memory_queue.next_key(app.id, *priority, &choice.not_uploaded).is_some()
        };
        let Some(priority) = Priority::ALL.into_iter().filter(|priority| *priority > above).find(has_first)
        else {
            return false;
        };
        let call = Call { priority, is_retry: false, waiting };
        self.budget.begin(app, call, now).is_ok() && self.choose_in(app, call, choice, now)
    }

    /// Takes the deliveries of a call that has started out of the memory queue.
    fn choose_in(&self, app: &Arc<App>, call: Call, choice: &mut Choice, now: Timestamp) -> bool {
        if call.is_retry {
            match self.memory_queue.take_retry(app.id, call.priority) {
                Some(frozen) => choice.retries.push(frozen),
                None => self.budget.cancel(app.id, now),
            }
            return true;
        }
        let Some(key) = self.memory_queue.next_key(app.id, call.priority, &choice.not_uploaded) else {
            self.budget.cancel(app.id, now);
            return false;
        };
        let Some(copy) = self.copy_of(&key) else {
            self.budget.cancel(app.id, now);
            choice.not_uploaded.insert(key);
            return true;
        };
        let picked = self.pick(&key, now).into_iter();
        let (closed, members): (Vec<Ready>, Vec<Ready>) =
            picked.partition(|ready| is_closed(ready.closes_at, now));
        choice.closed.extend(closed);
        if members.is_empty() {
            self.budget.cancel(app.id, now);
        } else {
            choice.picked.push(Picked { id: self.ids.next(now), app: Arc::clone(app), copy, members });
        }
        true
    }

    /// Asks for permission to probe apps whose gates are half open: one replica at a time gets it.
    async fn claim_probes(&self, catalog: &CompiledCatalog, now: Timestamp) -> Result<(), StoreError> {
        for app in self.memory_queue.waiting_apps() {
            let is_paused = catalog.app(Some(app)).is_none_or(|app| app.paused.is_some());
            if !is_paused {
                self.claim_probe_of(app, now).await?;
            }
        }
        Ok(())
    }

    /// The same for one app, if its gate is half open.
    pub(in crate::pipeline) async fn claim_probe_of(
        &self,
        app: AppId,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if !self.budget.wants_probe(app, now) {
            return Ok(());
        }
        match self.store.claim_probe(app, now, now + delta(self.limits.breaker.probe_gap)).await? {
            Probe::Yours => self.budget.allow_probe(app, now),
            Probe::NotBefore(moment) => {
                self.budget.close(app, KnownGate { until: moment, opens_slowly: true }, now);
            }
            Probe::NoGate => self.budget.gate_is_gone(app, now),
        }
        Ok(())
    }

    fn pick(&self, key: &PackKey, now: Timestamp) -> Vec<Ready> {
        self.memory_queue.take(key, |line| {
            let limits = line.front().map(|first| PackLimits::new(&first.version, self.max_targets(now)));
            limits.map(|limits| pack::next_batch(line, limits)).unwrap_or_default()
        })
    }

    /// Releases deliveries whose template is not uploaded, and requests the upload.
    async fn wait_for_upload(
        &self,
        key: &PackKey,
        lease: WorkerLease,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let waiting = self.memory_queue.take(key, |line| Vec::from(std::mem::take(line)));
        self.wanted_uploads.lock().insert(key.upload());
        self.look.notify_one();
        self.release_claims(lease, &waiting, Some(now + UPLOAD_WAIT)).await
    }

    /// Releases untouched claims. If it fails, the poller reclaims them.
    pub(in crate::pipeline) async fn release_claims(
        &self,
        lease: WorkerLease,
        ready: &[Ready],
        due_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let claims: Vec<(DeliveryId, i32)> = ready.iter().map(|r| r.claim.key()).collect();
        self.memory_queue.forget(claims.iter().copied());
        if !claims.is_empty() {
            let released = self.store.release_claims(lease.id, &claims, due_at).await;
            released.inspect_err(|_| self.raise_doubt())?;
        }
        Ok(())
    }

    /// Returns whether anything was frozen.
    async fn freeze(
        &self,
        lease: WorkerLease,
        picked: Vec<Picked>,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let begun =
            async { Ok::<_, StoreError>((self.store.erasure_key().await?, self.store.begin().await?)) };
        let (key, mut tx) = match begun.await {
            Ok(begun) => begun,
            Err(error) => {
                self.unpick(picked, now);
                return Err(error);
            }
        };
        let rows = self.freeze_rows(&picked, key, now);
        let frozen = match queue::freeze(&mut tx, lease.id, &rows, now).await {
            Ok(frozen) => frozen.into_iter().collect::<HashSet<DeliveryId>>(),
            Err(error) => {
                self.unpick(picked, now);
                return Err(error);
            }
        };
        let (drafts, refused) = self.drafts(lease, picked, &frozen, now);
        let new: Vec<NewBatch> = drafts.iter().map(|draft| draft.new.clone()).collect();
        let stored =
            if new.is_empty() { Ok(()) } else { batches::insert_all(&mut tx, lease.id, &new, now).await };
        let outcome = match stored {
            Ok(()) => commit(tx).await,
            Err(error) => Committed::No(error),
        };
        match outcome {
            Committed::Yes => {
                failpoints::point("after_freeze");
                for draft in &drafts {
                    metrics::histogram!(names::BATCH_SIZE)
                        .record(f64::from(u32::try_from(draft.frozen.size).unwrap_or(u32::MAX)));
                    self.count_messages(&draft.frozen, now);
                }
                let went = !drafts.is_empty();
                self.memory_queue.put_frozen(drafts.into_iter().map(|draft| draft.frozen).collect());
                let keys: Vec<_> = refused.iter().map(|ready| ready.claim.key()).collect();
                let settled = self.settle_refused(lease, refused, now).await;
                settled.inspect_err(|_| {
                    self.memory_queue.forget(keys);
                    self.raise_doubt();
                })?;
                Ok(went)
            }
            Committed::No(_) | Committed::Unclear(_) => {
                // Whatever happened, the rows are leased to this worker: the poller finds and releases them.
                for draft in &drafts {
                    self.budget.cancel(draft.frozen.batch.app.id, now);
                    self.memory_queue.forget(draft.frozen.members.iter().map(|member| member.claim.key()));
                }
                self.memory_queue.forget(refused.iter().map(|ready| ready.claim.key()));
                self.raise_doubt();
                committed(outcome).map(|()| false)
            }
        }
    }

    /// Counts a batch's recipients for the volume guard. An audience counts as the whole app, for lack of a better
    /// number.
    pub(in crate::pipeline) fn count_messages(&self, frozen: &Frozen, now: Timestamp) {
        let app = &frozen.batch.app;
        let messages = match frozen.members.first() {
            Some(member) if member.recipient_id.is_none() => u64::from(app.subscriptions.unwrap_or_default()),
            _ => frozen.size as u64,
        };
        self.budget.sent(app.id, messages, now);
    }

    fn freeze_rows<'a>(
        &self,
        picked: &'a [Picked],
        erasures: &DigestKey,
        now: Timestamp,
    ) -> Vec<FreezeRow<'a>> {
        let each = picked.iter().flat_map(|batch| batch.members.iter().map(move |member| (batch.id, member)));
        each.map(|(batch, member)| FreezeRow {
            delivery: member.claim.delivery.id,
            epoch: member.claim.epoch,
            batch,
            recipient: member.to.person().map(|person| (person.label.as_str(), person.id.as_str())),
            digest: member.to.person().map(|to| erasures.digest(&Identifier::from(to).matching_text())),
            channel: member.version.version.channel.as_str(),
            alive_until: now + self.margin(member.key.priority),
            version: member.key.version,
            rule: member.rule.0,
        })
        .collect()
    }

    /// Drafts the batches of what was frozen, and returns the rest.
    fn drafts(
        &self,
        lease: WorkerLease,
        picked: Vec<Picked>,
        frozen: &HashSet<DeliveryId>,
        now: Timestamp,
    ) -> (Vec<Draft>, Vec<Ready>) {
        let mut drafts = Vec::with_capacity(picked.len());
        let mut refused = Vec::new();
        for batch in picked {
            let (members, not): (Vec<Ready>, Vec<Ready>) =
                batch.members.into_iter().partition(|member| frozen.contains(&member.claim.delivery.id));
            refused.extend(not);
            match self.draft(batch.id, &batch.app, &batch.copy, members, (lease.id, now)) {
                Some(draft) => drafts.push(draft),
                None => self.budget.cancel(batch.app.id, now),
            }
        }
        (drafts, refused)
    }

    fn unpick(&self, picked: Vec<Picked>, now: Timestamp) {
        for batch in picked {
            self.budget.cancel(batch.app.id, now);
            self.memory_queue.put_back(batch.members);
        }
    }

    /// What could not be frozen: it has expired, the person opted out, or it is behind a gate or leased to another
    /// worker and is released.
    async fn settle_refused(
        &self,
        lease: WorkerLease,
        refused: Vec<Ready>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if refused.is_empty() {
            return Ok(());
        }
        let people: Vec<Recipient> = refused.iter().filter_map(|r| r.to.person().cloned()).collect();
        let facts = self.store.facts(&people).await?;
        let mut transitions = Vec::new();
        let mut back = Vec::new();
        for ready in refused {
            let known = ready.to.person().and_then(|person| facts.of(person));
            let channel = ready.version.version.channel;
            let end = if ready.claim.expires_at <= now + self.margin(ready.key.priority) {
                let detail = format!("it expired at {}", ready.claim.expires_at);
                Some((DeliveryState::Expired, Decision::new(DecisionCode::Expired, detail)))
            } else if known.is_some_and(|k| k.is_erased) {
                Some((DeliveryState::Skipped, Decision::new(DecisionCode::Erased, "the person was erased")))
            } else {
                let reason = known.and_then(|known| known.opted_out.get(&channel));
                reason.map(|reason| (DeliveryState::Skipped, reason.decision(channel)))
            };
            match end {
                Some((state, decision)) => transitions.push(ended(&ready, lease, state, decision)),
                None => back.push(ready),
            }
        }
        self.settle(transitions).await?;
        self.release_claims(lease, &back, None).await?;
        self.look.notify_one();
        Ok(())
    }
}

fn is_closed(closes_at: Option<Timestamp>, now: Timestamp) -> bool {
    closes_at.is_some_and(|closes_at| closes_at <= now)
}

fn ended(ready: &Ready, lease: WorkerLease, state: DeliveryState, decision: Decision) -> Transition {
    let delivery = ready.claim.delivery.clone();
    Transition {
        after: match state {
            DeliveryState::Expired => delivery.expire(),
            other => delivery.into_state(other),
        },
        worker: Some(lease.id),
        epoch: ready.claim.epoch,
        batch: None,
        crashed: false,
        event: ready.event,
        decision: Some(decision.of_rule(&ready.rule.1).of_delivery(ready.claim.delivery.id)),
    }
}
