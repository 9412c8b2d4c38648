//! API keys: made, listed, revoked.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use super::parameters::PathText;
use super::problem::{Code, FieldError, Problem};
use super::{Api, json_body};
use crate::access::{KeyRequest, Scope, Use};
use crate::catalog::is_source_name;
use crate::domain::clock::Timestamp;
use crate::domain::event::is_pattern;
use crate::domain::id::KeyId;

/// A key request's size at most.
const MAX_KEY_BYTES: usize = 16 * 1024;

/// What a new key is to be.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyRequest {
    /// The source that will use it; entered if it is new.
    source: String,
    /// Reaches sandbox apps only.
    #[serde(default)]
    test: bool,
    /// What it may do; `events:write` if nothing is said.
    #[serde(default)]
    scopes: Vec<String>,
    /// The event types it may post, such as `order.*`; all if nothing is said.
    allowed_types: Option<Vec<String>>,
    /// The sources whose events and deliveries it may see and change; all if nothing is said.
    allowed_sources: Option<Vec<String>>,
    /// When it ends; if nothing is said, when it is revoked.
    expires_at: Option<DateTime<Utc>>,
}

/// A new key. Its text is shown this once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct NewKeyBody {
    #[schema(value_type = String)]
    id: KeyId,
    /// The key itself.
    key: String,
    /// What is shown of it later.
    hint: String,
}

/// A key as it is listed.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeyBody {
    #[schema(value_type = String)]
    id: KeyId,
    source: String,
    hint: String,
    scopes: Vec<String>,
    /// The sources whose events and deliveries it may see; `null`: all.
    allowed_sources: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    /// When it ends; `null`: when it is revoked.
    expires_at: Option<DateTime<Utc>>,
    /// When it was used last, to about a minute.
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

/// Makes a key.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = NewKeyRequest,
    responses((status = 201, description = "The key, shown this once", body = NewKeyBody))
)]
pub(super) async fn create_key(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<NewKeyBody>), Problem> {
    let identity = api.allow(&headers, Use::ManageKeys).await?;
    let request: NewKeyRequest = json_body::read(&headers, body, MAX_KEY_BYTES).await?;
    if identity.is_test && !request.test {
        let detail = "a test key makes test keys only: send `\"test\": true`";
        return Err(Problem::new(Code::TestKey, detail));
    }
    let request = key_request(request, api.clock.now())?;
    if !identity.may_grant(request.allowed_types.as_deref()) {
        let detail = "your key may post some event types only: name those, or some of them";
        let error = FieldError::new("/allowed_types", "not_permitted", detail);
        return Err(Problem::fields(Code::NotPermitted, vec![error]));
    }
    let source = request.source.clone();
    let created = api.access.create_key(&request).await?;
    let after = serde_json::json!({
        "id": created.id, "hint": created.hint, "test": request.is_test,
        "scopes": request.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>(),
        "allowed_types": request.allowed_types, "allowed_sources": request.allowed_sources,
        "expires_at": request.expires_at,
    });
    api.publisher.record_change(("key", &source), "created", Some(after), identity.by("")?).await?;
    let body =
        NewKeyBody { id: created.id, key: created.text.expose_secret().to_owned(), hint: created.hint };
    Ok((StatusCode::CREATED, Json(body)))
}

fn key_request(request: NewKeyRequest, now: Timestamp) -> Result<KeyRequest, Problem> {
    let mut errors = Vec::new();
    let detail = "a source's name is 1 to 64 lower-case letters, digits, `.`, `_` or `-`";
    if !is_source_name(&request.source) {
        errors.push(FieldError::new("/source", "invalid", detail));
    }
    let named = request.allowed_sources.iter().flatten().enumerate();
    for (place, _) in named.filter(|(_, name)| !is_source_name(name)) {
        errors.push(FieldError::new(format!("/allowed_sources/{place}"), "invalid", detail));
    }
    if request.expires_at.is_some_and(|end| end <= now) {
        errors.push(FieldError::new("/expires_at", "invalid", "it is in the past"));
    }
    let mut scopes = Vec::new();
    for (place, word) in request.scopes.iter().enumerate() {
        if let Some(scope) = Scope::find(word) {
            scopes.push(scope);
        } else {
            let known: Vec<&str> = Scope::ALL.into_iter().map(Scope::as_str).collect();
            let error =
                FieldError::new(format!("/scopes/{place}"), "invalid", format!("there is no scope `{word}`"));
            errors.push(error.hint(format!("scopes are {}", known.join(", "))));
        }
    }
    for (place, text) in request.allowed_types.iter().flatten().enumerate().filter(|(_, t)| !is_pattern(t)) {
        let error = FieldError::new(
            format!("/allowed_types/{place}"),
            "invalid",
            format!("`{text}` names no event types"),
        );
        errors.push(error.hint("write `order.shipped`, `order.*` for a family, or `*`"));
    }
    if !errors.is_empty() {
        return Err(Problem::fields(Code::InvalidFields, errors));
    }
    if scopes.is_empty() {
        scopes.push(Scope::EventsWrite);
    }
    Ok(KeyRequest {
        source: request.source,
        is_test: request.test,
        scopes,
        allowed_types: request.allowed_types,
        allowed_sources: request.allowed_sources,
        expires_at: request.expires_at,
    })
}

/// Lists keys, newest first.
#[utoipa::path(get, path = "/v1/keys", tag = "keys", responses((status = 200, description = "Every key", body = Vec<KeyBody>)))]
pub(super) async fn list_keys(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Vec<KeyBody>>, Problem> {
    api.allow(&headers, Use::ManageKeys).await?;
    let keys = api.store.keys().await?.into_iter().map(|key| KeyBody {
        id: key.id,
        source: key.source,
        hint: key.hint,
        scopes: key.scopes,
        allowed_sources: key.allowed_sources,
        created_at: key.created_at,
        expires_at: key.expires_at,
        last_used_at: key.last_used_at,
        revoked_at: key.revoked_at,
    });
    Ok(Json(keys.collect()))
}

/// Revokes a key.
#[utoipa::path(
    delete, path = "/v1/keys/{id}", tag = "keys", params(("id" = String, Path, description = "key_…")),
    responses((status = 204, description = "It is refused from now on"), (status = 404, description = "No such key"))
)]
pub(super) async fn revoke_key(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::ManageKeys).await?;
    let unknown = || Problem::new(Code::NotFound, format!("there is no key {id} that could be revoked"));
    let parsed: KeyId = id.parse().map_err(|_| unknown())?;
    if !api.access.revoke_key(parsed).await? {
        return Err(unknown());
    }
    api.publisher.record_change(("key", &id), "revoked", None, identity.by("")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
