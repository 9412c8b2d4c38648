//! Cancels pending deliveries: by key, by event or by delivery.
//!
//! A delivery can be cancelled as long as no attempt of it may have reached the person. Its queue row is locked first:
//! a freeze that came first wins, and one that comes later finds the row gone. What could not be cancelled is read
//! afterwards, so that its latest state is reported. For messages that OneSignal holds until their time a recall is
//! requested (see `recall`).

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::{DeliveryState, StateName};
use crate::domain::event::KeySpace;
use crate::domain::id::{DeliveryId, EventId, TypedId};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::digest::emptied;
use crate::pipeline::send::record::{Transition, committed};
use crate::store::cancellable::{self, Named, Waiting};
use crate::store::delivery_reads::{self, DeliveryRow};
use crate::store::digest_windows::TakenOut;
use crate::store::scheduled_messages::{self, ScheduledMessage};
use crate::store::{StoreError, Tx, commit};
use crate::vault::sha256;

/// What a cancellation finds deliveries by: only those of its own source, even if others use the same keys.
pub fn cancel_digest(space: KeySpace, key: &str) -> [u8; 32] {
    let mut name = space.source.uuid().as_bytes().to_vec();
    name.extend_from_slice(space.name(key).as_bytes());
    sha256(&name)
}

/// What to cancel.
#[derive(Debug, Clone, Copy)]
pub enum Unwanted<'a> {
    /// Pending deliveries under a source's cancellation key.
    Key(KeySpace, &'a str),
    /// Open deliveries of an event.
    Event(EventId),
    /// These deliveries.
    Deliveries(&'a [DeliveryId]),
}

/// The result of a cancellation for one delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It is cancelled, or would be.
    Cancelled,
    /// It is sent with the other events of its digest, without this one.
    TakenOut,
    /// OneSignal holds it until its time and is asked to cancel it, or would be.
    Recalling,
    /// OneSignal holds it until its time, in one message with others that have not been cancelled: it is recalled once
    /// they are cancelled as well.
    SharesCall,
    /// Too late: a call with it is in progress.
    BeingSent,
    /// Too late: it may have been sent; the result is not known yet.
    MayHaveBeenSent,
    /// Too late: OneSignal accepted it.
    Accepted,
    /// It had already ended without a message: there is nothing to cancel.
    Over,
}

impl Outcome {
    /// Its name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cancelled => "cancelled",
            Self::TakenOut => "taken_out",
            Self::Recalling => "recalling",
            Self::SharesCall => "shares_call",
            Self::BeingSent => "being_sent",
            Self::MayHaveBeenSent => "may_have_been_sent",
            Self::Accepted => "accepted",
            Self::Over => "over",
        }
    }

    /// Whether the person gets the message anyway, or may.
    pub fn is_too_late(self) -> bool {
        match self {
            Self::SharesCall | Self::BeingSent | Self::MayHaveBeenSent | Self::Accepted => true,
            Self::Cancelled | Self::TakenOut | Self::Recalling | Self::Over => false,
        }
    }
}

/// One delivery that a cancellation covers.
#[derive(Debug, Clone)]
pub struct Cancellation {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its rule's key.
    pub rule: String,
    /// Its state.
    pub state: StateName,
    /// The result.
    pub outcome: Outcome,
}

impl Pipeline {
    /// Cancels pending deliveries and reports the result for each. Idempotent. `is_dry` changes nothing.
    ///
    /// # Errors
    /// [`StoreError`]; retrying helps and cancels nothing twice.
    pub async fn cancel(
        &self,
        unwanted: Unwanted<'_>,
        why: &str,
        is_dry: bool,
    ) -> Result<Vec<Cancellation>, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        // Only this event is taken out of a digest; a dry run is rolled back.
        let taken = match unwanted {
            Unwanted::Event(event) => self.take_out(&mut tx, &[event], &[], why, now).await?,
            Unwanted::Key(space, key) => {
                let wanted = [(cancel_digest(space, key), why.to_owned())];
                self.take_out(&mut tx, &[], &wanted, why, now).await?
            }
            Unwanted::Deliveries(_) => Vec::new(),
        };
        let mut ids = ids_of(&mut tx, unwanted).await?;
        let rest = without_taken(&mut ids, &taken);
        let named = Named { ids: &ids, ..Named::default() };
        if is_dry {
            let cancellable = cancellable::find(&mut tx, named).await?;
            let would = cancellable.iter().map(|w| w.claim.delivery.id).collect();
            let held = self.held_by_onesignal(&mut tx, &ids, &would).await?;
            let mut reported = report(&mut tx, &ids, &would, &held).await?;
            reported.extend(report_taken(&mut tx, &rest).await?);
            return Ok(reported);
        }
        let found = cancellable::lock(&mut tx, named).await?;
        let transitions: Vec<Transition> = found.into_iter().map(|waiting| cancelled(waiting, why)).collect();
        let applied = if transitions.is_empty() {
            HashSet::new()
        } else {
            self.write_transitions(&mut tx, &transitions, now).await?
        };
        let applied: HashSet<DeliveryId> = applied.into_iter().map(|(id, _)| id).collect();
        let held = self.held_by_onesignal(&mut tx, &ids, &applied).await?;
        let wanted: Vec<(ScheduledMessage, String)> =
            held.values().map(|held| (held.clone(), why.to_owned())).collect();
        self.request_recall(&mut tx, &wanted, now).await?;
        let mut reported = report(&mut tx, &ids, &applied, &held).await?;
        reported.extend(report_taken(&mut tx, &rest).await?);
        committed(commit(tx).await)?;
        self.wake_for_unblocked();
        Ok(reported)
    }

    /// What could not be cancelled here, and is at OneSignal or in flight until its time.
    async fn held_by_onesignal(
        &self,
        tx: &mut Tx,
        ids: &[DeliveryId],
        cancelled: &HashSet<DeliveryId>,
    ) -> Result<BTreeMap<DeliveryId, ScheduledMessage>, StoreError> {
        let rest: Vec<DeliveryId> = ids.iter().filter(|id| !cancelled.contains(id)).copied().collect();
        if rest.is_empty() {
            return Ok(BTreeMap::new());
        }
        let found = scheduled_messages::find(tx, &rest, &[]).await?;
        Ok(found.into_iter().map(|held| (held.delivery, held)).collect())
    }
}

