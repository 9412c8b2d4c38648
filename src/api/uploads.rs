//! The templates in OneSignal: shown, compared with what was uploaded, and taken over into the catalog's files.

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

/// How long a request may look at templates, one after the other: well within the time of a request.
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
    /// OneSignal's id of the template; none while it is not confirmed.
    provider_template_id: Option<String>,
    uploaded_at: Option<DateTime<Utc>>,
    /// When it was last compared with what was uploaded.
    checked_at: Option<DateTime<Utc>>,
    /// What was found then: `edited` or `deleted`.
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
    /// They come whole: there is no next page.
    next_cursor: Option<String>,
}

/// Lists what of a template stands in OneSignal.
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

/// What to compare.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct DriftRequest {
    /// Whether what was edited in OneSignal is written again. What was deleted is uploaded again in any case.
    repair: bool,
    /// Only what was not looked at since; now, if nothing is said. Whoever asks again for the rest sends the moment of
    /// the first request.
    before: Option<DateTime<Utc>>,
}

/// Compares the templates in OneSignal with what was uploaded, for up to 20 seconds.
#[utoipa::path(
    post, path = "/v1/catalog/drift", tag = "catalog", request_body = DriftRequest,
    responses(
        (status = 200, description = "What was looked at, and how many are left", body = DriftReport),
        (status = 502, description = "OneSignal did not answer as it should", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn check_drift(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<DriftReport>, Problem> {
    // It spends the app's calls, and may write in OneSignal.
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

/// What to bring in from OneSignal.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportRequest {
    /// The app's name or id.
    app: String,
    /// `push`, `email` or `sms`; all if nothing is said.
    #[schema(value_type = Option<String>)]
    channel: Option<Channel>,
    /// Only templates whose names begin so.
    #[serde(default)]
    prefix: String,
    /// Keys that are taken: those of the answers before.
    #[serde(default)]
    taken: BTreeSet<String>,
    /// The `next_cursor` of the answer before.
    cursor: Option<String>,
}

/// What was brought in.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ImportBody {
    /// The catalog's files: texts by path. Nothing is stored.
    files: Files,
    /// What a person has to look at.
    notes: Vec<ImportNote>,
    /// How many names were left alone: Herald's own, and those that were not asked for.
    skipped: usize,
    /// Where to go on.
    next_cursor: Option<String>,
}

/// Reads templates in OneSignal as the catalog's files, for up to 20 seconds. Nothing is stored.
#[utoipa::path(
    post, path = "/v1/catalog/import", tag = "catalog", request_body = ImportRequest,
    responses(
        (status = 200, description = "Files, and what a person has to look at", body = ImportBody),
        (status = 404, description = "No such app", body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "OneSignal did not answer as it should", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn import_templates(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    request: Body,
) -> Result<Json<ImportBody>, Problem> {
    // It stores nothing, but it spends the app's calls and shows what is not in the catalog.
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
    read.ok_or_else(|| Problem::new(Code::BadParameter, "`cursor` takes the `next_cursor` of an answer"))
}
