//! Sources: the systems that post events.

use sqlx::Row;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{SourceId, TypedId};

/// A source.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its id.
    pub id: SourceId,
    /// Its name.
    pub name: String,
    /// The types it may post; `None`: all.
    pub allowed_types: Option<Vec<String>>,
    /// Its rate limit, if one is set.
    pub events_per_second: Option<u32>,
    /// The locale of its events, if they name none.
    pub default_locale: Option<String>,
}

impl Store {
    /// Finds a source by name, or inserts it under `id`.
    ///
    /// # Errors
    /// [`StoreError::Database`]; an invalid name is rejected by its CHECK.
    pub async fn find_or_insert_source(
        &self,
        id: SourceId,
        name: &str,
        now: Timestamp,
    ) -> Result<SourceId, StoreError> {
        sqlx::query(
            "INSERT INTO sources (id, name, created_at) VALUES ($1, $2, $3) ON CONFLICT (name) DO NOTHING",
        )
        .bind(id.uuid())
        .bind(name)
        .bind(now)
        .execute(self.pool())
        .await?;
        let found = sqlx::query_scalar("SELECT id FROM sources WHERE name = $1")
            .bind(name)
            .fetch_one(self.pool())
            .await?;
        Ok(SourceId::from_uuid(found))
    }

    /// Every source.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn sources(&self) -> Result<Vec<Source>, StoreError> {
        let rows = sqlx::query("SELECT * FROM sources ORDER BY name").fetch_all(self.pool()).await?;
        rows.iter().map(|row| read_source(row, "id", "name")).collect()
    }

    /// The source of that name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_source(&self, name: &str) -> Result<Option<Source>, StoreError> {
        let row = sqlx::query("SELECT * FROM sources WHERE name = $1")
            .bind(name)
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| read_source(&row, "id", "name")).transpose()
    }

    /// Sets or removes a source's rate limit.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn limit_source(
        &self,
        source: SourceId,
        events_per_second: Option<u32>,
    ) -> Result<(), StoreError> {
        sqlx::query("UPDATE sources SET events_per_second = $2 WHERE id = $1")
            .bind(source.uuid())
            .bind(events_per_second.and_then(|limit| i32::try_from(limit).ok()))
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

/// Reads a source from a row with the given names of the id and name columns.
pub(super) fn read_source(row: &sqlx::postgres::PgRow, id: &str, name: &str) -> Result<Source, StoreError> {
    let limit: Option<i32> = row.try_get("events_per_second")?;
    Ok(Source {
        id: SourceId::from_uuid(row.try_get(id)?),
        name: row.try_get(name)?,
        allowed_types: row.try_get("allowed_types")?,
        events_per_second: limit.and_then(|limit| u32::try_from(limit).ok()),
        default_locale: row.try_get("default_locale")?,
    })
}
