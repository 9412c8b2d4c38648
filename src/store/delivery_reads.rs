//! Reads for screens and responses: events, deliveries and their decisions, page by page.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::{Days, parts_of};
use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::{
    BatchId, DecisionId, DeliveryId, EventId, RuleId, TemplateVersionId, TypedId, same_millisecond,
};
use crate::domain::timing::{HandOver, ProviderTiming, Schedule};

/// A delivery as it is shown and as it is loaded for sending.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `deliveries`, the state from `queue` while it is open")]
pub struct DeliveryRow {
    pub id: DeliveryId,
    pub event: EventId,
    pub rule: (RuleId, String),
    pub app: AppId,
    pub channel: String,
    pub priority: String,
    pub template: String,
    pub version: Option<(TemplateVersionId, i32)>,
    pub locale: Option<String>,
    pub recipient: Option<Recipient>,
    pub audience: Option<Value>,
    pub schedule: Option<Schedule>,
    pub expires_at: Timestamp,
    pub created_at: Timestamp,
    pub state: StateName,
    pub due_at: Option<Timestamp>,
    pub attempts: Option<i16>,
    pub waits_for_turn: bool,
    pub finished_at: Option<Timestamp>,
    pub batch: Option<BatchId>,
    pub replay_of: Option<DeliveryId>,
}

/// A delivery with its queue row. The limit makes that a lookup by key for each: with a plain join, the newest
/// deliveries would come at the end of a scan of the whole queue.
pub(super) const DELIVERY_COLUMNS: &str = "SELECT d.*, d.channel::text AS channel_text, d.priority::text AS priority_text,
        coalesce(q.state, d.state)::text AS state_text, coalesce(q.blocked_due_at, q.due_at) AS due_at, q.attempts,
        q.blocked_due_at IS NOT NULL AS waits_for_turn,
        coalesce(q.batch_id, d.batch_id) AS present_batch
    FROM deliveries d
    LEFT JOIN LATERAL (SELECT * FROM queue WHERE delivery_id = d.id LIMIT 1) AS q ON true";

pub(super) fn read_delivery(row: &PgRow) -> Result<DeliveryRow, StoreError> {
    let id = DeliveryId::from_uuid(row.try_get("id")?);
    let version: Option<Uuid> = row.try_get("template_version_id")?;
    let number: Option<i32> = row.try_get("template_version")?;
    let label: Option<String> = row.try_get("recipient_label")?;
    let recipient_id: Option<String> = row.try_get("recipient_id")?;
    let state: &str = row.try_get("state_text")?;
    Ok(DeliveryRow {
        id,
        event: EventId::from_uuid(row.try_get("event_id")?),
        rule: (RuleId::from_uuid(row.try_get("rule_id")?), row.try_get("rule_key")?),
        app: AppId(row.try_get("app_id")?),
        channel: row.try_get("channel_text")?,
        priority: row.try_get("priority_text")?,
        template: row.try_get("template_key")?,
        version: version.map(TemplateVersionId::from_uuid).zip(number),
        locale: row.try_get("locale")?,
        recipient: label
            .zip(recipient_id)
            .map(|(label, id)| Recipient { label: RecipientLabel::from_label(&label), id }),
        schedule: read_schedule(row, id)?,
        audience: row.try_get("audience")?,
        expires_at: row.try_get("expires_at")?,
        created_at: row.try_get("created_at")?,
        state: StateName::find(state).ok_or(StoreError::corrupt("deliveries", "state", id))?,
        due_at: row.try_get("due_at")?,
        attempts: row.try_get("attempts")?,
        waits_for_turn: row.try_get("waits_for_turn")?,
        finished_at: row.try_get("finished_at")?,
        batch: row.try_get::<Option<Uuid>, _>("present_batch")?.map(BatchId::from_uuid),
        replay_of: row.try_get::<Option<Uuid>, _>("replay_of")?.map(DeliveryId::from_uuid),
    })
}

