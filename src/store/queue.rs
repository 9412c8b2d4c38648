//! The queue: claiming due rows, freezing them into batches, and releasing them.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::{parts_of, rounds};
use super::erasures::Digest;
use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::{Delivery, DeliveryState};
use crate::domain::id::{BatchId, DeliveryId, RuleId, TemplateVersionId, TypedId, WorkerId};

/// A claim on a delivery: every later write names it, and has no effect once another worker has claimed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The delivery according to its queue row.
    pub delivery: Delivery,
    /// The row's epoch under this claim.
    pub epoch: i32,
    /// The app.
    pub app: AppId,
    /// Not after this time.
    pub expires_at: Timestamp,
    /// Its frozen batch, if it has one.
    pub batch: Option<BatchId>,
    /// How often a process died with it.
    pub crashes: i16,
}

impl Claim {
    /// The delivery and the epoch: they identify this claim.
    pub fn key(&self) -> (DeliveryId, i32) {
        (self.delivery.id, self.epoch)
    }
}

/// The columns that a [`Claim`] is read from.
pub(super) const CLAIM_COLUMNS: &str = "q.delivery_id, q.state::text AS state, q.priority::text AS priority, q.app_id, q.due_at,
    q.expires_at, q.claim_epoch, q.batch_id, q.attempts, q.generation, q.crashes, q.pack_limit, q.is_rechecked,
    q.first_attempt_at, q.first_ambiguous_at";

/// Reads a claim from a row of `queue`.
pub(super) fn read_claim(row: &PgRow) -> Result<Claim, StoreError> {
    let id = DeliveryId::from_uuid(row.try_get("delivery_id")?);
    let corrupt = |column| StoreError::corrupt("queue", column, id);
    let due_at: Timestamp = row.try_get("due_at")?;
    let state = match row.try_get::<&str, _>("state")? {
        "queued" => DeliveryState::Queued { due_at },
        "sending" => DeliveryState::Sending,
        "retrying" => DeliveryState::Retrying { due_at },
        "held" => DeliveryState::Held,
        _ => return Err(corrupt("state")),
    };
    let count = |column| -> Result<u16, StoreError> {
        u16::try_from(row.try_get::<i16, _>(column)?).map_err(|_| corrupt(column))
    };
    let delivery = Delivery {
        id,
        state,
        priority: row.try_get::<&str, _>("priority")?.parse().map_err(|_| corrupt("priority"))?,
        attempts: count("attempts")?,
        generation: count("generation")?,
        is_rechecked: row.try_get("is_rechecked")?,
        pack_limit: count("pack_limit")?,
        first_attempt_at: row.try_get("first_attempt_at")?,
        first_ambiguous_at: row.try_get("first_ambiguous_at")?,
    };
    Ok(Claim {
        delivery,
        epoch: row.try_get("claim_epoch")?,
        app: AppId(row.try_get("app_id")?),
        expires_at: row.try_get("expires_at")?,
        batch: row.try_get::<Option<Uuid>, _>("batch_id")?.map(BatchId::from_uuid),
        crashes: row.try_get("crashes")?,
    })
}

/// Reads claims, the longest due first: `RETURNING` does not preserve order.
fn read_claims(rows: &[PgRow]) -> Result<Vec<Claim>, StoreError> {
    let mut claims = rows.iter().map(read_claim).collect::<Result<Vec<Claim>, StoreError>>()?;
    claims.sort_by_key(|claim| (claim.delivery.due_at(), claim.delivery.id));
    Ok(claims)
}

const CLAIM_DUE: &str = include_str!("sql/claim_due.sql");

/// Which due rows to claim.
#[derive(Debug, Clone, Copy)]
pub struct DueFilter<'a> {
    /// One priority at a time, so that the index is scanned in order.
    pub priority: Priority,
    /// A lower bound that skips dead index entries.
    pub not_before: Timestamp,
    /// Apps whose gate is closed.
    pub without_apps: &'a [Uuid],
    /// The maximum number of rows.
    pub limit: i64,
}

