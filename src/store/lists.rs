//! Pages of events and deliveries, newest first, narrowed to what somebody looks for.
//!
//! Each narrowing starts from rows that are few: a person's deliveries, what is held, the decisions about what left the
//! happy path. None reads the whole history because what it looks for is rare.

use uuid::Uuid;

use super::events::{StoredEvent, read_event};
use super::listing::{DELIVERY_COLUMNS, DeliveryRow, read_delivery};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::event::Recipient;
use crate::domain::id::floor;

/// What a list is narrowed to. Every part is optional.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Older than this id.
    pub before: Option<Uuid>,
    /// Not older than this moment.
    pub since: Option<Timestamp>,
    /// Older than this moment.
    pub until: Option<Timestamp>,
    /// This event type.
    pub event_type: Option<String>,
    /// This state.
    pub state: Option<StateName>,
    /// This recipient.
    pub recipient: Option<Recipient>,
    /// Rows at most.
    pub limit: i64,
}

impl ListFilter {
    fn bounds(&self) -> (Uuid, Uuid) {
        let low = self.since.map_or(Uuid::nil(), floor);
        let high = self.until.map_or(Uuid::max(), floor);
        (low, self.before.map_or(high, |before| before.min(high)))
    }
}

/// The deliveries that a state is looked for among; `None`: all, since the state is common.
fn deliveries_in(state: StateName) -> Option<&'static str> {
    match state.as_str() {
        "accepted" => None,
        open if state.is_open() => {
            // What is queued or sent is new, so that it is met at once; what is held may be old.
            (open == "held").then_some("SELECT delivery_id FROM queue WHERE state = 'held'")
        }
        // What ended otherwise was decided, and decisions are few.
        _ => Some("SELECT delivery_id FROM decisions WHERE delivery_id IS NOT NULL"),
    }
}

impl Store {
    /// A page of deliveries, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn list_deliveries(&self, filter: &ListFilter) -> Result<Vec<DeliveryRow>, StoreError> {
        let (low, high) = filter.bounds();
        let source = filter.state.and_then(deliveries_in).map(|rows| format!("AND d.id IN ({rows})"));
        let query = format!(
            "{DELIVERY_COLUMNS}
             WHERE d.id >= $1 AND d.id < $2 {}
               AND ($3::text IS NULL OR coalesce(q.state, d.state)::text = $3)
               AND ($4::text IS NULL OR (d.recipient_id = $5 AND d.recipient_label = $4))
             ORDER BY d.id DESC
             LIMIT $6",
            source.unwrap_or_default()
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(low)
            .bind(high)
            .bind(filter.state.map(StateName::as_str))
            .bind(filter.recipient.as_ref().map(|r| r.label.as_str().to_owned()))
            .bind(filter.recipient.as_ref().map(|r| r.id.clone()))
            .bind(filter.limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read_delivery).collect()
    }

    /// A page of events, newest first. Narrowed to a recipient or a state, it is found through the deliveries, and through
    /// events for which none was planned.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn list_events(&self, filter: &ListFilter) -> Result<Vec<StoredEvent>, StoreError> {
        let (low, high) = filter.bounds();
        let query = format!(
            "SELECT e.*, e.recipients::text AS recipients_text, NULL::text AS data_text
             FROM events e
             WHERE e.id >= $1 AND e.id < $2
               AND ($3::text IS NULL OR e.type = $3 OR (right($3, 1) = '*' AND starts_with(e.type, left($3, -1))))
               AND ($4::text IS NULL OR true) AND ($5::text IS NULL OR true) AND ($6::text IS NULL OR true)
               {}
             ORDER BY e.id DESC
             LIMIT $7",
            narrowing(filter)
        );
        let rows = sqlx::query(sqlx::AssertSqlSafe(query))
            .bind(low)
            .bind(high)
            .bind(&filter.event_type)
            .bind(filter.state.map(StateName::as_str))
            .bind(filter.recipient.as_ref().map(|r| r.label.as_str().to_owned()))
            .bind(filter.recipient.as_ref().map(|r| r.id.clone()))
            .bind(filter.limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read_event).collect()
    }
}

/// What narrows events to a recipient and a state.
fn narrowing(filter: &ListFilter) -> String {
    const IN_STATE: &str = "($4::text IS NULL OR coalesce(q.state, d.state)::text = $4)";
    match (&filter.recipient, filter.state.map(deliveries_in)) {
        (None, None) => String::new(),
        (Some(_), _) => format!(
            "AND e.id IN (
                SELECT d.event_id FROM deliveries d LEFT JOIN queue q ON q.delivery_id = d.id
                WHERE d.recipient_label = $5 AND d.recipient_id = $6 AND {IN_STATE}
                UNION ALL
                SELECT u.id FROM events u WHERE $4 IS NULL AND u.unanswered_for = $6
                  AND u.recipients::jsonb = jsonb_build_array(jsonb_build_array($5::text, $6::text))
             )"
        ),
        (None, Some(Some(rows))) => format!(
            "AND e.id IN (
                SELECT d.event_id FROM deliveries d LEFT JOIN queue q ON q.delivery_id = d.id
                WHERE d.id IN ({rows}) AND {IN_STATE}
             )"
        ),
        (None, Some(None)) => format!(
            "AND EXISTS (
                SELECT 1 FROM deliveries d LEFT JOIN queue q ON q.delivery_id = d.id
                WHERE d.event_id = e.id
                  AND d.id >= uuid_of_millisecond(e.id, 0) AND d.id < uuid_of_millisecond(e.id, 1) AND {IN_STATE}
             )"
        ),
    }
}
