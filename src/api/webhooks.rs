//! Incoming webhooks: authenticated by signature, stored verbatim, converted by the source's mapping, and ingested like
//! a posted event.
//!
//! A signed call is answered with `202` once it is stored, as an event or as a body that can be reprocessed when the
//! mapping is fixed. On an error, the sender would only retry the same call and eventually give up.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use super::body::Sent;
use super::events::count;
use super::kept::Content;
use super::parameters::PathText;
use super::problem::{Code, Problem, ProblemBody};
use super::{Api, body, event_fields};
use crate::access::Identity;
use crate::compute::Purpose;
use crate::domain::budget::Budget;
use crate::domain::id::{EventId, KeyId, ReceivedBodyId, TypedId};
use crate::domain::rejection::Rejection;
use crate::pipeline::ingest::Accepted;
use crate::store::webhook_bodies::{BodyState, ReceivedBody};
use crate::store::webhooks::{KnownWebhook, WebhookSecret};
use crate::webhooks::{
    Auth, Body as ReadBody, Call, Headers, Mapped, Scheme, Signed, SourceSettings, Webhook,
};

/// The result of a webhook call.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct HookBody {
    /// `accepted`; or stored for reprocessing: `unmatched`, `refused`.
    state: &'static str,
    /// The event.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    id: Option<EventId>,
    /// Whether the same event had been taken before.
    #[serde(skip_serializing_if = "Option::is_none")]
    duplicate: Option<bool>,
    /// The stored body.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    body: Option<ReceivedBodyId>,
}

/// The response to Slack's URL verification.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ChallengeBody {
    /// The challenge that Slack sent.
    challenge: String,
}

