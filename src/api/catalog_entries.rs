//! Event types, partials and rules: listing, reading, writing and deleting individual entries.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::entry_schemas::{EventTypeBody, RuleBody};
use super::parameters::{Parameters, PathText};
use super::problem::{Code, Problem, ProblemBody};
use super::{Api, etag, json_body};
use crate::access::Use;
use crate::catalog::Applied;
use crate::catalog::entries::{Entry, entry_version, rule_form};
use crate::catalog::forms::{EventTypeForm, RuleForm};
use crate::domain::rule::Action;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::plain_lines;

/// Maximum size of an entry.
const MAX_ENTRY_BYTES: usize = 1024 * 1024;

/// Options of a change.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct ChangeQuery {
    /// `true`: returns what would change without changing anything.
    #[serde(default)]
    dry_run: bool,
    /// Reason, for the audit log.
    #[serde(default)]
    note: String,
}

/// A list of catalog entries, by name.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Entries {
    #[schema(value_type = Vec<Object>)]
    data: Vec<Value>,
    /// Always `null`: all entries are on one page.
    next_cursor: Option<String>,
}

/// A partial to save.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PartialForm {
    /// Description.
    #[serde(default)]
    description: String,
    /// The text.
    body: String,
}

/// Parses a JSON body into a handler's request type.
///
/// # Errors
/// As for [`json_body::read`].
pub(super) async fn read<T: DeserializeOwned>(headers: &HeaderMap, body: Body) -> Result<T, Problem> {
    json_body::read(headers, body, MAX_ENTRY_BYTES).await
}

fn entries(data: Vec<Value>) -> Json<Entries> {
    Json(Entries { data, next_cursor: None })
}

fn missing(what: &str, name: &str) -> Problem {
    Problem::new(Code::NotFound, format!("there is no {what} {name}"))
}

fn with(mut form: Value, name: (&str, &str), version: i32) -> Value {
    form[name.0] = json!(name.1);
    form["version"] = json!(version);
    form
}

async fn put(
    api: &Api,
    headers: &HeaderMap,
    name: &str,
    (kind, entry): (&str, Entry),
    query: ChangeQuery,
) -> Result<Response, Problem> {
    let identity = api.allow(headers, Use::ChangeCatalog).await?;
    let version = etag::wanted(headers, entry_version(&api.store.snapshot().await?, kind, name))?;
    let by = identity.by(&query.note)?;
    let applied = api.publisher.put_entry(name, entry, (version, query.dry_run), by).await?;
    let present = entry_version(&api.store.snapshot().await?, kind, name);
    Ok((etag::etag(present), Json(applied)).into_response())
}

async fn delete(
    api: &Api,
    headers: &HeaderMap,
    (kind, name): (&'static str, &str),
    query: ChangeQuery,
) -> Result<Json<Applied>, Problem> {
    let identity = api.allow(headers, Use::ChangeCatalog).await?;
    let present = entry_version(&api.store.snapshot().await?, kind, name);
    if present == 0 {
        return Err(missing(&kind.replace('_', " "), name));
    }
    let version = etag::wanted(headers, present)?;
    let by = identity.by(&query.note)?;
    Ok(Json(api.publisher.delete_entry((kind, name), (version, query.dry_run), by).await?))
}

fn event_type_body(snapshot: &CatalogSnapshot, name: &str) -> Option<(Value, i32)> {
    let entry = snapshot.event_types.iter().find(|entry| entry.name.as_str() == name)?;
    let form = serde_json::to_value(EventTypeForm::of(entry)).unwrap_or_default();
    let rules: Vec<&str> = snapshot
        .rules
        .iter()
        .filter(|rule| crate::domain::event::covers(&rule.event_type, &entry.name))
        .map(|rule| rule.key.as_str())
        .collect();
    let mut body = with(form, ("name", name), entry.version);
    body["used_by"] = json!({"rules": rules});
    Some((body, entry.version))
}

/// Lists event types.
#[utoipa::path(get, path = "/v1/event-types", tag = "catalog", responses((status = 200, description = "Every event type", body = Entries)))]
pub(super) async fn list_event_types(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Entries>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    let names = snapshot.event_types.iter().map(|entry| entry.name.as_str());
    Ok(entries(names.filter_map(|name| Some(event_type_body(&snapshot, name)?.0)).collect()))
}

/// Returns an event type, with the rules that it triggers.
#[utoipa::path(
    get, path = "/v1/event-types/{name}", tag = "catalog", params(("name" = String, Path, description = "order.shipped")),
    responses((status = 200, description = "The event type; its version is the `ETag`", body = EventTypeBody), (status = 404, description = "No such event type"))
)]
pub(super) async fn get_event_type(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    let (body, version) = event_type_body(&snapshot, &name).ok_or_else(|| missing("event type", &name))?;
    Ok((etag::etag(version), Json(body)).into_response())
}

