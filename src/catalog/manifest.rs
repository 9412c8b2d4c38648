//! The catalog as a checked document, on its way from files to the database.

use std::collections::BTreeMap;

use super::app_files::AppDocument;
use super::source_files::SourceDocument;
use crate::domain::channel::Channel;
use crate::domain::rule::Definition;
use crate::domain::snapshot::{EventTypeEntry, Partial};
use crate::domain::template::Content;

/// Everything that a catalog's files say.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub event_types: Vec<EventTypeEntry>,
    pub partials: Vec<Partial>,
    pub templates: Vec<TemplateDocument>,
    pub rules: Vec<RuleDocument>,
    pub sources: Vec<SourceDocument>,
    pub apps: Vec<AppDocument>,
    /// How many lines of a copy file stand above its body, by path.
    pub lines_above: BTreeMap<String, usize>,
}

/// A template with the copy of its next version.
#[derive(Debug)]
pub(super) struct TemplateDocument {
    pub key: String,
    pub channel: Channel,
    pub about: TemplateAbout,
    pub content: Content,
}

/// What stands beside a template's copy.
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
    /// Its app is not filled in.
    pub definition: Definition,
}
