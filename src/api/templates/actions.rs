//! What is done with templates: checked, previewed, approved, published, rolled back, sent as a test.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::super::catalog_entries::read;
use super::super::parameters::{Parameters, PathText};
use super::super::problem::{Code, FieldError, Problem, ProblemBody};
use super::super::{Api, etag};
use crate::access::{Identity, Use};
use crate::catalog::CatalogProblem;
use crate::catalog::preview_data::{draft_version, shown_data, types_of};
use crate::catalog::templates::{Publishing, TemplateError};
use crate::catalog::traffic::{DEFAULT_EVENTS, TrafficReport};
use crate::domain::digest;
use crate::domain::event::Recipient;
use crate::domain::id::EventId;
use crate::domain::rule::Rule;
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry};
use crate::domain::template::Content;
use crate::pipeline::operator::preview::{PreviewWish, Previewed};
use crate::pipeline::operator::test_send::TestSend;

/// What is checked, and against how much traffic.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct CheckRequest {
    /// The content itself; or
    #[schema(value_type = Option<Object>)]
    content: Option<Content>,
    /// `draft`, `live`, or a version's number; if nothing is said, the draft, or what is live where there is none.
    version: Option<String>,
    /// How many of the last events are looked at; 500 if nothing is said, 0 for none.
    events: Option<u32>,
}

/// What can be said of copy.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in super::super) struct CheckBody {
    /// Whether it can be published as far as the checks go.
    ok: bool,
    problems: Vec<CatalogProblem>,
    traffic: TrafficReport,
}

/// Checks copy: the same checks as when files are applied, and what the last real events say to it.
#[utoipa::path(
    post, path = "/v1/templates/{key}/check", tag = "templates", request_body = CheckRequest,
    params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 200, description = "What was found", body = CheckBody))
)]
pub(in super::super) async fn check_template(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<CheckBody>, Problem> {
    let identity = api.allow(&headers, Use::ReadCatalog).await?;
    let CheckRequest { content, version, events } = read(&headers, body).await?;
    let content = api.given(&key, content, version).await?;
    let events = events.unwrap_or(DEFAULT_EVENTS);
    let (problems, traffic) = api.publisher.check_template(&key, &content, events).await?;
    let traffic = api.seen_by(&identity, traffic).await?;
    Ok(Json(CheckBody { ok: !problems.iter().any(CatalogProblem::is_error), problems, traffic }))
}

impl Api {
    /// What a caller may see of a report: single events only with `events:read`.
    pub(in super::super) async fn seen_by(
        &self,
        identity: &Identity,
        report: TrafficReport,
    ) -> Result<TrafficReport, Problem> {
        Ok(if self.may_see_events(identity).await? { report } else { report.without_values() })
    }

    /// What a caller may see of a problem that tells of events.
    pub(in super::super) async fn problem_seen_by(
        &self,
        identity: &Identity,
        problem: Problem,
    ) -> Result<Problem, Problem> {
        Ok(if self.may_see_events(identity).await? { problem } else { problem.without_values() })
    }

    /// The content that a request gives or names.
    async fn given(
        &self,
        key: &str,
        content: Option<Content>,
        version: Option<String>,
    ) -> Result<Content, Problem> {
        match content {
            Some(content) => Ok(content),
            None => self.content(key, version.as_deref().unwrap_or(self.usual(key).await?)).await,
        }
    }

    /// What is meant when nothing is named: the draft, or what is live where there is none.
    async fn usual(&self, key: &str) -> Result<&'static str, Problem> {
        Ok(if self.draft(key).await?.is_some() { "draft" } else { "live" })
    }

    /// The number of the stored version that a request names; `None` for the draft.
    async fn stored(&self, key: &str, which: Option<&str>) -> Result<Option<i32>, Problem> {
        let none = || Problem::new(Code::NotFound, format!("template {key} has no live version"));
        let which = match which {
            Some(which) => which,
            None => self.usual(key).await?,
        };
        match which {
            "draft" => Ok(None),
            "live" => Ok(Some(self.live_number(key).await?.ok_or_else(none)?)),
            number => Ok(Some(Self::number(number)?)),
        }
    }
}

