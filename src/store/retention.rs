//! Retention: old partitions are dropped, old keys deleted in small steps.

use chrono::{Days, NaiveDate};
use sqlx::Row;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::floor;

/// Tables of the history, by day.
pub const HISTORY: [&str; 7] =
    ["events", "deliveries", "decisions", "batches", "attempts", "planned_actions", "outcomes"];
/// Tables of event payloads, by day: personal data.
pub const PAYLOADS: [&str; 3] = ["event_payloads", "event_secrets", "delivery_values"];

/// A stored day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeptDay {
    /// The day, in UTC.
    pub day: NaiveDate,
    /// The size of its rows and indexes in bytes.
    pub bytes: i64,
}

impl Store {
    /// The days that have partitions, oldest first, with their size. Future days are among them, empty.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn kept_days(&self) -> Result<Vec<KeptDay>, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT right(c.relname, 8), sum(pg_total_relation_size(c.oid))::bigint
             FROM pg_inherits i
             JOIN pg_class c ON c.oid = i.inhrelid
             JOIN pg_class p ON p.oid = i.inhparent
             WHERE p.relname = ANY ($1) AND p.relnamespace = current_schema()::regnamespace
             GROUP BY 1
             ORDER BY 1",
        )
        .bind([HISTORY.as_slice(), &PAYLOADS].concat())
        .fetch_all(self.pool())
        .await?;
        let read = |(day, bytes): (String, i64)| {
            Some(KeptDay { day: NaiveDate::parse_from_str(&day, "%Y%m%d").ok()?, bytes })
        };
        Ok(rows.into_iter().filter_map(read).collect())
    }

    /// Drops the day partitions of these tables before `oldest` that contain no open delivery; returns how many.
    ///
    /// # Errors
    /// [`StoreError::Database`]; retrying later helps if a partition is in use.
    pub async fn drop_partitions_before(
        &self,
        tables: &[&str],
        oldest: NaiveDate,
    ) -> Result<usize, StoreError> {
        let rows = sqlx::query(
            "SELECT c.relname AS name, right(c.relname, 8) AS day
             FROM pg_inherits i
             JOIN pg_class c ON c.oid = i.inhrelid
             JOIN pg_class p ON p.oid = i.inhparent
             WHERE p.relname = ANY ($1) AND p.relnamespace = current_schema()::regnamespace
             ORDER BY c.relname",
        )
        .bind(tables)
        .fetch_all(self.pool())
        .await?;
        let mut dropped = 0;
        for row in rows {
            let name: String = row.try_get("name")?;
            let Ok(day) = NaiveDate::parse_from_str(row.try_get("day")?, "%Y%m%d") else { continue };
            if day >= oldest || self.has_open_deliveries(day).await? {
                continue;
            }
            sqlx::query("SELECT drop_day_partition($1)").bind(&name).execute(self.pool()).await?;
            dropped += 1;
        }
        Ok(dropped)
    }

    async fn has_open_deliveries(&self, day: NaiveDate) -> Result<bool, StoreError> {
        let low = day.and_time(chrono::NaiveTime::MIN).and_utc();
        let high = low + Days::new(1);
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT 1 FROM queue WHERE delivery_id >= $1 AND delivery_id < $2)
                 OR EXISTS (SELECT 1 FROM queue WHERE batch_id >= $1 AND batch_id < $2)",
        )
        .bind(floor(low))
        .bind(floor(high))
        .fetch_one(self.pool())
        .await?)
    }

    /// Deletes event keys created before `before`, at most `limit` of each hash partition.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_event_keys(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let mut pruned = 0;
        for partition in 0..8 {
            let query = format!(
                "DELETE FROM event_keys_{partition}
                 WHERE ctid = ANY (ARRAY(SELECT ctid FROM event_keys_{partition} WHERE event_id < $1 LIMIT $2))"
            );
            let gone = sqlx::query(sqlx::AssertSqlSafe(query))
                .bind(floor(before))
                .bind(limit)
                .execute(self.pool())
                .await?;
            pruned += gone.rows_affected();
        }
        Ok(pruned)
    }
}
