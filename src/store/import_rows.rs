//! The staged rows of imports: each record of a file, with what is wrong with it.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};

/// A staged row.
#[derive(Debug, Clone)]
pub struct StagedRow {
    /// The physical line that it begins with.
    pub line: i64,
    /// Its text.
    pub raw: String,
    /// What is wrong with it.
    pub problem: Option<Value>,
}

/// Stages rows.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn stage(
    connection: &mut PgConnection,
    import: Uuid,
    rows: &[StagedRow],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO import_rows (import_id, line, raw, problem)
         SELECT $1, line, raw, problem::json
         FROM unnest($2::bigint[], $3::text[], $4::text[]) AS n (line, raw, problem)",
    )
    .bind(import)
    .bind(rows.iter().map(|row| row.line).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.raw.as_str()).collect::<Vec<_>>())
    .bind(rows.iter().map(|row| row.problem.as_ref().map(Value::to_string)).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// The next good rows after a line.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn next_rows(
    connection: &mut PgConnection,
    import: Uuid,
    after: i64,
    limit: i64,
) -> Result<Vec<StagedRow>, StoreError> {
    let rows = sqlx::query(
        "SELECT line, raw, problem FROM import_rows
         WHERE import_id = $1 AND line > $2 AND problem IS NULL
         ORDER BY line LIMIT $3",
    )
    .bind(import)
    .bind(after)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_row).collect()
}

/// Marks rows as rejected.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn reject(
    connection: &mut PgConnection,
    import: Uuid,
    rejected: &[(i64, Value)],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE import_rows r SET problem = n.problem::json
         FROM unnest($2::bigint[], $3::text[]) AS n (line, problem)
         WHERE r.import_id = $1 AND r.line = n.line",
    )
    .bind(import)
    .bind(rejected.iter().map(|(line, _)| *line).collect::<Vec<_>>())
    .bind(rejected.iter().map(|(_, problem)| problem.to_string()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes the good rows of an import: they are personal data that nobody needs any more.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn delete_good_rows(connection: &mut PgConnection, import: Uuid) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM import_rows WHERE import_id = $1 AND problem IS NULL")
        .bind(import)
        .execute(connection)
        .await?;
    Ok(())
}

impl Store {
    /// Rows of an import after a line: the rejected ones, or the first good ones.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn import_rows(
        &self,
        import: Uuid,
        rejected: bool,
        after: i64,
        limit: i64,
    ) -> Result<Vec<StagedRow>, StoreError> {
        let rows = sqlx::query(
            "SELECT line, raw, problem FROM import_rows
             WHERE import_id = $1 AND (problem IS NOT NULL) = $2 AND line > $3
             ORDER BY line LIMIT $4",
        )
        .bind(import)
        .bind(rejected)
        .bind(after)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter().map(read_row).collect()
    }
}

fn read_row(row: &PgRow) -> Result<StagedRow, StoreError> {
    let problem: Option<Json<Value>> = row.try_get("problem")?;
    Ok(StagedRow {
        line: row.try_get("line")?,
        raw: row.try_get("raw")?,
        problem: problem.map(|Json(problem)| problem),
    })
}
