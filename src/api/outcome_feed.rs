//! The feed of outcomes: pages by cursor, or server-sent events with the same cursor.
//!
//! Numbers follow the order of commits, so a reader that continues after its last number misses nothing. The next page is
//! read when the last one was taken: a slow reader costs no memory, and is disconnected by the write timeout.

use std::convert::Infallible;
use std::fmt::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::Api;
use super::parameters::Parameters;
use super::problem::{Code, FieldError, Problem, ProblemBody};
use crate::access::Use;
use crate::store::StoreError;
use crate::store::outcome_feed::FeedBounds;
use crate::store::outcomes::FeedEntry;

/// Default and maximum size of a page.
const PAGE: i64 = 100;
const MAX_PAGE: i64 = 1_000;
/// Entries sent at once.
const SENT_AT_ONCE: i64 = 200;
/// How long a stream is silent at most: proxies close silent connections.
const HEARTBEAT: Duration = Duration::from_secs(15);
/// How long a stream lasts.
const LONGEST_STREAM: Duration = Duration::from_mins(15);

/// Where to begin.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct FeedQuery {
    /// The cursor of the last outcome that was read; or `latest`, for those that are recorded from now on. Without it, the
    /// feed begins with the oldest that is kept. For server-sent events, `Last-Event-ID` takes precedence.
    after: Option<String>,
    /// Page size: 100 by default, at most 1,000.
    #[param(minimum = 1, maximum = 1000)]
    limit: Option<i64>,
}

/// A page of the feed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct FeedPage {
    /// Outcomes in the order in which they were recorded, each with its `cursor`.
    data: Vec<Value>,
    /// The cursor to continue with. It is never `null`: the feed has no end.
    next_cursor: String,
}

/// The feed of outcomes, in the order in which they were recorded.
///
/// Each kind of outcome of a delivery on a device appears once: `kind`, `at`, `delivery`, `event` with the source's own
/// `event_key`, `recipient`, `device`, `reason`. With `Accept: text/event-stream` the answer is a stream of server-sent
/// events that continues with new outcomes: `id` is the cursor, `event` is `outcome`, and a `heartbeat` without an id comes
/// every 15 seconds.
#[utoipa::path(
    get, path = "/v1/outcomes", tag = "outcomes", params(FeedQuery),
    responses(
        (status = 200, description = "A page, or a stream", body = FeedPage),
        (status = 410, description = "Outcomes after this cursor are no longer kept; the oldest cursor is in the detail", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn read_outcomes(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<FeedQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadOverviews).await?;
    let text_of = |name: header::HeaderName| headers.get(name).and_then(|value| value.to_str().ok());
    let is_stream = text_of(header::ACCEPT).is_some_and(|accept| accept.contains("text/event-stream"));
    let last = headers.get("last-event-id").filter(|_| is_stream).map(|id| id.to_str().unwrap_or_default());
    let bounds = api.store.feed_bounds().await?;
    let after = position(last.or(query.after.as_deref()), bounds)?;
    if is_stream {
        return Ok(stream_after(api, after));
    }
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(bad("limit", "`limit` must be 1 to 1000"));
    }
    let entries = api.store.feed_after(after, limit).await?;
    let next_cursor = entries.last().map_or(after, |last| last.number).to_string();
    Ok(Json(FeedPage { data: entries.iter().map(body).collect(), next_cursor }).into_response())
}

fn bad(name: &str, detail: &str) -> Problem {
    Problem::fields(Code::BadParameter, vec![FieldError::new(name, "bad_parameter", detail)])
}

/// The number after which to read.
fn position(after: Option<&str>, bounds: FeedBounds) -> Result<i64, Problem> {
    let after = match after {
        None => return Ok(bounds.oldest),
        Some("latest") => return Ok(bounds.newest),
        Some(text) => text.parse::<i64>().ok().filter(|number| (0..=bounds.newest).contains(number)),
    };
    let Some(after) = after else { return Err(bad("after", "use the `cursor` of an outcome, or `latest`")) };
    if after < bounds.oldest {
        let detail = format!("outcomes after {after} are no longer kept: continue after {}", bounds.oldest);
        return Err(Problem::new(Code::CursorGone, detail));
    }
    Ok(after)
}

fn body(entry: &FeedEntry) -> Value {
    let mut body = entry.body.clone();
    body["cursor"] = json!(entry.number.to_string());
    body
}

fn stream_after(api: Arc<Api>, after: i64) -> Response {
    let until = Instant::now() + LONGEST_STREAM;
    // The first chunk opens the stream at once, even if there is nothing to send.
    let start = futures_util::StreamExt::chain(
        stream::once(async { Ok::<_, Infallible>(Bytes::from_static(b": the feed of outcomes\n\n")) }),
        stream::unfold((api, after), move |(api, after)| async move {
            // The reader connects again, with a key that is still valid and to a process that goes on.
            if Instant::now() >= until || !api.is_ready() {
                return None;
            }
            let entries = next_entries(&api, after).await.ok()?;
            let (text, after) = events(&entries, after);
            Some((Ok(Bytes::from(text)), (api, after)))
        }),
    );
    let headers = [(header::CONTENT_TYPE, "text/event-stream"), (header::CACHE_CONTROL, "no-store")];
    (headers, Body::from_stream(start)).into_response()
}

/// The next entries; none after a silence. An error ends the stream, and the reader continues where it was.
async fn next_entries(api: &Api, after: i64) -> Result<Vec<FeedEntry>, StoreError> {
    let until = Instant::now() + HEARTBEAT;
    loop {
        // Notified from before the read, so that nothing is missed in between.
        let recorded = api.archive.recorded();
        let entries = api.store.feed_after(after, SENT_AT_ONCE).await?;
        let is_over = Instant::now() >= until || !api.is_ready();
        if !entries.is_empty() || is_over {
            return Ok(entries);
        }
        recorded.await;
    }
}

fn events(entries: &[FeedEntry], after: i64) -> (String, i64) {
    if entries.is_empty() {
        return ("event: heartbeat\ndata: {}\n\n".to_owned(), after);
    }
    let text = entries.iter().fold(String::new(), |mut text, entry| {
        // Writing to a text does not fail. JSON has no line breaks.
        let _ = write!(text, "id: {}\nevent: outcome\ndata: {}\n\n", entry.number, body(entry));
        text
    });
    (text, entries.last().map_or(after, |last| last.number))
}
