//! Posting events.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use futures_util::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

use super::body::Media;
use super::cloudevents::{CloudEventRequest, Form};
use super::listing::DecisionBody;
use super::parameters::Parameters;
use super::problem::{Code, Problem, ProblemBody};
use super::{Api, body, cloudevents, event_fields, strict_json};
use crate::access::{Identity, Use};
use crate::compute::Purpose;
use crate::domain::budget::Budget;
use crate::domain::id::EventId;
use crate::pipeline::ingest::{Accepted, DeliverySummary, IngestError, NewEvent};

/// Maximum deliveries in the response to a post.
pub(super) const LISTED_DELIVERIES: usize = 100;
/// Maximum events in a batch.
const MAX_BATCH: usize = 1_000;
/// Maximum recipients over all events of a batch.
const MAX_BATCH_RECIPIENTS: usize = 10_000;
/// Events of one batch that are ingested concurrently.
const AT_ONCE: usize = 64;
/// Maximum errors in the response to a batch.
const MAX_BATCH_ERRORS: usize = 500;
/// Maximum deliveries and decisions in the response to a batch.
const MAX_BATCH_LISTED: usize = 10_000;

/// Options of a post.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {
    /// `true`: returns what would happen without storing anything.
    #[serde(default)]
    pub dry_run: bool,
}

/// An event to post.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "only describes the request; `event_fields` reads it")]
pub(super) struct EventRequest {
    /// The source's own event ID; alternatively, the `Idempotency-Key` header.
    #[schema(example = "order-1001-shipped")]
    id: Option<String>,
    /// The event type.
    #[schema(example = "order.shipped")]
    r#type: String,
    /// One label with one ID: `external_id`, `onesignal_id`, `subscription_id`, `email`, `phone`, or an alias label.
    /// Beside an External ID or an alias, facts about the person: `email`, `phone`, `tags`, `language`, `time_zone`. They
    /// are written to OneSignal before the message is sent.
    #[schema(example = json!({"external_id": "user-42"}))]
    recipient: Option<Value>,
    /// Up to 2,000 recipients.
    recipients: Option<Vec<Value>>,
    /// Its values, as its schema wants them.
    #[schema(example = json!({"order_id": "1001", "carrier": "DHL", "eta": "2026-11-25"}))]
    data: Option<Value>,
    /// When the event happened.
    time: Option<DateTime<Utc>>,
    /// Locale of the message.
    locale: Option<String>,
    /// Don't send before this time.
    send_after: Option<DateTime<Utc>>,
    /// Don't send after this time.
    expires_at: Option<DateTime<Utc>>,
    /// Key for cancelling the deliveries later.
    cancellation_key: Option<String>,
    /// A newer event with the same key replaces an older one that is still pending.
    collapse_key: Option<String>,
    /// Determines which event is newer.
    sequence: Option<i64>,
    /// Events with the same key are sent in order.
    ordering_key: Option<String>,
}

/// The result of a post.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AcceptedBody {
    /// Herald's event ID.
    #[schema(value_type = String)]
    id: EventId,
    /// Whether the event had already been accepted.
    duplicate: bool,
    /// Its deliveries: the first 100.
    deliveries: Vec<SummaryBody>,
    /// Total number of deliveries, if not all are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_total: Option<usize>,
    /// Decisions about the event.
    decisions: Vec<DecisionBody>,
    /// The event's full history.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_url: Option<String>,
}

/// A delivery in the response to a post.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SummaryBody {
    #[schema(value_type = String)]
    id: crate::domain::id::DeliveryId,
    rule: String,
    #[schema(value_type = Option<String>)]
    channel: Option<crate::domain::channel::Channel>,
    template: String,
    version: Option<i32>,
    state: &'static str,
}

impl From<DeliverySummary> for SummaryBody {
    fn from(d: DeliverySummary) -> Self {
        Self {
            id: d.id,
            rule: d.rule,
            channel: d.channel,
            template: d.template,
            version: d.version,
            state: d.state,
        }
    }
}

impl AcceptedBody {
    fn new(accepted: Accepted, is_dry: bool) -> Self {
        let total = accepted.deliveries.len();
        Self {
            id: accepted.event,
            duplicate: accepted.is_duplicate,
            deliveries: accepted
                .deliveries
                .into_iter()
                .take(LISTED_DELIVERIES)
                .map(SummaryBody::from)
                .collect(),
            deliveries_total: (total > LISTED_DELIVERIES).then_some(total),
            decisions: accepted
                .decisions
                .into_iter()
                .take(LISTED_DELIVERIES)
                .map(DecisionBody::from)
                .collect(),
            trace_url: (!is_dry).then(|| format!("/v1/events/{}", accepted.event)),
        }
    }

    /// Limits the listed deliveries and decisions to `max` in total.
    fn with_at_most(mut self, max: usize) -> Self {
        if self.deliveries.len() > max {
            self.deliveries_total = self.deliveries_total.or(Some(self.deliveries.len()));
            self.deliveries.truncate(max);
        }
        self.decisions.truncate(max - self.deliveries.len());
        self
    }

