//! Uploading compiled copy to OneSignal: each app, version and locale is a template of its own there.

use super::publish::Publisher;
use crate::domain::app::App;
use crate::domain::snapshot::UploadKey;
use crate::domain::template::{Mode, TemplateVersion};
use crate::provider::{ProviderError, TemplateUpload};
use crate::store::StoreError;
use crate::templating;
use crate::templating::partials::expanded_fields;

/// Why a version could not be uploaded.
#[derive(Debug, thiserror::Error)]
pub enum UploadError {
    /// OneSignal did not take it.
    #[error("{name} could not be uploaded to app {app}")]
    Provider {
        /// The template's name there.
        name: String,
        /// The app.
        app: String,
        /// What OneSignal said.
        source: ProviderError,
    },
    /// The copy does not compile, though it did when it was saved.
    #[error("{0} does not compile")]
    Copy(String),
    /// The database is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Publisher {
    /// Uploads every locale of a version to an app, unless that has been done.
    pub(super) async fn upload_version(
        &self,
        app: &App,
        version: &TemplateVersion,
    ) -> Result<(), UploadError> {
        if version.content.mode == Mode::Inline {
            return Ok(());
        }
        for locale in version.content.contents.keys() {
            self.upload_locale(app, version, locale).await?;
        }
        Ok(())
    }

    /// Uploads one locale; the row that says so is written before the call, so that after an ambiguous answer or a
    /// crash the template is looked up by name before another is made.
    async fn upload_locale(
        &self,
        app: &App,
        version: &TemplateVersion,
        locale: &str,
    ) -> Result<(), UploadError> {
        let key = UploadKey { app: app.id, version: version.id, locale: locale.to_owned() };
        let name = version.upload_name(locale);
        let requested = self.store.request_upload(&key, self.clock.now()).await?;
        if requested.provider_template_id.is_some() {
            return Ok(());
        }
        let copy = &version.content;
        let fields = copy.contents.get(locale).ok_or_else(|| UploadError::Copy(name.clone()))?;
        let fields = expanded_fields(fields, copy.layout.as_deref(), &version.partials);
        let content =
            templating::compile(version.channel, &fields).map_err(|_| UploadError::Copy(name.clone()))?;
        let failed = |source| UploadError::Provider { name: name.clone(), app: app.name.clone(), source };
        let known = if requested.is_new {
            None
        } else {
            self.provider.find_template(app, &name, version.channel).await.map_err(failed)?
        };
        let id = if let Some(id) = known {
            id
        } else {
            let upload = TemplateUpload {
                name: name.clone(),
                channel: version.channel,
                fields: content.template_fields().clone(),
            };
            self.create(app, &upload).await.map_err(failed)?
        };
        self.store.record_upload(&key, Some(&id), self.clock.now()).await?;
        Ok(())
    }

    async fn create(&self, app: &App, upload: &TemplateUpload) -> Result<String, ProviderError> {
        let answer = self.provider.create_template(app, upload).await;
        let Err(ProviderError::Unclear(cause)) = answer else { return answer };
        // It may exist now: it is adopted by name, or the error stands and the next try looks again.
        match self.provider.find_template(app, &upload.name, upload.channel).await? {
            Some(id) => Ok(id),
            None => Err(ProviderError::Unclear(cause)),
        }
    }

    /// Makes sure that OneSignal has what `key` names; returns its id there.
    ///
    /// # Errors
    /// [`UploadError`]; trying again later helps unless the copy is bad.
    pub async fn ensure_uploaded(&self, key: &UploadKey) -> Result<(), UploadError> {
        let apps = self.store.apps().await?;
        let version = self.store.find_version(key.version).await?;
        let (Some(app), Some(version)) = (apps.iter().find(|app| app.id == key.app), version) else {
            return Ok(());
        };
        self.upload_locale(app, &version, &key.locale).await
    }
}
