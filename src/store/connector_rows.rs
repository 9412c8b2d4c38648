//! What is known of single rows of connectors' sources: those that were set aside, those that were read within the
//! lookback window, and those that are done with but not yet deleted there.

use std::collections::HashMap;

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ConnectorId, TypedId};

/// A row that was set aside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAsideRow {
    /// The row.
    pub row_id: String,
    /// Whose row it is.
    pub key: String,
    /// The column that is wrong; empty if it is not one.
    pub field: String,
    /// What is wrong.
    pub reason: String,
    /// How often it was tried.
    pub attempts: i32,
    /// When it was first set aside.
    pub first_at: Timestamp,
    /// When it is tried again.
    pub retry_at: Timestamp,
}

/// A row that was read, as it is recognized later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenRow {
    /// A keyed hash of its key.
    pub key_hash: String,
    /// A keyed hash of its content.
    pub row_hash: String,
    /// Its watermark.
    pub changed_at: Timestamp,
}

/// Sets rows aside, or counts another attempt.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_aside(
    connection: &mut PgConnection,
    connector: ConnectorId,
    rows: &[SetAsideRow],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO connector_set_aside AS s
            (connector_id, row_id, key, field, reason, attempts, first_at, retry_at)
         SELECT $1, n.row_id, n.key, n.field, n.reason, n.attempts, n.first_at, n.retry_at
         FROM unnest($2::text[], $3::text[], $4::text[], $5::text[], $6::integer[], $7::timestamptz[], $8::timestamptz[])
            AS n (row_id, key, field, reason, attempts, first_at, retry_at)
         ON CONFLICT (connector_id, row_id) DO UPDATE
         SET key = excluded.key, field = excluded.field, reason = excluded.reason,
            attempts = greatest(excluded.attempts, s.attempts), retry_at = excluded.retry_at",
    )
    .bind(connector.uuid())
    .bind(rows.iter().map(|row| row.row_id.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.key.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.field.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.reason.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.attempts).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.first_at).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.retry_at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Drops rows that were set aside: those with these ids, and all of these keys. Returns the ids of what was dropped.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn drop_set_aside(
    connection: &mut PgConnection,
    connector: ConnectorId,
    ids: &[String],
    keys: &[String],
) -> Result<Vec<String>, StoreError> {
    let dropped = sqlx::query_scalar(
        "DELETE FROM connector_set_aside
         WHERE connector_id = $1 AND (row_id = ANY ($2) OR key = ANY ($3))
         RETURNING row_id",
    );
    Ok(dropped.bind(connector.uuid()).bind(ids).bind(keys).fetch_all(connection).await?)
}

/// Remembers rows of the lookback window, and forgets those that have left it.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remember(
    connection: &mut PgConnection,
    connector: ConnectorId,
    rows: &[SeenRow],
    forget_before: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO connector_seen (connector_id, key_hash, row_hash, changed_at)
         SELECT $1, n.key_hash, n.row_hash, n.changed_at
         FROM unnest($2::text[], $3::text[], $4::timestamptz[]) AS n (key_hash, row_hash, changed_at)
         ON CONFLICT (connector_id, key_hash) DO UPDATE
         SET row_hash = excluded.row_hash, changed_at = excluded.changed_at",
    )
    .bind(connector.uuid())
    .bind(rows.iter().map(|row| row.key_hash.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.row_hash.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.changed_at).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM connector_seen WHERE connector_id = $1 AND changed_at < $2")
        .bind(connector.uuid())
        .bind(forget_before)
        .execute(connection)
        .await?;
    Ok(())
}

/// Notes rows of an outbox that are done with, before they are deleted there.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn note_consumed(
    connection: &mut PgConnection,
    connector: ConnectorId,
    ids: &[String],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO connector_consumed (connector_id, row_id)
         SELECT $1, unnest($2::text[])
         ON CONFLICT DO NOTHING",
    )
    .bind(connector.uuid())
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(())
}

/// The number of an app's people whose changes by connectors are still in the outbox, counted up to `limit`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_waiting(connection: &mut PgConnection, app: AppId, limit: i64) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM user_writes WHERE app_id = $1 AND origin = 2 LIMIT $2) AS waiting",
    );
    Ok(count.bind(app.0).bind(limit).fetch_one(connection).await?)
}

