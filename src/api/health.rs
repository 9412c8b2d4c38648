//! Is it alive, is it ready, how is it doing.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use crate::access::Use;
use crate::store::schema::SchemaState;

/// How long readiness waits for the database.
const DATABASE_TIME: Duration = Duration::from_millis(400);
/// Rows of the queue that a look at the backlog counts at most.
const BACKLOG_ROWS: i64 = 100_000;

/// Alive.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "The process answers")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Whether requests should be sent here.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReadyBody {
    ready: bool,
    /// Why not.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Whether a failover of the database loses nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    failover_is_loss_free: Option<bool>,
}

/// Ready: the database takes writes, the schema fits, and the process is not about to stop.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, description = "Ready", body = ReadyBody), (status = 503, description = "Not ready", body = ReadyBody))
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> (StatusCode, Json<ReadyBody>) {
    let not = |reason| {
        let body = ReadyBody { ready: false, reason: Some(reason), failover_is_loss_free: None };
        (StatusCode::SERVICE_UNAVAILABLE, Json(body))
    };
    if !api.is_ready.load(Ordering::SeqCst) {
        return not("the process is about to stop");
    }
    let asked = async {
        Ok::<_, crate::store::StoreError>((api.store.health().await?, api.store.schema_state().await?))
    };
    match tokio::time::timeout(DATABASE_TIME, asked).await {
        Ok(Ok((health, SchemaState::Current))) if health.is_writable => {
            let failover = Some(health.has_synchronous_standby);
            (StatusCode::OK, Json(ReadyBody { ready: true, reason: None, failover_is_loss_free: failover }))
        }
        Ok(Ok((_, SchemaState::Behind(_)))) => not("the schema is behind: run `herald migrate`"),
        Ok(Ok(_)) => not("the database is read-only"),
        Ok(Err(_)) | Err(_) => not("the database can't be reached"),
    }
}

/// Metrics, as Prometheus reads them.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, description = "Prometheus text")))]
pub(super) async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    if api.metrics_need_key {
        api.allow(&headers, Use::ReadMetrics).await?;
    }
    for row in api.store.backlog(BACKLOG_ROWS).await? {
        let age = row.oldest_due_at.map_or(0, |due| (api.clock.now() - due).num_seconds().max(0));
        let labels = [("lane", row.lane), ("state", row.state)];
        metrics::gauge!(crate::telemetry::names::BACKLOG, &labels)
            .set(u32::try_from(row.deliveries).unwrap_or(u32::MAX));
        metrics::gauge!(crate::telemetry::names::OLDEST_SECONDS, &labels)
            .set(u32::try_from(age).unwrap_or(u32::MAX));
    }
    metrics::gauge!(crate::telemetry::names::HANDED_OVER)
        .set(u32::try_from(api.pipeline.deliveries_in_memory()).unwrap_or(u32::MAX));
    let text =
        api.metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}
