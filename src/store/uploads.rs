//! Which version is uploaded to which app, per locale.

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TemplateVersionId, TypedId};
use crate::domain::snapshot::UploadKey;

/// An upload that is wanted.
#[derive(Debug, Clone)]
pub struct RequestedUpload {
    /// OneSignal's id, if it was made already.
    pub provider_template_id: Option<String>,
    /// Nobody has tried before: OneSignal can't have it yet.
    pub is_new: bool,
}

impl Store {
    /// Notes that an upload is wanted, before the call is made.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn request_upload(
        &self,
        key: &UploadKey,
        now: Timestamp,
    ) -> Result<RequestedUpload, StoreError> {
        let noted = sqlx::query(
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
        let provider_template_id = sqlx::query_scalar(
            "SELECT provider_template_id FROM template_uploads
             WHERE app_id = $1 AND version_id = $2 AND locale = $3",
        )
        .bind(key.app.0)
        .bind(key.version.uuid())
        .bind(&key.locale)
        .fetch_one(self.pool())
        .await?;
        Ok(RequestedUpload { provider_template_id, is_new: noted.rows_affected() == 1 })
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
             SET provider_template_id = $4, uploaded_at = CASE WHEN $4::text IS NULL THEN NULL ELSE $5::timestamptz END
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
        uploaded(&mut *self.pool().acquire().await?, &[version]).await
    }
}

/// OneSignal's ids of the uploads of these versions.
///
/// # Errors
/// [`StoreError::Database`].
pub(super) async fn uploaded(
    connection: &mut PgConnection,
    versions: &[TemplateVersionId],
) -> Result<Vec<(UploadKey, String)>, StoreError> {
    let rows = sqlx::query(
        "SELECT app_id, version_id, locale, provider_template_id FROM template_uploads
         WHERE version_id = ANY ($1) AND provider_template_id IS NOT NULL",
    )
    .bind(versions.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_upload).collect()
}

/// Reads an upload that is confirmed.
fn read_upload(row: &sqlx::postgres::PgRow) -> Result<(UploadKey, String), StoreError> {
    let key = UploadKey {
        app: AppId(row.try_get::<Uuid, _>("app_id")?),
        version: TemplateVersionId::from_uuid(row.try_get("version_id")?),
        locale: row.try_get("locale")?,
    };
    Ok((key, row.try_get("provider_template_id")?))
}
