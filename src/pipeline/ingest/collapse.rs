//! Newer events replace older ones: settled within the ingest transaction.
//!
//! Deliveries of one source, collapse key, rule and recipient replace each other. Sequences decide which is newer, or
//! the order of arrival if there are none. The highest sequence is remembered, so that an older event that arrives late
//! is recognized even after the newer one has been sent; a lock on its row serializes the replicas.

use std::collections::{BTreeMap, HashSet};

use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::event::Event;
use crate::domain::id::{EventId, TypedId};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::digest::emptied;
use crate::pipeline::ingest::intake::Pending;
use crate::pipeline::ingest::throttle::addressee_digest;
use crate::pipeline::operator::cancel::{cancel_digest, cancelled, ended};
use crate::pipeline::plan::{InitialState, Plan, PlannedDelivery};
use crate::pipeline::send::record::Transition;
use crate::store::cancellable::{self, Named, Waiting};
use crate::store::digest_windows::TakenOut;
use crate::store::ordering_lanes::OrderDigests;
use crate::store::scheduled_messages;
use crate::store::{StoreError, Tx, collapse_heads};
use crate::vault::sha256;

/// The newest event of each collapse key in a group.
pub(in crate::pipeline) type Newest = BTreeMap<[u8; 32], EventId>;

/// One delivery of a group that others may replace.
struct Candidate {
    /// The index of its event in the group, and its index in the event's plan.
    index: (usize, usize),
    event: EventId,
    sequence: Option<i64>,
}

/// The hash that a newer event finds it by.
fn collapse_digest(event: &Event, key: &str, planned: &PlannedDelivery) -> [u8; 32] {
    let mut name = event.source.uuid().as_bytes().to_vec();
    name.extend_from_slice(planned.rule.id.uuid().as_bytes());
    name.extend_from_slice(&sha256(event.key_space().name(key).as_bytes()));
    name.extend_from_slice(&addressee_digest(&planned.to));
    sha256(&name)
}

impl Pipeline {
    /// Skips what is older than what was seen before, or than others in its group; returns the newest of each collapse
    /// key, which replaces what is still pending.
    pub(in crate::pipeline) async fn collapse(
        &self,
        tx: &mut Tx,
        group: &mut [Pending],
        won: &HashSet<EventId>,
        now: Timestamp,
    ) -> Result<Newest, StoreError> {
        let candidates = candidates(group, won);
        let mut newest = Newest::new();
        if candidates.is_empty() {
            return Ok(newest);
        }
        let digests: Vec<[u8; 32]> = candidates.keys().copied().collect();
        let seen = collapse_heads::lock(tx, &digests, now).await?;
        let mut noted = Vec::new();
        for (digest, mut candidates) in candidates {
            candidates.sort_by_key(|candidate| group[candidate.index.0].arrival);
            let before = seen.get(&digest).copied().flatten();
            let (last, highest) = replace(group, candidates, before);
            if let Some(highest) = highest.filter(|_| highest != before) {
                noted.push((digest, highest));
            }
            if let Some(last) = last {
                newest.insert(digest, last);
            }
        }
        if !noted.is_empty() {
            collapse_heads::note(tx, &noted).await?;
        }
        Ok(newest)
    }

    /// Takes what the new events' rules cancel out of open digests.
    pub(in crate::pipeline) async fn take_out_cancelled(
        &self,
        tx: &mut Tx,
        group: &[Pending],
        won: &HashSet<EventId>,
        now: Timestamp,
    ) -> Result<Vec<TakenOut>, StoreError> {
        let (wanted, _) = cancellations(group, won);
        if wanted.is_empty() { Ok(Vec::new()) } else { self.take_out(tx, &[], &wanted, "", now).await }
    }

    /// Ends pending deliveries that are cancelled by the new events' rules or replaced by a newer event. Both are
    /// locked in one statement, ordered by id. Returns the ordering lanes whose head has ended.
    pub(in crate::pipeline) async fn end_superseded(
        &self,
        tx: &mut Tx,
        group: &mut [Pending],
        won: &HashSet<EventId>,
        (newest, taken): (&Newest, &[TakenOut]),
        now: Timestamp,
    ) -> Result<OrderDigests, StoreError> {
        let (wanted, indexes) = cancellations(group, won);
        if wanted.is_empty() && newest.is_empty() {
            return Ok(OrderDigests::new());
        }
        let empty = emptied(taken);
        let cancel: Vec<[u8; 32]> = wanted.iter().map(|(digest, _)| *digest).collect();
        let collapse: Vec<[u8; 32]> = newest.keys().copied().collect();
        let named =
            Named { cancel: &cancel, collapse: &collapse, ids: &empty.keys().copied().collect::<Vec<_>>() };
        let found = cancellable::lock(tx, named).await?;
        let mut counts = vec![0; wanted.len()];
        let mut replaced = HashSet::new();
        let mut transitions: Vec<Transition> = Vec::with_capacity(found.len());
        for waiting in found {
            let digest =
                waiting.cancel.or_else(|| empty.get(&waiting.claim.delivery.id).and_then(|one| one.cancel));
            let by_key = digest.and_then(|digest| cancel.iter().position(|known| *known == digest));
            if let Some(index) = by_key {
                counts[index] += 1;
                transitions.push(cancelled(waiting, &wanted[index].1));
            } else if let Some((digest, by)) =
                waiting.collapse.and_then(|digest| Some((digest, *newest.get(&digest)?)))
            {
                replaced.insert(digest);
                transitions.push(superseded(waiting, by));
            }
        }
        let mut ended = OrderDigests::new();
        if !transitions.is_empty() {
            ended = self.apply_transitions(tx, &transitions, now).await?.1;
        }
        let recalling = self.request_recall_under(tx, &wanted, now).await?;
        for ((index, rule), counts) in indexes.into_iter().zip(counts.into_iter().zip(recalling)) {
            note_cancelled(&mut group[index].plan.1, &rule, counts);
        }
        for plan in group.iter_mut().map(|pending| &mut pending.plan.1) {
            for planned in &mut plan.deliveries {
                planned.takes_over = planned.collapse.is_some_and(|digest| replaced.contains(&digest));
                plan.depends_on_others |= planned.takes_over;
            }
        }
        Ok(ended)
    }
}

