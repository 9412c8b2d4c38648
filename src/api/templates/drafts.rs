//! A template's draft and its versions.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::super::catalog_entries::read;
use super::super::listing::page_size;
use super::super::parameters::{Parameters, PathText, PathTexts};
use super::super::problem::{Code, Problem, ProblemBody};
use super::super::{Api, etag};
use crate::access::Use;
use crate::catalog::diff::{FieldDiff, diff};
use crate::domain::template::Content;
use crate::store::templates::{Draft, VersionRecord};

/// A draft.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in super::super) struct DraftBody {
    /// Its `ETag`.
    revision: i32,
    /// The version that was live when the draft was started.
    based_on: Option<i32>,
    author: String,
    updated_at: DateTime<Utc>,
    approved_by: Option<String>,
    /// The content.
    #[schema(value_type = Object)]
    content: Content,
}

impl From<Draft> for DraftBody {
    fn from(draft: Draft) -> Self {
        let Draft { revision, content, based_on, author, updated_at, approved_by } = draft;
        Self { revision, based_on, author, updated_at, approved_by, content }
    }
}

/// A version.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in super::super) struct VersionBody {
    number: i32,
    author: String,
    note: String,
    created_at: DateTime<Utc>,
    /// The version that it restores, if it is a rollback.
    restores: Option<i32>,
    approved_by: Option<String>,
    is_live: bool,
    /// The content; omitted in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    content: Option<Content>,
    /// The partials that it was published with; omitted in lists.
    #[serde(skip_serializing_if = "Option::is_none")]
    partials: Option<std::collections::BTreeMap<String, String>>,
}

/// A list of versions, newest first.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(in super::super) struct Versions {
    data: Vec<VersionBody>,
    next_cursor: Option<String>,
}

/// Pagination.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct VersionsQuery {
    /// `next_cursor` of the previous page.
    cursor: Option<i32>,
    /// 1 to 100; 20 if omitted.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u8>,
}

/// The versions to compare.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(in super::super) struct DiffQuery {
    /// A version number, `live` or `draft`; `live` if omitted.
    from: Option<String>,
    /// A version number, `live` or `draft`; `draft` if omitted.
    to: Option<String>,
}

impl Api {
    /// A template's draft.
    ///
    /// # Errors
    /// 404 without such a template; `None` without a draft.
    pub(in super::super) async fn draft(&self, key: &str) -> Result<Option<Draft>, Problem> {
        let snapshot = self.store.snapshot().await?;
        let template = snapshot.templates.iter().find(|template| template.key == key);
        let template =
            template.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no template {key}")))?;
        Ok(self.store.find_draft(template.id).await?)
    }

    /// The content of a template: `draft`, `live`, or a version number.
    ///
    /// # Errors
    /// 404 when there is none.
    pub(in super::super) async fn content(&self, key: &str, which: &str) -> Result<Content, Problem> {
        let none = |what: &str| Problem::new(Code::NotFound, format!("template {key} has no {what}"));
        let snapshot = self.store.snapshot().await?;
        let draft = self.draft(key).await?;
        match which {
            "draft" => Ok(draft.ok_or_else(|| none("draft"))?.content),
            "live" => {
                let live = snapshot.templates.iter().find(|t| t.key == key).and_then(|t| t.live);
                let version = snapshot.versions.iter().find(|version| Some(version.id) == live);
                Ok(version.ok_or_else(|| none("live version"))?.content.clone())
            }
            number => {
                let number = Self::number(number)?;
                Ok(self.publisher.record(key, number).await?.version.content)
            }
        }
    }
}

/// Returns a template's draft.
#[utoipa::path(
    get, path = "/v1/templates/{key}/draft", tag = "templates", params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 200, description = "The draft; its revision is the `ETag`", body = DraftBody), (status = 404, description = "No draft"))
)]
pub(in super::super) async fn get_draft(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let draft = api.draft(&key).await?;
    let draft = draft.ok_or_else(|| Problem::new(Code::NotFound, format!("template {key} has no draft")))?;
    Ok((etag::etag(draft.revision), Json(DraftBody::from(draft))).into_response())
}

