//! What needs a person, grouped by why: held deliveries and those that ended badly.

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, TypedId, floor};

/// Deliveries that are in trouble for the same reason.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the groups")]
pub struct TroubleGroup {
    pub state: String,
    pub code: String,
    pub rule: String,
    pub template: String,
    pub count: i64,
    /// What was decided about one of them.
    pub detail: String,
    /// The newest of them.
    pub example: DeliveryId,
    pub oldest_at: Timestamp,
    pub newest_at: Timestamp,
}

/// Decisions that are looked through at most, newest first.
const DECISIONS: i64 = 50_000;

impl Store {
    /// The groups of deliveries made since `since` that need a person, largest first; and whether all were looked at.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn trouble(&self, since: Timestamp) -> Result<(Vec<TroubleGroup>, bool), StoreError> {
        let rows = sqlx::query(include_str!("sql/trouble.sql"))
            .bind(floor(since))
            .bind(DECISIONS)
            .fetch_all(self.pool())
            .await?;
        let is_complete = match rows.first() {
            Some(row) => row.try_get::<i64, _>("looked_at")? < DECISIONS,
            None => true,
        };
        let groups = rows.iter().map(|row| {
            Ok(TroubleGroup {
                state: row.try_get("state")?,
                code: row.try_get("code")?,
                rule: row.try_get("rule_key")?,
                template: row.try_get("template_key")?,
                count: row.try_get("count")?,
                detail: row.try_get("detail")?,
                example: DeliveryId::from_uuid(row.try_get::<Uuid, _>("example")?),
                oldest_at: row.try_get("oldest_at")?,
                newest_at: row.try_get("newest_at")?,
            })
        });
        Ok((groups.collect::<Result<_, StoreError>>()?, is_complete))
    }
}

impl Store {
    /// Held deliveries of one group, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn held_like(
        &self,
        (code, rule, template): (&str, &str, &str),
        limit: i64,
    ) -> Result<Vec<DeliveryId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT d.id
             FROM queue q
             JOIN deliveries d ON d.id = q.delivery_id
             JOIN LATERAL (
                SELECT c.code FROM decisions c WHERE c.delivery_id = d.id ORDER BY c.id DESC LIMIT 1
             ) AS l ON l.code = $1
             WHERE q.state = 'held' AND q.worker_id IS NULL AND d.rule_key = $2 AND d.template_key = $3
             ORDER BY d.id
             LIMIT $4",
        )
        .bind(code)
        .bind(rule)
        .bind(template)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(DeliveryId::from_uuid).collect())
    }
}