impl Pipeline {
    /// Requests a recall of what OneSignal holds until its time under these keys; returns how many for each.
    async fn request_recall_under(
        &self,
        tx: &mut Tx,
        wanted: &[Wanted],
        now: Timestamp,
    ) -> Result<Vec<usize>, StoreError> {
        let mut counts = vec![0; wanted.len()];
        if wanted.is_empty() {
            return Ok(counts);
        }
        let digests: Vec<[u8; 32]> = wanted.iter().map(|(digest, _)| *digest).collect();
        let mut rows = Vec::new();
        for held in scheduled_messages::find(tx, &[], &digests).await? {
            if let Some(index) = digests.iter().position(|digest| held.cancel == Some(*digest)) {
                counts[index] += 1;
                rows.push((held, wanted[index].1.clone()));
            }
        }
        self.request_recall(tx, &rows, now).await?;
        Ok(counts)
    }
}

/// The new events' deliveries that replace others, by collapse key.
fn candidates(group: &mut [Pending], won: &HashSet<EventId>) -> BTreeMap<[u8; 32], Vec<Candidate>> {
    let mut candidates: BTreeMap<[u8; 32], Vec<Candidate>> = BTreeMap::new();
    for (index, pending) in group.iter_mut().enumerate().filter(|(_, p)| won.contains(&p.event.id)) {
        let Some(key) = &pending.event.collapse_key else { continue };
        for (n, planned) in pending.plan.1.deliveries.iter_mut().enumerate() {
            // Digests are not replaced: they report every event.
            if matches!(planned.initial, InitialState::Skipped) || planned.gather.is_some() {
                continue;
            }
            let digest = collapse_digest(&pending.event, key, planned);
            planned.collapse = Some(digest);
            let (event, sequence) = (pending.event.id, pending.event.sequence);
            let candidate = Candidate { index: (index, n), event, sequence };
            candidates.entry(digest).or_default().push(candidate);
        }
    }
    candidates
}

/// Skips all candidates but the newest; returns that one's event, and the highest sequence seen.
fn replace(
    group: &mut [Pending],
    candidates: Vec<Candidate>,
    before: Option<i64>,
) -> (Option<EventId>, Option<i64>) {
    let mut highest = before;
    let mut last: Option<Candidate> = None;
    for candidate in candidates {
        if candidate.sequence.zip(highest).is_some_and(|(own, highest)| own < highest) {
            let highest = highest.unwrap_or_default();
            let detail = format!("an event with sequence {highest} was received before it");
            skip(group, candidate.index, Decision::new(DecisionCode::Superseded, detail));
            continue;
        }
        highest = highest.max(candidate.sequence);
        let event = candidate.event;
        if let Some(older) = last.replace(candidate) {
            skip(group, older.index, by_event(event));
        }
    }
    (last.map(|candidate| candidate.event), highest)
}

fn skip(group: &mut [Pending], (index, n): (usize, usize), decision: Decision) {
    let plan = &mut group[index].plan.1;
    let planned = &mut plan.deliveries[n];
    planned.initial = InitialState::Skipped;
    plan.decisions.push(decision.of_rule(&planned.rule.key).of_delivery(planned.id));
    plan.depends_on_others = true;
}

fn by_event(event: EventId) -> Decision {
    let detail = format!("it was replaced by the newer event {event}");
    Decision::new(DecisionCode::Superseded, detail).with("event", event.to_string())
}

fn superseded(waiting: Waiting, by: EventId) -> Transition {
    ended(waiting, DeliveryState::Skipped, by_event(by))
}

/// The hash of a cancellation key, with the reason.
type Wanted = ([u8; 32], String);

/// What the new events' `cancel` rules end: hashes with reasons, and for each the event's index and the rule's key.
fn cancellations(group: &[Pending], won: &HashSet<EventId>) -> (Vec<Wanted>, Vec<(usize, String)>) {
    let mut wanted = Vec::new();
    let mut indexes = Vec::new();
    for (index, pending) in group.iter().enumerate().filter(|(_, p)| won.contains(&p.event.id)) {
        for (key, rule) in &pending.plan.1.cancellations {
            let why = format!("cancelled by {} through rule {rule}", pending.event.id);
            wanted.push((cancel_digest(pending.event.key_space(), key), why));
            indexes.push((index, rule.clone()));
        }
    }
    (wanted, indexes)
}

/// Notes on an event how many deliveries its rule cancelled. A group that is planned and committed again starts with
/// the same plans, so nothing is noted twice.
fn note_cancelled(plan: &mut Plan, rule: &str, (count, recalling): (usize, usize)) {
    let is_old = |d: &Decision| d.code == DecisionCode::CancelledOthers && d.rule.as_deref() == Some(rule);
    plan.decisions.retain(|d| !is_old(d));
    let mut detail = format!("{count} pending deliveries were cancelled");
    if recalling > 0 {
        detail = format!("{detail}, and {recalling} are being recalled from OneSignal");
    }
    let decision = Decision::new(DecisionCode::CancelledOthers, detail).with("count", count);
    let decision = if recalling > 0 { decision.with("recalling", recalling) } else { decision };
    plan.decisions.push(decision.of_rule(rule));
}
