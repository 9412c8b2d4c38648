//! Replays: planning with `?dry_run=true`, running, listing.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::openapi::schema::{ObjectBuilder, OneOfBuilder, Schema, Type};

use super::events::WriteQuery;
use super::listing::Page;
use super::parameters::{Parameters, PathText};
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, body, json_body, strict_json};
use crate::access::Use;
use crate::domain::delivery::StateName;
use crate::domain::id::{DeliveryId, ReplayId, TypedId};
use crate::pipeline::operator::replay::{
    Candidate, MAX, ReplayPlan, ReplayVersion, ReplayWish, Replayed, ReplayedBy,
};
use crate::store::replays::{ReplayFilter, ReplayRow};

/// Maximum request size.
const MAX_BYTES: usize = 512 * 1024;
/// How far back a filter without `since` looks.
const LOOK_BACK: TimeDelta = TimeDelta::days(7);
/// Maximum deliveries in a response.
const SHOWN: usize = 100;
/// Deliveries that a plan shows as a sample.
const SAMPLE: usize = 10;
/// The states that can be replayed.
const FINAL: [&str; 8] =
    ["exhausted", "rejected", "expired", "unreachable", "unknown", "cancelled", "skipped", "accepted"];

/// `"same"`, `"live"` or a version's number.
fn version_schema() -> Schema {
    let word = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(["same", "live"]));
    let number = ObjectBuilder::new().schema_type(Type::Integer).minimum(Some(1)).maximum(Some(i32::MAX));
    Schema::OneOf(OneOfBuilder::new().item(word).item(number).build())
}

/// A replay request.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayRequest {
    /// Which deliveries.
    #[serde(default)]
    filter: FilterBody,
    /// `"same"` (the pinned one, as before), `"live"`, or a version's number.
    #[serde(default)]
    #[schema(schema_with = version_schema)]
    version: Option<Value>,
    /// Reason, shown on each delivery.
    reason: String,
    /// Include deliveries that may already have reached the recipient.
    #[serde(default)]
    may_duplicate: bool,
    /// Include expired deliveries.
    #[serde(default)]
    even_if_expired: bool,
}

/// A request to replay one delivery.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayOneRequest {
    /// `"same"` (the pinned one, as before), `"live"`, or a version's number.
    #[serde(default)]
    #[schema(schema_with = version_schema)]
    version: Option<Value>,
    /// Reason, shown on the delivery.
    reason: String,
    /// Replay even if it may already have reached the recipient.
    #[serde(default)]
    may_duplicate: bool,
    /// Replay even if it has expired.
    #[serde(default)]
    even_if_expired: bool,
}

/// Which deliveries; all given conditions must match.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct FilterBody {
    /// Delivery IDs (`dlv_…`).
    deliveries: Vec<String>,
    /// States; `exhausted` and `rejected` if neither deliveries nor states are given.
    states: Vec<String>,
    /// Event type.
    r#type: Option<String>,
    /// Rule.
    rule: Option<String>,
    /// Template.
    template: Option<String>,
    /// Code of the last decision.
    code: Option<String>,
    /// Created at or after this time; 7 days ago if omitted.
    since: Option<DateTime<Utc>>,
    /// Created before this time.
    until: Option<DateTime<Utc>>,
}

/// Deliveries with the same final decision.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct GroupBody {
    state: &'static str,
    /// The last decision about them.
    code: Option<String>,
    detail: Option<String>,
    count: usize,
}

/// Skipped deliveries.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct LeftOutBody {
    code: &'static str,
    detail: &'static str,
    count: usize,
}

/// Number of deliveries by template version.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct VersionCount {
    template: String,
    version: i32,
    count: usize,
}

/// A replayed delivery, and the new one once it is created.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AgainBody {
    #[schema(value_type = String)]
    replay_of: DeliveryId,
    #[schema(value_type = Option<String>)]
    id: Option<DeliveryId>,
    state: &'static str,
    rule: String,
    template: String,
    version: i32,
    may_be_second_copy: bool,
}

