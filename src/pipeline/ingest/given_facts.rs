//! Facts that events carry about their recipients: written to OneSignal before the messages that come with them.
//!
//! Facts that OneSignal has already confirmed are dropped. A delivery to a person with new facts waits for their write,
//! but not for ever: after a while it is sent as it is, since a message that never arrives is worse than one that may
//! reach nobody.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use chrono::{SecondsFormat, TimeDelta};
use uuid::Uuid;

use crate::domain::app::AppId;
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::erasure::Identifier;
use crate::domain::event::Recipient;
use crate::domain::facts::{Facts, GivenFacts};
use crate::domain::id::{DeliveryId, EventId, TypedId, UserId};
use crate::domain::user::{Changes, Origin, PartKey};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::intake::Pending;
use crate::pipeline::plan::{InitialState, PlannedDelivery};
use crate::store::decisions::{self, NewDecision};
use crate::store::fact_waits::{self, FactWait};
use crate::store::user_writes::NewWrite;
use crate::store::users::{Alias, RowChange};
use crate::store::{StoreError, Tx, erasures, user_writes, users};

/// How long an urgent delivery waits for its recipient's facts, and any other.
const URGENT_WAIT: TimeDelta = TimeDelta::seconds(10);
const LONGEST_WAIT: TimeDelta = TimeDelta::minutes(5);
/// How long before its expiry a delivery stops waiting.
const BEFORE_EXPIRY: TimeDelta = TimeDelta::seconds(30);

/// The writes that deliveries of a group wait for.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct FactWrites(HashMap<(AppId, Recipient), (Uuid, i64)>);

impl FactWrites {
    /// Until when a delivery waits, if it does: it is due then at the latest.
    pub fn until(&self, planned: &PlannedDelivery) -> Option<Timestamp> {
        let InitialState::Due { at, .. } = &planned.initial else { return None };
        self.of(planned)?;
        let wait = match planned.rule.definition.priority {
            Priority::Urgent => URGENT_WAIT,
            Priority::Normal | Priority::Bulk => LONGEST_WAIT,
        };
        // It is sent as it is rather than not at all.
        Some((*at + wait).min(planned.expires_at - BEFORE_EXPIRY).max(*at))
    }

    fn of(&self, planned: &PlannedDelivery) -> Option<(Uuid, i64)> {
        if self.0.is_empty() {
            return None;
        }
        self.0.get(&(planned.app.id, planned.to.person()?.clone())).copied()
    }

    fn wait(&self, planned: &PlannedDelivery) -> Option<FactWait> {
        let InitialState::Due { at, .. } = &planned.initial else { return None };
        let (user, version) = self.of(planned)?;
        Some(FactWait { delivery: planned.id, app: planned.app.id, user, version, due_at: *at })
    }
}

impl Pipeline {
    /// Adds the new facts of a group's events to the outbox of their people.
    pub(in crate::pipeline) async fn write_facts(
        &self,
        tx: &mut Tx,
        group: &[Pending],
        (won, known): (&HashSet<EventId>, &Facts),
        now: Timestamp,
    ) -> Result<FactWrites, StoreError> {
        let mut given: Vec<(&Pending, &GivenFacts)> = group
            .iter()
            .filter(|pending| won.contains(&pending.event.id))
            .flat_map(|pending| pending.facts.iter().map(move |facts| (pending, facts)))
            .filter(|(_, facts)| !known.is_erased(&facts.recipient))
            .collect();
        if given.is_empty() {
            return Ok(FactWrites::default());
        }
        let of_erased = self.of_erased(tx, &given).await?;
        given.retain(|(_, facts)| !of_erased.contains(&facts.recipient));
        let aliases: BTreeSet<Alias> =
            given.iter().flat_map(|(_, facts)| [alias_of(&facts.recipient)]).collect();
        let people = users::ensure(tx, &aliases, || self.ids.next::<UserId>(now).uuid(), now).await?;
        let erased = users::lock(tx, &people.values().copied().collect()).await?;
        let mut rows: BTreeMap<Uuid, RowChange> = BTreeMap::new();
        let mut writes: BTreeMap<AppId, BTreeMap<Uuid, Changes>> = BTreeMap::new();
        for (pending, facts) in &given {
            let user = people.get(&alias_of(&facts.recipient)).filter(|user| !erased.contains(user));
            let Some(user) = user else { continue };
            // What is known of a person decides about live messages too.
            if !pending.event.is_test {
                let row = rows.entry(*user).or_default();
                row.locale = facts.locale.clone().or(row.locale.take());
                row.time_zone = facts.time_zone.clone().or(row.time_zone.take());
            }
            for app in self.apps_of(pending).await? {
                let changes = writes.entry(app).or_default().entry(*user).or_default();
                changes.merge(self.with_hashes(&facts.changes));
            }
        }
        users::update(tx, &rows, now).await?;
        let mut versions: HashMap<(AppId, Uuid), i64> = HashMap::new();
        for (app, changes) in writes {
            let new = self.without_confirmed(tx, app, changes).await?;
            let accepted = user_writes::accept(tx, app, &new, Origin::Event, now).await?;
            versions.extend(accepted.into_iter().map(|(user, version)| ((app, user), version)));
        }
        let mut waits = FactWrites::default();
        for ((app, user), version) in versions {
            let names =
                given.iter().filter(|(_, facts)| people.get(&alias_of(&facts.recipient)) == Some(&user));
            waits.0.extend(names.map(|(_, facts)| ((app, facts.recipient.clone()), (user, version))));
        }
        Ok(waits)
    }

