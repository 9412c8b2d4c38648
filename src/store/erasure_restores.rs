//! Erasures that are applied again after the database was restored from a backup.

use std::collections::BTreeSet;

use serde_json::Value;
use sqlx::types::Json;
use uuid::Uuid;

use super::erasures::{Digest, add_digests, key_place};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::erasure::Identifier;
use crate::domain::id::{ErasureId, TypedId};

/// Who requested it, as far as this database knows.
const BY_RECORD: &str = "the record of erasures";

impl Store {
    /// Whether a sealed key is the one of this database, which takes it if it has none.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] if it was sealed with an unknown secret key.
    pub async fn is_erasure_key(&self, sealed: &[u8]) -> Result<bool, StoreError> {
        self.keep_erasure_key(sealed).await?;
        let own = self.sealed_erasure_key().await?;
        let open = |sealed: &[u8]| self.vault().open(&key_place(Uuid::nil()), sealed);
        Ok(open(sealed)? == open(&own)?)
    }

    /// Stores an erasure that the database does not have, with its hashes. Its identifiers have to be found by them.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn apply_erasure_again(
        &self,
        id: ErasureId,
        requested_at: Timestamp,
        digests: &BTreeSet<Digest>,
        progress: &Value,
    ) -> Result<(), StoreError> {
        let sealed = self.seal_identifiers(id, &BTreeSet::new())?;
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO erasures (id, state, requested_by, requested_at, identifiers, is_recorded, progress, due_at)
             VALUES ($1, 'open', $2, $3, $4, true, $5, $3)
             ON CONFLICT DO NOTHING",
        )
        .bind(id.uuid())
        .bind(BY_RECORD)
        .bind(requested_at)
        .bind(sealed)
        .bind(Json(progress))
        .execute(&mut *tx)
        .await?;
        add_digests(&mut tx, id, digests).await?;
        Ok(tx.commit().await?)
    }

    /// The hashes of an erasure.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn digests_of_erasure(&self, id: ErasureId) -> Result<BTreeSet<Vec<u8>>, StoreError> {
        let found: Vec<Vec<u8>> =
            sqlx::query_scalar("SELECT digest FROM erased_identifiers WHERE erasure_id = $1")
                .bind(id.uuid())
                .fetch_all(self.pool())
                .await?;
        Ok(found.into_iter().collect())
    }

    /// Users' aliases after one, ordered by label and id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn aliases_after(
        &self,
        (label, alias): &(String, String),
        limit: i64,
    ) -> Result<Vec<(String, String)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT label, alias FROM user_aliases WHERE (label, alias) > ($1, $2) ORDER BY label, alias LIMIT $3",
        )
        .bind(label)
        .bind(alias)
        .bind(limit)
        .fetch_all(self.pool())
        .await?)
    }

    /// Calls `each` with every recipient of a stored event, some of them several times.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn each_recipient(&self, mut each: impl FnMut(Identifier)) -> Result<(), StoreError> {
        let query = "SELECT DISTINCT r.pair ->> 0, r.pair ->> 1
            FROM events e
            CROSS JOIN LATERAL json_array_elements(e.recipients) AS r (pair)
            WHERE e.id >= $1 AND e.id < $2 AND {days of e.id}";
        for days in self.each_day("events").await? {
            for (first, end) in days.hours() {
                let found: Vec<(String, String)> =
                    sqlx::query_as(days.fill(query)).bind(first).bind(end).fetch_all(self.pool()).await?;
                for (label, id) in found {
                    each(Identifier { label, id });
                }
            }
        }
        Ok(())
    }
}
