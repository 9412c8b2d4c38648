//! Loads claimed deliveries: their events are read, unsealed and rendered again. Deliveries that have expired or lack a
//! value are settled instead.

use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;

use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::digest;
use crate::domain::event::Event;
use crate::domain::id::{DeliveryId, EventId, WorkerId};
use crate::domain::retry::delta;
use crate::domain::rule::TEST_SEND;
use crate::domain::timing::Schedule;
use crate::pipeline::Pipeline;
use crate::pipeline::plan::Addressee;
use crate::pipeline::plan::redaction;
use crate::pipeline::send::hours::{Opening, closed};
use crate::pipeline::send::pack::{PackKey, Ready};
use crate::pipeline::send::record::Transition;
use crate::store::StoreError;
use crate::store::delivery_reads::DeliveryRow;
use crate::store::queue::Claim;
use crate::store::secrets::{delivery_place, event_place};

/// A delivery with everything that its message is made from.
pub(in crate::pipeline) struct Loaded {
    pub row: DeliveryRow,
    pub event: Arc<Event>,
    /// The event's values, or those of all events of a digest, overlaid with those that a person supplied.
    given: Option<Value>,
    /// Whether some of the event's values are sealed.
    has_secrets: bool,
}

impl Loaded {
    /// The values that its copy sees: the whole event, or those of all events of a digest, overlaid with those that a
    /// person supplied.
    pub fn data(&self) -> &Value {
        self.given.as_ref().unwrap_or(&self.event.data)
    }

    /// Whether its values can't be read from its event for as long as that is kept: sealed values are erased.
    pub fn has_values_of_its_own(&self) -> bool {
        self.given.is_some() || self.has_secrets
    }

    /// Overlays values on the event's.
    pub fn overlay(&mut self, values: Value) {
        let mut data = self.data().clone();
        redaction::overlay(&mut data, values);
        self.given = Some(data);
    }

    /// What OneSignal does with the scheduled time.
    pub fn schedule(&self) -> Option<Arc<Schedule>> {
        self.row.schedule.clone().map(Arc::new)
    }

    /// Whom it is for.
    pub fn addressee(&self) -> Option<Addressee> {
        match (&self.row.recipient, &self.row.audience) {
            (Some(recipient), _) => Some(Addressee::Person(recipient.clone())),
            (None, Some(audience)) => serde_json::from_value(audience.clone()).ok().map(Addressee::Audience),
            (None, None) => None,
        }
    }
}

impl Pipeline {
    /// Reads deliveries with their events, with the sensitive values unsealed.
    pub(in crate::pipeline) async fn load(
        &self,
        ids: &[DeliveryId],
    ) -> Result<HashMap<DeliveryId, Loaded>, StoreError> {
        let rows = self.store.find_deliveries(ids).await?;
        let replayed = rows.iter().filter_map(|row| row.replay_of);
        let with_replayed: Vec<DeliveryId> = ids.iter().copied().chain(replayed).collect();
        let gathered = self.store.gathered(&with_replayed).await?;
        let mut event_ids: Vec<EventId> = rows.iter().map(|row| row.event).collect();
        event_ids.extend(gathered.values().flat_map(|one| &one.events));
        event_ids.sort_unstable();
        event_ids.dedup();
        let mut secrets = self.store.event_secrets(&event_ids).await?;
        let mut given = self.store.delivery_values(ids).await?;
        let mut events = HashMap::with_capacity(event_ids.len());
        for stored in self.store.find_events(&event_ids).await? {
            let mut event = stored.event;
            let sealed = secrets.remove(&event.id);
            let has_secrets = sealed.is_some();
            if let Some(sealed) = sealed {
                let opened = self.store.vault().open(&event_place(event.id), &sealed).ok();
                let Some(values) = opened.and_then(|plain| serde_json::from_slice(&plain).ok()) else {
                    // Its deliveries stay where they are until the key is available again; the others proceed.
                    tracing::error!(event.id = %event.id, "the sealed values of {} can't be unsealed", event.id);
                    continue;
                };
                redaction::restore(&mut event.data, values);
            }
            events.insert(event.id, (Arc::new(event), has_secrets));
        }
        let mut loaded = HashMap::with_capacity(rows.len());
        for row in rows {
            let Some((event, has_secrets)) = events.get(&row.event) else { continue };
            let id = row.id;
            let mut one = Loaded { event: Arc::clone(event), given: None, has_secrets: *has_secrets, row };
            // A replay contains the events of the delivery that it replays.
            let gathered = gathered.get(&id).or_else(|| gathered.get(&one.row.replay_of?));
            if let Some(gathered) = gathered {
                let items =
                    gathered.events.iter().map(|id| events.get(id).map(|(event, _)| event.data.clone()));
                // An event whose values can't be unsealed blocks the digest, as it would its own delivery.
                let Some(items) = items.collect::<Option<Vec<Value>>>() else { continue };
                one.given = Some(digest::gathered(items, gathered.count));
            }
            if let Some(sealed) = given.remove(&id) {
                let plain = self.store.vault().open(&delivery_place(id), &sealed)?;
                let Ok(values) = serde_json::from_slice(&plain) else {
                    return Err(StoreError::corrupt("delivery_values", "sealed", id));
                };
                one.overlay(values);
            }
            loaded.insert(id, one);
        }
        Ok(loaded)
    }

