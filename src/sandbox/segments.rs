//! OneSignal's Segments API, and who is in a segment.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use uuid::Uuid;

use super::access::{body_of, uuid};
use super::create::random_uuid;
use super::json::{Object, field, text};
use super::refusal::Refusal;
use super::templates::Query;
use super::{Sandbox, filters};
use crate::domain::clock::Timestamp;

/// The default segments of every app, which contain all subscribed users.
const DEFAULT: [&str; 6] = [
    "All",
    "Total Subscriptions",
    "Subscribed Users",
    "Active Subscriptions",
    "Engaged Subscriptions",
    "Active Users",
];
const NAME_LIMIT: usize = 128;
const NOT_FOUND: &str = "segment not found";

/// A segment that was made through the API.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Segment {
    pub id: Uuid,
    pub app_id: Uuid,
    pub name: String,
    pub description: Option<String>,
    pub filters: Vec<Value>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// Whether every app has a segment of this name.
pub(super) fn is_default(name: &str) -> bool {
    DEFAULT.contains(&name)
}

impl Sandbox {
    /// `POST /apps/{app}/segments`
    pub(super) fn create_segment(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let app = self.app_of_path(headers, app_id)?.id;
        let plan = self.options.plan;
        if plan.segments == Some(0) {
            return Err(Refusal::not_on_plan());
        }
        let request = body_of(body)?;
        let name = name(&request)?;
        let filters = filters::check(request.get("filters").unwrap_or(&Value::Null)).map_err(Refusal::bad)?;
        let now = self.now();
        let id = text(&request, "id").and_then(uuid).unwrap_or_else(random_uuid);
        let mut state = self.state.lock();
        let of_app = || state.segments().filter(|segment| segment.app_id == app);
        if of_app().any(|segment| segment.name == name || segment.id == id) || is_default(&name) {
            return Err(Refusal::conflict(json!({
                "success": false, "errors": [format!("Segment with the name {name} or this id exists already.")]
            })));
        }
        if plan.segments.is_some_and(|max| of_app().count() >= max) {
            return Err(Refusal::with(
                StatusCode::UNPROCESSABLE_ENTITY,
                "You have reached the number of segments that your plan allows.",
            ));
        }
        let segment =
            Segment { id, app_id: app, name, description: None, filters, created_at: now, updated_at: now };
        state.put_segment(segment).map_err(|error| Refusal::not_kept(&error))?;
        Ok((StatusCode::CREATED, Json(json!({"success": true, "id": id}))).into_response())
    }

    /// `GET /apps/{app}/segments`
    pub(super) fn list_segments(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        query: &Query,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_path(headers, app_id)?.id;
        let number = |name: &str, default: usize| match query.get(name) {
            None => Ok(default),
            Some(text) => text.parse().map_err(|_| Refusal::bad(format!("Invalid {name}"))),
        };
        let (limit, offset): (usize, usize) = (number("limit", 300)?, number("offset", 0)?);
        if !(1..=300).contains(&limit) {
            return Err(Refusal::bad("Invalid limit, must be within 1 to 300"));
        }
        let state = self.state.lock();
        let all: Vec<&Segment> = state.segments().filter(|segment| segment.app_id == app).collect();
        let page: Vec<Value> = all.iter().skip(offset).take(limit).map(|segment| summary(segment)).collect();
        let body = json!({"total_count": all.len(), "offset": offset, "limit": limit, "segments": page});
        Ok(Json(body).into_response())
    }

    /// `GET /apps/{app}/segments/{id}`
    pub(super) fn view_segment(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        id: &str,
        query: &Query,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_path(headers, app_id)?.id;
        let now = self.now();
        let state = self.state.lock();
        let segment = uuid(id).and_then(|id| state.segment(app, id)).ok_or_else(not_found)?;
        let people = state.people(app).all();
        let members = people.filter(|person| filters::matches(&segment.filters, person, now)).count();
        let mut body = json!({"subscriber_count": members});
        if query.get("include-segment-detail").is_some_and(|wanted| wanted == "true") {
            body["payload"] = json!({
                "id": segment.id, "name": segment.name, "description": segment.description,
                "created_at": segment.created_at.timestamp(), "source": "custom", "filters": segment.filters,
            });
        }
        Ok(Json(body).into_response())
    }

    /// `PATCH /apps/{app}/segments/{id}`
    pub(super) fn update_segment(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        id: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let app = self.app_of_path(headers, app_id)?.id;
        let request = body_of(body)?;
        let name = name(&request)?;
        let now = self.now();
        let mut state = self.state.lock();
        let found = uuid(id).and_then(|id| state.segment(app, id)).cloned();
        let mut segment = found.ok_or_else(not_found)?;
        if let Some(wanted) = field(&request, "filters") {
            segment.filters = filters::check(wanted).map_err(Refusal::bad)?;
        }
        if let Some(description) = field(&request, "description").and_then(Value::as_str) {
            segment.description = Some(description.to_owned());
        }
        segment.name = name;
        segment.updated_at = now;
        let id = segment.id;
        state.put_segment(segment).map_err(|error| Refusal::not_kept(&error))?;
        Ok(Json(json!({"success": true, "id": id})).into_response())
    }

    /// `DELETE /apps/{app}/segments/{id}`
    pub(super) fn delete_segment(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_path(headers, app_id)?.id;
        let mut state = self.state.lock();
        let id = uuid(id).and_then(|id| state.segment(app, id)).ok_or_else(not_found)?.id;
        state.delete_segment(id).map_err(|error| Refusal::not_kept(&error))?;
        Ok(Json(json!({"success": true})).into_response())
    }
}

fn not_found() -> Refusal {
    Refusal::not_found(NOT_FOUND)
}

fn name(request: &Object) -> Result<String, Refusal> {
    let name = text(request, "name").filter(|name| name.chars().count() <= NAME_LIMIT);
    let name =
        name.ok_or_else(|| Refusal::bad(format!("name must be a text of 1 to {NAME_LIMIT} characters.")));
    name.map(str::to_owned)
}

fn summary(segment: &Segment) -> Value {
    json!({
        "id": segment.id, "name": segment.name, "app_id": segment.app_id, "read_only": false, "is_active": true,
        "created_at": segment.created_at, "updated_at": segment.updated_at,
    })
}
