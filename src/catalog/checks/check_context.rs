//! The context of checks: the document, applied to the current catalog.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::ops::Deref;

use serde_json::Value;

use crate::catalog::manifest::Document;
use crate::domain::app::App;
use crate::domain::digest::{gathered, gathered_entry};
use crate::domain::event::covers;
use crate::domain::rule::{Action, Definition};
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry};
use crate::templating::check::EventShape;

/// The resulting catalog.
pub(in crate::catalog) struct CheckContext<'a> {
    /// Event types by name.
    pub event_types: BTreeMap<&'a str, &'a EventTypeEntry>,
    /// Partials by key.
    pub partials: BTreeMap<String, String>,
    /// The keys of templates.
    pub templates: Vec<&'a str>,
    /// Rules by key: event type and definition.
    pub rules: BTreeMap<&'a str, (&'a str, &'a Definition)>,
    /// The apps; `None` if unknown.
    pub apps: Option<&'a [App]>,
}

impl<'a> CheckContext<'a> {
    /// The document applied to the catalog, if there is one.
    pub fn of(document: &'a Document, snapshot: Option<&'a CatalogSnapshot>) -> Self {
        let mut around = Self {
            event_types: BTreeMap::new(),
            partials: BTreeMap::new(),
            templates: Vec::new(),
            rules: BTreeMap::new(),
            apps: None,
        };
        if let Some(snapshot) = snapshot {
            around.event_types = snapshot.event_types.iter().map(|e| (e.name.as_str(), e)).collect();
            around.partials = snapshot.partials.iter().map(|p| (p.key.clone(), p.body.clone())).collect();
            around.templates =
                snapshot.templates.iter().filter(|t| !t.is_archived).map(|t| t.key.as_str()).collect();
            around.rules = snapshot
                .rules
                .iter()
                .map(|r| (r.key.as_str(), (r.event_type.as_str(), &r.definition)))
                .collect();
            around.apps = Some(&snapshot.apps);
        }
        around.event_types.extend(document.event_types.iter().map(|e| (e.name.as_str(), e)));
        around.partials.extend(document.partials.iter().map(|p| (p.key.clone(), p.body.clone())));
        around.templates.extend(document.templates.iter().map(|t| t.key.as_str()));
        around
            .rules
            .extend(document.rules.iter().map(|r| (r.key.as_str(), (r.event_type.as_str(), &r.definition))));
        around
    }

    /// The current catalog.
    pub fn present(snapshot: &'a CatalogSnapshot) -> Self {
        static NOTHING: std::sync::LazyLock<Document> = std::sync::LazyLock::new(Document::default);
        Self::of(&NOTHING, Some(snapshot))
    }

    /// The event types that a pattern covers.
    pub fn covered(&self, pattern: &'a str) -> impl Iterator<Item = &'a EventTypeEntry> + '_ {
        self.event_types.values().copied().filter(move |entry| covers(pattern, &entry.name))
    }

    /// The event types of a template: those of its rules, and its own. One that is used with a digest by one rule and
    /// without by another is included in both forms.
    pub fn types_of(&self, template: &str, named: Option<&str>) -> Vec<Leading<'a>> {
        let sends = |definition: &Definition| matches!(&definition.action, Action::Send { template: sent, .. } if sent == template);
        let mut found: Vec<(&'a EventTypeEntry, bool)> = self
            .rules
            .values()
            .filter(|(_, definition)| sends(definition))
            .flat_map(|(pattern, definition)| {
                self.covered(pattern).map(|entry| (entry, definition.digest.is_some()))
            })
            .collect();
        let named = named.and_then(|name| self.event_types.get(name).copied());
        found.extend(named.filter(|n| !found.iter().any(|(e, _)| e.name == n.name)).map(|n| (n, false)));
        found.sort_by(|(a, one), (b, other)| (&a.name, one).cmp(&(&b.name, other)));
        found.dedup_by(|(a, one), (b, other)| a.name == b.name && one == other);
        found.into_iter().map(|(entry, is_gathered)| Leading::of(entry, is_gathered)).collect()
    }
}

/// An event type in the form that a template uses.
pub(in crate::catalog) struct Leading<'a> {
    entry: Cow<'a, EventTypeEntry>,
    /// Whether its events are combined in a digest.
    pub is_gathered: bool,
}

impl<'a> Leading<'a> {
    /// An event type in this form.
    pub fn of(entry: &'a EventTypeEntry, is_gathered: bool) -> Self {
        let entry = if is_gathered { Cow::Owned(gathered_entry(entry)) } else { Cow::Borrowed(entry) };
        Self { entry, is_gathered }
    }

    /// An event's values in the form that the template uses.
    pub fn data(&self, data: Value) -> Value {
        if self.is_gathered { gathered(vec![data], 1) } else { data }
    }
}

impl Deref for Leading<'_> {
    type Target = EventTypeEntry;
    fn deref(&self) -> &EventTypeEntry {
        &self.entry
    }
}

/// An event type in the form that checks use.
pub(in crate::catalog) fn shape(entry: &EventTypeEntry) -> EventShape<'_> {
    EventShape {
        name: entry.name.as_str(),
        schema: &entry.schema,
        sensitive: &entry.sensitive,
        samples: &entry.samples,
        observed: None,
    }
}
