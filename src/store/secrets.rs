//! Sealed values: unsealed to render, erased after use.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::{Days, parts_of};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, EventId, TypedId, floor};

/// The place that an event's sealed values are bound to.
pub fn event_place(event: EventId) -> String {
    format!("event_secrets/{event}")
}

/// The place that values supplied for a delivery are bound to.
pub fn delivery_place(delivery: DeliveryId) -> String {
    format!("delivery_values/{delivery}")
}

/// Stores values that a person supplied when releasing a delivery.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_delivery_values(
    connection: &mut PgConnection,
    delivery: DeliveryId,
    sealed: &[u8],
    given_by: Uuid,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO delivery_values (delivery_id, sealed, given_by, given_at)
         VALUES ($1, $2, $3, $4)
         ON CONFLICT (delivery_id) DO UPDATE SET sealed = $2, given_by = $3, given_at = $4",
    )
    .bind(delivery.uuid())
    .bind(sealed)
    .bind(given_by)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

const ERASE_EVENT_SECRETS: &str = "WITH served AS (
        SELECT s.event_id
        FROM event_secrets s
        WHERE s.event_id < $1 AND {days of s.event_id}
          AND NOT EXISTS (
            SELECT 1 FROM deliveries d
            WHERE d.event_id = s.event_id AND d.finished_at IS NULL AND {days of d.id}
              AND d.id >= uuid_of_millisecond(s.event_id, 0) AND d.id < uuid_of_millisecond(s.event_id, 1)
            OFFSET 0
          )
          AND NOT EXISTS (
            SELECT 1 FROM digest_items i JOIN queue q ON q.delivery_id = i.delivery_id WHERE i.event_id = s.event_id
          )
        LIMIT $2
    )
    DELETE FROM event_secrets s
    WHERE s.event_id = ANY (ARRAY(SELECT event_id FROM served)) AND {days of s.event_id}";
const ERASE_DELIVERY_VALUES: &str = "WITH served AS (
        SELECT v.delivery_id
        FROM delivery_values v
        WHERE v.delivery_id < $1 AND {days of v.delivery_id}
          AND EXISTS (
            SELECT 1 FROM deliveries d
            WHERE d.id = v.delivery_id AND {days of d.id} AND d.finished_at IS NOT NULL
            OFFSET 0
          )
        LIMIT $2
    )
    DELETE FROM delivery_values v
    WHERE v.delivery_id = ANY (ARRAY(SELECT delivery_id FROM served)) AND {days of v.delivery_id}";

impl Store {
    /// The sealed values of these events; most have none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn event_secrets(&self, events: &[EventId]) -> Result<HashMap<EventId, Vec<u8>>, StoreError> {
        let mut found = HashMap::new();
        for (days, ids) in parts_of(events.iter().map(|id| id.uuid())) {
            let query =
                "SELECT event_id, sealed FROM event_secrets WHERE event_id = ANY ($1) AND {days of event_id}";
            for row in sqlx::query(days.fill(query)).bind(ids).fetch_all(self.pool()).await? {
                found.insert(EventId::from_uuid(row.try_get("event_id")?), row.try_get("sealed")?);
            }
        }
        Ok(found)
    }

    /// The sealed values that people supplied for these deliveries; most have none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delivery_values(
        &self,
        ids: &[DeliveryId],
    ) -> Result<HashMap<DeliveryId, Vec<u8>>, StoreError> {
        let mut found = HashMap::new();
        for (days, ids) in parts_of(ids.iter().map(|id| id.uuid())) {
            let query = "SELECT delivery_id, sealed
                FROM delivery_values
                WHERE delivery_id = ANY ($1) AND {days of delivery_id}";
            for row in sqlx::query(days.fill(query)).bind(ids).fetch_all(self.pool()).await? {
                found.insert(DeliveryId::from_uuid(row.try_get("delivery_id")?), row.try_get("sealed")?);
            }
        }
        Ok(found)
    }

    /// Erases sealed values of events created before `before` whose deliveries are all final and that are in no pending
    /// digest, and values supplied for final deliveries; at most `limit` of each.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn erase_served_secrets(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let mut erased = 0;
        for days in self.windows("event_secrets", Uuid::nil(), floor(before)).await? {
            erased += self.erase_in(days, ERASE_EVENT_SECRETS, before, limit).await?;
        }
        // It is not known which of the values that a person supplied are sensitive, so all are erased.
        for days in self.windows("delivery_values", Uuid::nil(), floor(before)).await? {
            erased += self.erase_in(days, ERASE_DELIVERY_VALUES, before, limit).await?;
        }
        Ok(erased)
    }

    async fn erase_in(
        &self,
        days: Days,
        text: &str,
        before: Timestamp,
        limit: i64,
    ) -> Result<u64, StoreError> {
        let erased =
            sqlx::query(days.fill(text)).bind(floor(before)).bind(limit).execute(self.pool()).await?;
        Ok(erased.rows_affected())
    }
}
