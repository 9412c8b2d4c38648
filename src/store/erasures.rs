//! Erasures, and the keyed hashes by which people who were erased are recognised.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::erasure::Identifier;
use crate::domain::event::Recipient;
use crate::domain::id::{ErasureId, TypedId};
use crate::vault::DigestKey;

/// A keyed hash of an identifier.
pub type Digest = [u8; 32];

/// The only row of `erasure_key`.
const KEY_ROW: Uuid = Uuid::from_u128(1);

/// The place that the key is sealed for.
pub(super) fn key_place(_: Uuid) -> String {
    "erasure_key".to_owned()
}

/// The place that an erasure's identifiers are sealed for.
pub(super) fn place(id: Uuid) -> String {
    format!("erasures/{}", ErasureId::from_uuid(id))
}

/// An erasure, as it is shown: without anything about the person.
#[derive(Debug, Clone)]
pub struct StoredErasure {
    /// Its id.
    pub id: ErasureId,
    /// `open`, `done` or `lifted`.
    pub state: String,
    /// Who requested it.
    pub requested_by: String,
    /// When.
    pub requested_at: Timestamp,
    /// What was erased where.
    pub progress: Value,
    /// Whether the record outside the database has it.
    pub is_recorded: bool,
    /// When it was finished, or lifted.
    pub finished_at: Option<Timestamp>,
}

/// A claimed erasure.
#[derive(Debug, Clone)]
pub struct ClaimedErasure {
    /// The erasure.
    pub erasure: StoredErasure,
    /// What is still looked for.
    pub identifiers: BTreeSet<Identifier>,
    /// How often it was worked on.
    pub attempts: i32,
}

/// An erasure for the record outside the database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedErasure {
    /// Its id.
    pub id: ErasureId,
    /// When it was requested.
    pub requested_at: Timestamp,
    /// Whether it was lifted.
    pub is_lifted: bool,
    /// The hashes of its identifiers.
    pub digests: BTreeSet<Digest>,
}

fn read(row: &sqlx::postgres::PgRow) -> Result<StoredErasure, StoreError> {
    let Json(progress) = row.try_get("progress")?;
    Ok(StoredErasure {
        id: ErasureId::from_uuid(row.try_get("id")?),
        state: row.try_get("state")?,
        requested_by: row.try_get("requested_by")?,
        requested_at: row.try_get("requested_at")?,
        progress,
        is_recorded: row.try_get("is_recorded")?,
        finished_at: row.try_get("finished_at")?,
    })
}

fn columns(digests: &BTreeSet<Digest>) -> Vec<&[u8]> {
    digests.iter().map(<[u8; 32]>::as_slice).collect()
}

/// Which of these hashes are of people who were erased.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn erased_among(
    connection: &mut PgConnection,
    digests: &BTreeSet<Digest>,
) -> Result<HashSet<Vec<u8>>, StoreError> {
    if digests.is_empty() {
        return Ok(HashSet::new());
    }
    let found: Vec<Vec<u8>> =
        sqlx::query_scalar("SELECT digest FROM erased_identifiers WHERE digest = ANY ($1)")
            .bind(columns(digests))
            .fetch_all(connection)
            .await?;
    Ok(found.into_iter().collect())
}

/// The open erasure of one of these hashes.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn open_for(
    connection: &mut PgConnection,
    digests: &BTreeSet<Digest>,
) -> Result<Option<StoredErasure>, StoreError> {
    let query = "SELECT *
         FROM erasures
         WHERE state = 'open' AND id IN (SELECT erasure_id FROM erased_identifiers WHERE digest = ANY ($1))
         LIMIT 1";
    let row = sqlx::query(query).bind(columns(digests)).fetch_optional(connection).await?;
    row.as_ref().map(read).transpose()
}

/// Stores an erasure.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    connection: &mut PgConnection,
    id: ErasureId,
    by: &str,
    sealed: &[u8],
    now: Timestamp,
) -> Result<StoredErasure, StoreError> {
    let query = "INSERT INTO erasures (id, state, requested_by, requested_at, identifiers, due_at)
         VALUES ($1, 'open', $2, $3, $4, $3)
         RETURNING *";
    let row =
        sqlx::query(query).bind(id.uuid()).bind(by).bind(now).bind(sealed).fetch_one(connection).await?;
    read(&row)
}

