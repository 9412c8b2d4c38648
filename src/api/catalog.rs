//! The catalog's files as one JSON document: planning and applying changes.

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

/// Maximum total size of the catalog's files.
const MAX_CATALOG_BYTES: usize = 8 * 1024 * 1024;

/// The catalog's files as one document.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct CatalogRequest {
    /// File contents by path, such as `rules/order-shipped-push.toml`.
    files: Files,
    /// Version note for the new versions.
    #[serde(default)]
    note: String,
    /// Whether to remove what is not in the files: rules, partials and event types are deleted, templates archived.
    #[serde(default)]
    delete: bool,
    /// Proceed even if events that are sent today would be held.
    #[serde(default)]
    accept_held: bool,
}

#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ApplyQuery {
    /// `true`: returns what would change without changing anything.
    #[serde(default)]
    dry_run: bool,
}

/// Shows what applying these files would change.
#[utoipa::path(
    post, path = "/v1/catalog/plan", tag = "catalog", request_body = CatalogRequest,
    responses(
        (status = 200, description = "What would change", body = Applied),
        (status = 422, description = "Errors in the files", body = ProblemBody, content_type = "application/problem+json"),
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

/// Applies these files to the catalog; changed templates are published.
#[utoipa::path(
    post, path = "/v1/catalog/apply", tag = "catalog", request_body = CatalogRequest, params(ApplyQuery),
    responses(
        (status = 200, description = "What changed", body = Applied),
        (status = 422, description = "Errors in the files", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Real events would be held (override with `accept_held`)", body = ProblemBody, content_type = "application/problem+json"),
        (status = 502, description = "OneSignal rejected a template; the live version is unchanged", body = ProblemBody, content_type = "application/problem+json"),
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

/// The part of the result that a caller may see: individual events require `events:read`.
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
    /// File contents by path.
    files: Files,
    /// The catalog's revision.
    revision: i64,
}

/// Returns the catalog as files; applying them unchanged has no effect.
#[utoipa::path(get, path = "/v1/catalog", tag = "catalog", responses((status = 200, description = "Every file", body = CatalogFiles)))]
pub(super) async fn pull_catalog(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<CatalogFiles>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    Ok(Json(CatalogFiles { files: files::write(&snapshot), revision: snapshot.revision }))
}
