//! Templates: drafts, approval, publishing, rollbacks, archiving.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::author::By;
use super::changes::{Change, content_hash};
use super::check::CatalogProblem;
use super::checks::{CheckContext, Leading};
use super::manifest::Document;
use super::publish::{Publisher, TRIES, apps_of};
use super::traffic::{DEFAULT_EVENTS, TrafficReport};
use super::upload::UploadError;
use crate::compute::ComputeError;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TemplateId, TemplateVersionId, TypedId};
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::{Content, Template, TemplateVersion};
use crate::store::templates::{self, Draft, VersionNote, VersionRecord};
use crate::store::{StoreError, Tx, audit, catalog};
use crate::templating::partials::needed;

/// Why a template was not changed.
#[derive(Debug, thiserror::Error)]
pub enum TemplateError {
    /// There is no such template, or no such version of it.
    #[error("there is no {0}")]
    NotFound(String),
    /// The key is already used.
    #[error("{0}")]
    Exists(String),
    /// A field is invalid, with the reason.
    #[error("{1}")]
    Invalid(&'static str, String),
    /// It is archived.
    #[error("template {0} is archived")]
    Archived(String),
    /// It has no draft to publish.
    #[error("template {0} has no draft")]
    NoDraft(String),
    /// Someone else saved it in the meantime; includes their draft.
    #[error("the draft was saved by someone else in the meantime")]
    Stale(Option<Box<Draft>>),
    /// Someone else changed it in the meantime: it is at this version now.
    #[error("it was changed by someone else in the meantime and is at version {0}")]
    Changed(i32),
    /// A second person has to approve the draft first.
    #[error("a second person has to approve this draft before it goes live")]
    NeedsApproval,
    /// The person who saved the draft can't approve it.
    #[error("the person who saved the draft can't approve it")]
    OwnDraft,
    /// The content has errors.
    #[error("the copy has {} errors", .0.len())]
    Problems(Vec<CatalogProblem>),
    /// Events that are sent today would be held.
    #[error("{} of the last {} events would be held", .0.newly_held, .0.checked)]
    WouldHold(Box<TrafficReport>),
    /// A rule sends it.
    #[error("rule {0} sends it")]
    InUse(String),
    /// The catalog is being changed concurrently; retrying helps.
    #[error("the catalog was changed by someone else in the meantime")]
    Busy,
    /// OneSignal rejected it.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The check could not be run.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// The result of publishing.
#[derive(Debug, Clone)]
pub struct Published {
    /// The live version.
    pub version: i32,
    /// Warnings.
    pub warnings: Vec<CatalogProblem>,
    /// The check against recent events.
    pub traffic: TrafficReport,
}

/// Options for publishing a draft.
#[derive(Debug, Clone, Copy)]
pub struct Publishing {
    /// The expected revision of the draft.
    pub revision: i32,
    /// Proceed even if events that are sent today would be held.
    pub accepts_held_events: bool,
    /// Number of recent events to check against.
    pub events: u32,
}

/// A template with the parts of the catalog that checks need.
pub(super) struct Place<'a> {
    pub template: &'a Template,
    pub live: Option<&'a TemplateVersion>,
    pub types: Vec<Leading<'a>>,
    pub partials: BTreeMap<String, String>,
}

impl<'a> Place<'a> {
    /// A template of the catalog.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`].
    pub fn find(snapshot: &'a CatalogSnapshot, key: &str) -> Result<Self, TemplateError> {
        let template = snapshot.templates.iter().find(|t| t.key == key);
        let template = template.ok_or_else(|| TemplateError::NotFound(format!("template {key}")))?;
        let around = CheckContext::present(snapshot);
        Ok(Self {
            template,
            live: snapshot.versions.iter().find(|v| Some(v.id) == template.live),
            types: around.types_of(key, template.event_type.as_deref()),
            partials: around.partials,
        })
    }

    /// A template that is not archived.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`], [`TemplateError::Archived`].
    pub fn open(snapshot: &'a CatalogSnapshot, key: &str) -> Result<Self, TemplateError> {
        let place = Self::find(snapshot, key)?;
        if place.template.is_archived {
            return Err(TemplateError::Archived(key.to_owned()));
        }
        Ok(place)
    }

