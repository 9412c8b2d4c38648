//! Imports of users: creating one, sending its file in parts, starting, following and cancelling it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::listing::Page;
use super::parameters::{Parameters, PathText};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, body, json_body};
use crate::access::Use;
use crate::domain::id::{ImportId, TypedId};
use crate::people::import::PartError;
use crate::people::import::mapping::ImportSettings;
use crate::store::imports::{Import, ImportState};

/// Maximum size of an import request.
const MAX_REQUEST_BYTES: usize = 256 * 1024;
/// Maximum size of a part of a file.
const MAX_PART_BYTES: usize = 8 * 1024 * 1024;
/// Page size of the list.
const PAGE: i64 = 50;
/// Rows of a preview, and of a page of rejected rows.
const PREVIEW_ROWS: i64 = 5;
const REJECTED_PAGE: i64 = 100_000;

/// An import to create.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ImportRequest {
    /// The file's name, for people.
    name: String,
    /// The app, by name or OneSignal ID; the default app if omitted.
    app: Option<String>,
    /// What the columns mean, and limits.
    #[serde(default)]
    #[schema(value_type = ImportSettingsBody)]
    settings: ImportSettings,
}

/// What the columns of a file mean, and limits.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ImportSettingsBody {
    /// What columns mean, by header: `external_id`, an alias label, `email`, `phone`, `language`, `time_zone`,
    /// `country`, `latitude`, `longitude`, `tag:NAME`, `tag:NAME:number`, `tag:NAME:boolean`, `tag:NAME:date`, or
    /// `ignore`. Columns with usual names are understood without it.
    columns: Option<std::collections::BTreeMap<String, String>>,
    /// Whether every other column is a tag of the same name.
    other_columns_are_tags: Option<bool>,
    /// Columns of tags whose empty cells remove the tag; elsewhere an empty cell leaves things alone.
    blank_removes: Option<Vec<String>>,
    /// The country code of phone numbers without one, such as `49`.
    country_code: Option<String>,
    /// The share of rejected rows, in percent, above which nothing is imported; 5 if omitted.
    max_rejected_percent: Option<f64>,
    /// The number of tags that may be removed.
    max_removed_tags: Option<i64>,
}

/// An import.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ImportBody {
    #[schema(value_type = String)]
    id: ImportId,
    name: String,
    app: String,
    author: String,
    /// `uploading`, `checking`, `ready`, `stopped`, `running`, `done` or `cancelled`.
    state: &'static str,
    /// Why it was stopped.
    detail: String,
    /// The offset of the next part of the file.
    received_bytes: i64,
    /// `utf8`, `utf16-le`, `utf16-be` or `windows1252`; `null` before the first line has arrived.
    encoding: Option<String>,
    delimiter: Option<String>,
    header: Vec<String>,
    #[schema(value_type = ImportSettingsBody)]
    settings: Value,
    counts: ImportCountsBody,
    created_at: DateTime<Utc>,
    started_at: Option<DateTime<Utc>>,
    finished_at: Option<DateTime<Utc>>,
}

/// Counts of an import. `records = rejected + good rows`; several rows of one person are one person.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ImportCountsBody {
    /// Rows of the file, without the header.
    records: i64,
    /// Rows with a problem.
    rejected: i64,
    /// People whom Herald did not know.
    new_users: i64,
    /// People with something to write, new ones included.
    changed: i64,
    /// People about whom OneSignal already has everything.
    unchanged: i64,
    /// Rows whose aliases belong to different people; they are rejected when the import runs.
    conflicts: i64,
    /// Tags that are removed.
    removed_tags: i64,
    /// People accepted so far.
    accepted: i64,
    /// People whom OneSignal confirmed.
    sent: i64,
    /// People of whom OneSignal refused something.
    refused: i64,
}

/// An import with its first rows.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ImportDetail {
    #[serde(flatten)]
    import: ImportBody,
    /// What each column means.
    columns: Vec<ColumnBody>,
    /// The first good rows, each with its request.
    preview: Vec<PreviewRow>,
    /// The first rejected rows.
    rejected_rows: Vec<RejectedRow>,
}

/// A column of a file.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ColumnBody {
    name: String,
    meaning: String,
}

/// A row with the request that it makes for a new user. For one whom OneSignal knows, only what changed is sent.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PreviewRow {
    line: i64,
    method: &'static str,
    /// Below the app's base URL.
    path: String,
    #[schema(value_type = Object)]
    body: Value,
}

/// A rejected row.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RejectedRow {
    line: i64,
    column: String,
    reason: String,
    row: String,
}

/// Where a part of a file belongs.
#[derive(Debug, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct PartQuery {
    /// The byte that the part begins with: `received_bytes` of the import.
    #[serde(default)]
    #[param(minimum = 0)]
    offset: i64,
    /// `true`: the file ends with this part.
    #[serde(default)]
    last: bool,
}

