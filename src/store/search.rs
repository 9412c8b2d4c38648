//! Pages of events and deliveries, newest first, with filters.
//!
//! Each filter starts from few rows: a person's deliveries, held deliveries, decisions about failed ones. None reads
//! the whole history because its matches are rare.

use std::collections::HashSet;

use uuid::Uuid;

use super::days::parts_of;
use super::delivery_reads::{DELIVERY_COLUMNS, DeliveryRow, read_delivery};
use super::events::{StoredEvent, read_event};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::event::{Recipient, VisibleEvents};
use crate::domain::id::{TypedId, floor};

/// The filters of a list. All are optional.
#[derive(Debug, Clone, Default)]
pub struct ListFilter {
    /// Older than this id.
    pub before: Option<Uuid>,
    /// Not older than this time.
    pub since: Option<Timestamp>,
    /// Older than this time.
    pub until: Option<Timestamp>,
    /// This event type.
    pub event_type: Option<String>,
    /// This state.
    pub state: Option<StateName>,
    /// This recipient.
    pub recipient: Option<Recipient>,
    /// What the caller may see.
    pub visible: VisibleEvents,
    /// The maximum number of rows.
    pub limit: i64,
}

impl ListFilter {
    fn bounds(&self) -> (Uuid, Uuid) {
        let low = self.since.map_or(Uuid::nil(), floor);
        let high = self.until.map_or(Uuid::max(), floor);
        (low, self.before.map_or(high, |before| before.min(high)))
    }
}

/// Up to this many open deliveries in one state, a list starts from them. If there are more, they are found among the
/// newest anyway.
const FEW: i64 = 20_000;

impl Store {
    /// Where deliveries of a state are searched, as a subquery for their ids; `None`: among all, newest first, because
    /// they are common.
    async fn deliveries_in(&self, filter: &ListFilter) -> Result<Option<String>, StoreError> {
        // A person's deliveries are few already.
        let Some(state) = filter.state.filter(|_| filter.recipient.is_none()) else { return Ok(None) };
        if state.as_str() == "accepted" {
            return Ok(None);
        }
        if !state.is_open() {
            // Other ends have a decision, and decisions are few.
            return Ok(Some(
                "SELECT delivery_id FROM decisions WHERE delivery_id IS NOT NULL AND {days from id}"
                    .to_owned(),
            ));
        }
        // The state is part of the statement, so that a partial index is used.
        let ids = format!("SELECT delivery_id FROM queue WHERE state = '{}'", state.as_str());
        let counted = sqlx::AssertSqlSafe(format!("SELECT count(*) FROM ({ids} LIMIT $1) AS found"));
        let count: i64 = sqlx::query_scalar(counted).bind(FEW + 1).fetch_one(self.pool()).await?;
        Ok((count <= FEW).then_some(ids))
    }

    /// A page of deliveries, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn list_deliveries(&self, filter: &ListFilter) -> Result<Vec<DeliveryRow>, StoreError> {
        let (low, high) = filter.bounds();
        let source = self.deliveries_in(filter).await?;
        let query = format!(
            "{DELIVERY_COLUMNS}
             WHERE d.id >= $1 AND d.id < $2 AND {{days of d.id}} {}
               AND ($3::text IS NULL OR coalesce(q.state, d.state)::text = $3)
               AND ($4::text IS NULL OR (d.recipient_id = $5 AND d.recipient_label = $4))
               AND ($7::uuid[] IS NULL OR true) {}
             ORDER BY d.id DESC
             LIMIT $6",
            source.map(|ids| format!("AND d.id IN ({ids})")).unwrap_or_default(),
            match visible(&filter.visible, "$7") {
                None => String::new(),
                Some(events) =>
                    format!(
                    "AND (d.replay_of IS NOT NULL OR EXISTS (
                        SELECT 1 FROM events e WHERE e.id = d.event_id AND {{days of e.id}} AND {events} OFFSET 0
                     ))"
                ),
            }
        );
        let mut found = Vec::new();
        for days in self.windows("deliveries", low, high).await? {
            let (query, mut high) = (days.fill(&query).0, high);
            loop {
                let wanted = missing(filter.limit, found.len());
                if wanted == 0 {
                    return Ok(found);
                }
                let rows = sqlx::query(sqlx::AssertSqlSafe(query.clone()))
                    .bind(low)
                    .bind(high)
                    .bind(filter.state.map(StateName::as_str))
                    .bind(filter.recipient.as_ref().map(|r| r.label.as_str().to_owned()))
                    .bind(filter.recipient.as_ref().map(|r| r.id.clone()))
                    .bind(wanted)
                    .bind(source_ids(&filter.visible))
                    .fetch_all(self.pool())
                    .await?;
                let rows = rows.iter().map(read_delivery).collect::<Result<Vec<_>, _>>()?;
                let is_last = missing(wanted, rows.len()) > 0;
                high = rows.last().map_or(high, |row| row.id.uuid());
                found.extend(self.without_hidden_replays(rows, &filter.visible).await?);
                if is_last {
                    break;
                }
            }
        }
        Ok(found)
    }

    /// Leaves out replays of events that a caller may not see. Other deliveries are of the same day as their event.
    async fn without_hidden_replays(
        &self,
        mut rows: Vec<DeliveryRow>,
        of: &VisibleEvents,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let Some(condition) = visible(of, "$2") else { return Ok(rows) };
        let replays = || rows.iter().filter(|row| row.replay_of.is_some());
        let mut shown: HashSet<Uuid> = HashSet::new();
        for (days, ids) in parts_of(replays().map(|row| row.event.uuid())) {
            let query = format!(
                "SELECT e.id FROM events e
                 WHERE e.id = ANY ($1) AND {{days of e.id}} AND ($2::uuid[] IS NULL OR true) AND {condition}"
            );
            let query = sqlx::query_scalar::<_, Uuid>(days.fill(&query)).bind(ids).bind(source_ids(of));
            shown.extend(query.fetch_all(self.pool()).await?);
        }
        rows.retain(|row| row.replay_of.is_none() || shown.contains(&row.event.uuid()));
        Ok(rows)
    }

    /// A page of events, newest first. Filtered by a recipient or a state, it is found through the deliveries, and
    /// through events for which none was planned.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn list_events(&self, filter: &ListFilter) -> Result<Vec<StoredEvent>, StoreError> {
        let (low, high) = filter.bounds();
        let query = format!(
            "SELECT e.*, e.recipients::text AS recipients_text, NULL::text AS data_text
             FROM events e
             WHERE e.id >= $1 AND e.id < $2 AND {{days of e.id}}
               AND ($3::text IS NULL OR e.type = $3 OR (right($3, 1) = '*' AND starts_with(e.type, left($3, -1))))
               AND ($4::text IS NULL OR true) AND ($5::text IS NULL OR true) AND ($6::text IS NULL OR true)
               AND ($8::uuid[] IS NULL OR true)
               {} {}
             ORDER BY e.id DESC
             LIMIT $7",
            narrowing(filter, self.deliveries_in(filter).await?),
            visible(&filter.visible, "$8").map(|events| format!("AND {events}")).unwrap_or_default()
        );
        let mut found = Vec::new();
        for days in self.windows("events", low, high).await? {
            let rows = sqlx::query(days.fill(&query))
                .bind(low)
                .bind(high)
                .bind(&filter.event_type)
                .bind(filter.state.map(StateName::as_str))
                .bind(filter.recipient.as_ref().map(|r| r.label.as_str().to_owned()))
                .bind(filter.recipient.as_ref().map(|r| r.id.clone()))
                .bind(missing(filter.limit, found.len()))
                .bind(source_ids(&filter.visible))
                .fetch_all(self.pool())
                .await?;
            for row in &rows {
                found.push(read_event(row)?);
            }
            if missing(filter.limit, found.len()) == 0 {
                break;
            }
        }
        Ok(found)
    }
}

