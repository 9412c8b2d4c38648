//! Rows without an owner: rescued from workers that died, and reclaimed from a worker that forgot them.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::parts_of;
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
        "SELECT {CLAIM_COLUMNS}, q.worker_id
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
        .fetch_all(&mut *connection)
        .await?;
    read_orphans(connection, &rows).await
}

/// Reads rows, and from the history when the last attempt of each batch began.
async fn read_orphans(
    connection: &mut PgConnection,
    rows: &[sqlx::postgres::PgRow],
) -> Result<Vec<Orphan>, StoreError> {
    let mut orphans = Vec::with_capacity(rows.len());
    for row in rows {
        let worker = WorkerId::from_uuid(row.try_get("worker_id")?);
        orphans.push(Orphan { claim: read_claim(row)?, worker, attempt_started_at: None });
    }
    let batches = orphans.iter().filter_map(|orphan| orphan.claim.batch).map(TypedId::uuid);
    let mut started: HashMap<Uuid, Timestamp> = HashMap::new();
    for (days, batches) in parts_of(batches) {
        let query = "SELECT batch_id, max(started_at)
            FROM attempts
            WHERE batch_id = ANY ($1) AND {days of batch_id}
            GROUP BY batch_id";
        let found: Vec<(Uuid, Timestamp)> =
            sqlx::query_as(days.fill(query)).bind(batches).fetch_all(&mut *connection).await?;
        started.extend(found);
    }
    for orphan in &mut orphans {
        orphan.attempt_started_at = orphan.claim.batch.and_then(|batch| started.get(&batch.uuid()).copied());
    }
    Ok(orphans)
}

impl Store {
    /// Every row leased to this worker, with the start of the attempt in progress; rows that a transaction is still
    /// changing, such as one whose commit's result is unknown, are left for the next time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn rows_of(&self, worker: WorkerId) -> Result<Vec<Orphan>, StoreError> {
        let query = format!(
            "SELECT {CLAIM_COLUMNS}, q.worker_id
             FROM queue q
             WHERE q.worker_id = $1
             ORDER BY q.delivery_id
             FOR UPDATE OF q SKIP LOCKED"
        );
        let mut connection = self.pool().acquire().await?;
        let rows =
            sqlx::query(sqlx::AssertSqlSafe(query)).bind(worker.uuid()).fetch_all(&mut *connection).await?;
        read_orphans(&mut connection, &rows).await
    }
}
