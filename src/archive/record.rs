//! Records reports: joined to deliveries, merged, counted and numbered, in one transaction that holds the feed's
//! position. So rounds follow each other over all processes, and the numbers follow the order of commits. A process that
//! dies leaves the reports where they were.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Archive;
use super::join::{Joins, Match};
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, TypedId};
use crate::domain::outcome::{Added, Counts, Fact, Facts, Place, Report};
use crate::store::outcome_reports::DueReport;
use crate::store::outcomes::{Copy, Dimensions, FeedEntry, OutcomeRow, SentDelivery};
use crate::store::provider_messages::DueMessage;
use crate::store::{StoreError, Tx, outcome_reports, outcomes, provider_messages};
use crate::telemetry::names;

/// Messages whose deliveries are counted in one transaction.
const MESSAGES_AT_ONCE: i64 = 500;
/// Deliveries that are counted in one transaction, unless a single message has more.
const DELIVERIES_AT_ONCE: usize = 20_000;
/// When deliveries that have not ended are looked at again.
const OPEN_FOR: TimeDelta = TimeDelta::minutes(1);

/// How long after its time the answer to a cancellation of a scheduled message may come.
const RECALLED_WITHIN: TimeDelta = TimeDelta::minutes(15);

/// What a round writes.
#[derive(Default)]
struct Round {
    counts: BTreeMap<Dimensions, Counts>,
    facts: Vec<OutcomeRow>,
    feed: Vec<FeedEntry>,
    parked: Vec<(Uuid, Timestamp)>,
    done: Vec<Uuid>,
    /// Reports by result.
    results: BTreeMap<&'static str, i64>,
}

impl Round {
    fn count(&mut self, by: &Dimensions, counts: Counts) {
        if !counts.is_zero() {
            *self.counts.entry(by.clone()).or_default() += counts;
        }
    }

    fn park(&mut self, due: &DueReport, until: Timestamp) {
        self.parked.push((due.report.key, until));
        // Counted when it is parked first.
        *self.results.entry("parked").or_default() += i64::from(!due.is_parked);
    }

    fn finish(&mut self, due: &DueReport, result: &'static str) {
        self.done.push(due.report.key);
        *self.results.entry(result).or_default() += 1;
    }
}

impl Archive {
    /// Records what is due; returns whether there was anything.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; nothing is recorded then, and retrying helps.
    pub async fn record_once(&self) -> Result<bool, StoreError> {
        let now = self.clock.now();
        if !self.store.are_outcomes_due(now).await? {
            return Ok(false);
        }
        let mut tx = self.store.begin().await?;
        let Some(position) = outcomes::lock_position(&mut tx).await? else { return Ok(false) };
        let mut round = Round::default();
        let messages = provider_messages::due(&mut tx, now, MESSAGES_AT_ONCE).await?;
        count_accepted(&mut tx, &messages, &mut round, now).await?;
        let reports = outcome_reports::due(&mut tx, now, self.limits.reports_at_once).await?;
        let joins = Joins::load(&mut tx, &reports).await?;
        self.opt_out(&mut tx, &reports, &joins, now).await?;
        let joined = self.sort(&reports, &joins, &mut round, now);
        merge(&mut tx, &joins, joined, &mut round, (position, now)).await?;
        write(&mut tx, &mut round, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        if !round.feed.is_empty() {
            self.fed.notify_waiters();
        }
        for (result, count) in &round.results {
            metrics::counter!(names::OUTCOMES, "result" => *result).increment(count.unsigned_abs());
        }
        Ok(!messages.is_empty() || !reports.is_empty())
    }

    /// Parks reports whose message is unknown, gives up on those that are foreign, and returns the others with their
    /// deliveries.
    fn sort<'a>(
        &self,
        reports: &'a [DueReport],
        joins: &Joins,
        round: &mut Round,
        now: Timestamp,
    ) -> Vec<(DeliveryId, &'a Report)> {
        let mut joined = Vec::with_capacity(reports.len());
        for due in reports {
            let until = due.received_at + self.limits.foreign_after;
            match joins.of(&due.report) {
                Match::Delivery(id) => {
                    joined.push((id, &due.report));
                    round.finish(due, "joined");
                }
                Match::Open => round.park(due, now + OPEN_FOR),
                Match::Nobody => round.finish(due, "unattributed"),
                Match::UnknownMessage if now < until && !due.report.message.is_empty() => {
                    round.park(due, until);
                }
                Match::UnknownMessage => round.finish(due, "foreign"),
            }
        }
        joined
    }
}

