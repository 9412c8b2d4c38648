//! Template settings: creating, changing, archiving.

use super::author::By;
use super::checks::is_key;
use super::publish::Publisher;
use super::templates::{Place, TemplateError};
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::Template;
use crate::store::{catalog, templates};

impl Publisher {
    /// Creates a template without content.
    ///
    /// # Errors
    /// [`TemplateError::Exists`] if the key is used, [`TemplateError::Invalid`] if it is not a valid key.
    pub async fn create_template(&self, template: Template, by: By<'_>) -> Result<(), TemplateError> {
        if !is_key(&template.key) {
            let detail = format!(
                "`{}` is not a valid key: use 1 to 100 lower-case letters, digits, `.`, `_` or `-`",
                template.key
            );
            return Err(TemplateError::Invalid("key", detail));
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        catalog::lock(&mut tx).await?;
        let snapshot = self.store.snapshot_within(&mut tx).await?;
        if snapshot.templates.iter().any(|t| t.key == template.key) {
            let detail = format!("template `{}` exists; save a draft of it instead", template.key);
            return Err(TemplateError::Exists(detail));
        }
        known_event(&template, &snapshot)?;
        let template = Template { id: self.ids.next(now), live: None, ..template };
        templates::upsert_template(&mut tx, &template, now).await?;
        self.note(tx, (&template, "created", None, None), by, now).await
    }

    /// Changes a template's settings, including whether it is archived, if it is still at `version`.
    ///
    /// # Errors
    /// [`TemplateError::Changed`], [`TemplateError::InUse`] if a rule sends a template to be archived,
    /// [`TemplateError::Invalid`] if its event type is unknown.
    pub async fn change_template(
        &self,
        key: &str,
        version: i32,
        change: impl FnOnce(&mut Template),
        by: By<'_>,
    ) -> Result<Template, TemplateError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        catalog::lock(&mut tx).await?;
        let snapshot = self.store.snapshot_within(&mut tx).await?;
        let known = Place::find(&snapshot, key)?.template;
        if known.version != version {
            return Err(TemplateError::Changed(known.version));
        }
        let mut wanted = known.clone();
        change(&mut wanted);
        if wanted == *known {
            return Ok(wanted);
        }
        if wanted.event_type != known.event_type {
            known_event(&wanted, &snapshot)?;
        }
        let action = match (known.is_archived, wanted.is_archived) {
            (false, true) => "archived",
            (true, false) => "restored",
            _ => "changed",
        };
        let sender = snapshot.rules.iter().find(|rule| rule.template() == Some(key));
        if let Some(rule) = sender.filter(|_| action == "archived") {
            return Err(TemplateError::InUse(rule.key.clone()));
        }
        templates::upsert_template(&mut tx, &wanted, now).await?;
        wanted.version += 1;
        let about = |t: &Template| {
            serde_json::json!({"description": t.description, "owner": t.owner, "event": t.event_type,
                "needs_approval": t.needs_approval, "archived": t.is_archived})
        };
        self.note(tx, (&wanted, action, Some(about(known)), Some(about(&wanted))), by, now).await?;
        Ok(wanted)
    }
}

/// Rejects an unknown event type.
fn known_event(template: &Template, snapshot: &CatalogSnapshot) -> Result<(), TemplateError> {
    let Some(name) = template.event_type.as_deref() else { return Ok(()) };
    if snapshot.event_types.iter().any(|entry| entry.name.as_str() == name) {
        return Ok(());
    }
    Err(TemplateError::Invalid("event", format!("there is no event type {name}")))
}
