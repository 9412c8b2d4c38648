//! Received webhook bodies: listing, reprocessing, and testing a mapping.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::kept::Content;
use super::listing::Page;
use super::parameters::{Parameters, PathText, PathTexts};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::sources::{find, read_settings};
use super::webhooks::{HookBody, Ready, hook_body, mapped, ready, settle, trace_of};
use super::{Api, event_fields, json_body};
use crate::access::{Identity, Use};
use crate::compute::Purpose;
use crate::domain::budget::Budget;
use crate::domain::id::{EventId, KeyId, ReceivedBodyId, TypedId, WebhookSecretId};
use crate::store::webhook_bodies::ReceivedBody;
use crate::store::webhooks::KnownWebhook;
use crate::webhooks::{Headers, Mapped, SourceSettings};

/// Page size: each body may be large.
const PAGE: i64 = 20;
/// Maximum size of a request to test a mapping.
const MAX_TEST_BYTES: usize = 1024 * 1024;

/// Filters.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct BodiesQuery {
    /// `accepted`, `unmatched` or `refused`.
    state: Option<String>,
    /// Page size: 20 by default, at most 20.
    #[param(minimum = 1, maximum = 20)]
    limit: Option<i64>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// A received body.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReceivedBodyBody {
    #[schema(value_type = String)]
    id: ReceivedBodyId,
    /// `accepted`, `unmatched` or `refused`.
    state: &'static str,
    /// Why it created no event.
    detail: String,
    /// The event that it created.
    #[schema(value_type = Option<String>)]
    event: Option<EventId>,
    /// The secret that it was signed with.
    #[schema(value_type = String)]
    secret: WebhookSecretId,
    size_bytes: usize,
    received_at: DateTime<Utc>,
    /// Its headers, without secrets; `null` if it created an event with sensitive values.
    headers: Option<Headers>,
    /// The parsed body; `null` in that case too, and if it can't be parsed.
    body: Option<Value>,
    /// The raw body if it can't be parsed.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
}

impl From<ReceivedBody> for ReceivedBodyBody {
    fn from(received: ReceivedBody) -> Self {
        let content = received.content.as_ref().map(Content::from_json);
        let (body, text) = content.as_ref().map(Content::shown).unwrap_or_default();
        let headers = content.map(|content| content.headers);
        Self {
            id: received.id,
            state: received.state.as_str(),
            detail: received.detail,
            event: received.event,
            secret: received.secret,
            size_bytes: received.size,
            received_at: received.received_at,
            headers,
            body,
            text,
        }
    }
}

/// Lists the latest bodies that a source sent, newest first.
#[utoipa::path(
    get, path = "/v1/sources/{name}/bodies", tag = "webhooks",
    params(("name" = String, Path, description = "The source's name"), BodiesQuery),
    responses((status = 200, description = "A page of bodies", body = Page<ReceivedBodyBody>))
)]
pub(super) async fn list_bodies(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    Parameters(query): Parameters<BodiesQuery>,
    headers: HeaderMap,
) -> Result<Json<Page<ReceivedBodyBody>>, Problem> {
    api.allow(&headers, Use::ReadBodies).await?;
    let bad = |name: &str, detail: &str| {
        Problem::fields(Code::BadParameter, vec![FieldError::new(name, "bad_parameter", detail)])
    };
    let before = query.cursor.as_deref().map(str::parse).transpose();
    let before: Option<ReceivedBodyId> =
        before.map_err(|_| bad("cursor", "use `next_cursor` of the previous page"))?;
    let state = query.state.as_deref();
    if state.is_some_and(|state| !["accepted", "unmatched", "refused"].contains(&state)) {
        return Err(bad("state", "`state` must be `accepted`, `unmatched` or `refused`"));
    }
    let limit = query.limit.unwrap_or(PAGE);
    if !(1..=PAGE).contains(&limit) {
        return Err(bad("limit", "`limit` must be 1 to 20"));
    }
    let source = find(&api, &name).await?;
    let bodies = api.store.webhook_deliveries(source.id, before, state, limit).await?;
    let shown =
        move |_: &Budget| Page::new(bodies, limit, |body| body.id.to_string(), ReceivedBodyBody::from);
    Ok(Json(api.compute(shown).await?))
}

