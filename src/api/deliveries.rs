//! Deliveries: listing, showing with their trace, releasing.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::gates::GateBody;
use super::listing::{AttemptBody, DecisionBody, DeliveryBody, Page, RawListQuery, delivery_body};
use super::outcomes::{OutcomeBody, OutcomeSummary};
use super::parameters::{Parameters, PathText};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, json_body};
use crate::access::Use;
use crate::domain::delivery::StateName;
use crate::domain::event::VisibleEvents;
use crate::domain::id::{DeliveryId, TypedId};
use crate::pipeline::operator::release::Release;
use crate::store::delivery_reads::DeliveryRow;

/// Maximum size of a release request.
const MAX_RELEASE_BYTES: usize = 256 * 1024;

/// Lists deliveries, newest first.
#[utoipa::path(
    get, path = "/v1/deliveries", tag = "deliveries", params(RawListQuery),
    responses((status = 200, description = "A page of deliveries", body = Page<DeliveryBody>))
)]
pub(super) async fn list_deliveries(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<RawListQuery>,
    headers: HeaderMap,
) -> Result<Json<Page<DeliveryBody>>, Problem> {
    let (_, visible) = api.allow_visible(&headers, Use::ReadDeliveries).await?;
    let filter = query.filter::<DeliveryId>(visible)?;
    let rows = api.store.list_deliveries(&filter).await?;
    let now = api.clock.now();
    Ok(Json(Page::new(rows, filter.limit, |row| row.id.to_string(), |row| delivery_body(row, now))))
}

/// A delivery with its full history.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DeliveryTrace {
    #[serde(flatten)]
    delivery: DeliveryBody,
    /// Decisions, oldest first.
    decisions: Vec<DecisionBody>,
    /// API calls that included it, oldest first.
    attempts: Vec<AttemptBody>,
    /// How far it came, once something was reported.
    #[serde(skip_serializing_if = "Option::is_none")]
    outcome: Option<OutcomeSummary>,
    /// What devices and mailboxes reported, oldest first: the first 1,000.
    outcomes: Vec<OutcomeBody>,
    /// The closed gate that blocks it, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    gate: Option<GateBody>,
}

/// Shows one delivery with decisions and attempts.
#[utoipa::path(
    get, path = "/v1/deliveries/{id}", tag = "deliveries", params(("id" = String, Path, description = "dlv_…")),
    responses((status = 200, description = "The delivery", body = DeliveryTrace), (status = 404, description = "No such delivery"))
)]
pub(super) async fn get_delivery(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Json<DeliveryTrace>, Problem> {
    let (_, visible) = api.allow_visible(&headers, Use::ReadDeliveries).await?;
    api.visible_delivery(&id, &visible).await?;
    trace(&api, &id).await.map(Json)
}

impl Api {
    /// The delivery with this id, if the caller may see it.
    ///
    /// # Errors
    /// 404 if there is none, or if it is of an event that the caller may not see.
    pub(super) async fn visible_delivery(
        &self,
        id: &str,
        visible: &VisibleEvents,
    ) -> Result<DeliveryRow, Problem> {
        let unknown = || Problem::new(Code::NotFound, format!("there is no delivery {id}"));
        let parsed: DeliveryId = id.parse().map_err(|_| unknown())?;
        let row = self.store.find_delivery(parsed).await?.ok_or_else(unknown)?;
        if !visible.is_everything() {
            let event = self.store.find_event(row.event).await?.ok_or_else(unknown)?.event;
            if !visible.has(event.source, event.is_test) {
                return Err(unknown());
            }
        }
        Ok(row)
    }
}

async fn trace(api: &Api, id: &str) -> Result<DeliveryTrace, Problem> {
    let unknown = || Problem::new(Code::NotFound, format!("there is no delivery {id}"));
    let id: DeliveryId = id.parse().map_err(|_| unknown())?;
    let row = api.store.find_delivery(id).await?.ok_or_else(unknown)?;
    let decisions = api.store.decisions_about(id).await?;
    let batches: Vec<_> = row.batch.into_iter().collect();
    let attempts = api.store.attempts_of(&batches).await?;
    let gate = if row.state == StateName::QUEUED { api.store.gate_before(&row).await? } else { None };
    let outcomes = api.store.outcomes_of_deliveries(&[id]).await?;
    Ok(DeliveryTrace {
        outcome: OutcomeSummary::of(&outcomes),
        outcomes: outcomes.into_iter().map(OutcomeBody::from).collect(),
        gate: gate.map(GateBody::from),
        delivery: delivery_body(row, api.clock.now()),
        decisions: decisions.into_iter().map(DecisionBody::from).collect(),
        attempts: attempts.into_iter().map(AttemptBody::from).collect(),
    })
}

/// A release request.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct ReleaseRequest {
    /// A template version to use instead of the pinned one.
    version: Option<i32>,
    /// Values to merge into the event's data.
    #[schema(value_type = Option<Object>)]
    values: Option<Value>,
}

/// Releases a held delivery.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/release", tag = "deliveries", request_body = ReleaseRequest,
    params(("id" = String, Path, description = "dlv_…")),
    responses(
        (status = 200, description = "Released", body = DeliveryTrace),
        (status = 409, description = "It is not held", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It would be held again", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn release_delivery(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<DeliveryTrace>, Problem> {
    let (identity, visible) = api.allow_visible(&headers, Use::ReleaseDelivery).await?;
    let request: ReleaseRequest = json_body::read(&headers, body, MAX_RELEASE_BYTES).await?;
    if request.values.as_ref().is_some_and(|values| !values.is_object()) {
        let error =
            FieldError::new("/values", "invalid", "`values` must be a JSON object, as in the event's data");
        return Err(Problem::fields(Code::InvalidFields, vec![error]));
    }
    let delivery = api.visible_delivery(&id, &visible).await?.id;
    let release = Release { version: request.version, values: request.values };
    api.pipeline.release(delivery, release, identity.key.uuid()).await?;
    trace(&api, &id).await.map(Json)
}
