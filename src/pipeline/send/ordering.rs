//! Ordered delivery: one at a time for each source, ordering key and recipient.
//!
//! Only the head of such an ordering lane can be claimed; the others are due in the far future. When a head ends, the
//! next delivery is unblocked in the same transaction. A head that does not end is taken out of its ordering lane after
//! a while, and the others proceed without it.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::Ordering;

use chrono::TimeDelta;

use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EventId};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::intake::Pending;
use crate::pipeline::ingest::throttle::addressee_digest;
use crate::pipeline::operator::cancel::cancel_digest;
use crate::pipeline::plan::{InitialState, PlannedDelivery};
use crate::pipeline::send::record::committed;
use crate::store::decisions::{self, NewDecision};
use crate::store::ordering_lanes::{self, OrderDigests, Place};
use crate::store::{StoreError, Tx, commit};
use crate::vault::sha256;

/// How long a head may block the others.
const LONGEST_HOLD: TimeDelta = TimeDelta::minutes(15);
/// The maximum number of ordering lanes handled in one transaction.
const AT_ONCE: i64 = 500;

fn order_digest(event: &Event, key: &str, planned: &PlannedDelivery) -> [u8; 32] {
    let mut name = cancel_digest(event.key_space(), key).to_vec();
    name.extend_from_slice(&addressee_digest(&planned.to));
    sha256(&name)
}

impl Pipeline {
    /// Assigns the new events' ordered deliveries their positions, and advances the ordering lanes whose head has ended.
    pub(in crate::pipeline) async fn assign_positions(
        &self,
        tx: &mut Tx,
        group: &mut [Pending],
        won: &HashSet<EventId>,
        ended: OrderDigests,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut arriving = arriving(group, won);
        let digests: OrderDigests = arriving.keys().copied().chain(ended.iter().copied()).collect();
        if digests.is_empty() {
            return Ok(());
        }
        let last = ordering_lanes::lock(tx, &digests, now).await?;
        let occupied = self.unblock_next_locked(tx, &digests, now).await?;
        let mut noted = BTreeMap::new();
        let mut empty = Vec::new();
        for digest in digests {
            let is_free = !occupied.contains(&digest);
            let arriving = arriving.remove(&digest).unwrap_or_default();
            if arriving.is_empty() {
                if is_free {
                    empty.push(digest);
                }
                continue;
            }
            let mut place = last.get(&digest).copied().unwrap_or_default();
            for (n, planned) in arriving.into_iter().enumerate() {
                place += 1;
                planned.turn = Some(Place { digest, place, is_blocked: n > 0 || !is_free });
            }
            noted.insert(digest, (place, is_free));
        }
        if !empty.is_empty() {
            ordering_lanes::forget(tx, &empty).await?;
        }
        if noted.is_empty() { Ok(()) } else { ordering_lanes::note(tx, &noted, now).await }
    }

    /// Advances the ordering lanes whose head ended within this transaction.
    pub(in crate::pipeline) async fn unblock_next(
        &self,
        tx: &mut Tx,
        ended: &OrderDigests,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if ended.is_empty() {
            return Ok(());
        }
        ordering_lanes::lock(tx, ended, now).await?;
        let occupied = self.unblock_next_locked(tx, ended, now).await?;
        let empty: Vec<[u8; 32]> = ended.difference(&occupied).copied().collect();
        if empty.is_empty() { Ok(()) } else { ordering_lanes::forget(tx, &empty).await }
    }

    /// Unblocks the first delivery of each locked ordering lane. Returns the ordering lanes that are not empty.
    async fn unblock_next_locked(
        &self,
        tx: &mut Tx,
        digests: &OrderDigests,
        now: Timestamp,
    ) -> Result<OrderDigests, StoreError> {
        let mut occupied = OrderDigests::new();
        let mut rest = digests.clone();
        while !rest.is_empty() {
            let heads = ordering_lanes::heads(tx, &rest).await?;
            let next: Vec<([u8; 32], DeliveryId)> = heads
                .iter()
                .filter(|(_, (_, is_blocked))| *is_blocked)
                .map(|(digest, (id, _))| (*digest, *id))
                .collect();
            occupied = occupied.difference(&rest).copied().chain(heads.keys().copied()).collect();
            if next.is_empty() {
                break;
            }
            let ids: Vec<DeliveryId> = next.iter().map(|(_, id)| *id).collect();
            let unblocked = ordering_lanes::unblock(tx, &ids, now).await?;
            self.has_unblocked.store(true, Ordering::SeqCst);
            // A delivery that another process ended meanwhile is gone: its successor is next.
            rest = next.into_iter().map(|(digest, _)| digest).collect();
            ordering_lanes::record_advance(tx, &rest, now).await?;
            if unblocked == ids.len() as u64 {
                break;
            }
        }
        Ok(occupied)
    }

