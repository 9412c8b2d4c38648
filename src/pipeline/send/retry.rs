//! Retries of frozen batches: rebuilt from their members, compared with what was frozen, and sent unchanged under the
//! same key. A batch that can't be rebuilt identically is not sent: its result is unknown.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use chrono::TimeDelta;

use crate::domain::batch::{Batch, BatchContent};
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::{Delivery, DeliveryState};
use crate::domain::event::Recipient;
use crate::domain::id::{BatchId, DeliveryId, WorkerId};
use crate::domain::rule::TEST_SEND;
use crate::domain::snapshot::UploadKey;
use crate::domain::template::Mode;
use crate::pipeline::send::batch_draft::fingerprinted;
use crate::pipeline::send::hours::{Opening, SendingHours, opening_of_all};
use crate::pipeline::send::load::Loaded;
use crate::pipeline::send::memory_queue::{Frozen, Member};
use crate::pipeline::send::pack;
use crate::pipeline::send::pack::Ready;
use crate::pipeline::send::record::Transition;
use crate::pipeline::{Pipeline, WorkerLease};
use crate::store::StoreError;
use crate::store::batches::{NewBatch, StoredBatch};
use crate::store::queue::Claim;
use crate::vault::Comparison;

/// The maximum number of batches in memory that wait for their next attempt.
const RETRIES_WAITING: usize = 256;
/// The maximum number of batches taken over at once.
const RETRIES_AT_ONCE: i64 = 64;

/// How long a batch waits for its template to be uploaded again.
const UPLOAD_WAIT: TimeDelta = TimeDelta::seconds(2);

/// What becomes of claimed batches.
struct Claimed {
    /// Those that are sent again.
    ready: Vec<Frozen>,
    /// The transitions of the members of the others.
    transitions: Vec<Transition>,
    /// Attempts that were recorded with the claim, but are not made now.
    unmade: Vec<(BatchId, i32, WorkerId)>,
}

/// A stored batch before its next attempt.
enum Rebuilt {
    /// It can be sent again, unchanged.
    Ready(Box<Frozen>),
    /// OneSignal does not have its template at present.
    NotUploaded(UploadKey),
    /// Its members' rules allow it next at this time.
    OutsideHours(Timestamp),
    /// It can't be sent again.
    Over,
}

impl Pipeline {
    /// Claims retrying batches that are due and queues them; returns how many.
    pub(in crate::pipeline) async fn claim_retries(
        &self,
        lease: WorkerLease,
        now: Timestamp,
    ) -> Result<usize, StoreError> {
        if self.memory_queue.retries_waiting() >= RETRIES_WAITING {
            return Ok(0);
        }
        let closed: Vec<uuid::Uuid> = self.stopped_apps(now).await?.into_iter().map(|app| app.0).collect();
        let claims = self.store.claim_retries(lease.id, &closed, RETRIES_AT_ONCE, now).await?;
        if claims.is_empty() {
            return Ok(0);
        }
        let keys: Vec<(DeliveryId, i32)> = claims.iter().map(Claim::key).collect();
        self.memory_queue.hold(keys.iter().copied());
        crate::pipeline::worker::failpoints::point("after_claim");
        let rebuilt = self.rebuild_all(lease, claims, now).await;
        // What failed halfway is leased to this worker as `sending` without a call: the poller reclaims it once it is
        // no longer held.
        let Claimed { ready, transitions, unmade } = rebuilt.inspect_err(|_| self.forget_claims(&keys))?;
        let count = ready.len();
        let going: HashSet<(DeliveryId, i32)> =
            ready.iter().flat_map(|frozen| frozen.members.iter().map(|m| m.claim.key())).collect();
        for frozen in ready {
            self.memory_queue.put_retry(frozen);
        }
        let rest: Vec<_> = keys.into_iter().filter(|key| !going.contains(key)).collect();
        self.settle(transitions).await.inspect_err(|_| self.forget_claims(&rest))?;
        self.store.forget_attempts(&unmade).await?;
        Ok(count)
    }

    fn forget_claims(&self, keys: &[(DeliveryId, i32)]) {
        self.memory_queue.forget(keys.iter().copied());
        self.raise_doubt();
    }

