//! The catalog at one revision, as plain nouns.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::app::{App, AppId};
use super::event::EventTypeName;
use super::id::TemplateVersionId;
use super::rule::Rule;
use super::template::{Template, TemplateVersion};

/// The catalog's entry of an event type.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTypeEntry {
    /// Its name.
    pub name: EventTypeName,
    /// Raised by every change: its `ETag`.
    pub version: i32,
    /// What it means.
    pub description: String,
    /// Who looks after it.
    pub owner: Option<String>,
    /// JSON Schema (2020-12) of `data`.
    pub schema: Value,
    /// JSON pointers into `data` whose values are sealed.
    pub sensitive: Vec<String>,
    /// How long its messages are worth sending.
    pub time_to_live: Option<Duration>,
    /// Examples of `data` by name.
    pub samples: Map<String, Value>,
}

/// A piece of copy that templates include, or that emails stand in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Its name.
    pub key: String,
    /// Raised by every change: its `ETag`.
    pub version: i32,
    /// What it is for.
    pub description: String,
    /// The text.
    pub body: String,
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
    /// Every partial.
    pub partials: Vec<Partial>,
    /// The live versions and those that canaries name.
    pub versions: Vec<TemplateVersion>,
    /// OneSignal's ids of what is uploaded for them.
    pub uploads: Vec<(UploadKey, String)>,
    /// What is said about sources, by name, as it is written.
    pub sources: BTreeMap<String, Value>,
    /// Every app.
    pub apps: Vec<App>,
}
