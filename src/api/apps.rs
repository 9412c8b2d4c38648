//! OneSignal apps. Their keys are write-only.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::parameters::PathText;
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, etag, json_body};
use crate::access::Use;
use crate::domain::app::{App, AppId};
use crate::domain::labels;

/// Maximum request size.
const MAX_BYTES: usize = 16 * 1024;
/// Where OneSignal is.
const ONESIGNAL: &str = "https://api.onesignal.com";

/// An app.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AppBody {
    /// OneSignal's App ID.
    #[schema(value_type = String)]
    id: AppId,
    name: String,
    #[schema(value_type = String)]
    base_url: Url,
    /// A sandbox app, which reaches no real users.
    is_sandbox: bool,
    /// The default app, used by rules that don't name one.
    is_default: bool,
    /// Create and cancel calls per second that its plan allows.
    calls_per_second: u32,
    /// Number of subscribed subscriptions, used by the volume guard; `null` if unknown.
    subscriptions: Option<u32>,
    /// Why it is paused; `null` if it isn't.
    paused: Option<String>,
    /// The alias labels of its users, besides OneSignal's own; `null` if not declared, in which case any label is
    /// accepted.
    alias_labels: Option<Vec<String>>,
}

impl From<App> for AppBody {
    fn from(app: App) -> Self {
        Self {
            id: app.id,
            name: app.name,
            base_url: app.base_url,
            is_sandbox: app.is_sandbox,
            is_default: app.is_default,
            calls_per_second: app.calls_per_second,
            subscriptions: app.subscriptions,
            paused: app.paused,
            alias_labels: app.alias_labels,
        }
    }
}

/// An app to create or update.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppRequest {
    /// Display name.
    name: String,
    /// Its App API key. Required for a new app; if omitted, the current key is kept.
    #[schema(value_type = Option<String>)]
    api_key: Option<SecretString>,
    /// OneSignal's base URL, or one that the settings allow; if omitted, the current one is kept (OneSignal's for a new
    /// app). Changing it requires the key as well.
    #[schema(value_type = Option<String>)]
    base_url: Option<Url>,
    /// 150 on the free plan (the default), 6000 on a paid one.
    calls_per_second: Option<u32>,
    /// Number of subscribed subscriptions. Without it, the volume guard never stops sending.
    subscriptions: Option<u32>,
    /// Make it the default app, used by rules that don't name one.
    #[serde(default)]
    is_default: bool,
    /// The alias labels of its users, such as `crm_id`. Events may identify recipients by these, by `external_id` and
    /// by OneSignal's own labels. If omitted, the current labels are kept.
    alias_labels: Option<Vec<String>>,
}

/// Lists apps.
#[utoipa::path(get, path = "/v1/apps", tag = "apps", responses((status = 200, description = "Every app", body = Vec<AppBody>)))]
pub(super) async fn list_apps(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Vec<AppBody>>, Problem> {
    api.allow(&headers, Use::ReadApps).await?;
    Ok(Json(api.store.apps().await?.into_iter().map(AppBody::from).collect()))
}

/// Shows an app.
#[utoipa::path(
    get, path = "/v1/apps/{id}", tag = "apps", params(("id" = String, Path, description = "OneSignal's App ID, or the app's name")),
    responses((status = 200, description = "The app; its version is the `ETag`", body = AppBody), (status = 404, description = "No such app"))
)]
pub(super) async fn get_app(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadApps).await?;
    answer(&api, &id).await
}

async fn answer(api: &Api, id: &str) -> Result<Response, Problem> {
    let unknown = || Problem::new(Code::NotFound, format!("there is no app {id}"));
    let app = api.store.apps().await?.into_iter().find(|app| app.is_called(id)).ok_or_else(unknown)?;
    let version = api.store.app_version(app.id).await?;
    Ok((etag::etag(version), Json(AppBody::from(app))).into_response())
}

