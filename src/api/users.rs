//! Users: writing them, one or many at once, and reading what Herald holds about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::parameters::{Parameters, PathTexts};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, json_body};
use crate::access::Use;
use crate::domain::app::App;
use crate::domain::id::{TypedId, UserId};
use crate::domain::user::Origin;
use crate::people::accept::{AcceptError, AcceptedUser, ChangeError, Mode, UserChange};
use crate::people::document::{SubscriptionForm, UserForm, UserInput, UserProblem};
use crate::people::remedy;
use crate::store::users::{AppState, StoredUser};

/// Maximum size of one user.
const MAX_USER_BYTES: usize = 256 * 1024;
/// Maximum size of a batch, and number of users in it.
const MAX_BATCH_BYTES: usize = 8 * 1024 * 1024;
const MAX_BATCH: usize = 1_000;

/// Options of a write.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct UserQuery {
    /// The app, by name or OneSignal ID; the default app if omitted.
    app: Option<String>,
    /// `true`: checks the request and returns the result without storing anything.
    #[serde(default)]
    dry_run: bool,
}

/// A user as it is written. Parts that are absent are left alone.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the request; `UserForm` reads it")]
pub(super) struct UserRequest {
    /// Other aliases: labels with ids; `null` removes one.
    aliases: Option<BTreeMap<String, Option<String>>>,
    /// Addresses, phone numbers and push tokens; at most 20.
    subscriptions: Option<Vec<SubscriptionRequest>>,
    /// Tags: names with texts, numbers, `true`, `false`, or dates as `{"date": "2026-01-31"}` (sent as Unix seconds);
    /// `null` or an empty text removes one.
    tags: Option<BTreeMap<String, Value>>,
    /// The language that they read, such as `de`.
    language: Option<String>,
    /// Their time zone's IANA name.
    time_zone: Option<String>,
    /// Their country, as two letters.
    country: Option<String>,
    /// Latitude in degrees; only with `longitude`.
    latitude: Option<f64>,
    /// Longitude in degrees; only with `latitude`.
    longitude: Option<f64>,
}

/// A subscription.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
#[expect(dead_code, reason = "describes the request; `SubscriptionForm` reads it")]
pub(super) struct SubscriptionRequest {
    /// `email`, `sms`, or one of OneSignal's push types, such as `iOSPush`.
    r#type: String,
    /// The address, the phone number in E.164, or the push token.
    token: String,
    /// Whether it is switched on; left alone if absent.
    enabled: Option<bool>,
}

/// An accepted user. It is written to OneSignal soon afterwards, at most once a second for each person.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UserAccepted {
    #[schema(value_type = String)]
    id: UserId,
    /// Whether Herald did not know the person before.
    new: bool,
    dry_run: bool,
}

impl UserAccepted {
    fn new(accepted: AcceptedUser, dry_run: bool) -> Self {
        Self { id: accepted.user, new: accepted.is_new, dry_run }
    }
}

/// A user of a batch: the fields of a user, and who it is.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct BatchUser {
    /// One label with one id, such as `{"external_id": "user-42"}`.
    user: BTreeMap<String, String>,
    aliases: Option<BTreeMap<String, Option<String>>>,
    #[schema(value_type = Option<Vec<SubscriptionRequest>>)]
    subscriptions: Option<Vec<SubscriptionForm>>,
    tags: Option<BTreeMap<String, Value>>,
    language: Option<String>,
    time_zone: Option<String>,
    country: Option<String>,
    latitude: Option<f64>,
    longitude: Option<f64>,
}

/// The result for one user of a batch: `user`, or `problem`.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BatchUserResult {
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<UserAccepted>,
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<ProblemBody>,
}

/// The results of a batch, in the order of the request.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct BatchUsers {
    accepted: usize,
    rejected: usize,
    results: Vec<BatchUserResult>,
}

/// What Herald holds about a user.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UserBody {
    #[schema(value_type = String)]
    id: UserId,
    aliases: BTreeMap<String, String>,
    /// The language of their messages.
    language: Option<String>,
    time_zone: Option<String>,
    /// Channels that they opted out of.
    opted_out: Vec<String>,
    created_at: DateTime<Utc>,
    updated_at: DateTime<Utc>,
    /// Their state in each app.
    apps: Vec<UserAppBody>,
}

