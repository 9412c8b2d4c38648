//! Issues, grouped by reason.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::Api;
use super::parameters::Parameters;
use super::problem::{Code, FieldError, Problem};
use crate::access::Use;
use crate::domain::id::DeliveryId;
use crate::domain::remedy::remedy;

/// Default time range.
const LOOK_BACK: TimeDelta = TimeDelta::days(7);

/// Time range.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct IssueQuery {
    /// Deliveries created at or after this time (RFC 3339); 7 days ago if omitted.
    since: Option<String>,
}

/// Deliveries with the same issue.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct IssueBody {
    /// `held`, or their final state.
    state: String,
    code: String,
    rule: String,
    template: String,
    count: i64,
    /// The decision about one of them.
    detail: String,
    /// Suggested action.
    remedy: &'static str,
    /// The latest of them.
    #[schema(value_type = String)]
    example: DeliveryId,
    oldest_at: DateTime<Utc>,
    newest_at: DateTime<Utc>,
}

/// The open issues.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct IssueList {
    since: DateTime<Utc>,
    /// Largest first.
    groups: Vec<IssueBody>,
    /// Whether the list is complete: only the latest 50,000 decisions are considered.
    is_complete: bool,
}

/// Lists issues: held deliveries, and failed ones that were not replayed.
#[utoipa::path(
    get, path = "/v1/issues", tag = "deliveries", params(IssueQuery),
    responses((status = 200, description = "The groups", body = IssueList))
)]
pub(super) async fn list_issues(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<IssueQuery>,
    headers: HeaderMap,
) -> Result<Json<IssueList>, Problem> {
    api.allow(&headers, Use::ReadOverviews).await?;
    let parse = |text: &str| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    let since = query.since.as_deref().map(parse).transpose().map_err(|_| {
        let error = FieldError::new("since", "bad_parameter", "write it as 2026-11-24T08:00:00Z");
        Problem::fields(Code::BadParameter, vec![error])
    })?;
    let since = since.unwrap_or_else(|| api.clock.now() - LOOK_BACK);
    let (groups, is_complete) = api.store.issues(since).await?;
    let groups = groups.into_iter().map(|group| IssueBody {
        remedy: remedy(&group.key.state, &group.key.code),
        state: group.key.state,
        code: group.key.code,
        rule: group.key.rule,
        template: group.key.template,
        count: group.count,
        detail: group.detail,
        example: group.example,
        oldest_at: group.oldest_at,
        newest_at: group.newest_at,
    });
    Ok(Json(IssueList { since, groups: groups.collect(), is_complete }))
}
