//! Changes of single event types, partials and rules, checked as part of the whole catalog, like files.

use std::sync::Arc;

use super::author::By;
use super::changes::rule_json;
use super::check::CatalogProblem;
use super::check::file_of;
use super::checks::is_key;
use super::forms::{EventTypeForm, FormProblem, RuleForm};
use super::manifest::{Document, RuleDocument};
use super::publish::{Applied, ApplyError, Applying, Publisher, Seen};
use crate::domain::budget::Budget;
use crate::domain::snapshot::{CatalogSnapshot, Partial};

/// An entry that can be changed individually.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An event type.
    EventType(EventTypeForm),
    /// A partial.
    Partial {
        /// Description.
        description: String,
        /// The text.
        body: String,
    },
    /// A rule.
    Rule(Box<RuleForm>),
}

impl Entry {
    fn kind(&self) -> &'static str {
        match self {
            Self::EventType(_) => "event_type",
            Self::Partial { .. } => "partial",
            Self::Rule(_) => "rule",
        }
    }
}

/// The current version of an entry; 0 if it doesn't exist.
pub fn entry_version(snapshot: &CatalogSnapshot, kind: &str, name: &str) -> i32 {
    let found = match kind {
        "event_type" => snapshot.event_types.iter().find(|e| e.name.as_str() == name).map(|e| e.version),
        "partial" => snapshot.partials.iter().find(|p| p.key == name).map(|p| p.version),
        _ => snapshot.rules.iter().find(|r| r.key == name).map(|r| r.version),
    };
    found.unwrap_or_default()
}

impl Publisher {
    /// Creates or replaces an entry that is at `version` (0: doesn't exist). With `dry`, nothing is changed.
    ///
    /// # Errors
    /// [`ApplyError`]: [`ApplyError::Changed`] if it is at another version.
    pub async fn put_entry(
        &self,
        name: &str,
        entry: Entry,
        (version, dry): (i32, bool),
        by: By<'_>,
    ) -> Result<Applied, ApplyError> {
        let seen = Seen { kind: entry.kind(), name, version };
        let named = name.to_owned();
        let document = self.compute(move |budget| document_of(&named, entry, budget)).await?;
        let document = Arc::new(document.map_err(ApplyError::Problems)?);
        if dry {
            let snapshot = Arc::new(self.store.snapshot().await?);
            seen.check(&snapshot)?;
            return self.planned(&document, &snapshot, false).await;
        }
        self.change(&document, Some(seen), Applying::default(), by).await
    }

    /// Deletes an entry that is at `version`. With `dry`, nothing is changed.
    ///
    /// # Errors
    /// [`ApplyError`]: [`ApplyError::Problems`] while something refers to it.
    pub async fn delete_entry(
        &self,
        (kind, name): (&'static str, &str),
        (version, dry): (i32, bool),
        by: By<'_>,
    ) -> Result<Applied, ApplyError> {
        self.delete(Seen { kind, name, version }, dry, by).await
    }
}

/// A rule in its written form.
pub fn rule_form(rule: &crate::domain::rule::Rule, snapshot: &CatalogSnapshot) -> serde_json::Value {
    rule_json(rule, snapshot)
}

fn document_of(name: &str, entry: Entry, budget: &Budget) -> Result<Document, Vec<CatalogProblem>> {
    let mut document = Document::default();
    let kind = entry.kind();
    let problems = match entry {
        Entry::EventType(form) => {
            let (entry, problems) = form.read(name, budget);
            document.event_types.extend(entry);
            problems
        }
        Entry::Partial { description, body } => {
            document.partials.push(Partial { key: name.to_owned(), version: 0, description, body });
            Vec::new()
        }
        Entry::Rule(form) => {
            let (event_type, app, is_enabled) = (form.event.clone(), form.app.clone(), form.enabled);
            let (definition, problems) = form.read();
            let rule =
                |definition| RuleDocument { key: name.to_owned(), event_type, app, is_enabled, definition };
            document.rules.extend(definition.map(rule));
            problems
        }
    };
    let file = file_of(kind, name);
    let mut found: Vec<CatalogProblem> = problems.into_iter().map(|problem| placed(&file, problem)).collect();
    if kind != "event_type" && !is_key(name) {
        let problem = CatalogProblem::error("bad_name", &file, format!("`{name}` is not a valid key"));
        found.push(problem.hint("use 1 to 100 lower-case letters, digits, `.`, `_` or `-`"));
    }
    if found.is_empty() { Ok(document) } else { Err(found) }
}

fn placed(file: &str, problem: FormProblem) -> CatalogProblem {
    let FormProblem { code, field, message, hint } = problem;
    CatalogProblem { field: Some(field.to_owned()), hint, ..CatalogProblem::error(code, file, message) }
}
