//! Posting events, and reading them with what became of them.

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

/// Deliveries that the answer to a post lists.
pub(super) const LISTED_DELIVERIES: usize = 100;
/// Events in a batch at most.
const MAX_BATCH: usize = 1_000;
/// Recipients of all events of a batch at most.
const MAX_BATCH_RECIPIENTS: usize = 10_000;
/// Events of one batch that are taken in at once.
const AT_ONCE: usize = 64;
/// Errors that the answer to a batch lists, over all its events.
const MAX_BATCH_ERRORS: usize = 500;
/// Deliveries and decisions that the answer to a batch lists, over all its events.
const MAX_BATCH_LISTED: usize = 10_000;

/// Whether to only say what would happen.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct WriteQuery {
    /// `true`: answers what would happen and stores nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// An event as it is posted.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "only describes the request; `event_fields` reads it")]
pub(super) struct EventRequest {
    /// The source's own id of it; or the `Idempotency-Key` header.
    #[schema(example = "order-1001-shipped")]
    id: Option<String>,
    /// The event type.
    #[schema(example = "order.shipped")]
    r#type: String,
    /// One label with one id: `external_id`, `onesignal_id`, `subscription_id`, `email`, `phone`, or an alias label.
    #[schema(example = json!({"external_id": "user-42"}))]
    recipient: Option<Value>,
    /// Up to 2,000 recipients.
    recipients: Option<Vec<Value>>,
    /// Its values, as its schema wants them.
    #[schema(example = json!({"order_id": "1001", "carrier": "DHL", "eta": "2026-11-25"}))]
    data: Option<Value>,
    /// When it happened.
    time: Option<DateTime<Utc>>,
    /// The locale to write in.
    locale: Option<String>,
    /// Not before this.
    send_after: Option<DateTime<Utc>>,
    /// Not after this.
    expires_at: Option<DateTime<Utc>>,
    /// What a later cancellation can name.
    cancellation_key: Option<String>,
    /// A newer event with the same key replaces an older one still waiting.
    collapse_key: Option<String>,
    /// Tells newer from older.
    sequence: Option<i64>,
    /// Events with the same key go out one after the other.
    ordering_key: Option<String>,
}

/// What became of a post.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AcceptedBody {
    /// Herald's id of the event.
    #[schema(value_type = String)]
    id: EventId,
    /// Whether the same event had been taken before.
    duplicate: bool,
    /// Its deliveries: the first 100.
    deliveries: Vec<SummaryBody>,
    /// How many there are in all, when there are more than are listed.
    #[serde(skip_serializing_if = "Option::is_none")]
    deliveries_total: Option<usize>,
    /// What was decided about it.
    decisions: Vec<DecisionBody>,
    /// Where the whole story is.
    #[serde(skip_serializing_if = "Option::is_none")]
    trace_url: Option<String>,
}

/// A delivery in the answer to a post.
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

    /// The same with at most `max` deliveries and decisions together.
    fn with_at_most(mut self, max: usize) -> Self {
        if self.deliveries.len() > max {
            self.deliveries_total = self.deliveries_total.or(Some(self.deliveries.len()));
            self.deliveries.truncate(max);
        }
        self.decisions.truncate(max - self.deliveries.len());
        self
    }

    /// How many deliveries and decisions it lists.
    fn listed(&self) -> usize {
        self.deliveries.len() + self.decisions.len()
    }
}

