//! Cancel, view and list messages.

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Sandbox;
use super::access::uuid;
use super::message::Message;
use super::refusal::{Refusal, rate_limited};
use super::templates::{Query, page};
use crate::domain::clock::Timestamp;

const NOT_FOUND: &str = "Notification not found";
/// How long messages made through the API can be read.
const READABLE: TimeDelta = TimeDelta::days(30);
const PROVIDER_FIELDS: [&str; 12] = [
    "name",
    "template_id",
    "contents",
    "headings",
    "subtitle",
    "url",
    "data",
    "email_subject",
    "email_body",
    "include_aliases",
    "included_segments",
    "filters",
];

impl Sandbox {
    /// `DELETE /notifications/{id}`: stops a message that still waits for its time.
    pub(super) fn cancel_message(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query.get("app_id").map(String::as_str))?;
        if !self.admits(app.id) {
            return Ok(rate_limited(1));
        }
        let now = self.now();
        let mut state = self.state.lock();
        let found =
            uuid(id).and_then(|id| state.message(app.id, id)).filter(|message| is_readable(message, now));
        let message = found.ok_or_else(|| Refusal::not_found(NOT_FOUND))?;
        if !message.is_waiting(now) {
            let why = if message.canceled { "already been canceled" } else { "already been sent" };
            return Err(Refusal::bad(format!("Notification has {why}")));
        }
        state.cancel(message.id).map_err(|error| Refusal::not_kept(&error))?;
        Ok(Json(json!({"success": true})).into_response())
    }

    /// `GET /notifications/{id}`
    pub(super) fn view_message(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query.get("app_id").map(String::as_str))?;
        let now = self.now();
        let found = uuid(id).and_then(|id| self.state.lock().message(app.id, id));
        let message = found.filter(|message| is_readable(message, now));
        let message = message.ok_or_else(|| Refusal::not_found(NOT_FOUND))?;
        Ok(Json(view(&message, now)).into_response())
    }

    /// `GET /notifications`: newest first by `offset`, or oldest first from `time_offset` on.
    pub(super) fn list_messages(&self, headers: &HeaderMap, query: &Query) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query.get("app_id").map(String::as_str))?;
        let (limit, offset) = page(query)?;
        let template = wanted_template(query)?;
        // Everything here came through the API, which is kind 1 (0: the dashboard, 3: automatic).
        let none_of_that_kind = query.get("kind").is_some_and(|kind| kind != "1");
        let now = self.now();
        let state = self.state.lock();
        let mut found: Vec<_> = state
            .messages_of(app.id)
            .filter(|message| is_readable(message, now) && !none_of_that_kind)
            .filter(|message| {
                template.is_none_or(|id| message.template.as_ref().is_some_and(|used| used.id == id))
            })
            .cloned()
            .collect();
        drop(state);
        let total_count = found.len();
        let mut body = json!({"total_count": total_count, "offset": offset, "limit": limit});
        if let Some(from) = query.get("time_offset") {
            let from = TimeOffset::parse(from)?;
            found.retain(|message| from.is_before(message));
            found.reverse();
            found.truncate(limit);
            body["time_offset"] = json!(query.get("time_offset"));
            let last = found.last().map(|message| format!("s{}", message.sequence));
            body["next_time_offset"] =
                json!(last.as_deref().or(query.get("time_offset").map(String::as_str)));
        } else {
            found = found.into_iter().skip(offset).take(limit).collect();
        }
        body["notifications"] = found.iter().map(|message| view(message, now)).collect();
        Ok(Json(body).into_response())
    }
}

/// Where a list that goes forward in time begins.
enum TimeOffset {
    After(u64),
    From(Timestamp),
}

impl TimeOffset {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if let Some(sequence) = text.strip_prefix('s').and_then(|number| number.parse().ok()) {
            return Ok(Self::After(sequence));
        }
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| Refusal::bad("Invalid time_offset"))?;
        Ok(Self::From(at.to_utc()))
    }

    fn is_before(&self, message: &Message) -> bool {
        match self {
            Self::After(sequence) => message.sequence > *sequence,
            Self::From(at) => message.received_at >= *at,
        }
    }
}

fn wanted_template(query: &Query) -> Result<Option<Uuid>, Refusal> {
    let Some(text) = query.get("template_id") else { return Ok(None) };
    uuid(text).map(Some).ok_or_else(|| Refusal::bad("Incorrect template_id format (not a valid UUID)."))
}

fn is_readable(message: &Message, now: Timestamp) -> bool {
    now - message.received_at < READABLE
}

/// The message as OneSignal reports it: everybody who was reached has got it, nobody has clicked.
fn view(message: &Message, now: Timestamp) -> Value {
    let waiting = message.is_waiting(now);
    let sent = !waiting && !message.canceled;
    let reached = if sent { message.recipients } else { 0 };
    let due = message.send_after.unwrap_or(message.received_at);
    let request = message.request();
    let mut view = json!({
        "id": message.id, "app_id": message.app_id,
        "successful": reached, "failed": 0, "errored": 0, "converted": 0, "received": reached,
        "remaining": if waiting { message.recipients } else { 0 },
        "queued_at": message.received_at.timestamp(), "send_after": due.timestamp(),
        "completed_at": sent.then(|| due.timestamp()),
        "canceled": message.canceled, "platform_delivery_stats": {},
        "external_id": message.idempotency_key,
    });
    for name in PROVIDER_FIELDS {
        view[name] = request.get(name).cloned().unwrap_or(Value::Null);
    }
    view
}
