//! Applying catalog changes: new versions are stored and uploaded first, then everything goes live in one transaction.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use serde_json::json;

use super::app_files;
use super::author::{By, permitted};
use super::changes::{Change, changes, content_hash, partials_of, rule_of, template_of};
use super::check::CatalogProblem;
use super::checks::check_document;
use super::entries::entry_version;
use super::files::{self, Files};
use super::manifest::{Document, TemplateDocument};
use super::preconditions::{still_used, unapproved, untimely};
use super::source_files;
use super::traffic::TrafficReport;
use super::upload::UploadError;
use crate::compute::{Compute, ComputeError, Purpose};
use crate::domain::app::{App, AppId};
use crate::domain::budget::Budget;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{DeliveryId, IdSource, TypedId};
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::TemplateVersion;
use crate::provider::MessageProvider;
use crate::store::audit::{self, AuditEntry};
use crate::store::catalog::{self, Deletable};
use crate::store::templates::{self, VersionNote};
use crate::store::{Store, StoreError, Tx};
use crate::templating::partials::needed;

/// Applies catalog changes.
pub struct Publisher {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<IdSource>,
    pub(super) provider: Arc<dyn MessageProvider>,
    compute: Arc<Compute>,
    pub(super) view_interval: Duration,
}

/// The result of applying a catalog.
#[derive(Debug, Clone, Serialize, utoipa::ToSchema)]
pub struct Applied {
    /// The changes; empty if there were none.
    pub changes: Vec<Change>,
    /// The check of each changed template against recent events, by key.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub traffic: BTreeMap<String, TrafficReport>,
    /// Warnings, which don't prevent the change.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<CatalogProblem>,
    /// The catalog's revision.
    pub revision: i64,
}

/// Why a catalog was not applied. Nothing was published.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The files have errors.
    #[error("the catalog has {} problems", .0.len())]
    Problems(Vec<CatalogProblem>),
    /// The change exceeds its author's rights.
    #[error("the change includes {} actions that require another permission", .0.len())]
    NotPermitted(Vec<CatalogProblem>),
    /// Events that are sent today would be held by a changed template.
    #[error("real events would be held")]
    WouldHold {
        /// The template.
        template: String,
        /// The check against recent events.
        report: Box<TrafficReport>,
    },
    /// The entry is at this version (0: doesn't exist), not at the expected one.
    #[error("it was changed by someone else in the meantime and is at version {0}")]
    Changed(i32),
    /// The catalog is being changed concurrently; retrying helps.
    #[error("the catalog was changed by someone else in the meantime")]
    Busy,
    /// OneSignal rejected a template; a retry continues from there.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The check could not be run.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Options for applying a catalog.
#[derive(Debug, Clone, Copy, Default)]
pub struct Applying {
    /// Delete entries that are not included.
    pub deletes: bool,
    /// Proceed even if events that are sent today would be held.
    pub accepts_held_events: bool,
}

/// The expected version of the entry (0: doesn't exist).
#[derive(Debug, Clone, Copy)]
pub(super) struct Seen<'a> {
    pub kind: &'a str,
    pub name: &'a str,
    pub version: i32,
}

impl Seen<'_> {
    /// Rejects a change based on another version.
    pub fn check(self, snapshot: &CatalogSnapshot) -> Result<(), ApplyError> {
        let present = entry_version(snapshot, self.kind, self.name);
        if present == self.version { Ok(()) } else { Err(ApplyError::Changed(present)) }
    }
}

/// OneSignal allows reading one template per second.
const LOOK_GAP: Duration = Duration::from_secs(1);
/// Maximum templates compared per request.
const MAX_LOOKS: usize = 500;
/// How often a change is planned again after a concurrent change.
pub(super) const TRIES: usize = 5;

impl Publisher {
    /// A publisher that uploads through `provider`.
    pub fn new(
        store: Store,
        clock: Arc<dyn Clock>,
        ids: Arc<IdSource>,
        provider: Arc<dyn MessageProvider>,
        compute: Arc<Compute>,
    ) -> Self {
        Self { store, clock, ids, provider, compute, view_interval: LOOK_GAP }
    }

