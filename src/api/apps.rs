//! OneSignal apps: what is known of each. Their keys go in and never come out.

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

/// A request's size at most.
const MAX_BYTES: usize = 16 * 1024;
/// Where OneSignal is.
const ONESIGNAL: &str = "https://api.onesignal.com";

/// An app as it is shown.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AppBody {
    /// OneSignal's id of it.
    #[schema(value_type = String)]
    id: AppId,
    name: String,
    #[schema(value_type = String)]
    base_url: Url,
    /// No real person can be reached through it.
    is_sandbox: bool,
    /// Rules that name no app use it.
    is_default: bool,
    /// Create and cancel calls that its plan allows a second.
    calls_per_second: u32,
    /// Subscribed subscriptions, which the volume guard counts on; `null` if nobody said.
    subscriptions: Option<u32>,
    /// Why it is paused, if it is.
    paused: Option<String>,
    /// The labels that its people have aliases under, besides OneSignal's own; `null` if nobody has said, and any is taken.
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

/// What is said about an app.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct AppRequest {
    /// What people call it.
    name: String,
    /// Its App API key; needed for a new one, and the present one stays if nothing is said.
    #[schema(value_type = Option<String>)]
    api_key: Option<SecretString>,
    /// OneSignal, or an address that the settings allow; the present one, or OneSignal, if nothing is said. Another
    /// address needs the key again.
    #[schema(value_type = Option<String>)]
    base_url: Option<Url>,
    /// 150 on the free plan (and if nothing is said), 6000 on a paid one.
    calls_per_second: Option<u32>,
    /// Subscribed subscriptions: without them the volume guard only counts.
    subscriptions: Option<u32>,
    /// Rules that name no app use it from now on.
    #[serde(default)]
    is_default: bool,
    /// The labels that its people have aliases under, such as `crm_id`: events may name people by these, by `external_id` and
    /// by OneSignal's own labels. The present ones stay if nothing is said.
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
    get, path = "/v1/apps/{id}", tag = "apps", params(("id" = String, Path, description = "OneSignal's id of it, or its name")),
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

/// Says everything about an app; it is entered if it is new. A new key opens a gate that the old one had closed.
#[utoipa::path(
    put, path = "/v1/apps/{id}", tag = "apps", request_body = AppRequest,
    params(("id" = String, Path, description = "OneSignal's id of it")),
    responses(
        (status = 200, description = "It is so from now on; its version is the `ETag`", body = AppBody),
        (status = 412, description = "It was changed meanwhile", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "It makes no sense, and why", body = ProblemBody, content_type = "application/problem+json"),
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
        let detail = format!("it stands at version {}", api.store.app_version(id).await?);
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

/// An app as the record of changes keeps it.
fn recorded(app: &App) -> Value {
    json!({
        "name": app.name, "base_url": app.base_url, "is_sandbox": app.is_sandbox, "is_default": app.is_default,
        "calls_per_second": app.calls_per_second, "subscriptions": app.subscriptions, "alias_labels": app.alias_labels,
    })
}

/// What apps may be entered through the API.
#[derive(Debug, Clone, Default)]
pub struct AppPolicy {
    /// The addresses that an app may have, besides OneSignal's: the settings name them.
    pub base_urls: Vec<Url>,
    /// Whether apps that reach real people are refused: there is a development key, and it may do everything.
    pub sandboxes_only: bool,
}

impl AppPolicy {
    fn allows(&self, url: &Url) -> bool {
        let plain = |url: &Url| url.as_str().trim_end_matches('/').to_owned();
        plain(url) == ONESIGNAL || self.base_urls.iter().any(|allowed| plain(allowed) == plain(url))
    }
}

/// What is wrong with the address that an app is to have.
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
        return Some("an address has no user, no query and no fragment");
    }
    if !policy.allows(url) {
        return Some(
            "an app's calls, with its key and its messages, go to https://api.onesignal.com, or to an address that \
             `onesignal.allowed_base_urls` in the settings names",
        );
    }
    if !is_sandbox && url.scheme() != "https" {
        return Some("an app that reaches real people has an address that begins with https://");
    }
    // Otherwise a stored key could be had by sending it somewhere else.
    (!has_key).then_some("another address needs the App API key again: send `api_key`, too")
}

/// What is wrong with a name.
fn name_problem(name: &str, id: AppId, known: &[App]) -> Option<&'static str> {
    if name.is_empty() || name.len() > 100 || name.chars().any(char::is_control) {
        return Some("a name has 1 to 100 characters on one line");
    }
    let is_taken = known.iter().any(|app| app.id != id && app.is_called(name));
    is_taken.then_some("another app is called that")
}

fn is_api_key(key: &SecretString) -> bool {
    let text = key.expose_secret();
    !text.is_empty() && text.len() <= 512 && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// The app as it will be.
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
        wrong("/api_key", "a new app needs its App API key, as OneSignal shows it");
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
        wrong("/calls_per_second", "it is 150 on the free plan and 6000 on a paid one");
    }
    if asked.subscriptions.is_some_and(|count| count == 0 || i32::try_from(count).is_err()) {
        wrong("/subscriptions", "it is 1 or more; leave it out if nobody knows");
    }
    if let Some(problem) = asked.alias_labels.as_deref().and_then(labels::problem) {
        wrong("/alias_labels", &problem);
    }
    if present.is_some_and(|app| app.is_sandbox != is_sandbox) {
        wrong("/api_key", "an app stays what it is, live or a sandbox: enter the other one under its own id");
    }
    if !is_sandbox && is_test {
        wrong("/api_key", "a test key enters sandbox apps only");
    }
    if !is_sandbox && policy.sandboxes_only {
        wrong("/api_key", "`dev_key` is set and may do everything: take it out before a live app is entered");
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
