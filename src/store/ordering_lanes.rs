//! Ordering lanes: deliveries with the same order digest are sent one at a time.
//!
//! Both ending a head and appending a delivery lock the digest's row first and read afterwards, so that neither misses
//! the other. Queue rows are locked before it, never after, except for the next delivery: only its own end could be
//! waiting there, and that does not need this lock.

use std::collections::{BTreeMap, BTreeSet};

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::cancellable::bytes;
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, TypedId};

/// Digests of source, ordering key and recipient.
pub type OrderDigests = BTreeSet<[u8; 32]>;

/// The due time of blocked deliveries: after everything that a claim scans.
pub fn far_future() -> Timestamp {
    chrono::DateTime::from_timestamp(253_370_764_800, 0).unwrap_or(Timestamp::MAX_UTC)
}

/// A delivery's position.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    /// The digest of its ordering lane.
    pub digest: [u8; 32],
    /// Smaller ones are sent first.
    pub place: i64,
    /// Whether others are before it.
    pub is_blocked: bool,
}

/// Locks the rows of these digests, inserting missing ones, in the order of digests.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn lock(
    connection: &mut PgConnection,
    digests: &OrderDigests,
    now: Timestamp,
) -> Result<BTreeMap<[u8; 32], i64>, StoreError> {
    let rows = sqlx::query(
        "INSERT INTO ordering_lanes AS o (digest, last_place, moved_at)
         SELECT digest, 0, $2
         FROM unnest($1::bytea[]) AS d (digest)
         ORDER BY digest
         ON CONFLICT (digest) DO UPDATE SET last_place = o.last_place
         RETURNING digest, last_place",
    )
    .bind(texts(digests))
    .bind(now)
    .fetch_all(connection)
    .await?;
    rows.iter().map(|row| Ok((read_digest(row)?, row.try_get("last_place")?))).collect()
}

/// The first delivery of each of these ordering lanes. Has to run in a statement after the lock: only that sees what
/// others committed before they released it.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn heads(
    connection: &mut PgConnection,
    digests: &OrderDigests,
) -> Result<BTreeMap<[u8; 32], (DeliveryId, bool)>, StoreError> {
    let rows = sqlx::query(
        "SELECT d.digest, head.delivery_id, head.is_blocked
         FROM unnest($1::bytea[]) AS d (digest)
         CROSS JOIN LATERAL (
            SELECT q.delivery_id, q.blocked_due_at IS NOT NULL AS is_blocked
            FROM queue q
            WHERE q.order_digest = d.digest
            ORDER BY q.order_place
            LIMIT 1
         ) AS head",
    )
    .bind(texts(digests))
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let id = DeliveryId::from_uuid(row.try_get("delivery_id")?);
            Ok((read_digest(row)?, (id, row.try_get("is_blocked")?)))
        })
        .collect()
}

/// Unblocks deliveries; returns how many were still blocked.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn unblock(
    connection: &mut PgConnection,
    next: &[DeliveryId],
    now: Timestamp,
) -> Result<u64, StoreError> {
    let unblocked = sqlx::query(
        "UPDATE queue q
         SET due_at = greatest(q.blocked_due_at, $2), blocked_due_at = NULL
         WHERE q.delivery_id = ANY ($1) AND q.blocked_due_at IS NOT NULL",
    )
    .bind(next.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(unblocked.rows_affected())
}

/// Updates locked ordering lanes: the last position that was assigned, and when the current head became the head, if it
/// did now.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn note(
    connection: &mut PgConnection,
    lines: &BTreeMap<[u8; 32], (i64, bool)>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE ordering_lanes o
         SET last_place = n.last_place, moved_at = CASE WHEN n.has_moved THEN $4 ELSE o.moved_at END
         FROM unnest($1::bytea[], $2::bigint[], $3::boolean[]) AS n (digest, last_place, has_moved)
         WHERE o.digest = n.digest",
    )
    .bind(lines.keys().map(|digest| digest.to_vec()).collect::<Vec<_>>())
    .bind(lines.values().map(|(last, _)| *last).collect::<Vec<_>>())
    .bind(lines.values().map(|(_, has_moved)| *has_moved).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Records that locked ordering lanes have a new head.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn record_advance(
    connection: &mut PgConnection,
    digests: &OrderDigests,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE ordering_lanes SET moved_at = $2 WHERE digest = ANY ($1)")
        .bind(texts(digests))
        .bind(now)
        .execute(connection)
        .await?;
    Ok(())
}

/// Deletes locked ordering lanes that are empty.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forget(connection: &mut PgConnection, digests: &[[u8; 32]]) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM ordering_lanes WHERE digest = ANY ($1)")
        .bind(bytes(digests))
        .execute(connection)
        .await?;
    Ok(())
}

/// Takes heads out of their ordering lanes that have been there since before `since`; returns them with their digests.
/// Deliveries that are being processed stay for now.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn take_out_heads(
    connection: &mut PgConnection,
    since: Timestamp,
    limit: i64,
) -> Result<Vec<(DeliveryId, [u8; 32])>, StoreError> {
    let rows = sqlx::query(
        "WITH old AS (
            SELECT o.digest FROM ordering_lanes o WHERE o.moved_at <= $1 ORDER BY o.moved_at LIMIT $2
         ), stuck AS MATERIALIZED (
            SELECT q.delivery_id, q.order_digest
            FROM old
            JOIN queue q ON q.order_digest = old.digest
            WHERE q.blocked_due_at IS NULL
            ORDER BY q.delivery_id
            FOR UPDATE OF q SKIP LOCKED
         ), out AS (
            UPDATE queue q SET order_digest = NULL, order_place = NULL
            FROM stuck
            WHERE q.delivery_id = stuck.delivery_id
         )
         SELECT delivery_id, order_digest AS digest FROM stuck",
    )
    .bind(since)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| Ok((DeliveryId::from_uuid(row.try_get("delivery_id")?), read_digest(row)?)))
        .collect()
}

impl Store {
    /// Ordering lanes whose head has not changed since before `since`.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn stuck_ordering_lanes(
        &self,
        since: Timestamp,
        limit: i64,
    ) -> Result<OrderDigests, StoreError> {
        let rows =
            sqlx::query("SELECT digest FROM ordering_lanes WHERE moved_at <= $1 ORDER BY moved_at LIMIT $2")
                .bind(since)
                .bind(limit)
                .fetch_all(self.pool())
                .await?;
        rows.iter().map(read_digest).collect()
    }
}

fn texts(digests: &OrderDigests) -> Vec<Vec<u8>> {
    digests.iter().map(|digest| digest.to_vec()).collect()
}

fn read_digest(row: &sqlx::postgres::PgRow) -> Result<[u8; 32], StoreError> {
    let digest: Vec<u8> = row.try_get("digest")?;
    digest.try_into().map_err(|_| StoreError::corrupt("ordering_lanes", "digest", Uuid::nil()))
}
