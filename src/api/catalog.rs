//! The catalog's files as one JSON document: planned and applied.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};

use super::parameters::Parameters;
use super::problem::{Problem, ProblemBody};
use super::{Api, json_body};
use crate::access::{Identity, Use};
use crate::catalog::files::{self, Files};
use crate::catalog::{Applied, ApplyError, Applying};

/// The catalog's files together at most.
const MAX_CATALOG_BYTES: usize = 8 * 1024 * 1024;

/// The catalog's files as one document.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogRequest {
    /// Texts by path, such as `rules/order-shipped-push.toml`.
    files: Files,
    /// Why, for the history of new versions.
    #[serde(default)]
    note: String,
    /// Whether what the files don't mention goes: rules, partials and event types are deleted, templates archived.
    #[serde(default)]
    delete: bool,
    /// Goes on though events that get their message today would be held.
    #[serde(default)]
    accept_held: bool,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// `true`: answers what would change and changes nothing.
    #[serde(default)]
    dry_run: bool,
}

/// Says what applying these files would change.
#[utoipa::path(
    post, path = "/v1/catalog/plan", tag = "catalog", request_body = CatalogRequest,
    responses(
        (status = 200, description = "What would change", body = Applied),
        (status = 422, description = "What is wrong with the files", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn plan_catalog(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Applied>, Problem> {
    let identity = api.allow(&headers, Use::PlanCatalog).await?;
    let request = json_body::read::<CatalogRequest>(&headers, body, MAX_CATALOG_BYTES).await?;
    seen_by(&api, &identity, api.publisher.plan(&request.files, request.delete).await).await
}

/// Makes the catalog say what these files say; applied templates are live.
#[utoipa::path(
    post, path = "/v1/catalog/apply", tag = "catalog", request_body = CatalogRequest, params(ApplyQuery),
    responses(
        (status = 200, description = "What changed", body = Applied),
        (status = 422, description = "What is wrong with the files", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Real events would be held (`accept_held` goes on)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "OneSignal did not take a template; what was live still is", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn apply_catalog(
    State(api): State<Arc<Api>>,
    Parameters(query): Parameters<ApplyQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Applied>, Problem> {
    let identity = api.allow(&headers, Use::ApplyCatalog).await?;
    let request = json_body::read::<CatalogRequest>(&headers, body, MAX_CATALOG_BYTES).await?;
    let applied = if query.dry_run {
        api.publisher.plan(&request.files, request.delete).await
    } else {
        let by = identity.by(&request.note)?;
        let how = Applying { deletes: request.delete, accepts_held_events: request.accept_held };
        api.publisher.apply(&request.files, how, by).await
    };
    seen_by(&api, &identity, applied).await
}

/// What a caller may see of what applying came to: single events only with `events:read`.
async fn seen_by(
    api: &Api,
    identity: &Identity,
    applied: Result<Applied, ApplyError>,
) -> Result<Json<Applied>, Problem> {
    match applied {
        Ok(mut applied) if !applied.traffic.is_empty() => {
            for report in applied.traffic.values_mut() {
                *report = api.seen_by(identity, std::mem::take(report)).await?;
            }
            Ok(Json(applied))
        }
        Ok(applied) => Ok(Json(applied)),
        Err(error) => Err(api.problem_seen_by(identity, error.into()).await?),
    }
}

/// The catalog's files.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct CatalogFiles {
    /// Texts by path.
    files: Files,
    /// The catalog's revision.
    revision: i64,
}

/// Reads the catalog as files: applying them again changes nothing.
#[utoipa::path(get, path = "/v1/catalog", tag = "catalog", responses((status = 200, description = "Every file", body = CatalogFiles)))]
pub(super) async fn pull_catalog(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<CatalogFiles>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    Ok(Json(CatalogFiles { files: files::write(&snapshot), revision: snapshot.revision }))
}
