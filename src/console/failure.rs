//! What can go wrong on a page, in words for its reader.

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

/// Why a page is not shown, or something was not done.
#[derive(Debug)]
pub(super) enum Failure {
    /// There is no such thing.
    NotFound(String),
    /// The person may not.
    Forbidden(String),
    /// What was sent can't be used.
    Invalid(String),
    /// Something else came first.
    Conflict(String),
    /// There was too much of it; it is not looked at before this time is over.
    TooMany(Duration),
    /// A form is larger than so many KiB.
    TooLarge(usize),
    /// A form did not arrive in time.
    TooSlow,
    /// The database is away.
    Unavailable,
    /// The page took too long.
    OutOfTime,
    /// Too much is being worked on, or too many pages are being made; later helps.
    Busy,
    /// A fault of ours.
    Internal,
}

/// What a failure tells its reader; the guard makes a page of it, or leaves it as text for a part of one.
#[derive(Debug, Clone)]
pub(super) struct Told {
    /// The status.
    pub status: StatusCode,
    /// What happened, in a few words.
    pub title: &'static str,
    /// What happened exactly, and what to do.
    pub detail: String,
    /// When to try again, if that is known.
    pub retry_after: Option<Duration>,
}

impl Told {
    /// A page that says so, with its status.
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
            Self::Invalid(why) => (StatusCode::UNPROCESSABLE_ENTITY, "Not done", why),
            Self::Conflict(why) => (StatusCode::CONFLICT, "Not done", why),
            Self::TooMany(after) => (
                StatusCode::TOO_MANY_REQUESTS,
                "Too many tries",
                format!("Nothing was looked at. Try again in {}.", wait(after)),
            ),
            Self::TooLarge(max) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "Not done", format!("The form is larger than {max} KiB."))
            }
            Self::TooSlow => (
                StatusCode::REQUEST_TIMEOUT,
                "Not done",
                "The form did not arrive within 15 seconds. Send it again.".to_owned(),
            ),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is away",
                "Nothing was lost and nothing was changed. Try again in a moment.".to_owned(),
            ),
            Self::OutOfTime => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The page took too long",
                "It was given up after 30 seconds. Narrow it down, or try again in a moment.".to_owned(),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Herald is busy",
                "It does as much at once as it can, and nothing was changed. Try again in a few seconds."
                    .to_owned(),
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something failed that never should",
                "It is in the log. Nothing was changed by halves.".to_owned(),
            ),
        };
        let mut response = (status, format!("{title}: {detail}")).into_response();
        response.extensions_mut().insert(Told { status, title, detail, retry_after });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
    }
}

/// A time to wait, in words.
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
                Self::Invalid("What was sent holds a NUL character, which no text here can hold.".to_owned())
            }
            StoreError::Database(_) => {
                tracing::warn!(error = %error, "a page could not be read from the database");
                Self::Unavailable
            }
            other => {
                tracing::error!(error = %other, "a page could not be made");
                Self::Internal
            }
        }
    }
}

/// Shows a page to a browser that came to an address where nothing is; programs get the API's own words.
pub async fn page_for_people(State(console): State<Arc<Console>>, request: Request, next: Next) -> Response {
    let accepts = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or("");
    let is_person = accepts.contains("text/html") && !request.uri().path().starts_with("/v1/");
    let response = next.run(request).await;
    if !is_person || response.status() != StatusCode::NOT_FOUND {
        return response;
    }
    let told = Told {
        status: StatusCode::NOT_FOUND,
        title: "Not found",
        detail: "There is nothing at this address. It may have been mistyped, or what it named is gone."
            .to_owned(),
        retry_after: None,
    };
    let mut page = super::layout::plain_failure(&console, &told);
    page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(super::POLICY));
    page
}
