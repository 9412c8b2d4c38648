//! The sandbox's own paths, below `/_sandbox`.

mod people;
mod streams;

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::middleware::{Next, from_fn};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::faults::Fault;
use super::{ReceivedMessage, Sandbox, SandboxError};

const DEFAULT_PAGE: usize = 100;
const LARGEST_PAGE: usize = 1000;
/// A century: far beyond every rule that a test may want to reach, and far from the end of the calendar.
const LONGEST_STEP: Duration = Duration::from_hours(100 * 366 * 24);

/// Routes the control paths.
pub(super) fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/messages", routing::get(messages))
        .route("/_sandbox/stats", routing::get(stats))
        .route("/_sandbox/faults", routing::post(set_fault).get(faults).delete(clear_faults))
        .route("/_sandbox/clock", routing::post(advance_clock).get(clock))
        .route("/_sandbox/reset", routing::post(reset))
        .route("/_sandbox/exports/{name}", routing::get(export))
        .merge(people::routes())
        .merge(streams::routes())
        .layer(from_fn(refuse_other_sites))
}

/// A page of another site that the developer has open must not reset or fault the sandbox behind their back.
pub(super) async fn refuse_other_sites(request: Request, next: Next) -> Response {
    let site = request.headers().get("sec-fetch-site").and_then(|site| site.to_str().ok());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD);
    if !reads && matches!(site, Some("cross-site" | "same-site")) {
        let text = "cross-site requests can't change the sandbox".to_owned();
        return Unclear(StatusCode::FORBIDDEN, text).into_response();
    }
    next.run(request).await
}

/// A request that a control path can't follow.
#[derive(Debug)]
struct Unclear(StatusCode, String);

impl IntoResponse for Unclear {
    fn into_response(self) -> Response {
        (self.0, Json(json!({"errors": [self.1]}))).into_response()
    }
}

impl From<SandboxError> for Unclear {
    fn from(error: SandboxError) -> Self {
        let cause = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
        Self(StatusCode::INTERNAL_SERVER_ERROR, format!("{error}{cause}"))
    }
}

impl From<QueryRejection> for Unclear {
    fn from(rejection: QueryRejection) -> Self {
        Self(StatusCode::BAD_REQUEST, rejection.body_text())
    }
}

fn unclear(text: impl Into<String>) -> Unclear {
    Unclear(StatusCode::BAD_REQUEST, text.into())
}

/// Reads the body as JSON whatever its content type says, since a developer types these calls by hand.
fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, Unclear> {
    serde_json::from_slice(body).map_err(|error| unclear(error.to_string()))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct MessagesQuery {
    cursor: Option<String>,
    limit: Option<usize>,
}

async fn messages(
    State(sandbox): State<Arc<Sandbox>>,
    query: Result<Query<MessagesQuery>, QueryRejection>,
) -> Result<Json<Value>, Unclear> {
    let Query(query) = query?;
    let after = match query.cursor.as_deref().filter(|cursor| !cursor.is_empty()) {
        None => 0,
        Some(cursor) => cursor.parse().map_err(|_| unclear("invalid `cursor`"))?,
    };
    let limit = query.limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=LARGEST_PAGE).contains(&limit) {
        return Err(unclear(format!("`limit` must be between 1 and {LARGEST_PAGE}")));
    }
    // Rendering a page of messages to thousands of people takes a while; other calls must not wait for it.
    let page = tokio::task::spawn_blocking(move || page_of_messages(&sandbox, after, limit)).await;
    page.map(Json).map_err(|error| Unclear(StatusCode::INTERNAL_SERVER_ERROR, error.to_string()))
}

fn page_of_messages(sandbox: &Sandbox, after: u64, limit: usize) -> Value {
    let mut found = sandbox.state.lock().messages_after(after, limit.saturating_add(1));
    let more = found.len() > limit;
    found.truncate(limit);
    let next = found.last().filter(|_| more).map(|message| message.sequence.to_string());
    let data: Vec<ReceivedMessage> = found.iter().map(|message| sandbox.received(message)).collect();
    json!({"data": data, "next_cursor": next})
}

async fn stats(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    Json(json!(*sandbox.stats.lock()))
}

async fn set_fault(
    State(sandbox): State<Arc<Sandbox>>,
    body: Bytes,
) -> Result<(StatusCode, Json<Value>), Unclear> {
    let fault: Fault = read(&body)?;
    fault.check().map_err(unclear)?;
    let id = sandbox.faults.lock().set(fault);
    Ok((StatusCode::CREATED, Json(json!({"id": id}))))
}

async fn faults(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    Json(json!({"data": *sandbox.faults.lock()}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClearQuery {
    id: Option<u64>,
}

async fn clear_faults(
    State(sandbox): State<Arc<Sandbox>>,
    query: Result<Query<ClearQuery>, QueryRejection>,
) -> Result<Json<Value>, Unclear> {
    let Query(query) = query?;
    let cleared = sandbox.faults.lock().clear(query.id);
    Ok(Json(json!({"cleared": cleared})))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct ClockBody {
    advance: String,
}

async fn advance_clock(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Result<Json<Value>, Unclear> {
    let ClockBody { advance } = read(&body)?;
    let step = parse_duration(&advance).filter(|step| *step <= LONGEST_STEP);
    let step =
        step.ok_or_else(|| unclear("`advance` must be a number with `s`, `m`, `h` or `d`, such as `31d`"))?;
    sandbox.advance_clock(step)?;
    Ok(Json(json!({"now": sandbox.now()})))
}

async fn clock(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    Json(json!({"now": sandbox.now()}))
}

async fn reset(State(sandbox): State<Arc<Sandbox>>) -> Result<Json<Value>, Unclear> {
    sandbox.reset()?;
    Ok(Json(json!({"success": true})))
}

async fn export(State(sandbox): State<Arc<Sandbox>>, Path(name): Path<String>) -> Response {
    sandbox.download(&name)
}

/// `90s`, `5m`, `2h` or `31d`, or several of them: `1d 12h`.
fn parse_duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let number: u64 = rest[..digits].parse().ok()?;
        let unit = rest[digits..].chars().next()?;
        let seconds = match unit {
            's' => 1,
            'm' => 60,
            'h' => 3600,
            'd' => 86_400,
            _ => return None,
        };
        total = total.checked_add(Duration::from_secs(number.checked_mul(seconds)?))?;
        rest = rest[digits + 1..].trim_start();
    }
    Some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_with_their_units() {
        let seconds = |text| parse_duration(text).map(|duration| duration.as_secs());
        assert_eq!(seconds("31d"), Some(31 * 86_400));
        assert_eq!(seconds("1d 12h"), Some(129_600));
        assert_eq!(seconds("90s"), Some(90));
        for wrong in ["", "31", "d", "3w", "-1d", "99999999999999999999d", "18446744073709551615d", "1\u{e9}"]
        {
            assert_eq!(seconds(wrong), None, "{wrong}");
        }
    }
}