    /// The recipients who were given an address or a token of someone who was erased.
    async fn of_erased(
        &self,
        tx: &mut Tx,
        given: &[(&Pending, &GivenFacts)],
    ) -> Result<HashSet<Recipient>, StoreError> {
        let named: Vec<(&Recipient, Identifier)> = given
            .iter()
            .flat_map(|(_, facts)| facts.changes.subscriptions().map(|one| (&facts.recipient, (&one).into())))
            .collect();
        let digests = self.store.digests(named.iter().map(|(_, identifier)| identifier)).await?;
        let erased = erasures::erased_among(tx, &digests.keys().copied().collect()).await?;
        // Spellings of one address have one hash: each is looked up by its text.
        let gone: HashSet<String> = digests
            .into_iter()
            .filter(|(digest, _)| erased.contains(digest.as_slice()))
            .map(|(_, each)| each.matching_text())
            .collect();
        let named = named.iter().filter(|(_, identifier)| gone.contains(&identifier.matching_text()));
        Ok(named.map(|(recipient, _)| (*recipient).clone()).collect())
    }

    /// Stores which deliveries wait, and a decision about each.
    pub(in crate::pipeline) async fn write_fact_waits(
        &self,
        tx: &mut Tx,
        winners: &[&Pending],
        writes: &FactWrites,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let planned = || {
            winners
                .iter()
                .flat_map(|pending| pending.plan.1.deliveries.iter().map(|one| (pending.event.id, one)))
        };
        let waits: Vec<FactWait> = planned().filter_map(|(_, planned)| writes.wait(planned)).collect();
        if waits.is_empty() {
            return Ok(());
        }
        fact_waits::insert_all(tx, &waits).await?;
        let waiting = planned().filter_map(|(event, planned)| {
            let until = writes.until(planned)?.to_rfc3339_opts(SecondsFormat::Secs, true);
            let detail = format!(
                "it waits until the facts about its recipient are written, until {until} at the latest"
            );
            let decision = Decision::new(DecisionCode::WaitsForFacts, detail);
            Some((event, decision.of_rule(&planned.rule.key).of_delivery(planned.id)))
        });
        let made: Vec<(EventId, Decision)> = waiting.collect();
        let rows: Vec<NewDecision<'_>> = made
            .iter()
            .map(|(event, decision)| NewDecision { id: self.ids.next(now), event: *event, decision })
            .collect();
        decisions::insert_all(tx, &rows).await
    }

    /// The apps that an event's facts are written to: those of its deliveries, or the default app.
    async fn apps_of(&self, pending: &Pending) -> Result<BTreeSet<AppId>, StoreError> {
        let planned: BTreeSet<AppId> =
            pending.plan.1.deliveries.iter().map(|planned| planned.app.id).collect();
        if !planned.is_empty() {
            return Ok(planned);
        }
        let catalog = self.catalog.get(&self.store).await?;
        let default = catalog.app(None).filter(|app| app.is_sandbox || !pending.event.is_test);
        Ok(default.map(|app| app.id).into_iter().collect())
    }

    /// The changes with keyed hashes in place of the tokens that name subscriptions.
    fn with_hashes(&self, changes: &Changes) -> Changes {
        let hashed = changes.0.iter().map(|(key, value)| {
            let key = match key {
                PartKey::Subscription(text) => {
                    PartKey::Subscription(self.store.vault().short_fingerprint(text))
                }
                PartKey::Alias(_) | PartKey::Property(_) | PartKey::Tag(_) => key.clone(),
            };
            (key, value.clone())
        });
        Changes(hashed.collect())
    }

    /// People with something that OneSignal has not confirmed.
    async fn without_confirmed(
        &self,
        tx: &mut Tx,
        app: AppId,
        changes: BTreeMap<Uuid, Changes>,
    ) -> Result<Vec<NewWrite>, StoreError> {
        let confirmed = users::confirmed(tx, app, &changes.keys().copied().collect()).await?;
        let is_new = |user: &Uuid, changes: &Changes| {
            let Some(confirmed) = confirmed.get(user) else { return true };
            changes.0.iter().any(|(key, value)| {
                let hash = self.store.vault().short_fingerprint(&value.to_string());
                confirmed.get(&key.to_string()) != Some(&hash)
            })
        };
        let new = changes.into_iter().filter(|(user, changes)| is_new(user, changes));
        Ok(new.map(|(user, changes)| NewWrite { user, changes, creates: true }).collect())
    }
}

/// The deliveries of a group that wait, with the time until which they do.
pub(in crate::pipeline) fn waiting(
    winners: &[&Pending],
    writes: &FactWrites,
) -> HashMap<DeliveryId, Timestamp> {
    let planned = winners.iter().flat_map(|pending| &pending.plan.1.deliveries);
    planned.filter_map(|planned| Some((planned.id, writes.until(planned)?))).collect()
}

fn alias_of(recipient: &Recipient) -> Alias {
    (recipient.label.as_str().to_owned(), recipient.id.clone())
}
