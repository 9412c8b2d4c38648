//! Reads for lists of events: what became of many at once, and whose key a text is.

use std::collections::HashMap;

use uuid::Uuid;

use super::listing::{DecisionRow, DeliveryRow, decisions_of, deliveries_of};
use super::{Store, StoreError};
use crate::domain::id::{EventId, TypedId};
use crate::vault::sha256;

/// Things by their event.
pub type ByEvent<T> = HashMap<EventId, Vec<T>>;

impl Store {
    /// The deliveries (without replays) and the decisions of these events.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn outcomes_of(
        &self,
        events: &[EventId],
    ) -> Result<(ByEvent<DeliveryRow>, ByEvent<DecisionRow>), StoreError> {
        let mut connection = self.pool().acquire().await?;
        let mut deliveries = ByEvent::new();
        for row in deliveries_of(&mut connection, events).await? {
            deliveries.entry(row.event).or_insert_with(Vec::new).push(row);
        }
        let mut decisions = ByEvent::new();
        for (event, row) in decisions_of(&mut connection, events).await? {
            decisions.entry(event).or_insert_with(Vec::new).push(row);
        }
        Ok((deliveries, decisions))
    }

    /// The newest events that any source posted with this id of its own.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_by_key(&self, key: &str) -> Result<Vec<EventId>, StoreError> {
        let found: Vec<Uuid> = sqlx::query_scalar(
            "SELECT k.event_id FROM sources s
             JOIN event_keys k ON k.source_id = s.id AND k.key_digest = $1
             ORDER BY k.event_id DESC
             LIMIT 5",
        )
        .bind(sha256(key.as_bytes()).as_slice())
        .fetch_all(self.pool())
        .await?;
        Ok(found.into_iter().map(EventId::from_uuid).collect())
    }
}
