//! The outbox of custom events that OneSignal has not accepted yet.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::custom_event::CustomEvent;
use crate::domain::event::{Recipient, RecipientLabel};

/// A claimed custom event.
#[derive(Debug, Clone)]
pub struct ClaimedEvent {
    /// The event.
    pub event: CustomEvent,
    /// The epoch under which a result is recorded.
    pub epoch: i32,
    /// Failed attempts so far.
    pub attempts: i16,
    /// When the first attempt was made.
    pub first_attempt_at: Timestamp,
}

/// A custom event that is tried again.
#[derive(Debug, Clone, Copy)]
pub struct PostponedEvent {
    /// The event.
    pub id: Uuid,
    /// The claim's epoch.
    pub epoch: i32,
    /// When.
    pub due_at: Timestamp,
    /// Failed attempts so far.
    pub attempts: i16,
}

/// Stores custom events of one app, to be sent at once.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_all(
    connection: &mut PgConnection,
    app: AppId,
    events: &[&CustomEvent],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO custom_events (id, app_id, name, recipient_label, recipient_id, occurred_at, properties, due_at)
         SELECT id, $2, name, label, recipient, occurred_at, properties::json, $8
         FROM unnest($1::uuid[], $3::text[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
            AS n (id, name, label, recipient, occurred_at, properties)",
    )
    .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
    .bind(app.0)
    .bind(events.iter().map(|event| event.name.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.recipient.label.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.recipient.id.as_str()).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.occurred_at).collect::<Vec<_>>())
    .bind(events.iter().map(|event| event.properties.to_string()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Claims an app's due custom events until `until`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_custom_events(
        &self,
        app: AppId,
        limit: usize,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<ClaimedEvent>, StoreError> {
        let rows = sqlx::query(include_str!("sql/claim_custom_events.sql"))
            .bind(app.0)
            .bind(now)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(until)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read_claim).collect()
    }

    /// Deletes custom events that need no further attempt; those of another claim stay. Returns the deleted ones.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delete_custom_events(&self, events: &[(Uuid, i32)]) -> Result<Vec<Uuid>, StoreError> {
        let deleted = sqlx::query_scalar(
            "DELETE FROM custom_events e
             USING unnest($1::uuid[], $2::integer[]) AS d (id, epoch)
             WHERE e.id = d.id AND e.claim_epoch = d.epoch
             RETURNING e.id",
        )
        .bind(events.iter().map(|(id, _)| *id).collect::<Vec<_>>())
        .bind(events.iter().map(|(_, epoch)| *epoch).collect::<Vec<_>>());
        Ok(deleted.fetch_all(self.pool()).await?)
    }

    /// Postpones custom events; those of another claim are left alone.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn postpone_custom_events(&self, events: &[PostponedEvent]) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE custom_events e
             SET due_at = p.due_at, attempts = p.attempts,
                -- It was not sent: a later repeat can't arrive twice.
                first_attempt_at = CASE WHEN p.attempts > 0 THEN e.first_attempt_at END
             FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::smallint[])
                AS p (id, epoch, due_at, attempts)
             WHERE e.id = p.id AND e.claim_epoch = p.epoch",
        )
        .bind(events.iter().map(|event| event.id).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.epoch).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.due_at).collect::<Vec<_>>())
        .bind(events.iter().map(|event| event.attempts).collect::<Vec<_>>())
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// When the next custom event of an app is due; `None` if there are none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn next_custom_event(&self, app: AppId) -> Result<Option<Timestamp>, StoreError> {
        let next =
            sqlx::query_scalar("SELECT due_at FROM custom_events WHERE app_id = $1 ORDER BY due_at LIMIT 1");
        Ok(next.bind(app.0).fetch_optional(self.pool()).await?)
    }
}

fn read_claim(row: &PgRow) -> Result<ClaimedEvent, StoreError> {
    let label: &str = row.try_get("recipient_label")?;
    let properties: Json<Value> = row.try_get("properties")?;
    Ok(ClaimedEvent {
        event: CustomEvent {
            id: row.try_get("id")?,
            name: row.try_get("name")?,
            recipient: Recipient {
                label: RecipientLabel::from_label(label),
                id: row.try_get("recipient_id")?,
            },
            occurred_at: row.try_get("occurred_at")?,
            properties: properties.0,
        },
        epoch: row.try_get("claim_epoch")?,
        attempts: row.try_get("attempts")?,
        first_attempt_at: row.try_get("first_attempt_at")?,
    })
}
