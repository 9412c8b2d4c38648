//! Gates: listing, closing (pausing) and opening (resuming).

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::parameters::PathTexts;
use super::problem::{Code, FieldError, Problem, ProblemBody};
use super::{Api, json_body};
use crate::access::Use;
use crate::domain::gate::PAUSED;
use crate::store::gates::NamedGate;

/// Maximum request size.
const MAX_BYTES: usize = 16 * 1024;

/// A closed or half-open gate.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct GateBody {
    /// `app`, `rule` or `template_version`.
    scope: String,
    /// The app's name, the rule's key, or `template@version`.
    subject: String,
    /// `paused` manually; `rate_limited`, `key_refused`, `app_unusable`, `breaker_open` or `refused` automatically.
    code: String,
    detail: String,
    closed_at: DateTime<Utc>,
    /// When it may open automatically; `null` if it has to be opened manually.
    closed_until: Option<DateTime<Utc>>,
}

impl From<NamedGate> for GateBody {
    fn from(gate: NamedGate) -> Self {
        Self {
            scope: gate.scope,
            subject: gate.name,
            closed_until: (gate.code != PAUSED).then_some(gate.closed_until),
            code: gate.code,
            detail: gate.detail,
            closed_at: gate.closed_at,
        }
    }
}

/// Why a gate is closed.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct GateRequest {
    /// The reason, shown wherever the pause is displayed.
    reason: String,
}

/// Lists closed and half-open gates.
#[utoipa::path(get, path = "/v1/gates", tag = "apps", responses((status = 200, description = "Closed and half-open gates", body = Vec<GateBody>)))]
pub(super) async fn list_gates(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Vec<GateBody>>, Problem> {
    api.allow(&headers, Use::ReadApps).await?;
    Ok(Json(api.store.named_gates().await?.into_iter().map(GateBody::from).collect()))
}

/// Closes a gate: nothing is sent through it until it is opened. Calls in progress are not aborted.
#[utoipa::path(
    put, path = "/v1/gates/{scope}/{subject}", tag = "apps", request_body = GateRequest,
    params(
        ("scope" = String, Path, description = "`app`, `rule` or `template_version`"),
        ("subject" = String, Path, description = "App ID or name, rule key, or `template@version`; `app/all` for every app"),
    ),
    responses(
        (status = 200, description = "The closed gates", body = Vec<GateBody>),
        (status = 404, description = "Not found", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn close_gate(
    State(api): State<Arc<Api>>,
    PathTexts(scope, name): PathTexts,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Vec<GateBody>>, Problem> {
    let identity = api.allow(&headers, Use::ChangeGate).await?;
    let asked: GateRequest = json_body::read(&headers, body, MAX_BYTES).await?;
    let reason = asked.reason.trim();
    if reason.is_empty() {
        let error = FieldError::new(
            "/reason",
            "invalid",
            "a reason is required; it is shown wherever the pause is displayed",
        );
        return Err(Problem::fields(Code::InvalidFields, vec![error]));
    }
    if !api.publisher.close_gate(&scope, &name, identity.by(reason)?).await? {
        return Err(unknown(&scope, &name));
    }
    api.pipeline.wake();
    list_gates(State(api), headers).await
}

/// Opens a gate, no matter what closed it.
#[utoipa::path(
    delete, path = "/v1/gates/{scope}/{subject}", tag = "apps",
    params(
        ("scope" = String, Path, description = "`app`, `rule` or `template_version`"),
        ("subject" = String, Path, description = "App ID or name, rule key, or `template@version`; `app/all` for every app"),
    ),
    responses((status = 204, description = "Opened"), (status = 404, description = "Not found"))
)]
pub(super) async fn open_gate(
    State(api): State<Arc<Api>>,
    PathTexts(scope, name): PathTexts,
    headers: HeaderMap,
) -> Result<StatusCode, Problem> {
    let identity = api.allow(&headers, Use::ChangeGate).await?;
    if !api.publisher.open_gate(&scope, &name, identity.by("")?).await? {
        return Err(unknown(&scope, &name));
    }
    api.pipeline.wake();
    Ok(StatusCode::NO_CONTENT)
}

fn unknown(scope: &str, name: &str) -> Problem {
    let detail = match scope {
        "app" | "rule" | "template_version" => format!("there is no {} {name}", scope.replace('_', " ")),
        _ => format!("`{scope}` has no gate: scopes are app, rule and template_version"),
    };
    Problem::new(Code::NotFound, detail)
}
