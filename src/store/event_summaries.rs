//! Reads for lists of events: the results of many at once, and lookups by a source's own id.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::days::{Days, parts_of};
use super::delivery_reads::{DecisionRow, decisions_of};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::event::key_name;
use crate::domain::id::{EventId, TypedId};
use crate::vault::sha256;

/// The maximum number of deliveries evaluated per event: an event may have thousands of recipients.
const LOOKED_AT: i64 = 200;

/// Deliveries of one event with the same channel and state.
#[derive(Debug, Clone)]
pub struct Alike {
    /// Their channel.
    pub channel: String,
    /// Their state.
    pub state: StateName,
    /// When the last of them is due.
    pub due_at: Option<Timestamp>,
    /// How many there are.
    pub count: i64,
}

/// The results of an event.
#[derive(Debug, Clone, Default)]
pub struct EventOutcome {
    /// Its deliveries, without replays.
    pub deliveries: Vec<Alike>,
    /// Whether there are more deliveries than were evaluated.
    pub has_more: bool,
    /// The last decision about one of its deliveries, or its first decision if it has none.
    pub why: Option<String>,
}

impl Store {
    /// The results of these events at `now`. The first 200 deliveries of each are evaluated.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn outcomes_of(
        &self,
        events: &[EventId],
        now: Timestamp,
    ) -> Result<HashMap<EventId, EventOutcome>, StoreError> {
        let ids: Vec<Uuid> = events.iter().map(|id| id.uuid()).collect();
        let mut outcomes: HashMap<EventId, EventOutcome> = HashMap::new();
        let mut rows = Vec::new();
        for (days, ids) in parts_of(ids.iter().copied()) {
            let query = sqlx::query(days.fill(include_str!("sql/event_summaries.sql")));
            rows.extend(query.bind(ids).bind(LOOKED_AT).bind(now).fetch_all(self.pool()).await?);
        }
        for row in &rows {
            let event = EventId::from_uuid(row.try_get("event_id")?);
            let outcome = outcomes.entry(event).or_default();
            outcome.deliveries.push(Alike {
                channel: row.try_get("channel")?,
                state: StateName::find(row.try_get("state")?).ok_or(StoreError::corrupt(
                    "deliveries",
                    "state",
                    event,
                ))?,
                due_at: row.try_get("due_at")?,
                count: row.try_get("count")?,
            });
        }
        for (event, about_delivery, first) in self.words_about(&ids).await? {
            let outcome = outcomes.entry(EventId::from_uuid(event)).or_default();
            outcome.why = about_delivery.or_else(|| first.filter(|_| outcome.deliveries.is_empty()));
        }
        for outcome in outcomes.values_mut() {
            outcome.has_more = outcome.deliveries.iter().map(|alike| alike.count).sum::<i64>() >= LOOKED_AT;
        }
        Ok(outcomes)
    }

    /// For each event, the detail of the last decision about a delivery, and of the first decision at all.
    async fn words_about(
        &self,
        events: &[Uuid],
    ) -> Result<Vec<(Uuid, Option<String>, Option<String>)>, StoreError> {
        let Some(first) = events.iter().min() else { return Ok(Vec::new()) };
        // Aggregates instead of a limit with an order: that could scan all decisions from the newest on.
        let words = sqlx::query_as(Days::after(*first).fill(
            "SELECT event_id, (array_agg(detail ORDER BY id DESC) FILTER (WHERE delivery_id IS NOT NULL))[1],
                (array_agg(detail ORDER BY id))[1]
             FROM decisions WHERE event_id = ANY ($1) AND {days of id} GROUP BY event_id",
        ))
        .bind(events)
        .fetch_all(self.pool())
        .await?;
        Ok(words)
    }

    /// The decisions about these events, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn decisions_about_events(
        &self,
        events: &[EventId],
    ) -> Result<HashMap<EventId, Vec<DecisionRow>>, StoreError> {
        let mut decisions: HashMap<EventId, Vec<DecisionRow>> = HashMap::new();
        for (event, row) in decisions_of(&mut *self.pool().acquire().await?, events).await? {
            decisions.entry(event).or_default().push(row);
        }
        Ok(decisions)
    }

    /// The newest events that any source posted with this id.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_by_key(&self, key: &str) -> Result<Vec<EventId>, StoreError> {
        let found: Vec<Uuid> = sqlx::query_scalar(
            "SELECT k.event_id FROM sources s
             JOIN event_keys k ON k.source_id = s.id AND k.key_digest = ANY ($1)
             ORDER BY k.event_id DESC
             LIMIT 5",
        )
        .bind([false, true].map(|is_test| sha256(key_name(key, is_test).as_bytes()).to_vec()))
        .fetch_all(self.pool())
        .await?;
        Ok(found.into_iter().map(EventId::from_uuid).collect())
    }
}
