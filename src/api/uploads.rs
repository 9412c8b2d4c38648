//! Templates in OneSignal: listing, comparing with what was uploaded, and importing into catalog files.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::Api;
use super::catalog_entries::read;
use super::parameters::PathText;
use super::problem::{Code, Problem, ProblemBody};
use crate::access::Use;
use crate::catalog::drift::{DriftReport, Look};
use crate::catalog::files::Files;
use crate::catalog::import::{ImportNote, Wanted};
use crate::domain::channel::Channel;
use crate::store::upload_upkeep::{Drift, UploadRecord};

/// How long a request may read templates sequentially: well within the request timeout.
const LOOKING: Duration = Duration::from_secs(20);

/// One locale of one version in one app.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UploadBody {
    /// The app's name.
    app: String,
    version: i32,
    locale: String,
    /// Whether the version is the live one.
    live: bool,
    /// OneSignal's template ID; `null` until it is confirmed.
    provider_template_id: Option<String>,
    uploaded_at: Option<DateTime<Utc>>,
    /// When it was last compared with what was uploaded.
    checked_at: Option<DateTime<Utc>>,
    /// The difference that was found: `edited` or `deleted`.
    drift: Option<String>,
}

impl From<UploadRecord> for UploadBody {
    fn from(record: UploadRecord) -> Self {
        Self {
            app: record.app,
            version: record.version,
            locale: record.key.locale,
            live: record.is_live,
            provider_template_id: record.provider_template_id,
            uploaded_at: record.uploaded_at,
            checked_at: record.checked_at,
            drift: record.drift.map(Drift::as_str).map(str::to_owned),
        }
    }
}

/// A template's uploads.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Uploads {
    data: Vec<UploadBody>,
    /// Always `null`: all uploads are on one page.
    next_cursor: Option<String>,
}

/// Lists a template's uploads in OneSignal.
#[utoipa::path(
    get, path = "/v1/templates/{key}/uploads", tag = "templates",
    params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 200, description = "Its uploads, newest version first", body = Uploads), (status = 404, description = "No such template"))
)]
pub(super) async fn list_uploads(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
) -> Result<Json<Uploads>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let records = api.store.upload_records(Some(&key)).await?;
    if records.is_empty() && !api.store.snapshot().await?.templates.iter().any(|known| known.key == key) {
        return Err(Problem::new(Code::NotFound, format!("there is no template {key}")));
    }
    Ok(Json(Uploads { data: records.into_iter().map(UploadBody::from).collect(), next_cursor: None }))
}

/// A drift check request.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DriftRequest {
    /// Whether to overwrite templates that were edited in OneSignal. Deleted ones are always uploaded again.
    repair: bool,
    /// Only templates not compared since this time; now, if omitted. To continue with the rest, send the time of the
    /// first request again.
    before: Option<DateTime<Utc>>,
}

/// Compares the templates in OneSignal with what was uploaded, for up to 20 seconds.
#[utoipa::path(
    post, path = "/v1/catalog/drift", tag = "catalog", request_body = DriftRequest,
    responses(
        (status = 200, description = "The compared templates, and how many are left", body = DriftReport),
        (status = 502, description = "OneSignal returned an unexpected response", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn check_drift(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<DriftReport>, Problem> {
    // It uses the app's API calls, and may write to OneSignal.
    let identity = api.allow(&headers, Use::ChangeCatalog).await?;
    let DriftRequest { repair, before } = read(&headers, request).await?;
    let now = api.clock.now();
    let look = Look {
        app: None,
        before: before.map_or(now, |before| before.min(now)),
        max: api.publisher.looks_within(LOOKING),
        repair,
    };
    Ok(Json(api.publisher.check_drift(look, identity.by("")?).await?))
}

/// An import request.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportRequest {
    /// App name or ID.
    app: String,
    /// `push`, `email` or `sms`; all if omitted.
    #[schema(value_type = Option<String>)]
    channel: Option<Channel>,
    /// Only templates whose name starts with this.
    #[serde(default)]
    prefix: String,
    /// Keys that are already used: those of the previous responses.
    #[serde(default)]
    taken: BTreeSet<String>,
    /// `next_cursor` of the previous response.
    cursor: Option<String>,
}

/// The imported templates.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ImportBody {
    /// Catalog files: contents by path. Nothing is stored.
    files: Files,
    /// Notes that need a manual review.
    notes: Vec<ImportNote>,
    /// Number of skipped templates: Herald's own, and those that don't match the request.
    skipped: usize,
    /// Cursor of the next page.
    next_cursor: Option<String>,
}

/// Converts templates in OneSignal to catalog files, for up to 20 seconds. Nothing is stored.
#[utoipa::path(
    post, path = "/v1/catalog/import", tag = "catalog", request_body = ImportRequest,
    responses(
        (status = 200, description = "Files, and notes that need a manual review", body = ImportBody),
        (status = 404, description = "No such app", body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "OneSignal returned an unexpected response", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn import_templates(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<ImportBody>, Problem> {
    // It stores nothing, but uses the app's API calls and shows what is not in the catalog.
    api.allow(&headers, Use::ChangeCatalog).await?;
    let ImportRequest { app, channel, prefix, taken, cursor } = read(&headers, request).await?;
    let from = cursor.as_deref().map(read_cursor).transpose()?;
    let found = api.publisher.find_app(&app).await?;
    let app = found.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no app {app}")))?;
    let wanted = Wanted { channel, prefix, taken, from, max: api.publisher.looks_within(LOOKING) };
    let imported = api.publisher.import(&app, &wanted).await?;
    Ok(Json(ImportBody {
        files: imported.files,
        notes: imported.notes,
        skipped: imported.skipped,
        next_cursor: imported.next.map(|(channel, offset)| format!("{channel}.{offset}")),
    }))
}

fn read_cursor(text: &str) -> Result<(Channel, usize), Problem> {
    let read = text
        .split_once('.')
        .and_then(|(channel, offset)| Some((channel.parse().ok()?, offset.parse().ok()?)));
    read.ok_or_else(|| Problem::new(Code::BadParameter, "`cursor` must be the `next_cursor` of a response"))
}