/// Reprocesses a stored body with the current mapping.
#[utoipa::path(
    post, path = "/v1/sources/{name}/bodies/{id}/replay", tag = "webhooks",
    params(("name" = String, Path, description = "The source's name"), ("id" = String, Path, description = "bod_…")),
    responses(
        (status = 200, description = "The result", body = HookBody),
        (status = 409, description = "No longer stored", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replay_body(
    State(api): State<Arc<Api>>,
    PathTexts(name, id): PathTexts,
    headers: HeaderMap,
) -> Result<Json<HookBody>, Problem> {
    let caller = api.allow(&headers, Use::ChangeSource).await?;
    let known = find_webhook(&api, &name).await?;
    let Ready { settings, .. } = ready(&known).ok_or_else(|| no_webhook(&name))?;
    let unknown = || Problem::new(Code::NotFound, format!("there is no body {id} of {name}"));
    let parsed: ReceivedBodyId = id.parse().map_err(|_| unknown())?;
    let mut received = api.store.find_received(known.source.id, parsed).await?.ok_or_else(unknown)?;
    let content = received.content.as_ref().map(Content::from_json).ok_or_else(|| {
        Problem::new(Code::BodyGone, "it created an event with sensitive values, so it was not stored")
    })?;
    let is_test = received.is_test || caller.is_test;
    let identity = Identity::of_source(&known.source, KeyId::from_uuid(received.secret.uuid()), is_test);
    let accepted = settle(&api, &settings, &identity, content, &mut received).await?;
    api.store.settle_received(&received, api.clock.now()).await?;
    Ok(Json(hook_body(&received, accepted.as_ref())))
}

async fn find_webhook(api: &Api, name: &str) -> Result<KnownWebhook, Problem> {
    find(api, name).await?;
    api.store.find_webhook(name).await?.ok_or_else(|| no_webhook(name))
}

fn no_webhook(name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("source {name} has no webhook"))
}

/// A body to test a mapping with.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestRequest {
    /// The body, if it is JSON.
    #[serde(default)]
    body: Value,
    /// The body as text, if it is something else, such as a form.
    #[serde(default)]
    text: Option<String>,
    /// Its headers, by name.
    #[serde(default)]
    headers: Headers,
    /// Settings to use instead of the source's own; the source need not exist then.
    #[serde(default)]
    #[schema(value_type = Option<Object>)]
    settings: Option<Value>,
}

/// The result of a mapping test.
#[derive(Debug, Default, Serialize, utoipa::ToSchema)]
pub(super) struct TestBody {
    /// `accepted`, `unmatched` or `refused`.
    state: &'static str,
    /// Index of the matching mapping, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<usize>,
    /// The event that it would create.
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<Value>,
    /// Why it would create no event, or an invalid one.
    #[serde(skip_serializing_if = "Option::is_none")]
    detail: Option<String>,
    /// The problems that posting the event would return.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// Shows which event a body would create, or which expression fails. Nothing is stored.
#[utoipa::path(
    post, path = "/v1/sources/{name}/test", tag = "webhooks", request_body = TestRequest,
    params(("name" = String, Path, description = "The source's name")),
    responses((status = 200, description = "The result", body = TestBody))
)]
pub(super) async fn test_source(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<TestBody>, Problem> {
    let caller = api.allow(&headers, Use::ReadSources).await?;
    let request: TestRequest = json_body::read(&headers, body, MAX_TEST_BYTES).await?;
    let (ready, identity) = if let Some(said) = request.settings {
        let settings = read_settings(&api, said).await?;
        let auth = settings.webhook.as_ref().and_then(|webhook| webhook.auth().ok());
        (auth.map(|auth| Ready { settings: Arc::new(settings), auth }), (*caller).clone())
    } else {
        let known = find_webhook(&api, &name).await?;
        (ready(&known), Identity::of_source(&known.source, caller.key, caller.is_test))
    };
    let Ready { settings, auth } = ready.ok_or_else(|| no_webhook(&name))?;
    let named = request.headers.into_iter().map(|(name, value)| (name.to_ascii_lowercase(), value)).collect();
    let bytes = request.text.unwrap_or_else(|| request.body.to_string()).into_bytes();
    let content = Content { bytes, headers: auth.visible(&named) };
    Ok(Json(tried(&api, &settings, &identity, content).await?))
}

async fn tried(
    api: &Api,
    settings: &Arc<SourceSettings>,
    identity: &Identity,
    content: Content,
) -> Result<TestBody, Problem> {
    let headers = content.headers.clone();
    // A real call carries its event name; a test may not.
    let asked = (content, Some("msg_test"));
    let refused = |detail| TestBody { state: "refused", detail: Some(detail), ..TestBody::default() };
    let mapped = match mapped(api, settings, asked, Purpose::People).await? {
        Ok(mapped) => mapped,
        Err(detail) => return Ok(refused(detail)),
    };
    Ok(match mapped {
        Mapped::Unmatched { detail } => {
            let detail = if detail.is_empty() { "no mapping's `when` matches".to_owned() } else { detail };
            TestBody { state: "unmatched", detail: Some(detail), ..TestBody::default() }
        }
        Mapped::Failed { mapping, field, detail } => {
            TestBody { mapping: Some(mapping), ..refused(format!("mapping[{mapping}].{field}: {detail}")) }
        }
        Mapped::Event { mapping, event } => {
            let event = Value::Object(event);
            let problem = would_refuse(api, identity, event.clone(), &headers).await;
            TestBody {
                state: if problem.is_some() { "refused" } else { "accepted" },
                mapping: Some(mapping),
                event: Some(event),
                detail: problem.as_ref().map(|problem| problem.body().detail),
                problem: problem.map(|problem| problem.body()),
            }
        }
    })
}

async fn would_refuse(api: &Api, identity: &Identity, event: Value, headers: &Headers) -> Option<Problem> {
    match event_fields::read(event, identity, &trace_of(headers)) {
        Ok(new) => api.pipeline.try_out(new).await.err().map(Problem::from),
        Err(problem) => Some(problem),
    }
}