/// A replay or its plan.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReplayBody {
    /// The replay's ID; absent in a dry run.
    #[schema(value_type = Option<String>)]
    id: Option<ReplayId>,
    /// Number of replayed deliveries.
    count: usize,
    /// How many of these may reach the recipient a second time.
    second_copies: usize,
    /// The deliveries by final decision.
    groups: Vec<GroupBody>,
    /// The template versions that they will use.
    versions: Vec<VersionCount>,
    /// Deliveries that match the filter but are skipped.
    left_out: Vec<LeftOutBody>,
    /// The first of them.
    deliveries: Vec<AgainBody>,
    /// Whether all matching deliveries are included (a replay includes at most 5,000).
    is_complete: bool,
}

/// A replay in a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct ReplayListed {
    #[schema(value_type = String)]
    id: ReplayId,
    at: DateTime<Utc>,
    actor: String,
    reason: String,
    deliveries: i32,
    /// The request.
    #[schema(value_type = Object)]
    request: Value,
}

impl From<ReplayRow> for ReplayListed {
    fn from(row: ReplayRow) -> Self {
        let ReplayRow { id, at, actor, reason, request, deliveries } = row;
        Self { id, at, actor, reason, deliveries, request }
    }
}

/// Replays the deliveries that match a filter. `?dry_run=true` returns the plan, with the number of possible
/// duplicates.
#[utoipa::path(
    post, path = "/v1/replays", tag = "deliveries", request_body = ReplayRequest, params(WriteQuery),
    responses(
        (status = 200, description = "The plan, or nothing matched", body = ReplayBody),
        (status = 202, description = "The deliveries were replayed", body = ReplayBody),
        (status = 422, description = "Invalid request; see `errors`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn create_replay(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ReplayBody>), Problem> {
    let identity = api.allow(&headers, Use::ReplayMany).await?;
    let said = strict_json::parse(&body::read_json(&headers, body, MAX_BYTES).await?)?;
    let asked: ReplayRequest = json_body::read_value(said.clone())?;
    let mut filter = filter(asked.filter)?;
    if filter.deliveries.is_empty() && filter.since.is_none() {
        filter.since = Some(api.clock.now() - LOOK_BACK);
    }
    let wish = ReplayWish {
        version: version(asked.version.as_ref())?,
        reason: reason(asked.reason)?,
        may_duplicate: asked.may_duplicate,
        even_if_expired: asked.even_if_expired,
        filter,
    };
    carry_out(&api, &wish, &identity, (&headers, &said), query.dry_run).await
}

/// Replays one delivery.
#[utoipa::path(
    post, path = "/v1/deliveries/{id}/replay", tag = "deliveries", request_body = ReplayOneRequest,
    params(WriteQuery, ("id" = String, Path, description = "dlv_…")),
    responses(
        (status = 200, description = "The plan", body = ReplayBody),
        (status = 202, description = "The delivery was replayed", body = ReplayBody),
        (status = 409, description = "It can't be replayed, or only with `may_duplicate` or `even_if_expired`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn replay_delivery(
    State(api): State<Arc<Api>>,
    PathText(id): PathText,
    Parameters(query): Parameters<WriteQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ReplayBody>), Problem> {
    let (identity, visible) = api.allow_visible(&headers, Use::ReplayDelivery).await?;
    let said = strict_json::parse(&body::read_json(&headers, body, MAX_BYTES).await?)?;
    let asked: ReplayOneRequest = json_body::read_value(said.clone())?;
    let row = api.visible_delivery(&id, &visible).await?;
    if row.state.is_open() {
        let detail = if row.state == StateName::HELD {
            "it is held: release it instead".to_owned()
        } else {
            format!("it is {}: only deliveries in a final state can be replayed", row.state.as_str())
        };
        return Err(Problem::new(Code::NotReplayable, detail));
    }
    let states = FINAL.into_iter().filter_map(StateName::find).collect();
    let filter = ReplayFilter { deliveries: vec![row.id], states, ..ReplayFilter::default() };
    let wish = ReplayWish {
        version: version(asked.version.as_ref())?,
        reason: reason(asked.reason)?,
        may_duplicate: asked.may_duplicate,
        even_if_expired: asked.even_if_expired,
        filter,
    };
    let (status, body) = carry_out(&api, &wish, &identity, (&headers, &said), query.dry_run).await?;
    match body.left_out.first() {
        Some(why) if body.count == 0 => Err(Problem::new(Code::NotReplayable, why.detail)),
        _ => Ok((status, body)),
    }
}

async fn carry_out(
    api: &Api,
    wish: &ReplayWish,
    identity: &crate::access::Identity,
    (headers, said): (&HeaderMap, &Value),
    dry_run: bool,
) -> Result<(StatusCode, Json<ReplayBody>), Problem> {
    let by = identity.by(&wish.reason)?;
    if dry_run {
        let plan = api.pipeline.plan_replay(wish).await?;
        return Ok((StatusCode::OK, Json(body_of(&plan, None, &[]))));
    }
    let request_key = headers.get("idempotency-key").and_then(|value| value.to_str().ok());
    let request_key = request_key.map(|key| format!("{}:{key}", identity.source));
    let by = ReplayedBy {
        actor: by.actor,
        id: identity.key.uuid(),
        request_key: request_key.as_deref(),
        request: said,
    };
    let Replayed { replay, made, plan } = api.pipeline.replay(wish, by).await?;
    let Some(replay) = replay else { return Ok((StatusCode::OK, Json(body_of(&plan, None, &[])))) };
    let mut body = body_of(&plan, Some(replay.id), &made);
    body.count = usize::try_from(replay.deliveries).unwrap_or_default();
    Ok((StatusCode::ACCEPTED, Json(body)))
}

fn wrong(pointer: &str, detail: &str) -> Problem {
    Problem::fields(Code::InvalidFields, vec![FieldError::new(pointer, "invalid", detail)])
}

fn reason(said: String) -> Result<String, Problem> {
    if said.trim().is_empty() {
        return Err(wrong("/reason", "a reason is required; it is shown on each delivery"));
    }
    Ok(said)
}

fn version(said: Option<&Value>) -> Result<ReplayVersion, Problem> {
    match said {
        None => Ok(ReplayVersion::Same),
        Some(Value::String(word)) if word == "same" => Ok(ReplayVersion::Same),
        Some(Value::String(word)) if word == "live" => Ok(ReplayVersion::Live),
        Some(Value::Number(number)) => match number.as_i64().and_then(|n| i32::try_from(n).ok()) {
            Some(number) if number > 0 => Ok(ReplayVersion::Number(number)),
            _ => Err(wrong("/version", "a version number must be 1 or more")),
        },
        Some(_) => Err(wrong("/version", "must be \"same\", \"live\" or a version number")),
    }
}

fn filter(said: FilterBody) -> Result<ReplayFilter, Problem> {
    let mut errors = Vec::new();
    let mut deliveries = Vec::with_capacity(said.deliveries.len());
    for (place, text) in said.deliveries.iter().enumerate() {
        if let Ok(id) = text.parse() {
            deliveries.push(id);
        } else {
            let pointer = format!("/filter/deliveries/{place}");
            errors.push(FieldError::new(pointer, "invalid", "a delivery ID starts with dlv_"));
        }
    }
    if deliveries.len() > MAX {
        let detail = format!("a replay is limited to {MAX} deliveries");
        errors.push(FieldError::new("/filter/deliveries", "too_many", detail));
    }
    let usual: &[&str] = if deliveries.is_empty() { &["exhausted", "rejected"] } else { &FINAL };
    let named: Vec<&str> = said.states.iter().map(String::as_str).collect();
    let wanted = if named.is_empty() { usual.to_vec() } else { named };
    let mut states = Vec::new();
    for (place, word) in wanted.iter().enumerate() {
        if let Some(state) = StateName::find(word).filter(|state| !state.is_open()) {
            states.push(state);
        } else {
            let detail = format!("`{word}` is not a final state");
            let error = FieldError::new(format!("/filter/states/{place}"), "invalid", detail);
            errors.push(error.hint(format!("states are {}", FINAL.join(", "))));
        }
    }
    if !errors.is_empty() {
        return Err(Problem::fields(Code::InvalidFields, errors));
    }
    let FilterBody { r#type, rule, template, code, since, until, .. } = said;
    Ok(ReplayFilter { deliveries, states, event_type: r#type, rule, template, code, since, until })
}

/// The last decision about a delivery: code and detail.
type Why<'a> = Option<&'a (String, String)>;

fn body_of(plan: &ReplayPlan, id: Option<ReplayId>, made: &[(DeliveryId, DeliveryId)]) -> ReplayBody {
    let mut groups: BTreeMap<(&str, Why<'_>), usize> = BTreeMap::new();
    let mut versions: BTreeMap<(&str, i32), usize> = BTreeMap::new();
    for candidate in &plan.candidates {
        *groups.entry((candidate.state.as_str(), candidate.why.as_ref())).or_default() += 1;
        *versions.entry((&candidate.template, candidate.version)).or_default() += 1;
    }
    let new: BTreeMap<DeliveryId, DeliveryId> = made.iter().map(|(new, old)| (*old, *new)).collect();
    let again = |candidate: &Candidate| AgainBody {
        replay_of: candidate.of,
        id: new.get(&candidate.of).copied(),
        state: candidate.state.as_str(),
        rule: candidate.rule.clone(),
        template: candidate.template.clone(),
        version: candidate.version,
        may_be_second_copy: candidate.may_be_second_copy,
    };
    let shown = if id.is_some() { SHOWN } else { SAMPLE };
    ReplayBody {
        id,
        count: plan.candidates.len(),
        second_copies: plan.second_copies(),
        groups: groups
            .into_iter()
            .map(|((state, why), count)| GroupBody {
                state: StateName::find(state).map_or("", StateName::as_str),
                code: why.map(|(code, _)| code.clone()),
                detail: why.map(|(_, detail)| detail.clone()),
                count,
            })
            .collect(),
        versions: versions
            .into_iter()
            .map(|((template, version), count)| VersionCount {
                template: template.to_owned(),
                version,
                count,
            })
            .collect(),
        left_out: plan
            .left_out
            .iter()
            .map(|(why, count)| LeftOutBody { code: why.code(), detail: why.detail(), count: *count })
            .collect(),
        deliveries: plan.candidates.iter().take(shown).map(again).collect(),
        is_complete: plan.is_complete,
    }
}

/// Filters of the list of replays.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct ReplayListQuery {
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

/// Lists replays, newest first.
#[utoipa::path(
    get, path = "/v1/replays", tag = "deliveries", params(ReplayListQuery),
    responses((status = 200, description = "A page of replays", body = Page<ReplayListed>))
)]
pub(super) async fn list_replays(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<ReplayListQuery>,
    headers: HeaderMap,
) -> Result<Json<Page<ReplayListed>>, Problem> {
    const PAGE: i64 = 50;
    api.allow(&headers, Use::ReadOverviews).await?;
    let bad = |_| {
        let error = FieldError::new("cursor", "bad_parameter", "use `next_cursor` of the previous page");
        Problem::fields(Code::BadParameter, vec![error])
    };
    let before = query.cursor.as_deref().map(str::parse).transpose().map_err(bad)?;
    let rows = api.store.list_replays(before, PAGE).await?;
    Ok(Json(Page::new(rows, PAGE, |row| row.id.to_string(), ReplayListed::from)))
}
