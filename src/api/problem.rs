//! Problems (RFC 9457). The only place that knows status codes.

mod catalog;

use std::time::Duration;

use axum::Json;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::Value;

use crate::catalog::CatalogProblem;
use crate::catalog::traffic::TrafficReport;
use crate::compute::ComputeError;
use crate::domain::id::EventId;
use crate::pipeline::ingest::{DataError, IngestError, Nearest, RETRY_AFTER};
use crate::pipeline::operator::preview::PreviewError;
use crate::pipeline::operator::release::ReleaseError;
use crate::store::StoreError;
use crate::telemetry::Sampled;

/// An error in one field of a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldError {
    /// A JSON pointer into the request, or the name of a header or query parameter.
    pub pointer: String,
    /// A stable code.
    pub code: String,
    /// What is wrong.
    pub detail: String,
    /// How to fix it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
}

impl FieldError {
    /// An error at `pointer`.
    pub fn new(pointer: impl Into<String>, code: &str, detail: impl Into<String>) -> Self {
        Self { pointer: pointer.into(), code: code.to_owned(), detail: detail.into(), hint: None }
    }

    /// Adds a hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $status:literal $code:literal $title:literal,)*) => {
        /// The codes of problems: stable, for scripts.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }
        impl Code {
            fn parts(self) -> (u16, &'static str, &'static str) {
                match self {
                    $(Self::$name => ($status, $code, $title),)*
                }
            }
        }
    };
}

codes! {
    /// Not JSON, or JSON that can't be stored.
    BadJson = 400 "bad_json" "Invalid request body",
    /// An unknown field.
    UnknownField = 400 "unknown_field" "Unknown field",
    /// Neither `id` nor `Idempotency-Key`.
    MissingId = 400 "missing_id" "The event has no id",
    /// An invalid query parameter.
    BadParameter = 400 "bad_parameter" "Invalid parameter or header",
    /// A missing or invalid key.
    Unauthorized = 401 "unauthorized" "Missing or invalid API key",
    /// A webhook with an invalid or expired signature.
    BadSignature = 401 "bad_signature" "Invalid webhook signature",
    /// The key's scopes don't allow it.
    MissingScope = 403 "missing_scope" "The key is not allowed to do this",
    /// The key or its source may not post this type.
    TypeNotAllowed = 403 "type_not_allowed" "The key is not allowed to post this event type",
    /// A change that exceeds its author's permissions.
    NotPermitted = 403 "not_permitted" "The change requires another permission",
    /// A test key used for something that affects live apps.
    TestKey = 403 "test_key" "Not allowed with a test key",
    /// A key limited to the events of some sources, used for something that affects others.
    LimitedKey = 403 "limited_key" "The key is limited to the events of some sources",
    /// A recipient that is not registered for test sends.
    NotListed = 403 "not_listed" "Not a test recipient",
    /// Not found.
    NotFound = 404 "not_found" "Not found",
    /// Method not allowed.
    MethodNotAllowed = 405 "method_not_allowed" "Method not allowed",
    /// The body took too long.
    BodyTimeout = 408 "body_timeout" "The body did not arrive in time",
    /// The same id, other content.
    DifferentContent = 409 "different_content" "The id was already used for another event",
    /// Changed by someone else in the meantime.
    Changed = 409 "changed" "Conflict: changed by someone else",
    /// Used by something else.
    InUse = 409 "in_use" "In use",
    /// It exists already.
    Exists = 409 "exists" "Already exists",
    /// It is archived.
    Archived = 409 "archived" "Archived",
    /// A second person has to approve it.
    NeedsApproval = 409 "needs_approval" "Approval by a second person required",
    /// Events that are sent today would be held.
    WouldHold = 409 "would_hold" "Real events would be held",
    /// Another version than the one named in `If-Match`.
    Stale = 412 "stale" "Conflict: saved by someone else",
    /// Changes need `If-Match`.
    MatchRequired = 428 "match_required" "If-Match required",
    /// An alias belongs to another user.
    AliasTaken = 409 "alias_taken" "The alias belongs to another user",
    /// An import that is not in the state for this.
    NotReady = 409 "not_ready" "Not in the state for this",
    /// A part of a file that is not the next one.
    WrongOffset = 409 "wrong_offset" "Another part of the file is next",
    /// A file that can't be imported.
    BadFile = 422 "bad_file" "The file can't be imported",
    /// The person was erased.
    Erased = 409 "erased" "The person was erased",
    /// Entries that are no longer kept.
    CursorGone = 410 "cursor_gone" "The next entries are no longer kept",
    /// The delivery is not held.
    NotHeld = 409 "not_held" "The delivery is not held",
    /// The delivery can't be replayed, or only with an explicit confirmation.
    NotReplayable = 409 "not_replayable" "The delivery can't be replayed",
    /// Too large.
    TooLarge = 413 "too_large" "The body is too large",
    /// Wrong content type, or a content encoding.
    UnsupportedMediaType = 415 "unsupported_media_type" "Unsupported content type or encoding",
    /// Missing or invalid fields.
    InvalidFields = 422 "invalid_fields" "The request has invalid fields",
    /// An event type that the catalog does not have.
    UnknownEventType = 422 "unknown_event_type" "Unknown event type",
    /// `data` does not fit the schema.
    InvalidData = 422 "invalid_data" "The event's data does not fit its schema",
    /// It has expired.
    Expired = 422 "expired" "The event has expired",
    /// A catalog with errors.
    InvalidCatalog = 422 "invalid_catalog" "The catalog has errors",
    /// It would be held again.
    StillHeld = 422 "still_held" "The delivery would be held again",
    /// Invalid settings of a source.
    InvalidSource = 422 "invalid_source" "The source's settings have errors",
    /// Too many secrets at once.
    TooManySecrets = 409 "too_many_secrets" "The source has too many active secrets",
    /// The body is no longer stored.
    BodyGone = 409 "body_gone" "The body is no longer stored",
    /// The source exceeds its rate limit.
    RateLimited = 429 "rate_limited" "Rate limit exceeded",
    /// A bug.
    Internal = 500 "internal" "Internal error",
    /// OneSignal rejected a template.
    UploadFailed = 502 "upload_failed" "OneSignal rejected a template",
    /// Temporarily unavailable; retrying helps.
    Unavailable = 503 "unavailable" "Temporarily unavailable",
}

