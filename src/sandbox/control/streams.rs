//! Event Streams, which OneSignal configures in its dashboard, and received custom events.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::{Json, Router, routing};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Sandbox;
use super::super::create::random_uuid;
use super::super::streams::Stream;
use super::{Unclear, read, unclear};

pub(super) fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/event-streams", routing::post(put_stream).get(streams).delete(delete_stream))
        .route("/_sandbox/custom-events", routing::get(custom_events))
}

/// Creates a stream; with an `id`, changes or re-enables it.
async fn put_stream(
    State(sandbox): State<Arc<Sandbox>>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Unclear> {
    let mut stream: Stream = read(&body)?;
    stream.check().map_err(unclear)?;
    stream.app_id = Some(sandbox.app_or_first(stream.app_id)?);
    if stream.id.is_nil() {
        stream.id = random_uuid();
    }
    sandbox.state.lock().put_stream(&stream)?;
    let shown = stream.view();
    sandbox.streams.lock().put(stream);
    Ok((StatusCode::CREATED, Json(shown)))
}

async fn streams(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    Json(json!({"data": sandbox.streams.lock().view()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Which {
    id: Uuid,
}

async fn delete_stream(
    State(sandbox): State<Arc<Sandbox>>,
    query: Result<Query<Which>, QueryRejection>,
) -> Result<Json<Value>, Unclear> {
    let Query(Which { id }) = query?;
    let existed = sandbox.streams.lock().remove(id);
    if !existed {
        return Err(Unclear(StatusCode::NOT_FOUND, format!("the sandbox has no Event Stream {id}")));
    }
    sandbox.state.lock().delete_stream(id)?;
    Ok(Json(json!({"success": true})))
}

async fn custom_events(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    Json(json!({"data": sandbox.custom_events()}))
}