impl Store {
    /// Claims due queued rows without an owner.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_due(
        &self,
        worker: WorkerId,
        filter: DueFilter<'_>,
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        let rows = sqlx::query(CLAIM_DUE)
            .bind(worker.uuid())
            .bind(filter.priority.as_str())
            .bind(filter.not_before)
            .bind(now)
            .bind(filter.without_apps)
            .bind(filter.limit)
            .fetch_all(self.pool())
            .await?;
        read_claims(&rows)
    }

    /// Claims due retrying batches, complete, and begins their next attempt: the rows are `sending` afterwards.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_retries(
        &self,
        worker: WorkerId,
        without_apps: &[Uuid],
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<Claim>, StoreError> {
        let due: Vec<Uuid> = sqlx::query_scalar(include_str!("sql/retries_due.sql"))
            .bind(worker.uuid())
            .bind(now)
            .bind(without_apps)
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        let mut rows = Vec::new();
        for (days, batches) in parts_of(due) {
            let claimed = sqlx::query(days.fill(include_str!("sql/claim_retries.sql")))
                .bind(worker.uuid())
                .bind(now)
                .bind(batches)
                .fetch_all(self.pool())
                .await?;
            rows.extend(claimed);
        }
        read_claims(&rows)
    }

    /// The oldest open delivery; without one, an id that is newer than all.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(super) async fn oldest_open(&self) -> Result<Uuid, StoreError> {
        let oldest = sqlx::query_scalar("SELECT delivery_id FROM queue ORDER BY delivery_id LIMIT 1");
        Ok(oldest.fetch_optional(self.pool()).await?.unwrap_or(Uuid::max()))
    }

    /// When the earliest row without an owner is due, if that is after `now`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn next_due(&self, now: Timestamp) -> Result<Option<Timestamp>, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT min(first.due_at)
             FROM unnest(enum_range(NULL::priority)) AS l (priority)
             CROSS JOIN LATERAL (
                SELECT q.due_at
                FROM queue q
                WHERE q.priority = l.priority AND q.state IN ('queued', 'retrying') AND q.worker_id IS NULL AND q.due_at > $1
                ORDER BY q.due_at
                LIMIT 1
             ) AS first",
        )
        .bind(now)
        .fetch_one(self.pool())
        .await?)
    }

    /// Releases claimed rows that were not sent. Rows that another worker has claimed since are left alone.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn release_claims(
        &self,
        worker: WorkerId,
        claims: &[(DeliveryId, i32)],
        due_at: Option<Timestamp>,
    ) -> Result<u64, StoreError> {
        let released = sqlx::query(
            "UPDATE queue q
             SET worker_id = NULL, claim_epoch = q.claim_epoch + 1, due_at = coalesce($4, q.due_at)
             FROM unnest($2::uuid[], $3::integer[]) AS r (delivery_id, claim_epoch)
             WHERE q.delivery_id = r.delivery_id AND q.worker_id = $1 AND q.claim_epoch = r.claim_epoch
               AND q.state = 'queued'",
        )
        .bind(worker.uuid())
        .bind(claims.iter().map(|(id, _)| id.uuid()).collect::<Vec<_>>())
        .bind(claims.iter().map(|(_, epoch)| *epoch).collect::<Vec<_>>())
        .bind(due_at)
        .execute(self.pool())
        .await?;
        Ok(released.rows_affected())
    }
}

/// Locks expired rows that are unclaimed: held ones, and those behind a gate.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_expired(
    connection: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<Claim>, StoreError> {
    let query = format!(
        "SELECT {CLAIM_COLUMNS}
         FROM queue q
         WHERE q.state IN ('queued', 'held') AND q.worker_id IS NULL AND q.expires_at <= $1
         ORDER BY q.expires_at
         LIMIT $2
         FOR UPDATE SKIP LOCKED"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query)).bind(now).bind(limit).fetch_all(connection).await?;
    rows.iter().map(read_claim).collect()
}

/// Locks one held delivery that no worker has claimed; `None` if it is in flight or has ended.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_held(connection: &mut PgConnection, id: DeliveryId) -> Result<Option<Claim>, StoreError> {
    let query = format!(
        "SELECT {CLAIM_COLUMNS} FROM queue q WHERE q.delivery_id = $1 AND q.state = 'held' FOR UPDATE"
    );
    let row = sqlx::query(sqlx::AssertSqlSafe(query)).bind(id.uuid()).fetch_optional(connection).await?;
    row.as_ref().map(read_claim).transpose()
}

/// One claimed delivery that is to be frozen into a batch.
#[derive(Debug, Clone, Copy)]
pub struct FreezeRow<'a> {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The epoch of our claim.
    pub epoch: i32,
    /// The batch that it becomes part of.
    pub batch: BatchId,
    /// The recipient's label and id; `None` for an audience.
    pub recipient: Option<(&'a str, &'a str)>,
    /// The recipient's hash among erased identifiers.
    pub digest: Option<Digest>,
    /// The channel.
    pub channel: &'static str,
    /// Not frozen if it expires before this time.
    pub alive_until: Timestamp,
    /// The version and the rule: not frozen while one of them is stopped.
    pub version: TemplateVersionId,
    /// See `version`.
    pub rule: RuleId,
}

const FREEZE: &str = include_str!("sql/freeze.sql");

/// Freezes what this worker still holds and what is still allowed, and returns it.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn freeze(
    connection: &mut PgConnection,
    worker: WorkerId,
    rows: &[FreezeRow<'_>],
    now: Timestamp,
) -> Result<Vec<DeliveryId>, StoreError> {
    let mut frozen: Vec<Uuid> = Vec::with_capacity(rows.len());
    for rows in rounds(rows, |r| r.delivery.uuid()) {
        let rows: Vec<&FreezeRow<'_>> = rows.into_values().collect();
        frozen.extend(freeze_round(connection, worker, &rows, now).await?);
    }
    Ok(frozen.into_iter().map(DeliveryId::from_uuid).collect())
}

async fn freeze_round(
    connection: &mut PgConnection,
    worker: WorkerId,
    rows: &[&FreezeRow<'_>],
    now: Timestamp,
) -> Result<Vec<Uuid>, StoreError> {
    let frozen = sqlx::query_scalar(FREEZE)
        .bind(worker.uuid())
        .bind(rows.iter().map(|r| r.delivery.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.epoch).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.batch.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.recipient.map(|(label, _)| label)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.recipient.map(|(_, id)| id)).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.channel).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.alive_until).collect::<Vec<_>>())
        .bind(now)
        .bind(rows.iter().map(|r| r.version.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.rule.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|r| r.digest.as_ref().map(<[u8; 32]>::as_slice)).collect::<Vec<_>>())
        .fetch_all(connection)
        .await?;
    Ok(frozen)
}
