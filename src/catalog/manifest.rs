//! The catalog as a document, between files and the database.

use std::collections::BTreeMap;

use super::app_files::AppDocument;
use super::source_files::SourceDocument;
use crate::domain::channel::Channel;
use crate::domain::rule::Definition;
use crate::domain::snapshot::{EventTypeEntry, Partial};
use crate::domain::template::Content;

/// The content of a catalog's files.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub event_types: Vec<EventTypeEntry>,
    pub partials: Vec<Partial>,
    pub templates: Vec<TemplateDocument>,
    pub rules: Vec<RuleDocument>,
    pub sources: Vec<SourceDocument>,
    pub apps: Vec<AppDocument>,
    /// The number of lines above the body of a content file, by path.
    pub lines_above: BTreeMap<String, usize>,
}

/// A template with the content of its next version.
#[derive(Debug)]
pub(super) struct TemplateDocument {
    pub key: String,
    pub channel: Channel,
    pub about: TemplateAbout,
    pub content: Content,
}

/// A template's settings.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TemplateAbout {
    pub description: String,
    pub owner: Option<String>,
    pub event_type: Option<String>,
    pub needs_approval: bool,
}

/// A rule; its app is named as in the file.
#[derive(Debug)]
pub(super) struct RuleDocument {
    pub key: String,
    pub event_type: String,
    pub app: Option<String>,
    pub is_enabled: bool,
    /// Its app is not resolved yet.
    pub definition: Definition,
}