/// Creates or replaces an event type. A schema that would break a live template or rule is rejected.
#[utoipa::path(
    put, path = "/v1/event-types/{name}", tag = "catalog", request_body = EventTypeForm,
    params(("name" = String, Path, description = "order.shipped"), ChangeQuery),
    responses(
        (status = 200, description = "What changed", body = Applied),
        (status = 412, description = "Changed in the meantime", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Errors, and what the change would break", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn put_event_type(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    Parameters(query): Parameters<ChangeQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ChangeCatalog).await?;
    let form: EventTypeForm = read(&headers, body).await?;
    put(&api, &headers, &name, ("event_type", Entry::EventType(form)), query).await
}

/// Deletes an event type that no rule uses.
#[utoipa::path(
    delete, path = "/v1/event-types/{name}", tag = "catalog", params(("name" = String, Path, description = "order.shipped"), ChangeQuery),
    responses((status = 200, description = "Deleted", body = Applied), (status = 422, description = "A rule uses it", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn delete_event_type(
    State(api): State<Arc<Api>>,
    PathText(name): PathText,
    Parameters(query): Parameters<ChangeQuery>,
    headers: HeaderMap,
) -> Result<Json<Applied>, Problem> {
    delete(&api, &headers, ("event_type", &name), query).await
}

fn partial_body(snapshot: &CatalogSnapshot, key: &str) -> Option<(Value, i32)> {
    let partial = snapshot.partials.iter().find(|partial| partial.key == key)?;
    let users: Vec<&str> = snapshot
        .versions
        .iter()
        .filter(|version| version.partials.contains_key(key))
        .map(|version| version.template.as_str())
        .collect();
    let form =
        json!({"description": partial.description, "body": partial.body, "used_by": {"templates": users}});
    Some((with(form, ("key", key), partial.version), partial.version))
}

/// Lists partials.
#[utoipa::path(get, path = "/v1/partials", tag = "catalog", responses((status = 200, description = "Every partial", body = Entries)))]
pub(super) async fn list_partials(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Entries>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    let keys = snapshot.partials.iter().map(|partial| partial.key.as_str());
    Ok(entries(keys.filter_map(|key| Some(partial_body(&snapshot, key)?.0)).collect()))
}

/// Returns a partial, with the live templates that include it.
#[utoipa::path(
    get, path = "/v1/partials/{key}", tag = "catalog", params(("key" = String, Path, description = "footer")),
    responses((status = 200, description = "The partial; its version is the `ETag`", body = Object), (status = 404, description = "No such partial"))
)]
pub(super) async fn get_partial(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    let (body, version) = partial_body(&snapshot, &key).ok_or_else(|| missing("partial", &key))?;
    Ok((etag::etag(version), Json(body)).into_response())
}

/// Creates or replaces a partial. Live templates keep the text that they were published with.
#[utoipa::path(
    put, path = "/v1/partials/{key}", tag = "catalog", request_body = PartialForm,
    params(("key" = String, Path, description = "footer"), ChangeQuery),
    responses((status = 200, description = "What changed", body = Applied), (status = 422, description = "Errors in the request", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn put_partial(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    Parameters(query): Parameters<ChangeQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ChangeCatalog).await?;
    let PartialForm { description, body } = read(&headers, body).await?;
    let body = plain_lines(&body);
    put(&api, &headers, &key, ("partial", Entry::Partial { description, body }), query).await
}

/// Deletes a partial that no live template includes.
#[utoipa::path(
    delete, path = "/v1/partials/{key}", tag = "catalog", params(("key" = String, Path, description = "footer"), ChangeQuery),
    responses((status = 200, description = "Deleted", body = Applied), (status = 422, description = "A template includes it", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn delete_partial(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    Parameters(query): Parameters<ChangeQuery>,
    headers: HeaderMap,
) -> Result<Json<Applied>, Problem> {
    delete(&api, &headers, ("partial", &key), query).await
}

fn rule_body(snapshot: &CatalogSnapshot, key: &str) -> Option<(Value, i32)> {
    let rule = snapshot.rules.iter().find(|rule| rule.key == key)?;
    let mut body = with(rule_form(rule, snapshot), ("key", key), rule.version);
    body["does"] = json!(match &rule.definition.action {
        Action::Send { .. } => "send",
        Action::Tag(_) => "tag",
        Action::Track { .. } => "track",
        Action::Cancel(_) => "cancel",
    });
    Some((body, rule.version))
}

/// Lists rules.
#[utoipa::path(get, path = "/v1/rules", tag = "catalog", responses((status = 200, description = "Every rule", body = Entries)))]
pub(super) async fn list_rules(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Entries>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    let keys = snapshot.rules.iter().map(|rule| rule.key.as_str());
    Ok(entries(keys.filter_map(|key| Some(rule_body(&snapshot, key)?.0)).collect()))
}

/// Returns a rule.
#[utoipa::path(
    get, path = "/v1/rules/{key}", tag = "catalog", params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 200, description = "The rule; its version is the `ETag`", body = RuleBody), (status = 404, description = "No such rule"))
)]
pub(super) async fn get_rule(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let snapshot = api.store.snapshot().await?;
    let (body, version) = rule_body(&snapshot, &key).ok_or_else(|| missing("rule", &key))?;
    Ok((etag::etag(version), Json(body)).into_response())
}

/// Creates or replaces a rule. Its expressions are checked against the schemas of its event types.
#[utoipa::path(
    put, path = "/v1/rules/{key}", tag = "catalog", request_body = RuleForm,
    params(("key" = String, Path, description = "order-shipped-push"), ChangeQuery),
    responses((status = 200, description = "What changed", body = Applied), (status = 422, description = "Errors in the request", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn put_rule(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    Parameters(query): Parameters<ChangeQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ChangeCatalog).await?;
    let form: RuleForm = read(&headers, body).await?;
    put(&api, &headers, &key, ("rule", Entry::Rule(Box::new(form))), query).await
}

/// Deletes a rule.
#[utoipa::path(
    delete, path = "/v1/rules/{key}", tag = "catalog", params(("key" = String, Path, description = "order-shipped-push"), ChangeQuery),
    responses((status = 200, description = "Deleted", body = Applied), (status = 404, description = "No such rule"))
)]
pub(super) async fn delete_rule(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    Parameters(query): Parameters<ChangeQuery>,
    headers: HeaderMap,
) -> Result<Json<Applied>, Problem> {
    delete(&api, &headers, ("rule", &key), query).await
}
