//! API keys, stored as hashes.

use sqlx::Row;

use super::sources::{Source, read_source};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{KeyId, SourceId, TypedId};

/// A key to be stored.
#[derive(Debug, Clone)]
pub struct NewKey {
    /// Its id.
    pub id: KeyId,
    /// The source that uses it.
    pub source: SourceId,
    /// SHA-256 of its text.
    pub hash: [u8; 32],
    /// The part of it that may be shown.
    pub hint: String,
    /// Can use sandbox apps only.
    pub is_test: bool,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The event types that it may post; `None`: those of the source.
    pub allowed_types: Option<Vec<String>>,
    /// The names of the sources whose events it may see; `None`: all.
    pub allowed_sources: Option<Vec<String>>,
    /// When it expires; `None`: never.
    pub expires_at: Option<Timestamp>,
}

/// A key as it was found by its hash, with its source.
#[derive(Debug, Clone)]
pub struct KnownKey {
    /// Its id.
    pub id: KeyId,
    /// Can use sandbox apps only.
    pub is_test: bool,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The event types that it may post; `None`: those of the source.
    pub allowed_types: Option<Vec<String>>,
    /// The sources whose events it may see; `None`: all.
    pub visible_sources: Option<Vec<SourceId>>,
    /// When it expires; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to about a minute.
    pub last_used_at: Option<Timestamp>,
    /// The source that uses it.
    pub source: Source,
}

/// A key as it is listed.
#[derive(Debug, Clone)]
pub struct ListedKey {
    /// Its id.
    pub id: KeyId,
    /// The source's name.
    pub source: String,
    /// The part of it that may be shown.
    pub hint: String,
    /// What it may do.
    pub scopes: Vec<String>,
    /// The names of the sources whose events it may see; `None`: all.
    pub allowed_sources: Option<Vec<String>>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires; `None`: never.
    pub expires_at: Option<Timestamp>,
    /// When it was used last, to about a minute.
    pub last_used_at: Option<Timestamp>,
    /// When it was revoked.
    pub revoked_at: Option<Timestamp>,
}

impl Store {
    /// Stores a key. A key with the same hash is updated instead.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn insert_key(&self, key: &NewKey, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO api_keys (id, source_id, hash, hint, is_test, scopes, allowed_types, created_at, allowed_sources,
                expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)
             ON CONFLICT (hash) DO UPDATE
             SET scopes = $6, allowed_types = $7, allowed_sources = $9, expires_at = $10, revoked_at = NULL",
        )
        .bind(key.id.uuid())
        .bind(key.source.uuid())
        .bind(key.hash.as_slice())
        .bind(&key.hint)
        .bind(key.is_test)
        .bind(&key.scopes)
        .bind(&key.allowed_types)
        .bind(now)
        .bind(&key.allowed_sources)
        .bind(key.expires_at)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Finds a key that is neither revoked nor expired by the hash of its text.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_key(&self, hash: &[u8; 32], now: Timestamp) -> Result<Option<KnownKey>, StoreError> {
        let row = sqlx::query(
            "SELECT k.id AS key_id, k.is_test, k.scopes, k.allowed_types AS key_types, k.expires_at, k.last_used_at,
                CASE WHEN k.allowed_sources IS NOT NULL
                    THEN ARRAY (SELECT v.id FROM sources v WHERE v.name = ANY (k.allowed_sources))
                END AS visible_sources,
                s.*
             FROM api_keys k
             JOIN sources s ON s.id = k.source_id
             WHERE k.hash = $1 AND k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $2)",
        )
        .bind(hash.as_slice())
        .bind(now)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        let visible: Option<Vec<uuid::Uuid>> = row.try_get("visible_sources")?;
        Ok(Some(KnownKey {
            id: KeyId::from_uuid(row.try_get("key_id")?),
            is_test: row.try_get("is_test")?,
            scopes: row.try_get("scopes")?,
            allowed_types: row.try_get("key_types")?,
            visible_sources: visible.map(|ids| ids.into_iter().map(SourceId::from_uuid).collect()),
            expires_at: row.try_get("expires_at")?,
            last_used_at: row.try_get("last_used_at")?,
            source: read_source(&row, "id", "name")?,
        }))
    }

    /// Whether any key exists, revoked or not.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn has_keys(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM api_keys)").fetch_one(self.pool()).await?)
    }

    /// Every key, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn keys(&self) -> Result<Vec<ListedKey>, StoreError> {
        let rows = sqlx::query(
            "SELECT k.id, s.name, k.hint, k.scopes, k.allowed_sources, k.created_at, k.expires_at, k.last_used_at,
                k.revoked_at
             FROM api_keys k
             JOIN sources s ON s.id = k.source_id
             ORDER BY k.id DESC",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(ListedKey {
                    id: KeyId::from_uuid(row.try_get("id")?),
                    source: row.try_get("name")?,
                    hint: row.try_get("hint")?,
                    scopes: row.try_get("scopes")?,
                    allowed_sources: row.try_get("allowed_sources")?,
                    created_at: row.try_get("created_at")?,
                    expires_at: row.try_get("expires_at")?,
                    last_used_at: row.try_get("last_used_at")?,
                    revoked_at: row.try_get("revoked_at")?,
                })
            })
            .collect()
    }

    /// Records that a key was used at `now`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn touch_key(&self, id: KeyId, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE api_keys SET last_used_at = $2 WHERE id = $1")
            .bind(id.uuid())
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// How many active test keys have scopes beyond posting events and reading.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_powerful_test_keys(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT count(*)
             FROM api_keys
             WHERE is_test AND revoked_at IS NULL
               AND EXISTS (SELECT 1 FROM unnest(scopes) AS s (scope) WHERE scope LIKE '%:write' AND scope <> 'events:write')",
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// Whether there is an app that can reach real people.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn has_live_app(&self) -> Result<bool, StoreError> {
        let query = "SELECT EXISTS (SELECT 1 FROM apps WHERE NOT is_sandbox)";
        Ok(sqlx::query_scalar(query).fetch_one(self.pool()).await?)
    }

    /// Revokes a key; `false` if there is no active one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn revoke_key(&self, id: KeyId, now: Timestamp) -> Result<bool, StoreError> {
        let revoked = sqlx::query("UPDATE api_keys SET revoked_at = $2 WHERE id = $1 AND revoked_at IS NULL")
            .bind(id.uuid())
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(revoked.rows_affected() > 0)
    }
}