/// Options of the list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ImportsQuery {
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Options of the rejected rows.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct RejectedQuery {
    /// Only rows after this line.
    #[serde(default)]
    #[param(minimum = 0)]
    after: i64,
}

/// Creates an import. Send its file afterwards, in parts of up to 8 MiB.
#[utoipa::path(
    post, path = "/v1/users/imports", tag = "users", request_body = ImportRequest,
    responses((status = 201, description = "The import; it waits for its file", body = ImportBody))
)]
pub(super) async fn create_import(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ImportBody>), Problem> {
    let identity = api.allow(&headers, Use::ChangeUsers).await?;
    let request: ImportRequest = json_body::read(&headers, body, MAX_REQUEST_BYTES).await?;
    let app = api.app_named(request.app.as_deref()).await?;
    if request.name.is_empty()
        || request.name.chars().count() > 200
        || request.name.chars().any(char::is_control)
    {
        let detail = "a name has 1 to 200 characters, without control characters";
        return Err(Problem::fields(Code::InvalidFields, vec![FieldError::new("/name", "invalid", detail)]));
    }
    let now = api.clock.now();
    let id: ImportId = api.ids.next(now);
    let author = format!("{} ({})", identity.source_name, identity.key);
    let settings = json!(request.settings);
    api.store.create_import(id.uuid(), (app.id, &request.name, &author), &settings, now).await?;
    let import = api.import(id).await?;
    Ok((StatusCode::CREATED, Json(body_of(import, &app.name))))
}

/// Takes a part of the file. Parts are taken in order; after a lost connection, `received_bytes` says where to go on.
/// With `last=true`, the rows are checked: nothing is written before the import is started.
#[utoipa::path(
    put, path = "/v1/users/imports/{id}/content", tag = "users",
    params(("id" = String, Path, description = "imp_…"), PartQuery),
    request_body(content = String, content_type = "text/csv"),
    responses(
        (status = 202, description = "The part is stored", body = ImportBody),
        (status = 409, description = "Another part is next, or the file is complete", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_part(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    Parameters(query): Parameters<PartQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ImportBody>), Problem> {
    api.allow(&headers, Use::ChangeUsers).await?;
    let import = api.import_named(&id).await?;
    let app = api.app_named(Some(&import.app.to_string())).await?;
    let bytes = body::read_bytes(&headers, body, MAX_PART_BYTES).await?;
    api.people.receive_part(import.id, &app, query.offset, (&bytes, query.last)).await?;
    let import = api.import(ImportId::from_uuid(import.id)).await?;
    Ok((StatusCode::ACCEPTED, Json(body_of(import, &app.name))))
}

/// Lists imports, newest first.
#[utoipa::path(
    get, path = "/v1/users/imports", tag = "users", params(ImportsQuery),
    responses((status = 200, description = "A page of imports", body = Page<ImportBody>))
)]
pub(super) async fn list_imports(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<ImportsQuery>,
    headers: HeaderMap,
) -> Result<Json<Page<ImportBody>>, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let before = match &query.cursor {
        Some(cursor) => {
            let unknown =
                || Problem::new(Code::BadParameter, "`cursor`: use `next_cursor` of the previous page");
            Some(cursor.parse::<ImportId>().map_err(|_| unknown())?.uuid())
        }
        None => None,
    };
    let apps = api.store.apps().await?;
    let name = |import: &Import| {
        apps.iter().find(|app| app.id == import.app).map_or_else(String::new, |app| app.name.clone())
    };
    let imports = api.store.list_imports(before, PAGE).await?;
    let cursor = |import: &Import| ImportId::from_uuid(import.id).to_string();
    Ok(Json(Page::new(imports, PAGE, cursor, |import| {
        let name = name(&import);
        body_of(import, &name)
    })))
}

/// Shows an import with its progress, its first rows, and what each row would write.
#[utoipa::path(
    get, path = "/v1/users/imports/{id}", tag = "users", params(("id" = String, Path, description = "imp_…")),
    responses((status = 200, description = "The import", body = ImportDetail))
)]
pub(super) async fn get_import(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Json<ImportDetail>, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let import = api.import_named(&id).await?;
    let app = api.app_named(Some(&import.app.to_string())).await?;
    let (columns, preview) = api.people.preview(&import, &app, PREVIEW_ROWS).await?;
    let rejected = api.store.import_rows(import.id, true, 0, PREVIEW_ROWS).await?;
    Ok(Json(ImportDetail {
        columns: columns.into_iter().map(|(name, meaning)| ColumnBody { name, meaning }).collect(),
        preview: preview
            .into_iter()
            .map(|row| PreviewRow { line: row.line, method: row.method, path: row.path, body: row.body })
            .collect(),
        rejected_rows: rejected
            .into_iter()
            .map(|row| {
                let problem = row.problem.unwrap_or_default();
                let text = |name: &str| problem[name].as_str().unwrap_or_default().to_owned();
                RejectedRow { line: row.line, column: text("column"), reason: text("reason"), row: row.raw }
            })
            .collect(),
        import: body_of(import, &app.name),
    }))
}

