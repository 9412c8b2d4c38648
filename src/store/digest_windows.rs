//! Digests: events that are collected into one message, with their open windows.
//!
//! Both joining and closing a window lock its row, so that nothing is added to a message that is being made.

use std::collections::{BTreeMap, HashMap, HashSet};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::cancellable::bytes;
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, EventId, TypedId, floor};

/// An open window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Window {
    /// The message that its events are collected for.
    pub delivery: DeliveryId,
    /// The last position that was assigned.
    pub last_place: i32,
}

/// Locks the windows of these digests in the order of digests; where none is open, the given delivery opens one.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn lock(
    connection: &mut PgConnection,
    wanted: &BTreeMap<[u8; 32], DeliveryId>,
) -> Result<BTreeMap<[u8; 32], Window>, StoreError> {
    let rows = sqlx::query(
        "INSERT INTO digest_windows AS d (digest, delivery_id, last_place)
         SELECT digest, delivery_id, 0
         FROM unnest($1::bytea[], $2::uuid[]) AS n (digest, delivery_id)
         ORDER BY digest
         ON CONFLICT (digest) DO UPDATE SET last_place = d.last_place
         RETURNING digest, delivery_id, last_place",
    )
    .bind(wanted.keys().map(|digest| digest.to_vec()).collect::<Vec<_>>())
    .bind(wanted.values().map(|id| id.uuid()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter()
        .map(|row| {
            let digest: Vec<u8> = row.try_get("digest")?;
            let delivery = DeliveryId::from_uuid(row.try_get("delivery_id")?);
            let corrupt = |_| StoreError::corrupt("digest_windows", "digest", delivery);
            let window = Window { delivery, last_place: row.try_get("last_place")? };
            Ok((digest.try_into().map_err(corrupt)?, window))
        })
        .collect()
}

/// Which of these messages are still pending.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn still_waiting(
    connection: &mut PgConnection,
    ids: &[DeliveryId],
) -> Result<HashSet<DeliveryId>, StoreError> {
    let waiting: Vec<Uuid> =
        sqlx::query_scalar("SELECT delivery_id FROM queue WHERE delivery_id = ANY ($1) AND state = 'queued'")
            .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
            .fetch_all(connection)
            .await?;
    Ok(waiting.into_iter().map(DeliveryId::from_uuid).collect())
}

/// Updates locked windows.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn note(
    connection: &mut PgConnection,
    windows: &BTreeMap<[u8; 32], Window>,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE digest_windows d SET delivery_id = n.delivery_id, last_place = n.last_place
         FROM unnest($1::bytea[], $2::uuid[], $3::integer[]) AS n (digest, delivery_id, last_place)
         WHERE d.digest = n.digest",
    )
    .bind(windows.keys().map(|digest| digest.to_vec()).collect::<Vec<_>>())
    .bind(windows.values().map(|window| window.delivery.uuid()).collect::<Vec<_>>())
    .bind(windows.values().map(|window| window.last_place).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// One collected event.
#[derive(Debug, Clone, Copy)]
pub struct NewItem {
    /// Its message.
    pub delivery: DeliveryId,
    /// Its position.
    pub place: i32,
    /// The event.
    pub event: EventId,
    /// The maximum number of events in the message.
    pub max: i32,
    /// The hash that a cancellation finds it by.
    pub cancel: Option<[u8; 32]>,
}

/// Stores collected events.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_items(connection: &mut PgConnection, items: &[NewItem]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO digest_items (delivery_id, place, event_id, max_items, cancel_digest)
         SELECT delivery_id, place, event_id, max_items, cancel_digest
         FROM unnest($1::uuid[], $2::integer[], $3::uuid[], $4::integer[], $5::bytea[])
            AS i (delivery_id, place, event_id, max_items, cancel_digest)",
    )
    .bind(items.iter().map(|item| item.delivery.uuid()).collect::<Vec<_>>())
    .bind(items.iter().map(|item| item.place).collect::<Vec<_>>())
    .bind(items.iter().map(|item| item.event.uuid()).collect::<Vec<_>>())
    .bind(items.iter().map(|item| item.max).collect::<Vec<_>>())
    .bind(items.iter().map(|item| item.cancel.map(|digest| digest.to_vec())).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// An event that was removed from a message before it was made.
#[derive(Debug, Clone)]
pub struct TakenOut {
    /// The message.
    pub delivery: DeliveryId,
    /// The event.
    pub event: EventId,
    /// The hash that a cancellation finds it by.
    pub cancel: Option<[u8; 32]>,
    /// Whether the message has no events left.
    pub is_last: bool,
}

/// Removes these events, or those posted under these cancellation digests, from open windows. Messages that are already
/// being made are not changed.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn take_out(
    connection: &mut PgConnection,
    events: &[EventId],
    cancel: &[[u8; 32]],
) -> Result<Vec<TakenOut>, StoreError> {
    // The windows are locked in a statement of their own: their events are read once no other can join.
    let open: Vec<Uuid> = sqlx::query_scalar(
        "SELECT d.delivery_id
         FROM digest_windows d
         WHERE d.delivery_id = ANY (ARRAY(
            SELECT i.delivery_id FROM digest_items i WHERE i.event_id = ANY ($1) OR i.cancel_digest = ANY ($2)
         ))
         ORDER BY d.digest
         FOR UPDATE",
    )
    .bind(events.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .bind(bytes(cancel))
    .fetch_all(&mut *connection)
    .await?;
    if open.is_empty() {
        return Ok(Vec::new());
    }
    let rows = sqlx::query(
        "WITH gone AS (
            DELETE FROM digest_items i
            WHERE i.delivery_id = ANY ($1) AND (i.event_id = ANY ($2) OR i.cancel_digest = ANY ($3))
            RETURNING i.delivery_id, i.place, i.event_id, i.cancel_digest
         )
         SELECT g.delivery_id, g.event_id, g.cancel_digest, NOT EXISTS (
            SELECT 1 FROM digest_items i
            WHERE i.delivery_id = g.delivery_id
              AND NOT EXISTS (SELECT 1 FROM gone o WHERE o.delivery_id = i.delivery_id AND o.place = i.place)
         ) AS is_last
         FROM gone g
         ORDER BY g.delivery_id, g.place",
    )
    .bind(&open)
    .bind(events.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .bind(bytes(cancel))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_taken).collect()
}

