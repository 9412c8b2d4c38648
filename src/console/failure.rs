//! Errors of pages.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use maud::Markup;

use super::Console;
use crate::access::LogInError;
use crate::compute::ComputeError;
use crate::pipeline::operator::preview::PreviewError;
use crate::store::StoreError;

/// Why a page could not be shown, or an action was not performed.
#[derive(Debug)]
pub(super) enum Failure {
    /// Not found.
    NotFound(String),
    /// Not permitted.
    Forbidden(String),
    /// Invalid input.
    Invalid(String),
    /// A conflict with another change.
    Conflict(String),
    /// Rate limited until this time.
    TooMany(Duration),
    /// A form is larger than this many KiB.
    TooLarge(usize),
    /// A form did not arrive in time.
    TooSlow,
    /// The database is unavailable.
    Unavailable,
    /// The page took too long.
    OutOfTime,
    /// Overloaded; retrying later helps.
    Busy,
    /// An internal error.
    Internal,
}

/// The message of a failure; the guard renders it as a page, or as text for a partial request.
#[derive(Debug, Clone)]
pub(super) struct ErrorText {
    /// The status.
    pub status: StatusCode,
    /// What happened, in a few words.
    pub title: &'static str,
    /// Details, and what to do.
    pub detail: String,
    /// When to retry, if known.
    pub retry_after: Option<Duration>,
}

impl ErrorText {
    /// The error page.
    pub fn answer(&self, page: Markup) -> Response {
        let mut response = (self.status, page).into_response();
        if let Some(after) = self.retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(after.as_secs().max(1)));
        }
        response
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let retry_after = match &self {
            Self::TooMany(after) => Some(*after),
            _ => None,
        };
        let (status, title, detail) = match self {
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "Not found", what),
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, "Not allowed", why),
            Self::Invalid(why) => (StatusCode::UNPROCESSABLE_ENTITY, "Error", why),
            Self::Conflict(why) => (StatusCode::CONFLICT, "Error", why),
            Self::TooMany(after) => {
                (StatusCode::TOO_MANY_REQUESTS, "Too many attempts", format!("Try again in {}.", wait(after)))
            }
            Self::TooLarge(max) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "Error", format!("The form is larger than {max} KiB."))
            }
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "Error",
                "The form did not arrive within 15 seconds. Send it again.".to_owned(),
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is unavailable",
                "No data was lost or changed. Try again in a moment.".to_owned(),
            ),
            Self::OutOfTime => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The page took too long",
                "It was cancelled after 30 seconds. Narrow the filters, or try again in a moment.".to_owned(),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Herald is busy",
                "Too many requests are in progress. Nothing was changed. Try again in a few seconds."
                    .to_owned(),
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Unexpected error",
                "Details are in the log. No partial changes were saved.".to_owned(),
            ),
        };
        let mut response = (status, format!("{title}: {detail}")).into_response();
        response.extensions_mut().insert(ErrorText { status, title, detail, retry_after });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// A duration to wait, as text.
fn wait(time: Duration) -> String {
    match time.as_secs() {
        seconds @ ..60 => format!("{} seconds", seconds.max(1)),
        seconds => format!("{} minutes", seconds.div_ceil(60)),
    }
}

impl From<LogInError> for Failure {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::Store(error) => error.into(),
            LogInError::Throttled { retry_after } | LogInError::Busy { retry_after } => {
                Self::TooMany(retry_after)
            }
            other => Self::Invalid(super::login::sentence(&other)),
        }
    }
}

impl From<ComputeError> for Failure {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::Full => Self::Busy,
            ComputeError::Panicked => Self::Internal,
        }
    }
}

impl From<PreviewError> for Failure {
    fn from(error: PreviewError) -> Self {
        match error {
            PreviewError::Store(error) => error.into(),
            PreviewError::Compute(error) => error.into(),
        }
    }
}

impl From<StoreError> for Failure {
    fn from(error: StoreError) -> Self {
        match error {
            error if error.is_bad_text() => {
                Self::Invalid("The form contains a NUL character, which is not allowed.".to_owned())
            }
            StoreError::Database(_) => {
                tracing::warn!(error = %error, "a page could not be loaded from the database");
                Self::Unavailable
            }
            other => {
                tracing::error!(error = %other, "a page could not be rendered");
                Self::Internal
            }
        }
    }
}

/// The 404 page for browsers; other clients get the API's problem.
pub async fn page_for_people(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_person = accepts.contains("text/html") && !request.uri().path().starts_with("/v1/");
    let response = next.run(request).await;
    if !is_person || response.status() != StatusCode::NOT_FOUND {
        return response;
    }
    let text = ErrorText {
        status: StatusCode::NOT_FOUND,
        title: "Not found",
        detail: "This page does not exist. The address may be mistyped, or the item was deleted.".to_owned(),
        retry_after: None,
    };
    let mut page = super::layout::plain_failure(&console, &text);
    page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(super::POLICY));
    page
}
