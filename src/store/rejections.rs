//! Rejected webhook calls, counted for each source and reason.

use sqlx::Row;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{SourceId, TypedId};

/// How often a source's calls were rejected for one reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RejectedCalls {
    /// The reason's code.
    pub reason: String,
    /// How many calls there were.
    pub calls: u64,
    /// When the first one came.
    pub first_at: Timestamp,
    /// When the last one came.
    pub last_at: Timestamp,
}

impl Store {
    /// Adds rejected calls to the counts.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn add_rejected_calls(
        &self,
        source: SourceId,
        added: &RejectedCalls,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO rejected_calls (source_id, reason, calls, first_at, last_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (source_id, reason) DO UPDATE
             SET calls = rejected_calls.calls + $3, last_at = greatest(rejected_calls.last_at, $5)",
        )
        .bind(source.uuid())
        .bind(&added.reason)
        .bind(i64::try_from(added.calls).unwrap_or(i64::MAX))
        .bind(added.first_at)
        .bind(added.last_at)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// A source's rejected calls, the latest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn rejected_calls(&self, source: SourceId) -> Result<Vec<RejectedCalls>, StoreError> {
        let rows = sqlx::query(
            "SELECT reason, calls, first_at, last_at
             FROM rejected_calls
             WHERE source_id = $1
             ORDER BY last_at DESC, reason",
        )
        .bind(source.uuid())
        .fetch_all(self.pool())
        .await?;
        let read = |row: &sqlx::postgres::PgRow| {
            let calls: i64 = row.try_get("calls")?;
            Ok(RejectedCalls {
                reason: row.try_get("reason")?,
                calls: u64::try_from(calls).unwrap_or_default(),
                first_at: row.try_get("first_at")?,
                last_at: row.try_get("last_at")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// Deletes counts whose last call came before `before`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_rejected_calls(&self, before: Timestamp) -> Result<u64, StoreError> {
        let gone = sqlx::query("DELETE FROM rejected_calls WHERE last_at < $1")
            .bind(before)
            .execute(self.pool())
            .await?;
        Ok(gone.rows_affected())
    }
}
