//! Event Streams: message events are posted to a configured URL, one request per event.
//!
//! `queue` holds what is to be posted and decides about retries; `worker` posts. A receiver that fails or dawdles too
//! often is switched off, as OneSignal does.

mod queue;
mod worker;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::http::{HeaderName, HeaderValue};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use url::Url;
use uuid::Uuid;

use super::message::{Message, Recipient};
use super::render;
use crate::domain::budget::Budget;
use crate::domain::clock::Timestamp;
use crate::templating::liquid::{Strictness, Template as Liquid};
pub(super) use queue::Streams;

/// The default body: without free text, so that it is always valid JSON.
const DEFAULT_BODY: &str = r#"{"kind":"{{ event.kind }}","event_id":"{{ event.id }}","ts":{{ event.timestamp }},"app_id":"{{ event.app_id }}","message_id":"{{ message.id }}","template_id":"{{ message.template_id }}","subscription_id":"{{ event.subscription_id }}","device":"{{ event.subscription_device_type }}","onesignal_id":"{{ event.onesignal_id }}","external_id":"{{ event.external_id }}"}"#;

/// An address that events are posted to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Stream {
    #[serde(default)]
    pub id: Uuid,
    /// Absent: the first app.
    #[serde(default)]
    pub app_id: Option<Uuid>,
    pub url: Url,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// A Liquid template that renders JSON.
    #[serde(default = "default_body")]
    pub body: String,
    /// Kinds such as `message.push.clicked`; none: all.
    #[serde(default)]
    pub kinds: Vec<String>,
    #[serde(default)]
    pub disabled: bool,
}

fn default_body() -> String {
    DEFAULT_BODY.to_owned()
}

impl Stream {
    /// Validates it.
    pub(super) fn check(&self) -> Result<(), String> {
        if !matches!(self.url.scheme(), "http" | "https") {
            return Err("`url` must start with http:// or https://".to_owned());
        }
        for (name, value) in &self.headers {
            if name.parse::<HeaderName>().is_err() || value.parse::<HeaderValue>().is_err() {
                return Err(format!("`{name}` is not a valid header"));
            }
        }
        Liquid::parse(&self.body, &Budget::default()).map(|_| ()).map_err(|error| format!("`body`: {error}"))
    }

    /// Whether it wants events of this kind.
    fn wants(&self, kind: &str) -> bool {
        !self.disabled && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| wanted == kind))
    }

    /// The body for one event.
    fn render(&self, event: &StreamEvent) -> Result<String, String> {
        let liquid = Liquid::parse(&self.body, &Budget::default()).map_err(|error| error.to_string())?;
        let (about, message) = event.values();
        let globals = [("event", &about), ("message", &message)];
        let rendered = liquid.render(&globals, Strictness::Lenient, &Budget::default());
        rendered.map(|rendered| rendered.text).map_err(|error| error.to_string())
    }

    /// The public form, without header values.
    pub(super) fn view(&self) -> Value {
        let headers: BTreeMap<&str, &str> = self.headers.keys().map(|name| (name.as_str(), "…")).collect();
        json!({
            "id": self.id, "app_id": self.app_id, "url": self.url, "headers": headers, "body": self.body,
            "kinds": self.kinds, "disabled": self.disabled,
        })
    }
}

/// An event of a message at one recipient.
#[derive(Debug, Clone)]
pub(super) struct StreamEvent {
    pub id: Uuid,
    /// The end of its kind: `sent`, `clicked` …
    pub what: &'static str,
    pub at: Timestamp,
    pub message: Arc<Message>,
    pub recipient: Recipient,
    /// Why it failed; empty if it did not.
    pub reason: String,
}

impl StreamEvent {
    /// `message.push.sent` and the like.
    pub(super) fn kind(&self) -> String {
        format!("message.{}.{}", self.message.channel.name(), self.what)
    }

    /// The values of `event` and `message` for the body, without `custom_data`.
    fn values(&self) -> (Value, Value) {
        let device = render::device(&self.recipient, self.message.channel);
        let event = json!({
            "kind": self.kind(), "id": self.id, "timestamp": self.at.timestamp(), "datetime": self.at,
            "app_id": self.message.app_id, "subscription_id": device.subscription_id,
            "subscription_device_type": device.kind.device(), "onesignal_id": device.onesignal_id,
            "external_id": self.recipient.external_id().unwrap_or_default(),
            "data": {"failure_reason": self.reason},
        });
        let template = self.message.template.as_ref();
        let message = if self.at - self.message.received_at < chrono::TimeDelta::days(30) {
            json!({
                "id": self.message.id, "template_id": template.map(|template| template.id),
                "title": template.map(|template| template.name.clone()), "channel": self.message.channel,
            })
        } else {
            // A month after an API send only its id is still known.
            json!({"id": self.message.id})
        };
        (event, message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(json: &str) -> Result<Stream, String> {
        let stream: Stream = serde_json::from_str(json).map_err(|error| error.to_string())?;
        stream.check().map(|()| stream)
    }

    #[test]
    fn a_stream_that_could_not_work_is_refused() {
        assert!(stream(r#"{"url":"http://127.0.0.1:1/in"}"#).is_ok());
        for wrong in [
            r#"{"url":"ftp://127.0.0.1/"}"#,
            r#"{"url":"nowhere"}"#,
            r#"{"url":"http://h/","headers":{"a b":"c"}}"#,
            r#"{"url":"http://h/","body":"{{ event.kind "}"#,
            r#"{"url":"http://h/","secret":"x"}"#,
        ] {
            assert!(stream(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_stream_shows_the_names_of_its_headers_and_not_what_they_say() {
        let stream = stream(r#"{"url":"http://h/","headers":{"Authorization":"Bearer secret"}}"#).unwrap();
        let shown = stream.view().to_string();
        assert!(shown.contains("Authorization") && !shown.contains("secret"), "{shown}");
    }
}