/// Adds hashes to an erasure; those of an earlier one are now of this one.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn add_digests(
    connection: &mut PgConnection,
    id: ErasureId,
    digests: &BTreeSet<Digest>,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO erased_identifiers (digest, erasure_id)
         SELECT digest, $2 FROM unnest($1::bytea[]) AS n (digest) ORDER BY digest
         ON CONFLICT (digest) DO UPDATE SET erasure_id = excluded.erasure_id",
    )
    .bind(columns(digests))
    .bind(id.uuid())
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// The key of hashes of erased identifiers. It is created when it is first needed.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] if the secret key is not the one that it was sealed with.
    pub async fn erasure_key(&self) -> Result<&DigestKey, StoreError> {
        self.erasure_key
            .get_or_try_init(async || {
                let find = "SELECT sealed FROM erasure_key";
                let mut found: Option<Vec<u8>> = sqlx::query_scalar(find).fetch_optional(self.pool()).await?;
                if found.is_none() {
                    let new = self.vault().seal(&key_place(KEY_ROW), &self.vault().new_digest_key()?)?;
                    self.keep_erasure_key(&new).await?;
                    found = sqlx::query_scalar(find).fetch_optional(self.pool()).await?;
                }
                let sealed = found.ok_or_else(|| StoreError::corrupt("erasure_key", "sealed", KEY_ROW))?;
                Ok(DigestKey::new(&self.vault().open(&key_place(KEY_ROW), &sealed)?))
            })
            .await
    }

    /// Stores the key of hashes, unless there is one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(super) async fn keep_erasure_key(&self, sealed: &[u8]) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO erasure_key (id, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING")
            .bind(KEY_ROW)
            .bind(sealed)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// The key of hashes, sealed, for the record outside the database.
    ///
    /// # Errors
    /// As for [`Self::erasure_key`].
    pub async fn sealed_erasure_key(&self) -> Result<Vec<u8>, StoreError> {
        self.erasure_key().await?;
        Ok(sqlx::query_scalar("SELECT sealed FROM erasure_key").fetch_one(self.pool()).await?)
    }

    /// Hashes of identifiers.
    ///
    /// # Errors
    /// As for [`Self::erasure_key`].
    pub async fn digests<'a>(
        &self,
        identifiers: impl IntoIterator<Item = &'a Identifier>,
    ) -> Result<BTreeMap<Digest, &'a Identifier>, StoreError> {
        let key = self.erasure_key().await?;
        Ok(identifiers.into_iter().map(|each| (key.digest(&each.matching_text()), each)).collect())
    }

    /// Hashes of recipients, in their order.
    ///
    /// # Errors
    /// As for [`Self::erasure_key`].
    pub async fn recipient_digests(&self, recipients: &[&Recipient]) -> Result<Vec<Digest>, StoreError> {
        let key = self.erasure_key().await?;
        Ok(recipients.iter().map(|each| key.digest(&Identifier::from(*each).matching_text())).collect())
    }

    /// Claims erasures that are due until `until`.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`], [`StoreError::Sealed`].
    pub async fn claim_erasures(
        &self,
        limit: i64,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<ClaimedErasure>, StoreError> {
        let query = "UPDATE erasures
             SET due_at = $2, attempts = attempts + 1
             WHERE id IN (
                SELECT id FROM erasures WHERE state = 'open' AND due_at <= $1
                ORDER BY due_at LIMIT $3 FOR UPDATE SKIP LOCKED
             )
             RETURNING *";
        let rows = sqlx::query(query).bind(now).bind(until).bind(limit).fetch_all(self.pool()).await?;
        rows.iter()
            .map(|row| {
                let erasure = read(row)?;
                let sealed: Vec<u8> = row.try_get("identifiers")?;
                let opened = self.vault().open(&place(erasure.id.uuid()), &sealed)?;
                let identifiers = serde_json::from_slice(&opened)
                    .map_err(|_| StoreError::corrupt("erasures", "identifiers", erasure.id))?;
                Ok(ClaimedErasure { erasure, identifiers, attempts: row.try_get("attempts")? })
            })
            .collect()
    }

    /// When the next erasure is due.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn next_erasure(&self) -> Result<Option<Timestamp>, StoreError> {
        let next = "SELECT min(due_at) FROM erasures WHERE state = 'open'";
        Ok(sqlx::query_scalar(next).fetch_one(self.pool()).await?)
    }

    /// An erasure's identifiers, sealed.
    ///
    /// # Errors
    /// [`StoreError::Sealed`].
    pub fn seal_identifiers(
        &self,
        id: ErasureId,
        identifiers: &BTreeSet<Identifier>,
    ) -> Result<Vec<u8>, StoreError> {
        let text = serde_json::to_vec(identifiers).unwrap_or_default();
        Ok(self.vault().seal(&place(id.uuid()), &text)?)
    }

    /// Adds identifiers that were found meanwhile, with their hashes.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Sealed`].
    pub async fn add_identifiers(
        &self,
        id: ErasureId,
        identifiers: &BTreeSet<Identifier>,
    ) -> Result<(), StoreError> {
        let digests = self.digests(identifiers).await?.into_keys().collect();
        let sealed = self.seal_identifiers(id, identifiers)?;
        let mut tx = self.begin().await?;
        add_digests(&mut tx, id, &digests).await?;
        sqlx::query(
            "UPDATE erasures SET identifiers = $2, is_recorded = false WHERE id = $1 AND state = 'open'",
        )
        .bind(id.uuid())
        .bind(sealed)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Records what was done, and when to go on; without a time, the erasure is done, and its identifiers are deleted.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn save_erasure(
        &self,
        id: ErasureId,
        progress: &Value,
        due_at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE erasures
             SET progress = $2, due_at = coalesce($3::timestamptz, due_at),
                state = CASE WHEN $3::timestamptz IS NULL THEN 'done' ELSE state END,
                identifiers = CASE WHEN $3::timestamptz IS NOT NULL THEN identifiers END,
                finished_at = CASE WHEN $3::timestamptz IS NULL THEN $4::timestamptz END
             WHERE id = $1 AND state = 'open'",
        )
        .bind(id.uuid())
        .bind(Json(progress))
        .bind(due_at)
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Marks erasures as recorded outside the database.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn mark_recorded(&self, ids: &[ErasureId]) -> Result<(), StoreError> {
        sqlx::query("UPDATE erasures SET is_recorded = true WHERE id = ANY ($1)")
            .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// An erasure.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn erasure(&self, id: ErasureId) -> Result<Option<StoredErasure>, StoreError> {
        let query = "SELECT * FROM erasures WHERE id = $1";
        let row = sqlx::query(query).bind(id.uuid()).fetch_optional(self.pool()).await?;
        row.as_ref().map(read).transpose()
    }

    /// Erasures older than `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn erasures(&self, before: Uuid, limit: i64) -> Result<Vec<StoredErasure>, StoreError> {
        let query = "SELECT * FROM erasures WHERE id < $1 ORDER BY id DESC LIMIT $2";
        let rows = sqlx::query(query).bind(before).bind(limit).fetch_all(self.pool()).await?;
        rows.iter().map(read).collect()
    }

    /// The erasure of a person, the newest one.
    ///
    /// # Errors
    /// [`StoreError::Database`]; as for [`Self::erasure_key`].
    pub async fn erasure_of(&self, person: &Recipient) -> Result<Option<StoredErasure>, StoreError> {
        let digest = self.recipient_digests(&[person]).await?;
        let query = "SELECT *
             FROM erasures
             WHERE id = (SELECT erasure_id FROM erased_identifiers WHERE digest = ANY ($1) LIMIT 1)";
        let digest: Vec<&[u8]> = digest.iter().map(<[u8; 32]>::as_slice).collect();
        let row = sqlx::query(query).bind(digest).fetch_optional(self.pool()).await?;
        row.as_ref().map(read).transpose()
    }

    /// Lets a person come back: deletes the hashes of an erasure that is done. Returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn lift_erasure(&self, id: ErasureId, now: Timestamp) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        let lifted = sqlx::query(
            "UPDATE erasures SET state = 'lifted', finished_at = $2, is_recorded = false
             WHERE id = $1 AND state = 'done'",
        )
        .bind(id.uuid())
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query(
            "DELETE FROM erased_identifiers e USING erasures r
             WHERE e.erasure_id = $1 AND r.id = e.erasure_id AND r.state = 'lifted'",
        )
        .bind(id.uuid())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(lifted.rows_affected() > 0)
    }

    /// The oldest open erasure's time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn oldest_open_erasure(&self) -> Result<Option<Timestamp>, StoreError> {
        let oldest = "SELECT min(requested_at) FROM erasures WHERE state = 'open'";
        Ok(sqlx::query_scalar(oldest).fetch_one(self.pool()).await?)
    }

    /// Erasures that are not recorded outside the database yet, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn unrecorded_erasures(&self) -> Result<Vec<RecordedErasure>, StoreError> {
        let rows = sqlx::query(
            "SELECT r.id, r.requested_at, r.state = 'lifted' AS is_lifted,
                ARRAY(SELECT digest FROM erased_identifiers e WHERE e.erasure_id = r.id) AS digests
             FROM erasures r
             WHERE NOT r.is_recorded
             ORDER BY r.id",
        )
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                let id = ErasureId::from_uuid(row.try_get("id")?);
                let digests: Vec<Vec<u8>> = row.try_get("digests")?;
                let corrupt = |_| StoreError::corrupt("erased_identifiers", "digest", id);
                Ok(RecordedErasure {
                    id,
                    requested_at: row.try_get("requested_at")?,
                    is_lifted: row.try_get("is_lifted")?,
                    digests: digests
                        .into_iter()
                        .map(TryInto::try_into)
                        .collect::<Result<_, _>>()
                        .map_err(corrupt)?,
                })
            })
            .collect()
    }

    /// Which of these erasures the database does not have.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn unknown_erasures(&self, ids: &[ErasureId]) -> Result<Vec<ErasureId>, StoreError> {
        let unknown: Vec<Uuid> = sqlx::query_scalar(
            "SELECT n.id FROM unnest($1::uuid[]) AS n (id) WHERE NOT EXISTS (SELECT 1 FROM erasures r WHERE r.id = n.id)",
        )
        .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .fetch_all(self.pool())
        .await?;
        Ok(unknown.into_iter().map(ErasureId::from_uuid).collect())
    }
}
