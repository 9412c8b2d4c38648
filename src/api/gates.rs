//! Gates: what is stopped and why; closed and opened by people.

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

/// A request's size at most.
const MAX_BYTES: usize = 16 * 1024;

/// A gate that is not open.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct GateBody {
    /// `app`, `rule` or `template_version`.
    scope: String,
    /// The app's name, the rule's key, or `template@version`.
    subject: String,
    /// `paused` by a person; `rate_limited`, `key_refused`, `app_unusable`, `breaker_open` or `refused` by itself.
    code: String,
    detail: String,
    closed_at: DateTime<Utc>,
    /// When it may open by itself; `null`: a person opens it.
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
    /// For whoever wonders why nothing goes out.
    reason: String,
}

/// Lists gates that are not open.
#[utoipa::path(get, path = "/v1/gates", tag = "apps", responses((status = 200, description = "Closed and half-open gates", body = Vec<GateBody>)))]
pub(super) async fn list_gates(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Vec<GateBody>>, Problem> {
    api.allow(&headers, Use::ReadApps).await?;
    Ok(Json(api.store.named_gates().await?.into_iter().map(GateBody::from).collect()))
}

/// Closes a gate: nothing goes out through it until it is opened. What is under way is not called back.
#[utoipa::path(
    put, path = "/v1/gates/{scope}/{subject}", tag = "apps", request_body = GateRequest,
    params(
        ("scope" = String, Path, description = "`app`, `rule` or `template_version`"),
        ("subject" = String, Path, description = "The app's id or name, the rule's key, or `template@version`; every app with `app/all`"),
    ),
    responses(
        (status = 200, description = "What is stopped now", body = Vec<GateBody>),
        (status = 404, description = "No such thing", body = ProblemBody, content_type = "application/problem+json"),
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
        let error =
            FieldError::new("/reason", "invalid", "say why, for whoever wonders why nothing goes out");
        return Err(Problem::fields(Code::InvalidFields, vec![error]));
    }
    if !api.publisher.close_gate(&scope, &name, identity.by(reason)?).await? {
        return Err(unknown(&scope, &name));
    }
    api.pipeline.wake();
    list_gates(State(api), headers).await
}

/// Opens a gate, whoever closed it.
#[utoipa::path(
    delete, path = "/v1/gates/{scope}/{subject}", tag = "apps",
    params(
        ("scope" = String, Path, description = "`app`, `rule` or `template_version`"),
        ("subject" = String, Path, description = "The app's id or name, the rule's key, or `template@version`; every app with `app/all`"),
    ),
    responses((status = 204, description = "It is open"), (status = 404, description = "No such thing"))
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
