//! Drift: finds templates that were edited or deleted in OneSignal, and deletes unused ones there.

use std::collections::BTreeMap;

use std::time::Duration;

use chrono::TimeDelta;
use serde::Serialize;

use super::author::By;
use super::patience::Patience;
use super::publish::Publisher;
use super::upload::{LEASE, UploadError, hash_of, seen};
use crate::domain::app::{App, AppId};
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, TypedId};
use crate::domain::snapshot::CatalogSnapshot;
use crate::domain::template::{Fields, TemplateVersion, fields_of};
use crate::provider::{ProviderError, RemoteTemplate, TemplateUpload};
use crate::store::audit::{self, AuditEntry};
use crate::store::upload_upkeep::{Drift, UploadRecord};
use crate::store::{StoreError, catalog};

/// What to compare.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    /// Only this app.
    pub app: Option<AppId>,
    /// Only templates not compared since this time.
    pub before: Timestamp,
    /// Maximum number of templates: OneSignal allows reading about one per second.
    pub max: usize,
    /// Whether to overwrite edited templates. Deleted ones are always uploaded again.
    pub repair: bool,
}

/// A compared template in OneSignal.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct Looked {
    /// The app's name.
    pub app: String,
    /// The template's key.
    pub template: String,
    /// The version's number.
    pub version: i32,
    /// The locale.
    pub locale: String,
    /// `edited` or `deleted`; `null` if it is unchanged.
    pub drift: Option<String>,
    /// Whether it was uploaded again.
    pub repaired: bool,
}

/// The result of a drift check.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct DriftReport {
    /// The compared templates.
    pub data: Vec<Looked>,
    /// Number of templates left.
    pub unchecked: usize,
    /// Send this time to continue with the rest.
    #[schema(value_type = String, format = DateTime)]
    pub before: Timestamp,
}

