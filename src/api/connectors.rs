//! Connectors: saving, checking, starting and pausing one; its state; rows that were set aside.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use secrecy::SecretString;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::listing::Page;
use super::parameters::{Parameters, PathText};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, etag, json_body};
use crate::access::{Identity, Use};
use crate::domain::id::ConnectorId;
use crate::people::connector::definition::{Definition, RowKind};
use crate::people::connector::{SaveError, Saving, is_stale, observed_words, place_of};
use crate::store::connector_rows::SetAsideRow;
use crate::store::connectors::{Connector, RowCounts};

/// Maximum request size.
const MAX_BYTES: usize = 256 * 1024;
/// Page size of rows that were set aside.
const PAGE: i64 = 100;

/// A connector to save: its definition, and where its source is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
pub(super) struct ConnectorRequest {
    /// The source's address, `postgres://user:password@host/database`. It is stored sealed and never shown; if it is
    /// omitted, the one that is known stays.
    #[schema(value_type = Option<String>)]
    connection: Option<SecretString>,
    /// What it reads and what becomes of its rows, as in docs/connector.md.
    #[serde(flatten)]
    #[schema(value_type = Object)]
    definition: serde_json::Map<String, Value>,
}

/// A connector with its state.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ConnectorBody {
    #[schema(value_type = String)]
    id: ConnectorId,
    name: String,
    /// `running`, `paused` or `stopped`.
    state: &'static str,
    /// Why it was stopped.
    detail: String,
    /// Whether it is running, but was not polled successfully for three intervals, or for 10 seconds.
    stale: bool,
    /// Where its source is.
    source: String,
    /// What it reads and what becomes of its rows.
    #[schema(value_type = Object)]
    definition: Value,
    author: String,
    /// The last successful poll, or when it was started.
    polled_at: DateTime<Utc>,
    /// The seconds since then.
    poll_age_seconds: i64,
    next_poll_at: DateTime<Utc>,
    /// The last error; empty after a successful poll.
    last_error: String,
    last_error_at: Option<DateTime<Utc>>,
    /// How far the last poll was behind the source's present time, in seconds.
    behind_seconds: Option<i64>,
    /// What is unusual about the last poll, such as the transaction that holds it back.
    notes: Vec<String>,
    /// The number of rows of the source at the last count.
    known_rows: Option<i64>,
    counts: RowCountsBody,
    /// Rows that are set aside at present.
    waiting_rows: i64,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
}

/// Rows since the connector was created: `read` is the sum of the others.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RowCountsBody {
    read: i64,
    /// Became a write of a user, or an event.
    accepted: i64,
    /// Users about whom OneSignal already has everything.
    unchanged: i64,
    /// Events that had been accepted before.
    repeated: i64,
    /// Too old to become an event.
    too_old: i64,
    /// Left alone: marked as deleted, or of an erased person.
    deleted: i64,
    /// Set aside.
    set_aside: i64,
    /// Could not be accepted, but a newer row of the same key was.
    superseded: i64,
}

impl From<RowCounts> for RowCountsBody {
    fn from(counts: RowCounts) -> Self {
        let RowCounts { read, accepted, unchanged, repeated, too_old, deleted, set_aside, superseded } =
            counts;
        Self { read, accepted, unchanged, repeated, too_old, deleted, set_aside, superseded }
    }
}

/// What a look at a source found.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ConnectorCheckBody {
    /// Why the source can't be read or its columns do not fit; empty if all is well.
    problem: String,
    /// Which guarantee holds for rows that are committed late.
    guarantee: String,
    /// The number of rows; `null` for an outbox.
    rows: Option<i64>,
    columns: Vec<SourceColumnBody>,
    /// What the latest rows would become; only with the scope `users:read`.
    #[schema(value_type = Vec<Object>)]
    preview: Vec<Value>,
    /// What should be changed at the source.
    warnings: Vec<String>,
}

/// A column of a source.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SourceColumnBody {
    name: String,
    r#type: String,
    /// What it means; empty if it has no meaning of its own.
    meaning: String,
}

/// A row that was set aside.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct SetAsideBody {
    /// What identifies it in the source.
    row: String,
    /// Whose row it is.
    key: String,
    /// The column that is wrong, if it is one.
    column: String,
    reason: String,
    attempts: i32,
    first_at: DateTime<Utc>,
    retry_at: DateTime<Utc>,
}

/// How a connector is started.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct StartQuery {
    /// `true`: reads all rows of its query again.
    #[serde(default)]
    reread: bool,
}

