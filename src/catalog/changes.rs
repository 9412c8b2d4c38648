//! The differences between a document and the catalog.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::app_files;
use super::forms::{EventTypeForm, RuleForm, TemplateForm};
use super::manifest::{Document, RuleDocument, TemplateDocument};
use super::source_files;
use crate::domain::id::{RuleId, TemplateId, TypedId};
use crate::domain::rule::{Definition, Rule};
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry};
use crate::domain::template::{Content, Template, TemplateVersion};
use crate::templating::partials::needed;

/// A change that was or would be made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Change {
    /// `event_type`, `partial`, `template`, `rule`, `source` or `app`.
    pub kind: String,
    /// Its name or key.
    pub name: String,
    /// `new`, `changed`, `deleted`, or `archived` for a template.
    pub change: String,
    /// The version that is live afterwards, for a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
    /// Its content before; `null` if it is new.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub before: Option<Value>,
    /// Its content after; `null` if it is deleted.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub after: Option<Value>,
}

impl Change {
    pub(super) fn new(kind: &str, name: &str, before: Option<Value>, after: Option<Value>) -> Self {
        let change = match (&before, &after) {
            (None, _) => "new",
            (Some(_), Some(_)) => "changed",
            (Some(_), None) if kind == "template" => "archived",
            (Some(_), None) => "deleted",
        };
        let (kind, name, change) = (kind.to_owned(), name.to_owned(), change.to_owned());
        Self { kind, name, change, version: None, before, after }
    }
}

/// The differences between the document and the catalog, in the document's order; with `deletes`, entries that are not
/// in the document are deleted.
pub(super) fn changes(document: &Document, snapshot: &CatalogSnapshot, deletes: bool) -> Vec<Change> {
    let mut changes = Vec::new();
    for entry in &document.event_types {
        let known = snapshot.event_types.iter().find(|known| known.name == entry.name);
        note(
            &mut changes,
            "event_type",
            entry.name.as_str(),
            known.map(event_type_json),
            event_type_json(entry),
        );
    }
    for partial in &document.partials {
        let json =
            |p: &crate::domain::snapshot::Partial| json!({"description": p.description, "body": p.body});
        let known = snapshot.partials.iter().find(|known| known.key == partial.key);
        note(&mut changes, "partial", &partial.key, known.map(json), json(partial));
    }
    let partials = partials_of(document, snapshot);
    for template in &document.templates {
        let known = present_template(&template.key, snapshot);
        let after = template_json(&template_of(template, snapshot), &template.content, &partials);
        note(&mut changes, "template", &template.key, known, after);
    }
    for rule in &document.rules {
        let known = snapshot.rules.iter().find(|known| known.key == rule.key);
        let wanted = rule_of(rule, snapshot, known.map_or(RuleId::from_uuid(Uuid::nil()), |known| known.id));
        note(
            &mut changes,
            "rule",
            &rule.key,
            known.map(|r| rule_json(r, snapshot)),
            rule_json(&wanted, snapshot),
        );
    }
    changes.extend(source_files::changes(&document.sources, &snapshot.sources));
    changes.extend(app_files::changes(&document.apps, &snapshot.apps));
    if deletes {
        changes.extend(missing(document, snapshot));
    }
    changes
}

fn note(changes: &mut Vec<Change>, kind: &str, name: &str, before: Option<Value>, after: Value) {
    if before.as_ref() != Some(&after) {
        changes.push(Change::new(kind, name, before, Some(after)));
    }
}

