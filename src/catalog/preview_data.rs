//! Preview data: the event types of a template, and content as an unsaved version.

use serde_json::Value;

use super::traffic::masked;
use crate::domain::event::{EventTypeName, covers};
use crate::domain::id::{TemplateVersionId, TypedId};
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry};
use crate::domain::template::{Content, TemplateVersion};

/// The event types of a template.
pub fn types_of<'a>(snapshot: &'a CatalogSnapshot, key: &str) -> Vec<&'a EventTypeEntry> {
    let named = snapshot.templates.iter().find(|t| t.key == key).and_then(|t| t.event_type.as_deref());
    let leads = |entry: &&EventTypeEntry| {
        let by_rule = snapshot
            .rules
            .iter()
            .filter(|rule| rule.template() == Some(key))
            .any(|rule| covers(&rule.event_type, &entry.name));
        by_rule || named == Some(entry.name.as_str())
    };
    snapshot.event_types.iter().filter(leads).collect()
}

/// Content as an unsaved version, or the live version if it is identical, so that its upload is found.
/// `None` if there is no such template.
pub fn draft_version(snapshot: &CatalogSnapshot, key: &str, content: Content) -> Option<TemplateVersion> {
    let template = snapshot.templates.iter().find(|template| template.key == key)?;
    let live = snapshot.versions.iter().find(|version| Some(version.id) == template.live);
    if let Some(live) = live.filter(|live| live.content == content) {
        return Some(live.clone());
    }
    Some(TemplateVersion {
        id: TemplateVersionId::from_uuid(uuid::Uuid::nil()),
        template: key.to_owned(),
        number: 0,
        channel: template.channel,
        partials: snapshot.partials.iter().map(|p| (p.key.clone(), p.body.clone())).collect(),
        content,
    })
}

/// A past event's values with sensitive ones masked, including those that became sensitive after it was stored.
pub fn shown_data(snapshot: &CatalogSnapshot, event_type: &EventTypeName, data: &Value) -> Value {
    let known = snapshot.event_types.iter().find(|entry| entry.name == *event_type);
    known.map_or_else(|| data.clone(), |known| masked(data, &known.sensitive))
}
