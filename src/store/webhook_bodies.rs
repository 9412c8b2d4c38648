//! The last bodies that webhooks received, sealed, bounded by count and age.

use serde_json::Value;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{EventId, ReceivedBodyId, SourceId, TypedId, WebhookSecretId};

/// The number of accepted bodies kept for each source: enough to write a mapping.
const ACCEPTED_KEPT: i64 = 50;
/// The number of other bodies kept for each source, until the mapping is fixed.
const OTHERS_KEPT: i64 = 1_000;

/// The result for a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BodyState {
    /// It made an event.
    Accepted,
    /// No mapping matches.
    Unmatched,
    /// A mapping matches, but its result is not a valid event.
    Refused,
}

impl BodyState {
    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Unmatched => "unmatched",
            Self::Refused => "refused",
        }
    }

    fn find(word: &str) -> Option<Self> {
        [Self::Accepted, Self::Unmatched, Self::Refused].into_iter().find(|state| state.as_str() == word)
    }
}

/// A body that a webhook received.
#[derive(Debug, Clone)]
pub struct ReceivedBody {
    /// Its id.
    pub id: ReceivedBodyId,
    /// The source that sent it.
    pub source: SourceId,
    /// The secret that signed it.
    pub secret: WebhookSecretId,
    /// Its events can use sandbox apps only.
    pub is_test: bool,
    /// The result.
    pub state: BodyState,
    /// Why there is no event; never contains a value of the body.
    pub detail: String,
    /// The event that it made.
    pub event: Option<EventId>,
    /// Its size in bytes.
    pub size: usize,
    /// `{headers, body, webhook_id}`; `None` once it made an event with sensitive values.
    pub content: Option<Value>,
    /// When it was received.
    pub received_at: Timestamp,
}

/// The place that a body is bound to.
pub(super) fn body_place(id: ReceivedBodyId) -> String {
    format!("webhook_deliveries/{id}")
}

fn sealed(store: &Store, body: &ReceivedBody) -> Result<Option<Vec<u8>>, StoreError> {
    let seal = |content: &Value| store.vault().seal(&body_place(body.id), content.to_string().as_bytes());
    Ok(body.content.as_ref().map(seal).transpose()?)
}

impl Store {
    /// Stores a body, and deletes the source's oldest beyond the limit.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] without random bytes.
    pub async fn insert_received(&self, body: &ReceivedBody) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO webhook_deliveries
                (id, source_id, secret_id, is_test, state, detail, event_id, size_bytes, sealed, received_at, settled_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $10)",
        )
        .bind(body.id.uuid())
        .bind(body.source.uuid())
        .bind(body.secret.uuid())
        .bind(body.is_test)
        .bind(body.state.as_str())
        .bind(&body.detail)
        .bind(body.event.map(TypedId::uuid))
        .bind(i32::try_from(body.size).unwrap_or(i32::MAX))
        .bind(sealed(self, body)?)
        .bind(body.received_at)
        .execute(self.pool())
        .await?;
        let kept = if body.state == BodyState::Accepted { ACCEPTED_KEPT } else { OTHERS_KEPT };
        sqlx::query(
            "DELETE FROM webhook_deliveries
             WHERE source_id = $1 AND (state = 'accepted') = $2 AND id <= (
                SELECT id FROM webhook_deliveries
                WHERE source_id = $1 AND (state = 'accepted') = $2
                ORDER BY id DESC
                OFFSET $3
                LIMIT 1
             )",
        )
        .bind(body.source.uuid())
        .bind(body.state == BodyState::Accepted)
        .bind(kept)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Updates the result of a body when it was mapped again.
    ///
    /// # Errors
    /// As for [`Store::insert_received`].
    pub async fn settle_received(&self, body: &ReceivedBody, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE webhook_deliveries
             SET state = $2, detail = $3, event_id = $4, sealed = $5, settled_at = $6
             WHERE id = $1",
        )
        .bind(body.id.uuid())
        .bind(body.state.as_str())
        .bind(&body.detail)
        .bind(body.event.map(TypedId::uuid))
        .bind(sealed(self, body)?)
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// A source's last bodies, newest first: those before `before` in state `state`, if given.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] if one can't be unsealed.
    pub async fn webhook_deliveries(
        &self,
        source: SourceId,
        before: Option<ReceivedBodyId>,
        state: Option<&str>,
        limit: i64,
    ) -> Result<Vec<ReceivedBody>, StoreError> {
        let rows = sqlx::query(
            "SELECT *
             FROM webhook_deliveries
             WHERE source_id = $1 AND ($2::uuid IS NULL OR id < $2) AND ($3::text IS NULL OR state = $3)
             ORDER BY id DESC
             LIMIT $4",
        )
        .bind(source.uuid())
        .bind(before.map(TypedId::uuid))
        .bind(state)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(|row| self.read_received(row)).collect()
    }

    /// How many of a source's bodies are stored in each state, and when the last of them was received.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_received(
        &self,
        source: SourceId,
    ) -> Result<Vec<(String, i64, Timestamp)>, StoreError> {
        let rows = sqlx::query(
            "SELECT state, count(*) AS bodies, max(received_at) AS last_at
             FROM webhook_deliveries
             WHERE source_id = $1
             GROUP BY state
             ORDER BY state",
        )
        .bind(source.uuid())
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| Ok((row.try_get("state")?, row.try_get("bodies")?, row.try_get("last_at")?)))
            .collect()
    }

    /// One of a source's bodies.
    ///
    /// # Errors
    /// As for [`Store::webhook_deliveries`].
    pub async fn find_received(
        &self,
        source: SourceId,
        id: ReceivedBodyId,
    ) -> Result<Option<ReceivedBody>, StoreError> {
        let row = sqlx::query("SELECT * FROM webhook_deliveries WHERE id = $1 AND source_id = $2")
            .bind(id.uuid())
            .bind(source.uuid())
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| self.read_received(&row)).transpose()
    }

    /// Deletes bodies that were received before `before`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_received(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let gone = sqlx::query(
            "DELETE FROM webhook_deliveries
             WHERE id IN (SELECT id FROM webhook_deliveries WHERE received_at < $1 LIMIT $2)",
        )
        .bind(before)
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(gone.rows_affected())
    }

    fn read_received(&self, row: &PgRow) -> Result<ReceivedBody, StoreError> {
        let id = ReceivedBodyId::from_uuid(row.try_get("id")?);
        let corrupt =
            |column| StoreError::Corrupt { table: "webhook_deliveries", column, id: id.to_string() };
        let sealed: Option<Vec<u8>> = row.try_get("sealed")?;
        let plain = sealed.map(|sealed| self.vault().open(&body_place(id), &sealed)).transpose()?;
        let content = plain.map(|plain| serde_json::from_slice(&plain)).transpose();
        let size: i32 = row.try_get("size_bytes")?;
        Ok(ReceivedBody {
            id,
            source: SourceId::from_uuid(row.try_get("source_id")?),
            secret: WebhookSecretId::from_uuid(row.try_get("secret_id")?),
            is_test: row.try_get("is_test")?,
            state: BodyState::find(row.try_get("state")?).ok_or_else(|| corrupt("state"))?,
            detail: row.try_get("detail")?,
            event: row.try_get::<Option<uuid::Uuid>, _>("event_id")?.map(EventId::from_uuid),
            size: usize::try_from(size).unwrap_or_default(),
            content: content.map_err(|_| corrupt("sealed"))?,
            received_at: row.try_get("received_at")?,
        })
    }
}