/// An error response.
#[derive(Debug, Clone)]
pub struct Problem {
    code: Code,
    detail: String,
    errors: Vec<FieldError>,
    about_catalog: Option<Box<AboutCatalog>>,
    retry_after: Option<Duration>,
}

/// Catalog-specific details of a problem.
#[derive(Debug, Clone, Default)]
struct AboutCatalog {
    problems: Vec<CatalogProblem>,
    theirs: Option<Value>,
    traffic: Option<Box<TrafficReport>>,
}

/// A problem in a response.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// Always `about:blank`; `code` identifies the problem.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// A title for the code.
    pub title: &'static str,
    /// The HTTP status.
    pub status: u16,
    /// What is wrong with this request, and how to fix it.
    pub detail: String,
    /// A stable code.
    pub code: &'static str,
    /// Errors of individual fields.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Errors in the catalog's files.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<CatalogProblem>,
    /// The version that someone else saved in the meantime.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub theirs: Option<Value>,
    /// The check of the copy against recent events.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub traffic: Option<Box<TrafficReport>>,
}

impl Problem {
    /// A problem with this code.
    pub fn new(code: Code, detail: impl Into<String>) -> Self {
        Self { code, detail: detail.into(), errors: Vec::new(), about_catalog: None, retry_after: None }
    }

    /// A problem with these field errors; the first one becomes the detail.
    pub fn fields(code: Code, errors: Vec<FieldError>) -> Self {
        let detail = errors.first().map_or(String::new(), |first| {
            let rest = if errors.len() > 1 { format!(" ({} more)", errors.len() - 1) } else { String::new() };
            let place = if first.pointer.is_empty() { String::new() } else { format!("{}: ", first.pointer) };
            format!("{place}{}{rest}", first.detail)
        });
        Self { errors, ..Self::new(code, detail) }
    }

    /// Maps each field error.
    #[must_use]
    pub(super) fn each(self, change: impl Fn(FieldError) -> FieldError) -> Self {
        if self.errors.is_empty() {
            return self;
        }
        let errors = self.errors.into_iter().map(change).collect();
        Self { retry_after: self.retry_after, ..Self::fields(self.code, errors) }
    }

