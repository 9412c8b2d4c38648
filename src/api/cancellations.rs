//! Cancelling pending deliveries by key, by event or by ID.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::Api;
use super::events::{LISTED_DELIVERIES, WriteQuery};
use super::parameters::{Parameters, PathText};
use super::problem::{Code, Problem, ProblemBody};
use crate::access::{Identity, Use};
use crate::domain::event::KeySpace;
use crate::domain::id::{DeliveryId, EventId};
use crate::pipeline::operator::cancel::{Cancellation, Outcome, Unwanted};

/// A cancellation request.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancellationRequest {
    /// The `cancellation_key` of events that this source has posted.
    key: String,
}

/// The result of a cancellation.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CancellationBody {
    /// Deliveries that were cancelled, or would be in a dry run.
    cancelled: usize,
    /// Digest messages that are still sent, without the cancelled events.
    taken_out: usize,
    /// Deliveries scheduled at OneSignal that are being recalled (or would be); their state shows the result.
    recalling: usize,
    /// Deliveries that can't be stopped any more: their message was, or may have been, sent.
    too_late: usize,
    /// Deliveries that had already ended without a message, including cancelled ones.
    over: usize,
    /// The first 100 deliveries; those that were too late come first.
    deliveries: Vec<CancelledBody>,
}

/// The result of a cancellation for one delivery.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CancelledBody {
    #[schema(value_type = String)]
    id: DeliveryId,
    rule: String,
    /// Its current state.
    state: &'static str,
    /// `cancelled`; `taken_out`; `recalling`; or too late: `being_sent`, `may_have_been_sent`, `accepted`, or
    /// `shares_call` (scheduled
    /// at OneSignal in one message with others that are not cancelled); `over`: it had already ended without a message.
    outcome: &'static str,
}

impl CancellationBody {
    fn new(mut reported: Vec<Cancellation>) -> Self {
        let count = |is: fn(Outcome) -> bool| reported.iter().filter(|one| is(one.outcome)).count();
        let cancelled = count(|outcome| outcome == Outcome::Cancelled);
        let taken_out = count(|outcome| outcome == Outcome::TakenOut);
        let recalling = count(|outcome| outcome == Outcome::Recalling);
        let too_late = count(Outcome::is_too_late);
        let over = count(|outcome| outcome == Outcome::Over);
        reported.sort_by_key(|one| !one.outcome.is_too_late());
        let body = |one: Cancellation| CancelledBody {
            id: one.delivery,
            rule: one.rule,
            state: one.state.as_str(),
            outcome: one.outcome.as_str(),
        };
        let deliveries = reported.into_iter().take(LISTED_DELIVERIES).map(body).collect();
        Self { cancelled, taken_out, recalling, too_late, over, deliveries }
    }
}

/// The reason that is recorded.
fn by(identity: &Identity, through: &str) -> String {
    format!("cancelled by {} ({}){through}", identity.source_name, identity.key)
}

/// Cancels the pending deliveries of a cancellation key. Messages that may already have been sent are not affected.
///
/// Deliveries that have already ended are not found by key and not counted.
#[utoipa::path(
    post, path = "/v1/cancellations", tag = "events", request_body = CancellationRequest, params(WriteQuery),
    responses((status = 200, description = "The result", body = CancellationBody))
)]
pub(super) async fn cancel_waiting(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CancellationBody>, Problem> {
    // Test keys only find events posted with test keys.
    let (identity, _) = api.allow_visible(&headers, Use::CancelWaiting).await?;
    let request: CancellationRequest = super::catalog_entries::read(&headers, body).await?;
    let why = by(&identity, &format!(" through the key {}", request.key));
    let space = KeySpace { source: identity.source, is_test: identity.is_test };
    let unwanted = Unwanted::Key(space, &request.key);
    let reported = api.pipeline.cancel(unwanted, &why, query.dry_run).await?;
    Ok(Json(CancellationBody::new(reported)))
}

/// Cancels the pending deliveries of an event. Repeating the request has no effect and returns the current state.
///
/// A source can cancel its own events; a key with `deliveries:write` can cancel any.
#[utoipa::path(
    post, path = "/v1/events/{id}/cancel", tag = "events",
    params(("id" = String, Path, description = "evt_…"), WriteQuery),
    responses(
        (status = 200, description = "The result", body = CancellationBody),
        (status = 404, description = "No such event", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel_event(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
) -> Result<Json<CancellationBody>, Problem> {
    let (identity, visible) = match api.allow_visible(&headers, Use::CancelDelivery).await {
        Ok(allowed) => allowed,
        Err(_) => api.allow_visible(&headers, Use::CancelWaiting).await?,
    };
    let unknown = || Problem::new(Code::NotFound, format!("there is no event {id}"));
    let event: EventId = id.parse().map_err(|_| unknown())?;
    let stored = api.store.find_event(event).await?.ok_or_else(unknown)?;
    let is_own = stored.event.source == identity.source || identity.may(Use::CancelDelivery);
    if !is_own || !visible.has(stored.event.source, stored.event.is_test) {
        return Err(unknown());
    }
    let reported = api.pipeline.cancel(Unwanted::Event(event), &by(&identity, ""), query.dry_run).await?;
    Ok(Json(CancellationBody::new(reported)))
}

/// Cancels a pending delivery. Repeating the request has no effect and returns the current state.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries",
    params(("id" = String, Path, description = "dlv_…"), WriteQuery),
    responses(
        (status = 200, description = "The result", body = CancellationBody),
        (status = 404, description = "No such delivery", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn cancel_delivery(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
) -> Result<Json<CancellationBody>, Problem> {
    let (identity, visible) = api.allow_visible(&headers, Use::CancelDelivery).await?;
    let unknown = || Problem::new(Code::NotFound, format!("there is no delivery {id}"));
    let delivery = api.visible_delivery(&id, &visible).await?.id;
    let unwanted = Unwanted::Deliveries(&[delivery]);
    let reported = api.pipeline.cancel(unwanted, &by(&identity, ""), query.dry_run).await?;
    if reported.is_empty() {
        return Err(unknown());
    }
    Ok(Json(CancellationBody::new(reported)))
}
