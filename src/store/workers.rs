//! Workers: the sending processes, and their leases.

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{TypedId, WorkerId};

impl Store {
    /// Renews a worker's lease. A worker whose row is gone was fenced: it must not continue under this id.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the lease is then unchanged.
    pub async fn renew_lease(
        &self,
        worker: WorkerId,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let renewed = sqlx::query("UPDATE workers SET lease_until = $2 WHERE id = $1 AND lease_until > $3")
            .bind(worker.uuid())
            .bind(lease_until)
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(renewed.rows_affected() == 1)
    }

    /// Inserts a worker with a new random id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn enter_worker(
        &self,
        worker: WorkerId,
        host: &str,
        lease_until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO workers (id, host, started_at, lease_until, sealing_key) VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(worker.uuid())
        .bind(host)
        .bind(now)
        .bind(lease_until)
        .bind(self.vault().present_id().as_slice())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Shortens leases that end after `latest` to `until`: they were renewed by a clock that has gone back since. Until
    /// the step is recorded, processes that do not know of it would take the rows of live workers over.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn shorten_leases(
        &self,
        latest: Timestamp,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE workers SET lease_until = $2
             WHERE lease_until > $1
               AND NOT EXISTS (SELECT 1 FROM database_watch w WHERE w.read_at > $3::timestamptz + interval '1 second')",
        )
            .bind(latest)
            .bind(until)
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// The number of workers whose lease has not expired.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn live_workers(&self, now: Timestamp) -> Result<u32, StoreError> {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM workers WHERE lease_until > $1 AND fenced_at IS NULL")
                .bind(now)
                .fetch_one(self.pool())
                .await?;
        Ok(u32::try_from(count).unwrap_or(u32::MAX))
    }

    /// Hosts of processes that seal with a different secret key than this one: of workers that are alive, and of all
    /// processes that are connected to the database.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn hosts_with_another_key(&self, now: Timestamp) -> Result<Vec<String>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT host
             FROM workers
             WHERE lease_until > $1 AND sealing_key IS DISTINCT FROM $2
             UNION
             SELECT split_part(application_name, ' ', 3)
             FROM pg_stat_activity
             WHERE datname = current_database() AND application_name LIKE 'herald %'
                 AND split_part(application_name, ' ', 2) <> encode($2, 'hex')
             ORDER BY host",
        )
        .bind(now)
        .bind(self.vault().present_id().as_slice())
        .fetch_all(self.pool())
        .await?)
    }

    /// Deletes a worker that stops gracefully and holds nothing.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn leave_worker(&self, worker: WorkerId) -> Result<(), StoreError> {
        sqlx::query(
            "DELETE FROM workers
             WHERE id = $1 AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.worker_id = $1)",
        )
        .bind(worker.uuid())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Fences workers whose lease expired long ago and that hold nothing, and deletes those that were fenced before
    /// `fenced_before`: long enough ago that no statement that still saw them alive can be running.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn fence_workers(
        &self,
        lapsed_before: Timestamp,
        fenced_before: Timestamp,
        now: Timestamp,
    ) -> Result<u64, StoreError> {
        sqlx::query(
            "UPDATE workers w SET fenced_at = $2
             WHERE w.lease_until < $1 AND w.fenced_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.worker_id = w.id)",
        )
        .bind(lapsed_before)
        .bind(now)
        .execute(self.pool())
        .await?;
        let removed = sqlx::query(
            "DELETE FROM workers w
             WHERE w.fenced_at < $1 AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.worker_id = w.id)",
        )
        .bind(fenced_before)
        .execute(self.pool())
        .await?;
        Ok(removed.rows_affected())
    }
}