/// Posts one event: plain JSON, or a CloudEvent in structured or binary mode.
///
/// A CloudEvent's `id` and `source` together are the event's key, `source|id`. Its recipient and Herald's optional fields
/// are extension attributes: `recipient` with `recipientlabel` (`external_id` if it is left out), `locale`, `sendafter`,
/// `expiresat`, `cancellationkey`, `collapsekey`, `sequence`, `orderingkey`, `traceparent`. Other attributes are not kept.
#[utoipa::path(
    post, path = "/v1/events", tag = "events", params(WriteQuery),
    request_body(content(
        (EventRequest = "application/json"), (CloudEventRequest = "application/cloudevents+json"),
    )),
    responses(
        (status = 202, description = "Stored, with what was planned", body = AcceptedBody),
        (status = "4XX", description = "Not stored, and why", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not stored for sure: post it again with the same id", body = ProblemBody, content_type = "application/problem+json"),
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

/// How the events of a body are written.
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

/// How much an event counts against its source's rate: each recipient is as much work as an event.
fn weight(new: &NewEvent) -> usize {
    new.recipients.len().max(1)
}

/// Counts events against their source's rate.
pub(super) fn count(api: &Api, identity: &Identity, events: usize) -> Result<(), Problem> {
    api.access.count(identity, events).map_err(|wait| {
        Problem::new(Code::RateLimited, "the source posts more events a second than it may").retry_after(wait)
    })
}

async fn take(api: &Api, new: NewEvent, is_dry: bool) -> Result<AcceptedBody, Problem> {
    let accepted = if is_dry { api.pipeline.try_out(new).await? } else { api.pipeline.accept(new).await? };
    Ok(AcceptedBody::new(accepted, is_dry))
}

/// What became of one event of a batch.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ItemBody {
    /// The HTTP status that the event would have got alone.
    status: u16,
    /// What became of it.
    #[serde(flatten)]
    result: ItemResult,
}

/// Taken or not.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[serde(untagged)]
pub(super) enum ItemResult {
    /// Stored.
    Accepted(AcceptedBody),
    /// Not stored, and why.
    Refused {
        /// Why.
        problem: ProblemBody,
    },
}

/// What became of a batch, in the order of its events.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BatchBody {
    /// Events that are stored, repeats among them.
    accepted: usize,
    /// Events that are not.
    refused: usize,
    /// One result an event.
    results: Vec<ItemBody>,
}

/// Posts up to 1,000 events with up to 10,000 recipients together; one that is refused takes no other with it.
///
/// The answer lists up to 500 errors and 10,000 deliveries and decisions over all events; `GET /v1/events/{id}` has the rest.
///
/// Each event is as for `POST /v1/events`; one that is not is refused with its own problem.
///
/// A JSON array, a JSON document a line (`application/x-ndjson`; empty lines are passed over), or a list of CloudEvents.
#[utoipa::path(
    post, path = "/v1/events/batch", tag = "events", params(WriteQuery),
    request_body(content(
        (Vec<Value> = "application/json"), (String = "application/x-ndjson"),
        (Vec<Value> = "application/cloudevents-batch+json"),
    )),
    responses(
        (status = 202, description = "A result per event", body = BatchBody),
        (status = "4XX", description = "Nothing was read", body = ProblemBody, content_type = "application/problem+json"),
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
    // The header names one event; in a batch each names itself.
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

/// Takes the events of a batch that could be read; a result for each, in their order.
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

/// Reads the events of a batch; one that can't be read takes no other with it.
///
/// # Errors
/// What is wrong with the batch as a whole: nothing of it is taken then.
fn read_batch(
    media: Media,
    bytes: &[u8],
    (identity, headers): (&Identity, &HeaderMap),
    max_bytes: usize,
) -> Result<Vec<Result<NewEvent, Problem>>, Problem> {
    let read = |(line, item): (usize, &[u8])| {
        if item.len() > max_bytes {
            return Err(Problem::new(Code::TooLarge, format!("an event has at most {max_bytes} bytes")));
        }
        read_as(media, item, identity, headers).map_err(|problem| problem.at_line(line))
    };
    let events: Vec<Result<NewEvent, Problem>> = split(media, bytes)?.into_iter().map(read).collect();
    let recipients: usize = events.iter().flatten().map(|new| new.recipients.len()).sum();
    if recipients > MAX_BATCH_RECIPIENTS {
        let detail = format!(
            "a batch has at most {MAX_BATCH_RECIPIENTS} recipients over all its events, this one has {recipients}; post it in parts"
        );
        return Err(Problem::new(Code::TooLarge, detail));
    }
    Ok(events)
}

impl BatchBody {
    /// The results, with bounded lists of errors and deliveries.
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

/// The events of a batch, each still as text, so that one that is not well formed is refused alone; with the line that
/// places in it are counted from.
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
        return Err(Problem::new(Code::BadJson, format!("a batch has 1 to {MAX_BATCH} events")));
    }
    Ok(items)
}

fn split_array(bytes: &[u8]) -> Result<Vec<&[u8]>, Problem> {
    let text =
        std::str::from_utf8(bytes).map_err(|_| Problem::new(Code::BadJson, "the body is not valid UTF-8"))?;
    let items: Vec<&RawValue> = serde_json::from_str(text).map_err(|error| {
        Problem::new(Code::BadJson, format!("a batch is a JSON array of events: {error}"))
    })?;
    Ok(items.into_iter().map(|item| item.get().as_bytes()).collect())
}
