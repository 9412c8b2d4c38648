//! Rows of an outbox table, in the order of their ids, deleted once they are done with.
//!
//! Nothing is remembered of a position: a row that is committed late is still there when it becomes visible. The writer
//! draws the id under the person's row lock, so that the ids of one person are in the order of their commits.

use async_trait::async_trait;
use secrecy::SecretString;
use serde_json::Value;
use sqlx::postgres::{PgConnection, PgListener, PgPoolOptions};
use sqlx::{AssertSqlSafe, Column, Executor, SqlSafeStr, Statement, TypeInfo};

use super::{LOOKED_AT, Reading, begin, cells, options, quoted, read_rows};
use crate::domain::clock::Timestamp;
use crate::people::connector::definition::{OutboxSource, RowKind};
use crate::people::connector::reader::{
    Begun, Inspection, Page, Reader, SourceCount, SourceError, SourceRow,
};

/// How long a test notification may take.
const NOTIFICATION_TIME: std::time::Duration = std::time::Duration::from_secs(2);

/// The table of an outbox as SQL.
fn table(outbox: &OutboxSource) -> String {
    outbox.table.split('.').map(quoted).collect::<Vec<_>>().join(".")
}

fn columns(outbox: &OutboxSource, rows: RowKind) -> String {
    let id = quoted(&outbox.id);
    let key = outbox.key.as_ref().map_or_else(|| id.clone(), |key| quoted(key));
    format!(
        "q.{id}::text AS id, q.{key}::text AS key, NULL::timestamptz AS changed_at, false AS is_deleted, {} AS cells",
        cells(rows)
    )
}