    /// The partials that this content uses.
    pub fn partials_for(&self, content: &Content) -> BTreeMap<String, String> {
        needed(content.contents.values(), content.layout.as_deref(), &self.partials)
    }

    /// Content as a version to be stored, with the given partials or the current ones.
    fn version(
        &self,
        id: TemplateVersionId,
        content: Content,
        partials: Option<BTreeMap<String, String>>,
    ) -> TemplateVersion {
        TemplateVersion {
            id,
            template: self.template.key.clone(),
            number: 0,
            channel: self.template.channel,
            partials: partials.unwrap_or_else(|| self.partials_for(&content)),
            content,
        }
    }
}

impl Publisher {
    /// Saves a template's draft based on `revision` (0: there is none yet). Drafts may contain errors.
    ///
    /// # Errors
    /// [`TemplateError::Stale`] with the other person's draft.
    pub async fn save_draft(
        &self,
        key: &str,
        content: &Content,
        revision: i32,
        by: By<'_>,
    ) -> Result<Draft, TemplateError> {
        let content = &content.clone().with_plain_lines();
        let now = self.clock.now();
        let snapshot = self.store.snapshot().await?;
        let place = Place::open(&snapshot, key)?;
        let id = place.template.id;
        let based_on = place.live.map(|live| live.number).filter(|_| revision == 0);
        let mut tx = self.store.begin().await?;
        let before = templates::find_draft(&mut tx, id).await?;
        if !templates::save_draft(&mut tx, id, (content, based_on, by.actor), revision, now).await? {
            let present = templates::find_draft(&mut tx, id).await?;
            return Err(TemplateError::Stale(present.map(Box::new)));
        }
        let draft = templates::find_draft(&mut tx, id).await?;
        let json = |content: &Content| serde_json::to_value(content).ok();
        let change =
            Change::new("template", key, before.and_then(|draft| json(&draft.content)), json(content));
        let mut entry = self.entry(&change, by, now);
        "draft_saved".clone_into(&mut entry.action);
        audit::append(&mut tx, &[entry]).await?;
        tx.commit().await.map_err(StoreError::from)?;
        draft.ok_or_else(|| TemplateError::NoDraft(key.to_owned()))
    }

    /// Discards a draft, if it is still at `revision`.
    ///
    /// # Errors
    /// [`TemplateError::Stale`], [`TemplateError::NoDraft`].
    pub async fn discard_draft(&self, key: &str, revision: i32, by: By<'_>) -> Result<(), TemplateError> {
        let now = self.clock.now();
        let (template, draft) = self.draft_of(key).await?;
        let mut tx = self.store.begin().await?;
        if !templates::delete_draft(&mut tx, template.id, revision).await? {
            return Err(TemplateError::Stale(Some(Box::new(draft))));
        }
        let before = serde_json::to_value(&draft.content).ok();
        self.note(tx, (&template, "draft_discarded", before, None), by, now).await
    }

    /// Approves a draft's revision as a second person.
    ///
    /// # Errors
    /// [`TemplateError::OwnDraft`], [`TemplateError::Stale`], [`TemplateError::NoDraft`].
    pub async fn approve_draft(&self, key: &str, revision: i32, by: By<'_>) -> Result<(), TemplateError> {
        let now = self.clock.now();
        let (template, draft) = self.draft_of(key).await?;
        if draft.author == by.actor {
            return Err(TemplateError::OwnDraft);
        }
        let mut tx = self.store.begin().await?;
        if !templates::approve_draft(&mut tx, template.id, revision, by.actor).await? {
            return Err(TemplateError::Stale(Some(Box::new(draft))));
        }
        let after = serde_json::json!({"revision": revision});
        self.note(tx, (&template, "approved", None, Some(after)), by, now).await
    }

    async fn draft_of(&self, key: &str) -> Result<(Template, Draft), TemplateError> {
        let snapshot = self.store.snapshot().await?;
        let template = Place::find(&snapshot, key)?.template.clone();
        let draft = self.store.find_draft(template.id).await?;
        Ok((template, draft.ok_or_else(|| TemplateError::NoDraft(key.to_owned()))?))
    }

