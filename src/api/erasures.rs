//! Erasing a person from Herald and OneSignal, the receipt of it, and lifting it.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::listing::Page;
use super::parameters::{Parameters, PathText, PathTexts};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, json_body};
use crate::access::Use;
use crate::domain::app::App;
use crate::domain::event::Recipient;
use crate::domain::id::{ErasureId, TypedId};
use crate::people::erasure::{AppProgress, Progress};
use crate::store::erasures::StoredErasure;

/// The size of a page.
const PAGE: i64 = 50;
/// Maximum size of a request.
const MAX_BYTES: usize = 16 * 1024;

/// What Herald and OneSignal can't do about a person who was erased.
const LIMITS: [&str; 3] = [
    "an app on the person's device that is opened again makes OneSignal create a new user: log the person out there first",
    "data of events about other people may name the person: it is deleted when its retention ends",
    "backups of the database contain the person until they expire; after a restore the erasure is applied again, if a \
     record of erasures is configured",
];

/// An erasure and its receipt. It contains nothing about the person.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ErasureBody {
    #[schema(value_type = String)]
    id: ErasureId,
    /// `open`: in progress, repeated until nothing is left; `done`; `lifted`: the person may come back.
    state: String,
    requested_by: String,
    requested_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    /// Whether it is recorded outside the database, so that it is applied again after a restore.
    recorded: bool,
    /// What was erased.
    erased: ErasedBody,
    /// Each app at OneSignal.
    apps: Vec<ErasedAppBody>,
    /// What this can't prevent or reach.
    limits: Vec<&'static str>,
}

/// What was erased in Herald.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ErasedBody {
    /// Pending deliveries that ended without being sent.
    pending_deliveries: usize,
    /// Messages that OneSignal held until their time and was asked to cancel.
    recalled_messages: usize,
    /// Deliveries whose recipient was erased.
    deliveries: u64,
    /// Events whose data and recipient were erased.
    events: u64,
    /// OneSignal's answers that named the person.
    answers: u64,
    /// Rejected rows of imports.
    import_rows: u64,
    /// Events and deliveries that something open still needs; they are erased once it has ended.
    waiting: u64,
}

/// The state of an erasure in one app at OneSignal.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ErasedAppBody {
    app: String,
    /// `open`, or `gone`: OneSignal no longer knows the person.
    state: &'static str,
    /// How often OneSignal accepted a deletion.
    deletions: u32,
    gone_at: Option<DateTime<Utc>>,
    /// OneSignal's last answer, or why no call was made.
    last_answer: String,
}

/// Options of a list of erasures.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ErasuresQuery {
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Why an erasure is lifted.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct LiftRequest {
    /// For the audit log, such as the ticket in which the person asked to come back.
    reason: String,
}

/// Erases a person: deletes them at OneSignal in every app, ends pending deliveries, deletes what Herald holds about
/// them, and refuses to write or send anything about them from then on. It can't be undone. The response is `202` once
/// the request is stored; repeat `GET /v1/erasures/{id}` until the state is `done`.
#[utoipa::path(
    delete, path = "/v1/users/{label}/{id}", tag = "users",
    params(("label" = String, Path, description = "`external_id`, `email`, `phone`, or an alias label"),
        ("id" = String, Path)),
    responses(
        (status = 202, description = "The erasure is stored, and takes effect at once", body = ErasureBody),
        (status = 422, description = "Nobody can have this label or id", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn erase_user(
    State(api): State<Arc<Api>>,
    PathTexts(label, id): PathTexts,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<ErasureBody>), Problem> {
    let identity = api.allow(&headers, Use::EraseUsers).await?;
    let who = Recipient::parse(&label, &id).map_err(|error| {
        Problem::fields(Code::InvalidFields, vec![FieldError::new("", "bad_user", error.to_string())])
    })?;
    let by = identity.by("")?;
    let erasure = api.people.erase(&who, by.actor).await?;
    api.publisher.record_change(("erasure", &erasure.id.to_string()), "requested", None, by).await?;
    Ok((StatusCode::ACCEPTED, Json(body_of(erasure, &api.store.apps().await?))))
}

/// Lists erasures, newest first.
#[utoipa::path(
    get, path = "/v1/erasures", tag = "users", params(ErasuresQuery),
    responses((status = 200, description = "A page of erasures", body = Page<ErasureBody>))
)]
pub(super) async fn list_erasures(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<ErasuresQuery>,
    headers: HeaderMap,
) -> Result<Json<Page<ErasureBody>>, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let before = match &query.cursor {
        Some(cursor) => {
            let unknown =
                || Problem::new(Code::BadParameter, "`cursor`: use `next_cursor` of the previous page");
            cursor.parse::<ErasureId>().map_err(|_| unknown())?.uuid()
        }
        None => uuid::Uuid::max(),
    };
    let apps = api.store.apps().await?;
    let erasures = api.store.erasures(before, PAGE).await?;
    Ok(Json(Page::new(erasures, PAGE, |one| one.id.to_string(), |one| body_of(one, &apps))))
}

