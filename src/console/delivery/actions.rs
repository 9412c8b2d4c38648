//! Actions on a delivery: release and cancel.

use axum::body::Body;
use axum::extract::Path;
use serde::Deserialize;
use serde_json::Value;

use super::super::failure::Failure;
use super::super::forms;
use super::super::login::sentence;
use super::super::page_context::{Shown, View, done};
use super::find;
use crate::domain::id::TypedId;
use crate::pipeline::operator::cancel::Unwanted;
use crate::pipeline::operator::release::{Release, ReleaseError};

/// Values to merge into an event's data.
pub(in super::super) fn read_values(text: &str) -> Result<Option<Value>, Failure> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let values = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    let wrong =
        || Failure::Invalid("Enter a valid JSON object, for example {\"name\": \"Anna\"}.".to_owned());
    values.ok_or_else(wrong).map(Some)
}

/// The number of a version, if one is given.
pub(in super::super) fn read_version(text: &str) -> Result<Option<i32>, Failure> {
    match text.trim() {
        "" => Ok(None),
        text => {
            text.parse().map(Some).map_err(|_| Failure::Invalid("A version must be a number.".to_owned()))
        }
    }
}

/// How to release.
#[derive(Debug, Deserialize)]
pub(in super::super) struct ReleaseForm {
    #[serde(default)]
    values: String,
    #[serde(default)]
    version: String,
}

pub(in super::super) async fn release(view: View, Path(id): Path<String>, body: Body) -> Shown {
    let form: ReleaseForm = forms::read(body).await?;
    let row = find(&view, &id).await?;
    let (values, version) = (read_values(&form.values)?, read_version(&form.version)?);
    let release = Release { version, values };
    match view.console.pipeline.release(row.id, release, view.person.id.uuid()).await {
        Ok(()) => Ok(done(&format!("/deliveries/{id}"), "Released. It is being sent.")),
        Err(ReleaseError::Store(error)) => Err(error.into()),
        Err(error @ (ReleaseError::NotHeld(_) | ReleaseError::Expired)) => {
            Err(Failure::Conflict(sentence(&error)))
        }
        Err(error) => Err(Failure::Invalid(sentence(&error))),
    }
}

/// Why to cancel.
#[derive(Debug, Deserialize)]
pub(in super::super) struct CancelForm {
    why: String,
}

pub(in super::super) async fn cancel(view: View, Path(id): Path<String>, body: Body) -> Shown {
    let form: CancelForm = forms::read(body).await?;
    let row = find(&view, &id).await?;
    let why = format!("{}: {}", view.person.email, form.why.trim().chars().take(300).collect::<String>());
    let reported = view.console.pipeline.cancel(Unwanted::Deliveries(&[row.id]), &why, false).await?;
    let said = match reported.first().map(|one| one.outcome) {
        Some(outcome) if outcome.is_too_late() => "Too late: it was, or may have been, sent to OneSignal.",
        Some(crate::pipeline::operator::cancel::Outcome::Recalling) => "It is being cancelled at OneSignal.",
        Some(crate::pipeline::operator::cancel::Outcome::Over) | None => "It had already ended.",
        Some(_) => "Cancelled. It will not be sent.",
    };
    Ok(done(&format!("/deliveries/{id}"), said))
}
