//! Batches and their attempts.

use std::collections::HashSet;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::{parts, parts_of};
use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{BatchId, DeliveryId, TemplateVersionId, TypedId, WorkerId};

/// A batch to be stored together with its first attempt, before the call is made.
#[derive(Debug, Clone)]
pub struct NewBatch {
    /// Its id.
    pub id: BatchId,
    /// The app that it is sent through.
    pub app: AppId,
    /// The idempotency key of every attempt.
    pub idempotency_key: Uuid,
    /// A keyed hash of the content; `None` for a batch from before there was one.
    pub body_fingerprint: Option<Vec<u8>>,
    /// The version.
    pub version: TemplateVersionId,
    /// The locale.
    pub locale: String,
    /// The members, in the content's order.
    pub members: Vec<DeliveryId>,
}

/// Stores batches and the first attempt of each, in one statement.
///
/// # Errors
/// [`StoreError::Database`]; a second batch with the same key on the same day is rejected.
pub async fn insert_all(
    connection: &mut PgConnection,
    worker: WorkerId,
    batches: &[NewBatch],
    now: Timestamp,
) -> Result<(), StoreError> {
    let mut members = Vec::new();
    let mut ends = Vec::with_capacity(batches.len());
    for batch in batches {
        members.extend(batch.members.iter().map(|id| id.uuid()));
        ends.push(i32::try_from(members.len()).unwrap_or(i32::MAX));
    }
    sqlx::query(include_str!("sql/insert_batches.sql"))
        .bind(batches.iter().map(|b| b.id.uuid()).collect::<Vec<_>>())
        .bind(batches.iter().map(|b| b.app.0).collect::<Vec<_>>())
        .bind(batches.iter().map(|b| b.idempotency_key).collect::<Vec<_>>())
        .bind(batches.iter().map(|b| b.body_fingerprint.clone()).collect::<Vec<_>>())
        .bind(batches.iter().map(|b| b.version.uuid()).collect::<Vec<_>>())
        .bind(batches.iter().map(|b| b.locale.as_str()).collect::<Vec<_>>())
        .bind(ends)
        .bind(members)
        .bind(now)
        .bind(worker.uuid())
        .execute(connection)
        .await?;
    Ok(())
}

/// Marks batches as certainly not sent, with their members back in the queue: the same members may be frozen again
/// under the same key.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn void(connection: &mut PgConnection, ids: &[BatchId]) -> Result<(), StoreError> {
    for (days, ids) in parts_of(ids.iter().map(|id| id.uuid())) {
        sqlx::query(days.fill("UPDATE batches SET is_void = true WHERE id = ANY ($1) AND {days of id}"))
            .bind(ids)
            .execute(&mut *connection)
            .await?;
    }
    Ok(())
}

// The batches are sorted and none occurs twice: see finish_deliveries.sql.
const BEGIN_ANEW: &str = "UPDATE attempts a
    SET started_at = $4
    WHERE a.batch_id = ANY ($1::uuid[]) AND {days of a.batch_id}
      AND a.n = ($2::integer[])[width_bucket(a.batch_id, $1)]
      AND a.worker_id = ($3::uuid[])[width_bucket(a.batch_id, $1)]
      AND a.answered_at IS NULL
      AND EXISTS (SELECT 1 FROM workers w WHERE w.id = a.worker_id AND w.lease_until > $4 OFFSET 0)
      -- IS TRUE: not a join, but one look at the workers' rows.
      AND ((a.worker_id, a.batch_id) IN (
        SELECT q.worker_id, q.batch_id FROM queue q WHERE q.worker_id = ANY ($3) AND q.state = 'sending'
      )) IS TRUE
    RETURNING a.batch_id, a.n";
const FORGET_ATTEMPTS: &str = "DELETE FROM attempts a
    WHERE a.batch_id = ANY ($1::uuid[]) AND {days of a.batch_id}
      AND a.n = ($2::integer[])[width_bucket(a.batch_id, $1)]
      AND a.worker_id = ($3::uuid[])[width_bucket(a.batch_id, $1)]
      AND a.answered_at IS NULL";
