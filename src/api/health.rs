//! Liveness, readiness and metrics.

use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;

use super::Api;
use super::problem::Problem;
use crate::access::Use;
use crate::domain::clock::Timestamp;
use crate::people::connector::is_stale;
use crate::store::connectors::{Connector, ConnectorState};
use crate::store::schema::SchemaState;
use crate::store::{Store, StoreError};

/// How long readiness waits for the database.
const DATABASE_TIME: Duration = Duration::from_millis(400);
/// Maximum queue rows that a backlog check counts.
const BACKLOG_ROWS: i64 = 100_000;

/// Liveness.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, description = "The process is running")))]
pub(super) async fn healthz() -> &'static str {
    "ok\n"
}

/// Readiness.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReadyBody {
    ready: bool,
    /// Why it is not ready.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Whether a database failover is free of data loss (synchronous replication).
    #[serde(skip_serializing_if = "Option::is_none")]
    failover_is_loss_free: Option<bool>,
    /// Running connectors that were not polled for a while. They do not affect `ready`: another process could not reach
    /// their sources either.
    #[serde(skip_serializing_if = "Option::is_none")]
    stale_connectors: Option<usize>,
}

/// Readiness: the database is writable, the schema is current, and the process is not shutting down.
#[utoipa::path(
    get, path = "/readyz", tag = "health",
    responses((status = 200, description = "Ready", body = ReadyBody), (status = 503, description = "Not ready", body = ReadyBody))
)]
pub(super) async fn readyz(State(api): State<Arc<Api>>) -> (StatusCode, Json<ReadyBody>) {
    let not = |reason| {
        let body = ReadyBody {
            ready: false,
            reason: Some(reason),
            failover_is_loss_free: None,
            stale_connectors: None,
        };
        (StatusCode::SERVICE_UNAVAILABLE, Json(body))
    };
    if !api.is_ready.load(Ordering::SeqCst) {
        return not("the process is shutting down");
    }
    match api.readiness.of(&api.health, api.clock.now()).await {
        Readiness::Ready { failover_is_loss_free, stale_connectors } => {
            let failover_is_loss_free = Some(failover_is_loss_free);
            let stale_connectors = Some(stale_connectors).filter(|count| *count > 0);
            let body = ReadyBody { ready: true, reason: None, failover_is_loss_free, stale_connectors };
            (StatusCode::OK, Json(body))
        }
        Readiness::SchemaBehind => not("the schema is outdated: run `herald migrate`"),
        Readiness::SchemaDiffers => not("the schema was created by other migrations: use another database"),
        Readiness::ReadOnly => not("the database is read-only"),
        Readiness::Unreachable => not("the database is unreachable"),
    }
}

/// The result of a database check.
#[derive(Debug, Clone, Copy)]
enum Readiness {
    Ready { failover_is_loss_free: bool, stale_connectors: usize },
    SchemaBehind,
    SchemaDiffers,
    ReadOnly,
    Unreachable,
}

/// Checks the database once for many callers: callers that arrive during a check share the next one, so that a flood
/// of health checks costs no more than a single polling caller.
#[derive(Debug, Default)]
pub struct SharedReadiness {
    callers: AtomicU64,
    last: tokio::sync::Mutex<Option<(u64, Readiness)>>,
}

impl SharedReadiness {
    async fn of(&self, store: &Store, now: Timestamp) -> Readiness {
        let ticket = self.callers.fetch_add(1, Ordering::SeqCst);
        let mut last = self.last.lock().await;
        if let Some((began_at, found)) = *last
            && began_at > ticket
        {
            return found;
        }
        let began_at = self.callers.load(Ordering::SeqCst);
        let found = look(store, now).await;
        *last = Some((began_at, found));
        found
    }
}