impl Store {
    /// Rows that were set aside, after an id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn list_set_aside(
        &self,
        connector: ConnectorId,
        after: &str,
        limit: i64,
    ) -> Result<Vec<SetAsideRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM connector_set_aside WHERE connector_id = $1 AND row_id > $2 ORDER BY row_id LIMIT $3",
        )
        .bind(connector.uuid())
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_set_aside).collect()
    }

    /// Rows that were set aside and are to be tried again, with all others of the same keys: their order counts.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn due_set_aside(
        &self,
        connector: ConnectorId,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<SetAsideRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT * FROM connector_set_aside
             WHERE connector_id = $1 AND key IN (
                SELECT key FROM connector_set_aside
                WHERE connector_id = $1 AND (retry_at <= $2 OR retry_at > $2 + interval '2 days')
                ORDER BY retry_at LIMIT $3
             )",
        )
        .bind(connector.uuid())
        .bind(now)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_set_aside).collect()
    }

    /// The ids of all rows of a connector that were set aside, up to `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn set_aside_ids(&self, connector: ConnectorId, limit: i64) -> Result<Vec<String>, StoreError> {
        let ids =
            sqlx::query_scalar("SELECT row_id FROM connector_set_aside WHERE connector_id = $1 LIMIT $2");
        Ok(ids.bind(connector.uuid()).bind(limit).fetch_all(self.pool()).await?)
    }

    /// Forgets rows that were set aside and name a person, as their key or in the reason.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn erase_set_aside(&self, ids: &[&str]) -> Result<u64, StoreError> {
        let erased = sqlx::query(
            "DELETE FROM connector_set_aside s
             WHERE s.key = ANY ($1) OR s.row_id = ANY ($1)
                OR EXISTS (
                    SELECT 1 FROM unnest($1::text[]) AS n (id)
                    WHERE strpos(lower(s.reason), '`' || lower(n.id) || '`') > 0
                )",
        )
        .bind(ids)
        .execute(self.pool())
        .await?;
        Ok(erased.rows_affected())
    }

    /// The numbers of rows that are set aside, by connector.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_set_aside(&self) -> Result<HashMap<ConnectorId, i64>, StoreError> {
        let rows = sqlx::query("SELECT connector_id, count(*) AS rows FROM connector_set_aside GROUP BY 1")
            .fetch_all(self.pool())
            .await?;
        let read =
            |row: &PgRow| Ok((ConnectorId::from_uuid(row.try_get("connector_id")?), row.try_get("rows")?));
        rows.iter().map(read).collect()
    }

    /// The contents, as hashes, of those of these rows that were read within the lookback window.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn seen_rows(
        &self,
        connector: ConnectorId,
        key_hashes: &[String],
    ) -> Result<HashMap<String, String>, StoreError> {
        let rows = sqlx::query(
            "SELECT key_hash, row_hash FROM connector_seen WHERE connector_id = $1 AND key_hash = ANY ($2)",
        )
        .bind(connector.uuid())
        .bind(key_hashes)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| Ok((row.try_get("key_hash")?, row.try_get("row_hash")?))).collect()
    }

    /// Rows that are done with and may still be in the source's outbox.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn consumed_rows(&self, connector: ConnectorId) -> Result<Vec<String>, StoreError> {
        let ids = sqlx::query_scalar("SELECT row_id FROM connector_consumed WHERE connector_id = $1");
        Ok(ids.bind(connector.uuid()).fetch_all(self.pool()).await?)
    }

    /// Forgets rows that are deleted at the source.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_consumed(&self, connector: ConnectorId, ids: &[String]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM connector_consumed WHERE connector_id = $1 AND row_id = ANY ($2)")
            .bind(connector.uuid())
            .bind(ids)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

fn read_set_aside(row: &PgRow) -> Result<SetAsideRow, StoreError> {
    Ok(SetAsideRow {
        row_id: row.try_get("row_id")?,
        key: row.try_get("key")?,
        field: row.try_get("field")?,
        reason: row.try_get("reason")?,
        attempts: row.try_get("attempts")?,
        first_at: row.try_get("first_at")?,
        retry_at: row.try_get("retry_at")?,
    })
}