/// What is previewed.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct PreviewRequest {
    /// The content itself; or
    #[schema(value_type = Option<Object>)]
    content: Option<Content>,
    /// `draft`, `live`, or a version's number; if nothing is said, the draft, or what is live where there is none.
    version: Option<String>,
    /// The locale; the default one if none is named.
    locale: Option<String>,
    /// The event's values; or
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    /// the name of a sample; or
    sample: Option<String>,
    /// a past event, its sensitive values masked. The first sample if nothing is said.
    event: Option<String>,
    /// The event type that the sample is of; needed only if several lead here.
    event_type: Option<String>,
    /// Whom the request is shown for: one label with one id.
    recipient: Option<BTreeMap<String, String>>,
    /// What OneSignal knows of them: `tags`, `language`, …
    #[schema(value_type = Object)]
    user: Value,
}

/// What would be shown and sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in super::super) struct PreviewBody {
    /// The locale that was chosen.
    locale: String,
    /// The fields as the person would see them.
    fields: BTreeMap<String, String>,
    /// What OneSignal would show as nothing, since it does not know it of this person.
    blanks: Vec<String>,
    /// Why it would be held, if it would.
    #[schema(value_type = Option<Object>)]
    held: Option<Value>,
    /// The body of OneSignal's Create message.
    #[schema(value_type = Option<Object>)]
    request: Option<Value>,
    problems: Vec<CatalogProblem>,
}

/// Shows what a person would see and what OneSignal would get; nothing is sent.
#[utoipa::path(
    post, path = "/v1/templates/{key}/preview", tag = "templates", request_body = PreviewRequest,
    params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 200, description = "What would be shown and sent", body = PreviewBody))
)]
pub(in super::super) async fn preview_template(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PreviewBody>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let mut wish: PreviewRequest = read(&headers, body).await?;
    if wish.event.is_some() {
        // It shows what the event says.
        api.allow(&headers, Use::ReadEvents).await?;
    }
    let snapshot = api.store.snapshot().await?;
    let stored = match &wish.content {
        None => api.stored(&key, wish.version.as_deref()).await?,
        Some(_) => None,
    };
    let content = api.given(&key, wish.content.take(), wish.version.take()).await?;
    let (_, data) = api.example(&snapshot, &key, &wish).await?;
    let is_gathered = |rule: &&Rule| rule.template() == Some(&key) && rule.definition.digest.is_some();
    let data = match snapshot.rules.iter().find(is_gathered) {
        // Whoever gives values may give all of what was gathered.
        Some(_) if data.get(digest::ITEMS).is_none() => digest::gathered(vec![data], 1),
        Some(_) | None => data,
    };
    let recipient = recipient_of(wish.recipient.as_ref())?;
    let (problems, _) = api.publisher.check_template(&key, &content, 0).await?;
    let version = match stored {
        Some(number) => api.publisher.record(&key, number).await?.version,
        None => draft_version(&snapshot, &key, content)
            .ok_or_else(|| Problem::new(Code::NotFound, format!("there is no template {key}")))?,
    };
    let preview =
        PreviewWish { version, locale: wish.locale.as_deref(), data: &data, recipient, user: wish.user };
    let Previewed { locale, fields, blanks, request, held } = api.pipeline.preview(preview).await?;
    let held = held.map(|held| json!({"code": held.code.as_str(), "detail": held.detail}));
    Ok(Json(PreviewBody { locale, fields, blanks, held, request, problems }))
}

fn recipient_of(given: Option<&BTreeMap<String, String>>) -> Result<Recipient, Problem> {
    let Some(given) = given else {
        return Ok(Recipient {
            label: crate::domain::event::RecipientLabel::ExternalId,
            id: "user-42".to_owned(),
        });
    };
    let wrong = |detail: String| {
        Problem::fields(Code::InvalidFields, vec![FieldError::new("/recipient", "invalid", detail)])
    };
    match given.iter().next().filter(|_| given.len() == 1) {
        Some((label, id)) => Recipient::parse(label, id).map_err(|error| wrong(error.to_string())),
        None => Err(wrong("one label with one id, such as {\"external_id\": \"user-42\"}".to_owned())),
    }
}