/// Options of the rows that were set aside.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct SetAsideQuery {
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Lists connectors with their states.
#[utoipa::path(
    get, path = "/v1/connectors", tag = "connectors",
    responses((status = 200, description = "Every connector", body = Vec<ConnectorBody>))
)]
pub(super) async fn list_connectors(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Vec<ConnectorBody>>, Problem> {
    api.allow(&headers, Use::ReadSources).await?;
    let waiting = api.store.count_set_aside().await?;
    let connectors = api.store.connectors().await?.into_iter();
    Ok(Json(
        connectors
            .map(|connector| {
                let waiting = waiting.get(&connector.id).copied().unwrap_or_default();
                body_of(&api, connector, waiting)
            })
            .collect(),
    ))
}

/// Shows a connector.
#[utoipa::path(
    get, path = "/v1/connectors/{name}", tag = "connectors", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "The connector; its version is the `ETag`", body = ConnectorBody))
)]
pub(super) async fn get_connector(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadSources).await?;
    answer(&api, &name).await
}

/// Creates or replaces a connector. A new one, and one whose source or mapping changes, does not read before it is
/// started. Needs `users:write` in addition if rows become users or carry facts about recipients.
#[utoipa::path(
    put, path = "/v1/connectors/{name}", tag = "connectors", request_body = ConnectorRequest,
    params(("name" = String, Path, description = "Its name")),
    responses(
        (status = 200, description = "Saved; its version is the `ETag`", body = ConnectorBody),
        (status = 412, description = "Changed in the meantime", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Invalid; `errors` lists the reasons", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_connector(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::ChangeSource).await?;
    let request: ConnectorRequest = json_body::read(&headers, body, MAX_BYTES).await?;
    if !crate::catalog::is_source_name(&name) {
        let detail = "a connector's name is 1 to 64 lower-case letters, digits, `.`, `_` or `-`";
        return Err(Problem::fields(Code::InvalidFields, vec![FieldError::new("name", "invalid", detail)]));
    }
    let definition: Definition = json_body::read_value(Value::Object(request.definition))?;
    check_permission(&api, &identity, &definition).await?;
    let known = api.store.find_connector(&name).await?;
    let based_on = etag::wanted(&headers, known.map_or(0, |known| known.revision))?;
    let author = format!("{} ({})", identity.source_name, identity.key);
    let saving = Saving {
        name: &name,
        definition: &definition,
        connection: request.connection,
        author: &author,
        based_on,
    };
    api.connectors.save(saving).await?;
    let after = Some(json!(definition));
    api.publisher.record_change(("connector", &name), "saved", after, identity.by("")?).await?;
    answer(&api, &name).await
}

/// Whether a key may do itself what the connector does.
async fn check_permission(api: &Api, identity: &Identity, definition: &Definition) -> Result<(), Problem> {
    let writes_users = definition.rows == RowKind::Users
        || definition.events.as_ref().is_some_and(|events| events.recipient.len() > 1);
    if writes_users && !identity.may(Use::ChangeUsers) {
        let detail = "the connector changes users: the key needs the scope `users:write`";
        return Err(Problem::new(Code::MissingScope, detail));
    }
    if let Some(events) = &definition.events {
        let source = super::sources::find(api, &events.source).await?;
        if !identity.may_grant(source.allowed_types.as_deref()) {
            let detail = format!("{} may post event types that your key is not allowed to post", source.name);
            return Err(Problem::new(Code::NotPermitted, detail));
        }
    }
    Ok(())
}

impl From<SaveError> for Problem {
    fn from(error: SaveError) -> Self {
        match error {
            SaveError::Wrong { pointer, detail } => {
                Self::fields(Code::InvalidFields, vec![FieldError::new(pointer, "invalid", detail)])
            }
            SaveError::Changed => Self::new(Code::Stale, "the connector was changed by someone else"),
            SaveError::Store(error) => error.into(),
        }
    }
}

/// Deletes a connector. Users and events that it brought stay, and its source is left alone.
#[utoipa::path(
    delete, path = "/v1/connectors/{name}", tag = "connectors", params(("name" = String, Path, description = "Its name")),
    responses((status = 204, description = "It reads no more"), (status = 404, description = "No such connector"))
)]
pub(super) async fn delete_connector(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::ChangeSource).await?;
    let connector = find(&api, &name).await?;
    api.store.delete_connector(connector.id).await?;
    api.publisher.record_change(("connector", &name), "deleted", None, identity.by("")?).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// Looks at a connector's source: its columns, what its rows would become, and what should be changed there. Nothing is