    /// Publishes a draft: it is checked, rendered for recent events, uploaded, and only then live.
    ///
    /// # Errors
    /// [`TemplateError`]; the live version is unchanged.
    pub async fn publish_draft(
        &self,
        key: &str,
        how: Publishing,
        by: By<'_>,
    ) -> Result<Published, TemplateError> {
        for _ in 0..TRIES {
            let snapshot = Arc::new(self.store.snapshot().await?);
            let place = Place::open(&snapshot, key)?;
            let (draft, warnings, traffic) = self.publishable((&snapshot, &place), how).await?;
            let note = (None, draft.approved_by.as_deref());
            let version = self.store_version(&place, draft.content.clone(), None, note, by).await?;
            self.upload_everywhere(&snapshot, &version).await?;
            if self.bring_live((&snapshot, &place), &version, Some(draft.revision), by).await? {
                return Ok(Published { version: version.number, warnings, traffic });
            }
        }
        Err(TemplateError::Busy)
    }

    /// The result that publishing a draft would have; changes nothing.
    ///
    /// # Errors
    /// As [`Self::publish_draft`], except for errors from OneSignal.
    pub async fn rehearse_publishing(&self, key: &str, how: Publishing) -> Result<Published, TemplateError> {
        let snapshot = Arc::new(self.store.snapshot().await?);
        let place = Place::open(&snapshot, key)?;
        let (draft, warnings, traffic) = self.publishable((&snapshot, &place), how).await?;
        let wanted = place.version(TemplateVersionId::from_uuid(uuid::Uuid::nil()), draft.content, None);
        let latest = self.store.version_records(key, None, 1).await?.pop();
        let version = latest.map_or(1, |latest| {
            latest.version.number + i32::from(latest.content_hash != content_hash(&wanted))
        });
        Ok(Published { version, warnings, traffic })
    }

