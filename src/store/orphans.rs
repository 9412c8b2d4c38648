//! Rows without an owner: rescued from workers that died, and reclaimed from a worker that forgot them.

use sqlx::{PgConnection, Row};

use super::queue::{CLAIM_COLUMNS, Claim, read_claim};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{TypedId, WorkerId};

/// A row whose owner is gone, with the start of the attempt that was in progress.
#[derive(Debug, Clone)]
pub struct Orphan {
    /// The row; its epoch is the dead owner's.
    pub claim: Claim,
    /// The dead owner.
    pub worker: WorkerId,
    /// When its batch's latest attempt began.
    pub attempt_started_at: Option<Timestamp>,
}

/// Locks up to `limit` rows of workers whose lease has expired: queued ones at once, sending ones `call_timeout` later
/// (so that the dead worker's last call has certainly ended). None if the database's clock went back at another time than
/// `known_step`: the caller's time may be from before the step, and leases have been shortened since, so that those of live
/// workers would look expired.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_orphans(
    connection: &mut PgConnection,
    queued_lapsed_before: Timestamp,
    sending_lapsed_before: Timestamp,
    known_step: Option<Timestamp>,
    limit: i64,
) -> Result<Vec<Orphan>, StoreError> {
    let query = format!(
        "SELECT {CLAIM_COLUMNS}, q.worker_id,
            (SELECT max(a.started_at) FROM attempts a WHERE a.batch_id = q.batch_id) AS attempt_started_at
         FROM workers w
         JOIN queue q ON q.worker_id = w.id
         WHERE w.lease_until < $1 AND (q.state = 'queued' OR w.lease_until < $2)
           AND NOT EXISTS (SELECT 1 FROM database_watch d WHERE d.stepped_at IS DISTINCT FROM $4)
         ORDER BY q.delivery_id
         LIMIT $3
         FOR UPDATE OF q SKIP LOCKED"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(queued_lapsed_before)
        .bind(sending_lapsed_before)
        .bind(limit)
        .bind(known_step)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_orphan).collect()
}

fn read_orphan(row: &sqlx::postgres::PgRow) -> Result<Orphan, StoreError> {
    Ok(Orphan {
        claim: read_claim(row)?,
        worker: WorkerId::from_uuid(row.try_get("worker_id")?),
        attempt_started_at: row.try_get("attempt_started_at")?,
    })
}

impl Store {
    /// Every row leased to this worker, with the start of the attempt in progress; rows that a transaction is still
    /// changing, such as one whose commit's result is unknown, are left for the next time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn rows_of(&self, worker: WorkerId) -> Result<Vec<Orphan>, StoreError> {
        let query = format!(
            "SELECT {CLAIM_COLUMNS}, q.worker_id,
                (SELECT max(a.started_at) FROM attempts a WHERE a.batch_id = q.batch_id) AS attempt_started_at
             FROM queue q
             WHERE q.worker_id = $1
             ORDER BY q.delivery_id
             FOR UPDATE OF q SKIP LOCKED"
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(worker.uuid()).fetch_all(self.pool()).await?;
        rows.iter().map(read_orphan).collect()
    }
}