/// stored.
#[utoipa::path(
    post, path = "/v1/connectors/{name}/check", tag = "connectors", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "What was found", body = ConnectorCheckBody))
)]
pub(super) async fn check_connector(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
) -> Result<Json<ConnectorCheckBody>, Problem> {
    let identity = api.allow(&headers, Use::ChangeSource).await?;
    let connector = find(&api, &name).await?;
    let look = api.connectors.look(&connector).await?;
    Ok(Json(ConnectorCheckBody {
        problem: look.problem,
        guarantee: look.guarantee,
        rows: look.rows,
        columns: look
            .columns
            .into_iter()
            .map(|(name, r#type, meaning)| SourceColumnBody { name, r#type, meaning })
            .collect(),
        preview: if identity.may(Use::ReadUsers) { look.preview } else { Vec::new() },
        warnings: look.warnings,
    }))
}

/// Starts a connector, or lets it go on after it was paused or stopped.
#[utoipa::path(
    post, path = "/v1/connectors/{name}/start", tag = "connectors",
    params(("name" = String, Path, description = "Its name"), StartQuery),
    responses((status = 200, description = "It runs", body = ConnectorBody))
)]
pub(super) async fn start_connector(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    Parameters(query): Parameters<StartQuery>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::ChangeSource).await?;
    let connector = find(&api, &name).await?;
    api.connectors.start(&connector, query.reread).await?;
    let after = Some(json!({"reread": query.reread}));
    api.publisher.record_change(("connector", &name), "started", after, identity.by("")?).await?;
    answer(&api, &name).await
}

/// Pauses a connector.
#[utoipa::path(
    post, path = "/v1/connectors/{name}/pause", tag = "connectors", params(("name" = String, Path, description = "Its name")),
    responses((status = 200, description = "It is paused", body = ConnectorBody))
)]
pub(super) async fn pause_connector(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::ChangeSource).await?;
    let connector = find(&api, &name).await?;
    api.connectors.pause(&connector).await?;
    api.publisher.record_change(("connector", &name), "paused", None, identity.by("")?).await?;
    answer(&api, &name).await
}

/// Lists rows that were set aside, with the reason of each. They are tried again by themselves.
#[utoipa::path(
    get, path = "/v1/connectors/{name}/set-aside", tag = "connectors",
    params(("name" = String, Path, description = "Its name"), SetAsideQuery),
    responses((status = 200, description = "A page of rows", body = Page<SetAsideBody>))
)]
pub(super) async fn list_set_aside(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    Parameters(query): Parameters<SetAsideQuery>,
    headers: HeaderMap,
) -> Result<Json<Page<SetAsideBody>>, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let connector = find(&api, &name).await?;
    let after = query.cursor.unwrap_or_default();
    let rows = api.store.list_set_aside(connector.id, &after, PAGE).await?;
    let cursor = |row: &SetAsideRow| row.row_id.clone();
    Ok(Json(Page::new(rows, PAGE, cursor, |row| SetAsideBody {
        row: row.row_id,
        key: row.key,
        column: row.field,
        reason: row.reason,
        attempts: row.attempts,
        first_at: row.first_at,
        retry_at: row.retry_at,
    })))
}

async fn find(api: &Api, name: &str) -> Result<Connector, Problem> {
    let unknown = || Problem::new(Code::NotFound, format!("there is no connector {name}"));
    api.store.find_connector(name).await?.ok_or_else(unknown)
}

/// A connector with its version.
async fn answer(api: &Api, name: &str) -> Result<Response, Problem> {
    let connector = find(api, name).await?;
    let waiting = api.store.count_set_aside().await?.get(&connector.id).copied().unwrap_or_default();
    let version = etag::etag(connector.revision);
    Ok((version, Json(body_of(api, connector, waiting))).into_response())
}

fn body_of(api: &Api, connector: Connector, waiting_rows: i64) -> ConnectorBody {
    let now = api.clock.now();
    ConnectorBody {
        state: connector.state.as_str(),
        stale: is_stale(&connector, now),
        source: place_of(&connector),
        poll_age_seconds: (now - connector.polled_at).num_seconds().max(0),
        behind_seconds: connector.observed["behind_seconds"].as_i64(),
        notes: observed_words(&connector.observed),
        counts: connector.counts.into(),
        id: connector.id,
        name: connector.name,
        detail: connector.detail,
        definition: connector.definition,
        author: connector.author,
        polled_at: connector.polled_at,
        next_poll_at: connector.next_at,
        last_error: connector.last_error,
        last_error_at: connector.last_error_at,
        known_rows: connector.known_rows,
        waiting_rows,
        created_at: connector.created_at,
        updated_at: connector.updated_at,
    }
}