    /// What becomes of claimed batches.
    async fn rebuild_all(
        &self,
        lease: WorkerLease,
        claims: Vec<Claim>,
        now: Timestamp,
    ) -> Result<Claimed, StoreError> {
        let mut by_batch: BTreeMap<BatchId, Vec<Claim>> = BTreeMap::new();
        for claim in claims {
            if let Some(batch) = claim.batch {
                by_batch.entry(batch).or_default().push(claim);
            }
        }
        let ids: Vec<BatchId> = by_batch.keys().copied().collect();
        let stored = self.store.find_batches(&ids).await?;
        let members: Vec<DeliveryId> = stored.iter().flat_map(|b| b.frozen.members.iter().copied()).collect();
        let loaded = self.load(&members).await?;
        let hours = self.sending_hours(&loaded).await?;
        let (mut ready, mut transitions, mut unmade) = (Vec::new(), Vec::new(), Vec::new());
        for batch in stored {
            let attempt = (batch.frozen.id, batch.attempt, lease.id);
            let claims = by_batch.remove(&batch.frozen.id).unwrap_or_default();
            if batch.worker != lease.id {
                // This process stalled after the claim, and another one has taken the batch over: the attempt in
                // progress is theirs.
                self.forget_claims(&claims.iter().map(Claim::key).collect::<Vec<_>>());
                continue;
            }
            match self.rebuild(lease, &batch, &claims, (&loaded, &hours), now).await? {
                Rebuilt::Ready(frozen) => ready.push(*frozen),
                Rebuilt::NotUploaded(frozen) => {
                    self.wanted_uploads.lock().insert(frozen);
                    unmade.push(attempt);
                    transitions.extend(Self::reschedule(lease, &batch, claims, &loaded, now + UPLOAD_WAIT));
                }
                Rebuilt::OutsideHours(opens_at) => {
                    unmade.push(attempt);
                    transitions.extend(Self::reschedule(lease, &batch, claims, &loaded, opens_at));
                }
                Rebuilt::Over => transitions.extend(self.end_of_batch(lease, &batch, claims, &loaded, now)),
            }
        }
        Ok(Claimed { ready, transitions, unmade })
    }

    /// The batch as it was frozen, if it can still be sent.
    async fn rebuild(
        &self,
        lease: WorkerLease,
        stored: &StoredBatch,
        claims: &[Claim],
        (loaded, hours): (&HashMap<DeliveryId, Loaded>, &HashMap<DeliveryId, SendingHours>),
        now: Timestamp,
    ) -> Result<Rebuilt, StoreError> {
        let frozen = &stored.frozen;
        let expiries = frozen.members.iter().filter_map(|id| Some(loaded.get(id)?.row.expires_at));
        let Some(expires_at) = expiries.min() else { return Ok(Rebuilt::Over) };
        let Some(priority) = claims.first().map(|claim| claim.delivery.priority) else {
            return Ok(Rebuilt::Over);
        };
        if expires_at <= now + self.margin(priority) {
            return Ok(Rebuilt::Over);
        }
        // A batch that was certainly not sent is packed again without those who opted out. One that may have been sent
        // is not: without all of its members it could not keep its key.
        let is_doubtful = claims.iter().any(|claim| claim.delivery.may_have_been_sent());
        if !is_doubtful && claims.len() < frozen.members.len() {
            // A member was cancelled after the freeze.
            return Ok(Rebuilt::Over);
        }
        if (!is_doubtful || frozen.members.len() == 1) && self.any_opted_out(stored, loaded).await? {
            return Ok(Rebuilt::Over);
        }
        let closes_at = match hours_of(frozen, hours, (now, expires_at), is_doubtful) {
            Ok(closes_at) => closes_at,
            Err(rebuilt) => return Ok(rebuilt),
        };
        let catalog = self.catalog.get(&self.store).await?;
        let Some(app) = catalog.app(Some(frozen.app)).cloned() else { return Ok(Rebuilt::Over) };
        let key = UploadKey { app: frozen.app, version: frozen.version, locale: frozen.locale.clone() };
        if !self.needs_no_upload(&key).await? {
            return Ok(Rebuilt::NotUploaded(key));
        }
        let Some(content) = self.content_again(stored, claims, loaded).await? else {
            return Ok(Rebuilt::Over);
        };
        let compare = |kept: &Vec<u8>| self.store.vault().compare(kept, &fingerprinted(&content));
        if frozen.body_fingerprint.as_ref().map(compare) == Some(Comparison::Different) {
            tracing::error!(batch.id = %frozen.id, "batch {} can't be rebuilt identically and is not sent", frozen.id);
            return Ok(Rebuilt::Over);
        }
        let members =
            claims.iter().filter_map(|claim| Some(member(claim, loaded.get(&claim.delivery.id)?))).collect();
        let batch = Batch {
            id: frozen.id,
            app,
            idempotency_key: frozen.idempotency_key,
            content: Arc::new(content),
            priority,
            expires_at,
            traceparent: None,
            holds_secrets: holds_secrets(&frozen.members, loaded),
        };
        Ok(Rebuilt::Ready(Box::new(Frozen {
            batch,
            members,
            version: frozen.version,
            worker: lease.id,
            size: frozen.members.len(),
            attempt: stored.attempt,
            started_at: stored.started_at,
            closes_at,
        })))
    }

