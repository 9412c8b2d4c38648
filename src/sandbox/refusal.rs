//! The answers that say no, in OneSignal's envelopes: the basic one, and the structured one of users and subscriptions.

use axum::Json;
use axum::http::{StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use serde_json::{Value, json};

const ACCESS_DENIED: &str = "Access denied.  Please include an 'Authorization: ...' header with a valid API key (https://documentation.onesignal.com/docs/en/keys-and-ids#api-keys).";
pub(super) const NO_APP_ID: &str =
    "app_id not found. You may be missing a Content-Type: application/json header.";
pub(super) const BAD_APP_ID: &str = "Request is malformed: Failed to parse app_id from request";
pub(super) const NO_ENGLISH: &str = "Message Notifications must have English language content";

/// A call that is refused.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Refusal {
    status: StatusCode,
    body: Body,
}

#[derive(Debug, Clone, PartialEq)]
enum Body {
    Json(Value),
    Html(String),
    Empty,
}

impl Refusal {
    /// 400 with one text.
    pub(super) fn bad(text: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, text)
    }

    /// 404 with one text.
    pub(super) fn not_found(text: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, text)
    }

    /// 403: no key, a wrong one, or one of another app.
    pub(super) fn access_denied() -> Self {
        Self::new(StatusCode::FORBIDDEN, ACCESS_DENIED)
    }

    /// 400 for an email without the field; this one envelope carries `success`.
    pub(super) fn blank_email(field: &str) -> Self {
        let body = json!({"success": false, "errors": [format!("'message' {field} can not be blank")]});
        Self { status: StatusCode::BAD_REQUEST, body: Body::Json(body) }
    }

    /// 422 for a template without content: OneSignal answers in HTML.
    pub(super) fn empty_template() -> Self {
        let page = "<!DOCTYPE html><html><head><title>The change you wanted was rejected (422)</title></head>\
                    <body><h1>The change you wanted was rejected.</h1></body></html>";
        Self { status: StatusCode::UNPROCESSABLE_ENTITY, body: Body::Html(page.to_owned()) }
    }

    /// One text, with another status.
    pub(super) fn with(status: StatusCode, text: impl Into<String>) -> Self {
        Self::new(status, text)
    }

    /// 401 without a key, for users and what belongs to them.
    pub(super) fn no_key() -> Self {
        Self::coded(
            StatusCode::UNAUTHORIZED,
            "auth-1",
            "This operation requires 'Authorization' in the HTTP header",
        )
    }

    /// 403: the app was switched off.
    pub(super) fn app_disabled() -> Self {
        Self::new(StatusCode::FORBIDDEN, "This app has been disabled. An admin has to enable it again.")
    }

    /// 403: the plan doesn't have it.
    pub(super) fn not_on_plan() -> Self {
        Self::new(StatusCode::FORBIDDEN, "This API is not available for applications on your plan.")
    }

    /// One error of the structured envelope.
    pub(super) fn coded(status: StatusCode, code: &str, title: &str) -> Self {
        Self { status, body: Body::Json(json!({"errors": [{"code": code, "title": title}]})) }
    }

    /// 400: an id that should be a UUID, in the structured envelope.
    pub(super) fn invalid_uuid(name: &str, given: &str) -> Self {
        Self::coded(StatusCode::BAD_REQUEST, "request-1", "Invalid UUID").about(&json!({ name: given }))
    }

    /// 409: another user has the alias.
    pub(super) fn claimed_alias(label: &str, id: &str) -> Self {
        let title = "One or more Aliases claimed by another User";
        Self::coded(StatusCode::CONFLICT, "user-2", title).about(&json!({ label: id }))
    }

    /// 409: the aliases of a new user name two known ones.
    pub(super) fn conflicting_aliases(label: &str, id: &str) -> Self {
        let meta = json!({"conflicting_aliases": {label: id}});
        Self::coded(StatusCode::CONFLICT, "Conflict", "Conflicting aliases").about(&meta)
    }

    /// 409 with a body of its own.
    pub(super) fn conflict(body: Value) -> Self {
        Self { status: StatusCode::CONFLICT, body: Body::Json(body) }
    }

    /// A status and `{}`: custom events say no more.
    pub(super) fn wordless(status: StatusCode) -> Self {
        Self { status, body: Body::Json(json!({})) }
    }

    /// A status with an empty body.
    pub(super) fn empty(status: StatusCode) -> Self {
        Self { status, body: Body::Empty }
    }

    /// With the `meta` of a structured error.
    fn about(mut self, meta: &Value) -> Self {
        if let Body::Json(body) = &mut self.body {
            body["errors"][0]["meta"] = meta.clone();
        }
        self
    }

    /// 503: the sandbox can't store the call.
    pub(super) fn not_kept(error: &super::SandboxError) -> Self {
        tracing::error!("the sandbox could not store a call: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable")
    }

    /// 500: the sandbox has a defect.
    pub(super) fn broken(error: &dyn std::fmt::Display) -> Self {
        tracing::error!("a call was aborted in the sandbox: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal Server Error")
    }

    /// The text, when there is one.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        match &self.body {
            Body::Json(body) => body["errors"][0].as_str().unwrap_or_default().to_owned(),
            Body::Html(page) => page.clone(),
            Body::Empty => String::new(),
        }
    }

    fn new(status: StatusCode, text: impl Into<String>) -> Self {
        Self { status, body: Body::Json(json!({"errors": [text.into()]})) }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        match self.body {
            Body::Json(body) => (self.status, Json(body)).into_response(),
            Body::Html(page) => (self.status, Html(page)).into_response(),
            Body::Empty => self.status.into_response(),
        }
    }
}

/// 429 in OneSignal's format.
pub(super) fn rate_limited(retry_after_seconds: u64) -> Response {
    let headers = [(header::RETRY_AFTER, retry_after_seconds.to_string())];
    let body = json!({"errors": ["API rate limit exceeded"]});
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(body)).into_response()
}

/// 429 in the structured envelope.
pub(super) fn coded_rate_limited(retry_after_seconds: u64) -> Response {
    let headers = [(header::RETRY_AFTER, retry_after_seconds.to_string())];
    let body = json!({"errors": [{"code": "Rate Limit Exceeded", "title": "API rate limit exceeded"}]});
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(body)).into_response()
}