/// Counts the accepted deliveries of messages. Members that have not ended are looked at again; reports that wait for one
/// of these messages are due.
async fn count_accepted(
    tx: &mut Tx,
    mut messages: &[DueMessage],
    round: &mut Round,
    now: Timestamp,
) -> Result<(), StoreError> {
    if messages.is_empty() {
        return Ok(());
    }
    let batches: BTreeSet<_> = messages.iter().map(|message| message.batch).collect();
    let members = provider_messages::members(tx, &batches.into_iter().collect::<Vec<_>>()).await?;
    let uncounted = |message: &DueMessage| {
        let all = || members.get(&message.batch).cloned().unwrap_or_default();
        message.uncounted.clone().unwrap_or_else(all)
    };
    let mut deliveries = 0;
    let fitting = messages.iter().take_while(|message| {
        deliveries += uncounted(message).len();
        deliveries <= DELIVERIES_AT_ONCE
    });
    // The others stay due.
    messages = &messages[..fitting.count().max(1)];
    let sent = outcomes::sent_deliveries(tx, messages.iter().flat_map(uncounted)).await?;
    let mut counted = Vec::new();
    for message in messages {
        let (mut open, mut again_at) = (Vec::new(), None);
        for id in uncounted(message) {
            let Some(delivery) = sent.get(&DeliveryId::from_uuid(id)) else { continue };
            let counts_at = counts_at(delivery).unwrap_or(now + OPEN_FOR);
            if counts_at > now {
                open.push(id);
                again_at = Some(again_at.map_or(counts_at, |at: Timestamp| at.min(counts_at)));
            } else if delivery.is_accepted {
                round.count(&delivery.dimensions, Counts { accepted: 1, ..Counts::default() });
            }
        }
        match again_at {
            Some(at) => provider_messages::set_uncounted(tx, &message.id, &open, at).await?,
            None => counted.push(message.id.as_str()),
        }
    }
    provider_messages::set_counted(tx, &counted, now).await?;
    let new: Vec<&str> = messages
        .iter()
        .filter(|message| message.uncounted.is_none())
        .map(|message| message.id.as_str())
        .collect();
    outcome_reports::unpark(tx, &new, now).await
}

/// When a delivery can be counted; `None` while it is open. One that is scheduled at OneSignal may still be cancelled there.
fn counts_at(delivery: &SentDelivery) -> Option<Timestamp> {
    let wait = if delivery.is_scheduled { RECALLED_WITHIN } else { TimeDelta::zero() };
    delivery.sent_at.map(|at| at + wait)
}

