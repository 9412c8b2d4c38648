//! Accepted messages: the stored and the displayed form.

use std::sync::Arc;

use chrono::TimeDelta;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::{Map, Value};
use uuid::Uuid;

use super::people::Person;
use super::templates::Template;
use crate::domain::clock::Timestamp;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// To apps and browsers.
    Push,
    /// By email.
    Email,
    /// By text message.
    Sms,
}

impl Channel {
    /// Reads `push`, `email` or `sms`, exactly.
    pub(super) fn parse(text: &str) -> Option<Self> {
        match text {
            "push" => Some(Self::Push),
            "email" => Some(Self::Email),
            "sms" => Some(Self::Sms),
            _ => None,
        }
    }

    /// As requests spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }

    /// The label under which a person is found by address; push has none.
    pub(super) fn address_label(self) -> Option<&'static str> {
        match self {
            Self::Push => None,
            Self::Email => Some("email"),
            Self::Sms => Some("phone_number"),
        }
    }

    /// How many bytes of `custom_data` a message may carry.
    pub(super) fn custom_data_limit(self) -> usize {
        match self {
            Self::Push | Self::Sms => 2048,
            Self::Email => 10_000,
        }
    }
}

/// Takes a channel's name in any case, and OneSignal's subscription types, of which all but two are push.
impl<'de> Deserialize<'de> for Channel {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?.to_lowercase();
        Self::parse(text.strip_suffix("push").filter(|_| text.len() > 4).map_or(text.as_str(), |_| "push"))
            .ok_or_else(|| {
                de::Error::custom("a channel must be `push`, `email` or `sms`, or a type such as `iOSPush`")
            })
    }
}

/// One person, device or address that a message reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Recipient {
    /// The label in the request: an alias label, `subscription_id`, `email` or `phone_number`.
    pub label: String,
    pub id: String,
    /// The user when the message was accepted; `None` if implicit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<Arc<Person>>,
}

impl Recipient {
    /// An implicit user.
    pub(super) fn made_up(label: &str, id: &str) -> Self {
        Self { label: label.to_owned(), id: id.to_owned(), person: None }
    }

    /// Their External ID, when they have one.
    pub(super) fn external_id(&self) -> Option<&str> {
        let known = self.person.as_ref().map(|person| person.external_id.as_deref());
        known.unwrap_or_else(|| (self.label == "external_id").then_some(self.id.as_str()))
    }
}

/// Whom a message reached.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Reached {
    /// All targets of the request, all implicit: the common case, stored without repeating them.
    EveryTarget,
    /// These.
    Only(Vec<Recipient>),
}

/// An accepted Create message.
#[derive(Debug, Clone)]
pub(super) struct Message {
    /// 1 for the first, one more for each.
    pub sequence: u64,
    pub id: Uuid,
    pub app_id: Uuid,
    pub idempotency_key: Option<Uuid>,
    pub channel: Channel,
    /// The template at that time.
    pub template: Option<Arc<Template>>,
    pub received_at: Timestamp,
    /// When it is sent, if scheduled.
    pub send_after: Option<Timestamp>,
    /// The JSON body; as text, which takes a third of the room.
    pub request: Box<str>,
    pub reached: Reached,
    pub recipients: usize,
    /// Warnings.
    pub notes: Vec<String>,
    pub canceled: bool,
    /// The indexes of recipients skipped because of the app's frequency cap, ascending.
    pub capped: Vec<usize>,
    /// Whether its recipients get it at different times.
    pub paced: bool,
}

/// How long messages made through the API can be read.
const READABLE: TimeDelta = TimeDelta::days(30);

impl Message {
    /// The JSON body.
    pub(super) fn request(&self) -> Map<String, Value> {
        serde_json::from_str(&self.request).unwrap_or_default()
    }

    /// Whether it still waits for its time.
    pub(super) fn is_waiting(&self, now: Timestamp) -> bool {
        !self.canceled && self.send_after.is_some_and(|at| at > now)
    }

    /// Whether OneSignal still shows it.
    pub(super) fn is_readable(&self, now: Timestamp) -> bool {
        now - self.received_at < READABLE
    }

    /// Whether it gives way when its recipients had enough.
    pub(super) fn wants_cap(&self) -> bool {
        self.channel == Channel::Push
            && self.request().get("enable_frequency_cap") == Some(&Value::Bool(true))
    }

    /// The bytes that it takes, about.
    pub(super) fn weight(&self) -> usize {
        let listed = match &self.reached {
            Reached::EveryTarget => 0,
            Reached::Only(recipients) => recipients.len(),
        };
        size_of::<Self>() + self.request.len() + listed * 80
    }
}

/// An accepted Create message with what its recipients saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceivedMessage {
    /// OneSignal's id of it.
    pub id: Uuid,
    /// The app it was sent through.
    pub app_id: Uuid,
    /// The key in the request.
    pub idempotency_key: Option<Uuid>,
    /// How it travelled.
    pub channel: Channel,
    /// The template in the request.
    pub template_id: Option<Uuid>,
    /// That template's name.
    pub template_name: Option<String>,
    /// When it was accepted.
    pub received_at: Timestamp,
    /// When it is sent, if scheduled.
    pub send_after: Option<Timestamp>,
    /// Whether it was cancelled in time.
    pub canceled: bool,
    /// The JSON body as received.
    pub request: Value,
    /// Whom it reached.
    pub recipients: Vec<ReceivedRecipient>,
    /// Warnings about accepted messages, such as unknown fields.
    pub notes: Vec<String>,
}

/// What one recipient saw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReceivedRecipient {
    /// Their External ID, when they have one.
    pub external_id: Option<String>,
    /// The label in the request: an alias label, `subscription_id`, `email` or `phone_number`.
    pub label: String,
    /// The id or address under that label.
    pub id: String,
    /// The text of each field that the message or its template has.
    pub rendered: Map<String, Value>,
    /// The variables that were missing and left a hole.
    pub blanks: Vec<String>,
    /// The fields whose Liquid is broken, each with the reason; they are empty.
    pub broken: Vec<String>,
}
