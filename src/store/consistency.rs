//! The consistency check: whether everything that was accepted is accounted for.

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::floor;

/// One line of the consistency check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyLine {
    /// What is counted.
    pub name: String,
    /// How many there are.
    pub count: i64,
    /// Whether the count should be zero.
    pub must_be_none: bool,
    /// The UUID of one of them, if the count should be zero.
    pub example: Option<Uuid>,
}

impl ConsistencyLine {
    /// Whether this line is inconsistent.
    pub fn is_wrong(&self) -> bool {
        self.must_be_none && self.count > 0
    }
}

impl Store {
    /// The consistency check of what was accepted since `since`, all of it at the same moment.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn check_consistency(&self, since: Timestamp) -> Result<Vec<ConsistencyLine>, StoreError> {
        let rows = sqlx::query(include_str!("sql/consistency.sql"))
            .bind(floor(since))
            .fetch_all(self.pool())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(ConsistencyLine {
                    name: row.try_get("name")?,
                    count: row.try_get("count")?,
                    must_be_none: row.try_get("is_wrong")?,
                    example: row.try_get("example")?,
                })
            })
            .collect()
    }
}
