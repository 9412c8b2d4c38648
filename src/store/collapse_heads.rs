//! The newest event of each collapse digest.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::cancellable::bytes;
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;

/// Locks the rows of these digests, inserting missing ones, in the order of digests; returns the highest sequence that
/// each has seen.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn lock(
    connection: &mut PgConnection,
    digests: &[[u8; 32]],
    now: Timestamp,
) -> Result<BTreeMap<[u8; 32], Option<i64>>, StoreError> {
    let rows = sqlx::query(
        "INSERT INTO collapse_heads (digest, seen_at)
         SELECT digest, $2
         FROM unnest($1::bytea[]) AS d (digest)
         ORDER BY digest
         ON CONFLICT (digest) DO UPDATE SET seen_at = $2
         RETURNING digest, sequence",
    )
    .bind(bytes(digests))
    .bind(now)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let digest: Vec<u8> = row.try_get("digest")?;
            let digest =
                digest.try_into().map_err(|_| StoreError::corrupt("collapse_heads", "digest", ""))?;
            Ok((digest, row.try_get("sequence")?))
        })
        .collect()
}

/// Stores the highest sequences of locked rows.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn note(connection: &mut PgConnection, seen: &[([u8; 32], i64)]) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE collapse_heads c SET sequence = n.sequence
         FROM unnest($1::bytea[], $2::bigint[]) AS n (digest, sequence)
         WHERE c.digest = n.digest",
    )
    .bind(seen.iter().map(|(digest, _)| digest.to_vec()).collect::<Vec<_>>())
    .bind(seen.iter().map(|(_, sequence)| *sequence).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Deletes what was last seen before `before`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_collapses(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let gone = sqlx::query(
            "DELETE FROM collapse_heads
             WHERE ctid = ANY (ARRAY(SELECT ctid FROM collapse_heads WHERE seen_at < $1 LIMIT $2))
               AND seen_at < $1",
        )
        .bind(before)
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(gone.rows_affected())
    }
}
