//! What can go wrong on a page, in words for its reader.

use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::Console;
use crate::compute::ComputeError;
use crate::pipeline::preview::PreviewError;
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
    /// The database is away.
    Unavailable,
    /// Too much is being worked on; later helps.
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
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let (status, title, detail) = match self {
            Self::NotFound(what) => (StatusCode::NOT_FOUND, "Not found", what),
            Self::Forbidden(why) => (StatusCode::FORBIDDEN, "Not allowed", why),
            Self::Invalid(why) => (StatusCode::UNPROCESSABLE_ENTITY, "Not done", why),
            Self::Conflict(why) => (StatusCode::CONFLICT, "Not done", why),
            Self::Unavailable => (
                StatusCode::SERVICE_UNAVAILABLE,
                "The database is away",
                "Nothing was lost and nothing was changed. Try again in a moment.".to_owned(),
            ),
            Self::Busy => (
                StatusCode::SERVICE_UNAVAILABLE,
                "Too much is being checked",
                "Nothing was changed. Try again in a few seconds.".to_owned(),
            ),
            Self::Internal => (
                StatusCode::INTERNAL_SERVER_ERROR,
                "Something failed that never should",
                "It is in the log. Nothing was changed by halves.".to_owned(),
            ),
        };
        let mut response = (status, format!("{title}: {detail}")).into_response();
        response.extensions_mut().insert(Told { status, title, detail });
        if status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        }
        response
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
    };
    let mut page = super::page::plain_failure(&console, &told);
    page.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(super::POLICY));
    page
}
