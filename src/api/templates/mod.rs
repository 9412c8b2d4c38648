//! Templates: listing, creating, changing. Drafts and versions are in `drafts`, actions on them in `actions`.

pub(super) mod actions;
pub(super) mod drafts;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::catalog_entries::read;
use super::parameters::PathText;
use super::problem::{Code, Problem, ProblemBody};
use super::{Api, etag};
use crate::access::Use;
use crate::catalog::templates::new_template;
use crate::domain::channel::Channel;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::Template;

/// A template in a list.
#[derive(Debug, Serialize, utoipa::ToSchema)]
#[expect(clippy::struct_excessive_bools, reason = "four independent facts, named as in the API")]
pub(super) struct TemplateBody {
    key: String,
    /// `push`, `email` or `sms`.
    channel: String,
    description: String,
    owner: Option<String>,
    /// The event type that it is written for, in addition to those of its rules.
    event: Option<String>,
    needs_approval: bool,
    archived: bool,
    /// Increases with every change of these settings: its `ETag`.
    version: i32,
    /// The number of the live version.
    live_version: Option<i32>,
    /// The locales of the live version.
    locales: Vec<String>,
    has_draft: bool,
    /// Whether a partial was changed since the live version was published, which still uses the old text.
    partials_changed: bool,
    /// The rules that send it, with their event types.
    #[schema(value_type = Object)]
    used_by: serde_json::Value,
}

/// A new template.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct NewTemplate {
    key: String,
    /// `push`, `email` or `sms`; can't be changed later.
    #[schema(value_type = String)]
    channel: Channel,
    #[serde(flatten)]
    about: About,
}

/// A template's settings; omitted ones are kept.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(default)]
pub(super) struct About {
    /// Description.
    description: Option<String>,
    /// The owner; empty for none.
    owner: Option<String>,
    /// The event type that it is written for; empty for none.
    event: Option<String>,
    /// Whether a second person has to approve a draft before it goes live.
    needs_approval: Option<bool>,
    /// Whether it is archived. A template that a rule sends can't be archived.
    archived: Option<bool>,
}

/// A change of a template's settings.
#[derive(Debug, Default, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct AboutChange {
    /// Description.
    description: Option<String>,
    /// The owner; empty for none.
    owner: Option<String>,
    /// The event type that it is written for; empty for none.
    event: Option<String>,
    /// Whether a second person has to approve a draft before it goes live.
    needs_approval: Option<bool>,
    /// Whether it is archived. A template that a rule sends can't be archived.
    archived: Option<bool>,
    /// Reason, for the audit log.
    note: String,
}

impl About {
    fn lay_over(self, template: &mut Template) {
        let named = |text: String| Some(text).filter(|text| !text.is_empty());
        if let Some(description) = self.description {
            template.description = description;
        }
        if let Some(owner) = self.owner {
            template.owner = named(owner);
        }
        if let Some(event) = self.event {
            template.event_type = named(event);
        }
        template.needs_approval = self.needs_approval.unwrap_or(template.needs_approval);
        template.is_archived = self.archived.unwrap_or(template.is_archived);
    }
}

fn body(template: &Template, snapshot: &CatalogSnapshot, drafted: &[String]) -> TemplateBody {
    let live = snapshot.versions.iter().find(|version| Some(version.id) == template.live);
    let is_changed = |(key, text): (&String, &String)| {
        snapshot.partials.iter().find(|partial| partial.key == *key).is_none_or(|now| now.body != *text)
    };
    let senders = snapshot.rules.iter().filter(|rule| rule.template() == Some(&template.key));
    let (rules, events): (Vec<&str>, Vec<&str>) =
        senders.map(|rule| (rule.key.as_str(), rule.event_type.as_str())).unzip();
    TemplateBody {
        key: template.key.clone(),
        channel: template.channel.to_string(),
        description: template.description.clone(),
        owner: template.owner.clone(),
        event: template.event_type.clone(),
        needs_approval: template.needs_approval,
        archived: template.is_archived,
        version: template.version,
        live_version: live.map(|live| live.number),
        locales: live.map(|live| live.content.contents.keys().cloned().collect()).unwrap_or_default(),
        has_draft: drafted.contains(&template.key),
        partials_changed: live.is_some_and(|live| live.partials.iter().any(is_changed)),
        used_by: json!({"rules": rules, "events": events}),
    }
}