    /// Adds `Retry-After`.
    #[must_use]
    pub fn retry_after(mut self, wait: Duration) -> Self {
        self.retry_after = Some(wait);
        self
    }

    /// Removes data of individual events.
    #[must_use]
    pub(super) fn without_values(mut self) -> Self {
        if let Some(about) = &mut self.about_catalog {
            about.traffic = about.traffic.take().map(|report| Box::new(report.without_values()));
        }
        self
    }

    /// Limits the field errors to `max`, and mentions that some were omitted.
    pub(super) fn with_at_most(mut self, max: usize) -> Self {
        if self.errors.len() > max {
            self.errors.truncate(max);
            self.detail
                .push_str("; further errors are omitted: the response to a batch lists a limited number");
        }
        self
    }

    /// Number of listed errors.
    pub(super) fn error_count(&self) -> usize {
        self.errors.len()
    }

    /// The HTTP status.
    pub fn status(&self) -> u16 {
        self.code.parts().0
    }

    /// The problem as it is sent.
    pub fn body(&self) -> ProblemBody {
        let (status, code, title) = self.code.parts();
        let about = self.about_catalog.as_deref().cloned().unwrap_or_default();
        ProblemBody {
            kind: "about:blank",
            title,
            status,
            detail: self.detail.clone(),
            code,
            errors: self.errors.clone(),
            problems: about.problems,
            theirs: about.theirs,
            traffic: about.traffic,
        }
    }
}

impl Problem {
    /// Adjusts positions to line `line` of a body.
    #[must_use]
    pub fn at_line(mut self, line: usize) -> Self {
        let moved = |text: &str| text.replacen("line 1 column ", &format!("line {line} column "), 1);
        self.detail = moved(&self.detail);
        for error in &mut self.errors {
            error.pointer = moved(&error.pointer);
        }
        self
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, Json(self.body())).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        if let Some(wait) = self.retry_after {
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds.max(1)));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        static FAILED: Sampled = Sampled::new();
        let causes = error.with_causes();
        if error.is_refusal() && !error.is_passing() {
            tracing::error!(error = %causes, "the database rejected a query");
            return Self::new(Code::Internal, "unexpected error; look for the request id in the log");
        }
        if let Some(count) = FAILED.count() {
            tracing::error!(
                count,
                "{count} requests failed because the database was unavailable, most recently: {causes}"
            );
        }
        Self::new(Code::Unavailable, "the database is unavailable; try again").retry_after(RETRY_AFTER)
    }
}

impl From<ComputeError> for Problem {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::Full => Self::new(Code::Unavailable, "too many checks are in progress; try again")
                .retry_after(RETRY_AFTER),
            ComputeError::Panicked => {
                Self::new(Code::Internal, "unexpected error; look for the request id in the log")
            }
        }
    }
}

impl From<PreviewError> for Problem {
    fn from(error: PreviewError) -> Self {
        match error {
            PreviewError::Store(error) => error.into(),
            PreviewError::Compute(error) => error.into(),
        }
    }
}

impl From<DataError> for FieldError {
    fn from(error: DataError) -> Self {
        Self {
            pointer: format!("/data{}", error.pointer),
            code: error.code,
            detail: error.detail,
            hint: error.hint,
        }
    }
}

/// The errors of an event's data; mentions if some are omitted.
fn bad_data(errors: Vec<DataError>, has_more: bool) -> Problem {
    let shown = errors.len();
    let mut errors: Vec<FieldError> = errors.into_iter().map(FieldError::from).collect();
    errors.extend(has_more.then(|| {
        let detail = format!("only the first {shown} errors are listed");
        FieldError::new("/data", "more_errors", detail)
    }));
    Problem::fields(Code::InvalidData, errors)
}

/// A reused ID: for which event, and how the content differs.
fn different_content(event: EventId, fields: &[String]) -> Problem {
    let places: Vec<String> = fields.iter().map(|field| format!("`{field}`")).collect();
    let detail = match places.as_slice() {
        [] => format!("this id was already used for {event} with different content"),
        [one] => format!("this id was already used for {event} with a different {one}"),
        many => format!("this id was already used for {event} with different {}", many.join(", ")),
    };
    let hint = if fields == ["/time"] {
        "send the time of the event, unchanged in every retry: some libraries send the current time if none is set"
    } else {
        "use a new id for a new event"
    };
    let differs =
        |field: &String| FieldError::new(field, "differs", "differs from the first post with this id");
    let first = FieldError::new("/id", "different_content", detail.clone()).hint(hint);
    let errors = std::iter::once(first).chain(fields.iter().map(differs)).collect();
    Problem { detail, ..Problem::fields(Code::DifferentContent, errors) }
}

