//! The audit log, and the test recipients.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::Api;
use super::catalog_entries::read;
use super::listing::page_size;
use super::parameters::{Parameters, PathTexts};
use super::problem::{Code, FieldError, Problem, unknown_label};
use crate::access::Use;
use crate::domain::app::App;
use crate::domain::event::Recipient;
use crate::domain::id::KeyId;
use crate::domain::labels;

/// One change.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AuditBody {
    #[schema(value_type = String)]
    id: Uuid,
    at: DateTime<Utc>,
    /// Who made the change: a source or a member.
    actor: String,
    /// The API key that was used, if any.
    #[schema(value_type = Option<String>)]
    key: Option<KeyId>,
    /// `created`, `changed`, `published`, `rolled_back`, `archived`, `deleted`, …
    action: String,
    /// `event_type`, `partial`, `template`, `rule`, `source`, `key` or `test_recipient`.
    kind: String,
    subject: String,
    /// Its content before.
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    /// Its content after.
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
    note: String,
}

/// A page of changes, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AuditPage {
    data: Vec<AuditBody>,
    next_cursor: Option<String>,
}

/// Filters of the audit log.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct AuditQuery {
    /// `event_type`, `partial`, `template`, `rule`, `source` or `test_recipient`.
    kind: Option<String>,
    /// A name or key.
    subject: Option<String>,
    /// `next_cursor` of the previous page.
    #[param(value_type = Option<String>)]
    cursor: Option<Uuid>,
    /// 1 to 100; 50 if omitted.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u8>,
}

/// Lists changes in the audit log: who changed what and when, before and after.
#[utoipa::path(get, path = "/v1/audit", tag = "catalog", params(AuditQuery), responses((status = 200, description = "A page of changes, newest first", body = AuditPage)))]
pub(super) async fn list_audit(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<AuditQuery>,
    headers: HeaderMap,
) -> Result<Json<AuditPage>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let limit = page_size(query.limit, 50)?;
    let about = (query.kind.as_deref(), query.subject.as_deref());
    let entries = api.store.audit(about, query.cursor, limit).await?;
    let is_full = i64::try_from(entries.len()).is_ok_and(|count| count == limit);
    let next_cursor = entries.last().filter(|_| is_full).map(|last| last.id.to_string());
    let data = entries.into_iter().map(|entry| AuditBody {
        id: entry.id,
        at: entry.at,
        actor: entry.actor,
        key: entry.key,
        action: entry.action,
        kind: entry.kind,
        subject: entry.subject,
        before: entry.before,
        after: entry.after,
        note: entry.note,
    });
    Ok(Json(AuditPage { data: data.collect(), next_cursor }))
}

/// A recipient of test sends.
#[derive(Debug, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct TestRecipient {
    /// One label with one ID, such as `{"external_id": "user-42"}`.
    recipient: BTreeMap<String, String>,
    /// Display name.
    #[serde(default)]
    note: String,
}

/// Lists the test recipients.
#[utoipa::path(get, path = "/v1/test-recipients", tag = "templates", responses((status = 200, description = "All test recipients", body = Vec<TestRecipient>)))]
pub(super) async fn list_test_recipients(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Vec<TestRecipient>>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let listed = api.store.test_recipients().await?.into_iter().map(|(recipient, note)| TestRecipient {
        recipient: BTreeMap::from([(recipient.label.as_str().to_owned(), recipient.id)]),
        note,
    });
    Ok(Json(listed.collect()))
}

fn parse(label: &str, id: &str) -> Result<Recipient, Problem> {
    Recipient::parse(label, id).map_err(|error| {
        Problem::fields(
            Code::InvalidFields,
            vec![FieldError::new("/recipient", "invalid", error.to_string())],
        )
    })
}

/// Adds a test recipient.
#[utoipa::path(post, path = "/v1/test-recipients", tag = "templates", request_body = TestRecipient, responses((status = 204, description = "Added")))]
pub(super) async fn add_test_recipient(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::ManageTestRecipients).await?;
    let TestRecipient { recipient, note } = read(&headers, body).await?;
    let Some((label, id)) = recipient.iter().next().filter(|_| recipient.len() == 1) else {
        let detail = "one label with one id, such as {\"external_id\": \"user-42\"}";
        return Err(Problem::fields(
            Code::InvalidFields,
            vec![FieldError::new("/recipient", "invalid", detail)],
        ));
    };
    let by = identity.by(&note)?;
    let recipient = parse(label, id)?;
    check_label(&recipient, &api.store.apps().await?)?;
    api.publisher.add_test_recipient(&recipient, by).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Rejects a label that no app declares, as for an event.
fn check_label(recipient: &Recipient, apps: &[App]) -> Result<(), Problem> {
    if apps.is_empty() || apps.iter().any(|app| app.takes(&recipient.label)) {
        return Ok(());
    }
    let label = recipient.label.as_str();
    let declared = apps.iter().flat_map(|app| app.alias_labels.iter().flatten()).map(String::as_str);
    Err(unknown_label("/recipient", label, labels::meant(label, declared).map(str::to_owned)))
}

/// Removes a test recipient.
#[utoipa::path(
    delete, path = "/v1/test-recipients/{label}/{id}", tag = "templates",
    params(("label" = String, Path, description = "external_id"), ("id" = String, Path, description = "user-42")),
    responses((status = 204, description = "Removed"), (status = 404, description = "Not a test recipient"))
)]
pub(super) async fn remove_test_recipient(
    State(api): State<Arc<Api>>,
    PathTexts(label, id): PathTexts,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::ManageTestRecipients).await?;
    let by = identity.by("")?;
    if api.publisher.remove_test_recipient(&parse(&label, &id)?, by).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::new(Code::NotFound, "not a test recipient"))
}
