//! Reading events with their deliveries and decisions.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::Value;

use super::Api;
use super::listing::{DecisionBody, DeliveryBody, Page, RawListQuery, delivery_body};
use super::outcomes::OutcomeBody;
use super::parameters::{Parameters, PathText};
use super::problem::{Code, Problem};
use crate::access::Use;
use crate::domain::app::AppId;
use crate::domain::erasure::ERASED_ID;
use crate::domain::event::{Event, Recipient};
use crate::domain::id::{DeliveryId, EventId};
use crate::store::actions::StoredAction;

/// The maximum number of actions shown with an event.
const LISTED_ACTIONS: i64 = 100;

/// An event. Sensitive values are masked.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventBody {
    #[schema(value_type = String)]
    id: EventId,
    /// The source's own event ID.
    key: String,
    #[schema(value_type = String)]
    source: crate::domain::id::SourceId,
    r#type: String,
    recipients: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    data: Option<Value>,
    time: Option<DateTime<Utc>>,
    received_at: DateTime<Utc>,
    locale: Option<String>,
    send_after: Option<DateTime<Utc>>,
    expires_at: Option<DateTime<Utc>>,
    cancellation_key: Option<String>,
    collapse_key: Option<String>,
    sequence: Option<i64>,
    ordering_key: Option<String>,
    test: bool,
}

impl From<Event> for EventBody {
    fn from(event: Event) -> Self {
        Self {
            id: event.id,
            key: event.event_key,
            source: event.source,
            r#type: event.event_type.to_string(),
            recipients: event.recipients.iter().map(recipient_body).collect(),
            data: (!event.data.is_null()).then_some(event.data),
            time: event.occurred_at,
            received_at: event.received_at,
            locale: event.locale,
            send_after: event.send_after,
            expires_at: event.expires_at,
            cancellation_key: event.cancellation_key,
            collapse_key: event.collapse_key,
            sequence: event.sequence,
            ordering_key: event.ordering_key,
            test: event.is_test,
        }
    }
}

/// A recipient.
pub(super) fn recipient_body(recipient: &Recipient) -> Value {
    if recipient.id == ERASED_ID {
        return serde_json::json!({ "erased": true });
    }
    serde_json::json!({ recipient.label.as_str(): recipient.id })
}

/// An event with its full history.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct EventTrace {
    #[serde(flatten)]
    event: EventBody,
    deliveries: Vec<DeliveryBody>,
    decisions: Vec<DecisionBody>,
    /// What `tag` and `track` rules do for the event's recipients: the first 100.
    actions: Vec<ActionBody>,
    /// What devices and mailboxes reported about its deliveries, oldest first: the first 1,000.
    outcomes: Vec<OutcomeBody>,
}

/// A tag or a custom event of a rule.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ActionBody {
    rule: String,
    #[schema(value_type = String)]
    app: AppId,
    /// `tag` or `track`.
    kind: String,
    #[schema(value_type = Object)]
    recipient: Value,
    /// The tags, or the custom event's name and properties.
    #[schema(value_type = Object)]
    body: Value,
    /// `planned`; `done`: OneSignal confirmed it; `refused`; or `expired`: it was not confirmed in time.
    state: String,
    /// Why it was refused or expired.
    detail: String,
    finished_at: Option<DateTime<Utc>>,
}

impl From<StoredAction> for ActionBody {
    fn from(action: StoredAction) -> Self {
        let (label, id) = action.recipient;
        Self {
            rule: action.rule,
            app: action.app,
            kind: action.kind,
            recipient: serde_json::json!({ label: id }),
            body: action.body,
            state: action.state,
            detail: action.detail,
            finished_at: action.finished_at,
        }
    }
}

/// Lists events, newest first.
#[utoipa::path(
    get, path = "/v1/events", tag = "events", params(RawListQuery),
    responses((status = 200, description = "A page of events", body = Page<EventBody>))
)]
pub(super) async fn list_events(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<RawListQuery>,
    headers: HeaderMap,
) -> Result<Json<Page<EventBody>>, Problem> {
    let (_, visible) = api.allow_visible(&headers, Use::ReadEvents).await?;
    let filter = query.filter::<EventId>(visible)?;
    let events = api.store.list_events(&filter).await?;
    Ok(Json(Page::new(
        events,
        filter.limit,
        |stored| stored.event.id.to_string(),
        |stored| stored.event.into(),
    )))
}

/// Shows one event with its deliveries and decisions.
#[utoipa::path(
    get, path = "/v1/events/{id}", tag = "events", params(("id" = String, Path, description = "evt_…")),
    responses((status = 200, description = "The event", body = EventTrace), (status = 404, description = "No such event"))
)]
pub(super) async fn get_event(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Json<EventTrace>, Problem> {
    let (_, visible) = api.allow_visible(&headers, Use::ReadEvents).await?;
    let unknown = || Problem::new(Code::NotFound, format!("there is no event {id}"));
    let id: EventId = id.parse().map_err(|_| unknown())?;
    let stored = api.store.find_event(id).await?.ok_or_else(unknown)?;
    if !visible.has(stored.event.source, stored.event.is_test) {
        return Err(unknown());
    }
    let (deliveries, decisions) = api.store.trace_of(id).await?;
    let actions = api.store.actions_of(id, LISTED_ACTIONS).await?;
    let ids: Vec<DeliveryId> = deliveries.iter().map(|row| row.id).collect();
    let outcomes = api.store.outcomes_of_deliveries(&ids).await?;
    let now = api.clock.now();
    Ok(Json(EventTrace {
        event: stored.event.into(),
        deliveries: deliveries.into_iter().map(|row| delivery_body(row, now)).collect(),
        decisions: decisions.into_iter().map(DecisionBody::from).collect(),
        actions: actions.into_iter().map(ActionBody::from).collect(),
        outcomes: outcomes.into_iter().map(OutcomeBody::from).collect(),
    }))
}
