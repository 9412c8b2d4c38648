//! The HTTP API: parses requests, calls the use cases, responds with JSON or a problem.
//!
//! Input is validated here once; inside, values are already valid. `problem` is the only place that knows status
//! codes. Lists and single reads go straight to the store.

mod apps;
mod audit;
mod auth;
mod body;
mod cancellations;
mod catalog;
mod catalog_entries;
mod cloudevents;
mod common_responses;
mod connector_events;
mod connectors;
mod deliveries;
mod entry_schemas;
mod erasures;
mod etag;
mod event_fields;
mod event_reads;
mod events;
mod gates;
mod health;
mod imports;
mod infer;
mod issues;
mod json_body;
mod kept;
mod keys;
mod listing;
mod onesignal_events;
mod openapi;
mod outcome_feed;
mod outcomes;

mod parameters;
mod preferences;
mod problem;
mod rejections;
mod replays;
mod sources;
mod stats;
mod strict_json;
mod templates;
mod trace;
mod uploads;
mod user_export;
mod users;
mod webhook_deliveries;
mod webhooks;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::MatchedPath;
use axum::http::{HeaderName, HeaderValue, Request, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use metrics_exporter_prometheus::PrometheusHandle;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::set_header::SetResponseHeaderLayer;

use crate::access::{Access, KnownClient};
use crate::archive::Archive;
use crate::archive::secrets::StreamSecrets;
use crate::catalog::Publisher;
use crate::compute::{Compute, ComputeError, Purpose};
use crate::domain::budget::Budget;
use crate::domain::clock::Clock;
use crate::domain::id::IdSource;
use crate::people::People;
use crate::people::connector::Connectors;
use crate::pipeline::Pipeline;
use crate::store::Store;
use crate::telemetry::Sampled;

pub use apps::AppPolicy;
pub use auth::Denials;
pub use connector_events::ConnectorEvents;
pub use health::SharedReadiness;
pub use openapi::document as openapi_document;
pub use problem::{Code, FieldError, Problem};
pub use rejections::Rejections;
pub use strict_json::parse as parse_json;

/// The state shared by all handlers.
pub struct Api {
    /// Reads.
    pub store: Store,
    /// Health checks, on a connection of their own.
    pub health: Store,
    /// Events and deliveries.
    pub pipeline: Arc<Pipeline>,
    /// Users.
    pub people: Arc<People>,
    /// Connectors to other databases.
    pub connectors: Arc<Connectors>,
    /// Outcomes.
    pub archive: Arc<Archive>,
    /// The secrets of Event Streams.
    pub stream_secrets: StreamSecrets,
    /// Keys.
    pub access: Arc<Access>,
    /// The catalog.
    pub publisher: Arc<Publisher>,
    /// The threads for work on input.
    pub compute: Arc<Compute>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// Request ids.
    pub ids: Arc<IdSource>,
    /// Counts rejected webhook calls.
    pub rejections: Rejections,
    /// Counts denied requests.
    pub denials: Denials,
    /// Counts requests answered with 503.
    pub unavailable: Sampled,
    /// The database check shared by health checks.
    pub readiness: SharedReadiness,
    /// Metrics, if this process collects them.
    pub metrics: Option<PrometheusHandle>,
    /// Which apps may be created.
    pub app_policy: AppPolicy,
    /// How long a request may take.
    pub request_timeout: Duration,
    /// Whether `/metrics` needs a key.
    pub metrics_need_key: bool,
    /// Size limits of an event and a batch, in bytes.
    pub max_bytes: (usize, usize),
    /// Cleared when the process starts to shut down.
    pub is_ready: AtomicBool,
}

impl Api {
    /// Runs CPU-bound work on request input outside the async threads.
    ///
    /// # Errors
    /// [`ComputeError`].
    async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Budget) -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        self.compute.run(Purpose::People, work).await
    }

    /// Whether this process has not begun to shut down.
    fn is_ready(&self) -> bool {
        self.is_ready.load(Ordering::SeqCst)
    }

    /// Reports "not ready" from now on, so that load balancers stop sending requests.
    pub fn stop_being_ready(&self) {
        self.is_ready.store(false, Ordering::SeqCst);
    }
}