fn read_schedule(row: &PgRow, id: DeliveryId) -> Result<Option<Schedule>, StoreError> {
    let Some(timing) = row.try_get::<Option<Value>, _>("schedule")? else { return Ok(None) };
    let timing: ProviderTiming =
        serde_json::from_value(timing).map_err(|_| StoreError::corrupt("deliveries", "schedule", id))?;
    let event = EventId::from_uuid(row.try_get("event_id")?);
    let send_after: Option<Timestamp> = row.try_get("send_after")?;
    Ok(Some(Schedule {
        timing,
        scheduled_messages: send_after.map(|send_after| HandOver { send_after, event }),
    }))
}

/// A decision as it is shown.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `decisions`")]
pub struct DecisionRow {
    pub id: DecisionId,
    pub delivery: Option<DeliveryId>,
    pub rule: Option<String>,
    pub code: String,
    pub detail: String,
    pub facts: Value,
}

/// An attempt as it is shown.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `attempts`, with its batch's key and size")]
pub struct AttemptRow {
    pub batch: BatchId,
    pub n: i32,
    pub idempotency_key: Uuid,
    pub members: i32,
    pub started_at: Timestamp,
    pub answered_at: Option<Timestamp>,
    pub answer: Option<String>,
    pub status: Option<i16>,
    pub provider_message_id: Option<String>,
    pub is_replay: Option<bool>,
}

/// The deliveries of these events, oldest first. They were created in the same millisecond as their event.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn deliveries_of(
    connection: &mut PgConnection,
    events: &[EventId],
) -> Result<Vec<DeliveryRow>, StoreError> {
    let mut found = Vec::new();
    for event in events {
        let (low, high) = same_millisecond(event.uuid());
        let query = format!(
            "{DELIVERY_COLUMNS}
             WHERE d.id >= $1 AND d.id < $2 AND d.event_id = $3 AND {{days of d.id}}
             ORDER BY d.id"
        );
        let rows = sqlx::query(Days::of(event.uuid()).fill(&query))
            .bind(low)
            .bind(high)
            .bind(event.uuid())
            .fetch_all(&mut *connection)
            .await?;
        for row in &rows {
            found.push(read_delivery(row)?);
        }
    }
    Ok(found)
}

/// The deliveries with these ids.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn deliveries_with(
    connection: &mut PgConnection,
    ids: &[DeliveryId],
) -> Result<Vec<DeliveryRow>, StoreError> {
    let query = format!("{DELIVERY_COLUMNS} WHERE d.id = ANY ($1) AND {{days of d.id}} ORDER BY d.id");
    let mut found = Vec::with_capacity(ids.len());
    for (days, ids) in parts_of(ids.iter().map(|id| id.uuid())) {
        for row in &sqlx::query(days.fill(&query)).bind(ids).fetch_all(&mut *connection).await? {
            found.push(read_delivery(row)?);
        }
    }
    Ok(found)
}

/// The deliveries of an event and their replays, which were created later and may have been replayed themselves.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn deliveries_and_replays_of(
    connection: &mut PgConnection,
    event: EventId,
) -> Result<Vec<DeliveryRow>, StoreError> {
    let mut deliveries = deliveries_of(connection, &[event]).await?;
    let mut newest: Vec<Uuid> = deliveries.iter().map(|row| row.id.uuid()).collect();
    let query = format!("{DELIVERY_COLUMNS} WHERE d.replay_of = ANY ($1) AND {{days of d.id}} ORDER BY d.id");
    let query = Days::after(event.uuid()).fill(&query);
    while !newest.is_empty() {
        let query = sqlx::AssertSqlSafe(query.0.clone());
        let rows = sqlx::query(query).bind(&newest).fetch_all(&mut *connection).await?;
        let mut replays = rows.iter().map(read_delivery).collect::<Result<Vec<_>, _>>()?;
        // Deliveries created in their event's millisecond are already included.
        replays.retain(|replay| deliveries.iter().all(|known| known.id != replay.id));
        newest = replays.iter().map(|row| row.id.uuid()).collect();
        deliveries.extend(replays);
    }
    Ok(deliveries)
}

