//! Actions of `tag` and `track` rules on people at OneSignal.

use serde_json::Value;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::{Days, parts};
use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::event::Recipient;
use crate::domain::id::{EventId, TypedId, same_millisecond};

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

/// How an action ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EndState {
    /// OneSignal confirmed it.
    Done,
    /// OneSignal refused it.
    Refused,
    /// OneSignal did not confirm it in time.
    Expired,
}

impl EndState {
    /// The state as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Expired => "expired",
        }
    }
}

/// The end of an action.
#[derive(Debug, Clone)]
pub struct ActionEnd {
    /// The action.
    pub action: Uuid,
    /// How it ended.
    pub state: EndState,
    /// Why; empty if it is done.
    pub detail: String,
}

/// A tag action that waits for a write of its person.
#[derive(Debug, Clone)]
pub struct TagAction {
    /// The action.
    pub action: Uuid,
    /// The app.
    pub app: AppId,
    /// The person.
    pub user: Uuid,
    /// The version of the write that carries its tags.
    pub version: i64,
    /// The names of its tags, as JSON.
    pub tags: Value,
}

/// Stores which writes tag actions wait for.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn await_writes(connection: &mut PgConnection, actions: &[TagAction]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO tag_actions (action_id, app_id, user_id, version, tags)
         SELECT n.id, n.app, n.person, n.version, ARRAY(SELECT json_array_elements_text(n.tags::json))
         FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::text[])
            AS n (id, app, person, version, tags)",
    )
    .bind(actions.iter().map(|action| action.action).collect::<Vec<_>>())
    .bind(actions.iter().map(|action| action.app.0).collect::<Vec<_>>())
    .bind(actions.iter().map(|action| action.user).collect::<Vec<_>>())
    .bind(actions.iter().map(|action| action.version).collect::<Vec<_>>())
    .bind(actions.iter().map(|action| action.tags.to_string()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// An event's action, with what became of it.
#[derive(Debug, Clone)]
pub struct StoredAction {
    /// Its id.
    pub id: Uuid,
    /// The rule's key.
    pub rule: String,
    /// The app.
    pub app: AppId,
    /// `tag` or `track`.
    pub kind: String,
    /// The person: label and id.
    pub recipient: (String, String),
    /// The tags, or the custom event's name and properties.
    pub body: Value,
    /// `planned`, `done`, `refused` or `expired`.
    pub state: String,
    /// Why it ended so; empty if it is done or planned.
    pub detail: String,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

impl Store {
    /// Records how actions ended; one that has already ended is left alone.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn end_actions(&self, ends: &[ActionEnd], now: Timestamp) -> Result<(), StoreError> {
        // The ids are sorted and none occurs twice: see finish_deliveries.sql.
        let query = "UPDATE planned_actions p
            SET state = ($2::text[])[width_bucket(p.id, $1)], detail = ($3::text[])[width_bucket(p.id, $1)],
                finished_at = $4
            WHERE p.id = ANY ($1::uuid[]) AND {days of p.id} AND p.state = 'planned'";
        for (days, ends) in parts(ends, |end| end.action) {
            sqlx::query(days.fill(query))
                .bind(ends.iter().map(|end| end.action).collect::<Vec<_>>())
                .bind(ends.iter().map(|end| end.state.as_str()).collect::<Vec<_>>())
                .bind(ends.iter().map(|end| end.detail.as_str()).collect::<Vec<_>>())
                .bind(now)
                .execute(self.pool())
                .await?;
        }
        Ok(())
    }

    /// The first actions of an event, up to `limit`. They were created in the same millisecond as the event.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn actions_of(&self, event: EventId, limit: i64) -> Result<Vec<StoredAction>, StoreError> {
        let (first, end) = same_millisecond(event.uuid());
        let rows = sqlx::query(Days::of(event.uuid()).fill(
            "SELECT id, rule_key, app_id, kind, recipient_label, recipient_id, body, state, detail, finished_at
             FROM planned_actions
             WHERE event_id = $1 AND id >= $2 AND id < $3 AND {days of id}
             ORDER BY id
             LIMIT $4",
        ))
        .bind(event.uuid())
        .bind(first)
        .bind(end)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        let read = rows.iter().map(|row| {
            let Json(body) = row.try_get("body")?;
            Ok(StoredAction {
                id: row.try_get("id")?,
                rule: row.try_get("rule_key")?,
                app: AppId(row.try_get("app_id")?),
                kind: row.try_get("kind")?,
                recipient: (row.try_get("recipient_label")?, row.try_get("recipient_id")?),
                body,
                state: row.try_get("state")?,
                detail: row.try_get("detail")?,
                finished_at: row.try_get("finished_at")?,
            })
        });
        read.collect()
    }
}
