//! Stores the actions that `tag` and `track` rules planned, with the writes of users and the custom events that carry
//! them out. `people` makes the calls.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::json;
use uuid::Uuid;

use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::custom_event::CustomEvent;
use crate::domain::event::Recipient;
use crate::domain::id::{DeliveryId, TypedId, UserId};
use crate::domain::user::{Changes, Origin, PartKey};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::intake::Pending;
use crate::pipeline::plan::{ActionBody, PlannedAction};
use crate::store::actions::{NewAction, TagAction, await_writes, insert_all};
use crate::store::user_writes::NewWrite;
use crate::store::users::Alias;
use crate::store::{StoreError, Tx, custom_events, user_writes, users};

/// A planned action with its id.
struct Action<'a> {
    id: Uuid,
    event: &'a Pending,
    planned: &'a PlannedAction,
}

impl Pipeline {
    /// Stores the planned actions of newly accepted events.
    pub(in crate::pipeline) async fn write_actions(
        &self,
        tx: &mut Tx,
        winners: &[&Pending],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let planned =
            winners.iter().flat_map(|event| event.plan.1.actions.iter().map(move |one| (*event, one)));
        let actions: Vec<Action<'_>> = planned
            .map(|(event, planned)| {
                let id = self.ids.next::<DeliveryId>(event.event.received_at).uuid();
                Action { id, event, planned }
            })
            .collect();
        if actions.is_empty() {
            return Ok(());
        }
        let bodies: Vec<_> = actions.iter().map(|action| action.planned.body.to_json()).collect();
        let rows: Vec<NewAction<'_>> =
            actions.iter().zip(&bodies).map(|(action, body)| row(action, body)).collect();
        insert_all(tx, &rows, now).await?;
        for app in actions.iter().map(|action| action.planned.app).collect::<BTreeSet<AppId>>() {
            let of_app = || actions.iter().filter(|action| action.planned.app == app);
            let events: Vec<CustomEvent> = of_app().filter_map(custom_event).collect();
            if !events.is_empty() {
                custom_events::insert_all(tx, app, &events.iter().collect::<Vec<_>>(), now).await?;
            }
            self.write_tags(tx, app, of_app(), now).await?;
        }
        Ok(())
    }

    /// Adds tags to the outbox of their people; later events' tags replace earlier ones'.
    async fn write_tags<'a>(
        &self,
        tx: &mut Tx,
        app: AppId,
        actions: impl Iterator<Item = &'a Action<'a>>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tagged: Vec<(Uuid, Alias, &BTreeMap<String, String>)> = Vec::new();
        for action in actions {
            if let ActionBody::Tags(tags) = action.planned.body.as_ref() {
                tagged.push((action.id, alias_of(&action.planned.recipient), tags));
            }
        }
        if tagged.is_empty() {
            return Ok(());
        }
        let people = tagged.iter().map(|(_, alias, _)| alias.clone()).collect();
        let people = users::ensure(tx, &people, || self.ids.next::<UserId>(now).uuid(), now).await?;
        let mut writes: BTreeMap<Uuid, Changes> = BTreeMap::new();
        for (_, alias, tags) in &tagged {
            let Some(user) = people.get(alias) else { continue };
            let parts = tags.iter().map(|(name, value)| (PartKey::Tag(name.clone()), json!(value)));
            writes.entry(*user).or_default().merge(Changes(parts.collect()));
        }
        let writes: Vec<NewWrite> =
            writes.into_iter().map(|(user, changes)| NewWrite { user, changes, creates: false }).collect();
        let accepted = user_writes::accept(tx, app, &writes, Origin::Event, now).await?;
        let versions: BTreeMap<Uuid, i64> = accepted.into_iter().collect();
        let waiting = tagged.iter().filter_map(|(action, alias, tags)| {
            let user = *people.get(alias)?;
            let tags = tags.keys().cloned().collect();
            Some(TagAction { action: *action, app, user, version: *versions.get(&user)?, tags })
        });
        await_writes(tx, &waiting.collect::<Vec<_>>()).await
    }
}

fn row<'a>(action: &'a Action<'a>, body: &'a serde_json::Value) -> NewAction<'a> {
    NewAction {
        id: action.id,
        event: action.event.event.id,
        rule: &action.planned.rule.key,
        app: action.planned.app,
        kind: action.planned.body.kind(),
        recipient: &action.planned.recipient,
        body,
    }
}

fn custom_event(action: &Action<'_>) -> Option<CustomEvent> {
    match action.planned.body.as_ref() {
        ActionBody::Track { name, properties } => Some(CustomEvent {
            id: action.id,
            name: name.clone(),
            recipient: action.planned.recipient.clone(),
            occurred_at: action.event.event.occurred_at.unwrap_or(action.event.event.received_at),
            properties: properties.clone().into(),
        }),
        ActionBody::Tags(_) => None,
    }
}

fn alias_of(recipient: &Recipient) -> Alias {
    (recipient.label.as_str().to_owned(), recipient.id.clone())
}
