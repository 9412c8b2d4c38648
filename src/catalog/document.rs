//! The catalog as a checked document, on its way from files to the database.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::domain::channel::{Channel, Lane};
use crate::domain::event::EventTypeName;
use crate::domain::rule::Audience;
use crate::domain::snapshot::EventTypeEntry;
use crate::domain::template::{Fields, Mode};

/// Everything that a catalog's files say.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub event_types: Vec<EventTypeDocument>,
    pub templates: Vec<TemplateDocument>,
    pub rules: Vec<RuleDocument>,
    pub sources: Vec<super::source_files::SourceDocument>,
}

/// An event type with its samples by name.
#[derive(Debug)]
pub(super) struct EventTypeDocument {
    pub entry: EventTypeEntry,
    pub samples: Map<String, Value>,
}

/// A template with the copy of its next version.
#[derive(Debug)]
pub(super) struct TemplateDocument {
    pub key: String,
    pub channel: Channel,
    pub description: String,
    pub mode: Mode,
    pub default_locale: String,
    pub options: Map<String, Value>,
    pub contents: BTreeMap<String, Fields>,
}

/// A rule; its app is named as in the file.
#[derive(Debug)]
pub(super) struct RuleDocument {
    pub key: String,
    pub description: String,
    pub event_type: EventTypeName,
    pub app: Option<String>,
    pub template: String,
    pub audience: Audience,
    pub lane: Lane,
    pub delay: Duration,
    pub expires_in: Option<Duration>,
    pub is_enabled: bool,
}
