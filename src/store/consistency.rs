//! The ledger: whether everything that was taken is accounted for.

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::floor;

/// One line of the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyLine {
    /// What is counted.
    pub name: String,
    /// How many there are.
    pub count: i64,
    /// Whether there should be none.
    pub must_be_none: bool,
    /// One of them, by its UUID, where there should be none.
    pub example: Option<Uuid>,
}

impl ConsistencyLine {
    /// Whether something does not add up here.
    pub fn is_wrong(&self) -> bool {
        self.must_be_none && self.count > 0
    }
}

impl Store {
    /// The ledger of what was taken since `since`, all of it at the same moment.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn ledger(&self, since: Timestamp) -> Result<Vec<ConsistencyLine>, StoreError> {
        let rows =
            sqlx::query(include_str!("sql/ledger.sql")).bind(floor(since)).fetch_all(self.pool()).await?;
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
