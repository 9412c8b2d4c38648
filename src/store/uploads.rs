//! Which version is uploaded to which app, per locale.

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TemplateVersionId, TypedId};
use crate::domain::snapshot::UploadKey;

impl Store {
    /// Notes that an upload is wanted, before the call is made; returns OneSignal's id if it was made already.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn request_upload(
        &self,
        key: &UploadKey,
        now: Timestamp,
    ) -> Result<Option<String>, StoreError> {
        sqlx::query(
            "INSERT INTO template_uploads (app_id, version_id, locale, requested_at)
             VALUES ($1, $2, $3, $4)
             ON CONFLICT DO NOTHING",
        )
        .bind(key.app.0)
        .bind(key.version.uuid())
        .bind(&key.locale)
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(sqlx::query_scalar(
            "SELECT provider_template_id FROM template_uploads
             WHERE app_id = $1 AND version_id = $2 AND locale = $3",
        )
        .bind(key.app.0)
        .bind(key.version.uuid())
        .bind(&key.locale)
        .fetch_one(self.pool())
        .await?)
    }

    /// Notes OneSignal's id of an upload; `None` when it turned out to be gone there.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn record_upload(
        &self,
        key: &UploadKey,
        provider_template_id: Option<&str>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE template_uploads
             SET provider_template_id = $4, uploaded_at = CASE WHEN $4 IS NULL THEN NULL ELSE $5 END
             WHERE app_id = $1 AND version_id = $2 AND locale = $3",
        )
        .bind(key.app.0)
        .bind(key.version.uuid())
        .bind(&key.locale)
        .bind(provider_template_id)
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// OneSignal's ids of one version's uploads.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn uploads_of(
        &self,
        version: TemplateVersionId,
    ) -> Result<Vec<(UploadKey, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT app_id, version_id, locale, provider_template_id FROM template_uploads
             WHERE version_id = $1 AND provider_template_id IS NOT NULL",
        )
        .bind(version.uuid())
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_upload).collect()
    }
}

/// Reads an upload that is confirmed.
pub(super) fn read_upload(row: &sqlx::postgres::PgRow) -> Result<(UploadKey, String), StoreError> {
    let key = UploadKey {
        app: AppId(row.try_get::<Uuid, _>("app_id")?),
        version: TemplateVersionId::from_uuid(row.try_get("version_id")?),
        locale: row.try_get("locale")?,
    };
    Ok((key, row.try_get("provider_template_id")?))
}
