//! Everything that Herald holds about a person, as one JSON object per line.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::IntoResponse;
use futures_util::stream;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Api;
use super::event_reads::{ActionBody, EventBody};
use super::listing::delivery_body;
use super::parameters::PathTexts;
use super::problem::{Code, Problem};
use super::users::user_body;
use crate::access::Use;
use crate::domain::event::Recipient;
use crate::domain::id::{EventId, TypedId};
use crate::store::StoreError;

/// Deliveries, or events, that are read at once.
const PAGE: i64 = 100;
/// The maximum number of actions of one event.
const ACTIONS: i64 = 1_000;

/// Exports everything that Herald holds about a person: identity, preferences and pending changes, then deliveries with
/// their events, then events for which nothing was planned, newest first. Sensitive values are masked, as everywhere.
#[utoipa::path(
    get, path = "/v1/users/{label}/{id}/export", tag = "users",
    params(("label" = String, Path, description = "`external_id`, `email`, `phone`, or an alias label"),
        ("id" = String, Path)),
    responses(
        (status = 200, description = "One JSON object per line: `kind` is `user`, `delivery` or `event`; the last line is \
            `{\"kind\": \"end\"}`", content_type = "application/x-ndjson", body = String),
        (status = 404, description = "Nobody can have this label or id"),
    )
)]
pub(super) async fn export_user(
    State(api): State<Arc<Api>>,
    PathTexts(label, id): PathTexts,
    headers: HeaderMap,
) -> Result<impl IntoResponse, Problem> {
    api.allow(&headers, Use::ExportUsers).await?;
    let person = Recipient::parse(&label, &id)
        .map_err(|error| Problem::new(Code::NotFound, format!("there is no such user: {error}")))?;
    let names = api.store.names_of(&person).await?;
    let reading = Reading { api, names, seen: BTreeSet::new(), next: Part::User };
    let lines = stream::try_unfold(reading, Reading::next);
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"user.ndjson\""),
    ];
    Ok((headers, Body::from_stream(lines)))
}

/// What is read next.
enum Part {
    User,
    /// Deliveries before this one.
    Deliveries(Uuid),
    /// Events without deliveries before this one.
    Events(Uuid),
    End,
    Nothing,
}

struct Reading {
    api: Arc<Api>,
    names: Vec<Recipient>,
    /// Events that were written.
    seen: BTreeSet<Uuid>,
    next: Part,
}

impl Reading {
    async fn next(mut self) -> Result<Option<(Bytes, Self)>, StoreError> {
        let mut lines = Vec::new();
        self.next = match self.next {
            Part::User => {
                lines.push(self.user().await?);
                Part::Deliveries(Uuid::max())
            }
            Part::Deliveries(before) => self.deliveries(before, &mut lines).await?,
            Part::Events(before) => self.events(before, &mut lines).await?,
            Part::End => {
                lines.push(json!({"kind": "end"}));
                Part::Nothing
            }
            Part::Nothing => return Ok(None),
        };
        let mut text = String::new();
        for line in &lines {
            text.push_str(&line.to_string());
            text.push('\n');
        }
        Ok(Some((text.into(), self)))
    }

    async fn user(&self) -> Result<Value, StoreError> {
        let apps = self.api.store.apps().await?;
        let mut user = None;
        for name in &self.names {
            if user.is_none() {
                user = self.api.store.find_user(name.label.as_str(), &name.id).await?;
            }
        }
        Ok(json!({"kind": "user", "user": user.map(|user| user_body(user, &apps))}))
    }

    async fn deliveries(&mut self, before: Uuid, lines: &mut Vec<Value>) -> Result<Part, StoreError> {
        let rows = self.api.store.deliveries_to(&self.names, before, PAGE).await?;
        let Some(last) = rows.last().map(|row| row.id.uuid()) else { return Ok(Part::Events(Uuid::max())) };
        let events: BTreeSet<Uuid> = rows.iter().map(|row| row.event.uuid()).collect();
        let now = self.api.clock.now();
        lines.extend(
            rows.into_iter().map(|row| json!({"kind": "delivery", "delivery": delivery_body(row, now)})),
        );
        let new: Vec<EventId> =
            events.into_iter().filter(|id| self.seen.insert(*id)).map(EventId::from_uuid).collect();
        for stored in self.api.store.find_events(&new).await? {
            let actions = self.api.store.actions_of(stored.event.id, ACTIONS).await?;
            let is_theirs = |(label, id): &(String, String)| {
                self.names.iter().any(|n| n.label.as_str() == label && n.id == *id)
            };
            let actions: Vec<ActionBody> = actions
                .into_iter()
                .filter(|action| is_theirs(&action.recipient))
                .map(ActionBody::from)
                .collect();
            lines.push(json!({"kind": "event", "event": EventBody::from(stored.event), "actions": actions}));
        }
        Ok(Part::Deliveries(last))
    }

    async fn events(&mut self, before: Uuid, lines: &mut Vec<Value>) -> Result<Part, StoreError> {
        let events = self.api.store.unanswered_events_of(&self.names, before, PAGE).await?;
        let Some(last) = events.last().map(|stored| stored.event.id.uuid()) else { return Ok(Part::End) };
        let ids: Vec<EventId> = events.iter().map(|stored| stored.event.id).collect();
        for stored in self.api.store.find_events(&ids).await? {
            lines.push(json!({"kind": "event", "event": EventBody::from(stored.event), "actions": []}));
        }
        Ok(Part::Events(last))
    }
}