    /// Whether a version's locale is at OneSignal, or is included in the request.
    async fn needs_no_upload(&self, key: &UploadKey) -> Result<bool, StoreError> {
        let version = self.catalog.version(&self.store, key.version).await?;
        let is_inline = version.is_some_and(|version| version.version.content.mode == Mode::Inline);
        Ok(is_inline || self.catalog.upload(key).is_some())
    }

    /// Whether a member opted out or was erased since the freeze.
    async fn any_opted_out(
        &self,
        stored: &StoredBatch,
        loaded: &HashMap<DeliveryId, Loaded>,
    ) -> Result<bool, StoreError> {
        let rows = stored.frozen.members.iter().filter_map(|id| loaded.get(id)).map(|one| &one.row);
        let people: Vec<(Recipient, String)> =
            rows.filter_map(|row| Some((row.recipient.clone()?, row.channel.clone()))).collect();
        let facts =
            self.store.facts(&people.iter().map(|(person, _)| person.clone()).collect::<Vec<_>>()).await?;
        Ok(people.iter().any(|(person, channel)| {
            facts.of(person).is_some_and(|known| {
                known.is_erased
                    || channel.parse::<Channel>().is_ok_and(|channel| known.opted_out.contains_key(&channel))
            })
        }))
    }

    async fn content_again(
        &self,
        stored: &StoredBatch,
        claims: &[Claim],
        loaded: &HashMap<DeliveryId, Loaded>,
    ) -> Result<Option<BatchContent>, StoreError> {
        let frozen = &stored.frozen;
        let Some(version) = self.catalog.version(&self.store, frozen.version).await? else { return Ok(None) };
        let Some(claim) = claims.first() else { return Ok(None) };
        let mut members = Vec::with_capacity(frozen.members.len());
        for id in &frozen.members {
            let Some(one) = loaded.get(id) else { return Ok(None) };
            let (Ok(message), Some(to)) =
                (self.compose(&version, &frozen.locale, one.data()).await, one.addressee())
            else {
                return Ok(None);
            };
            members.push(Ready {
                claim: claim.clone(),
                key: pack::PackKey {
                    priority: claim.delivery.priority,
                    app: frozen.app,
                    version: frozen.version,
                    locale: frozen.locale.clone(),
                    label: to.label().cloned(),
                    schedule: one.schedule(),
                    is_inline: message.is_inline(),
                    is_test_send: one.row.rule.1 == TEST_SEND,
                },
                version: Arc::clone(&version),
                to,
                message,
                event: one.event.id,
                posted: (one.event.source, one.event.own_name().as_ref().into()),
                rule: (one.row.rule.0, one.row.rule.1.as_str().into()),
                replay_of: one.row.replay_of,
                traceparent: None,
                holds_secrets: one.has_values_of_its_own(),
                closes_at: None,
                turn: 0,
            });
        }
        let Some(key) = members.first().map(|first| first.key.clone()) else { return Ok(None) };
        let Some(copy) = self.copy_of(&key) else { return Ok(None) };
        let references: Vec<&Ready> = members.iter().collect();
        Ok(pack::content(&key, &references, &copy))
    }

    /// The members of a batch that has to wait.
    fn reschedule(
        lease: WorkerLease,
        stored: &StoredBatch,
        claims: Vec<Claim>,
        loaded: &HashMap<DeliveryId, Loaded>,
        due_at: Timestamp,
    ) -> Vec<Transition> {
        let wait = |claim: Claim| {
            Some(Transition {
                event: loaded.get(&claim.delivery.id)?.event.id,
                after: claim.delivery.into_state(DeliveryState::Retrying { due_at }),
                worker: Some(lease.id),
                epoch: claim.epoch,
                batch: Some(stored.frozen.id),
                crashed: false,
                decision: None,
            })
        };
        claims.into_iter().filter_map(wait).collect()
    }

    /// The transitions of the members of a batch that is not sent again. If it was certainly not sent, those that have
    /// not expired are packed again.
    fn end_of_batch(
        &self,
        lease: WorkerLease,
        stored: &StoredBatch,
        claims: Vec<Claim>,
        loaded: &HashMap<DeliveryId, Loaded>,
        now: Timestamp,
    ) -> Vec<Transition> {
        let end = |claim: Claim| {
            let one = loaded.get(&claim.delivery.id)?;
            let is_over = claim.expires_at <= now + self.margin(claim.delivery.priority);
            let (after, decision) = ending(claim.delivery, is_over, now);
            Some(Transition {
                decision: Some(decision.of_rule(&one.row.rule.1).of_delivery(after.id)),
                after,
                worker: Some(lease.id),
                epoch: claim.epoch,
                batch: Some(stored.frozen.id),
                crashed: false,
                event: one.event.id,
            })
        };
        claims.into_iter().filter_map(end).collect()
    }