fn read_taken(row: &PgRow) -> Result<TakenOut, StoreError> {
    let delivery = DeliveryId::from_uuid(row.try_get("delivery_id")?);
    let digest: Option<Vec<u8>> = row.try_get("cancel_digest")?;
    let corrupt = |_| StoreError::corrupt("digest_items", "cancel_digest", delivery);
    Ok(TakenOut {
        delivery,
        event: EventId::from_uuid(row.try_get("event_id")?),
        cancel: digest.map(TryInto::try_into).transpose().map_err(corrupt)?,
        is_last: row.try_get("is_last")?,
    })
}

/// Closes locked windows: no event joins what ends within this transaction.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn close(connection: &mut PgConnection, ids: &[DeliveryId]) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM digest_windows WHERE delivery_id = ANY ($1)")
        .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// The events of a message, in the order of arrival, and how many there were in all.
#[derive(Debug, Clone, Default)]
pub struct Gathered {
    /// The newest, up to the maximum.
    pub events: Vec<EventId>,
    /// How many were collected.
    pub count: usize,
}

impl Store {
    /// Closes the windows of messages that are about to be made: events that are joining are waited for, and none joins
    /// afterwards.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn close_windows(&self, ids: &[DeliveryId]) -> Result<(), StoreError> {
        sqlx::query(
            "WITH locked AS MATERIALIZED (
                SELECT digest FROM digest_windows WHERE delivery_id = ANY ($1) ORDER BY digest FOR UPDATE
             )
             DELETE FROM digest_windows d USING locked l WHERE d.digest = l.digest",
        )
        .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// The events of these messages; messages with their own event only are not included.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn gathered(&self, ids: &[DeliveryId]) -> Result<HashMap<DeliveryId, Gathered>, StoreError> {
        let rows = sqlx::query(
            "SELECT delivery_id, event_id, total
             FROM (
                SELECT i.delivery_id, i.event_id, i.place, i.max_items,
                    count(*) OVER (PARTITION BY i.delivery_id) AS total,
                    row_number() OVER (PARTITION BY i.delivery_id ORDER BY i.place DESC) AS back
                FROM digest_items i
                WHERE i.delivery_id = ANY ($1)
             ) AS i
             WHERE back <= max_items
             ORDER BY delivery_id, place",
        )
        .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .fetch_all(self.pool())
        .await?;
        let mut gathered: HashMap<DeliveryId, Gathered> = HashMap::new();
        for row in &rows {
            let one = gathered.entry(DeliveryId::from_uuid(row.try_get("delivery_id")?)).or_default();
            one.events.push(EventId::from_uuid(row.try_get("event_id")?));
            one.count = usize::try_from(row.try_get::<i64, _>("total")?).unwrap_or_default();
        }
        Ok(gathered)
    }

    /// Deletes windows whose message is no longer pending, and events collected for messages before `before` that have
    /// ended; at most `limit` of each.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_digests(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let windows = sqlx::query(
            "DELETE FROM digest_windows
             WHERE ctid = ANY (ARRAY(
                SELECT d.ctid
                FROM digest_windows d
                WHERE NOT EXISTS (SELECT 1 FROM queue q WHERE q.delivery_id = d.delivery_id)
                LIMIT $1
                FOR UPDATE SKIP LOCKED
             ))",
        )
        .bind(limit)
        .execute(self.pool())
        .await?;
        let items = sqlx::query(
            "DELETE FROM digest_items
             WHERE ctid = ANY (ARRAY(
                SELECT i.ctid
                FROM digest_items i
                WHERE i.delivery_id < $1
                  AND NOT EXISTS (SELECT 1 FROM queue q WHERE q.delivery_id = i.delivery_id)
                LIMIT $2
             ))",
        )
        .bind(floor(before))
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(windows.rows_affected() + items.rows_affected())
    }
}
