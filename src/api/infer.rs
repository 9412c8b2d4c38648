//! Inferring a schema from the latest events of a type.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::Deserialize;

use super::Api;
use super::catalog_entries::read;
use super::parameters::PathText;
use super::problem::{Code, Problem, ProblemBody};
use crate::access::Use;
use crate::catalog::infer::Inferred;
use crate::catalog::traffic::DEFAULT_EVENTS;
use crate::domain::event::EventTypeName;

/// Options.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct InferRequest {
    /// Number of recent events to use: 1 to 5,000.
    last: u32,
}

impl Default for InferRequest {
    fn default() -> Self {
        Self { last: DEFAULT_EVENTS }
    }
}

/// Infers a schema from the latest events of a type. Nothing is stored.
#[utoipa::path(
    post, path = "/v1/event-types/{name}/infer", tag = "catalog", request_body = InferRequest,
    params(("name" = String, Path, description = "order.shipped")),
    responses(
        (status = 200, description = "A schema to start from", body = Inferred),
        (status = 404, description = "No stored events of this type", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn infer_schema(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<Inferred>, Problem> {
    // Repeated words are shown verbatim.
    api.allow(&headers, Use::InferSchemas).await?;
    let InferRequest { last } = read(&headers, request).await?;
    let none = || Problem::new(Code::NotFound, format!("no stored events of type {name}"));
    let event_type: EventTypeName = name.parse().map_err(|_| none())?;
    let inferred = api.publisher.infer(&event_type, last).await?;
    if inferred.based_on == 0 { Err(none()) } else { Ok(Json(inferred)) }
}
