//! Which version is uploaded to which app, per locale.

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TemplateVersionId, TypedId};
use crate::domain::snapshot::UploadKey;

/// The result of claiming an upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UploadClaim {
    /// It exists, under this id.
    Done(String),
    /// Another process is creating it.
    Taken,
    /// The caller creates it, until the time that it named. On the first attempt, OneSignal can't have it yet.
    Ours {
        /// This is the first attempt.
        is_new: bool,
    },
}

impl Store {
    /// Takes the lease on creating a template, unless it exists or another process has the lease. `until` identifies
    /// the lease.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_upload(
        &self,
        key: &UploadKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<UploadClaim, StoreError> {
        let noted = sqlx::query(
            "INSERT INTO template_uploads (app_id, version_id, locale, requested_at, leased_until)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT DO NOTHING",
        );
        let noted = bind(noted, key).bind(now).bind(until).execute(self.pool()).await?;
        if noted.rows_affected() == 1 {
            return Ok(UploadClaim::Ours { is_new: true });
        }
        let taken = sqlx::query(
            "UPDATE template_uploads
             SET leased_until = $5
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND provider_template_id IS NULL
                AND (leased_until IS NULL OR leased_until <= $4)",
        );
        if bind(taken, key).bind(now).bind(until).execute(self.pool()).await?.rows_affected() == 1 {
            return Ok(UploadClaim::Ours { is_new: false });
        }
        let present = sqlx::query(
            "SELECT provider_template_id FROM template_uploads
             WHERE app_id = $1 AND version_id = $2 AND locale = $3",
        );
        let present = bind(present, key).fetch_optional(self.pool()).await?;
        let id: Option<String> = present.map(|row| row.try_get(0)).transpose()?.flatten();
        Ok(id.map_or(UploadClaim::Taken, UploadClaim::Done))
    }

    /// Stores OneSignal's id of an upload that was made under the lease `until`; `false` if the lease was lost
    /// meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn confirm_upload(
        &self,
        key: &UploadKey,
        (provider_template_id, content_hash): (&str, &[u8]),
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let confirmed = sqlx::query(
            "UPDATE template_uploads
             SET provider_template_id = $6, content_hash = $7, uploaded_at = $4, checked_at = $4, drift = NULL,
                leased_until = NULL
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND leased_until = $5
                AND provider_template_id IS NULL",
        );
        let confirmed =
            bind(confirmed, key).bind(now).bind(until).bind(provider_template_id).bind(content_hash);
        Ok(confirmed.execute(self.pool()).await?.rows_affected() == 1)
    }

    /// Releases the lease `until` without a template.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn release_upload(&self, key: &UploadKey, until: Timestamp) -> Result<(), StoreError> {
        let released = sqlx::query(
            "UPDATE template_uploads
             SET leased_until = NULL
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND leased_until = $4",
        );
        bind(released, key).bind(until).execute(self.pool()).await?;
        Ok(())
    }

    /// Records that OneSignal no longer has this template; `false` if it was created again meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn lose_upload(&self, key: &UploadKey, provider_template_id: &str) -> Result<bool, StoreError> {
        let lost = sqlx::query(
            "UPDATE template_uploads
             SET provider_template_id = NULL, uploaded_at = NULL
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND provider_template_id = $4",
        );
        Ok(bind(lost, key).bind(provider_template_id).execute(self.pool()).await?.rows_affected() == 1)
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

/// Reads a confirmed upload.
fn read_upload(row: &sqlx::postgres::PgRow) -> Result<(UploadKey, String), StoreError> {
    let key = UploadKey {
        app: AppId(row.try_get::<Uuid, _>("app_id")?),
        version: TemplateVersionId::from_uuid(row.try_get("version_id")?),
        locale: row.try_get("locale")?,
    };
    Ok((key, row.try_get("provider_template_id")?))
}

pub(super) type PgQuery<'q> = sqlx::query::Query<'q, sqlx::Postgres, sqlx::postgres::PgArguments>;

/// Binds the key of an upload as the first three parameters.
pub(super) fn bind<'q>(query: PgQuery<'q>, key: &'q UploadKey) -> PgQuery<'q> {
    query.bind(key.app.0).bind(key.version.uuid()).bind(&key.locale)
}
