//! Many events into one message: settled within the ingest transaction.
//!
//! The first event of a digest opens a window and owns the delivery, which is due when the window ends; later ones join
//! it and have no delivery of their own. The window's row is locked by who joins and by who makes the message: the window
//! is closed before what was gathered is read, so nothing is lost in between.

use std::collections::{BTreeMap, HashMap, HashSet};

use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::id::{DeliveryId, EventId};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::intake::Pending;
use crate::pipeline::operator::cancel::cancel_digest;
use crate::pipeline::plan::{Beginning, Gather, PlannedDelivery};
use crate::store::decisions::{self, NewDecision};
use crate::store::digest_windows::{self, NewItem, TakenOut, Window};
use crate::store::{StoreError, Tx};

impl Pipeline {
    /// Has the winners' gathered deliveries open windows, or their events join those that are open.
    pub(in crate::pipeline) async fn gather(
        &self,
        tx: &mut Tx,
        group: &mut [Pending],
        won: &HashSet<EventId>,
    ) -> Result<(), StoreError> {
        let mut arrivals: Vec<usize> =
            (0..group.len()).filter(|place| won.contains(&group[*place].event.id)).collect();
        arrivals.sort_by_key(|place| group[*place].arrival);
        let wanted = wanted(group, &arrivals);
        let mut windows = self.open_windows(tx, &wanted).await?;
        let mut items = Vec::new();
        for place in arrivals {
            join(&mut group[place], &mut windows, &mut items);
        }
        if !windows.is_empty() {
            digest_windows::note(tx, &windows).await?;
        }
        if items.is_empty() { Ok(()) } else { digest_windows::insert_items(tx, &items).await }
    }

    /// Locks the windows that are wanted. One whose message is not waiting any more goes over to the newcomer.
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

    /// Takes what is cancelled out of messages that are still gathered, and notes it on the events. Messages that have
    /// nothing left to tell are closed, to be ended. Returns what was taken out.
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
                let detail = format!("{}: it is not told in {}", reason(one), one.delivery);
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

/// The messages of these that have nothing left to tell, each with one of the events that it told.
pub(in crate::pipeline) fn emptied(taken: &[TakenOut]) -> HashMap<DeliveryId, &TakenOut> {
    taken.iter().filter(|one| one.is_last).map(|one| (one.delivery, one)).collect()
}

/// Who would open a window: the first of each digest that has one.
fn wanted(group: &[Pending], arrivals: &[usize]) -> BTreeMap<[u8; 32], DeliveryId> {
    let mut wanted = BTreeMap::new();
    for planned in arrivals.iter().flat_map(|place| &group[*place].plan.1.deliveries) {
        if let Some(gather) = window_of(planned) {
            wanted.entry(gather.digest).or_insert(planned.id);
        }
    }
    wanted
}

/// What a delivery is gathered with, if it is to be sent and others can join it.
fn window_of(planned: &PlannedDelivery) -> Option<Gather> {
    let is_due = matches!(planned.beginning, Beginning::Due { .. });
    planned.gather.filter(|gather| is_due && gather.has_window)
}

/// Has an event's deliveries open their windows, or gives their place to the message that is gathered already.
fn join(pending: &mut Pending, windows: &mut BTreeMap<[u8; 32], Window>, items: &mut Vec<NewItem>) {
    let Pending { event, plan, .. } = pending;
    let plan = &mut plan.1;
    let cancel = event.cancellation_key.as_deref().map(|key| cancel_digest(event.key_space(), key));
    let mut joined = Vec::new();
    plan.deliveries.retain(|planned| {
        let Some(gather) = planned.gather.filter(|_| !matches!(planned.beginning, Beginning::Skipped)) else {
            return true;
        };
        let max = i32::try_from(gather.max).unwrap_or(i32::MAX);
        let window = window_of(planned).and_then(|gather| windows.get_mut(&gather.digest));
        // One that is held tells its own event alone.
        let (delivery, place) = window.map_or((planned.id, 1), |window| {
            window.last_place += 1;
            (window.delivery, window.last_place)
        });
        items.push(NewItem { delivery, place, event: event.id, max, cancel });
        if delivery == planned.id {
            return true;
        }
        let detail = format!("it is told in {delivery}, with others");
        let decision = Decision::new(DecisionCode::Digested, detail).with("place", place);
        joined.push(decision.of_rule(&planned.rule.key).of_delivery(delivery));
        false
    });
    plan.depends_on_others |= !joined.is_empty();
    plan.decisions.extend(joined);
}
