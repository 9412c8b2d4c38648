//! Reading the feed of outcomes.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::outcomes::FeedEntry;
use super::{Store, StoreError};
use crate::domain::id::{DeliveryId, TypedId};

/// What the feed contains.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FeedBounds {
    /// The number before its oldest entry: reading after it misses nothing that is kept.
    pub oldest: i64,
    /// The number of its newest entry.
    pub newest: i64,
}

impl Store {
    /// The feed's entries after a number, in their order.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn feed_after(&self, after: i64, limit: i64) -> Result<Vec<FeedEntry>, StoreError> {
        let rows = sqlx::query("SELECT * FROM outcome_feed WHERE number > $1 ORDER BY number LIMIT $2")
            .bind(after)
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        let read = |row: &PgRow| {
            Ok(FeedEntry {
                number: row.try_get("number")?,
                recorded_at: row.try_get("recorded_at")?,
                delivery: DeliveryId::from_uuid(row.try_get("delivery_id")?),
                body: row.try_get("body")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// The feed's bounds, at one moment.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn feed_bounds(&self) -> Result<FeedBounds, StoreError> {
        let row = sqlx::query(
            "SELECT p.number, coalesce((SELECT min(number) - 1 FROM outcome_feed), p.number) AS oldest
             FROM outcome_position p",
        )
        .fetch_one(self.pool())
        .await?;
        Ok(FeedBounds { oldest: row.try_get("oldest")?, newest: row.try_get("number")? })
    }
}
