//! Sources' webhooks: their settings and signing secrets.

use std::collections::BTreeMap;

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::sources::{Source, read_source};
use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{SourceId, TypedId, WebhookSecretId};

/// A source with its webhook and its active secrets, unsealed.
#[derive(Debug, Clone)]
pub struct KnownWebhook {
    /// The source.
    pub source: Source,
    /// Its settings, as in its file.
    pub settings: Value,
    /// Its active secrets, oldest first.
    pub secrets: Vec<WebhookSecret>,
}

/// An active secret.
#[derive(Clone)]
pub struct WebhookSecret {
    /// Its id.
    pub id: WebhookSecretId,
    /// Its events can use sandbox apps only.
    pub is_test: bool,
    /// The secret itself.
    pub text: String,
}

impl std::fmt::Debug for WebhookSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("WebhookSecret").field(&self.id).finish()
    }
}

/// A secret as it is listed.
#[derive(Debug, Clone)]
pub struct ListedSecret {
    /// Its id.
    pub id: WebhookSecretId,
    /// The part of it that may be shown.
    pub hint: String,
    /// Its events can use sandbox apps only.
    pub is_test: bool,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

/// The place that a secret is bound to.
pub(super) fn secret_place(id: WebhookSecretId) -> String {
    format!("webhook_secrets/{id}")
}

/// Replaces a source's settings, inserting it under `id` if it is new. Types and locale are in the source's own
/// columns.
///
/// # Errors
/// [`StoreError::Database`]; an invalid name is rejected by its CHECK.
pub async fn put_settings(
    tx: &mut Tx,
    (id, name): (SourceId, &str),
    settings: &Value,
    (allowed_types, default_locale): (Option<&[String]>, Option<&str>),
    now: Timestamp,
) -> Result<(), StoreError> {
    let source: uuid::Uuid = sqlx::query_scalar(
        "INSERT INTO sources (id, name, allowed_types, default_locale, created_at)
         VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (name) DO UPDATE SET allowed_types = $3, default_locale = $4
         RETURNING id",
    )
    .bind(id.uuid())
    .bind(name)
    .bind(allowed_types)
    .bind(default_locale)
    .bind(now)
    .fetch_one(&mut **tx)
    .await?;
    sqlx::query(
        "INSERT INTO webhooks (source_id, settings, version, updated_at)
         VALUES ($1, $2, 1, $3)
         ON CONFLICT (source_id) DO UPDATE
         SET settings = $2, version = webhooks.version + 1, updated_at = $3",
    )
    .bind(source)
    .bind(Json(settings))
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// The version of a source's settings; 0 if there are none.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn settings_version(connection: &mut PgConnection, name: &str) -> Result<i32, StoreError> {
    let version: Option<i32> = sqlx::query_scalar(
        "SELECT w.version FROM webhooks w JOIN sources s ON s.id = w.source_id WHERE s.name = $1",
    )
    .bind(name)
    .fetch_optional(connection)
    .await?;
    Ok(version.unwrap_or_default())
}

impl Store {
    /// The version of a source's settings; 0 if there are none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn source_version(&self, name: &str) -> Result<i32, StoreError> {
        settings_version(&mut *self.pool().acquire().await?, name).await
    }

    /// Each source's settings, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn source_settings(&self) -> Result<BTreeMap<String, Value>, StoreError> {
        settings(&mut *self.pool().acquire().await?).await
    }

    /// The webhook of the source with that name.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] if a secret can't be unsealed.
    pub async fn find_webhook(&self, name: &str) -> Result<Option<KnownWebhook>, StoreError> {
        let row = sqlx::query(
            "SELECT s.*, w.settings
             FROM webhooks w
             JOIN sources s ON s.id = w.source_id
             WHERE s.name = $1",
        )
        .bind(name)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let source = read_source(&row, "id", "name")?;
        let Json(settings) = row.try_get("settings")?;
        let secrets = self.secrets_in_use(source.id).await?;
        Ok(Some(KnownWebhook { source, settings, secrets }))
    }

    async fn secrets_in_use(&self, source: SourceId) -> Result<Vec<WebhookSecret>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, is_test, sealed
             FROM webhook_secrets
             WHERE source_id = $1 AND revoked_at IS NULL
             ORDER BY id",
        )
        .bind(source.uuid())
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let id = WebhookSecretId::from_uuid(row.try_get("id")?);
                let sealed: Vec<u8> = row.try_get("sealed")?;
                let plain = self.vault().open(&secret_place(id), &sealed)?;
                let text = String::from_utf8(plain).map_err(|_| StoreError::Corrupt {
                    table: "webhook_secrets",
                    column: "sealed",
                    id: id.to_string(),
                })?;
                Ok(WebhookSecret { id, is_test: row.try_get("is_test")?, text })
            })
            .collect()
    }

    /// Stores a secret, sealed, if the source has fewer than `limit` active ones; `false` if not.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] without random bytes.
    pub async fn insert_webhook_secret(
        &self,
        source: SourceId,
        secret: &WebhookSecret,
        hint: &str,
        limit: i64,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sealed = self.vault().seal(&secret_place(secret.id), secret.text.as_bytes())?;
        let inserted = sqlx::query(
            "INSERT INTO webhook_secrets (id, source_id, sealed, hint, is_test, created_at)
             SELECT $1, $2, $3, $4, $5, $6
             WHERE (SELECT count(*) FROM webhook_secrets WHERE source_id = $2 AND revoked_at IS NULL) < $7",
        )
        .bind(secret.id.uuid())
        .bind(source.uuid())
        .bind(sealed)
        .bind(hint)
        .bind(secret.is_test)
        .bind(now)
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(inserted.rows_affected() > 0)
    }

    /// A source's secrets, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn webhook_secrets(&self, source: SourceId) -> Result<Vec<ListedSecret>, StoreError> {
        let rows = sqlx::query(
            "SELECT id, hint, is_test, created_at, revoked_at
             FROM webhook_secrets
             WHERE source_id = $1
             ORDER BY id DESC
             LIMIT 100",
        )
        .bind(source.uuid())
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ListedSecret {
                    id: WebhookSecretId::from_uuid(row.try_get("id")?),
                    hint: row.try_get("hint")?,
                    is_test: row.try_get("is_test")?,
                    created_at: row.try_get("created_at")?,
                    revoked_at: row.try_get("revoked_at")?,
                })
            })
            .collect()
    }

    /// Revokes a source's secret; `false` if there is no active one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revoke_webhook_secret(
        &self,
        source: SourceId,
        id: WebhookSecretId,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let revoked = sqlx::query(
            "UPDATE webhook_secrets SET revoked_at = $3
             WHERE id = $2 AND source_id = $1 AND revoked_at IS NULL",
        )
        .bind(source.uuid())
        .bind(id.uuid())
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(revoked.rows_affected() > 0)
    }
}

/// Each source's settings, by name.
pub(super) async fn settings(connection: &mut PgConnection) -> Result<BTreeMap<String, Value>, StoreError> {
    let rows = sqlx::query("SELECT s.name, w.settings FROM webhooks w JOIN sources s ON s.id = w.source_id")
        .fetch_all(connection)
        .await?;
    rows.iter()
        .map(|row| {
            let Json(settings): Json<Value> = row.try_get("settings")?;
            Ok((row.try_get("name")?, settings))
        })
        .collect()
}
