//! Uploading compiled content to OneSignal: one template per app, version and locale.

use std::collections::BTreeMap;

use std::time::Duration;

use chrono::TimeDelta;

use super::manifest::Document;
use super::publish::{Publisher, apps_of};
use super::templates::{Place, TemplateError};
use crate::compute::ComputeError;
use crate::domain::app::App;
use crate::domain::budget::Budget;
use crate::domain::snapshot::UploadKey;
use crate::domain::template::{Fields, Mode, TemplateVersion};
use crate::provider::{ProviderError, TemplateUpload};
use crate::store::StoreError;
use crate::store::template_uploads::UploadClaim;
use crate::templating;

/// The lease for creating a template. Longer than a look-up by name and a call together.
pub(super) const LEASE: TimeDelta = TimeDelta::minutes(3);
/// How often, and how many times, to check whether another process has finished.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const LOOKS: usize = 200;

/// Why a version could not be uploaded.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// OneSignal rejected it.
    #[error("{name} could not be uploaded to app {app}")]
    Provider {
        /// The template's name there.
        name: String,
        /// The app.
        app: String,
        /// OneSignal's error.
        source: ProviderError,
    },
    /// The content does not compile, although it did when it was saved.
    #[error("{0} does not compile")]
    Copy(String),
    /// Another process is creating it; retrying helps.
    #[error("{0} is being uploaded by another process")]
    Busy(String),
    /// It could not be compiled now; retrying helps.
    #[error(transparent)]
    Compute(#[from] ComputeError),
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// Uploads a stored version to all its apps, for a test send.
    ///
    /// # Errors
    /// [`TemplateError::NotFound`] when there is none, [`TemplateError::Archived`], [`TemplateError::Upload`].
    pub async fn uploaded_version(&self, key: &str, number: i32) -> Result<TemplateVersion, TemplateError> {
        let snapshot = self.store.snapshot().await?;
        Place::open(&snapshot, key)?;
        let version = self.record(key, number).await?.version;
        for app in apps_of(key, &Document::default(), &snapshot) {
            self.upload_version(app, &version).await?;
        }
        Ok(version)
    }

    /// Uploads every locale of a version to an app, unless already done.
    pub(super) async fn upload_version(
        &self,
        app: &App,
        version: &TemplateVersion,
    ) -> Result<(), UploadError> {
        if version.content.mode == Mode::Inline {
            return Ok(());
        }
        let copy = &version.content;
        let chosen =
            copy.contents.keys().filter(|l| copy.language_by.is_herald() || **l == copy.default_locale);
        for locale in chosen {
            self.upload_locale(app, version, locale).await?;
        }
        Ok(())
    }

    /// Uploads one locale, under a lease; waits while another process does it.
    pub(super) async fn upload_locale(
        &self,
        app: &App,
        version: &TemplateVersion,
        locale: &str,
    ) -> Result<(), UploadError> {
        for _ in 0..LOOKS {
            if self.try_upload(app, version, locale).await? {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(UploadError::Busy(version.upload_name(locale)))
    }

    /// Uploads one locale unless another process does; returns whether it exists now. The row with the lease is written
    /// before the call, so that after an ambiguous response or a crash the template is looked up by name before another
    /// is created.
    async fn try_upload(
        &self,
        app: &App,
        version: &TemplateVersion,
        locale: &str,
    ) -> Result<bool, UploadError> {
        let key = UploadKey { app: app.id, version: version.id, locale: locale.to_owned() };
        let upload = self.compiled(version, locale).await?;
        let now = self.clock.now();
        let until = now + LEASE;
        let is_new = match self.store.claim_upload(&key, until, now).await? {
            UploadClaim::Done(_) => return Ok(true),
            UploadClaim::Taken => return Ok(false),
            UploadClaim::Ours { is_new } => is_new,
        };
        let made = match self.find_or_create(app, &upload, is_new).await {
            Ok(id) => id,
            Err(source) => {
                self.store.release_upload(&key, until).await?;
                return Err(UploadError::Provider { name: upload.name, app: app.name.clone(), source });
            }
        };
        let facts = (made.as_str(), &hash_of(&upload.contents)[..]);
        let kept = self.store.confirm_upload(&key, facts, until, self.clock.now()).await?;
        if !kept {
            // The process that took over the lease has looked it up by name: at worst one unused template is left.
            tracing::warn!(app.id = %app.id, "{} took longer to upload than its lease", upload.name);
        }
        Ok(kept)
    }

    async fn find_or_create(
        &self,
        app: &App,
        upload: &TemplateUpload,
        is_new: bool,
    ) -> Result<String, ProviderError> {
        if !is_new && let Some(id) = self.provider.find_template(app, &upload.name, upload.channel).await? {
            return Ok(id);
        }
        self.create(app, upload).await
    }

    async fn create(&self, app: &App, upload: &TemplateUpload) -> Result<String, ProviderError> {
        let answer = self.provider.create_template(app, upload).await;
        let Err(ProviderError::Unclear(cause)) = answer else { return answer };
        // It may exist now: adopt it by name, or return the error and let the next attempt check again.
        match self.provider.find_template(app, &upload.name, upload.channel).await? {
            Some(id) => Ok(id),
            None => Err(ProviderError::Unclear(cause)),
        }
    }

    /// Ensures that OneSignal has the template of `key`, without waiting for another process that creates it.
    ///
    /// # Errors
    /// [`UploadError`]; retrying later helps unless the content is invalid.
    pub async fn ensure_uploaded(&self, key: &UploadKey) -> Result<(), UploadError> {
        let apps = self.store.apps().await?;
        let version = self.store.find_version(key.version).await?;
        let (Some(app), Some(version)) = (apps.iter().find(|app| app.id == key.app), version) else {
            return Ok(());
        };
        if self.try_upload(app, &version, &key.locale).await? {
            Ok(())
        } else {
            Err(UploadError::Busy(version.upload_name(&key.locale)))
        }
    }
}

impl Publisher {
    /// One locale in the form for upload.
    pub(super) async fn compiled(
        &self,
        version: &TemplateVersion,
        locale: &str,
    ) -> Result<TemplateUpload, UploadError> {
        let (version, locale) = (version.clone(), locale.to_owned());
        self.compute(move |budget| compiled(&version, &locale, budget)).await?
    }
}

fn compiled(version: &TemplateVersion, locale: &str, budget: &Budget) -> Result<TemplateUpload, UploadError> {
    let (name, copy) = (version.upload_name(locale), &version.content);
    let (compiled, _) = templating::compile_content(version.channel, copy, &version.partials, budget);
    let content = compiled.get(locale).ok_or_else(|| UploadError::Copy(name.clone()))?;
    Ok(TemplateUpload { channel: version.channel, contents: content.template_languages(), name })
}

/// SHA-256 of the content in OneSignal, normalized so that equivalent content has the same hash.
pub(super) fn hash_of(contents: &BTreeMap<String, Fields>) -> [u8; 32] {
    let seen: BTreeMap<&String, Fields> =
        contents.iter().map(|(language, fields)| (language, seen(fields))).collect();
    crate::store::content_hash(serde_json::json!(seen).to_string().as_bytes())
}

/// Fields as OneSignal returns them: without empty ones, and with its line endings.
pub(super) fn seen(fields: &Fields) -> Fields {
    let seen =
        fields.iter().map(|(name, text)| (name.clone(), text.replace("\r\n", "\n").trim_end().to_owned()));
    seen.filter(|(_, text)| !text.is_empty()).collect()
}
