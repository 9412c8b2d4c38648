//! The last real events of a type, for checking copy and rules against real traffic.

use serde_json::Value;
use sqlx::Row;
use uuid::Uuid;

use super::search::missing;
use super::{Store, StoreError};
use crate::domain::id::{EventId, TypedId};
use crate::domain::rule::TEST_SEND;

/// A real event. Sensitive values are masked: they are stored separately.
#[derive(Debug, Clone)]
pub struct PastEvent {
    /// Its id.
    pub id: EventId,
    /// Its type.
    pub event_type: String,
    /// Its values.
    pub data: Value,
    /// The locale that it requested.
    pub locale: Option<String>,
    /// The source's own id.
    pub event_key: String,
}

/// The maximum number of events, and the bytes of values after which no more are read.
const PAGE: i64 = 200;
const MAX_BYTES: usize = 64 * 1024 * 1024;

const LAST_EVENTS: &str = "SELECT e.id, e.type, e.locale, e.event_key, p.data
    FROM unnest($1::text[]) AS t (type)
    CROSS JOIN LATERAL (
        SELECT id, type, locale, event_key
        FROM events
        WHERE type = t.type AND id < $4 AND {days of id}
          AND NOT EXISTS (
            SELECT 1 FROM deliveries d
            WHERE d.event_id = events.id AND d.rule_key = $3 AND {days of d.id}
              AND d.id >= uuid_of_millisecond(events.id, 0) AND d.id < uuid_of_millisecond(events.id, 1)
            OFFSET 0
          )
        ORDER BY id DESC
        LIMIT $2
    ) AS e
    CROSS JOIN LATERAL (SELECT data FROM event_payloads WHERE event_id = e.id AND {days of event_id} LIMIT 1) AS p
    ORDER BY e.id DESC
    LIMIT $2";

impl Store {
    /// The last `limit` events of these types (each by its own index), newest first; without test sends. Reading stops
    /// once their values exceed 64 MiB.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn last_events(&self, types: &[String], limit: i64) -> Result<Vec<PastEvent>, StoreError> {
        let (mut found, mut bytes, mut before) = (Vec::new(), 0, Uuid::max());
        let mut windows = self.windows("events", Uuid::nil(), before).await?.into_iter();
        let mut days = windows.next();
        while let Some(present) = days
            && missing(limit, found.len()) > 0
            && bytes < MAX_BYTES
        {
            let page = missing(limit, found.len()).min(PAGE);
            let query =
                sqlx::query(present.fill(LAST_EVENTS)).bind(types).bind(page).bind(TEST_SEND).bind(before);
            let rows = query.fetch_all(self.pool()).await?;
            for row in &rows {
                let data = row.try_get_raw("data")?;
                bytes += data.as_bytes().map_or(0, <[u8]>::len);
                before = row.try_get("id")?;
                found.push(PastEvent {
                    id: EventId::from_uuid(before),
                    event_type: row.try_get("type")?,
                    data: row.try_get("data")?,
                    locale: row.try_get("locale")?,
                    event_key: row.try_get("event_key")?,
                });
            }
            if missing(page, rows.len()) > 0 {
                days = windows.next();
            }
        }
        Ok(found)
    }
}
