//! Cancelling what still waits: by key, by event, by delivery.

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

/// What is to be cancelled.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CancellationRequest {
    /// The `cancellation_key` of events that this source has posted.
    key: String,
}

/// What a cancellation came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CancellationBody {
    /// Deliveries that are cancelled now, or would be.
    cancelled: usize,
    /// Messages that go out with what others were gathered for them, and without this.
    taken_out: usize,
    /// Deliveries that OneSignal holds until their time and is asked to give back, or would be: their state tells.
    recalling: usize,
    /// Deliveries that somebody gets all the same, or may.
    too_late: usize,
    /// Deliveries that had ended before without a message, cancelled ones among them.
    over: usize,
    /// Each of them: the first 100, those that were too late before the others.
    deliveries: Vec<CancelledBody>,
}

/// What a cancellation came to for one delivery.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CancelledBody {
    #[schema(value_type = String)]
    id: DeliveryId,
    rule: String,
    /// Where it stands now.
    state: &'static str,
    /// `cancelled`; `taken_out`; `recalling`; too late: `being_sent`, `may_have_been_sent`, `accepted`, or `shares_call` (OneSignal
    /// holds it in one message with others that are not cancelled); `over`: it had ended without a message.
    outcome: &'static str,
}

impl CancellationBody {
    fn new(mut told: Vec<Cancellation>) -> Self {
        let count = |is: fn(Outcome) -> bool| told.iter().filter(|one| is(one.outcome)).count();
        let cancelled = count(|outcome| outcome == Outcome::Cancelled);
        let taken_out = count(|outcome| outcome == Outcome::TakenOut);
        let recalling = count(|outcome| outcome == Outcome::Recalling);
        let too_late = count(Outcome::is_too_late);
        let over = count(|outcome| outcome == Outcome::Over);
        told.sort_by_key(|one| !one.outcome.is_too_late());
        let body = |one: Cancellation| CancelledBody {
            id: one.delivery,
            rule: one.rule,
            state: one.state.as_str(),
            outcome: one.outcome.as_str(),
        };
        let deliveries = told.into_iter().take(LISTED_DELIVERIES).map(body).collect();
        Self { cancelled, taken_out, recalling, too_late, over, deliveries }
    }
}

/// Who cancels, as it is told later.
fn by(identity: &Identity, through: &str) -> String {
    format!("cancelled by {} ({}){through}", identity.source_name, identity.key)
}

/// Cancels what still waits under a cancellation key; what may have gone out already stays as it is.
///
/// Deliveries that have ended are not found by their key any more and are not counted.
#[utoipa::path(
    post, path = "/v1/cancellations", tag = "events", request_body = CancellationRequest, params(WriteQuery),
    responses((status = 200, description = "What came of it", body = CancellationBody))
)]
pub(super) async fn cancel_waiting(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CancellationBody>, Problem> {
    // The key's own space: a test key finds what test keys posted.
    let (identity, _) = api.allow_visible(&headers, Use::CancelWaiting).await?;
    let request: CancellationRequest = super::catalog_entries::read(&headers, body).await?;
    let why = by(&identity, &format!(" through the key {}", request.key));
    let space = KeySpace { source: identity.source, is_test: identity.is_test };
    let unwanted = Unwanted::Key(space, &request.key);
    let told = api.pipeline.cancel(unwanted, &why, query.dry_run).await?;
    Ok(Json(CancellationBody::new(told)))
}

/// Cancels what still waits of an event. The same again changes nothing and answers how things stand.
///
/// A source cancels its own events; a key with `deliveries:write` cancels anybody's.
#[utoipa::path(
    post, path = "/v1/events/{id}/cancel", tag = "events",
    params(("id" = String, Path, description = "evt_…"), WriteQuery),
    responses(
        (status = 200, description = "What came of it", body = CancellationBody),
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
    let told = api.pipeline.cancel(Unwanted::Event(event), &by(&identity, ""), query.dry_run).await?;
    Ok(Json(CancellationBody::new(told)))
}

/// Cancels a delivery that still waits. The same again changes nothing and answers how things stand.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/cancel", tag = "deliveries",
    params(("id" = String, Path, description = "dlv_…"), WriteQuery),
    responses(
        (status = 200, description = "What came of it", body = CancellationBody),
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
    let told = api.pipeline.cancel(unwanted, &by(&identity, ""), query.dry_run).await?;
    if told.is_empty() {
        return Err(unknown());
    }
    Ok(Json(CancellationBody::new(told)))
}