/// The next rows of an outbox.
///
/// # Errors
/// [`SourceError`].
pub async fn next_rows(
    connection: &mut PgConnection,
    outbox: &OutboxSource,
    rows: RowKind,
    without: &[String],
    limit: i64,
) -> Result<Vec<SourceRow>, SourceError> {
    let sql = format!(
        "SELECT {} FROM {} AS q WHERE NOT q.{id}::text = ANY ($1) ORDER BY q.{id} LIMIT $2",
        columns(outbox, rows),
        table(outbox),
        id = quoted(&outbox.id)
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(without).bind(limit).persistent(false);
    read_rows(&query.fetch_all(connection).await?)
}

/// The rows of an outbox with these ids.
///
/// # Errors
/// [`SourceError`].
pub async fn rows_of(
    connection: &mut PgConnection,
    outbox: &OutboxSource,
    rows: RowKind,
    ids: &[String],
) -> Result<Vec<SourceRow>, SourceError> {
    let sql = format!(
        "SELECT {} FROM {} AS q WHERE q.{id} = ANY ($1::bigint[]) ORDER BY q.{id}",
        columns(outbox, rows),
        table(outbox),
        id = quoted(&outbox.id)
    );
    let query = sqlx::query(AssertSqlSafe(sql)).bind(ids).persistent(false);
    read_rows(&query.fetch_all(connection).await?)
}

/// Deletes rows of an outbox.
///
/// # Errors
/// [`SourceError`].
pub async fn delete_rows(
    connection: &mut PgConnection,
    outbox: &OutboxSource,
    ids: &[String],
) -> Result<(), SourceError> {
    let sql = format!("DELETE FROM {} WHERE {} = ANY ($1::bigint[])", table(outbox), quoted(&outbox.id));
    sqlx::query(AssertSqlSafe(sql)).bind(ids).persistent(false).execute(connection).await?;
    Ok(())
}

/// An outbox in another database during one poll.
pub struct OutboxReader {
    connection: PgConnection,
    outbox: OutboxSource,
    reading: Reading,
    address: SecretString,
}

impl OutboxReader {
    /// Reads an outbox over a connection.
    pub fn new(
        connection: PgConnection,
        outbox: OutboxSource,
        reading: Reading,
        address: SecretString,
    ) -> Self {
        Self { connection, outbox, reading, address }
    }

    /// Whether a notification on the channel arrives: a pooler in transaction mode drops it without an error.
    async fn is_notified(&mut self, channel: &str) -> Result<bool, SourceError> {
        let mut listener = listen(&self.address, &self.reading.name, channel).await?;
        sqlx::query("SELECT pg_notify($1, '')")
            .bind(channel)
            .persistent(false)
            .execute(&mut self.connection)
            .await?;
        Ok(matches!(tokio::time::timeout(NOTIFICATION_TIME, listener.recv()).await, Ok(Ok(_))))
    }
}

/// Listens to a channel, over a connection of its own.
///
/// # Errors
/// [`SourceError`].
pub async fn listen(address: &SecretString, name: &str, channel: &str) -> Result<PgListener, SourceError> {
    let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(options(address, name)?);
    let mut listener = PgListener::connect_with(&pool).await?;
    listener.ignore_pool_close_event(true);
    listener.listen(channel).await?;
    Ok(listener)
}

#[async_trait]
impl Reader for OutboxReader {
    async fn begin(&mut self, _position: Option<&Value>) -> Result<Begun, SourceError> {
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let now: Timestamp =
            sqlx::query_scalar("SELECT clock_timestamp()").persistent(false).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        Ok(Begun { now, until: now, held_back: None, sees_transactions: true, position: None })
    }

    async fn page(&mut self, without: &[String], limit: i64) -> Result<Page, SourceError> {
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let rows = next_rows(&mut tx, &self.outbox, self.reading.rows, without, limit).await?;
        tx.rollback().await?;
        let is_last = i64::try_from(rows.len()).unwrap_or(i64::MAX) < limit;
        Ok(Page { rows, is_last, ..Page::default() })
    }

    async fn rows(&mut self, ids: &[String]) -> Result<Vec<SourceRow>, SourceError> {
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let rows = rows_of(&mut tx, &self.outbox, self.reading.rows, ids).await?;
        tx.rollback().await?;
        Ok(rows)
    }

    async fn count(&mut self) -> Result<Option<SourceCount>, SourceError> {
        Ok(None)
    }

    async fn remove(&mut self, ids: &[String]) -> Result<(), SourceError> {
        let mut tx = begin(&mut self.connection, &self.reading, false).await?;
        delete_rows(&mut tx, &self.outbox, ids).await?;
        Ok(tx.commit().await?)
    }

    async fn inspect(&mut self) -> Result<Inspection, SourceError> {
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let columns = described(&mut tx, &self.outbox).await?;
        let rows = next_rows(&mut tx, &self.outbox, self.reading.rows, &[], LOOKED_AT).await?;
        let may_delete: bool = sqlx::query_scalar("SELECT has_table_privilege($1, 'DELETE')")
            .bind(table(&self.outbox))
            .persistent(false)
            .fetch_one(&mut *tx)
            .await?;
        tx.rollback().await?;
        let mut warnings = Vec::new();
        if !may_delete {
            warnings.push("the role may not delete from the outbox: `GRANT SELECT, DELETE` to it".to_owned());
        }
        if let Some(channel) = self.outbox.channel.clone()
            && !self.is_notified(&channel).await?
        {
            warnings.push(format!(
                "notifications on `{channel}` do not arrive: a pooler may drop them; connect directly, or rows are read at \
                 each interval only"
            ));
        }
        let guarantee =
            "every row is read, at least once; a row that is read again is recognized by its id".to_owned();
        Ok(Inspection { columns, rows, count: None, guarantee, warnings })
    }
}

/// The columns of an outbox with their types; checks those that the connector needs.
///
/// # Errors
/// [`SourceError`].
pub async fn described(
    connection: &mut PgConnection,
    outbox: &OutboxSource,
) -> Result<Vec<(String, String)>, SourceError> {
    let sql = format!("SELECT * FROM {} LIMIT 0", table(outbox));
    let statement = (&mut *connection).prepare(AssertSqlSafe(sql).into_sql_str()).await?;
    let columns: Vec<(String, String)> = statement
        .columns()
        .iter()
        .map(|column| (column.name().to_owned(), column.type_info().name().to_lowercase()))
        .collect();
    let of = |name: &str| columns.iter().find(|(column, _)| column == name).map(|(_, kind)| kind.as_str());
    match of(&outbox.id) {
        Some("int2" | "int4" | "int8") => {}
        Some(other) => {
            return Err(SourceError(format!(
                "`{}` is of type {other}; rows are read in the order of an integer",
                outbox.id
            )));
        }
        None => return Err(SourceError(format!("the outbox has no column `{}`", outbox.id))),
    }
    if let Some(key) = outbox.key.as_ref().filter(|key| of(key).is_none()) {
        return Err(SourceError(format!("the outbox has no column `{key}`")));
    }
    Ok(columns)
}
