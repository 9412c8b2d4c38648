//! Rules: for this event type, and under this condition, do this.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::app::AppId;
use super::channel::Priority;
use super::id::RuleId;
use super::timing::Timing;

/// The key of the rule that stands for test sends; no rule of the catalog can have it.
pub const TEST_SEND: &str = "(test-send)";

/// The audience of a rule.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Audience {
    /// The event's own recipients, one delivery each.
    EventRecipients,
    /// OneSignal segments by name: one delivery for all of them.
    Segments {
        /// At least one.
        included: Vec<String>,
        /// Members of these get nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        excluded: Vec<String>,
    },
    /// OneSignal filters: one delivery for everyone who matches them.
    Filters(Vec<Filter>),
}

/// One entry of OneSignal's `filters`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Filter {
    /// `AND` or `OR` between two others; then nothing else is set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operator: Option<String>,
    /// What is compared: `tag`, `country`, `language`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub field: Option<String>,
    /// The tag's name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// `=`, `!=`, `>`, `<`, `exists`, `not_exists`, …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub relation: Option<String>,
    /// The value that it is compared with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value: Option<String>,
    /// The same as an expression over the event, such as `data.city`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub value_from: Option<String>,
}

/// A share of a rule's recipients that gets a version other than the live one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Canary {
    /// The number of the version.
    pub version: i32,
    /// The percentage of people who get it: always the same ones.
    pub percent: u8,
}

impl Canary {
    /// Whether the person with this hash is among those who get it. `digest` is uniformly distributed.
    pub fn takes(self, digest: &[u8; 32]) -> bool {
        let [first, second, ..] = *digest;
        u32::from(u16::from_be_bytes([first, second])) * 100 < u32::from(self.percent) * 65_536
    }
}

/// What a rule does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Action {
    /// Sends a template.
    Send {
        /// Its key.
        template: String,
        /// Who gets it.
        audience: Audience,
        /// Who gets another version.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        canary: Option<Canary>,
    },
    /// Sets tags of the recipients: names with expressions.
    Tag(BTreeMap<String, String>),
    /// Sends a custom event to Journeys.
    Track {
        /// Its name.
        name: String,
        /// Its properties: names with expressions.
        #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
        properties: BTreeMap<String, String>,
    },
    /// Cancels pending deliveries under a cancellation key of the same source: an expression that yields the key.
    Cancel(String),
}

/// How often a person may get what a rule sends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Throttle {
    /// The maximum number of messages, …
    pub max: u32,
    /// … within each window of this many seconds.
    pub within_s: u32,
}

/// Many events become one message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digest {
    /// Events with the same value of this expression are collected together; all of the rule's if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<String>,
    /// How long they are collected, in seconds.
    pub window_s: u32,
    /// The maximum number of events in the message: the newest.
    pub max: u32,
}

/// A rule's definition, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    /// Its purpose.
    #[serde(default)]
    pub description: String,
    /// The app to act through; the default app if none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<AppId>,
    /// When it applies: an expression over `data` and `event`; always if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub condition: Option<String>,
    /// What it does.
    pub action: Action,
    /// Its priority.
    pub priority: Priority,
    /// When it acts.
    #[serde(default)]
    pub timing: Timing,
    /// How long after it is due it may be sent, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_in_s: Option<u32>,
    /// How often a person may get it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// Whether many events become one message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<Digest>,
}

impl Definition {
    /// The template that it sends, if it sends one.
    pub fn template(&self) -> Option<&str> {
        match &self.action {
            Action::Send { template, .. } => Some(template),
            Action::Tag(_) | Action::Track { .. } | Action::Cancel(_) => None,
        }
    }
}

/// A rule of the catalog.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// Its key.
    pub key: String,
    /// Raised by every change: its `ETag`.
    pub version: i32,
    /// The event types that it matches: `order.shipped`, or `order.*` for a family.
    pub event_type: String,
    /// Whether it is enabled.
    pub is_enabled: bool,
    /// Its definition.
    pub definition: Definition,
}

impl Rule {
    /// The template that it sends, if it sends one.
    pub fn template(&self) -> Option<&str> {
        self.definition.template()
    }

    /// Whether it names its own audience, so that an event needs no recipient for it.
    pub fn names_audience(&self) -> bool {
        match &self.definition.action {
            Action::Send { audience, .. } => *audience != Audience::EventRecipients,
            Action::Tag(_) | Action::Track { .. } => false,
            Action::Cancel(_) => true,
        }
    }

    /// How long after it is due it may be sent.
    pub fn expires_in(&self) -> Option<Duration> {
        self.definition.expires_in_s.map(|s| Duration::from_secs(s.into()))
    }
}

/// The text of an expression's value in a tag or a filter; `None` for lists, objects and null.
pub fn plain_text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Bool(_) | Value::Number(_) => Some(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_canary_takes_its_share_and_the_same_people_each_time() {
        let people: Vec<[u8; 32]> = (0..=u8::MAX).map(|first| [first; 32]).collect();
        let taken = |percent| people.iter().filter(|p| Canary { version: 2, percent }.takes(p)).count();
        assert_eq!((taken(0), taken(100)), (0, 256));
        assert!((20..=32).contains(&taken(10)), "{}", taken(10));
        let tenth = Canary { version: 2, percent: 10 };
        let fifth = Canary { version: 2, percent: 20 };
        assert!(people.iter().all(|p| !tenth.takes(p) || fifth.takes(p)), "who is in stays in as it grows");
    }
}
