//! Digests: many events in one message, settled within the ingest transaction.
//!
//! The first event of a digest opens a window and owns the delivery, which is due when the window ends; later events
//! join it and have no delivery of their own. The window's row is locked both by events that join and by the sender:
//! the window is closed before its events are read, so none is lost in between.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::id::{DeliveryId, EventId};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::intake::Pending;
use crate::pipeline::operator::cancel::cancel_digest;
use crate::pipeline::plan::{Gather, InitialState, PlannedDelivery};
use crate::store::decisions::{self, NewDecision};
use crate::store::digest_windows::{self, NewItem, TakenOut, Window};
use crate::store::{StoreError, Tx};

impl Pipeline {
    /// Opens windows for the new events' digest deliveries, or adds their events to open windows.
    pub(in crate::pipeline) async fn gather(
        &self,
        tx: &mut Tx,
        group: &mut [Pending],
        won: &HashSet<EventId>,
    ) -> Result<(), StoreError> {
        let mut arrivals: Vec<usize> =
            (0..group.len()).filter(|index| won.contains(&group[*index].event.id)).collect();
        arrivals.sort_by_key(|index| group[*index].arrival);
        let wanted = wanted(group, &arrivals);
        let mut windows = self.open_windows(tx, &wanted).await?;
        let mut items = Vec::new();
        for index in arrivals {
            join(&mut group[index], &mut windows, &mut items);
        }
        if !windows.is_empty() {
            digest_windows::note(tx, &windows).await?;
        }
        if items.is_empty() { Ok(()) } else { digest_windows::insert_items(tx, &items).await }
    }

    /// Locks the requested windows. A window whose message is no longer pending passes to the new event.
    async fn open_windows(
        &self,
        tx: &mut Tx,
        wanted: &BTreeMap<[u8; 32], DeliveryId>,
    ) -> Result<BTreeMap<[u8; 32], Window>, StoreError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let mut windows = digest_windows::lock(tx, wanted).await?;
        let known: Vec<DeliveryId> = windows.values().map(|window| window.delivery).collect();
        let waiting = digest_windows::still_waiting(tx, &known).await?;
        for (digest, window) in &mut windows {
            if let Some(newcomer) = wanted.get(digest).filter(|_| !waiting.contains(&window.delivery)) {
                *window = Window { delivery: *newcomer, last_place: 0 };
            }
        }
        Ok(windows)
    }

    /// Takes cancelled events out of open digests and notes it on the events. Digests without any events left are
    /// closed, to be ended. Returns what was taken out.
    pub(in crate::pipeline) async fn take_out(
        &self,
        tx: &mut Tx,
        events: &[EventId],
        wanted: &[([u8; 32], String)],
        why: &str,
        now: Timestamp,
    ) -> Result<Vec<TakenOut>, StoreError> {
        let cancel: Vec<[u8; 32]> = wanted.iter().map(|(digest, _)| *digest).collect();
        let taken = digest_windows::take_out(tx, events, &cancel).await?;
        let empty: Vec<DeliveryId> = emptied(&taken).into_keys().collect();
        if !empty.is_empty() {
            digest_windows::close(tx, &empty).await?;
        }
        let reason = |one: &TakenOut| {
            let by_key = wanted.iter().find(|(digest, _)| one.cancel == Some(*digest));
            by_key.map_or(why, |(_, why)| why.as_str()).to_owned()
        };
        let decisions: Vec<Decision> = taken
            .iter()
            .map(|one| {
                let detail = format!("{}: it was taken out of {}", reason(one), one.delivery);
                Decision::new(DecisionCode::Cancelled, detail).of_delivery(one.delivery)
            })
            .collect();
        let rows: Vec<NewDecision<'_>> = taken
            .iter()
            .zip(&decisions)
            .map(|(one, decision)| NewDecision { id: self.ids.next(now), event: one.event, decision })
            .collect();
        if !rows.is_empty() {
            decisions::insert_all(tx, &rows).await?;
        }
        Ok(taken)
    }
}

/// The digests that have no events left, each with one of the events that it contained.
pub(in crate::pipeline) fn emptied(taken: &[TakenOut]) -> HashMap<DeliveryId, &TakenOut> {
    taken.iter().filter(|one| one.is_last).map(|one| (one.delivery, one)).collect()
}

/// The candidates for opening a window: the first delivery of each digest.
fn wanted(group: &[Pending], arrivals: &[usize]) -> BTreeMap<[u8; 32], DeliveryId> {
    let mut wanted = BTreeMap::new();
    for planned in arrivals.iter().flat_map(|index| &group[*index].plan.1.deliveries) {
        if let Some(gather) = window_of(planned) {
            wanted.entry(gather.digest).or_insert(planned.id);
        }
    }
    wanted
}

/// What a delivery is collected under, if it is to be sent and others can join it.
fn window_of(planned: &PlannedDelivery) -> Option<Gather> {
    let is_due = matches!(planned.initial, InitialState::Due { .. });
    planned.gather.filter(|gather| is_due && gather.has_window)
}

/// Opens windows for an event's deliveries, or replaces them by the digest that is already open.
fn join(pending: &mut Pending, windows: &mut BTreeMap<[u8; 32], Window>, items: &mut Vec<NewItem>) {
    let Pending { event, plan, .. } = pending;
    let plan = &mut plan.1;
    let cancel = event.cancellation_key.as_deref().map(|key| cancel_digest(event.key_space(), key));
    let mut joined = Vec::new();
    plan.deliveries.retain(|planned| {
        let Some(gather) = planned.gather.filter(|_| !matches!(planned.initial, InitialState::Skipped))
        else {
            return true;
        };
        let max = i32::try_from(gather.max).unwrap_or(i32::MAX);
        let window = window_of(planned).and_then(|gather| windows.get_mut(&gather.digest));
        // A held digest contains its own event only.
        let (delivery, place) = window.map_or((planned.id, 1), |window| {
            window.last_place += 1;
            (window.delivery, window.last_place)
        });
        items.push(NewItem { delivery, place, event: event.id, max, cancel });
        if delivery == planned.id {
            return true;
        }
        let detail = format!("it is part of the digest {delivery}");
        let decision = Decision::new(DecisionCode::Digested, detail).with("place", place);
        joined.push(decision.of_rule(&planned.rule.key).of_delivery(delivery));
        false
    });
    plan.depends_on_others |= !joined.is_empty();
    plan.decisions.extend(joined);
}