/// Starts an import that is ready.
#[utoipa::path(
    post, path = "/v1/users/imports/{id}/start", tag = "users", params(("id" = String, Path, description = "imp_…")),
    responses(
        (status = 202, description = "It runs", body = ImportBody),
        (status = 409, description = "It is not ready", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn start_import(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<ImportBody>), Problem> {
    let identity = api.allow(&headers, Use::ChangeUsers).await?;
    let import = api.import_named(&id).await?;
    let state = api.people.start_import(import.id).await?;
    if !matches!(state, Some(ImportState::Running | ImportState::Done)) {
        let state = state.map_or("unknown", ImportState::as_str);
        return Err(Problem::new(
            Code::NotReady,
            format!("the import is {state}; only one that is ready can be started"),
        ));
    }
    let after = json!({"import": id, "file": import.name, "rows": import.counts.records});
    api.publisher.record_change(("import", &id), "started", Some(after), identity.by("")?).await?;
    let app = api.app_named(Some(&import.app.to_string())).await?;
    let import = api.import(ImportId::from_uuid(import.id)).await?;
    Ok((StatusCode::ACCEPTED, Json(body_of(import, &app.name))))
}

/// Cancels an import. People who were accepted before are written nevertheless.
#[utoipa::path(
    post, path = "/v1/users/imports/{id}/cancel", tag = "users", params(("id" = String, Path, description = "imp_…")),
    responses((status = 200, description = "The import", body = ImportBody))
)]
pub(super) async fn cancel_import(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Json<ImportBody>, Problem> {
    api.allow(&headers, Use::ChangeUsers).await?;
    let import = api.import_named(&id).await?;
    api.people.cancel_import(import.id).await?;
    let app = api.app_named(Some(&import.app.to_string())).await?;
    Ok(Json(body_of(api.import(ImportId::from_uuid(import.id)).await?, &app.name)))
}

/// The rejected rows as CSV: each as it was, with its line, the column, and the reason at the end. Corrected, the file
/// can be imported again: those three columns are ignored.
#[utoipa::path(
    get, path = "/v1/users/imports/{id}/rejected", tag = "users",
    params(("id" = String, Path, description = "imp_…"), RejectedQuery),
    responses((status = 200, description = "Up to 100,000 rejected rows", content_type = "text/csv", body = String))
)]
pub(super) async fn get_rejected(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    Parameters(query): Parameters<RejectedQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let import = api.import_named(&id).await?;
    let rows = api.store.import_rows(import.id, true, query.after, REJECTED_PAGE).await?;
    let file = crate::people::import::rejects::file(&import, &rows)?;
    let name = format!("attachment; filename=\"rejected-{id}.csv\"");
    let headers =
        [(header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()), (header::CONTENT_DISPOSITION, name)];
    Ok((headers, file).into_response())
}

fn body_of(import: Import, app: &str) -> ImportBody {
    let format = import.format.unwrap_or_default();
    let text = |name: &str| format[name].as_str().map(str::to_owned);
    let header = format["header"].as_array().map(Vec::as_slice).unwrap_or_default();
    let counts = import.counts;
    ImportBody {
        id: ImportId::from_uuid(import.id),
        name: import.name,
        app: app.to_owned(),
        author: import.author,
        state: import.state.as_str(),
        detail: import.detail,
        received_bytes: import.received_bytes,
        encoding: text("encoding"),
        delimiter: text("delimiter"),
        header: header.iter().filter_map(|name| name.as_str().map(str::to_owned)).collect(),
        settings: import.settings,
        counts: ImportCountsBody {
            records: counts.records,
            rejected: counts.rejected,
            new_users: counts.new_users,
            changed: counts.changed,
            unchanged: counts.unchanged,
            conflicts: counts.conflicts,
            removed_tags: counts.removed_tags,
            accepted: counts.accepted,
            sent: counts.sent,
            refused: counts.refused,
        },
        created_at: import.created_at,
        started_at: import.started_at,
        finished_at: import.finished_at,
    }
}

impl Api {
    async fn import_named(&self, id: &str) -> Result<Import, Problem> {
        let unknown = || Problem::new(Code::NotFound, format!("there is no import {id}"));
        let parsed: ImportId = id.parse().map_err(|_| unknown())?;
        self.store.find_import(parsed.uuid()).await?.ok_or_else(unknown)
    }

    async fn import(&self, id: ImportId) -> Result<Import, Problem> {
        self.import_named(&id.to_string()).await
    }
}

impl From<PartError> for Problem {
    fn from(error: PartError) -> Self {
        let code = match error {
            PartError::Store(error) => return error.into(),
            PartError::Unknown => Code::NotFound,
            PartError::NotUploading(_) => Code::NotReady,
            PartError::WrongOffset(_) => Code::WrongOffset,
            PartError::BadFile(_) => Code::BadFile,
        };
        Self::new(code, error.to_string())
    }
}
