//! API keys: creating, listing, revoking.

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

/// Maximum size of a key request.
const MAX_KEY_BYTES: usize = 16 * 1024;

/// A key to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewKeyRequest {
    /// The source that will use it; created if new.
    source: String,
    /// Test key: reaches sandbox apps only.
    #[serde(default)]
    test: bool,
    /// Scopes; `events:write` if omitted.
    #[serde(default)]
    scopes: Vec<String>,
    /// The event types that it may post, such as `order.*`; all if omitted.
    allowed_types: Option<Vec<String>>,
    /// The sources whose events and deliveries it may read and change; all if omitted.
    allowed_sources: Option<Vec<String>>,
    /// When it expires; never if omitted.
    expires_at: Option<DateTime<Utc>>,
}

/// A new key. It is shown only once.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct NewKeyBody {
    #[schema(value_type = String)]
    id: KeyId,
    /// The key itself.
    key: String,
    /// The part that is shown later.
    hint: String,
}

/// A key in a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct KeyBody {
    #[schema(value_type = String)]
    id: KeyId,
    source: String,
    hint: String,
    scopes: Vec<String>,
    /// The sources whose events and deliveries it may access; `null`: all.
    allowed_sources: Option<Vec<String>>,
    created_at: DateTime<Utc>,
    /// When it expires; `null`: never.
    expires_at: Option<DateTime<Utc>>,
    /// When it was last used, accurate to about a minute.
    last_used_at: Option<DateTime<Utc>>,
    revoked_at: Option<DateTime<Utc>>,
}

/// Creates a key.
#[utoipa::path(
    post, path = "/v1/keys", tag = "keys", request_body = NewKeyRequest,
    responses((status = 201, description = "The key; it is shown only once", body = NewKeyBody))
)]
pub(super) async fn create_key(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<NewKeyBody>), Problem> {
    let identity = api.allow(&headers, Use::ManageKeys).await?;
    let request: NewKeyRequest = json_body::read(&headers, body, MAX_KEY_BYTES).await?;
    if identity.is_test && !request.test {
        let detail = "a test key can only create test keys: send `\"test\": true`";
        return Err(Problem::new(Code::TestKey, detail));
    }
    let request = key_request(request, api.clock.now())?;
    if !identity.may_grant(request.allowed_types.as_deref()) {
        let detail = "your key is limited to some event types: pass a subset of them";
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
    let detail = "a source's name must be 1 to 64 lower-case letters, digits, `.`, `_` or `-`";
    if !is_source_name(&request.source) {
        errors.push(FieldError::new("/source", "invalid", detail));
    }
    let named = request.allowed_sources.iter().flatten().enumerate();
    for (place, _) in named.filter(|(_, name)| !is_source_name(name)) {
        errors.push(FieldError::new(format!("/allowed_sources/{place}"), "invalid", detail));
    }
    if request.expires_at.is_some_and(|end| end <= now) {
        errors.push(FieldError::new("/expires_at", "invalid", "`expires_at` is in the past"));
    }
    let mut scopes = Vec::new();
    for (place, word) in request.scopes.iter().enumerate() {
        if let Some(scope) = Scope::find(word) {
            scopes.push(scope);
        } else {
            let known: Vec<&str> = Scope::ALL.into_iter().map(Scope::as_str).collect();
            let error =
                FieldError::new(format!("/scopes/{place}"), "invalid", format!("unknown scope `{word}`"));
            errors.push(error.hint(format!("scopes are {}", known.join(", "))));
        }
    }
    for (place, text) in request.allowed_types.iter().flatten().enumerate().filter(|(_, t)| !is_pattern(t)) {
        let error = FieldError::new(
            format!("/allowed_types/{place}"),
            "invalid",
            format!("`{text}` is not an event type pattern"),
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
    responses((status = 204, description = "Revoked"), (status = 404, description = "No such key"))
)]
pub(super) async fn revoke_key(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::ManageKeys).await?;
    let unknown = || Problem::new(Code::NotFound, format!("there is no active key {id}"));
    let parsed: KeyId = id.parse().map_err(|_| unknown())?;
    if !api.access.revoke_key(parsed).await? {
        return Err(unknown());
    }
    api.publisher.record_change(("key", &id), "revoked", None, identity.by("")?).await?;
    Ok(StatusCode::NO_CONTENT)
}