/// A list of templates.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Templates {
    data: Vec<TemplateBody>,
    /// Always `null`: all entries are on one page.
    next_cursor: Option<String>,
}

/// Lists templates, including archived ones.
#[utoipa::path(get, path = "/v1/templates", tag = "templates", responses((status = 200, description = "Every template", body = Templates)))]
pub(super) async fn list_templates(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
) -> Result<Json<Templates>, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let (snapshot, drafted) = (api.store.snapshot().await?, api.store.drafted_templates().await?);
    let data = snapshot.templates.iter().map(|template| body(template, &snapshot, &drafted)).collect();
    Ok(Json(Templates { data, next_cursor: None }))
}

/// Creates a template without content.
#[utoipa::path(
    post, path = "/v1/templates", tag = "templates", request_body = NewTemplate,
    responses((status = 201, description = "Created", body = TemplateBody), (status = 409, description = "The key is already used", body = ProblemBody, content_type = "application/problem+json"))
)]
pub(super) async fn create_template(
    State(api): State<Arc<Api>>,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::ChangeCatalog).await?;
    let NewTemplate { key, channel, about } = read(&headers, request).await?;
    let mut template = new_template(&key, channel);
    about.lay_over(&mut template);
    api.publisher.create_template(template, identity.by("")?).await?;
    let (version, body) = found(&api, &key).await?;
    Ok((StatusCode::CREATED, etag::etag(version), Json(body)).into_response())
}

async fn found(api: &Api, key: &str) -> Result<(i32, TemplateBody), Problem> {
    let (snapshot, drafted) = (api.store.snapshot().await?, api.store.drafted_templates().await?);
    let template = snapshot.templates.iter().find(|template| template.key == key);
    let template =
        template.ok_or_else(|| Problem::new(Code::NotFound, format!("there is no template {key}")))?;
    Ok((template.version, body(template, &snapshot, &drafted)))
}

/// Returns a template, with its usage.
#[utoipa::path(
    get, path = "/v1/templates/{key}", tag = "templates", params(("key" = String, Path, description = "order-shipped-push")),
    responses((status = 200, description = "The template", body = TemplateBody), (status = 404, description = "No such template"))
)]
pub(super) async fn get_template(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    api.allow(&headers, Use::ReadCatalog).await?;
    let (version, body) = found(&api, &key).await?;
    Ok((etag::etag(version), Json(body)).into_response())
}

/// Changes a template's settings, or archives it.
#[utoipa::path(
    patch, path = "/v1/templates/{key}", tag = "templates", request_body = AboutChange,
    params(("key" = String, Path, description = "order-shipped-push")),
    responses(
        (status = 200, description = "Saved", body = TemplateBody),
        (status = 409, description = "A rule sends it", body = ProblemBody, content_type = "application/problem+json"),
        (status = 412, description = "Changed in the meantime", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) async fn change_template(
    State(api): State<Arc<Api>>,
    PathText(key): PathText,
    headers: HeaderMap,
    request: Body,
) -> Result<Response, Problem> {
    let identity = api.allow(&headers, Use::ChangeCatalog).await?;
    let AboutChange { description, owner, event, needs_approval, archived, note } =
        read(&headers, request).await?;
    let (present, known) = found(&api, &key).await?;
    if known.needs_approval && needs_approval == Some(false) {
        api.allow(&headers, Use::LiftApproval).await?;
    }
    let version = etag::wanted(&headers, present)?;
    let about = About { description, owner, event, needs_approval, archived };
    let by = identity.by(&note)?;
    api.publisher.change_template(&key, version, |template| about.lay_over(template), by).await?;
    let (version, body) = found(&api, &key).await?;
    Ok((etag::etag(version), Json(body)).into_response())
}