/// The decisions about these events, oldest first.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn decisions_of(
    connection: &mut PgConnection,
    events: &[EventId],
) -> Result<Vec<(EventId, DecisionRow)>, StoreError> {
    let ids: Vec<Uuid> = events.iter().map(|id| id.uuid()).collect();
    let Some(first) = ids.iter().min() else { return Ok(Vec::new()) };
    let query = "SELECT * FROM decisions WHERE event_id = ANY ($1) AND {days of id} ORDER BY id";
    let rows = sqlx::query(Days::after(*first).fill(query)).bind(ids).fetch_all(connection).await?;
    rows.iter().map(|row| Ok((EventId::from_uuid(row.try_get("event_id")?), read_decision(row)?))).collect()
}

fn read_decision(row: &PgRow) -> Result<DecisionRow, StoreError> {
    Ok(DecisionRow {
        id: DecisionId::from_uuid(row.try_get("id")?),
        delivery: row.try_get::<Option<Uuid>, _>("delivery_id")?.map(DeliveryId::from_uuid),
        rule: row.try_get("rule_key")?,
        code: row.try_get("code")?,
        detail: row.try_get("detail")?,
        facts: row.try_get("facts")?,
    })
}

impl Store {
    /// The deliveries and decisions of one event, including its replays.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn trace_of(&self, event: EventId) -> Result<(Vec<DeliveryRow>, Vec<DecisionRow>), StoreError> {
        let mut connection = self.pool().acquire().await?;
        let deliveries = deliveries_and_replays_of(&mut connection, event).await?;
        let decisions = decisions_of(&mut connection, &[event]).await?;
        Ok((deliveries, decisions.into_iter().map(|(_, decision)| decision).collect()))
    }

    /// Finds one delivery.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_delivery(&self, id: DeliveryId) -> Result<Option<DeliveryRow>, StoreError> {
        Ok(self.find_deliveries(&[id]).await?.pop())
    }

    /// Finds deliveries by id.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_deliveries(&self, ids: &[DeliveryId]) -> Result<Vec<DeliveryRow>, StoreError> {
        deliveries_with(&mut *self.pool().acquire().await?, ids).await
    }

    /// The decisions about a delivery, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn decisions_about(&self, delivery: DeliveryId) -> Result<Vec<DecisionRow>, StoreError> {
        let query = "SELECT * FROM decisions WHERE delivery_id = $1 AND {days of id} ORDER BY id";
        let query = Days::after(delivery.uuid()).fill(query);
        let rows = sqlx::query(query).bind(delivery.uuid()).fetch_all(self.pool()).await?;
        rows.iter().map(read_decision).collect()
    }

    /// Every attempt of these batches, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn attempts_of(&self, batches: &[BatchId]) -> Result<Vec<AttemptRow>, StoreError> {
        const ATTEMPTS: &str = "SELECT a.*, b.idempotency_key, cardinality(b.members) AS members
            FROM batches b
            CROSS JOIN LATERAL (SELECT * FROM attempts WHERE batch_id = b.id AND {days of batch_id} OFFSET 0) AS a
            WHERE b.id = ANY ($1) AND {days of b.id}";
        let mut attempts = Vec::new();
        for (days, ids) in parts_of(batches.iter().map(|id| id.uuid())) {
            for row in &sqlx::query(days.fill(ATTEMPTS)).bind(ids).fetch_all(self.pool()).await? {
                attempts.push(read_attempt(row)?);
            }
        }
        attempts.sort_by_key(|attempt| (attempt.started_at, attempt.n));
        Ok(attempts)
    }
}

fn read_attempt(row: &PgRow) -> Result<AttemptRow, StoreError> {
    Ok(AttemptRow {
        batch: BatchId::from_uuid(row.try_get("batch_id")?),
        n: row.try_get("n")?,
        idempotency_key: row.try_get("idempotency_key")?,
        members: row.try_get("members")?,
        started_at: row.try_get("started_at")?,
        answered_at: row.try_get("answered_at")?,
        answer: row.try_get("answer")?,
        status: row.try_get("status")?,
        provider_message_id: row.try_get("provider_message_id")?,
        is_replay: row.try_get("is_replay")?,
    })
}
