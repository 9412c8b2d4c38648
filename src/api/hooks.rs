//! Webhooks in: told from others' calls by their signature, read by the source's mapping, taken like a posted event.
//!
//! What was signed is answered with `202` once it is stored: as an event, or as a body that can be read again when the
//! mapping is mended. A sender that got an error would only send the same again, and stop at some point.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};

use super::events::count;
use super::parameters::PathText;
use super::problem::{Code, Problem, ProblemBody};
use super::{Api, body, event_fields, json};
use crate::access::Identity;
use crate::compute::Purpose;
use crate::domain::budget::Budget;
use crate::domain::clock::Timestamp;
use crate::domain::id::{EventId, KeyId, ReceivedBodyId, TypedId};
use crate::pipeline::ingest::Accepted;
use crate::store::received::{BodyState, ReceivedBody};
use crate::store::webhooks::{KnownWebhook, WebhookSecret};
use crate::webhooks::{Auth, Headers, Mapped, Signed, SourceSettings, Webhook};

/// What became of a webhook's body.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HookBody {
    /// `accepted`, or kept to be read again: `unmatched`, `refused`.
    state: &'static str,
    /// The event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    id: Option<EventId>,
    /// Whether the same event had been taken before.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    /// The kept body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    body: Option<ReceivedBodyId>,
}

/// Receives a webhook's body.
///
/// Authenticated by the source's secrets as its settings say, not by an API key: `Authorization: Bearer …`, an HMAC of the
/// body in a header, or Standard Webhooks. Whatever is wrong with that, the answer is the same 401.
#[utoipa::path(
    post, path = "/v1/hooks/{source}", tag = "webhooks", security(()),
    params(("source" = String, Path, description = "The source's name")),
    request_body(content = Value, description = "Any JSON", content_type = "application/json"),
    responses(
        (status = 202, description = "Stored: as an event, or to be read again", body = HookBody),
        (status = "4XX", description = "Not stored, and why", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Not stored for sure: send it again", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn receive(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<HookBody>), Problem> {
    let bytes = body::read_bytes(&headers, body, api.max_bytes.0).await?;
    let now = api.clock.now();
    let seen = by_name(&headers);
    let known = api.store.find_webhook(&name).await?;
    let (known, Ready { settings, auth }, signed) =
        known.and_then(|known| authenticate(known, &seen, &bytes, now)).ok_or_else(|| {
            Problem::new(
                Code::BadSignature,
                "the source, its secret or signature is missing or wrong, or it is too old",
            )
        })?;
    let secret = &known.secrets[signed.secret];
    let identity = identity(&known, secret);
    count(&api, &identity, 1)?;
    let content =
        Content { body: json::parse(&bytes)?, headers: auth.visible(&seen), webhook_id: signed.webhook_id };
    let mut received = ReceivedBody {
        id: api.ids.next(now),
        source: known.source.id,
        secret: secret.id,
        is_test: secret.is_test,
        state: BodyState::Unmatched,
        detail: String::new(),
        event: None,
        size: bytes.len(),
        content: Some(content.to_json()),
        received_at: now,
    };
    let accepted = settle(&api, &settings, &identity, &content, &mut received).await?;
    let is_kept = api.store.insert_received(&received).await;
    match (&accepted, is_kept) {
        (None, Err(error)) => return Err(error.into()),
        // The event is stored, and that is what counts.
        (Some(_), Err(error)) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(
                error,
                source.name = name,
                "the body of an accepted webhook of {name} was not kept"
            );
        }
        (_, Ok(())) => {}
    }
    Ok((StatusCode::ACCEPTED, Json(hook_body(&received, accepted.as_ref()))))
}

/// A header's values by its lower-case name.
fn by_name(headers: &HeaderMap) -> Headers {
    let mut named = Headers::new();
    for (name, value) in headers {
        let value = String::from_utf8_lossy(value.as_bytes());
        named
            .entry(name.as_str().to_owned())
            .and_modify(|values| *values = format!("{values}, {value}"))
            .or_insert_with(|| value.clone().into_owned());
    }
    named
}

fn authenticate(
    known: KnownWebhook,
    headers: &Headers,
    body: &[u8],
    now: Timestamp,
) -> Option<(KnownWebhook, Ready, Signed)> {
    let ready = ready(&known)?;
    let secrets: Vec<String> = known.secrets.iter().map(|secret| secret.text.clone()).collect();
    let signed = ready.auth.verify(headers, body, &secrets, now)?;
    Some((known, ready, signed))
}

/// A stored webhook: what is said about it, and how it is signed. Its mappings are read once a signature holds.
pub(super) struct Ready {
    pub settings: Arc<SourceSettings>,
    pub auth: Auth,
}