/// An undeclared label.
pub(super) fn unknown_label(pointer: &str, label: &str, meant: Option<String>) -> Problem {
    let shown: String = label.chars().take(60).collect();
    let detail = format!("`{shown}` is neither a OneSignal label nor an alias label of the app");
    let hint = match meant {
        Some(meant) => format!("write it as `{meant}`"),
        None => format!(
            "`external_id`, `email` and `phone` are always accepted; if users have an alias `{shown}` at OneSignal, declare \
             it: `herald apps set … --alias-label {shown}`"
        ),
    };
    Problem::fields(Code::InvalidFields, vec![FieldError::new(pointer, "unknown_label", detail).hint(hint)])
}

impl From<IngestError> for Problem {
    fn from(error: IngestError) -> Self {
        match error {
            IngestError::UnknownType { name, nearest } => {
                let error = FieldError::new(
                    "/type",
                    "unknown_event_type",
                    format!("there is no event type `{name}`"),
                );
                let hint = match nearest {
                    Nearest::Name(near) => Some(format!("did you mean `{near}`?")),
                    Nearest::EmptyCatalog => Some("the catalog is empty: apply one first".to_owned()),
                    Nearest::None => None,
                };
                Self::fields(Code::UnknownEventType, vec![FieldError { hint, ..error }])
            }
            IngestError::BadData { errors, has_more, .. } => bad_data(errors, has_more),
            IngestError::UnknownLabel { is_of_many, label, meant } => {
                let pointer = if is_of_many { "/recipients" } else { "/recipient" };
                unknown_label(pointer, &label, meant)
            }
            IngestError::NoRecipient => {
                let error = FieldError::new("/recipient", "required", "the event has no recipient");
                Self::fields(
                    Code::InvalidFields,
                    vec![error.hint(r#"add "recipient": {"external_id": "…"}"#)],
                )
            }
            IngestError::Expired => Self::fields(
                Code::Expired,
                vec![FieldError::new("/expires_at", "expired", "`expires_at` is in the past")],
            ),
            IngestError::DifferentContent { event, fields } => different_content(event, &fields),
            IngestError::Busy => Self::new(Code::Unavailable, "too many events are pending; try again")
                .retry_after(RETRY_AFTER),
            IngestError::Overloaded { retry_after } => Self::new(
                Code::Unavailable,
                "too many deliveries are pending; nothing was stored: retry later",
            )
            .retry_after(retry_after),
            IngestError::Unavailable => {
                Self::new(Code::Unavailable, "the event may not have been stored; retry with the same id")
                    .retry_after(RETRY_AFTER)
            }
            IngestError::TooComplex(spent) => Self::fields(
                Code::InvalidData,
                vec![
                    FieldError::new("/data", "too_complex", format!("the event can't be planned: {spent}"))
                        .hint("send less data, or simplify the conditions and copy of its rules"),
                ],
            ),
            IngestError::Failed | IngestError::Refused(_) => {
                Self::new(Code::Internal, "the event could not be stored; look for the request id in the log")
            }
        }
    }
}

impl From<ReleaseError> for Problem {
    fn from(error: ReleaseError) -> Self {
        match error {
            ReleaseError::NotFound => Self::new(Code::NotFound, "there is no such delivery"),
            ReleaseError::NotHeld(_) => Self::new(Code::NotHeld, error.to_string()),
            ReleaseError::NoVersion { .. } => Self::fields(
                Code::InvalidFields,
                vec![FieldError::new("/version", "unknown_version", error.to_string())],
            ),
            ReleaseError::NotApproved { .. } => Self::new(
                Code::NeedsApproval,
                format!("{error}: choose an approved version, or have this one approved"),
            ),
            ReleaseError::StillHeld(detail) => Self::new(
                Code::StillHeld,
                format!("{detail}; provide it in `values`, or choose another `version`"),
            ),
            ReleaseError::Expired => Self::new(Code::Expired, "the delivery has expired"),
            ReleaseError::Store(error) => error.into(),
        }
    }
}