    /// Runs CPU-bound work on content outside the async threads.
    pub(super) async fn compute<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Budget) -> T + Send + 'static,
    ) -> Result<T, ComputeError> {
        self.compute.run(Purpose::People, work).await
    }

    async fn read(&self, files: &Files) -> Result<Arc<Document>, ApplyError> {
        let files = files.clone();
        Ok(Arc::new(self.compute(move |budget| read(&files, budget)).await??))
    }

    /// Sets the interval between calls that read templates.
    #[must_use]
    pub fn with_look_gap(self, view_interval: Duration) -> Self {
        Self { view_interval, ..self }
    }

    /// How many templates can be compared within `time`.
    pub fn looks_within(&self, time: Duration) -> usize {
        let looks = time.as_millis().checked_div(self.view_interval.as_millis());
        looks.map_or(MAX_LOOKS, |looks| usize::try_from(looks).unwrap_or(MAX_LOOKS)).clamp(1, MAX_LOOKS)
    }

    /// Plans what applying these files would change. With `deletes`, entries that are not included would be
    /// deleted.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn plan(&self, files: &Files, deletes: bool) -> Result<Applied, ApplyError> {
        let document = self.read(files).await?;
        let snapshot = Arc::new(self.store.snapshot().await?);
        let mut planned = self.planned(&document, &snapshot, deletes).await?;
        planned.traffic = self.traffic_of(&document, &snapshot, &planned.changes).await?;
        Ok(planned)
    }

    /// Applies these files; entries that are not included are kept, or deleted with `deletes`. Templates are
    /// published.
    ///
    /// # Errors
    /// [`ApplyError`].
    pub async fn apply(&self, files: &Files, how: Applying, by: By<'_>) -> Result<Applied, ApplyError> {
        self.change(&self.read(files).await?, None, how, by).await
    }

    /// Applies a document, unless the catalog has changed since it was read.
    pub(super) async fn change(
        &self,
        document: &Arc<Document>,
        seen: Option<Seen<'_>>,
        how: Applying,
        by: By<'_>,
    ) -> Result<Applied, ApplyError> {
        for _ in 0..TRIES {
            let snapshot = Arc::new(self.store.snapshot().await?);
            seen.map_or(Ok(()), |seen| seen.check(&snapshot))?;
            let mut applied = self.planned(document, &snapshot, how.deletes).await?;
            if applied.changes.is_empty() {
                return Ok(applied);
            }
            permitted(&applied.changes, (document, &snapshot), by.rights)?;
            applied.traffic = self.traffic_of(document, &snapshot, &applied.changes).await?;
            let held_events = applied.traffic.iter().find(|(_, report)| report.newly_held > 0);
            if let Some((template, report)) = held_events.filter(|_| !how.accepts_held_events) {
                let (template, report) = (template.clone(), Box::new(report.clone()));
                return Err(ApplyError::WouldHold { template, report });
            }
            let versions = self.store_versions(document, &snapshot, &applied.changes, by).await?;
            for version in &versions {
                for app in apps_of(&version.template, document, &snapshot) {
                    self.upload_version(app, version).await?;
                }
            }
            for change in applied.changes.iter_mut().filter(|change| change.kind == "template") {
                change.version = versions.iter().find(|v| v.template == change.name).map(|v| v.number);
            }
            if let Some(revision) =
                self.go_live(document, &snapshot, (&versions, &applied.changes), by).await?
            {
                applied.revision = revision;
                return Ok(applied);
            }
        }
        Err(ApplyError::Busy)
    }

    pub(super) async fn planned(
        &self,
        document: &Arc<Document>,
        snapshot: &Arc<CatalogSnapshot>,
        deletes: bool,
    ) -> Result<Applied, ApplyError> {
        let (checked, against) = (Arc::clone(document), Arc::clone(snapshot));
        let check = move |budget: &Budget| {
            let changes = changes(&checked, &against, deletes);
            let mut problems = check_document(&checked, Some(&against), budget);
            problems.extend(unapproved(&changes, &against));
            problems.extend(untimely(&checked, &against));
            problems.extend(still_used(&changes, &checked, &against));
            (changes, problems)
        };
        let (changes, mut problems) = self.compute(check).await?;
        problems.extend(self.check_canaries(document, snapshot, &changes).await?);
        let (errors, warnings): (Vec<_>, Vec<_>) = problems.into_iter().partition(CatalogProblem::is_error);
        if errors.is_empty() {
            Ok(Applied { changes, traffic: BTreeMap::new(), warnings, revision: snapshot.revision })
        } else {
            Err(ApplyError::Problems(errors))
        }
    }

    /// Deletes an entry at an expected version. With `dry`, nothing is changed.
    pub(super) async fn delete(&self, seen: Seen<'_>, dry: bool, by: By<'_>) -> Result<Applied, ApplyError> {
        for _ in 0..TRIES {
            let snapshot = self.store.snapshot().await?;
            seen.check(&snapshot)?;
            let nothing = Document::default();
            let gone = |change: &Change| change.kind == seen.kind && change.name == seen.name;
            let all = changes(&nothing, &snapshot, true).into_iter();
            let changes: Vec<Change> = all.filter(gone).collect();
            let problems = still_used(&changes, &nothing, &snapshot);
            if !problems.is_empty() {
                return Err(ApplyError::Problems(problems));
            }
            permitted(&changes, (&nothing, &snapshot), by.rights)?;
            let (traffic, warnings) = (BTreeMap::new(), Vec::new());
            if dry {
                return Ok(Applied { changes, traffic, warnings, revision: snapshot.revision });
            }
            if let Some(revision) = self.go_live(&nothing, &snapshot, (&[], &changes), by).await? {
                return Ok(Applied { changes, traffic, warnings, revision });
            }
        }
        Err(ApplyError::Busy)
    }

    /// Stores the new versions of changed templates.
    async fn store_versions(
        &self,
        document: &Document,
        snapshot: &CatalogSnapshot,
        changes: &[Change],
        by: By<'_>,
    ) -> Result<Vec<TemplateVersion>, StoreError> {
        let is_changed =
            |t: &&TemplateDocument| changes.iter().any(|c| c.kind == "template" && c.name == t.key);
        let changed: Vec<&TemplateDocument> = document.templates.iter().filter(is_changed).collect();
        if changed.is_empty() {
            return Ok(Vec::new());
        }
        let now = self.clock.now();
        let partials = partials_of(document, snapshot);
        let mut tx = self.store.begin().await?;
        catalog::lock(&mut tx).await?;
        let mut versions = Vec::with_capacity(changed.len());
        for wanted in changed {
            let mut template = template_of(wanted, snapshot);
            let is_known = snapshot.templates.iter().any(|t| t.key == wanted.key);
            if !is_known {
                template.id = self.ids.next(now);
            }
            let id = if is_known {
                template.id
            } else {
                templates::upsert_template(&mut tx, &template, now).await?
            };
            let content = wanted.content.clone();
            let mut version = TemplateVersion {
                id: self.ids.next(now),
                template: wanted.key.clone(),
                number: 0,
                channel: wanted.channel,
                partials: needed(content.contents.values(), content.layout.as_deref(), &partials),
                content,
            };
            let hash = content_hash(&version);
            let live = snapshot.versions.iter().find(|v| Some(v.id) == template.live);
            if let Some(live) = live.filter(|live| content_hash(live) == hash) {
                versions.push(live.clone());
                continue;
            }
            let note = VersionNote {
                content_hash: &hash,
                author: by.actor,
                note: by.note,
                restores: None,
                approved_by: None,
            };
            (version.id, version.number) =
                templates::find_or_insert_version(&mut tx, id, &version, note, now).await?;
            versions.push(version);
        }
        tx.commit().await.map_err(StoreError::from)?;
        Ok(versions)
    }

    /// Applies the changes in one transaction; `None` if the catalog has changed since the snapshot.
    async fn go_live(
        &self,
        document: &Document,
        snapshot: &CatalogSnapshot,
        (versions, changes): (&[TemplateVersion], &[Change]),
        by: By<'_>,
    ) -> Result<Option<i64>, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if catalog::lock(&mut tx).await? != snapshot.revision {
            return Ok(None);
        }
        let is_changed = |kind: &str, name: &str| changes.iter().any(|c| c.kind == kind && c.name == name);
        for entry in document.event_types.iter().filter(|e| is_changed("event_type", e.name.as_str())) {
            catalog::upsert_event_type(&mut tx, entry, now).await?;
        }
        for partial in document.partials.iter().filter(|p| is_changed("partial", &p.key)) {
            catalog::upsert_partial(&mut tx, partial, now).await?;
        }
        for wanted in document.templates.iter().filter(|t| is_changed("template", &t.key)) {
            let mut template = template_of(wanted, snapshot);
            if let Some(version) = versions.iter().find(|v| v.template == wanted.key) {
                // Existing entries keep their id.
                template.id = self.ids.next(now);
                templates::upsert_template(&mut tx, &template, now).await?;
                templates::set_live(&mut tx, &template.key, version.id).await?;
            }
        }
        for rule in document.rules.iter().filter(|r| is_changed("rule", &r.key)) {
            let known = snapshot.rules.iter().find(|known| known.key == rule.key);
            let id = known.map_or_else(|| self.ids.next(now), |known| known.id);
            catalog::upsert_rule(&mut tx, &rule_of(rule, snapshot, id), now).await?;
        }
        let sources = document.sources.iter().filter(|s| is_changed("source", &s.name));
        source_files::put_all(&mut tx, sources, &self.ids, now).await?;
        app_files::put_all(&mut tx, &document.apps, (&snapshot.apps, changes), now).await?;
        for change in changes.iter().filter(|change| change.after.is_none()) {
            self.remove(&mut tx, change, snapshot, now).await?;
        }
        let entries: Vec<AuditEntry> = changes.iter().map(|change| self.entry(change, by, now)).collect();
        audit::append(&mut tx, &entries).await?;
        let revision = catalog::raise_revision(&mut tx, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(Some(revision))
    }

    async fn remove(
        &self,
        tx: &mut Tx,
        change: &Change,
        snapshot: &CatalogSnapshot,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let what = match change.kind.as_str() {
            "event_type" => Deletable::EventType,
            "partial" => Deletable::Partial,
            "rule" => Deletable::Rule,
            _ => {
                let known = snapshot.templates.iter().find(|t| t.key == change.name);
                if let Some(known) = known {
                    let archived = crate::domain::template::Template { is_archived: true, ..known.clone() };
                    templates::upsert_template(tx, &archived, now).await?;
                }
                return Ok(());
            }
        };
        catalog::delete(tx, what, &change.name).await?;
        Ok(())
    }

    /// Records an action outside the catalog in the audit log: creating or revoking a key or a secret, adding a test
    /// recipient.
    ///
    /// # Errors
    /// [`StoreError`] if the database is unavailable; the action itself remains done.
    pub async fn record_change(
        &self,
        (kind, subject): (&str, &str),
        action: &str,
        after: Option<serde_json::Value>,
        by: By<'_>,
    ) -> Result<(), StoreError> {
        self.record_difference((kind, subject), action, (None, after), by).await
    }

    /// Like `record_change`, with the content before.
    ///
    /// # Errors
    /// As for [`Self::record_change`].
    pub async fn record_difference(
        &self,
        (kind, subject): (&str, &str),
        action: &str,
        (before, after): (Option<serde_json::Value>, Option<serde_json::Value>),
        by: By<'_>,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut entry = self.entry(&Change::new(kind, subject, before, after), by, now);
        action.clone_into(&mut entry.action);
        let mut tx = self.store.begin().await?;
        audit::append(&mut tx, &[entry]).await?;
        tx.commit().await.map_err(StoreError::from)
    }

    /// A change for the audit log.
    pub(super) fn entry(&self, change: &Change, by: By<'_>, now: Timestamp) -> AuditEntry {
        let action = match (change.change.as_str(), change.version) {
            (_, Some(_)) => "published",
            ("new", None) => "created",
            (other, None) => other,
        };
        let with_version = |value: &serde_json::Value| match change.version {
            Some(number) => json!({"version": number, "content": value}),
            None => value.clone(),
        };
        AuditEntry {
            id: self.ids.next::<DeliveryId>(now).uuid(),
            at: now,
            actor: by.actor.to_owned(),
            action: action.to_owned(),
            kind: change.kind.clone(),
            subject: change.name.clone(),
            before: change.before.clone(),
            after: change.after.as_ref().map(with_version),
            note: by.note.to_owned(),
            key: by.key,
        }
    }
}