    /// Number of listed deliveries and decisions.
    fn listed(&self) -> usize {
        self.deliveries.len() + self.decisions.len()
    }
}

/// Posts one event: plain JSON, or a CloudEvent in structured or binary mode.
///
/// A CloudEvent's `id` and `source` together are the event's key, `source|id`. Its recipient and Herald's optional
/// fields
/// are extension attributes: `recipient` with `recipientlabel` (`external_id` if it is left out), `locale`,
/// `sendafter`,
/// `expiresat`, `cancellationkey`, `collapsekey`, `sequence`, `orderingkey`, `traceparent`. Other attributes are not
/// kept.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", params(WriteQuery),
    request_body(content(
        (EventRequest = "application/json"), (CloudEventRequest = "application/cloudevents+json"),
    )),
    responses(
        (status = 202, description = "Stored, with what was planned", body = AcceptedBody),
        (status = "4XX", description = "Rejected; nothing was stored", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Possibly not stored: retry with the same id", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn post_event(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<AcceptedBody>), Problem> {
    let identity = api.allow(&headers, Use::PostEvent).await?;
    let (form, new) = if cloudevents::is_binary(&headers) {
        let bytes = body::read_data(&headers, body, api.max_bytes.0).await?;
        (Form::Binary, cloudevents::read_binary(&bytes, &identity, &headers)?)
    } else {
        let known = [Media::Json, Media::CloudEvent];
        let (media, bytes) = body::read_any(&headers, body, api.max_bytes.0, &known).await?;
        (form_of(media), read_as(media, &bytes, &identity, &headers)?)
    };
    count(&api, &identity, weight(&new))?;
    let taken = take(&api, new, query.dry_run).await.map_err(|problem| form.of_problem(problem))?;
    Ok((StatusCode::ACCEPTED, Json(taken)))
}

/// The format of the events in a body.
fn form_of(media: Media) -> Form {
    match media {
        Media::Json | Media::Lines => Form::Plain,
        Media::CloudEvent | Media::CloudEventBatch => Form::Structured,
    }
}

fn read_as(
    media: Media,
    bytes: &[u8],
    identity: &Identity,
    headers: &HeaderMap,
) -> Result<NewEvent, Problem> {
    let posted = strict_json::parse(bytes)?;
    match media {
        Media::Json | Media::Lines => event_fields::read(posted, identity, headers),
        Media::CloudEvent | Media::CloudEventBatch => cloudevents::read(posted, identity, headers),
    }
}

/// The cost of an event against its source's rate limit: each recipient counts as one event.
fn weight(new: &NewEvent) -> usize {
    new.recipients.len().max(1)
}

/// Counts events against their source's rate limit.
pub(super) fn count(api: &Api, identity: &Identity, events: usize) -> Result<(), Problem> {
    api.access.count(identity, events).map_err(|wait| {
        Problem::new(Code::RateLimited, "the source exceeds its limit of events per second").retry_after(wait)
    })
}

async fn take(api: &Api, new: NewEvent, is_dry: bool) -> Result<AcceptedBody, Problem> {
    let accepted = if is_dry { api.pipeline.try_out(new).await? } else { api.pipeline.accept(new).await? };
    Ok(AcceptedBody::new(accepted, is_dry))
}

/// The result of one event of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ItemBody {
    /// The HTTP status that the event would have received on its own.
    status: u16,
    /// The result.
    #[serde(flatten)]
    result: ItemResult,
}

/// Accepted or rejected.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum ItemResult {
    /// Stored.
    Accepted(AcceptedBody),
    /// Not stored, with the reason.
    Refused {
        /// The reason.
        problem: ProblemBody,
    },
}

/// The results of a batch, in the order of its events.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BatchBody {
    /// Number of stored events, including duplicates.
    accepted: usize,
    /// Number of rejected events.
    refused: usize,
    /// One result per event.
    results: Vec<ItemBody>,
}