/// Shows an erasure: the receipt of what was erased where.
#[utoipa::path(
    get, path = "/v1/erasures/{id}", tag = "users", params(("id" = String, Path, description = "ers_…")),
    responses(
        (status = 200, description = "The erasure", body = ErasureBody),
        (status = 404, description = "There is no such erasure", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_erasure(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
) -> Result<Json<ErasureBody>, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let erasure = api.erasure_named(&id).await?;
    Ok(Json(body_of(erasure, &api.store.apps().await?)))
}

/// Lets a person come back who was erased: their identifiers are no longer refused. What was erased stays so.
#[utoipa::path(
    post, path = "/v1/erasures/{id}/lift", tag = "users", request_body = LiftRequest,
    params(("id" = String, Path, description = "ers_…")),
    responses(
        (status = 200, description = "The erasure is lifted", body = ErasureBody),
        (status = 409, description = "The erasure is not done, or was lifted before", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn lift_erasure(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<ErasureBody>, Problem> {
    let identity = api.allow(&headers, Use::EraseUsers).await?;
    let request: LiftRequest = json_body::read(&headers, body, MAX_BYTES).await?;
    if request.reason.trim().is_empty() {
        let missing = FieldError::new("/reason", "required", "say why the person may come back");
        return Err(Problem::fields(Code::InvalidFields, vec![missing]));
    }
    let erasure = api.erasure_named(&id).await?;
    if !api.people.lift_erasure(erasure.id).await? {
        let detail = format!("the erasure is `{}`: only one that is `done` can be lifted", erasure.state);
        return Err(Problem::new(Code::NotReady, detail));
    }
    let after = json!({"reason": request.reason});
    let about = ("erasure", erasure.id.to_string());
    api.publisher.record_change((about.0, &about.1), "lifted", Some(after), identity.by("")?).await?;
    let erasure = api.erasure_named(&id).await?;
    Ok(Json(body_of(erasure, &api.store.apps().await?)))
}

impl Api {
    async fn erasure_named(&self, id: &str) -> Result<StoredErasure, Problem> {
        let unknown = || Problem::new(Code::NotFound, format!("there is no erasure {id}"));
        let id: ErasureId = id.parse().map_err(|_| unknown())?;
        self.store.erasure(id).await?.ok_or_else(unknown)
    }

    /// The answer about a user whom Herald does not know.
    pub(super) async fn unknown_user(&self, label: &str, id: &str) -> Result<Problem, Problem> {
        if let Ok(who) = Recipient::parse(label, id)
            && let Some(erasure) = self.store.erasure_of(&who).await?
        {
            return Ok(Problem::new(Code::NotFound, format!("this user was erased: see {}", erasure.id)));
        }
        let detail = "Herald does not know such a user; OneSignal may know them nevertheless";
        Ok(Problem::new(Code::NotFound, detail))
    }
}

fn body_of(erasure: StoredErasure, apps: &[App]) -> ErasureBody {
    let progress = Progress::of(&erasure);
    let app = |app: &App| {
        let state = progress.apps.get(&app.id.to_string()).cloned().unwrap_or_default();
        app_body(app, state)
    };
    let rows = progress.rows;
    ErasureBody {
        id: erasure.id,
        state: erasure.state,
        requested_by: erasure.requested_by,
        requested_at: erasure.requested_at,
        finished_at: erasure.finished_at,
        recorded: erasure.is_recorded,
        erased: ErasedBody {
            pending_deliveries: progress.ended,
            recalled_messages: progress.recalled,
            deliveries: rows.deliveries,
            events: rows.events,
            answers: rows.answers,
            import_rows: rows.import_rows,
            waiting: rows.waiting,
        },
        apps: apps.iter().map(app).collect(),
        limits: LIMITS.to_vec(),
    }
}

fn app_body(app: &App, state: AppProgress) -> ErasedAppBody {
    ErasedAppBody {
        app: app.name.clone(),
        state: if state.gone_at.is_some() { "gone" } else { "open" },
        deletions: state.deletions,
        gone_at: state.gone_at,
        last_answer: state.last_answer,
    }
}