fn read(files: &Files, budget: &Budget) -> Result<Document, ApplyError> {
    let (document, mut problems) = files::read(files, budget);
    if problems.is_empty() {
        return Ok(document);
    }
    // Report everything at once: the parts that could be parsed are checked as far as possible.
    problems.extend(check_document(&document, None, budget).into_iter().filter(CatalogProblem::is_error));
    Err(ApplyError::Problems(problems))
}

/// The apps of a template: those of its rules, and the default app.
pub(super) fn apps_of<'a>(
    template: &str,
    document: &Document,
    snapshot: &'a CatalogSnapshot,
) -> Vec<&'a App> {
    let mut ids: BTreeSet<AppId> =
        snapshot.apps.iter().filter(|app| app.is_default).map(|app| app.id).collect();
    let known = snapshot.rules.iter().filter(|rule| rule.template() == Some(template));
    ids.extend(known.filter_map(|rule| rule.definition.app));
    let sends = |d: &&super::manifest::RuleDocument| d.definition.template() == Some(template);
    let named = document.rules.iter().filter(sends).filter_map(|rule| rule.app.as_deref());
    ids.extend(
        named.filter_map(|name| snapshot.apps.iter().find(|app| app.is_called(name))).map(|app| app.id),
    );
    snapshot.apps.iter().filter(|app| ids.contains(&app.id)).collect()
}