/// Posts up to 1,000 events with up to 10,000 recipients in total. A rejected event does not affect the others.
///
/// The response lists up to 500 errors and 10,000 deliveries and decisions in total; see `GET /v1/events/{id}` for the
/// rest.
///
/// Each event has the format of `POST /v1/events`; an invalid one is rejected with its own problem.
///
/// The body is a JSON array, one JSON document per line (`application/x-ndjson`; empty lines are ignored), or a list of
/// CloudEvents.
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "events", params(WriteQuery),
    request_body(content(
        (Vec<Value> = "application/json"), (String = "application/x-ndjson"),
        (Vec<Value> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "A result per event", body = BatchBody),
        (status = "4XX", description = "The whole batch was rejected", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn post_batch(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<BatchBody>), Problem> {
    let identity = api.allow(&headers, Use::PostEvent).await?;
    let known = [Media::Json, Media::Lines, Media::CloudEventBatch];
    let (media, bytes) = body::read_any(&headers, body, api.max_bytes.1, &known).await?;
    // The header identifies a single event; in a batch each has its own id.
    let mut item_headers = headers.clone();
    item_headers.remove("idempotency-key");
    let (reader, max_bytes) = (Arc::clone(&identity), api.max_bytes.0);
    let read = move |_: &Budget| read_batch(media, &bytes, (&reader, &item_headers), max_bytes);
    let events = api.compute.run(Purpose::Events, read).await??;
    let weights = events.iter().map(|event| event.as_ref().map_or(1, weight));
    count(&api, &identity, weights.sum())?;
    let results: Vec<Result<AcceptedBody, Problem>> = if query.dry_run {
        let each = events
            .into_iter()
            .map(async |event| Ok(AcceptedBody::new(api.pipeline.try_out(event?).await?, true)));
        futures_util::stream::iter(each).buffered(AT_ONCE).collect().await
    } else {
        take_batch(&api, events).await
    };
    let form = form_of(media);
    let results = results.into_iter().map(|result| result.map_err(|problem| form.of_problem(problem)));
    Ok((StatusCode::ACCEPTED, Json(BatchBody::new(results.collect()))))
}

/// Ingests the valid events of a batch; returns a result for each, in order.
async fn take_batch(api: &Api, events: Vec<Result<NewEvent, Problem>>) -> Vec<Result<AcceptedBody, Problem>> {
    let mut readable = Vec::with_capacity(events.len());
    let mut results: Vec<Option<Problem>> = Vec::with_capacity(events.len());
    for event in events {
        results.push(event.map(|event| readable.push(event)).err());
    }
    let mut accepted = api.pipeline.accept_batch(readable).await.into_iter();
    let result = |problem: Option<Problem>| match problem {
        Some(problem) => Err(problem),
        None => match accepted.next() {
            Some(result) => Ok(AcceptedBody::new(result?, false)),
            None => Err(IngestError::Unavailable.into()),
        },
    };
    results.into_iter().map(result).collect()
}

/// Parses the events of a batch; an invalid event does not affect the others.
///
/// # Errors
/// If the batch as a whole is invalid; nothing is ingested then.
fn read_batch(
    media: Media,
    bytes: &[u8],
    (identity, headers): (&Identity, &HeaderMap),
    max_bytes: usize,
) -> Result<Vec<Result<NewEvent, Problem>>, Problem> {
    let read = |(line, item): (usize, &[u8])| {
        if item.len() > max_bytes {
            return Err(Problem::new(Code::TooLarge, format!("an event must not exceed {max_bytes} bytes")));
        }
        read_as(media, item, identity, headers).map_err(|problem| problem.at_line(line))
    };
    let events: Vec<Result<NewEvent, Problem>> = split(media, bytes)?.into_iter().map(read).collect();
    let recipients: usize = events.iter().flatten().map(|new| new.recipients.len()).sum();
    if recipients > MAX_BATCH_RECIPIENTS {
        let detail = format!(
            "a batch must not exceed {MAX_BATCH_RECIPIENTS} recipients in total, this one has {recipients}; split it"
        );
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(events)
}

impl BatchBody {
    /// The results, with limited lists of errors and deliveries.
    fn new(results: Vec<Result<AcceptedBody, Problem>>) -> Self {
        let (mut errors, mut listed) = (MAX_BATCH_ERRORS, MAX_BATCH_LISTED);
        let body = |result| match result {
            Ok(accepted) => {
                let accepted = AcceptedBody::with_at_most(accepted, listed);
                listed -= accepted.listed();
                ItemBody { status: 202, result: ItemResult::Accepted(accepted) }
            }
            Err(problem) => {
                let problem = Problem::with_at_most(problem, errors);
                errors -= problem.error_count();
                let status = problem.status();
                ItemBody { status, result: ItemResult::Refused { problem: problem.body() } }
            }
        };
        let results: Vec<ItemBody> = results.into_iter().map(body).collect();
        let accepted = results.iter().filter(|item| item.status == 202).count();
        Self { accepted, refused: results.len() - accepted, results }
    }
}

/// The events of a batch, each still as text, so that a malformed one is rejected on its own; with the line number
/// that it starts at.
fn split(media: Media, bytes: &[u8]) -> Result<Vec<(usize, &[u8])>, Problem> {
    let items: Vec<(usize, &[u8])> = match media {
        Media::Lines => (1..)
            .zip(bytes.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii))
            .filter(|(_, line)| !line.is_empty())
            .collect(),
        Media::Json | Media::CloudEvent | Media::CloudEventBatch => {
            split_array(bytes)?.into_iter().map(|item| (1, item)).collect()
        }
    };
    if items.is_empty() || items.len() > MAX_BATCH {
        return Err(Problem::new(Code::BadJson, format!("a batch must have 1 to {MAX_BATCH} events")));
    }
    Ok(items)
}

fn split_array(bytes: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Problem::new(Code::BadJson, "the body is not valid UTF-8"))?;
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| {
        Problem::new(Code::BadJson, format!("a batch must be a JSON array of events: {error}"))
    })?;
    Ok(items.into_iter().map(|item| item.get().as_bytes()).collect())
}
