//! Actions of `tag` and `track` rules on people at OneSignal.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::event::Recipient;
use crate::domain::id::{EventId, TypedId};

/// One planned action.
#[derive(Debug)]
pub struct NewAction<'a> {
    /// Its id.
    pub id: Uuid,
    /// The event.
    pub event: EventId,
    /// The rule's key.
    pub rule: &'a str,
    /// The app.
    pub app: AppId,
    /// `tag` or `track`.
    pub kind: &'static str,
    /// The person.
    pub recipient: &'a Recipient,
    /// The tags, or the event's name and properties.
    pub body: &'a Value,
}

/// Stores planned actions, in one statement.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_all(
    connection: &mut PgConnection,
    new: &[NewAction<'_>],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO planned_actions (id, event_id, rule_key, app_id, kind, recipient_label, recipient_id, body,
            created_at)
         SELECT id, event_id, rule_key, app_id, kind, recipient_label, recipient_id, body::json, $9
         FROM unnest($1::uuid[], $2::uuid[], $3::text[], $4::uuid[], $5::text[], $6::text[], $7::text[], $8::text[])
            AS n (id, event_id, rule_key, app_id, kind, recipient_label, recipient_id, body)",
    )
    .bind(new.iter().map(|a| a.id).collect::<Vec<_>>())
    .bind(new.iter().map(|a| a.event.uuid()).collect::<Vec<_>>())
    .bind(new.iter().map(|a| a.rule).collect::<Vec<_>>())
    .bind(new.iter().map(|a| a.app.0).collect::<Vec<_>>())
    .bind(new.iter().map(|a| a.kind).collect::<Vec<_>>())
    .bind(new.iter().map(|a| a.recipient.label.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|a| a.recipient.id.as_str()).collect::<Vec<_>>())
    .bind(new.iter().map(|a| a.body.to_string()).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}