/// The state of a user in one app.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UserAppBody {
    app: String,
    /// `in_sync`; `pending`: changes will be written; `retrying`: a call failed and is repeated; `refused`: OneSignal
    /// refused some parts, and everything else is in sync.
    state: &'static str,
    /// Changes that OneSignal has not confirmed: part names with values.
    #[schema(value_type = Object)]
    pending: Map<String, Value>,
    /// When the next call is made.
    next_call_at: Option<DateTime<Utc>>,
    /// The parts that OneSignal has confirmed; Herald does not store their values.
    confirmed: Vec<String>,
    refused: Vec<RefusedPart>,
    onesignal_id: Option<String>,
    /// The last answer of OneSignal.
    last_answer: Option<UserAnswerBody>,
}

/// A part that OneSignal refused.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct RefusedPart {
    part: String,
    /// `alias_conflict`, `tag_limit`, `subscription_limit`, `unknown_user` or `refused`.
    code: String,
    /// OneSignal's text.
    detail: String,
    /// What to do.
    remedy: &'static str,
    at: Option<DateTime<Utc>>,
}

/// An answer of OneSignal.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct UserAnswerBody {
    /// `done`, `rate_limited`, `not_connected`, `ambiguous`, `app_unusable`, or a code of a refused part.
    code: String,
    detail: String,
    at: DateTime<Utc>,
}

/// Creates a user, or replaces what is known: the tags, if there are any in the request, replace all that Herald has
/// written. The response is `202` once the change is stored.
#[utoipa::path(
    put, path = "/v1/users/{label}/{id}", tag = "users", request_body = UserRequest,
    params(("label" = String, Path, description = "`external_id`, or an alias label"), ("id" = String, Path), UserQuery),
    responses(
        (status = 200, description = "The result of a dry run", body = UserAccepted),
        (status = 202, description = "The change is stored", body = UserAccepted),
        (status = 409, description = "An alias belongs to someone else, or the user was erased", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_user(
    state: State<Arc<Api>>,
    name: PathTexts,
    query: Parameters<UserQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<UserAccepted>), Problem> {
    write_user(state, name, query, &headers, body, Mode::Replace).await
}

/// Changes a user: adds to what is known. Properties and tags of a user whom OneSignal does not know are refused there;
/// aliases and subscriptions create the user.
#[utoipa::path(
    patch, path = "/v1/users/{label}/{id}", tag = "users", request_body = UserRequest,
    params(
        ("label" = String, Path, description = "`external_id`, `onesignal_id`, or an alias label"), ("id" = String, Path),
        UserQuery
    ),
    responses(
        (status = 200, description = "The result of a dry run", body = UserAccepted),
        (status = 202, description = "The change is stored", body = UserAccepted),
        (status = 409, description = "An alias belongs to someone else, or the user was erased", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn patch_user(
    state: State<Arc<Api>>,
    name: PathTexts,
    query: Parameters<UserQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<UserAccepted>), Problem> {
    write_user(state, name, query, &headers, body, Mode::Merge).await
}

async fn write_user(
    State(api): State<Arc<Api>>,
    PathTexts(label, id): PathTexts,
    Parameters(query): Parameters<UserQuery>,
    headers: &HeaderMap,
    body: Body,
    mode: Mode,
) -> Result<(StatusCode, Json<UserAccepted>), Problem> {
    api.allow(headers, Use::ChangeUsers).await?;
    let app = api.app_named(query.app.as_deref()).await?;
    let form: UserForm = json_body::read(headers, body, MAX_USER_BYTES).await?;
    let change = change_of((&label, &id), form, &app, mode)?;
    let results = if query.dry_run {
        api.people.would_accept(app.id, &[change], Origin::Api).await?
    } else {
        api.people.accept(app.id, &[change], Origin::Api).await?
    };
    let result = results.into_iter().next().ok_or_else(unavailable)?;
    let status = if query.dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(UserAccepted::new(result?, query.dry_run))))
}

/// Creates or changes up to 1,000 users. Each is complete or not at all; one with a problem does not affect the others.
/// Users who are unknown are created, and tags are added to those that are known.
#[utoipa::path(
    post, path = "/v1/users/batch", tag = "users", request_body = Vec<BatchUser>, params(UserQuery),
    responses(
        (status = 200, description = "The results of a dry run", body = BatchUsers),
        (status = 202, description = "The valid changes are stored", body = BatchUsers),
    )
)]
pub(super) async fn post_users(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<UserQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<BatchUsers>), Problem> {
    api.allow(&headers, Use::ChangeUsers).await?;
    let app = api.app_named(query.app.as_deref()).await?;
    let items: Vec<Value> = json_body::read(&headers, body, MAX_BATCH_BYTES).await?;
    if items.is_empty() || items.len() > MAX_BATCH {
        let detail = format!("a batch has 1 to {MAX_BATCH} users, not {}", items.len());
        return Err(Problem::fields(Code::InvalidFields, vec![FieldError::new("", "invalid", detail)]));
    }
    let read: Vec<Result<UserChange, Problem>> =
        items.into_iter().map(|item| batch_change(item, &app)).collect();
    let changes: Vec<UserChange> = read.iter().filter_map(|change| change.as_ref().ok()).cloned().collect();
    let stored = match changes.as_slice() {
        [] => Vec::new(),
        changes if query.dry_run => api.people.would_accept(app.id, changes, Origin::Api).await?,
        changes => api.people.accept(app.id, changes, Origin::Api).await?,
    };
    let mut stored = stored.into_iter();
    let results = read.into_iter().map(|change| {
        let result = match change {
            Ok(_) => stored.next().ok_or_else(unavailable).and_then(|result| result.map_err(Problem::from)),
            Err(problem) => Err(problem),
        };
        match result {
            Ok(user) => BatchUserResult { user: Some(UserAccepted::new(user, query.dry_run)), problem: None },
            Err(problem) => BatchUserResult { user: None, problem: Some(problem.body()) },
        }
    });
    let results: Vec<BatchUserResult> = results.collect();
    let accepted = results.iter().filter(|result| result.user.is_some()).count();
    let status = if query.dry_run { StatusCode::OK } else { StatusCode::ACCEPTED };
    Ok((status, Json(BatchUsers { accepted, rejected: results.len() - accepted, results })))
}