/// Saves a template's draft. It may contain errors; the live version is not affected.
#[utoipa::path(
    put, path = "/v1/templates/{key}/draft", tag = "templates", request_body(content = Object, description = "`mode`, `default_locale`, `layout`, `options` and `contents`: fields by locale"),
    params(("key" = String, Path, description = "order-shipped-push")),
    responses(
        (status = 200, description = "Saved", body = DraftBody),
        (status = 412, description = "Saved by someone else in the meantime; `theirs` is their draft", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(in super::super) async fn put_draft(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::EditDraft).await?;
    let content: Content = read(&headers, body).await?;
    let present = api.draft(&key).await?.map_or(0, |draft| draft.revision);
    let revision = etag::wanted(&headers, present)?;
    let by = identity.by("")?;
    let draft = api.publisher.save_draft(&key, &content, revision, by).await?;
    Ok((etag::etag(draft.revision), Json(DraftBody::from(draft))).into_response())
}

/// Discards a template's draft.
#[utoipa::path(
    delete, path = "/v1/templates/{key}/draft", tag = "templates", params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 204, description = "Deleted"), (status = 412, description = "Saved by someone else in the meantime", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(in super::super) async fn delete_draft(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::EditDraft).await?;
    let present = api.draft(&key).await?.map_or(0, |draft| draft.revision);
    let revision = etag::wanted(&headers, present)?;
    api.publisher.discard_draft(&key, revision, identity.by("")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

fn version_body(record: VersionRecord, live: Option<i32>, is_whole: bool) -> VersionBody {
    let VersionRecord { version, author, note, created_at, restores, approved_by, .. } = record;
    VersionBody {
        number: version.number,
        author,
        note,
        created_at,
        restores,
        approved_by,
        is_live: live == Some(version.number),
        partials: is_whole.then_some(version.partials),
        content: is_whole.then_some(version.content),
    }
}

impl Api {
    /// Parses a version number.
    ///
    /// # Errors
    /// 400 if it is invalid.
    pub(in super::super) fn number(text: &str) -> Result<i32, Problem> {
        text.parse().map_err(|_| {
            Problem::new(
                Code::BadParameter,
                format!("`{text}` is not a version; use a number, `live` or `draft`"),
            )
        })
    }

    /// The number of a template's live version.
    ///
    /// # Errors
    /// 404 without such a template.
    pub(in super::super) async fn live_number(&self, key: &str) -> Result<Option<i32>, Problem> {
        let snapshot = self.store.snapshot().await?;
        let template = snapshot.templates.iter().find(|template| template.key == key);
        let template =
            template.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no template {key}")))?;
        Ok(snapshot.versions.iter().find(|version| Some(version.id) == template.live).map(|v| v.number))
    }
}

/// Lists a template's versions, newest first.
#[utoipa::path(
    get, path = "/v1/templates/{key}/versions", tag = "templates", params(("key" = String, Path, description = "order-shipped-push"), VersionsQuery),
    responses((status = 200, description = "A page of versions", body = Versions))
)]
pub(in super::super) async fn list_versions(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    Parameters(query): Parameters<VersionsQuery>,
    headers: HeaderMap,
) -> Result<Json<Versions>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let live = api.live_number(&key).await?;
    let limit = page_size(query.limit, 20)?;
    let records = api.store.version_records(&key, query.cursor, limit).await?;
    let data: Vec<VersionBody> = records.into_iter().map(|r| version_body(r, live, false)).collect();
    let is_last = data.last().is_none_or(|last| last.number == 1);
    let next_cursor = data.last().filter(|_| !is_last).map(|last| last.number.to_string());
    Ok(Json(Versions { data, next_cursor }))
}

/// Returns one version.
#[utoipa::path(
    get, path = "/v1/templates/{key}/versions/{number}", tag = "templates",
    params(("key" = String, Path, description = "order-shipped-push"), ("number" = i32, Path, description = "3")),
    responses((status = 200, description = "The version", body = VersionBody), (status = 404, description = "No such version"))
)]
pub(in super::super) async fn get_version(
    State(api): State<Arc<Api>>,
    PathTexts(key, number): PathTexts,
    headers: HeaderMap,
) -> Result<Json<VersionBody>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let live = api.live_number(&key).await?;
    let none = || Problem::new(Code::NotFound, format!("template {key} has no version {number}"));
    let number: i32 = number.parse().map_err(|_| none())?;
    Ok(Json(version_body(api.publisher.record(&key, number).await?, live, true)))
}

/// Compares two versions of a template, or its draft with the live version, line by line.
#[utoipa::path(
    get, path = "/v1/templates/{key}/diff", tag = "templates", params(("key" = String, Path, description = "order-shipped-push"), DiffQuery),
    responses((status = 200, description = "The differences by field", body = Vec<FieldDiff>))
)]
pub(in super::super) async fn diff_versions(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    Parameters(query): Parameters<DiffQuery>,
    headers: HeaderMap,
) -> Result<Json<Vec<FieldDiff>>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let from = api.content(&key, query.from.as_deref().unwrap_or("live")).await?;
    let to = api.content(&key, query.to.as_deref().unwrap_or("draft")).await?;
    Ok(Json(api.compute(move |_| diff(&from, &to)).await?))
}