/// Entries of the catalog that are not in the document: rules first, so that nothing refers to deleted entries.
fn missing(document: &Document, snapshot: &CatalogSnapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    for rule in snapshot.rules.iter().filter(|r| document.rules.iter().all(|d| d.key != r.key)) {
        changes.push(Change::new("rule", &rule.key, Some(rule_json(rule, snapshot)), None));
    }
    let live = snapshot.templates.iter().filter(|t| !t.is_archived && t.live.is_some());
    for template in live.filter(|t| document.templates.iter().all(|d| d.key != t.key)) {
        changes.push(Change::new("template", &template.key, present_template(&template.key, snapshot), None));
    }
    for partial in snapshot.partials.iter().filter(|p| document.partials.iter().all(|d| d.key != p.key)) {
        let before = json!({"description": partial.description, "body": partial.body});
        changes.push(Change::new("partial", &partial.key, Some(before), None));
    }
    for entry in snapshot.event_types.iter().filter(|e| document.event_types.iter().all(|d| d.name != e.name))
    {
        changes.push(Change::new("event_type", entry.name.as_str(), Some(event_type_json(entry)), None));
    }
    changes
}

/// An event type in its written form.
pub(super) fn event_type_json(entry: &EventTypeEntry) -> Value {
    serde_json::to_value(EventTypeForm::of(entry)).unwrap_or_default()
}

/// A rule in its written form.
pub(super) fn rule_json(rule: &Rule, snapshot: &CatalogSnapshot) -> Value {
    serde_json::to_value(RuleForm::of(rule, app_name(&rule.definition, snapshot))).unwrap_or_default()
}

/// The name of a rule's app.
pub(super) fn app_name(definition: &Definition, snapshot: &CatalogSnapshot) -> Option<String> {
    let id = definition.app?;
    let known = snapshot.apps.iter().find(|app| app.id == id);
    Some(known.map_or_else(|| id.to_string(), |app| app.name.clone()))
}

/// The live version of a template, if there is one.
fn present_template(key: &str, snapshot: &CatalogSnapshot) -> Option<Value> {
    let template = snapshot.templates.iter().find(|t| t.key == key && !t.is_archived)?;
    let live = snapshot.versions.iter().find(|v| Some(v.id) == template.live)?;
    Some(template_json(template, &live.content, &live.partials))
}

/// A template in its written form, with its partials.
fn template_json(template: &Template, content: &Content, partials: &BTreeMap<String, String>) -> Value {
    let mut form = serde_json::to_value(TemplateForm::of(template, content)).unwrap_or_default();
    form["contents"] = json!(content.contents);
    form["partials"] = json!(needed(content.contents.values(), content.layout.as_deref(), partials));
    form
}

/// The catalog's partials, overridden by the document's.
pub(super) fn partials_of(document: &Document, snapshot: &CatalogSnapshot) -> BTreeMap<String, String> {
    let known = snapshot.partials.iter().chain(&document.partials);
    known.map(|partial| (partial.key.clone(), partial.body.clone())).collect()
}

/// The template according to the document, with the existing id if there is one.
pub(super) fn template_of(document: &TemplateDocument, snapshot: &CatalogSnapshot) -> Template {
    let known = snapshot.templates.iter().find(|t| t.key == document.key);
    Template {
        id: known.map_or(TemplateId::from_uuid(Uuid::nil()), |t| t.id),
        key: document.key.clone(),
        channel: document.channel,
        version: known.map_or(0, |t| t.version),
        description: document.about.description.clone(),
        owner: document.about.owner.clone(),
        event_type: document.about.event_type.clone(),
        needs_approval: document.about.needs_approval,
        is_archived: false,
        live: known.and_then(|t| t.live),
    }
}

/// The rule according to the document, with this id.
pub(super) fn rule_of(document: &RuleDocument, snapshot: &CatalogSnapshot, id: RuleId) -> Rule {
    let app = document
        .app
        .as_deref()
        .and_then(|name| snapshot.apps.iter().find(|app| app.is_called(name)))
        .map(|app| app.id);
    Rule {
        id,
        key: document.key.clone(),
        version: 0,
        event_type: document.event_type.clone(),
        is_enabled: document.is_enabled,
        definition: Definition { app, ..document.definition.clone() },
    }
}

/// Identical for identical content, settings and partials.
pub(super) fn content_hash(version: &TemplateVersion) -> [u8; 32] {
    let content = json!({"content": version.content, "partials": version.partials});
    crate::store::content_hash(content.to_string().as_bytes())
}