impl Api {
    /// The event type and the values that a request gives or names.
    async fn example(
        &self,
        snapshot: &CatalogSnapshot,
        key: &str,
        wish: &PreviewRequest,
    ) -> Result<(Option<String>, Value), Problem> {
        let wrong = |pointer: &str, detail: String| {
            Problem::fields(Code::InvalidFields, vec![FieldError::new(pointer, "invalid", detail)])
        };
        if let Some(id) = &wish.event {
            let none = || wrong("/event", format!("there is no event {id}"));
            let parsed: EventId = id.parse().map_err(|_| none())?;
            let event = self.store.find_events(&[parsed]).await?.pop().ok_or_else(none)?.event;
            let data = shown_data(snapshot, &event.event_type, &event.data);
            return Ok((Some(event.event_type.to_string()), data));
        }
        let types = types_of(snapshot, key);
        let wanted = |entry: &&&EventTypeEntry| {
            wish.event_type.as_deref().is_none_or(|name| name == entry.name.as_str())
        };
        let entry = types.iter().find(wanted).copied();
        let name = wish.event_type.clone().or_else(|| entry.map(|entry| entry.name.to_string()));
        if let Some(data) = &wish.data {
            if !data.is_object() {
                return Err(wrong("/data", "an event's values are an object".to_owned()));
            }
            return Ok((name, data.clone()));
        }
        let sample = entry.and_then(|entry| match &wish.sample {
            Some(sample) => entry.samples.get(sample),
            None => entry.samples.values().next(),
        });
        match (sample, &wish.sample) {
            (Some(sample), _) => Ok((name, sample.clone())),
            (None, Some(sample)) => Err(wrong("/sample", format!("there is no sample `{sample}`"))),
            (None, None) => Ok((name, json!({}))),
        }
    }
}

/// Why something is done.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct ApproveRequest {
    /// Why, for the record of changes.
    note: String,
}

/// Approves a draft as a second person.
#[utoipa::path(
    post, path = "/v1/templates/{key}/approve", tag = "templates", request_body = ApproveRequest,
    params(("key" = String, Path, description = "order-shipped-push")),
    responses(
        (status = 204, description = "This revision of the draft is approved"),
        (status = 409, description = "It is your own draft", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "It was saved meanwhile", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in super::super) async fn approve_draft(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::Publish).await?;
    let request: ApproveRequest = read(&headers, body).await?;
    let present = api.draft(&key).await?.map_or(0, |draft| draft.revision);
    let revision = etag::wanted(&headers, present)?;
    let by = identity.by(&request.note)?;
    api.publisher.approve_draft(&key, revision, by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// How a draft is to be published.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct PublishRequest {
    /// Why, for the history.
    note: String,
    /// Goes on though events that get their message today would be held.
    accept_held: bool,
    /// How many of the last events are looked at; 500 if nothing is said.
    events: Option<u32>,
}

/// What publishing came to.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in super::super) struct PublishedBody {
    /// The version that is live now.
    version: i32,
    /// What is worth a look.
    warnings: Vec<CatalogProblem>,
    /// What the last events say to it.
    traffic: TrafficReport,
}

/// Whether a dry run is asked for.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct PublishQuery {
    /// `true`: answers what the checks and the last events say, and publishes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Publishes a template's draft: checked, held against real events, uploaded to OneSignal, and only then live.
