//! OneSignal's custom events, which Journeys listen to.

use std::collections::{HashMap, VecDeque};

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, TimeDelta};
use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Sandbox;
use super::access::uuid;
use super::json::{field, text};
use super::refusal::Refusal;
use crate::domain::clock::Timestamp;

const EVENT_LIMIT: usize = 2_024;
const REQUEST_LIMIT: usize = 1024 * 1024;
const NAME_LIMIT: usize = 128;
/// How long a repeated key is dropped.
const KEY_LIFE: TimeDelta = TimeDelta::hours(4);
/// Maximum stored events; the oldest are deleted first.
const KEPT: usize = 10_000;

/// A custom event that was taken.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceivedCustomEvent {
    /// The app it is for.
    pub app_id: Uuid,
    /// The event's name.
    pub name: String,
    /// The person, by External ID …
    pub external_id: Option<String>,
    /// … or by OneSignal's id.
    pub onesignal_id: Option<Uuid>,
    /// When it happened: never in the future.
    pub timestamp: Timestamp,
    /// Its content.
    pub properties: Value,
    /// The key that repeats are known by.
    pub idempotency_key: Option<String>,
}

/// The events that were taken lately.
#[derive(Debug, Default)]
pub(super) struct CustomEvents {
    taken: VecDeque<ReceivedCustomEvent>,
    keys: HashMap<(Uuid, String), Timestamp>,
}

impl CustomEvents {
    /// Takes an event, unless its key was seen in the last four hours.
    fn take(&mut self, event: ReceivedCustomEvent, now: Timestamp) {
        if let Some(key) = &event.idempotency_key {
            self.keys.retain(|_, at| now - *at < KEY_LIFE);
            let name = (event.app_id, key.clone());
            if self.keys.contains_key(&name) || self.keys.len() >= KEPT {
                return;
            }
            self.keys.insert(name, now);
        }
        self.taken.push_back(event);
        if self.taken.len() > KEPT {
            self.taken.pop_front();
        }
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &ReceivedCustomEvent> {
        self.taken.iter()
    }
}

impl Sandbox {
    /// `POST /apps/{app}/custom_events`: 202, with the events that were refused.
    pub(super) fn take_custom_events(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        // The only endpoint with an empty body for invalid keys or bodies.
        let app = self.app_of_path(headers, app_id).map_err(|_| Refusal::empty(StatusCode::UNAUTHORIZED))?.id;
        if !self.options.plan.custom_events {
            return Err(Refusal::not_on_plan());
        }
        let wordless = || Refusal::wordless(StatusCode::BAD_REQUEST);
        if body.len() > REQUEST_LIMIT {
            return Err(wordless());
        }
        let request: Value = serde_json::from_slice(body).map_err(|_| wordless())?;
        let events = request.get("events").and_then(Value::as_array).filter(|events| !events.is_empty());
        let now = self.now();
        let mut refused = Vec::new();
        for event in events.ok_or_else(wordless)? {
            match read(app, event, now) {
                Ok(event) => self.custom_events.lock().take(event, now),
                Err(title) => refused.push(json!({
                    "event_user_id": event.get("external_id").or(event.get("onesignal_id")),
                    "event_id": event.get("idempotency_key"),
                    "error": {"code": "custom-event-1", "title": title},
                })),
            }
        }
        let body = if refused.is_empty() { json!({}) } else { json!({"errors": refused}) };
        Ok((StatusCode::ACCEPTED, Json(body)).into_response())
    }

    /// All stored custom events, oldest first.
    pub fn custom_events(&self) -> Vec<ReceivedCustomEvent> {
        self.custom_events.lock().all().cloned().collect()
    }
}

fn read(app_id: Uuid, event: &Value, now: Timestamp) -> Result<ReceivedCustomEvent, String> {
    let object = event.as_object().ok_or("An event must be an object")?;
    if event.to_string().len() > EVENT_LIMIT {
        return Err(format!("An event may have {EVENT_LIMIT} bytes at most"));
    }
    let name = text(object, "name").filter(|name| name.chars().count() <= NAME_LIMIT);
    let name = name.ok_or_else(|| format!("name must be a text of 1 to {NAME_LIMIT} characters"))?;
    let external_id = text(object, "external_id").map(str::to_owned);
    let onesignal_id = text(object, "onesignal_id").and_then(uuid);
    if external_id.is_none() && onesignal_id.is_none() {
        return Err("An event needs an external_id or an onesignal_id".to_owned());
    }
    let timestamp = match field(object, "timestamp") {
        None => now,
        Some(written) => written
            .as_str()
            .and_then(|text| DateTime::parse_from_rfc3339(text).ok())
            .ok_or("timestamp must be an ISO 8601 date and time")?
            .to_utc()
            .min(now),
    };
    // OneSignal's own clients spell it `payload`.
    let properties = field(object, "properties").or_else(|| field(object, "payload"));
    if properties.is_some_and(|properties| !properties.is_object()) {
        return Err("properties must be an object".to_owned());
    }
    Ok(ReceivedCustomEvent {
        app_id,
        name: name.to_owned(),
        external_id,
        onesignal_id,
        timestamp,
        properties: properties.cloned().unwrap_or_else(|| json!({})),
        idempotency_key: text(object, "idempotency_key").map(str::to_owned),
    })
}
