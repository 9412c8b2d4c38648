//! OneSignal's Event Streams: one call per event, stored before it is answered.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures_util::StreamExt;
use std::time::Duration;

use super::Api;
use super::auth::bearer;
use super::problem::{Code, Problem, ProblemBody};
use crate::access::KnownClient;
use crate::telemetry::names;

/// How much of a body is kept: hundreds of times what is configured.
const KEPT: usize = 64 * 1024;
/// How much of a body is read, so that the sender can receive the response.
const READ: usize = 1024 * 1024;
/// When a call that could not be stored should be repeated.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Receives an event of OneSignal's Event Streams.
///
/// Authenticated by the secret of `event_streams.secret` in `Authorization: Bearer …`, not by an API key.
/// `herald onesignal stream-config` prints what to configure. Every authenticated body is stored and answered with
/// `204`, whatever is in it, because OneSignal disables a stream after failures. The same event is recorded once.
#[utoipa::path(
    post, path = "/v1/onesignal/events", tag = "outcomes", security(()),
    request_body(content = serde_json::Value, description = "The configured body", content_type = "application/json"),
    responses(
        (status = 204, description = "Stored"),
        (status = 401, description = "Missing or wrong secret", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Possibly not stored: retry", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn receive_event(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    if !bearer(&headers).is_some_and(|secret| api.stream_secrets.accept(secret)) {
        metrics::counter!(names::REPORTS, "result" => "refused").increment(1);
        if let Some(count) = api.denials.streams.count() {
            tracing::warn!(
                count,
                "{count} events of OneSignal's streams with a missing or wrong secret were refused"
            );
        }
        return Err(Problem::new(
            Code::Unauthorized,
            "send `Authorization: Bearer …` with the secret of `event_streams.secret`",
        ));
    }
    let body = first_bytes(body).await;
    api.archive.accept(&body).await.map_err(|error| {
        Problem::new(Code::Unavailable, format!("{error}; send it again")).retry_after(RETRY_AFTER)
    })?;
    let mut response = StatusCode::NO_CONTENT.into_response();
    // All events come from a few addresses.
    response.extensions_mut().insert(KnownClient);
    Ok(response)
}

/// The beginning of a body. A call that breaks off is not answered, and comes again.
async fn first_bytes(body: Body) -> Vec<u8> {
    let (mut kept, mut seen) = (Vec::new(), 0);
    let mut chunks = body.into_data_stream();
    while let Some(Ok(chunk)) = chunks.next().await {
        seen += chunk.len();
        let room = KEPT - kept.len();
        kept.extend_from_slice(&chunk[..room.min(chunk.len())]);
        if seen > READ {
            break;
        }
    }
    kept
}