#[utoipa::path(
    post, path = "/v1/templates/{key}/publish", tag = "templates", request_body = PublishRequest,
    params(("key" = String, Path, description = "order-shipped-push"), PublishQuery),
    responses(
        (status = 200, description = "It is live", body = PublishedBody),
        (status = 409, description = "No approval, or real events would be held (`accept_held` goes on)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "The draft was saved meanwhile", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It has errors", body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "OneSignal did not take it; what was live still is", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in super::super) async fn publish_draft(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    Parameters(query): Parameters<PublishQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PublishedBody>, Problem> {
    let identity = api.allow(&headers, Use::Publish).await?;
    let request: PublishRequest = read(&headers, body).await?;
    let draft = api.draft(&key).await?;
    let draft = draft.ok_or_else(|| Problem::from(TemplateError::NoDraft(key.clone())))?;
    let revision = etag::wanted(&headers, draft.revision)?;
    let events = request.events.unwrap_or(DEFAULT_EVENTS);
    let how = Publishing { revision, accepts_held_events: request.accept_held, events };
    let by = identity.by(&request.note)?;
    let done = if query.dry_run {
        api.publisher.rehearse_publishing(&key, how).await
    } else {
        api.publisher.publish_draft(&key, how, by).await
    };
    let done = match done {
        Ok(done) => done,
        Err(error) => return Err(api.problem_seen_by(&identity, error.into()).await?),
    };
    let traffic = api.seen_by(&identity, done.traffic).await?;
    Ok(Json(PublishedBody { version: done.version, warnings: done.warnings, traffic }))
}

/// Which version to go back to.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(in super::super) struct RollbackRequest {
    /// The number of the version that is to be said again.
    version: i32,
    /// Why, for the history.
    #[serde(default)]
    note: String,
}

/// Makes a new version that says what an older one said, and brings it live.
#[utoipa::path(
    post, path = "/v1/templates/{key}/rollback", tag = "templates", request_body = RollbackRequest,
    params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 200, description = "It is live", body = PublishedBody), (status = 404, description = "No such version"))
)]
pub(in super::super) async fn roll_back(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PublishedBody>, Problem> {
    let identity = api.allow(&headers, Use::Publish).await?;
    let request: RollbackRequest = read(&headers, body).await?;
    let by = identity.by(&request.note)?;
    let done = api.publisher.roll_back(&key, request.version, by).await?;
    let traffic = api.seen_by(&identity, done.traffic).await?;
    Ok(Json(PublishedBody { version: done.version, warnings: done.warnings, traffic }))
}

/// A test send: what a preview shows, to one person on the list.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(in super::super) struct TestSendRequest {
    /// `draft`, `live`, or a version's number; if nothing is said, the draft, or what is live where there is none.
    version: Option<String>,
    /// The locale; the default one if none is named.
    locale: Option<String>,
    /// The event's values; or
    #[schema(value_type = Option<Object>)]
    data: Option<Value>,
    /// the name of a sample. The first sample if nothing is said.
    sample: Option<String>,
    /// The event type; needed only if several lead here, or none.
    event_type: Option<String>,
    /// Who gets it, one label with one id: on the list of test recipients.
    recipient: BTreeMap<String, String>,
}

/// Sends one version, live or not, to one person on the list of test recipients, marked as a test.
#[utoipa::path(
    post, path = "/v1/templates/{key}/test-send", tag = "templates", request_body = TestSendRequest,
    params(("key" = String, Path, description = "order-shipped-push")),
    responses(
        (status = 202, description = "It is on its way", body = Object),
        (status = 403, description = "The person is not on the list", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in super::super) async fn test_send(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<Value>), Problem> {
    let identity = api.allow(&headers, Use::TestSend).await?;
    let request: TestSendRequest = read(&headers, body).await?;
    let snapshot = api.store.snapshot().await?;
    let recipient = recipient_of(Some(&request.recipient))?;
    // Before a version is stored and uploaded for nothing.
    api.pipeline.check_listed(&recipient).await?;
    let wish = PreviewRequest {
        data: request.data,
        sample: request.sample,
        event_type: request.event_type,
        ..PreviewRequest::default()
    };
    let (event_type, data) = api.example(&snapshot, &key, &wish).await?;
    let event_type = event_type.and_then(|name| name.parse().ok()).ok_or_else(|| {
        let detail = "no rule leads to this template: name the event type that the data is of";
        Problem::fields(Code::InvalidFields, vec![FieldError::new("/event_type", "required", detail)])
    })?;
    let by = identity.by("made for a test send")?;
    let version = match api.stored(&key, request.version.as_deref()).await? {
        Some(number) => api.publisher.uploaded_version(&key, number).await?,
        None => api.publisher.version_for_test(&key, api.content(&key, "draft").await?, by).await?,
    };
    let test = TestSend {
        by: (identity.source, identity.key),
        is_test: identity.is_test,
        event_type,
        data,
        locale: request.locale,
        version: version.id,
        recipient,
    };
    let accepted = api.pipeline.test_send(test).await?;
    let deliveries: Vec<Value> =
        accepted.deliveries.iter().map(|d| json!({"id": d.id, "state": d.state})).collect();
    let decisions: Vec<Value> =
        accepted.decisions.iter().map(|d| json!({"code": d.code, "detail": d.detail})).collect();
    let body = json!({
        "id": accepted.event, "template": key, "version": version.number, "deliveries": deliveries,
        "decisions": decisions, "trace_url": format!("/v1/events/{}", accepted.event),
    });
    Ok((StatusCode::ACCEPTED, Json(body)))
}
