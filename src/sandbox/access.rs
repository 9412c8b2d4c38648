//! Authentication: the app in the request and the key in the header must match.

use axum::http::{HeaderMap, header};
use serde_json::Value;
use uuid::Uuid;

use super::json::Object;
use super::options::SandboxApp;
use super::refusal::{BAD_APP_ID, NO_APP_ID, Refusal};
use super::templates::Query;
use super::{Sandbox, json};

impl Sandbox {
    /// The app that a call with a JSON body is for.
    pub(super) fn app_of_body(
        &self,
        headers: &HeaderMap,
        body: &[u8],
    ) -> Result<(&SandboxApp, Object), Refusal> {
        let key = key_of(headers)?;
        let Some(Value::Object(request)) =
            is_json(headers).then(|| serde_json::from_slice(body).ok()).flatten()
        else {
            return Err(Refusal::bad(NO_APP_ID));
        };
        let app_id = json::field(&request, "app_id").ok_or_else(|| Refusal::bad(NO_APP_ID))?;
        let app = self.app(key, app_id.as_str())?;
        Ok((app, request))
    }

    /// The app that a call with a query is for.
    pub(super) fn app_of_query(&self, headers: &HeaderMap, query: &Query) -> Result<&SandboxApp, Refusal> {
        self.app(key_of(headers)?, query.get("app_id").map(String::as_str))
    }

    /// The app that a call below `/apps/{app}` is for.
    pub(super) fn app_of_path(&self, headers: &HeaderMap, app_id: &str) -> Result<&SandboxApp, Refusal> {
        if !headers.contains_key(header::AUTHORIZATION) {
            return Err(Refusal::no_key());
        }
        let key = key_of(headers)?;
        if uuid(app_id).is_none() {
            return Err(Refusal::invalid_uuid("app_id", app_id));
        }
        self.app(key, Some(app_id))
    }

    /// Whether a call carries the Organization API key.
    pub(super) fn is_organization(&self, headers: &HeaderMap) -> bool {
        key_of(headers).is_ok_and(|key| key == self.options.organization_key)
    }

    fn app(&self, key: &str, app_id: Option<&str>) -> Result<&SandboxApp, Refusal> {
        let id = app_id.and_then(uuid).ok_or_else(|| Refusal::bad(BAD_APP_ID))?;
        let known = self.options.apps.iter().find(|app| app.id == id && app.key == key);
        let app = known.ok_or_else(Refusal::access_denied)?;
        if self.state.lock().is_disabled(app.id) { Err(Refusal::app_disabled()) } else { Ok(app) }
    }
}

/// The secret of `Authorization: Key <secret>`.
fn key_of(headers: &HeaderMap) -> Result<&str, Refusal> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let (scheme, key) = header.and_then(|value| value.split_once(' ')).ok_or_else(Refusal::access_denied)?;
    if scheme.eq_ignore_ascii_case("key") { Ok(key.trim()) } else { Err(Refusal::access_denied()) }
}

fn is_json(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
}

/// A body that has to be a JSON object, whatever its content type says.
pub(super) fn body_of(body: &[u8]) -> Result<Object, Refusal> {
    serde_json::from_slice(body).map_err(|_| Refusal::bad("Request is malformed: not a JSON object"))
}

/// A UUID in its hyphenated form, the only one that OneSignal takes.
pub(super) fn uuid(text: &str) -> Option<Uuid> {
    if text.len() == 36 { Uuid::try_parse(text).ok() } else { None }
}