async fn look(store: &Store, now: Timestamp) -> Readiness {
    let asked = async {
        let (health, schema) = (store.health().await?, store.schema_state().await?);
        let is_ready = health.is_writable && matches!(schema, SchemaState::Current);
        let connectors = if is_ready { store.connectors().await? } else { Vec::new() };
        Ok::<_, StoreError>(((health, schema), connectors))
    };
    let asked = tokio::time::timeout(DATABASE_TIME, asked).await;
    let stale = |connectors: Vec<Connector>| connectors.iter().filter(|found| is_stale(found, now)).count();
    match asked.map(|asked| asked.map(|(state, connectors)| (state, stale(connectors)))) {
        Ok(Ok(((health, SchemaState::Current), stale_connectors))) if health.is_writable => {
            Readiness::Ready { failover_is_loss_free: health.has_synchronous_standby, stale_connectors }
        }
        Ok(Ok(((_, SchemaState::Behind(_)), _))) => Readiness::SchemaBehind,
        Ok(Ok(((_, SchemaState::Different(_)), _))) => Readiness::SchemaDiffers,
        Ok(Ok(((_, SchemaState::Current), _))) => Readiness::ReadOnly,
        Ok(Err(_)) | Err(_) => Readiness::Unreachable,
    }
}

/// Whether a request was sent directly to a loopback name, not through a proxy: a proxy on this machine also connects
/// from loopback.
fn is_direct(headers: &HeaderMap) -> bool {
    const FORWARDED: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name);
    let is_local = name == "localhost"
        || name.trim_matches(['[', ']']).parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
    is_local && !FORWARDED.iter().any(|header| headers.contains_key(*header))
}

/// Metrics in Prometheus text format.
#[utoipa::path(get, path = "/metrics", tag = "health", responses((status = 200, description = "Metrics in Prometheus text format")))]
pub(super) async fn metrics(State(api): State<Arc<Api>>, headers: HeaderMap) -> Result<Response, Problem> {
    if api.metrics_need_key || !is_direct(&headers) {
        api.allow(&headers, Use::ReadMetrics).await?;
    }
    for row in api.store.backlog(BACKLOG_ROWS).await? {
        let age = row.oldest_due_at.map_or(0, |due| (api.clock.now() - due).num_seconds().max(0));
        let labels = [("priority", row.priority), ("state", row.state)];
        metrics::gauge!(crate::telemetry::names::BACKLOG, &labels)
            .set(u32::try_from(row.deliveries).unwrap_or(u32::MAX));
        metrics::gauge!(crate::telemetry::names::OLDEST_SECONDS, &labels)
            .set(u32::try_from(age).unwrap_or(u32::MAX));
    }
    let oldest = api.store.oldest_open_erasure().await?;
    let age = oldest.map_or(0, |since| (api.clock.now() - since).num_seconds().max(0));
    metrics::gauge!(crate::telemetry::names::OLDEST_ERASURE).set(u32::try_from(age).unwrap_or(u32::MAX));
    connector_metrics(&api).await?;
    metrics::gauge!(crate::telemetry::names::IN_MEMORY)
        .set(u32::try_from(api.pipeline.deliveries_in_memory()).unwrap_or(u32::MAX));
    let text =
        api.metrics.as_ref().map(metrics_exporter_prometheus::PrometheusHandle::render).unwrap_or_default();
    Ok(([(header::CONTENT_TYPE, "text/plain; version=0.0.4")], text).into_response())
}

/// The age of each running connector's last successful poll, and its rows that are set aside.
async fn connector_metrics(api: &Api) -> Result<(), Problem> {
    let now = api.clock.now();
    let set_aside = api.store.count_set_aside().await?;
    for connector in api.store.connectors().await? {
        let rows = set_aside.get(&connector.id).copied().unwrap_or_default();
        let is_running = connector.state == ConnectorState::Running;
        let age = if is_running { (now - connector.polled_at).num_seconds().max(0) } else { 0 };
        let labels = [("connector", connector.name)];
        metrics::gauge!(crate::telemetry::names::CONNECTOR_POLL_AGE, &labels)
            .set(u32::try_from(age).unwrap_or(u32::MAX));
        metrics::gauge!(crate::telemetry::names::CONNECTOR_SET_ASIDE, &labels)
            .set(u32::try_from(rows).unwrap_or(u32::MAX));
    }
    Ok(())
}
