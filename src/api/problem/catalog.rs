//! Problems of catalog changes.

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
                Self::new(Code::Changed, "the catalog is being changed concurrently; try again")
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
                Self::new(Code::UploadFailed, format!("{error}{cause}; the live version is unchanged"))
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
                Self::new(Code::UploadFailed, format!("{source}; repeat the request to continue"))
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
            TemplateError::Archived(_) => {
                Self::new(Code::Archived, format!("{words}: restore it with `{{\"archived\": false}}` first"))
            }
            TemplateError::Stale(draft) => {
                let theirs = draft.map(|draft| {
                    json!({"revision": draft.revision, "author": draft.author, "updated_at": draft.updated_at,
                        "content": draft.content})
                });
                let detail = match &theirs {
                    Some(theirs) => format!(
                        "{} saved revision {} in the meantime: merge your changes into it",
                        theirs["author"].as_str().unwrap_or_default(),
                        theirs["revision"]
                    ),
                    None => "the draft was published or discarded in the meantime".to_owned(),
                };
                about(Self::new(Code::Stale, detail), AboutCatalog { theirs, ..AboutCatalog::default() })
            }
            TemplateError::Changed(version) => Self::new(Code::Stale, stands_at(version)),
            TemplateError::NeedsApproval => Self::new(
                Code::NeedsApproval,
                format!("{words}: someone else has to post to `/approve` first"),
            ),
            TemplateError::OwnDraft => Self::new(Code::NeedsApproval, format!("{words}; ask someone else")),
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
                format!(
                    "{error}; someone with permission to manage keys can add them: POST /v1/test-recipients"
                ),
            ),
            TestSendError::Ingest(error) => error.into(),
        }
    }
}

/// Events that are sent today would be held by `template`.
fn would_hold(template: &str, report: Box<TrafficReport>) -> Problem {
    let missing: Vec<&str> = report.missing.keys().map(String::as_str).collect();
    let why = if missing.is_empty() {
        String::new()
    } else {
        format!(" because of missing {}", missing.join(", "))
    };
    let detail = format!(
        "{} of the last {} events would be held by {template}{why}; add a default, or proceed with `accept_held`",
        report.newly_held, report.checked
    );
    let traffic = Some(report);
    about(Problem::new(Code::WouldHold, detail), AboutCatalog { traffic, ..AboutCatalog::default() })
}

fn about(problem: Problem, catalog: AboutCatalog) -> Problem {
    Problem { about_catalog: Some(Box::new(catalog)), ..problem }
}

/// The detail for an `If-Match` that doesn't match the current version.
fn stands_at(version: i32) -> String {
    if version == 0 {
        return "it does not exist: omit `If-Match` to create it".to_owned();
    }
    format!("the current version is {version}: read it again and send `If-Match: \"{version}\"`")
}
