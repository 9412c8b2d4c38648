//! OneSignal's Templates API.

use std::collections::HashMap;

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::{body_of, uuid};
use super::create::{language, random_uuid};
use super::json::{Object, field, says_something, text};
use super::message::Channel;
use super::refusal::{BAD_APP_ID, NO_ENGLISH, Refusal, rate_limited};
use super::{Sandbox, SandboxError};
use crate::domain::clock::Timestamp;

const NAME_LIMIT: usize = 128;
const BCC_LIMIT: usize = 5;
const PAGE_LIMIT: usize = 50;
const NOT_FOUND: &str = "template not found";
/// The fields of a template. OneSignal ignores all others here.
const CONTENT: [&str; 7] =
    ["contents", "headings", "subtitle", "email_subject", "email_body", "email_bcc", "dynamic_content"];

/// One state of a template; every change makes a new revision.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Template {
    pub id: Uuid,
    pub app_id: Uuid,
    /// From 1.
    pub revision: u32,
    pub name: String,
    pub channel: Channel,
    pub content: Object,
    created_at: Timestamp,
    updated_at: Timestamp,
}

impl Template {
    /// As the API shows it; what a channel does not use is `null`.
    fn resource(&self) -> Value {
        let mut content = self.content.clone();
        for name in CONTENT {
            content.entry(name).or_insert(Value::Null);
        }
        content.insert("isEmail".to_owned(), json!(self.channel == Channel::Email));
        content.insert("isSMS".to_owned(), json!(self.channel == Channel::Sms));
        // OneSignal spells this one in capitals, here alone.
        let channel = if self.channel == Channel::Sms { "SMS" } else { self.channel.name() };
        json!({
            "id": self.id, "name": self.name, "channel": channel, "content": content,
            "created_at": self.created_at, "updated_at": self.updated_at,
        })
    }

    fn summary(&self) -> Value {
        json!({"id": self.id, "name": self.name, "created_at": self.created_at, "updated_at": self.updated_at})
    }
}

impl Sandbox {
    /// `POST /templates`
    pub(super) fn create_template(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        let (app, request) = self.app_of_body(headers, body)?;
        let channel = channel(&request)?;
        let name = name(&request)?.ok_or_else(|| Refusal::bad("name is required."))?;
        let content = content(&request);
        check_content(&content, channel)?;
        let now = self.now();
        let template = Template {
            id: random_uuid(),
            app_id: app.id,
            revision: 1,
            name,
            channel,
            content,
            created_at: now,
            updated_at: now,
        };
        let kept = self.state.lock().put_template(template).map_err(|error| Refusal::not_kept(&error))?;
        Ok(Json(kept.resource()).into_response())
    }

    /// `GET /templates/{id}`
    pub(super) fn view_template(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        if !self.admits_view(app.id) {
            return Ok(rate_limited(1));
        }
        let id = uuid(id).ok_or_else(|| Refusal::not_found(NOT_FOUND))?;
        let template = self.state.lock().template(app.id, id);
        template
            .map(|template| Json(template.resource()).into_response())
            .ok_or_else(|| Refusal::not_found(NOT_FOUND))
    }

    /// `PATCH /templates/{id}`: takes effect at once.
    pub(super) fn update_template(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        let request = body_of(body)?;
        let mut state = self.state.lock();
        let found = uuid(id).and_then(|id| state.template(app.id, id));
        let mut template = found.as_deref().cloned().ok_or_else(|| Refusal::not_found(NOT_FOUND))?;
        if let Some(name) = name(&request)? {
            template.name = name;
        }
        if ["isEmail", "isSMS"].iter().any(|flag| request.get(*flag).is_some_and(Value::is_boolean))
            && channel(&request)? != template.channel
        {
            return Err(Refusal::bad("A template can not change its channel."));
        }
        for name in CONTENT.iter().filter(|name| request.contains_key(**name)) {
            template.content.insert((*name).to_owned(), request[*name].clone());
        }
        template.content.retain(|_, value| !value.is_null());
        check_content(&template.content, template.channel)?;
        template.revision += 1;
        template.updated_at = self.now();
        let kept = state.put_template(template).map_err(|error| Refusal::not_kept(&error))?;
        Ok(Json(kept.resource()).into_response())
    }

    /// `DELETE /templates/{id}`
    pub(super) fn delete_template(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        let mut state = self.state.lock();
        let found = uuid(id).and_then(|id| state.template(app.id, id));
        let template = found.ok_or_else(|| Refusal::not_found(NOT_FOUND))?;
        state.delete_template(template.id).map_err(|error: SandboxError| Refusal::not_kept(&error))?;
        Ok(Json(json!({"success": true})).into_response())
    }

