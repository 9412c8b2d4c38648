//! What readiness checks and `doctor` read from the database.

use sqlx::Row;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;

/// The database's state.
#[derive(Debug, Clone)]
pub struct DatabaseHealth {
    /// Postgres' version.
    pub version: String,
    /// It accepts writes.
    pub is_writable: bool,
    /// A synchronous standby has every commit, so that a failover loses nothing.
    pub has_synchronous_standby: bool,
}

/// The contents of the queue, by priority and state.
#[derive(Debug, Clone)]
pub struct Backlog {
    /// The priority.
    pub priority: String,
    /// The state.
    pub state: String,
    /// Rows, counted up to a limit.
    pub deliveries: i64,
    /// When the oldest of them was due.
    pub oldest_due_at: Option<Timestamp>,
}

/// The amount of pending work.
#[derive(Debug, Clone, Default)]
pub struct Load {
    /// Open deliveries, according to Postgres' statistics.
    pub open_deliveries: u64,
    /// When the oldest unclaimed urgent delivery was due.
    pub oldest_urgent_due_at: Option<Timestamp>,
}

impl Store {
    /// How many deliveries are held, counted up to a limit.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_held(&self, bound: i64) -> Result<i64, StoreError> {
        let query = "SELECT count(*) FROM (SELECT FROM queue WHERE state = 'held' AND worker_id IS NULL LIMIT $1) AS held";
        Ok(sqlx::query_scalar(query).bind(bound).fetch_one(self.pool()).await?)
    }

    /// The amount of pending work, without counting.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn load(&self) -> Result<Load, StoreError> {
        let row = sqlx::query(
            "SELECT pg_stat_get_live_tuples('queue'::regclass) AS open, (
                SELECT min(q.due_at) FROM queue q
                WHERE q.priority = 'urgent' AND q.state IN ('queued', 'retrying') AND q.worker_id IS NULL
             ) AS oldest",
        )
        .fetch_one(self.pool())
        .await?;
        let open: i64 = row.try_get("open")?;
        Ok(Load {
            open_deliveries: u64::try_from(open).unwrap_or_default(),
            oldest_urgent_due_at: row.try_get("oldest")?,
        })
    }

    /// Reads the database's state.
    ///
    /// # Errors
    /// [`StoreError::Database`] when it is unavailable.
    pub async fn health(&self) -> Result<DatabaseHealth, StoreError> {
        let row = sqlx::query(
            "SELECT current_setting('server_version') AS version, NOT pg_is_in_recovery() AND current_setting('transaction_read_only') = 'off' AS writable,
                EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS standby",
        )
        .fetch_one(self.pool())
        .await?;
        Ok(DatabaseHealth {
            version: row.try_get("version")?,
            is_writable: row.try_get("writable")?,
            has_synchronous_standby: row.try_get("standby")?,
        })
    }

    /// The contents of the queue. Counts at most `bound` rows, so the cost does not depend on the queue's length.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn backlog(&self, bound: i64) -> Result<Vec<Backlog>, StoreError> {
        let rows = sqlx::query(
            "SELECT priority::text AS priority, state::text AS state, count(*) AS deliveries, min(due_at) AS oldest
             FROM (SELECT priority, state, due_at FROM queue LIMIT $1) AS q
             GROUP BY 1, 2
             ORDER BY 1, 2",
        )
        .bind(bound)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(Backlog {
                    priority: row.try_get("priority")?,
                    state: row.try_get("state")?,
                    deliveries: row.try_get("deliveries")?,
                    oldest_due_at: row.try_get("oldest")?,
                })
            })
            .collect()
    }
}