    /// After a commit: wakes the poller for the unblocked deliveries.
    pub(in crate::pipeline) fn wake_for_unblocked(&self) {
        if self.has_unblocked.swap(false, Ordering::SeqCst) {
            self.look.notify_one();
        }
    }

    /// Takes heads out of their ordering lanes that have blocked the others for too long; returns how many.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn overtake(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let since = now - LONGEST_HOLD;
        let old = self.store.stuck_ordering_lanes(since, AT_ONCE).await?;
        if old.is_empty() {
            return Ok(0);
        }
        let mut tx = self.store.begin().await?;
        let stuck = ordering_lanes::take_out_heads(&mut tx, since, AT_ONCE).await?;
        ordering_lanes::lock(&mut tx, &old, now).await?;
        let occupied = self.unblock_next_locked(&mut tx, &old, now).await?;
        let empty: Vec<[u8; 32]> = old.difference(&occupied).copied().collect();
        if !empty.is_empty() {
            ordering_lanes::forget(&mut tx, &empty).await?;
        }
        let held_up: HashMap<DeliveryId, bool> =
            stuck.iter().map(|(id, digest)| (*id, occupied.contains(digest))).collect();
        self.note_overtaken(&mut tx, &held_up, now).await?;
        committed(commit(tx).await)?;
        self.wake_for_unblocked();
        Ok(held_up.len())
    }

    /// Notes on each delivery that was taken out of its ordering lane whether it blocked others, or whether later ones
    /// go first.
    async fn note_overtaken(
        &self,
        tx: &mut Tx,
        held_up: &HashMap<DeliveryId, bool>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        if held_up.is_empty() {
            return Ok(());
        }
        let ids: Vec<DeliveryId> = held_up.keys().copied().collect();
        let rows = self.store.find_deliveries(&ids).await?;
        let made: Vec<(EventId, Decision)> = rows
            .into_iter()
            .map(|row| {
                let detail = if held_up.get(&row.id).copied().unwrap_or_default() {
                    "it blocked later events of its ordering key for 15 minutes; they are sent without waiting for it"
                } else {
                    "it was first of its ordering key for 15 minutes; later events no longer wait for it"
                };
                let decision = Decision::new(DecisionCode::Overtaken, detail);
                (row.event, decision.of_rule(&row.rule.1).of_delivery(row.id))
            })
            .collect();
        let new: Vec<NewDecision<'_>> = made
            .iter()
            .map(|(event, decision)| NewDecision { id: self.ids.next(now), event: *event, decision })
            .collect();
        decisions::insert_all(tx, &new).await
    }
}

/// The new events' ordered deliveries by ordering lane, in the order of arrival.
fn arriving<'a>(
    group: &'a mut [Pending],
    won: &HashSet<EventId>,
) -> BTreeMap<[u8; 32], Vec<&'a mut PlannedDelivery>> {
    let mut ordered: Vec<&mut Pending> =
        group.iter_mut().filter(|p| won.contains(&p.event.id) && p.event.ordering_key.is_some()).collect();
    ordered.sort_by_key(|pending| pending.arrival);
    let mut arriving: BTreeMap<[u8; 32], Vec<&mut PlannedDelivery>> = BTreeMap::new();
    for pending in ordered {
        let Some(key) = &pending.event.ordering_key else { continue };
        for planned in &mut pending.plan.1.deliveries {
            if !matches!(planned.initial, InitialState::Skipped) && planned.gather.is_none() {
                let digest = order_digest(&pending.event, key, planned);
                arriving.entry(digest).or_default().push(planned);
            }
        }
    }
    arriving
}
