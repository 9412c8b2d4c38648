//! Messages at OneSignal: which batch each belongs to, and whether its deliveries are counted.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::parts_of;
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{BatchId, TypedId};

/// A message whose deliveries are to be counted.
#[derive(Debug, Clone)]
pub struct DueMessage {
    /// OneSignal's id.
    pub id: String,
    /// Its batch.
    pub batch: BatchId,
    /// Members that are not counted; `None` if none has been looked at.
    pub uncounted: Option<Vec<Uuid>>,
}

/// Messages that are due, oldest first. Only who records outcomes reads them, so they are not locked.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn due(
    connection: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<DueMessage>, StoreError> {
    let rows = sqlx::query(
        "SELECT id, batch_id, uncounted FROM provider_messages WHERE due_at <= $1 ORDER BY due_at LIMIT $2",
    )
    .bind(now)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    let read = |row: &sqlx::postgres::PgRow| {
        Ok(DueMessage {
            id: row.try_get("id")?,
            batch: BatchId::from_uuid(row.try_get("batch_id")?),
            uncounted: row.try_get("uncounted")?,
        })
    };
    rows.iter().map(read).collect()
}

/// The batches of messages; those of others are not among them.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find(
    connection: &mut PgConnection,
    ids: &[&str],
) -> Result<HashMap<String, BatchId>, StoreError> {
    let rows: Vec<(String, Uuid)> =
        sqlx::query_as("SELECT id, batch_id FROM provider_messages WHERE id = ANY ($1)")
            .bind(ids)
            .fetch_all(connection)
            .await?;
    Ok(rows.into_iter().map(|(id, batch)| (id, BatchId::from_uuid(batch))).collect())
}

/// Marks messages as counted.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_counted(
    connection: &mut PgConnection,
    ids: &[&str],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE provider_messages SET due_at = NULL, uncounted = NULL, counted_at = $2 WHERE id = ANY ($1)",
    )
    .bind(ids)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the members of a message that have not ended, and when to look again.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_uncounted(
    connection: &mut PgConnection,
    id: &str,
    uncounted: &[Uuid],
    due_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE provider_messages SET due_at = $2, uncounted = $3 WHERE id = $1")
        .bind(id)
        .bind(due_at)
        .bind(uncounted)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes that outcomes of these messages are recorded.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_reported(
    connection: &mut PgConnection,
    ids: &[&str],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE provider_messages SET reported_at = $2 WHERE id = ANY ($1) AND reported_at IS NULL")
        .bind(ids)
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// The members of batches.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn members(
    connection: &mut PgConnection,
    batches: &[BatchId],
) -> Result<HashMap<BatchId, Vec<Uuid>>, StoreError> {
    let mut found = HashMap::new();
    for (days, ids) in parts_of(batches.iter().map(|id| id.uuid())) {
        let query = days.fill("SELECT id, members FROM batches WHERE id = ANY ($1) AND {days of id}");
        let rows: Vec<(Uuid, Vec<Uuid>)> =
            sqlx::query_as(query).bind(ids).fetch_all(&mut *connection).await?;
        found.extend(rows.into_iter().map(|(id, members)| (BatchId::from_uuid(id), members)));
    }
    Ok(found)
}

impl Store {
    /// Whether a report or a message is due.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn are_outcomes_due(&self, now: Timestamp) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM outcome_reports WHERE due_at <= $1)
                 OR EXISTS (SELECT 1 FROM provider_messages WHERE due_at <= $1)",
        )
        .bind(now)
        .fetch_one(self.pool())
        .await?)
    }

    /// How many of the last messages that were counted between two times there are, and of how many outcomes are
    /// recorded.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reported_messages(
        &self,
        (from, to): (Timestamp, Timestamp),
        limit: i64,
    ) -> Result<(i64, i64), StoreError> {
        Ok(sqlx::query_as(
            "SELECT count(*), count(m.reported_at)
             FROM (
                SELECT reported_at
                FROM provider_messages
                WHERE counted_at >= $1 AND counted_at < $2
                ORDER BY counted_at DESC
                LIMIT $3
             ) AS m",
        )
        .bind(from)
        .bind(to)
        .bind(limit)
        .fetch_one(self.pool())
        .await?)
    }

    /// Deletes messages that were accepted before `before`: OneSignal reports nothing about them any more.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_provider_messages(&self, before: Timestamp, limit: i64) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM provider_messages
             WHERE ctid = ANY (ARRAY(SELECT ctid FROM provider_messages WHERE accepted_at < $1 LIMIT $2))",
        )
        .bind(before)
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
