//! `sources/<name>.toml`: sources with their webhooks and mappings. Secrets are never in files.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::author::By;
use super::changes::Change;
use super::check::CatalogProblem;
use super::publish::{ApplyError, Publisher};
use crate::domain::budget::Budget;
use crate::domain::clock::Timestamp;
use crate::domain::id::IdSource;
use crate::store::{StoreError, Tx, audit, catalog, webhooks};
use crate::webhooks::{SourceSettings, Webhook, check};

/// A source in its file.
#[derive(Debug)]
pub(super) struct SourceDocument {
    pub name: String,
    pub settings: SourceSettings,
}

/// Whether a text is a valid source name.
pub fn is_source_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c);
    let starts_well = name.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
    starts_well && name.len() <= 64 && name.chars().all(is_plain)
}

/// Checks one file's settings.
pub(super) fn read(
    path: &str,
    name: &str,
    settings: SourceSettings,
    (problems, budget): (&mut Vec<CatalogProblem>, &Budget),
) -> Option<SourceDocument> {
    let before = problems.len();
    if !is_source_name(name) {
        let problem = CatalogProblem::error("bad_name", path, format!("`{name}` is not a valid source name"));
        problems.push(problem.hint("use 1 to 64 lower-case letters, digits, `.`, `_` or `-`"));
    }
    for found in check(&settings, budget) {
        let problem = CatalogProblem::error(found.code, path, format!("{}: {}", found.place, found.message));
        problems.push(CatalogProblem { hint: found.hint, ..problem });
    }
    (problems.len() == before).then(|| SourceDocument { name: name.to_owned(), settings })
}

/// Unknown event types in mappings.
pub(super) fn loose_ends(sources: &[SourceDocument], types: &BTreeSet<&str>) -> Vec<CatalogProblem> {
    let mut problems = Vec::new();
    for source in sources {
        let file = format!("sources/{}.toml", source.name);
        for (place, name) in Webhook::fixed_types(&source.settings) {
            if !types.contains(name.as_str()) {
                let message = format!("mapping[{place}].type: there is no event type {name}");
                problems.push(CatalogProblem::error("unknown_event_type", &file, message));
            }
        }
    }
    problems
}

/// The differences between files and sources.
pub(super) fn changes(sources: &[SourceDocument], known: &BTreeMap<String, Value>) -> Vec<Change> {
    let mut changes = Vec::new();
    for source in sources {
        let (before, after) = (known.get(&source.name), as_json(&source.settings));
        if before != Some(&after) {
            changes.push(Change::new("source", &source.name, before.cloned(), Some(after)));
        }
    }
    changes
}

/// Applies these settings to sources.
pub(super) async fn put_all(
    tx: &mut Tx,
    sources: impl Iterator<Item = &SourceDocument>,
    ids: &IdSource,
    now: Timestamp,
) -> Result<(), StoreError> {
    for source in sources {
        put(tx, &source.name, &source.settings, ids, now).await?;
    }
    Ok(())
}

async fn put(
    tx: &mut Tx,
    name: &str,
    settings: &SourceSettings,
    ids: &IdSource,
    now: Timestamp,
) -> Result<(), StoreError> {
    let columns = (settings.allowed_types.as_deref(), settings.default_locale.as_deref());
    webhooks::put_settings(tx, (ids.next(now), name), &as_json(settings), columns, now).await
}

fn as_json(settings: &SourceSettings) -> Value {
    serde_json::to_value(settings).unwrap_or_default()
}

impl Publisher {
    /// Applies checked settings to one source that is at `version` (0: has no settings).
    ///
    /// # Errors
    /// [`ApplyError::Changed`] if it is at another version; [`ApplyError::Store`], for which retrying helps.
    pub async fn put_source(
        &self,
        name: &str,
        settings: &SourceSettings,
        version: i32,
        by: By<'_>,
    ) -> Result<(), ApplyError> {
        let now = self.clock.now();
        let before = self.store.source_settings().await?.remove(name);
        let mut tx = self.store.begin().await?;
        catalog::lock(&mut tx).await?;
        let present = webhooks::settings_version(&mut tx, name).await?;
        if present != version {
            return Err(ApplyError::Changed(present));
        }
        put(&mut tx, name, settings, &self.ids, now).await?;
        let change = Change::new("source", name, before, Some(as_json(settings)));
        audit::append(&mut tx, &[self.entry(&change, by, now)]).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }
}
