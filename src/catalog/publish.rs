//! Carrying a catalog's changes out: new versions are stored and uploaded first, and all goes live in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::check::CatalogProblem;
use super::document::{Document, EventTypeDocument, RuleDocument, TemplateDocument};
use super::files::{self, Files};
use super::source_files;
use super::upload::UploadError;
use crate::domain::app::{App, AppId};
use crate::domain::clock::Clock;
use crate::domain::id::{IdSource, TemplateVersionId};
use crate::domain::rule::Rule;
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::{Mode, Template, TemplateVersion};
use crate::provider::MessageProvider;
use crate::store::catalog::{self, VersionNote};
use crate::store::{Store, StoreError};

/// Writes the catalog.
pub struct Publisher {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<IdSource>,
    pub(super) provider: Arc<dyn MessageProvider>,
}

/// One change that was, or would be, made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Change {
    /// `event_type`, `template`, `rule` or `source`.
    pub kind: String,
    /// Its name or key.
    pub name: String,
    /// `new` or `changed`.
    pub change: String,
    /// The version that is live afterwards, for a template.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub version: Option<i32>,
}

/// What applying came to.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Applied {
    /// What is different now; empty when the catalog already said the same.
    pub changes: Vec<Change>,
    /// The catalog's revision.
    pub revision: i64,
}

/// Why a catalog was not applied. Nothing of it is live then.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The files have errors.
    #[error("the catalog has {} problems", .0.len())]
    Problems(Vec<CatalogProblem>),
    /// OneSignal did not take a template; trying again goes on where this stopped.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The database is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// A publisher that uploads through `provider`.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        ids: Arc<IdSource>,
        provider: Arc<dyn MessageProvider>,
    ) -> Self {
        Self { store, clock, ids, provider }
    }

    /// Says what applying these files would change, without changing anything.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn plan(&self, files: &Files) -> Result<Applied, ApplyError> {
        let (document, snapshot) = self.read(files).await?;
        let mut changes = changes(&document, &snapshot);
        changes.extend(source_files::changes(&document.sources, &self.store.source_settings().await?));
        Ok(Applied { changes, revision: snapshot.revision })
    }

    /// Makes the catalog say what these files say; what they don't mention stays. Applied templates are live.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn apply(&self, files: &Files, author: &str, note: &str) -> Result<Applied, ApplyError> {
        let (document, snapshot) = self.read(files).await?;
        let mut changes = changes(&document, &snapshot);
        changes.extend(source_files::changes(&document.sources, &self.store.source_settings().await?));
        if changes.is_empty() {
            return Ok(Applied { changes, revision: snapshot.revision });
        }
        let versions = self.store_versions(&document.templates, author, note).await?;
        for version in &versions {
            for app in apps_of(&version.template, &document, &snapshot) {
                self.upload_version(app, version).await?;
            }
        }
        for change in changes.iter_mut().filter(|change| change.kind == "template") {
            change.version = versions.iter().find(|v| v.template == change.name).map(|v| v.number);
        }
        let revision = self.go_live(&document, &snapshot, &versions).await?;
        Ok(Applied { changes, revision })
    }

    async fn read(&self, files: &Files) -> Result<(Document, CatalogSnapshot), ApplyError> {
        let document = files::read(files).map_err(ApplyError::Problems)?;
        let snapshot = self.store.snapshot().await?;
        let problems = loose_ends(&document, &snapshot);
        if problems.is_empty() { Ok((document, snapshot)) } else { Err(ApplyError::Problems(problems)) }
    }

    async fn store_versions(
        &self,
        templates: &[TemplateDocument],
        author: &str,
        note: &str,
    ) -> Result<Vec<TemplateVersion>, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        catalog::lock(&mut tx).await?;
        let mut versions = Vec::with_capacity(templates.len());
        for document in templates {
            let template = Template {
                id: self.ids.next(now),
                key: document.key.clone(),
                channel: document.channel,
                description: document.description.clone(),
                live: None,
            };
            let id = catalog::find_or_insert_template(&mut tx, &template, now).await?;
            let mut version = version_of(document, self.ids.next(now));
            let hash = content_hash(&version);
            let by = VersionNote { content_hash: &hash, author, note };
            (version.id, version.number) =
                catalog::find_or_insert_version(&mut tx, id, &version, by, now).await?;
            versions.push(version);
        }
        tx.commit().await.map_err(StoreError::from)?;
        Ok(versions)
    }

    async fn go_live(
        &self,
        document: &Document,
        snapshot: &CatalogSnapshot,
        versions: &[TemplateVersion],
    ) -> Result<i64, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        catalog::lock(&mut tx).await?;
        for event_type in &document.event_types {
            let samples = Value::Object(event_type.samples.clone());
            catalog::upsert_event_type(&mut tx, &event_type.entry, &samples, now).await?;
        }
        for version in versions {
            catalog::set_live(&mut tx, &version.template, version.id).await?;
        }
        for rule in &document.rules {
            let wanted = rule_of(rule, snapshot, self.ids.next(now));
            catalog::upsert_rule(&mut tx, &wanted, &rule.description, now).await?;
        }
        source_files::put_all(&mut tx, &document.sources, &self.ids, now).await?;
        let revision = catalog::raise_revision(&mut tx, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(revision)
    }
}

