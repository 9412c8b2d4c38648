//! The last real events of a type, for checking copy and rules against what really comes.

use serde_json::Value;
use sqlx::Row;

use super::{Store, StoreError};
use crate::domain::id::{EventId, TypedId};
use crate::domain::rule::TEST_SEND;

/// An event as it really came. Sensitive values are masked: they are kept apart.
#[derive(Debug, Clone)]
pub struct PastEvent {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub event_type: String,
    /// Its values.
    pub data: Value,
    /// The locale that it asked for.
    pub locale: Option<String>,
    /// The source's own id of it.
    pub event_key: String,
}

impl Store {
    /// The last `limit` events of these types (each by its own index), newest first; test sends are none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn last_events(&self, types: &[String], limit: i64) -> Result<Vec<PastEvent>, StoreError> {
        let rows = sqlx::query(
            "SELECT e.id, e.type, e.locale, e.event_key, p.data
             FROM unnest($1::text[]) AS t (type)
             CROSS JOIN LATERAL (
                SELECT id, type, locale, event_key
                FROM events
                WHERE type = t.type
                  AND NOT EXISTS (
                    SELECT 1 FROM deliveries d
                    WHERE d.event_id = events.id AND d.rule_key = $3
                      AND d.id >= uuid_of_millisecond(events.id, 0) AND d.id < uuid_of_millisecond(events.id, 1)
                  )
                ORDER BY id DESC
                LIMIT $2
             ) AS e
             JOIN event_payloads p ON p.event_id = e.id
             ORDER BY e.id DESC
             LIMIT $2",
        )
        .bind(types)
        .bind(limit)
        .bind(TEST_SEND)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| {
                Ok(PastEvent {
                    id: EventId::from_uuid(row.try_get("id")?),
                    event_type: row.try_get("type")?,
                    data: row.try_get("data")?,
                    locale: row.try_get("locale")?,
                    event_key: row.try_get("event_key")?,
                })
            })
            .collect()
    }
}