/// The API's routes.
pub fn router(api: Arc<Api>) -> Router {
    let header = |name: HeaderName, value: &'static str| {
        SetResponseHeaderLayer::if_not_present(name, HeaderValue::from_static(value))
    };
    let (routes, _) = openapi::routes().split_for_parts();
    routes
        .route_layer(middleware::from_fn(json_body::refuse_unknown_parameters))
        .route_layer(middleware::from_fn_with_state(Arc::clone(&api), auth::require_key))
        .merge(openapi::pages())
        .fallback(|| async { Problem::new(Code::NotFound, "there is no such path") })
        .method_not_allowed_fallback(|| async {
            Problem::new(Code::MethodNotAllowed, "this path does not support that method")
        })
        .with_state(Arc::clone(&api))
        .layer(CatchPanicLayer::custom(|_| {
            Problem::new(Code::Internal, "unexpected error; look for the request id in the log")
                .into_response()
        }))
        .layer(header(header::CACHE_CONTROL, "no-store"))
        .layer(header(header::X_CONTENT_TYPE_OPTIONS, "nosniff"))
        .layer(header(header::REFERRER_POLICY, "no-referrer"))
        .layer(header(
            header::CONTENT_SECURITY_POLICY,
            "default-src 'none'; style-src 'self'; frame-ancestors 'none'",
        ))
        .layer(middleware::from_fn_with_state(api, with_request_id))
}

/// Assigns each request an ID, or uses the caller's, and returns it in the response.
async fn with_request_id(
    axum::extract::State(api): axum::extract::State<Arc<Api>>,
    request: Request<axum::body::Body>,
    next: Next,
) -> Response {
    const NAME: HeaderName = HeaderName::from_static("x-request-id");
    let given = request.headers().get(&NAME).filter(|value| is_plain(value)).cloned();
    let id = given.unwrap_or_else(|| {
        let fresh: crate::domain::id::EventId = api.ids.next(api.clock.now());
        let text = fresh.to_string().replacen("evt", "req", 1);
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("req"))
    });
    let is_known = auth::bearer(request.headers()).is_some_and(|key| api.access.is_known(key));
    let method = request.method().clone();
    // The route, not the path, which may contain personal data.
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str).to_owned();
    // Postgres does not accept NUL, and none of our names contains one.
    let nul = if request.uri().path().contains("%00") {
        Some(Problem::new(Code::NotFound, "there is no such path"))
    } else if request.uri().query().is_some_and(|query| query.contains("%00")) {
        Some(Problem::new(Code::BadParameter, "a parameter contains a NUL character (`%00`)"))
    } else {
        None
    };
    if let Some(problem) = nul {
        let mut response = problem.into_response();
        response.headers_mut().insert(NAME, id);
        return response;
    }
    let ran = tokio::time::timeout(api.request_timeout, next.run(request)).await;
    let mut response = ran.unwrap_or_else(|_| {
        Problem::new(Code::Unavailable, "the request took too long; send it again, an event with the same id")
            .retry_after(Duration::from_secs(1))
            .into_response()
    });
    match response.status() {
        // During an outage every request fails in the same way.
        StatusCode::SERVICE_UNAVAILABLE => {
            if let Some(count) = api.unavailable.count() {
                tracing::warn!(
                    request.id = ?id, count,
                    "{count} requests were answered with 503, most recently {method} {route}"
                );
            }
        }
        status if status.is_server_error() => {
            let status = status.as_u16();
            tracing::warn!(request.id = ?id, http.status = status, "{method} {route} was answered with {status}");
        }
        _ => {}
    }
    if is_known {
        response.extensions_mut().insert(KnownClient);
    }
    response.headers_mut().insert(NAME, id);
    response
}

/// Whether a caller's request ID is acceptable: up to 64 letters, digits, `-`, `_` or `.`.
fn is_plain(value: &HeaderValue) -> bool {
    let bytes = value.as_bytes();
    (1..=64).contains(&bytes.len()) && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}