/// References that lead nowhere, and channels that can't change.
fn loose_ends(document: &Document, snapshot: &CatalogSnapshot) -> Vec<CatalogProblem> {
    let types: BTreeSet<&str> = document.event_types.iter().map(|t| t.entry.name.as_str()).collect();
    let templates: BTreeSet<&str> = document.templates.iter().map(|t| t.key.as_str()).collect();
    let mut problems = Vec::new();
    for rule in &document.rules {
        let file = format!("rules/{}.toml", rule.key);
        let is_known_type = types.contains(rule.event_type.as_str())
            || snapshot.event_types.iter().any(|t| t.name == rule.event_type);
        if !is_known_type {
            let message = format!("there is no event type {}", rule.event_type);
            problems.push(CatalogProblem::error("unknown_event_type", &file, message));
        }
        if !templates.contains(rule.template.as_str())
            && !snapshot.templates.iter().any(|t| t.key == rule.template)
        {
            problems.push(CatalogProblem::error(
                "unknown_template",
                &file,
                format!("there is no template {}", rule.template),
            ));
        }
        if rule.app.as_deref().is_some_and(|app| find_app(snapshot, app).is_none()) {
            let message = format!("there is no app {}", rule.app.as_deref().unwrap_or_default());
            problems.push(CatalogProblem::error("unknown_app", &file, message));
        }
    }
    let known_types: BTreeSet<&str> =
        types.iter().copied().chain(snapshot.event_types.iter().map(|t| t.name.as_str())).collect();
    problems.extend(source_files::loose_ends(&document.sources, &known_types));
    for template in &document.templates {
        let known = snapshot.templates.iter().find(|t| t.key == template.key);
        if let Some(known) = known.filter(|known| known.channel != template.channel) {
            let message =
                format!("{} is a template for {}; its channel can't change", template.key, known.channel);
            let file = format!("templates/{}/template.toml", template.key);
            problems.push(CatalogProblem::error("channel_changed", &file, message).hint("use another key"));
        }
    }
    problems
}

fn find_app<'a>(snapshot: &'a CatalogSnapshot, name: &str) -> Option<&'a App> {
    snapshot.apps.iter().find(|app| app.name == name || app.id.to_string() == name)
}

/// The apps that a template is sent through: those of its rules, and the default one.
fn apps_of<'a>(template: &str, document: &Document, snapshot: &'a CatalogSnapshot) -> Vec<&'a App> {
    let mut ids: BTreeSet<AppId> =
        snapshot.apps.iter().filter(|app| app.is_default).map(|app| app.id).collect();
    ids.extend(snapshot.rules.iter().filter(|rule| rule.template == template).filter_map(|rule| rule.app));
    let named =
        document.rules.iter().filter(|rule| rule.template == template).filter_map(|rule| rule.app.as_deref());
    ids.extend(named.filter_map(|name| find_app(snapshot, name)).map(|app| app.id));
    snapshot.apps.iter().filter(|app| ids.contains(&app.id)).collect()
}

fn version_of(document: &TemplateDocument, id: TemplateVersionId) -> TemplateVersion {
    TemplateVersion {
        id,
        template: document.key.clone(),
        number: 0,
        channel: document.channel,
        mode: document.mode,
        default_locale: document.default_locale.clone(),
        options: document.options.clone(),
        contents: document.contents.clone(),
    }
}

/// The same for the same copy, mode, default locale and options.
fn content_hash(version: &TemplateVersion) -> [u8; 32] {
    let content = json!({
        "mode": matches!(version.mode, Mode::Inline),
        "default_locale": version.default_locale,
        "options": version.options,
        "contents": version.contents,
    });
    crate::store::content_hash(content.to_string().as_bytes())
}

fn rule_of(document: &RuleDocument, snapshot: &CatalogSnapshot, id: crate::domain::id::RuleId) -> Rule {
    let known = snapshot.rules.iter().find(|rule| rule.key == document.key);
    Rule {
        id: known.map_or(id, |rule| rule.id),
        key: document.key.clone(),
        event_type: document.event_type.clone(),
        app: document.app.as_deref().and_then(|name| find_app(snapshot, name)).map(|app| app.id),
        template: document.template.clone(),
        audience: document.audience.clone(),
        lane: document.lane,
        delay: document.delay,
        expires_in: document.expires_in,
        is_enabled: document.is_enabled,
    }
}

/// What is different between the files and the catalog.
fn changes(document: &Document, snapshot: &CatalogSnapshot) -> Vec<Change> {
    let mut changes = Vec::new();
    let mut note = |kind: &str, name: &str, is_new: bool| {
        let change = if is_new { "new" } else { "changed" }.to_owned();
        changes.push(Change { kind: kind.to_owned(), name: name.to_owned(), change, version: None });
    };
    for event_type in &document.event_types {
        match snapshot.event_types.iter().find(|known| known.name == event_type.entry.name) {
            Some(known) if same_type(known, event_type) => {}
            known => note("event_type", event_type.entry.name.as_str(), known.is_none()),
        }
    }
    let live: BTreeMap<&str, &TemplateVersion> =
        snapshot.versions.iter().map(|version| (version.template.as_str(), version)).collect();
    for template in &document.templates {
        match live.get(template.key.as_str()) {
            Some(known) if content_hash(known) == content_hash(&version_of(template, known.id)) => {}
            known => note("template", &template.key, known.is_none()),
        }
    }
    for rule in &document.rules {
        match snapshot.rules.iter().find(|known| known.key == rule.key) {
            Some(known) if *known == rule_of(rule, snapshot, known.id) => {}
            known => note("rule", &rule.key, known.is_none()),
        }
    }
    changes
}

fn same_type(known: &crate::domain::snapshot::EventTypeEntry, wanted: &EventTypeDocument) -> bool {
    let wanted = &wanted.entry;
    known.description == wanted.description
        && known.schema == wanted.schema
        && known.sensitive == wanted.sensitive
        && known.time_to_live == wanted.time_to_live
}