/// Receives a webhook's body.
///
/// Authenticated by the source's secrets according to its settings, not by an API key: the method of a known sender,
/// `Authorization: Bearer …`, an HMAC of the body in a header, or Standard Webhooks. Every failure returns the same
/// 401;
/// see `GET /v1/sources/{name}` for the reason. Slack's URL verification (`challenge`) is answered.
#[utoipa::path(
    post, path = "/v1/hooks/{source}", tag = "webhooks", security(()),
    params(("source" = String, Path, description = "The source's name")),
    request_body(content = Value, description = "Any JSON, or a form", content_type = "application/json"),
    responses(
        (status = 200, description = "Response to Slack's URL verification", body = ChallengeBody),
        (status = 202, description = "Stored: as an event, or for reprocessing", body = HookBody),
        (status = "4XX", description = "Not stored, and why", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Possibly not stored: retry", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn receive(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let sent = body::read_sent(&headers, body, api.max_bytes.0).await;
    let Some(known) = api.store.find_webhook(&name).await? else {
        return Err(refuse(&api, api.store.find_source(&name).await?.as_ref(), Rejection::NoWebhook).await);
    };
    let sent = match sent {
        Ok(sent) => sent,
        Err(problem) => {
            let is_encoding = problem.status() == 415;
            let why = if is_encoding { Rejection::UnknownEncoding } else { Rejection::UnreadBody };
            api.reject(Some(&known.source), why).await;
            return Err(problem);
        }
    };
    let seen = by_name(&headers);
    let (Ready { settings, auth }, signed) =
        match authenticate(&api, &known, &seen, (query.as_deref().unwrap_or_default(), &sent)) {
            Ok(authentic) => authentic,
            Err(why) => return Err(refuse(&api, Some(&known.source), why).await),
        };
    let secret = &known.secrets[signed.secret];
    let content = Content { bytes: sent.expanded.unwrap_or(sent.wire), headers: auth.visible(&seen) };
    if let Some(challenge) = challenge(&auth, &content) {
        return Ok(Json(ChallengeBody { challenge }).into_response());
    }
    let taken = take(&api, &known, secret, (&settings, content)).await;
    if taken.as_ref().is_err_and(|problem| problem.status() == 429) {
        api.reject(Some(&known.source), Rejection::RateLimited).await;
    }
    taken
}

/// Counts a failed authentication and returns the common error.
async fn refuse(api: &Api, source: Option<&crate::store::sources::Source>, why: Rejection) -> Problem {
    api.reject(source, why).await;
    Problem::new(Code::BadSignature, "unknown source, or missing, invalid or expired signature")
}

/// Stores an authenticated call: as an event, or for reprocessing.
async fn take(
    api: &Api,
    known: &KnownWebhook,
    secret: &WebhookSecret,
    (settings, content): (&Arc<SourceSettings>, Content),
) -> Result<Response, Problem> {
    let now = api.clock.now();
    let identity = identity(known, secret);
    count(api, &identity, 1)?;
    let mut received = ReceivedBody {
        id: api.ids.next(now),
        source: known.source.id,
        secret: secret.id,
        is_test: secret.is_test,
        state: BodyState::Unmatched,
        detail: String::new(),
        event: None,
        size: content.bytes.len(),
        content: Some(content.to_json()),
        received_at: now,
    };
    let accepted = settle(api, settings, &identity, content, &mut received).await?;
    let is_kept = api.store.insert_received(&received).await;
    match (&accepted, is_kept) {
        (None, Err(error)) => return Err(error.into()),
        // The event itself is stored, so this is not an error.
        (Some(_), Err(error)) => {
            let error = &error as &dyn std::error::Error;
            let name = &known.source.name;
            tracing::warn!(
                error,
                source.name = name,
                "the body of an accepted webhook of {name} was not stored"
            );
        }
        (_, Ok(())) => {}
    }
    Ok((StatusCode::ACCEPTED, Json(hook_body(&received, accepted.as_ref()))).into_response())
}

/// The challenge of Slack's URL verification, if the call is one.
fn challenge(auth: &Auth, content: &Content) -> Option<String> {
    if *auth != Auth::Scheme(Scheme::Slack) || content.bytes.len() > 4_096 {
        return None;
    }
    let body = ReadBody::read(&content.bytes, &content.headers).ok()?.value;
    let is_question = body["type"] == "url_verification";
    body["challenge"].as_str().filter(|_| is_question).map(str::to_owned)
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
    api: &Api,
    known: &KnownWebhook,
    headers: &Headers,
    (query, sent): (&str, &Sent),
) -> Result<(Ready, Signed), Rejection> {
    let ready = ready(known).ok_or(Rejection::NoWebhook)?;
    let secrets: Vec<String> = known.secrets.iter().map(|secret| secret.text.clone()).collect();
    let verify = |body: &[u8]| {
        let call = Call { headers, query, body, now: api.clock.now() };
        ready.auth.verify(&call, &secrets)
    };
    // Most senders sign the uncompressed body; some sign the compressed one.
    let of_expanded = sent.expanded.as_deref().map_or(Err(Rejection::WrongSignature), verify);
    let signed = of_expanded.or_else(|_| verify(&sent.wire))?;
    Ok((ready, signed))
}

/// A stored webhook: settings and signature. Its mappings are parsed only after the signature is verified.
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

/// What a source's mappings make of a call; `trial` is its name where the sender calls it nothing. `Err` says why its
/// body
/// can't be read.
///
/// # Errors
/// 503 when too many mappings are in progress.
pub(super) async fn mapped(
    api: &Api,
    settings: &Arc<SourceSettings>,
    (content, trial): (Content, Option<&'static str>),
    purpose: Purpose,
) -> Result<Result<Mapped, String>, Problem> {
    let settings = Arc::clone(settings);
    let map = move |budget: &Budget| {
        let body = ReadBody::read(&content.bytes, &content.headers)?;
        match Webhook::new(&settings, budget) {
            Ok(webhook) => Ok(webhook.map(&body, &content.headers, trial, budget)),
            Err(_) => Err("the source's settings are invalid".to_owned()),
        }
    };
    Ok(api.compute.run(purpose, map).await?)
}

fn identity(known: &KnownWebhook, secret: &WebhookSecret) -> Identity {
    Identity::of_source(&known.source, KeyId::from_uuid(secret.id.uuid()), secret.is_test)
}

/// Applies the mapping to a body, ingests the resulting event, and records the result in `received`.
///
/// # Errors
/// What passes: 429 or 503. The same body helps later, and nothing is stored of it. Anything else is a reason to keep
/// the
/// body: sent again, it would fail in the same way.
pub(super) async fn settle(
    api: &Api,
    settings: &Arc<SourceSettings>,
    identity: &Identity,
    content: Content,
    received: &mut ReceivedBody,
) -> Result<Option<Accepted>, Problem> {
    let trace = trace_of(&content.headers);
    received.event = None;
    let refused = |detail: String| (BodyState::Refused, detail);
    (received.state, received.detail) = match mapped(api, settings, (content, None), Purpose::Events).await {
        Err(problem) if is_passing(&problem) => return Err(problem),
        Err(problem) => refused(reasons(&problem)),
        Ok(Err(detail)) => refused(detail),
        Ok(Ok(Mapped::Unmatched { detail })) => (BodyState::Unmatched, detail),
        Ok(Ok(Mapped::Failed { mapping, field, detail })) => {
            refused(format!("mapping[{mapping}].{field}: {detail}"))
        }
        Ok(Ok(Mapped::Event { mapping, event })) => match accept(api, identity, &trace, event.into()).await {
            Ok((accepted, is_sensitive)) => {
                (received.state, received.event) = (BodyState::Accepted, Some(accepted.event));
                received.detail = String::new();
                received.content = received.content.take().filter(|_| !is_sensitive);
                return Ok(Some(accepted));
            }
            Err(problem) if is_passing(&problem) => return Err(problem),
            Err(problem) => refused(format!("mapping[{mapping}]: {}", reasons(&problem))),
        },
    };
    Ok(None)
}

/// Whether a retry of the same call may succeed.
fn is_passing(problem: &Problem) -> bool {
    matches!(problem.status(), 429 | 503)
}

/// The event to ingest, and whether its type has sensitive values.
async fn accept(
    api: &Api,
    identity: &Identity,
    trace: &HeaderMap,
    event: Value,
) -> Result<(Accepted, bool), Problem> {
    let new = event_fields::read(event, identity, trace)?;
    // The event was already counted when it was received.
    count(api, identity, new.recipients.len().saturating_sub(1))?;
    let is_sensitive = api.pipeline.has_sensitive_values(&new.event_type).await?;
    Ok((api.pipeline.accept(new).await?, is_sensitive))
}

/// The only header that describes the event itself.
pub(super) fn trace_of(headers: &Headers) -> HeaderMap {
    let trace = headers.get("traceparent").and_then(|trace| trace.parse().ok());
    trace.map(|trace| (axum::http::HeaderName::from_static("traceparent"), trace)).into_iter().collect()
}

/// Codes and positions without messages, which may quote a value.
pub(super) fn reasons(problem: &Problem) -> String {
    let body = problem.body();
    let places: Vec<String> = body.errors.iter().map(|e| format!("{} ({})", e.pointer, e.code)).collect();
    if places.is_empty() { body.code.to_owned() } else { format!("{}: {}", body.code, places.join(", ")) }
}

/// The response to the sender.
pub(super) fn hook_body(received: &ReceivedBody, accepted: Option<&Accepted>) -> HookBody {
    HookBody {
        state: received.state.as_str(),
        id: received.event,
        duplicate: accepted.map(|accepted| accepted.is_duplicate),
        body: accepted.is_none().then_some(received.id),
    }
}