/// A stored webhook; `None` if the source has none.
pub(super) fn ready(known: &KnownWebhook) -> Option<Ready> {
    let settings: SourceSettings = serde_json::from_value(known.settings.clone()).ok()?;
    let auth = settings.webhook.as_ref()?.auth().ok()?;
    Some(Ready { settings: Arc::new(settings), auth })
}

/// What a source's mappings make of a body.
///
/// # Errors
/// 503 when too much is being mapped already.
pub(super) async fn mapped(
    api: &Api,
    settings: &Arc<SourceSettings>,
    (body, headers, id): (Value, Headers, Option<String>),
    purpose: Purpose,
) -> Result<Mapped, Problem> {
    let settings = Arc::clone(settings);
    let map = move |budget: &Budget| match Webhook::new(&settings, budget) {
        Ok(webhook) => webhook.map(&body, &headers, id.as_deref(), budget),
        Err(_) => Mapped::Unmatched { detail: "the source's settings can't be used".to_owned() },
    };
    Ok(api.compute.run(purpose, map).await?)
}

fn identity(known: &KnownWebhook, secret: &WebhookSecret) -> Identity {
    Identity::of_source(&known.source, KeyId::from_uuid(secret.id.uuid()), secret.is_test)
}

/// What a mapping reads.
pub(super) struct Content {
    pub body: Value,
    pub headers: Headers,
    pub webhook_id: Option<String>,
}

impl Content {
    fn to_json(&self) -> Value {
        json!({"body": self.body, "headers": self.headers, "webhook_id": self.webhook_id})
    }

    /// What was kept of a body.
    pub fn from_json(content: &Value) -> Self {
        let headers = serde_json::from_value(content["headers"].clone()).unwrap_or_default();
        let webhook_id = content["webhook_id"].as_str().map(str::to_owned);
        Self { body: content["body"].clone(), headers, webhook_id }
    }
}

/// Reads a body by the mapping, takes the event if it makes one, and writes into `received` what became of it.
///
/// # Errors
/// What passes: 429 or 503. The same body helps later, and nothing is stored of it.
pub(super) async fn settle(
    api: &Api,
    settings: &Arc<SourceSettings>,
    identity: &Identity,
    content: &Content,
    received: &mut ReceivedBody,
) -> Result<Option<Accepted>, Problem> {
    let asked = (content.body.clone(), content.headers.clone(), content.webhook_id.clone());
    (received.state, received.detail) = match mapped(api, settings, asked, Purpose::Events).await? {
        Mapped::Unmatched { detail } => (BodyState::Unmatched, detail),
        Mapped::Failed { mapping, field, detail } => {
            (BodyState::Refused, format!("mapping[{mapping}].{field}: {detail}"))
        }
        Mapped::Event { mapping, event } => match accept(api, identity, content, event.into()).await {
            Ok((accepted, is_sensitive)) => {
                (received.state, received.event) = (BodyState::Accepted, Some(accepted.event));
                received.detail = String::new();
                received.content = received.content.take().filter(|_| !is_sensitive);
                return Ok(Some(accepted));
            }
            Err(problem) if problem.status() == 429 || problem.status() >= 500 => return Err(problem),
            Err(problem) => (BodyState::Refused, format!("mapping[{mapping}]: {}", reasons(&problem))),
        },
    };
    received.event = None;
    Ok(None)
}

/// The event as ingest takes it, and whether its type holds sensitive values.
async fn accept(
    api: &Api,
    identity: &Identity,
    content: &Content,
    event: Value,
) -> Result<(Accepted, bool), Problem> {
    let new = event_fields::read(event, identity, &trace_of(&content.headers))?;
    // The event itself was counted when it came.
    count(api, identity, new.recipients.len().saturating_sub(1))?;
    let is_sensitive = api.pipeline.has_sensitive_values(&new.event_type).await?;
    Ok((api.pipeline.accept(new).await?, is_sensitive))
}

/// The one header that says something about the event itself.
pub(super) fn trace_of(headers: &Headers) -> HeaderMap {
    let trace = headers.get("traceparent").and_then(|trace| trace.parse().ok());
    trace.map(|trace| (axum::http::HeaderName::from_static("traceparent"), trace)).into_iter().collect()
}

/// Codes and places, without the words: these may quote a value.
pub(super) fn reasons(problem: &Problem) -> String {
    let body = problem.body();
    let places: Vec<String> = body.errors.iter().map(|e| format!("{} ({})", e.pointer, e.code)).collect();
    if places.is_empty() { body.code.to_owned() } else { format!("{}: {}", body.code, places.join(", ")) }
}

/// The answer to who sent the body.
pub(super) fn hook_body(received: &ReceivedBody, accepted: Option<&Accepted>) -> HookBody {
    HookBody {
        state: received.state.as_str(),
        id: received.event,
        duplicate: accepted.map(|accepted| accepted.is_duplicate),
        body: accepted.is_none().then_some(received.id),
    }
}
