//! Sources: their settings and webhook secrets.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::parameters::{PathText, PathTexts};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::rejections::RejectedBody;
use super::{Api, body, etag, json_body, strict_json};
use crate::access::Use;
use crate::domain::id::{SourceId, WebhookSecretId};
use crate::store::sources::Source;
use crate::store::webhooks::{ListedSecret, WebhookSecret};
use crate::webhooks::{SettingsProblem, SourceSettings, check};

/// Maximum request size.
const MAX_BYTES: usize = 256 * 1024;
/// Maximum active secrets of a source: rotation needs two.
const MAX_SECRETS: i64 = 5;

/// A source.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SourceBody {
    #[schema(value_type = String)]
    id: SourceId,
    name: String,
    /// The event types that it may post; `null`: all.
    allowed_types: Option<Vec<String>>,
    default_locale: Option<String>,
    /// Its rate limit in events per second, if set.
    events_per_second: Option<u32>,
    /// The path of its webhook, if it has one.
    webhook_path: Option<String>,
    /// Its settings, as in its catalog file.
    settings: Option<SourceSettings>,
    /// Its webhook secrets, newest first; only a hint of each is shown.
    #[serde(skip_serializing_if = "Option::is_none")]
    secrets: Option<Vec<SecretBody>>,
    /// Rejected calls of its webhook by reason, latest first; a reason is kept for 30 days after its last call.
    #[serde(skip_serializing_if = "Option::is_none")]
    rejected: Option<Vec<RejectedBody>>,
}

/// A webhook secret in a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SecretBody {
    #[schema(value_type = String)]
    id: WebhookSecretId,
    hint: String,
    /// Test secret: its events reach sandbox apps only.
    test: bool,
    created_at: DateTime<Utc>,
    revoked_at: Option<DateTime<Utc>>,
}

impl From<ListedSecret> for SecretBody {
    fn from(secret: ListedSecret) -> Self {
        Self {
            id: secret.id,
            hint: secret.hint,
            test: secret.is_test,
            created_at: secret.created_at,
            revoked_at: secret.revoked_at,
        }
    }
}

fn source_body(source: Source, settings: Option<serde_json::Value>) -> SourceBody {
    let settings: Option<SourceSettings> = settings.and_then(|said| serde_json::from_value(said).ok());
    let has_webhook = settings.as_ref().is_some_and(|settings| settings.webhook.is_some());
    SourceBody {
        webhook_path: has_webhook.then(|| format!("/v1/hooks/{}", source.name)),
        id: source.id,
        name: source.name,
        allowed_types: source.allowed_types,
        default_locale: source.default_locale,
        events_per_second: source.events_per_second,
        settings,
        secrets: None,
        rejected: None,
    }
}

/// Lists sources.
#[utoipa::path(get, path = "/v1/sources", tag = "sources", responses((status = 200, description = "Every source", body = Vec<SourceBody>)))]
pub(super) async fn list_sources(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Vec<SourceBody>>, Problem> {
    api.allow(&headers, Use::ReadSources).await?;
    let mut said = api.store.source_settings().await?;
    let sources = api.store.sources().await?.into_iter();
    Ok(Json(
        sources
            .map(|source| {
                let settings = said.remove(&source.name);
                source_body(source, settings)
            })
            .collect(),
    ))
}

/// Shows a source.
#[utoipa::path(
    get, path = "/v1/sources/{name}", tag = "sources", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The source", body = SourceBody), (status = 404, description = "No such source"))
)]
pub(super) async fn get_source(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadSources).await?;
    answer(&api, &name).await
}

/// A source with its version.
async fn answer(api: &Api, name: &str) -> Result<Response, Problem> {
    let version = api.store.source_version(name).await?;
    Ok((etag::etag(version), Json(shown(api, name).await?)).into_response())
}