    /// Releases frozen batches whose attempt was never made.
    pub(in crate::pipeline) async fn release_frozen(&self, frozen: Vec<Frozen>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let keys: Vec<_> = frozen.iter().flat_map(|f| f.members.iter().map(|m| m.claim.key())).collect();
        let transitions = frozen.into_iter().flat_map(|frozen| {
            let (worker, batch) = (Some(frozen.worker), Some(frozen.batch.id));
            frozen.members.into_iter().map(move |member| Transition {
                after: unsent(member.claim.delivery, now),
                worker,
                epoch: member.claim.epoch,
                batch,
                crashed: false,
                event: member.event,
                decision: None,
            })
        });
        // Whether or not it succeeds, nothing holds them any more: the poller reclaims what is still leased.
        self.settle(transitions.collect()).await.inspect_err(|_| self.forget_claims(&keys)).map(|_| ())
    }

    /// Reclaims rows leased to this worker that it does not hold: claims whose response was lost, commits whose result
    /// was unknown. None of them was sent.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn reclaim_orphaned(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.present_lease(now) else { return Ok(0) };
        let rows = self.store.rows_of(lease.id).await?;
        let forgotten: Vec<_> = rows
            .into_iter()
            .filter(|row| !self.memory_queue.holds(row.claim.delivery.id, row.claim.epoch))
            .collect();
        if forgotten.is_empty() {
            return Ok(0);
        }
        let ids: HashSet<DeliveryId> = forgotten.iter().map(|row| row.claim.delivery.id).collect();
        let loaded = self.load(&ids.into_iter().collect::<Vec<_>>()).await?;
        let count = forgotten.len();
        let transitions = forgotten.into_iter().filter_map(|row| {
            let event = loaded.get(&row.claim.delivery.id)?.event.id;
            let after = unsent(row.claim.delivery, now);
            Some(Transition {
                after,
                worker: Some(lease.id),
                epoch: row.claim.epoch,
                batch: row.claim.batch,
                crashed: false,
                event,
                decision: None,
            })
        });
        self.settle(transitions.collect()).await?;
        tracing::info!(deliveries = count, "{count} orphaned deliveries were reclaimed");
        Ok(count)
    }
}

/// When the send windows of a batch's members close; or the batch's fate if they don't allow it now.
fn hours_of(
    frozen: &NewBatch,
    hours: &HashMap<DeliveryId, SendingHours>,
    (now, expires_at): (Timestamp, Timestamp),
    is_doubtful: bool,
) -> Result<Option<Timestamp>, Rebuilt> {
    let own: Vec<&SendingHours> = frozen.members.iter().filter_map(|id| hours.get(id)).collect();
    match opening_of_all(&own, now, expires_at) {
        Opening::Open { closes_at } => Ok(closes_at),
        Opening::At(opens_at) if is_doubtful => Err(Rebuilt::OutsideHours(opens_at)),
        // A batch that was certainly not sent is packed again, each member with those whose hours are the same.
        Opening::At(_) | Opening::Never => Err(Rebuilt::Over),
    }
}

/// A delivery whose present attempt was never made.
fn unsent(delivery: Delivery, now: Timestamp) -> Delivery {
    match delivery.due_at() {
        Some(due_at) => delivery.into_state(DeliveryState::Queued { due_at }),
        None if delivery.may_have_been_sent() => delivery.into_state(DeliveryState::Retrying { due_at: now }),
        None => delivery.regroup(now),
    }
}

fn ending(delivery: Delivery, is_over: bool, now: Timestamp) -> (Delivery, Decision) {
    let doubtful = delivery.may_have_been_sent();
    match (is_over, doubtful) {
        (true, false) => {
            (delivery.expire(), Decision::new(DecisionCode::Expired, "it expired before it was sent"))
        }
        (false, false) => {
            let detail = "its batch was never sent and is packed again";
            (delivery.regroup(now), Decision::new(DecisionCode::Split, detail))
        }
        (_, true) => {
            let detail = "it may have been sent, and its batch can't be sent again";
            (delivery.give_up(), Decision::new(DecisionCode::Unknown, detail))
        }
    }
}

/// Whether the message of any of these deliveries may contain values that are sealed in the database.
fn holds_secrets(members: &[DeliveryId], loaded: &HashMap<DeliveryId, Loaded>) -> bool {
    members.iter().any(|id| loaded.get(id).is_some_and(Loaded::has_values_of_its_own))
}

fn member(claim: &Claim, loaded: &Loaded) -> Member {
    Member {
        claim: claim.clone(),
        recipient_id: loaded.row.recipient.as_ref().map(|recipient| recipient.id.clone()),
        event: loaded.event.id,
        rule: loaded.row.rule.1.as_str().into(),
    }
}