const FIND_BATCHES: &str = "SELECT b.*, a.n, a.started_at, a.worker_id
    FROM batches b
    JOIN LATERAL (
        SELECT a.n, a.started_at, a.worker_id
        FROM attempts a
        WHERE a.batch_id = b.id AND {days of a.batch_id}
        ORDER BY a.n DESC
        LIMIT 1
    ) AS a ON true
    WHERE b.id = ANY ($1) AND {days of b.id}
    ORDER BY b.id";

/// A stored frozen batch.
#[derive(Debug, Clone)]
pub struct StoredBatch {
    /// The frozen content.
    pub frozen: NewBatch,
    /// The number of its latest attempt.
    pub attempt: i32,
    /// When that attempt began.
    pub started_at: Timestamp,
    /// The worker that made it.
    pub worker: WorkerId,
}

impl Store {
    /// Restarts recorded attempts whose calls have not been made: they begin now. Returns those that their workers
    /// still hold under a valid lease.
    ///
    /// # Errors
    /// [`StoreError::Database`]; none of their calls may be made then.
    pub async fn begin_anew(
        &self,
        attempts: &[(BatchId, i32, WorkerId)],
        now: Timestamp,
    ) -> Result<HashSet<(BatchId, i32)>, StoreError> {
        let mut begun = HashSet::new();
        for (days, attempts) in parts(attempts, |(batch, _, _)| batch.uuid()) {
            let found: Vec<(Uuid, i32)> = sqlx::query_as(days.fill(BEGIN_ANEW))
                .bind(attempts.iter().map(|(batch, _, _)| batch.uuid()).collect::<Vec<_>>())
                .bind(attempts.iter().map(|(_, n, _)| *n).collect::<Vec<_>>())
                .bind(attempts.iter().map(|(_, _, worker)| worker.uuid()).collect::<Vec<_>>())
                .bind(now)
                .fetch_all(self.pool())
                .await?;
            begun.extend(found.into_iter().map(|(batch, n)| (BatchId::from_uuid(batch), n)));
        }
        Ok(begun)
    }

    /// Deletes attempts that were recorded for this worker and not made.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_attempts(&self, attempts: &[(BatchId, i32, WorkerId)]) -> Result<(), StoreError> {
        for (days, attempts) in parts(attempts, |(batch, _, _)| batch.uuid()) {
            sqlx::query(days.fill(FORGET_ATTEMPTS))
                .bind(attempts.iter().map(|(batch, _, _)| batch.uuid()).collect::<Vec<_>>())
                .bind(attempts.iter().map(|(_, n, _)| *n).collect::<Vec<_>>())
                .bind(attempts.iter().map(|(_, _, worker)| worker.uuid()).collect::<Vec<_>>())
                .execute(self.pool())
                .await?;
        }
        Ok(())
    }

    /// Reads batches with their latest attempt.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_batches(&self, ids: &[BatchId]) -> Result<Vec<StoredBatch>, StoreError> {
        let mut found = Vec::with_capacity(ids.len());
        for (days, ids) in parts_of(ids.iter().map(|id| id.uuid())) {
            let rows = sqlx::query(days.fill(FIND_BATCHES)).bind(ids).fetch_all(self.pool()).await?;
            for row in &rows {
                found.push(read_batch(row)?);
            }
        }
        Ok(found)
    }
}

fn read_batch(row: &sqlx::postgres::PgRow) -> Result<StoredBatch, StoreError> {
    let id = BatchId::from_uuid(row.try_get("id")?);
    let members: Vec<Uuid> = row.try_get("members")?;
    let frozen = NewBatch {
        id,
        app: AppId(row.try_get("app_id")?),
        idempotency_key: row.try_get("idempotency_key")?,
        body_fingerprint: row.try_get("body_fingerprint")?,
        version: TemplateVersionId::from_uuid(row.try_get("template_version_id")?),
        locale: row.try_get("locale")?,
        members: members.into_iter().map(DeliveryId::from_uuid).collect(),
    };
    Ok(StoredBatch {
        frozen,
        attempt: row.try_get("n")?,
        started_at: row.try_get("started_at")?,
        worker: WorkerId::from_uuid(row.try_get("worker_id")?),
    })
}