/// The end of a delivery that is cancelled.
pub(in crate::pipeline) fn cancelled(waiting: Waiting, why: &str) -> Transition {
    ended(waiting, DeliveryState::Cancelled, Decision::new(DecisionCode::Cancelled, why))
}

/// The transition that ends a pending delivery.
pub(in crate::pipeline) fn ended(waiting: Waiting, state: DeliveryState, decision: Decision) -> Transition {
    let id = waiting.claim.delivery.id;
    Transition {
        epoch: waiting.claim.epoch,
        after: waiting.claim.delivery.into_state(state),
        worker: waiting.worker,
        batch: waiting.claim.batch,
        crashed: false,
        event: waiting.event,
        decision: Some(decision.of_rule(&waiting.rule).of_delivery(id)),
    }
}

/// The deliveries that a cancellation covers.
async fn ids_of(tx: &mut Tx, unwanted: Unwanted<'_>) -> Result<Vec<DeliveryId>, StoreError> {
    match unwanted {
        Unwanted::Key(space, key) => {
            let digest = [cancel_digest(space, key)];
            let mut ids = cancellable::open_under(tx, &digest).await?;
            ids.extend(
                scheduled_messages::find(tx, &[], &digest).await?.into_iter().map(|held| held.delivery),
            );
            ids.sort_unstable();
            ids.dedup();
            Ok(ids)
        }
        Unwanted::Event(event) => Ok(delivery_reads::deliveries_and_replays_of(tx, event)
            .await?
            .into_iter()
            .map(|row| row.id)
            .collect()),
        Unwanted::Deliveries(ids) => Ok(ids.to_vec()),
    }
}

/// Keeps deliveries that still have other events in their digest, and ends those that do not. Returns the former.
fn without_taken(ids: &mut Vec<DeliveryId>, taken: &[TakenOut]) -> Vec<DeliveryId> {
    let empty = emptied(taken);
    let mut rest: Vec<DeliveryId> =
        taken.iter().map(|one| one.delivery).filter(|id| !empty.contains_key(id)).collect();
    rest.dedup();
    ids.retain(|id| !rest.contains(id));
    ids.extend(empty.into_keys());
    ids.sort_unstable();
    ids.dedup();
    rest
}

/// The digests that are sent without the events taken out of them.
async fn report_taken(tx: &mut Tx, ids: &[DeliveryId]) -> Result<Vec<Cancellation>, StoreError> {
    let cancellation = |row: DeliveryRow| Cancellation {
        delivery: row.id,
        rule: row.rule.1,
        state: row.state,
        outcome: Outcome::TakenOut,
    };
    Ok(delivery_reads::deliveries_with(tx, ids).await?.into_iter().map(cancellation).collect())
}

/// The result for these deliveries. It is read after their rows were locked, so anything not cancelled has applied on.
async fn report(
    tx: &mut Tx,
    ids: &[DeliveryId],
    cancelled: &HashSet<DeliveryId>,
    held: &BTreeMap<DeliveryId, ScheduledMessage>,
) -> Result<Vec<Cancellation>, StoreError> {
    let rows: HashMap<DeliveryId, DeliveryRow> =
        delivery_reads::deliveries_with(tx, ids).await?.into_iter().map(|row| (row.id, row)).collect();
    let cancellation = |row: &DeliveryRow| Cancellation {
        delivery: row.id,
        rule: row.rule.1.clone(),
        state: row.state,
        outcome: match held.get(&row.id) {
            _ if cancelled.contains(&row.id) => Outcome::Cancelled,
            Some(held) if held.shares_call => Outcome::SharesCall,
            Some(_) => Outcome::Recalling,
            None => outcome(row),
        },
    };
    Ok(ids.iter().filter_map(|id| rows.get(id)).map(cancellation).collect())
}

fn outcome(row: &DeliveryRow) -> Outcome {
    match row.state.as_str() {
        "sending" => Outcome::BeingSent,
        // In doubt, or taken by another process since it was read.
        "queued" | "retrying" | "held" | "unknown" => Outcome::MayHaveBeenSent,
        "accepted" => Outcome::Accepted,
        _ => Outcome::Over,
    }
}