async fn shown(api: &Api, name: &str) -> Result<SourceBody, Problem> {
    let source = find(api, name).await?;
    let secrets = api.store.webhook_secrets(source.id).await?;
    let settings = api.store.source_settings().await?.remove(name);
    Ok(SourceBody {
        rejected: Some(api.rejected(&source).await?),
        secrets: Some(secrets.into_iter().map(SecretBody::from).collect()),
        ..source_body(source, settings)
    })
}

/// The source of that name.
///
/// # Errors
/// 404 if there is none.
pub(super) async fn find(api: &Api, name: &str) -> Result<Source, Problem> {
    let unknown = || Problem::new(Code::NotFound, format!("there is no source {name}"));
    api.store.find_source(name).await?.ok_or_else(unknown)
}

/// Creates or replaces a source's settings. Its secrets are kept.
#[utoipa::path(
    put, path = "/v1/sources/{name}", tag = "sources", request_body = SourceSettings,
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "Saved; its version is the `ETag`", body = SourceBody),
        (status = 412, description = "Changed in the meantime", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Invalid; `errors` lists the reasons", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_source(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::ChangeSource).await?;
    let bytes = body::read_json(&headers, body, MAX_BYTES).await?;
    let settings = read_settings(&api, strict_json::parse(&bytes)?).await?;
    if !crate::catalog::is_source_name(&name) {
        let detail = "a source's name is 1 to 64 lower-case letters, digits, `.`, `_` or `-`";
        return Err(Problem::fields(Code::InvalidSource, vec![FieldError::new("name", "invalid", detail)]));
    }
    if !identity.may_grant(settings.allowed_types.as_deref()) {
        let detail =
            "your key is limited to some event types: the source can only be allowed a subset of them";
        let error = FieldError::new("/allowed_types", "not_permitted", detail);
        return Err(Problem::fields(Code::NotPermitted, vec![error]));
    }
    let version = etag::wanted(&headers, api.store.source_version(&name).await?)?;
    api.publisher.put_source(&name, &settings, version, identity.by("")?).await?;
    answer(&api, &name).await
}

/// Validates settings.
///
/// # Errors
/// 400 if they can't be parsed, 422 if they are invalid.
pub(super) async fn read_settings(api: &Api, said: serde_json::Value) -> Result<SourceSettings, Problem> {
    let settings: SourceSettings = json_body::read_value(said)?;
    let checked = settings.clone();
    let problems = api.compute(move |budget| check(&checked, budget)).await?;
    if problems.is_empty() { Ok(settings) } else { Err(refused(problems)) }
}

fn refused(problems: Vec<SettingsProblem>) -> Problem {
    let as_field = |problem: SettingsProblem| {
        let pointer = problem.place.replace(['.', '['], "/").replace(']', "");
        let error = FieldError::new(format!("/{pointer}"), problem.code, problem.message);
        FieldError { hint: problem.hint, ..error }
    };
    Problem::fields(Code::InvalidSource, problems.into_iter().map(as_field).collect())
}

/// A secret to add: the sender's, or one generated by Herald.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct NewSecretRequest {
    /// The sender's own secret, 16 to 256 characters; generated if omitted.
    secret: Option<String>,
    /// Test secret: its events reach sandbox apps only. Always set with a test key.
    test: bool,
}

/// A new secret. A generated secret is shown only once; the sender's own is not shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct NewSecretBody {
    #[schema(value_type = String)]
    id: WebhookSecretId,
    /// The secret itself, if it was generated.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
    /// What is shown of it later.
    hint: String,
    /// Test secret: its events reach sandbox apps only.
    test: bool,
}