/// Creates or replaces an app. A new key reopens a gate that was closed because of the old one.
#[utoipa::path(
    put, path = "/v1/apps/{id}", tag = "apps", request_body = AppRequest,
    params(("id" = String, Path, description = "OneSignal's App ID")),
    responses(
        (status = 200, description = "Saved; its version is the `ETag`", body = AppBody),
        (status = 412, description = "Changed in the meantime", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Invalid; `errors` lists the reasons", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_app(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::ChangeApp).await?;
    let uuid: Uuid = id.parse().map_err(|_| {
        Problem::fields(
            Code::InvalidFields,
            vec![FieldError::new("id", "invalid", "an app's id is the UUID that OneSignal shows as App ID")],
        )
    })?;
    let id = AppId(uuid);
    let asked: AppRequest = json_body::read(&headers, body, MAX_BYTES).await?;
    let known = api.store.apps().await?;
    let version = etag::wanted(&headers, api.store.app_version(id).await?)?;
    let app = checked(id, asked, &known, (&api.app_policy, identity.is_test))?;
    if !api.store.put_app(&app, version, api.clock.now()).await? {
        let detail = format!("the current version is {}", api.store.app_version(id).await?);
        return Err(Problem::new(Code::Stale, detail));
    }
    let before = known.iter().find(|known| known.id == id);
    let mut after = recorded(&app);
    after["key_changed"] =
        before.is_none_or(|before| before.api_key.expose_secret() != app.api_key.expose_secret()).into();
    let name = id.to_string();
    let difference = (before.map(recorded), Some(after));
    api.publisher.record_difference(("app", &name), "changed", difference, identity.by("")?).await?;
    answer(&api, &name).await
}

/// An app as recorded in the audit log.
fn recorded(app: &App) -> Value {
    json!({
        "name": app.name, "base_url": app.base_url, "is_sandbox": app.is_sandbox, "is_default": app.is_default,
        "calls_per_second": app.calls_per_second, "subscriptions": app.subscriptions, "alias_labels": app.alias_labels,
    })
}

/// Which apps may be created through the API.
#[derive(Debug, Clone, Default)]
pub struct AppPolicy {
    /// The base URLs that an app may have besides OneSignal's, from the settings.
    pub base_urls: Vec<Url>,
    /// Whether live apps are rejected because a development key is set, which has all scopes.
    pub sandboxes_only: bool,
}

impl AppPolicy {
    fn allows(&self, url: &Url) -> bool {
        let plain = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        plain(url) == ONESIGNAL || self.base_urls.iter().any(|allowed| plain(allowed) == plain(url))
    }
}

/// What is wrong with an app's base URL.
fn base_url_problem(
    url: &Url,
    (present, is_sandbox): (Option<&App>, bool),
    has_key: bool,
    policy: &AppPolicy,
) -> Option<&'static str> {
    if present.is_some_and(|app| app.base_url == *url) {
        return None;
    }
    if url.query().is_some()
        || url.fragment().is_some()
        || !url.username().is_empty()
        || url.password().is_some()
    {
        return Some("a base URL must not contain a user, a query or a fragment");
    }
    if !policy.allows(url) {
        return Some(
            "the base URL, which receives the app's key and messages, must be https://api.onesignal.com or one that \
             is listed in the setting `onesignal.allowed_base_urls`",
        );
    }
    if !is_sandbox && url.scheme() != "https" {
        return Some("the base URL of a live app must start with https://");
    }
    // Otherwise a stored key could be extracted by having it sent elsewhere.
    (!has_key).then_some("changing the base URL requires `api_key` as well")
}

/// What is wrong with a name.
fn name_problem(name: &str, id: AppId, known: &[App]) -> Option<&'static str> {
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Some("a name must have 1 to 100 characters on one line");
    }
    let is_taken = known.iter().any(|app| app.id != id && app.is_called(name));
    is_taken.then_some("another app already has this name")
}

fn is_api_key(key: &SecretString) -> bool {
    let text = key.expose_secret();
    !text.is_empty() && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The resulting app.
fn checked(
    id: AppId,
    asked: AppRequest,
    known: &[App],
    (policy, is_test): (&AppPolicy, bool),
) -> Result<App, Problem> {
    let present = known.iter().find(|app| app.id == id);
    let mut errors = Vec::new();
    let mut wrong = |pointer: &str, detail: &str| errors.push(FieldError::new(pointer, "invalid", detail));
    let name = asked.name.trim().to_owned();
    if let Some(problem) = name_problem(&name, id, known) {
        wrong("/name", problem);
    }
    let has_key = asked.api_key.is_some();
    let api_key = asked.api_key.or_else(|| present.map(|app| app.api_key.clone()));
    if !api_key.as_ref().is_some_and(is_api_key) {
        wrong("/api_key", "a new app requires its App API key from OneSignal's dashboard");
    }
    let base_url = match (asked.base_url, present) {
        (Some(url), _) => Some(url),
        (None, Some(app)) => Some(app.base_url.clone()),
        (None, None) => ONESIGNAL.parse().ok(),
    };
    let is_sandbox = api_key.as_ref().is_some_and(App::is_sandbox_key);
    let of_url = |url| base_url_problem(url, (present, is_sandbox), has_key, policy);
    if let Some(problem) = base_url.as_ref().and_then(of_url) {
        wrong("/base_url", problem);
    }
    let calls_per_second = asked.calls_per_second.or(present.map(|app| app.calls_per_second)).unwrap_or(150);
    if !(1..=100_000).contains(&calls_per_second) {
        wrong("/calls_per_second", "must be 150 (free plan) or 6000 (paid plan)");
    }
    if asked.subscriptions.is_some_and(|count| count == 0 || i32::try_from(count).is_err()) {
        wrong("/subscriptions", "must be 1 or more; leave it out if unknown");
    }
    if let Some(problem) = asked.alias_labels.as_deref().and_then(labels::problem) {
        wrong("/alias_labels", &problem);
    }
    if present.is_some_and(|app| app.is_sandbox != is_sandbox) {
        wrong("/api_key", "an app can't change between live and sandbox: create a separate app");
    }
    if !is_sandbox && is_test {
        wrong("/api_key", "a test key can only create sandbox apps");
    }
    if !is_sandbox && policy.sandboxes_only {
        wrong("/api_key", "`dev_key` is set and has all scopes: remove it before creating a live app");
    }
    match (api_key, base_url) {
        (Some(api_key), Some(base_url)) if errors.is_empty() => Ok(App {
            id,
            name,
            base_url,
            api_key,
            is_sandbox,
            is_default: asked.is_default || present.is_some_and(|app| app.is_default),
            calls_per_second,
            subscriptions: asked.subscriptions,
            paused: present.and_then(|app| app.paused.clone()),
            alias_labels: match present {
                Some(app) => asked.alias_labels.or_else(|| app.alias_labels.clone()),
                None => Some(asked.alias_labels.unwrap_or_default()),
            },
        }),
        _ => Err(Problem::fields(Code::InvalidFields, errors)),
    }
}