/// How many rows a page still lacks.
pub(super) fn missing(limit: i64, found: usize) -> i64 {
    limit.saturating_sub(i64::try_from(found).unwrap_or(i64::MAX)).max(0)
}

/// The condition on rows of `events` (as `e`) that a caller may see; `None`: all.
fn visible(visible: &VisibleEvents, sources: &str) -> Option<String> {
    let of_sources = visible.sources.as_ref().map(|_| format!("e.source_id = ANY ({sources})"));
    let parts: Vec<String> =
        of_sources.into_iter().chain(visible.tests_only.then(|| "e.is_test".to_owned())).collect();
    (!parts.is_empty()).then(|| parts.join(" AND "))
}

fn source_ids(visible: &VisibleEvents) -> Option<Vec<Uuid>> {
    visible.sources.as_ref().map(|sources| sources.iter().map(|source| source.uuid()).collect())
}

/// The condition on events by recipient and state, with their deliveries among `ids` if they are few.
fn narrowing(filter: &ListFilter, ids: Option<String>) -> String {
    match (&filter.recipient, filter.state, ids) {
        (None, None, _) => String::new(),
        (Some(_), ..) => "AND e.id IN (
                SELECT d.event_id
                FROM deliveries d
                LEFT JOIN LATERAL (SELECT state FROM queue WHERE delivery_id = d.id LIMIT 1) AS q ON true
                WHERE d.recipient_label = $5 AND d.recipient_id = $6 AND {days from d.id}
                  AND ($4::text IS NULL OR coalesce(q.state, d.state)::text = $4)
                UNION ALL
                SELECT u.id FROM events u WHERE $4 IS NULL AND u.unanswered_for = $6 AND {days of u.id}
                  AND u.recipients::jsonb = jsonb_build_array(jsonb_build_array($5::text, $6::text))
             )"
        .to_owned(),
        (None, Some(_), Some(ids)) => format!(
            "AND e.id IN (
                SELECT d.event_id
                FROM deliveries d
                LEFT JOIN LATERAL (SELECT state FROM queue WHERE delivery_id = d.id LIMIT 1) AS q ON true
                WHERE d.id IN ({ids}) AND {{days from d.id}} AND coalesce(q.state, d.state)::text = $4
             )"
        ),
        // A final state is in the row itself; an open one, in the queue.
        (None, Some(state), None) => {
            let (join, present) = if state.is_open() {
                ("JOIN queue q ON q.delivery_id = d.id", "q.state")
            } else {
                ("", "d.state")
            };
            format!(
                "AND EXISTS (
                    SELECT 1 FROM deliveries d {join}
                    WHERE d.event_id = e.id AND {present}::text = $4
                      AND d.id >= uuid_of_millisecond(e.id, 0) AND d.id < uuid_of_millisecond(e.id, 1)
                      AND {{days of d.id}}
                 )"
            )
        }
    }
}
