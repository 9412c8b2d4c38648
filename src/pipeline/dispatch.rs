//! Dispatch: due deliveries are claimed, packed into batches and frozen, as far as tokens and places for calls go.
//!
//! Freezing takes only rows that this worker still holds and that are still allowed; the batch is made of exactly the
//! rows that came back, and stored with its key in the same transaction.

use std::collections::HashSet;
use std::sync::Arc;

use chrono::TimeDelta;

use super::budget::Wait;
use super::freeze::Draft;
use super::pack::{self, Copy, PackKey, PackLimits, Ready};
use super::record::{Moved, committed};
use super::{Pipeline, WorkerLease, crash};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::event::Recipient;
use crate::domain::id::{BatchId, DeliveryId};
use crate::store::batches::NewBatch;
use crate::store::queue::FreezeRow;
use crate::store::{Committed, StoreError, batches, commit, queue};
use crate::telemetry::names;

/// Batches that are frozen in one transaction at most.
const BATCHES_AT_ONCE: usize = 64;
/// How long a delivery rests whose template is not uploaded.
const UPLOAD_WAIT: TimeDelta = TimeDelta::seconds(2);

/// What a round of dispatch came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// Batches went on their way; there may be more.
    Went,
    /// Nothing can go before this moment, or before something happens.
    Rest(Option<Timestamp>),
}

/// A batch in the making: its members are picked, its token and place are taken.
struct Picked {
    id: BatchId,
    app: Arc<App>,
    copy: Copy,
    members: Vec<Ready>,
}

