//! Event types, partials and rules one by one: checked as part of the whole catalog, as files are.

use super::changes::rule_json;
use super::check::CatalogProblem;
use super::checks::is_key;
use super::document::{Document, RuleDocument};
use super::files::file_of;
use super::forms::{EventTypeForm, FormProblem, RuleForm};
use super::publish::{Applied, ApplyError, Applying, By, Publisher};
use crate::domain::snapshot::{CatalogSnapshot, Partial};

/// Why an entry was not changed.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// There is none of this name.
    #[error("there is no {0}")]
    NotFound(String),
    /// It stands at this version (0: there is none), not at the one that was named.
    #[error("it was changed by somebody else meanwhile and stands at version {0}")]
    Changed(i32),
    /// The change can't be made.
    #[error(transparent)]
    Apply(#[from] ApplyError),
}

/// What can be changed by itself.
#[derive(Debug, Clone)]
pub enum Entry {
    /// An event type.
    EventType(EventTypeForm),
    /// A partial.
    Partial {
        /// What it is for.
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

/// The version that an entry stands at; 0 if there is none.
pub fn entry_version(snapshot: &CatalogSnapshot, kind: &str, name: &str) -> i32 {
    let found = match kind {
        "event_type" => snapshot.event_types.iter().find(|e| e.name.as_str() == name).map(|e| e.version),
        "partial" => snapshot.partials.iter().find(|p| p.key == name).map(|p| p.version),
        _ => snapshot.rules.iter().find(|r| r.key == name).map(|r| r.version),
    };
    found.unwrap_or_default()
}

impl Publisher {
    /// Enters or replaces an entry that stands at `version` (0: there is none). With `dry`, nothing is changed.
    ///
    /// # Errors
    /// [`EntryError`].
    pub async fn put_entry(
        &self,
        name: &str,
        entry: Entry,
        (version, dry): (i32, bool),
        by: By<'_>,
    ) -> Result<Applied, EntryError> {
        let kind = entry.kind();
        self.match_version(kind, name, version).await?;
        let document = document_of(name, entry).map_err(ApplyError::Problems)?;
        if dry {
            let snapshot = self.store.snapshot().await.map_err(ApplyError::Store)?;
            return Ok(Self::planned(&document, &snapshot, false)?);
        }
        Ok(self.change(&document, Applying::default(), by).await?)
    }

    /// Deletes an entry that stands at `version`.
    ///
    /// # Errors
    /// [`EntryError::NotFound`]; [`EntryError::Apply`] while something refers to it.
    pub async fn delete_entry(
        &self,
        kind: &'static str,
        name: &str,
        version: i32,
        by: By<'_>,
    ) -> Result<Applied, EntryError> {
        if self.match_version(kind, name, version).await? == 0 {
            return Err(EntryError::NotFound(format!("{} {name}", kind.replace('_', " "))));
        }
        Ok(self.delete(kind, name, by).await?)
    }

    async fn match_version(&self, kind: &str, name: &str, version: i32) -> Result<i32, EntryError> {
        let snapshot = self.store.snapshot().await.map_err(ApplyError::Store)?;
        let present = entry_version(&snapshot, kind, name);
        if present == version { Ok(present) } else { Err(EntryError::Changed(present)) }
    }
}

/// A rule as people write it.
pub fn rule_form(rule: &crate::domain::rule::Rule, snapshot: &CatalogSnapshot) -> serde_json::Value {
    rule_json(rule, snapshot)
}

fn document_of(name: &str, entry: Entry) -> Result<Document, Vec<CatalogProblem>> {
    let mut document = Document::default();
    let kind = entry.kind();
    let problems = match entry {
        Entry::EventType(form) => {
            let (entry, problems) = form.read(name);
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
        let problem = CatalogProblem::error("bad_name", &file, format!("`{name}` is no key"));
        found.push(problem.hint("1 to 100 lower-case letters, digits, `.`, `_` or `-`"));
    }
    if found.is_empty() { Ok(document) } else { Err(found) }
}

fn placed(file: &str, problem: FormProblem) -> CatalogProblem {
    let FormProblem { code, field, message, hint } = problem;
    CatalogProblem { field: Some(field.to_owned()), hint, ..CatalogProblem::error(code, file, message) }
}