/// Merges reports into what is known about each copy, and notes what that changes.
async fn merge(
    tx: &mut Tx,
    joins: &Joins,
    joined: Vec<(DeliveryId, &Report)>,
    round: &mut Round,
    (position, now): (i64, Timestamp),
) -> Result<(), StoreError> {
    let mut copies: BTreeMap<Copy, Vec<&Report>> = BTreeMap::new();
    let mut order: HashMap<Uuid, usize> = HashMap::new();
    let messages: BTreeSet<&str> = joined.iter().map(|(_, report)| report.message.as_str()).collect();
    provider_messages::set_reported(tx, &messages.into_iter().collect::<Vec<_>>(), now).await?;
    for (n, (id, report)) in joined.into_iter().enumerate() {
        let Some(sent) = joins.sent(id) else { continue };
        let person = if sent.recipient.is_some() { String::new() } else { report.person() };
        copies.entry((id, person)).or_default().push(report);
        order.insert(report.key, n);
    }
    let known = outcomes::facts_of(tx, &copies.keys().cloned().collect::<Vec<_>>()).await?;
    let mut news = Vec::new();
    for (copy, reports) in copies {
        let Some(sent) = joins.sent(copy.0) else { continue };
        let before = known.get(&copy).cloned().unwrap_or_default();
        let mut after = before.clone();
        let mut changed: BTreeSet<Place> = BTreeSet::new();
        for report in reports {
            let (place, fact) = fact_of(report);
            let added = after.add(place.clone(), fact);
            if added == Added::New {
                news.push((order.get(&report.key).copied(), sent, report, copy.1.clone()));
            }
            if added != Added::Nothing {
                changed.insert(place);
            }
        }
        let accepted_at = sent.sent_at.unwrap_or(now);
        round.count(&sent.dimensions, Counts::of(&after, accepted_at) - Counts::of(&before, accepted_at));
        round.facts.extend(rows_of(&copy, &after, &changed));
    }
    news.sort_by_key(|(order, ..)| *order);
    for (number, (_, sent, report, person)) in (position + 1..).zip(news) {
        let body = feed_body(sent, report, &person, now);
        round.feed.push(FeedEntry { number, recorded_at: now, delivery: sent.id, body });
    }
    Ok(())
}

fn fact_of(report: &Report) -> (Place, Fact) {
    let fact = Fact {
        first_at: report.occurred_at,
        last_at: report.occurred_at,
        device: report.device.clone(),
        reason: report.reason.clone(),
    };
    ((report.subscription.clone(), report.kind.clone()), fact)
}

fn rows_of(copy: &Copy, facts: &Facts, changed: &BTreeSet<Place>) -> Vec<OutcomeRow> {
    let changed = facts.iter().filter(|(place, _)| changed.contains(*place));
    let row = |((subscription, kind), fact): (&Place, &Fact)| OutcomeRow {
        delivery: copy.0,
        person: copy.1.clone(),
        subscription: subscription.clone(),
        kind: kind.clone(),
        fact: fact.clone(),
    };
    changed.map(row).collect()
}

/// An outcome as readers of the feed get it.
fn feed_body(sent: &SentDelivery, report: &Report, person: &str, now: Timestamp) -> Value {
    let by = &sent.dimensions;
    let recipient = match (&sent.recipient, person.split_once('=')) {
        (Some(to), _) => json!({ to.label.as_str(): to.id }),
        (None, Some((label, id))) => json!({ label: id }),
        (None, None) => Value::Null,
    };
    let reason = (!report.reason.is_empty()).then_some(&report.reason);
    json!({
        "kind": report.kind.as_str(), "at": report.occurred_at, "recorded_at": now,
        "delivery": sent.id, "event": sent.event, "event_key": sent.event_key, "event_type": by.event_type,
        "rule": by.rule, "template": by.template, "version": by.version, "channel": by.channel, "locale": by.locale,
        "recipient": recipient, "subscription": report.subscription, "device": report.device, "reason": reason,
    })
}

async fn write(tx: &mut Tx, round: &mut Round, now: Timestamp) -> Result<(), StoreError> {
    if !round.facts.is_empty() {
        outcomes::put_facts(tx, &round.facts).await?;
    }
    if !round.counts.is_empty() {
        outcomes::add_counts(tx, &round.counts).await?;
    }
    outcomes::append(tx, &round.feed).await?;
    if !round.parked.is_empty() {
        round.parked.sort_unstable();
        outcome_reports::park(tx, &round.parked).await?;
    }
    if !round.done.is_empty() {
        outcome_reports::delete(tx, &round.done).await?;
    }
    let counted: Vec<(&str, i64)> =
        round.results.iter().filter(|(_, count)| **count > 0).map(|(name, count)| (*name, *count)).collect();
    if !counted.is_empty() {
        outcome_reports::count(tx, now.date_naive(), &counted).await?;
    }
    Ok(())
}
