//! Rules: when this event type, then send that template to those people.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::app::AppId;
use super::channel::Lane;
use super::event::EventTypeName;
use super::id::RuleId;

/// Who gets what a rule sends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Audience {
    /// The event's own recipients, one delivery each.
    EventRecipients,
    /// OneSignal segments by name: one delivery for all of them.
    Segments {
        /// At least one.
        included: Vec<String>,
        /// Whoever is in one of these gets nothing.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        excluded: Vec<String>,
    },
}

/// A rule of the catalog.
#[derive(Debug, Clone)]
pub struct Rule {
    /// Its id.
    pub id: RuleId,
    /// The name that people use.
    pub key: String,
    /// The event type that it answers.
    pub event_type: EventTypeName,
    /// The app to send through; the default app if none.
    pub app: Option<AppId>,
    /// The template to send.
    pub template: String,
    /// Who gets it.
    pub audience: Audience,
    /// How urgent it is.
    pub lane: Lane,
    /// How long after the event it is due.
    pub delay: Duration,
    /// How long after that it is worth sending at most.
    pub expires_in: Option<Duration>,
    /// Whether it applies.
    pub is_enabled: bool,
}
