//! The catalog at one revision, in domain types.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Map, Value};

use super::app::{App, AppId};
use super::event::EventTypeName;
use super::id::TemplateVersionId;
use super::rule::Rule;
use super::template::{Template, TemplateVersion};

/// The catalog entry of an event type.
#[derive(Debug, Clone, PartialEq)]
pub struct EventTypeEntry {
    /// Its name.
    pub name: EventTypeName,
    /// Raised by every change: its `ETag`.
    pub version: i32,
    /// Its description.
    pub description: String,
    /// Its owner.
    pub owner: Option<String>,
    /// JSON Schema (2020-12) of `data`.
    pub schema: Value,
    /// JSON pointers into `data` whose values are sealed.
    pub sensitive: Vec<String>,
    /// How long its messages may be sent.
    pub time_to_live: Option<Duration>,
    /// Examples of `data` by name.
    pub samples: Map<String, Value>,
}

/// A piece of copy that templates include, or a layout of emails.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Partial {
    /// Its name.
    pub key: String,
    /// Raised by every change: its `ETag`.
    pub version: i32,
    /// Its purpose.
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

/// Everything that planning needs, at one revision.
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
    /// The live versions and those that canaries use.
    pub versions: Vec<TemplateVersion>,
    /// OneSignal's ids of their uploads.
    pub uploads: Vec<(UploadKey, String)>,
    /// The settings of sources, by name, as they are written.
    pub sources: BTreeMap<String, Value>,
    /// Every app.
    pub apps: Vec<App>,
}
