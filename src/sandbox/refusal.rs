//! The answers that say no, in OneSignal's envelope for messages and templates.

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

    /// 503: the sandbox itself can't keep what it was sent.
    pub(super) fn not_kept(error: &super::SandboxError) -> Self {
        tracing::error!("the sandbox could not keep a call: {error}");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable")
    }

    /// The text, when there is one.
    #[cfg(test)]
    pub(super) fn text(&self) -> String {
        match &self.body {
            Body::Json(body) => body["errors"][0].as_str().unwrap_or_default().to_owned(),
            Body::Html(page) => page.clone(),
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
        }
    }
}

/// 429 as OneSignal words it.
pub(super) fn rate_limited(retry_after_seconds: u64) -> Response {
    let headers = [(header::RETRY_AFTER, retry_after_seconds.to_string())];
    let body = json!({"errors": ["API rate limit exceeded"]});
    (StatusCode::TOO_MANY_REQUESTS, headers, Json(body)).into_response()
}
