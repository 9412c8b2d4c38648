//! The checked state of the templates at OneSignal, and which of them are no longer needed.

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::days::Days;
use super::template_uploads::bind;
use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TemplateVersionId, TypedId};
use crate::domain::snapshot::UploadKey;

/// How a template at OneSignal differs from what was uploaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drift {
    /// Its content differs.
    Edited,
    /// It is gone.
    Deleted,
}

impl Drift {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edited => "edited",
            Self::Deleted => "deleted",
        }
    }
}

/// An upload with its checked state.
#[derive(Debug, Clone)]
pub struct UploadRecord {
    /// The app, version and locale.
    pub key: UploadKey,
    /// The app's name.
    pub app: String,
    /// The template's key.
    pub template: String,
    /// The version's number.
    pub version: i32,
    /// Whether that version is the live one.
    pub is_live: bool,
    /// OneSignal's id; none while it is requested and not confirmed.
    pub provider_template_id: Option<String>,
    /// When it was created.
    pub uploaded_at: Option<Timestamp>,
    /// When it was last checked.
    pub checked_at: Option<Timestamp>,
    /// The result of that check.
    pub drift: Option<Drift>,
}

impl Store {
    /// The uploads of one template, or of all: by template, newest version first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn upload_records(&self, template: Option<&str>) -> Result<Vec<UploadRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT u.*, a.name AS app, t.key, v.number, t.live_version IS NOT DISTINCT FROM v.id AS is_live
             FROM template_uploads u
             JOIN apps a ON a.id = u.app_id
             JOIN template_versions v ON v.id = u.version_id
             JOIN templates t ON t.id = v.template_id
             WHERE $1::text IS NULL OR t.key = $1
             ORDER BY t.key, v.number DESC, a.name, u.locale",
        )
        .bind(template)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_record).collect()
    }

    /// Records the state of a template at OneSignal; nothing if it was created again meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn note_look(
        &self,
        key: &UploadKey,
        provider_template_id: &str,
        (drift, content_hash): (Option<Drift>, Option<&[u8]>),
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let noted = sqlx::query(
            "UPDATE template_uploads
             SET checked_at = $5, drift = $6, content_hash = coalesce($7, content_hash)
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND provider_template_id = $4",
        );
        let noted = bind(noted, key).bind(provider_template_id).bind(now).bind(drift.map(Drift::as_str));
        noted.bind(content_hash).execute(self.pool()).await?;
        Ok(())
    }

    /// Takes the app's daily check for this process; `false` if it was done since `before`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_template_check(
        &self,
        app: AppId,
        before: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let claimed = sqlx::query(
            "UPDATE apps SET templates_checked_at = $3 WHERE id = $1 AND (templates_checked_at IS NULL OR templates_checked_at <= $2)",
        )
        .bind(app.0)
        .bind(before)
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(claimed.rows_affected() == 1)
    }

    /// Records since when nothing refers to an app's uploads: not `used`, not live, pinned by no open delivery.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn mark_unused(
        &self,
        app: AppId,
        used: &[TemplateVersionId],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(Days::since(self.oldest_open().await?).fill(
            "WITH used AS (
                SELECT unnest($2::uuid[]) AS version_id
                UNION SELECT live_version FROM templates WHERE live_version IS NOT NULL
                UNION SELECT d.template_version_id FROM queue q JOIN deliveries d ON d.id = q.delivery_id
                    WHERE d.template_version_id IS NOT NULL AND {days of d.id}
             )
             UPDATE template_uploads
             SET unused_since =
                CASE WHEN version_id NOT IN (SELECT version_id FROM used) THEN coalesce(unused_since, $3) END
             WHERE app_id = $1",
        ))
        .bind(app.0)
        .bind(used.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// An app's uploads that nothing has referred to since `before`, with the template's key and version number.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn unused_uploads(
        &self,
        app: AppId,
        before: Timestamp,
    ) -> Result<Vec<UploadRecord>, StoreError> {
        let rows = sqlx::query(
            "SELECT u.*, a.name AS app, t.key, v.number, false AS is_live
             FROM template_uploads u
             JOIN apps a ON a.id = u.app_id
             JOIN template_versions v ON v.id = u.version_id
             JOIN templates t ON t.id = v.template_id
             WHERE u.app_id = $1 AND u.unused_since <= $2
             ORDER BY t.key, v.number, u.locale",
        )
        .bind(app.0)
        .bind(before)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_record).collect()
    }

    /// Takes an unused upload to delete it, under the lease `until`: from now on it counts as not uploaded. `false` if
    /// it is needed again or leased by another process.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_unused(
        &self,
        key: &UploadKey,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let query = Days::since(self.oldest_open().await?).fill(
            "UPDATE template_uploads u
             SET provider_template_id = NULL, uploaded_at = NULL, leased_until = $5
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND unused_since IS NOT NULL
                AND (leased_until IS NULL OR leased_until <= $4)
                AND NOT EXISTS (SELECT FROM templates t WHERE t.live_version = u.version_id)
                AND NOT EXISTS (
                    SELECT FROM queue q JOIN deliveries d ON d.id = q.delivery_id
                    WHERE d.template_version_id = u.version_id AND {days of d.id}
                )
                AND NOT EXISTS (
                    SELECT FROM template_versions v
                    JOIN templates t ON t.id = v.template_id
                    JOIN rules r ON r.template_key = t.key
                    WHERE v.id = u.version_id
                      AND (r.definition #>> '{action,send,canary,version}')::integer = v.number
                )",
        );
        let claimed = bind(sqlx::query(query), key).bind(now).bind(until).execute(self.pool()).await?;
        Ok(claimed.rows_affected() == 1)
    }

    /// Deletes an unused upload that was deleted at OneSignal under the lease `until`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_unused(&self, key: &UploadKey, until: Timestamp) -> Result<(), StoreError> {
        let forgotten = sqlx::query(
            "DELETE FROM template_uploads
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND leased_until = $4
                AND provider_template_id IS NULL",
        );
        bind(forgotten, key).bind(until).execute(self.pool()).await?;
        Ok(())
    }

    /// Restores an unused upload that could not be deleted under the lease `until`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn keep_unused(
        &self,
        key: &UploadKey,
        provider_template_id: Option<&str>,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let kept = sqlx::query(
            "UPDATE template_uploads
             SET provider_template_id = $6, leased_until = NULL,
                uploaded_at = CASE WHEN $6::text IS NOT NULL THEN $5::timestamptz END
             WHERE app_id = $1 AND version_id = $2 AND locale = $3 AND leased_until = $4",
        );
        bind(kept, key).bind(until).bind(now).bind(provider_template_id).execute(self.pool()).await?;
        Ok(())
    }
}

fn read_record(row: &PgRow) -> Result<UploadRecord, StoreError> {
    let key = UploadKey {
        app: AppId(row.try_get::<Uuid, _>("app_id")?),
        version: TemplateVersionId::from_uuid(row.try_get("version_id")?),
        locale: row.try_get("locale")?,
    };
    let drift = match row.try_get::<Option<&str>, _>("drift")? {
        None => None,
        Some("edited") => Some(Drift::Edited),
        Some("deleted") => Some(Drift::Deleted),
        Some(_) => return Err(StoreError::corrupt("template_uploads", "drift", key.version)),
    };
    Ok(UploadRecord {
        key,
        app: row.try_get("app")?,
        template: row.try_get("key")?,
        version: row.try_get("number")?,
        is_live: row.try_get("is_live")?,
        provider_template_id: row.try_get("provider_template_id")?,
        uploaded_at: row.try_get("uploaded_at")?,
        checked_at: row.try_get("checked_at")?,
        drift,
    })
}
