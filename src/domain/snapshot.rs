//! The catalog at one revision, as plain nouns.

use std::time::Duration;

use serde_json::Value;

use super::app::{App, AppId};
use super::event::EventTypeName;
use super::id::TemplateVersionId;
use super::rule::Rule;
use super::template::{Template, TemplateVersion};

/// The catalog's entry of an event type.
#[derive(Debug, Clone)]
pub struct EventTypeEntry {
    /// Its name.
    pub name: EventTypeName,
    /// What it means.
    pub description: String,
    /// JSON Schema (2020-12) of `data`.
    pub schema: Value,
    /// JSON pointers into `data` whose values are sealed.
    pub sensitive: Vec<String>,
    /// How long its messages are worth sending.
    pub time_to_live: Option<Duration>,
}

/// One locale of one version, uploaded to one app.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct UploadKey {
    /// The app.
    pub app: AppId,
    /// The version.
    pub version: TemplateVersionId,
    /// The locale.
    pub locale: String,
}

/// Everything that planning needs to know, at one revision.
#[derive(Debug, Clone, Default)]
pub struct CatalogSnapshot {
    /// Raised by every change.
    pub revision: i64,
    /// Every event type.
    pub event_types: Vec<EventTypeEntry>,
    /// Every rule, by key.
    pub rules: Vec<Rule>,
    /// Every template.
    pub templates: Vec<Template>,
    /// The live versions.
    pub versions: Vec<TemplateVersion>,
    /// OneSignal's ids of what is uploaded for them.
    pub uploads: Vec<(UploadKey, String)>,
    /// Every app.
    pub apps: Vec<App>,
}