    /// Prepares claimed deliveries for their calls; those that can't be sent are settled.
    pub(in crate::pipeline) async fn prepare(
        &self,
        worker: WorkerId,
        claims: Vec<Claim>,
        now: Timestamp,
    ) -> Result<Vec<Ready>, StoreError> {
        let ids: Vec<DeliveryId> = claims.iter().map(|claim| claim.delivery.id).collect();
        self.store.close_windows(&ids).await?;
        let mut loaded = self.load(&ids).await?;
        let hours = self.sending_hours(&loaded).await?;
        let mut ready = Vec::with_capacity(claims.len());
        let mut settled = Vec::new();
        for claim in claims {
            let Some(loaded) = loaded.remove(&claim.delivery.id) else {
                tracing::error!(delivery.id = %claim.delivery.id, "delivery {} refers to an event that no longer exists", claim.delivery.id);
                self.memory_queue.forget([claim.key()]);
                continue;
            };
            let hours = hours.get(&claim.delivery.id);
            let opening = hours.map(|hours| hours.opening(now, claim.expires_at));
            if let Some((state, decision)) = opening.as_ref().and_then(closed) {
                settled.push(settle(claim, worker, &loaded, state, decision));
                continue;
            }
            match self.make_ready(claim.clone(), &loaded, now).await? {
                Ok(mut one) => {
                    if let Some(Opening::Open { closes_at }) = opening {
                        one.closes_at = closes_at;
                    }
                    ready.push(one);
                }
                Err((state, decision)) => settled.push(settle(claim, worker, &loaded, state, decision)),
            }
        }
        self.settle(settled).await?;
        Ok(ready)
    }

    /// One delivery ready for its call, or its next state and the reason.
    pub(in crate::pipeline) async fn make_ready(
        &self,
        claim: Claim,
        loaded: &Loaded,
        now: Timestamp,
    ) -> Result<Result<Ready, (DeliveryState, Decision)>, StoreError> {
        if claim.expires_at <= now + self.margin(claim.delivery.priority) {
            let detail = format!("it expired at {}", claim.expires_at);
            return Ok(Err((DeliveryState::Expired, Decision::new(DecisionCode::Expired, detail))));
        }
        let held = |decision| Ok(Err((DeliveryState::Held, decision)));
        let pinned = match loaded.row.version {
            Some((id, _)) => self.catalog.version(&self.store, id).await?,
            None => None,
        };
        let (Some(version), Some(locale), Some(to)) = (pinned, loaded.row.locale.clone(), loaded.addressee())
        else {
            let detail = format!("template {} has no live version", loaded.row.template);
            return held(Decision::new(DecisionCode::NoLiveVersion, detail));
        };
        let message = match self.compose(&version, &locale, loaded.data()).await {
            Ok(message) => message,
            Err(decision) => return held(*decision),
        };
        Ok(Ok(Ready {
            key: PackKey {
                priority: claim.delivery.priority,
                app: claim.app,
                version: version.version.id,
                locale,
                label: to.label().cloned(),
                schedule: loaded.schedule(),
                is_inline: message.is_inline(),
                is_test_send: loaded.row.rule.1 == TEST_SEND,
            },
            claim,
            version,
            to,
            message,
            event: loaded.event.id,
            posted: (loaded.event.source, loaded.event.own_name().as_ref().into()),
            rule: (loaded.row.rule.0, loaded.row.rule.1.as_str().into()),
            replay_of: loaded.row.replay_of,
            traceparent: loaded.event.traceparent.as_deref().map(Into::into),
            holds_secrets: loaded.has_values_of_its_own(),
            closes_at: None,
            turn: 0,
        }))
    }

    /// How much time must be left before a delivery of this priority expires for a call to be made.
    pub(in crate::pipeline) fn margin(&self, priority: Priority) -> chrono::TimeDelta {
        match priority {
            Priority::Urgent => delta(self.limits.urgent_min_remaining),
            Priority::Normal | Priority::Bulk => chrono::TimeDelta::zero(),
        }
    }
}

fn settle(
    claim: Claim,
    worker: WorkerId,
    loaded: &Loaded,
    state: DeliveryState,
    decision: Decision,
) -> Transition {
    let id = claim.delivery.id;
    let after = match state {
        DeliveryState::Expired => claim.delivery.expire(),
        other => claim.delivery.into_state(other),
    };
    Transition {
        after,
        worker: Some(worker),
        epoch: claim.epoch,
        batch: claim.batch,
        crashed: false,
        event: loaded.event.id,
        decision: Some(decision.of_rule(&loaded.row.rule.1).of_delivery(id)),
    }
}