/// Shows what Herald holds about a user, what is pending, and OneSignal's last answer.
#[utoipa::path(
    get, path = "/v1/users/{label}/{id}", tag = "users",
    params(("label" = String, Path, description = "`external_id`, or an alias label"), ("id" = String, Path)),
    responses(
        (status = 200, description = "The user", body = UserBody),
        (status = 404, description = "Herald does not know such a user", body = ProblemBody,
            content_type = "application/problem+json"),
    )
)]
pub(super) async fn get_user(
    State(api): State<Arc<Api>>,
    PathTexts(label, id): PathTexts,
    headers: HeaderMap,
) -> Result<Json<UserBody>, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let apps = api.store.apps().await?;
    match api.store.find_user(&label, &id).await? {
        Some(user) => Ok(Json(user_body(user, &apps))),
        None => Err(api.unknown_user(&label, &id).await?),
    }
}

pub(super) fn user_body(user: StoredUser, apps: &[App]) -> UserBody {
    UserBody {
        id: UserId::from_uuid(user.id),
        aliases: user.aliases,
        language: user.locale,
        time_zone: user.time_zone,
        opted_out: user.opted_out,
        created_at: user.created_at,
        updated_at: user.updated_at,
        apps: user.apps.into_iter().map(|state| app_body(state, apps)).collect(),
    }
}

fn app_body(state: AppState, apps: &[App]) -> UserAppBody {
    let name = apps
        .iter()
        .find(|app| app.id == state.app)
        .map_or_else(|| state.app.to_string(), |app| app.name.clone());
    let label = state.label();
    let next_call_at = state.pending.as_ref().map(|pending| pending.due_at);
    let pending = match state.pending.map(|pending| pending.changes.to_json()) {
        Some(Value::Object(pending)) => pending,
        Some(_) | None => Map::new(),
    };
    let Some(last) = state.last else {
        return UserAppBody {
            app: name,
            state: label,
            pending,
            next_call_at,
            confirmed: Vec::new(),
            refused: Vec::new(),
            onesignal_id: None,
            last_answer: None,
        };
    };
    UserAppBody {
        app: name,
        state: label,
        pending,
        next_call_at,
        confirmed: last.confirmed,
        refused: last.refused.into_iter().map(refused_part).collect(),
        onesignal_id: last.onesignal_id.map(|id| id.to_string()),
        last_answer: Some(UserAnswerBody { code: last.answer, detail: last.detail, at: last.answered_at }),
    }
}