    /// A publishable draft, with its warnings and the check against recent events.
    async fn publishable(
        &self,
        (snapshot, place): (&Arc<CatalogSnapshot>, &Place<'_>),
        how: Publishing,
    ) -> Result<(Draft, Vec<CatalogProblem>, TrafficReport), TemplateError> {
        let draft = self.store.find_draft(place.template.id).await?;
        let draft = draft.ok_or_else(|| TemplateError::NoDraft(place.template.key.clone()))?;
        if draft.revision != how.revision {
            return Err(TemplateError::Stale(Some(Box::new(draft))));
        }
        if place.template.needs_approval && draft.approved_by.is_none() {
            return Err(TemplateError::NeedsApproval);
        }
        let (problems, traffic) =
            self.check_in_place(snapshot, &place.template.key, &draft.content, how.events).await?;
        let (errors, warnings): (Vec<_>, Vec<_>) = problems.into_iter().partition(CatalogProblem::is_error);
        if !errors.is_empty() {
            return Err(TemplateError::Problems(errors));
        }
        if traffic.newly_held > 0 && !how.accepts_held_events {
            return Err(TemplateError::WouldHold(Box::new(traffic)));
        }
        Ok((draft, warnings, traffic))
    }

    /// Publishes a new version with the content of an earlier one.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`] if there is no such version, [`TemplateError::NeedsApproval`] if it was only stored
    /// for a test and the template requires approval.
    pub async fn roll_back(&self, key: &str, number: i32, by: By<'_>) -> Result<Published, TemplateError> {
        for _ in 0..TRIES {
            let snapshot = Arc::new(self.store.snapshot().await?);
            let place = Place::open(&snapshot, key)?;
            let old = self.record(key, number).await?;
            if place.template.needs_approval && !self.is_settled(&old).await? {
                return Err(TemplateError::NeedsApproval);
            }
            let TemplateVersion { content, partials, .. } = &old.version;
            let warnings = self.check_alone(&snapshot, key, content, Some(partials)).await?;
            let note = (Some(number), None);
            let version =
                self.store_version(&place, content.clone(), Some(partials.clone()), note, by).await?;
            self.upload_everywhere(&snapshot, &version).await?;
            if self.bring_live((&snapshot, &place), &version, None, by).await? {
                let (_, traffic) =
                    self.check_in_place(&snapshot, key, &version.content, DEFAULT_EVENTS).await?;
                return Ok(Published { version: version.number, warnings, traffic });
            }
        }
        Err(TemplateError::Busy)
    }

    /// Whether a version was approved or live before, so that a template that requires approval may use it.
    pub(super) async fn is_settled(&self, record: &VersionRecord) -> Result<bool, StoreError> {
        let TemplateVersion { template, number, .. } = &record.version;
        Ok(record.approved_by.is_some() || self.store.was_live(template, *number).await?)
    }

    /// A version with its history.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`].
    pub async fn record(&self, key: &str, number: i32) -> Result<VersionRecord, TemplateError> {
        let record = self.store.find_version_number(key, number).await?;
        record.ok_or_else(|| TemplateError::NotFound(format!("version {number} of template {key}")))
    }

    /// Stores content as a version for a test send, without publishing it. Publishing the same content later uses the
    /// same version.
    ///
    /// # Errors
    /// [`TemplateError::Problems`] when it has errors.
    pub async fn version_for_test(
        &self,
        key: &str,
        content: Content,
        by: By<'_>,
    ) -> Result<TemplateVersion, TemplateError> {
        let snapshot = Arc::new(self.store.snapshot().await?);
        let place = Place::open(&snapshot, key)?;
        let problems = self.check_alone(&snapshot, key, &content, None).await?;
        let errors: Vec<CatalogProblem> = problems.into_iter().filter(CatalogProblem::is_error).collect();
        if !errors.is_empty() {
            return Err(TemplateError::Problems(errors));
        }
        let version = self.store_version(&place, content, None, (None, None), by).await?;
        self.upload_everywhere(&snapshot, &version).await?;
        Ok(version)
    }

    async fn store_version(
        &self,
        place: &Place<'_>,
        content: Content,
        partials: Option<BTreeMap<String, String>>,
        (restores, approved_by): (Option<i32>, Option<&str>),
        by: By<'_>,
    ) -> Result<TemplateVersion, TemplateError> {
        let now = self.clock.now();
        let mut version = place.version(self.ids.next(now), content, partials);
        let hash = content_hash(&version);
        let note =
            VersionNote { content_hash: &hash, author: by.actor, note: by.note, restores, approved_by };
        let mut tx = self.store.begin().await?;
        catalog::lock(&mut tx).await?;
        (version.id, version.number) =
            templates::find_or_insert_version(&mut tx, place.template.id, &version, note, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(version)
    }

    async fn upload_everywhere(
        &self,
        snapshot: &CatalogSnapshot,
        version: &TemplateVersion,
    ) -> Result<(), TemplateError> {
        for app in apps_of(&version.template, &Document::default(), snapshot) {
            self.upload_version(app, version).await?;
        }
        Ok(())
    }

    /// Publishes a version and deletes its draft; `false` if the catalog has changed since the snapshot, so that the
    /// checks may be outdated.
    async fn bring_live(
        &self,
        (snapshot, place): (&CatalogSnapshot, &Place<'_>),
        version: &TemplateVersion,
        draft: Option<i32>,
        by: By<'_>,
    ) -> Result<bool, TemplateError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if catalog::lock(&mut tx).await? != snapshot.revision {
            return Ok(false);
        }
        if let Some(revision) = draft
            && !templates::delete_draft(&mut tx, place.template.id, revision).await?
        {
            return Ok(false);
        }
        templates::set_live(&mut tx, &version.template, version.id).await?;
        let content = |v: &TemplateVersion| serde_json::json!({"version": v.number, "content": v.content});
        let action = if draft.is_some() { "published" } else { "rolled_back" };
        let change = (place.template, action, place.live.map(content), Some(content(version)));
        self.note(tx, change, by, now).await?;
        Ok(true)
    }

    /// Records a template change in the audit log, increments the revision and commits.
    pub(super) async fn note(
        &self,
        mut tx: Tx,
        (template, action, before, after): (
            &Template,
            &str,
            Option<serde_json::Value>,
            Option<serde_json::Value>,
        ),
        by: By<'_>,
        now: Timestamp,
    ) -> Result<(), TemplateError> {
        let change = Change::new("template", &template.key, before, after);
        let mut entry = self.entry(&change, by, now);
        action.clone_into(&mut entry.action);
        audit::append(&mut tx, &[entry]).await?;
        catalog::raise_revision(&mut tx, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }
}

/// A template to be created.
pub fn new_template(key: &str, channel: Channel) -> Template {
    Template {
        id: TemplateId::from_uuid(uuid::Uuid::nil()),
        key: key.to_owned(),
        channel,
        version: 0,
        description: String::new(),
        owner: None,
        event_type: None,
        needs_approval: false,
        is_archived: false,
        live: None,
    }
}