/// Adds a webhook secret. Existing ones stay active until they are revoked.
#[utoipa::path(
    post, path = "/v1/sources/{name}/secrets", tag = "sources", request_body = NewSecretRequest,
    params(("name" = String, Path, description = "The source's name")),
    responses(
        (status = 201, description = "The secret; it is shown only once", body = NewSecretBody),
        (status = 409, description = "There are already five active secrets", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create_secret(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<NewSecretBody>), Problem> {
    let identity = api.allow(&headers, Use::ChangeSource).await?;
    let request: NewSecretRequest = json_body::read(&headers, body, MAX_BYTES).await?;
    let source = find(&api, &name).await?;
    if !identity.may_grant(source.allowed_types.as_deref()) {
        let detail = format!("{name} may post event types that your key is not allowed to post");
        return Err(Problem::new(Code::NotPermitted, detail));
    }
    let is_given = request.secret.is_some();
    let text = secret_text(&api, request.secret)?;
    check_secret(&api, &name, &text).await?;
    let now = api.clock.now();
    let is_test = request.test || identity.is_test;
    let secret = WebhookSecret { id: api.ids.next(now), is_test, text };
    let hint = format!(
        "…{}",
        secret.text.chars().rev().take(2).collect::<Vec<_>>().into_iter().rev().collect::<String>()
    );
    if !api.store.insert_webhook_secret(source.id, &secret, &hint, MAX_SECRETS, now).await? {
        let detail = format!("there are already {MAX_SECRETS} active secrets; revoke one first");
        return Err(Problem::new(Code::TooManySecrets, detail));
    }
    let after = serde_json::json!({"id": secret.id, "hint": hint, "test": is_test});
    api.publisher.record_change(("source", &name), "secret_created", Some(after), identity.by("")?).await?;
    let body =
        NewSecretBody { id: secret.id, secret: (!is_given).then_some(secret.text), hint, test: is_test };
    Ok((StatusCode::CREATED, Json(body)))
}

fn secret_text(api: &Api, given: Option<String>) -> Result<String, Problem> {
    let Some(text) = given else {
        // The Standard Webhooks format; other signing methods use the text as it is.
        return Ok(format!("whsec_{}", BASE64_STANDARD.encode(api.ids.secret())));
    };
    if !(16..=256).contains(&text.len()) || !text.bytes().all(|byte| byte == b' ' || byte.is_ascii_graphic())
    {
        let detail = "a secret must have 16 to 256 visible ASCII characters";
        return Err(Problem::fields(
            Code::InvalidFields,
            vec![FieldError::new("/secret", "invalid", detail)],
        ));
    }
    Ok(text)
}

/// Rejects a secret that could never verify a signature.
async fn check_secret(api: &Api, name: &str, text: &str) -> Result<(), Problem> {
    let settings = api.store.source_settings().await?.remove(name);
    let settings = settings.and_then(|said| serde_json::from_value::<SourceSettings>(said).ok());
    let Some(auth) = settings.and_then(|settings| settings.webhook?.auth().ok()) else {
        let detail = format!("{name} has no webhook: configure its signature in the source's settings first");
        return Err(Problem::fields(
            Code::InvalidSource,
            vec![FieldError::new("/secret", "no_webhook", detail)],
        ));
    };
    match auth.refuses(text) {
        None => Ok(()),
        Some(why) => {
            let error = FieldError::new("/secret", "invalid", why);
            Err(Problem::fields(
                Code::InvalidFields,
                vec![error.hint("use the secret that the sender shows")],
            ))
        }
    }
}

/// Revokes a webhook secret.
#[utoipa::path(
    delete, path = "/v1/sources/{name}/secrets/{id}", tag = "sources",
    params(("name" = String, Path, description = "The source's name"), ("id" = String, Path, description = "whs_…")),
    responses((status = 204, description = "It is refused from now on"), (status = 404, description = "No such secret"))
)]
pub(super) async fn revoke_secret(
    State(api): State<Arc<Api>>,
    PathTexts(name, id): PathTexts,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::RevokeSecret).await?;
    let unknown = || Problem::new(Code::NotFound, format!("there is no active secret {id}"));
    let source = find(&api, &name).await?;
    let parsed: WebhookSecretId = id.parse().map_err(|_| unknown())?;
    let is_revoked = api.store.revoke_webhook_secret(source.id, parsed, api.clock.now()).await?;
    if !is_revoked {
        return Err(unknown());
    }
    let after = serde_json::json!({"id": id});
    api.publisher.record_change(("source", &name), "secret_revoked", Some(after), identity.by("")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