/// Why a drift check failed.
#[derive(Debug, thiserror::Error)]
pub enum DriftError {
    /// OneSignal could not read, change or delete a template.
    #[error("{name} in app {app} could not be checked")]
    Provider {
        /// The template's name there.
        name: String,
        /// The app.
        app: String,
        /// OneSignal's error.
        source: ProviderError,
    },
    /// A deleted template could not be uploaded again.
    #[error(transparent)]
    Upload(#[from] UploadError),
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// Compares live versions and canaries in OneSignal with what was uploaded, starting with the least recently
    /// compared.
    ///
    /// # Errors
    /// [`DriftError`]; results so far are stored, and a retry continues from there.
    pub async fn check_drift(&self, look: Look, by: By<'_>) -> Result<DriftReport, DriftError> {
        let snapshot = self.store.snapshot().await?;
        let due = self.due(&look, &snapshot).await?;
        let patience = Patience::new();
        let mut report = DriftReport { data: Vec::new(), unchecked: due.len(), before: look.before };
        for (index, record) in due.iter().take(look.max).enumerate() {
            if patience.is_over() {
                break;
            }
            if index > 0 {
                tokio::time::sleep(self.view_interval).await;
            }
            let looked = loop {
                match self.look_at(record, &snapshot, look.repair, by).await {
                    Ok(looked) => break looked,
                    Err(error) => {
                        if !patience.waits_after(error).await? {
                            return Ok(report);
                        }
                    }
                }
            };
            report.unchecked -= 1;
            report.data.extend(looked);
        }
        Ok(report)
    }

    async fn due(&self, look: &Look, snapshot: &CatalogSnapshot) -> Result<Vec<UploadRecord>, StoreError> {
        let mut records = self.store.upload_records(None).await?;
        records.retain(|record| {
            record.provider_template_id.is_some()
                && look.app.is_none_or(|app| app == record.key.app)
                && record.checked_at.is_none_or(|at| at < look.before)
                && snapshot.versions.iter().any(|version| version.id == record.key.version)
        });
        records.sort_by_key(|record| record.checked_at);
        Ok(records)
    }

    /// Compares one template; `None` if its app or its id were removed from the catalog in the meantime.
    async fn look_at(
        &self,
        record: &UploadRecord,
        snapshot: &CatalogSnapshot,
        repair: bool,
        by: By<'_>,
    ) -> Result<Option<Looked>, DriftError> {
        let app = snapshot.apps.iter().find(|app| app.id == record.key.app);
        let version = snapshot.versions.iter().find(|version| version.id == record.key.version);
        let (Some(app), Some(version), Some(id)) = (app, version, &record.provider_template_id) else {
            return Ok(None);
        };
        let upload = self.compiled(version, &record.key.locale).await?;
        let failed =
            |source| DriftError::Provider { name: upload.name.clone(), app: app.name.clone(), source };
        let there = self.provider.get_template(app, id).await.map_err(failed)?;
        let drift = match &there {
            None => Some(Drift::Deleted),
            Some(there) => (!is_same(there, &upload)).then_some(Drift::Edited),
        };
        let hash = there.as_ref().map(|there| hash_of(&there.contents));
        self.store
            .note_look(&record.key, id, (drift, hash.as_ref().map(|h| &h[..])), self.clock.now())
            .await?;
        let repaired = match drift {
            Some(Drift::Deleted) => self.upload_again(app, version, record, id).await?,
            Some(Drift::Edited) if repair => {
                self.provider.update_template(app, id, &upload).await.map_err(failed)?;
                let hash = hash_of(&upload.contents);
                self.store.note_look(&record.key, id, (None, Some(&hash)), self.clock.now()).await?;
                true
            }
            Some(Drift::Edited) | None => false,
        };
        if let Some(drift) = drift {
            tracing::warn!(app.id = %app.id, repaired, "{} was {} in OneSignal", upload.name, drift.as_str());
        }
        if repaired {
            self.note_repaired(record, by).await?;
        }
        Ok(Some(Looked {
            app: app.name.clone(),
            template: record.template.clone(),
            version: record.version,
            locale: record.key.locale.clone(),
            drift: drift.map(|drift| drift.as_str().to_owned()),
            repaired,
        }))
    }

    async fn upload_again(
        &self,
        app: &App,
        version: &TemplateVersion,
        record: &UploadRecord,
        id: &str,
    ) -> Result<bool, DriftError> {
        self.store.lose_upload(&record.key, id).await?;
        self.upload_locale(app, version, &record.key.locale).await?;
        Ok(true)
    }

    /// Records who had a template repaired in OneSignal; planning then uses its new id.
    async fn note_repaired(&self, record: &UploadRecord, by: By<'_>) -> Result<(), StoreError> {
        let now = self.clock.now();
        let place =
            serde_json::json!({"app": record.app, "version": record.version, "locale": record.key.locale});
        let entry = AuditEntry {
            id: self.ids.next::<DeliveryId>(now).uuid(),
            at: now,
            actor: by.actor.to_owned(),
            action: "uploaded_again".to_owned(),
            kind: "template".to_owned(),
            subject: record.template.clone(),
            before: None,
            after: Some(place),
            note: by.note.to_owned(),
            key: by.key,
        };
        let mut tx = self.store.begin().await?;
        audit::append(&mut tx, &[entry]).await?;
        catalog::raise_revision(&mut tx, now).await?;
        tx.commit().await?;
        Ok(())
    }

    /// Deletes an app's templates in OneSignal whose versions have been unused for `keep`: not live, not used by a
    /// canary
    /// or an open delivery. Returns how many. A version that is used again is uploaded again.
    ///
    /// # Errors
    /// [`DriftError`]; templates that OneSignal keeps for a Journey are not an error.
    pub async fn delete_unused(&self, app: &App, keep: Duration) -> Result<usize, DriftError> {
        let now = self.clock.now();
        let snapshot = self.store.snapshot().await?;
        let used: Vec<_> = snapshot.versions.iter().map(|version| version.id).collect();
        self.store.mark_unused(app.id, &used, now).await?;
        let before = now - TimeDelta::from_std(keep).unwrap_or(TimeDelta::MAX);
        let mut deleted = 0;
        for record in self.store.unused_uploads(app.id, before).await? {
            if deleted > 0 {
                tokio::time::sleep(self.view_interval).await;
            }
            deleted += usize::from(self.delete_upload(app, &record).await?);
        }
        Ok(deleted)
    }

    async fn delete_upload(&self, app: &App, record: &UploadRecord) -> Result<bool, DriftError> {
        let now = self.clock.now();
        let until = now + LEASE;
        if !self.store.claim_unused(&record.key, until, now).await? {
            return Ok(false);
        }
        let Some(version) = self.store.find_version(record.key.version).await? else { return Ok(false) };
        let name = version.upload_name(&record.key.locale);
        // It was never confirmed, but may have been created.
        let id = match &record.provider_template_id {
            Some(id) => Ok(Some(id.clone())),
            None => self.provider.find_template(app, &name, version.channel).await,
        };
        let gone = match id {
            Ok(Some(id)) => self.provider.delete_template(app, &id).await,
            Ok(None) => Ok(()),
            Err(error) => Err(error),
        };
        let Err(source) = gone else {
            self.store.forget_unused(&record.key, until).await?;
            tracing::info!(app.id = %app.id, "{name} was deleted in OneSignal because it is no longer used");
            return Ok(true);
        };
        self.store.keep_unused(&record.key, record.provider_template_id.as_deref(), until, now).await?;
        match source {
            ProviderError::Refused { status: 400..=499, .. } => {
                tracing::info!(app.id = %app.id, "{name} could not be deleted in OneSignal: {source}");
                Ok(false)
            }
            source => Err(DriftError::Provider { name, app: app.name.clone(), source }),
        }
    }
}

/// Whether a template in OneSignal has exactly the uploaded content, with no other languages.
fn is_same(there: &RemoteTemplate, upload: &TemplateUpload) -> bool {
    let held =
        |name: &str| fields_of(upload.channel).iter().any(|field| field.name == name && field.in_template);
    let texts = |contents: &BTreeMap<String, Fields>| -> BTreeMap<String, Fields> {
        let held = |fields: &Fields| {
            let mut fields = fields.clone();
            fields.retain(|name, _| held(name));
            seen(&fields)
        };
        contents
            .iter()
            .map(|(language, fields)| (language.clone(), held(fields)))
            .filter(|(_, f)| !f.is_empty())
            .collect()
    };
    there.channel == upload.channel && texts(&there.contents) == texts(&upload.contents)
}