    /// `POST /templates/{id}/copy_to_app`: with the Organization API key; the answer has no id of the copy.
    pub(super) fn copy_template(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        if !self.is_organization(headers) {
            return Err(Refusal::access_denied());
        }
        let known = |text: Option<&str>| {
            let id = text.and_then(uuid)?;
            self.options.apps.iter().map(|app| app.id).find(|app| *app == id)
        };
        let from = known(query.get("app_id").map(String::as_str)).ok_or_else(|| Refusal::bad(BAD_APP_ID))?;
        let request = body_of(body)?;
        let to = known(text(&request, "target_app_id"))
            .ok_or_else(|| Refusal::bad("target_app_id is not an app."))?;
        let now = self.now();
        let mut state = self.state.lock();
        let found = uuid(id).and_then(|id| state.template(from, id));
        let template = found.ok_or_else(|| Refusal::not_found(NOT_FOUND))?;
        let copy = Template {
            id: random_uuid(),
            app_id: to,
            revision: 1,
            created_at: now,
            updated_at: now,
            ..Template::clone(&template)
        };
        state.put_template(copy).map_err(|error| Refusal::not_kept(&error))?;
        Ok(Json(json!({"success": true})).into_response())
    }

    /// `GET /templates`: newest first, without contents.
    pub(super) fn list_templates(&self, headers: &HeaderMap, query: &Query) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        if !self.admits_view(app.id) {
            return Ok(rate_limited(1));
        }
        let (limit, offset) = page(query)?;
        let wanted = match query.get("channel") {
            None => None,
            Some(text) => Some(Channel::parse(text).ok_or_else(|| Refusal::bad("Invalid channel"))?),
        };
        let state = self.state.lock();
        let mut found: Vec<_> = state
            .templates()
            .filter(|template| template.app_id == app.id)
            .filter(|template| wanted.is_none_or(|channel| channel == template.channel))
            .collect();
        found.sort_by_key(|template| (std::cmp::Reverse(template.created_at), template.id));
        let templates: Vec<Value> =
            found.iter().skip(offset).take(limit).map(|template| template.summary()).collect();
        let total_count = found.len();
        Ok(Json(
            json!({"limit": limit, "offset": offset, "total_count": total_count, "templates": templates}),
        )
        .into_response())
    }
}

/// A URL's query, the last value of each name.
pub(super) type Query = HashMap<String, String>;

/// `limit` (1 to 50) and `offset` of a list.
pub(super) fn page(query: &Query) -> Result<(usize, usize), Refusal> {
    let number = |name: &str| query.get(name).map(|text| text.parse::<usize>());
    let limit =
        number("limit").unwrap_or(Ok(PAGE_LIMIT)).ok().filter(|limit| (1..=PAGE_LIMIT).contains(limit));
    let limit = limit.ok_or_else(|| Refusal::bad("Invalid limit, must be within 1 to 50"))?;
    let offset = number("offset").unwrap_or(Ok(0)).map_err(|_| Refusal::bad("Invalid offset"))?;
    Ok((limit, offset))
}

fn channel(request: &Object) -> Result<Channel, Refusal> {
    let flag = |name: &str| request.get(name) == Some(&Value::Bool(true));
    match (flag("isEmail"), flag("isSMS")) {
        (true, true) => Err(Refusal::bad("A template is for one channel: isEmail or isSMS, not both.")),
        (true, false) => Ok(Channel::Email),
        (false, true) => Ok(Channel::Sms),
        (false, false) => Ok(Channel::Push),
    }
}

fn name(request: &Object) -> Result<Option<String>, Refusal> {
    if field(request, "name").is_none() {
        return Ok(None);
    }
    let name = text(request, "name").filter(|name| name.chars().count() <= NAME_LIMIT);
    let name =
        name.ok_or_else(|| Refusal::bad(format!("name must be a text of 1 to {NAME_LIMIT} characters.")))?;
    Ok(Some(name.to_owned()))
}

fn content(request: &Object) -> Object {
    let given = CONTENT.iter().filter_map(|name| Some(((*name).to_owned(), field(request, name)?.clone())));
    given.collect()
}

fn check_content(content: &Object, channel: Channel) -> Result<(), Refusal> {
    let bcc = field(content, "email_bcc");
    if bcc.is_some_and(|bcc| bcc.as_array().is_none_or(|addresses| addresses.len() > BCC_LIMIT)) {
        return Err(Refusal::bad(format!("email_bcc must be a list of at most {BCC_LIMIT} entries.")));
    }
    if !CONTENT.iter().any(|name| says_something(content, name)) {
        return Err(Refusal::empty_template());
    }
    if channel == Channel::Email {
        return match (text(content, "email_body"), text(content, "email_subject")) {
            (None, _) => Err(Refusal::blank_email("Email body")),
            (_, None) => Err(Refusal::blank_email("Email subject")),
            (Some(_), Some(_)) => Ok(()),
        };
    }
    if !language::check(content)? {
        return Err(Refusal::bad(NO_ENGLISH));
    }
    if channel == Channel::Push { language::check_push_liquid(content) } else { Ok(()) }
}
