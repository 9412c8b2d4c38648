//! What can be wrong with changes of the catalog, as problems.

use serde_json::json;

use super::{AboutCatalog, Code, FieldError, Problem, RETRY_AFTER};
use crate::catalog::drift::DriftError;
use crate::catalog::templates::TemplateError;
use crate::catalog::traffic::TrafficReport;
use crate::catalog::{ApplyError, UploadError};
use crate::pipeline::operator::test_send::TestSendError;

impl From<ApplyError> for Problem {
    fn from(error: ApplyError) -> Self {
        match error {
            ApplyError::Problems(problems) => {
                let detail = problems.first().map(ToString::to_string).unwrap_or_default();
                about(
                    Self::new(Code::InvalidCatalog, detail),
                    AboutCatalog { problems, ..AboutCatalog::default() },
                )
            }
            ApplyError::NotPermitted(problems) => {
                let detail = problems.first().map(ToString::to_string).unwrap_or_default();
                about(
                    Self::new(Code::NotPermitted, detail),
                    AboutCatalog { problems, ..AboutCatalog::default() },
                )
            }
            ApplyError::WouldHold { template, report } => would_hold(&template, report),
            ApplyError::Changed(version) => Self::new(Code::Stale, stands_at(version)),
            ApplyError::Busy => {
                Self::new(Code::Changed, "somebody else changes the catalog all the time; try again")
                    .retry_after(RETRY_AFTER)
            }
            ApplyError::Upload(UploadError::Store(error)) | ApplyError::Store(error) => error.into(),
            ApplyError::Upload(UploadError::Compute(error)) | ApplyError::Compute(error) => error.into(),
            ApplyError::Upload(error @ UploadError::Busy(_)) => {
                Self::new(Code::Changed, error.to_string()).retry_after(RETRY_AFTER)
            }
            ApplyError::Upload(error) => {
                let cause =
                    std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
                Self::new(Code::UploadFailed, format!("{error}{cause}; what was live before still is"))
            }
        }
    }
}

impl From<DriftError> for Problem {
    fn from(error: DriftError) -> Self {
        match error {
            DriftError::Upload(error) => ApplyError::Upload(error).into(),
            DriftError::Store(error) => error.into(),
            DriftError::Provider { source, .. } => {
                Self::new(Code::UploadFailed, format!("{source}; asking again goes on from there"))
            }
        }
    }
}

impl From<TemplateError> for Problem {
    fn from(error: TemplateError) -> Self {
        let words = error.to_string();
        match error {
            TemplateError::NotFound(_) | TemplateError::NoDraft(_) => Self::new(Code::NotFound, words),
            TemplateError::Exists(_) => Self::new(Code::Exists, words),
            TemplateError::Invalid(field, words) => Self::fields(
                Code::InvalidFields,
                vec![FieldError::new(format!("/{field}"), "invalid", words)],
            ),
            TemplateError::Archived(_) => Self::new(
                Code::Archived,
                format!("{words}: bring it back with `{{\"archived\": false}}` first"),
            ),
            TemplateError::Stale(draft) => {
                let theirs = draft.map(|draft| {
                    json!({"revision": draft.revision, "author": draft.author, "updated_at": draft.updated_at,
                        "content": draft.content})
                });
                let detail = match &theirs {
                    Some(theirs) => format!(
                        "{} saved revision {} meanwhile: lay your changes over it",
                        theirs["author"].as_str().unwrap_or_default(),
                        theirs["revision"]
                    ),
                    None => "the draft was published or thrown away meanwhile".to_owned(),
                };
                about(Self::new(Code::Stale, detail), AboutCatalog { theirs, ..AboutCatalog::default() })
            }
            TemplateError::Changed(version) => Self::new(Code::Stale, stands_at(version)),
            TemplateError::NeedsApproval => {
                Self::new(Code::NeedsApproval, format!("{words}: somebody else posts to `/approve` first"))
            }
            TemplateError::OwnDraft => Self::new(Code::NeedsApproval, format!("{words}; ask somebody else")),
            TemplateError::Problems(problems) => ApplyError::Problems(problems).into(),
            TemplateError::WouldHold(report) => would_hold("this template", report),
            TemplateError::InUse(_) => {
                Self::new(Code::InUse, format!("{words}: change or delete that rule first"))
            }
            TemplateError::Busy => ApplyError::Busy.into(),
            TemplateError::Upload(error) => ApplyError::Upload(error).into(),
            TemplateError::Compute(error) => error.into(),
            TemplateError::Store(error) => error.into(),
        }
    }
}

impl From<TestSendError> for Problem {
    fn from(error: TestSendError) -> Self {
        match error {
            TestSendError::NotListed(_) => Self::new(
                Code::NotListed,
                format!("{error}; somebody who may hand out keys puts them there: POST /v1/test-recipients"),
            ),
            TestSendError::Ingest(error) => error.into(),
        }
    }
}

/// Events that get their message today would be held under `template`.
fn would_hold(template: &str, report: Box<TrafficReport>) -> Problem {
    let missing: Vec<&str> = report.missing.keys().map(String::as_str).collect();
    let why = if missing.is_empty() { String::new() } else { format!(" for want of {}", missing.join(", ")) };
    let detail = format!(
        "{} of the last {} events would be held under {template}{why}; give it a default, or go on with `accept_held`",
        report.newly_held, report.checked
    );
    let traffic = Some(report);
    about(Problem::new(Code::WouldHold, detail), AboutCatalog { traffic, ..AboutCatalog::default() })
}

fn about(problem: Problem, catalog: AboutCatalog) -> Problem {
    Problem { about_catalog: Some(Box::new(catalog)), ..problem }
}

/// What somebody is told whose `If-Match` names another version than the present one.
fn stands_at(version: i32) -> String {
    if version == 0 {
        return "there is none, or none any more: send no `If-Match` to make it anew".to_owned();
    }
    format!("it stands at version {version} now: read it again and send `If-Match: \"{version}\"`")
}