fn refused_part((part, reason): (String, Value)) -> RefusedPart {
    let text = |name: &str| reason[name].as_str().unwrap_or_default().to_owned();
    let code = text("code");
    RefusedPart { part, remedy: remedy(&code), detail: text("detail"), at: text("at").parse().ok(), code }
}

impl Api {
    /// The app of this name or OneSignal ID; without one, the default app.
    ///
    /// # Errors
    /// 422 if there is none.
    pub(super) async fn app_named(&self, name: Option<&str>) -> Result<App, Problem> {
        let apps = self.store.apps().await?;
        let found = match name {
            Some(name) => apps.into_iter().find(|app| app.is_called(name)),
            None => apps.into_iter().find(|app| app.is_default),
        };
        found.ok_or_else(|| {
            let detail = match name {
                Some(_) => "there is no app with this name or OneSignal ID",
                None => "there is no default app: name one with `?app=`",
            };
            Problem::new(Code::BadParameter, detail)
        })
    }
}

fn change_of(name: (&str, &str), form: UserForm, app: &App, mode: Mode) -> Result<UserChange, Problem> {
    if name.0 == "onesignal_id" && mode != Mode::Merge {
        let detail =
            "OneSignal assigns `onesignal_id`: nobody can be created by it; use PATCH, or `external_id`";
        return Err(Problem::fields(Code::InvalidFields, vec![FieldError::new("", "bad_user", detail)]));
    }
    let input =
        UserInput::check(name, form, app.alias_labels.as_deref()).map_err(|found| problem_of(found, ""))?;
    Ok(UserChange { input, mode })
}

fn batch_change(item: Value, app: &App) -> Result<UserChange, Problem> {
    let BatchUser { user, aliases, subscriptions, tags, language, time_zone, country, latitude, longitude } =
        json_body::read_value(item)?;
    let mut named = user.into_iter();
    let (Some((label, id)), None) = (named.next(), named.next()) else {
        let detail = "name the user by one label with one id, such as {\"external_id\": \"user-42\"}";
        return Err(Problem::fields(Code::InvalidFields, vec![FieldError::new("/user", "invalid", detail)]));
    };
    let form = UserForm {
        aliases: aliases.unwrap_or_default(),
        subscriptions: subscriptions.unwrap_or_default(),
        tags,
        language,
        time_zone,
        country,
        latitude,
        longitude,
    };
    let input = UserInput::check((&label, &id), form, app.alias_labels.as_deref());
    Ok(UserChange { input: input.map_err(|found| problem_of(found, "/user"))?, mode: Mode::Upsert })
}

/// `place` is where the name of the user stands.
fn problem_of(found: Vec<UserProblem>, place: &str) -> Problem {
    let field = |problem: UserProblem| {
        let pointer = if problem.pointer.is_empty() { place.to_owned() } else { problem.pointer };
        FieldError::new(pointer, problem.code, problem.detail)
    };
    Problem::fields(Code::InvalidFields, found.into_iter().take(MAX_ERRORS).map(field).collect())
}

/// The maximum number of errors in a response.
const MAX_ERRORS: usize = 20;

fn unavailable() -> Problem {
    Problem::new(Code::Unavailable, "the change was not stored; try again")
}

impl From<ChangeError> for Problem {
    fn from(error: ChangeError) -> Self {
        let code = match error {
            ChangeError::AliasTaken { .. } => Code::AliasTaken,
            ChangeError::TooManyAliases => Code::InvalidFields,
            ChangeError::Erased => Code::Erased,
        };
        Self::new(code, error.to_string())
    }
}

impl From<AcceptError> for Problem {
    fn from(error: AcceptError) -> Self {
        match error {
            AcceptError::Busy => Self::new(Code::Unavailable, error.to_string()),
            AcceptError::Store(error) => error.into(),
        }
    }
}