impl Pipeline {
    /// Freezes what can go now and puts it in line for its call.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; nothing is lost and trying again helps.
    pub async fn dispatch(&self) -> Result<Round, StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.present_lease(now) else { return Ok(Round::Rest(None)) };
        let catalog = self.catalog.get(&self.store).await?;
        let mut rest = None;
        let mut may_begin = |app: &App| match self.budget.begin(app, now) {
            Ok(()) => true,
            Err(Wait::ForPlace) => false,
            Err(Wait::Until(moment)) => {
                rest = Some(rest.map_or(moment, |earlier: Timestamp| earlier.min(moment)));
                false
            }
        };
        let retries = self.line.take_retries(|frozen| may_begin(&frozen.batch.app));
        let retries = self.begin_late_anew(retries, now).await?;
        let mut went = !retries.is_empty();
        self.line.put_frozen(retries);
        let mut picked = Vec::new();
        for key in self.line.waiting_keys() {
            let Some(app) = catalog.app(Some(key.app)) else { continue };
            let Some(copy) = self.copy_of(&key) else {
                if let Err(error) = self.wait_for_upload(&key, lease, now).await {
                    self.unpick(picked);
                    return Err(error);
                }
                continue;
            };
            while picked.len() < BATCHES_AT_ONCE && may_begin(app) {
                let members = self.pick(&key);
                if members.is_empty() {
                    self.budget.cancel(app.id);
                    break;
                }
                let id = self.ids.next(now);
                picked.push(Picked { id, app: Arc::clone(app), copy: copy.clone(), members });
            }
        }
        if !picked.is_empty() {
            went |= self.freeze(lease, picked, now).await?;
        }
        Ok(if went { Round::Went } else { Round::Rest(rest) })
    }

    fn pick(&self, key: &PackKey) -> Vec<Ready> {
        let pick = |line: &mut std::collections::VecDeque<Ready>| {
            let limits = line.front().map(|first| PackLimits::new(&first.version, self.limits.max_targets));
            limits.map(|limits| pack::next_batch(line, limits)).unwrap_or_default()
        };
        self.line.take(key, pick).unwrap_or_default()
    }

    /// Gives deliveries back whose template is not uploaded, and has it uploaded.
    async fn wait_for_upload(
        &self,
        key: &PackKey,
        lease: WorkerLease,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let waiting = self.line.take(key, std::mem::take).unwrap_or_default();
        self.wanted_uploads.lock().insert(key.upload());
        self.look.notify_one();
        self.give_back(lease, &Vec::from(waiting), Some(now + UPLOAD_WAIT)).await
    }

    /// Gives claims back untouched.
    pub(super) async fn give_back(
        &self,
        lease: WorkerLease,
        ready: &[Ready],
        due_at: Option<Timestamp>,
    ) -> Result<(), StoreError> {
        let claims: Vec<(DeliveryId, i32)> = ready.iter().map(|r| r.claim.key()).collect();
        self.line.let_go(claims.iter().copied());
        if !claims.is_empty() {
            self.store.release_claims(lease.id, &claims, due_at).await?;
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
        let mut tx = match self.store.begin().await {
            Ok(tx) => tx,
            Err(error) => {
                self.unpick(picked);
                return Err(error);
            }
        };
        let frozen = match queue::freeze(&mut tx, lease.id, &self.freeze_rows(&picked, now), now).await {
            Ok(frozen) => frozen.into_iter().collect::<HashSet<DeliveryId>>(),
            Err(error) => {
                self.unpick(picked);
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
                crash::point("after_freeze");
                for draft in &drafts {
                    metrics::histogram!(names::BATCH_SIZE)
                        .record(f64::from(u32::try_from(draft.frozen.size).unwrap_or(u32::MAX)));
                }
                let went = !drafts.is_empty();
                self.line.put_frozen(drafts.into_iter().map(|draft| draft.frozen).collect());
                let keys: Vec<_> = refused.iter().map(|ready| ready.claim.key()).collect();
                let settled = self.settle_refused(lease, refused, now).await;
                settled.inspect_err(|_| {
                    self.line.let_go(keys);
                    self.raise_doubt();
                })?;
                Ok(went)
            }
            Committed::No(_) | Committed::Unclear(_) => {
                // Whatever became of it, the rows stand in our name: the look-out finds and gives them back.
                for draft in &drafts {
                    self.budget.cancel(draft.frozen.batch.app.id);
                    self.line.let_go(draft.frozen.members.iter().map(|member| member.claim.key()));
                }
                self.line.let_go(refused.iter().map(|ready| ready.claim.key()));
                self.raise_doubt();
                committed(outcome).map(|()| false)
            }
        }
    }

    fn freeze_rows<'a>(&self, picked: &'a [Picked], now: Timestamp) -> Vec<FreezeRow<'a>> {
        let each = picked.iter().flat_map(|batch| batch.members.iter().map(move |member| (batch.id, member)));
        each.map(|(batch, member)| FreezeRow {
            delivery: member.claim.delivery.id,
            epoch: member.claim.epoch,
            batch,
            recipient: member.to.person().map(|person| (person.label.as_str(), person.id.as_str())),
            channel: member.version.version.channel.as_str(),
            alive_until: now + self.margin(member.key.lane),
        })
        .collect()
    }

    /// Drafts the batches of what was frozen, and returns what was not.
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
                None => self.budget.cancel(batch.app.id),
            }
        }
        (drafts, refused)
    }

    fn unpick(&self, picked: Vec<Picked>) {
        for batch in picked {
            self.budget.cancel(batch.app.id);
            self.line.put_back(batch.members);
        }
    }

    /// What could not be frozen: its time is over, the person does not want it any more, or it stands behind a gate
    /// or in another's name and goes back.
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
        let mut moves = Vec::new();
        let mut back = Vec::new();
        for ready in refused {
            let known = ready.to.person().and_then(|person| facts.of(person));
            let channel = ready.version.version.channel;
            let end = if ready.claim.expires_at <= now + self.margin(ready.key.lane) {
                let detail = format!("it was worth sending until {}", ready.claim.expires_at);
                Some((DeliveryState::Expired, Decision::new(DecisionCode::Expired, detail)))
            } else if known.is_some_and(|k| k.is_erased) {
                Some((
                    DeliveryState::Skipped,
                    Decision::new(DecisionCode::Erased, "the person asked to be forgotten"),
                ))
            } else if known.is_some_and(|k| k.opted_out.contains(&channel)) {
                let detail = format!("the person does not want {channel}");
                Some((DeliveryState::Skipped, Decision::new(DecisionCode::OptedOut, detail)))
            } else {
                None
            };
            match end {
                Some((state, decision)) => moves.push(ended(&ready, lease, state, decision)),
                None => back.push(ready),
            }
        }
        self.settle(moves).await?;
        self.give_back(lease, &back, None).await?;
        self.look.notify_one();
        Ok(())
    }
}

fn ended(ready: &Ready, lease: WorkerLease, state: DeliveryState, decision: Decision) -> Moved {
    let delivery = ready.claim.delivery.clone();
    Moved {
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
