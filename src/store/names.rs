//! Search for catalog entries by a part of their names.

use super::{Store, StoreError};

impl Store {
    /// Templates, rules and event types whose names contain `text`, up to `max` of each kind, as (kind, name).
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_names(&self, text: &str, max: i64) -> Result<Vec<(String, String)>, StoreError> {
        let found = sqlx::query_as(
            "(SELECT 'template', key FROM templates WHERE strpos(lower(key), lower($1)) > 0 ORDER BY key LIMIT $2)
             UNION ALL
             (SELECT 'rule', key FROM rules WHERE strpos(lower(key), lower($1)) > 0 ORDER BY key LIMIT $2)
             UNION ALL
             (SELECT 'event type', name FROM event_types WHERE strpos(lower(name), lower($1)) > 0 ORDER BY name LIMIT $2)",
        )
        .bind(text)
        .bind(max)
        .fetch_all(self.pool())
        .await?;
        Ok(found)
    }
}
