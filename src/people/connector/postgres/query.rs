//! Rows of a query, in the order of a watermark and a key.
//!
//! A transaction that began before another one may commit later, with an older watermark. So a poll reads only rows that
//! are older than every open transaction, as far as the role may see them, and begins a while before its position. A
//! position has the watermark as the source writes it: nothing is rounded.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use sqlx::postgres::{PgConnection, PgRow};
use sqlx::{AssertSqlSafe, Column, Executor, Row, SqlSafeStr, Statement, TypeInfo};

use super::{LOOKED_AT, Reading, begin, cells, quoted, read_rows};
use crate::domain::clock::Timestamp;
use crate::people::connector::definition::{QuerySource, Start};
use crate::people::connector::reader::{
    Begun, HeldBack, Inspection, Page, Reader, SourceCount, SourceError, SourceRow,
};

/// A transaction that holds a poll back for longer is reported.
const HELD_BACK_SECONDS: i64 = 5;

/// A position: everything before it was read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Position {
    /// The watermark as the source writes it.
    watermark: String,
    /// The key of the last row with this watermark.
    key: String,
    /// The watermark that the connector began with; nothing before it is read. Empty: with the oldest row.
    floor: String,
    /// The watermark as a time.
    at: Option<Timestamp>,
}

/// The position before the oldest row.
pub fn beginning() -> Value {
    json!(Position::beginning())
}

impl Position {
    fn beginning() -> Self {
        Self { watermark: "-infinity".to_owned(), key: String::new(), floor: String::new(), at: None }
    }
}

/// A query during one poll.
pub struct QueryReader {
    connection: PgConnection,
    query: QuerySource,
    reading: Reading,
    /// What the poll reads next, and the furthest position so far.
    cursor: Option<Position>,
    furthest: Option<Position>,
    until: Timestamp,
    watermark_type: &'static str,
}

impl QueryReader {
    /// Reads a query over a connection.
    pub fn new(connection: PgConnection, query: QuerySource, reading: Reading) -> Self {
        Self {
            connection,
            query,
            reading,
            cursor: None,
            furthest: None,
            until: Timestamp::UNIX_EPOCH,
            watermark_type: "timestamptz",
        }
    }

    /// The query as a table named `q`.
    fn table(&self) -> String {
        format!("({}\n) AS q", self.query.sql.trim().trim_end_matches(';'))
    }

    fn watermark(&self) -> String {
        format!("q.{}", quoted(&self.query.watermark))
    }

    fn key(&self) -> String {
        format!("q.{}::text COLLATE \"C\"", quoted(&self.query.key))
    }

    /// A time of a parameter as the watermark's type.
    fn time(&self, parameter: &str) -> String {
        match &self.query.time_zone {
            Some(zone) if self.watermark_type == "timestamp" => {
                format!("({parameter}::timestamptz AT TIME ZONE '{}')", zone.replace('\'', "''"))
            }
            Some(_) | None => format!("{parameter}::timestamptz"),
        }
    }

    /// The watermark as a time.
    fn changed_at(&self) -> String {
        match &self.query.time_zone {
            Some(zone) if self.watermark_type == "timestamp" => {
                format!("({} AT TIME ZONE '{}')", self.watermark(), zone.replace('\'', "''"))
            }
            Some(_) | None => self.watermark(),
        }
    }

    fn is_deleted(&self) -> String {
        self.query.deleted.as_ref().map_or_else(
            || "false".to_owned(),
            |column| format!("coalesce(q.{}::text, '') NOT IN ('', 'false')", quoted(column)),
        )
    }

    fn columns(&self) -> String {
        format!(
            "q.{key}::text AS id, q.{key}::text AS key, {changed_at} AS changed_at, {is_deleted} AS is_deleted,
             {watermark}::text AS watermark, {cells} AS cells",
            key = quoted(&self.query.key),
            changed_at = self.changed_at(),
            is_deleted = self.is_deleted(),
            watermark = self.watermark(),
            cells = cells(self.reading.rows),
        )
    }

    /// The columns of the query with their types; checks those that the connector needs.
    async fn described(&mut self) -> Result<Vec<(String, String)>, SourceError> {
        let sql = format!("SELECT * FROM {} LIMIT 0", self.table());
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let statement = (&mut *tx).prepare(AssertSqlSafe(sql).into_sql_str()).await?;
        let columns: Vec<(String, String)> = statement
            .columns()
            .iter()
            .map(|column| (column.name().to_owned(), column.type_info().name().to_lowercase()))
            .collect();
        tx.rollback().await?;
        let of =
            |name: &str| columns.iter().find(|(column, _)| column == name).map(|(_, kind)| kind.as_str());
        let missing = |name: &str| SourceError(format!("the query has no column `{name}`"));
        for name in std::iter::once(&self.query.key).chain(&self.query.deleted) {
            of(name).ok_or_else(|| missing(name))?;
        }
        self.watermark_type = match of(&self.query.watermark).ok_or_else(|| missing(&self.query.watermark))? {
            "timestamptz" => "timestamptz",
            "timestamp" if self.query.time_zone.is_some() => "timestamp",
            "timestamp" => {
                return Err(SourceError(format!(
                    "`{}` is a time without a time zone: say which one it is in `time_zone`",
                    self.query.watermark
                )));
            }
            other => {
                return Err(SourceError(format!(
                    "`{}` is of type {other}; a watermark is a timestamp with time zone, or one without and a `time_zone`",
                    self.query.watermark
                )));
            }
        };
        Ok(columns)
    }

    /// The oldest open transaction of the database, and the server's time a moment ago: a transaction is shown shortly
    /// after it has taken its time.
    async fn fence(&mut self) -> Result<Begun, SourceError> {
        let lookback = self.query.lookback.as_secs_f64();
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let row = sqlx::query(
            "WITH open AS (
                SELECT 'pid ' || a.pid AS by, a.xact_start AS since
                FROM pg_stat_activity a
                WHERE a.datname = current_database() AND a.pid <> pg_backend_pid() AND a.xact_start IS NOT NULL
                  AND a.backend_type IS DISTINCT FROM 'autovacuum worker'
                UNION ALL
                SELECT 'prepared transaction ' || p.gid, p.prepared - make_interval(secs => $1)
                FROM pg_prepared_xacts p
                WHERE p.database = current_database()
             )
             SELECT clock_timestamp() AS now, o.by, o.since,
                least(o.since, clock_timestamp() - interval '250 milliseconds') AS until,
                -- A standby shows its own sessions only.
                pg_has_role(current_user, 'pg_read_all_stats', 'USAGE') AND NOT pg_is_in_recovery() AS sees_transactions
             FROM (SELECT 1) AS one
             LEFT JOIN LATERAL (SELECT * FROM open ORDER BY since LIMIT 1) AS o ON true",
        )
        .bind(lookback)
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
        tx.rollback().await?;
        let now: Timestamp = row.try_get("now")?;
        let (by, since): (Option<String>, Option<Timestamp>) = (row.try_get("by")?, row.try_get("since")?);
        let held_back = by
            .zip(since)
            .filter(|(_, since)| (now - *since).num_seconds() >= HELD_BACK_SECONDS)
            .map(|(by, since)| HeldBack { by, since });
        Ok(Begun {
            now,
            until: row.try_get("until")?,
            held_back,
            sees_transactions: row.try_get("sees_transactions")?,
            position: None,
        })
    }

    /// The start of a connector that was never polled.
    async fn first_position(&mut self) -> Result<Position, SourceError> {
        if self.query.start == Start::Beginning {
            return Ok(Position::beginning());
        }
        let sql = format!("SELECT {}::text", self.time("$1"));
        let until = self.until;
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let text: String =
            sqlx::query_scalar(AssertSqlSafe(sql)).bind(until).persistent(false).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        Ok(Position { watermark: text.clone(), key: String::new(), floor: text, at: Some(until) })
    }

    /// A while before a position, but not before the connector's beginning.
    async fn lookback_from(&mut self, position: &Position) -> Result<Position, SourceError> {
        if self.query.lookback.is_zero() || position.watermark == "-infinity" {
            return Ok(position.clone());
        }
        let kind = self.watermark_type;
        let sql = format!(
            "SELECT greatest($1::{kind} - make_interval(secs => $2), coalesce(nullif($3, ''), '-infinity')::{kind})::text"
        );
        let lookback = self.query.lookback.as_secs_f64();
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let watermark: String = sqlx::query_scalar(AssertSqlSafe(sql))
            .bind(&position.watermark)
            .bind(lookback)
            .bind(&position.floor)
            .persistent(false)
            .fetch_one(&mut *tx)
            .await?;
        tx.rollback().await?;
        Ok(Position { watermark, key: String::new(), floor: position.floor.clone(), at: None })
    }

    /// The position of a row.
    fn position_of(&self, row: &PgRow) -> Result<Position, SourceError> {
        Ok(Position {
            watermark: row.try_get("watermark")?,
            key: row.try_get::<Option<String>, _>("key")?.unwrap_or_default(),
            floor: self.cursor.as_ref().map(|cursor| cursor.floor.clone()).unwrap_or_default(),
            at: row.try_get("changed_at")?,
        })
    }

    /// What is unusual about the query at its source.
    async fn warnings(&mut self) -> Result<Vec<String>, SourceError> {
        let mut warnings = Vec::new();
        let plan = format!(
            "EXPLAIN SELECT * FROM {} WHERE {} > {} ORDER BY {} LIMIT 1",
            self.table(),
            self.watermark(),
            self.time("'2026-01-01'"),
            self.watermark(),
        );
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        // The cheapest plan that can use an index; without one a whole table is read.
        sqlx::query("SELECT set_config('enable_seqscan', 'off', true)")
            .persistent(false)
            .execute(&mut *tx)
            .await?;
        let lines: Vec<String> =
            sqlx::query_scalar(AssertSqlSafe(plan)).persistent(false).fetch_all(&mut *tx).await?;
        let can_write: bool = sqlx::query_scalar(
            "SELECT EXISTS (
                SELECT 1 FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
                WHERE c.relkind IN ('r', 'p') AND n.nspname NOT IN ('pg_catalog', 'information_schema')
                  AND has_table_privilege(c.oid, 'INSERT, UPDATE, DELETE')
             )",
        )
        .persistent(false)
        .fetch_one(&mut *tx)
        .await?;
        tx.rollback().await?;
        if lines.iter().any(|line| line.contains("Seq Scan")) {
            warnings.push(format!(
                "no index is used for `{0}`: create one on ({0}, {1}), or each poll reads the whole table",
                self.query.watermark, self.query.key
            ));
        }
        if can_write {
            warnings
                .push("the role may change tables: use one that may only read (`GRANT SELECT`)".to_owned());
        }
        Ok(warnings)
    }
}

#[async_trait]
impl Reader for QueryReader {
    async fn begin(&mut self, position: Option<&Value>) -> Result<Begun, SourceError> {
        self.described().await?;
        let begun = self.fence().await?;
        self.until = begun.until;
        let stored = position.and_then(|position| serde_json::from_value(position.clone()).ok());
        let furthest = match stored {
            Some(stored) => stored,
            None => self.first_position().await?,
        };
        self.cursor = Some(self.lookback_from(&furthest).await?);
        let position = Some(json!(furthest));
        self.furthest = Some(furthest);
        Ok(Begun { position, ..begun })
    }

    async fn page(&mut self, _without: &[String], limit: i64) -> Result<Page, SourceError> {
        let Some(cursor) = self.cursor.clone() else { return Ok(Page { is_last: true, ..Page::default() }) };
        let (watermark, key, kind) = (self.watermark(), self.key(), self.watermark_type);
        let sql = format!(
            "SELECT {columns}
             FROM {table}
             WHERE {watermark} >= $1::{kind} AND ({watermark}, coalesce({key}, '')) > ($1::{kind}, $2)
               AND {watermark} < {until} AND isfinite({watermark})
             ORDER BY {watermark}, coalesce({key}, '')
             LIMIT $4",
            columns = self.columns(),
            table = self.table(),
            until = self.time("$3"),
        );
        let until = self.until;
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(&cursor.watermark)
            .bind(&cursor.key)
            .bind(until)
            .bind(limit)
            .persistent(false)
            .fetch_all(&mut *tx)
            .await?;
        tx.rollback().await?;
        if let Some(last) = rows.last() {
            let last = self.position_of(last)?;
            let is_further =
                |furthest: &Position| (furthest.at, furthest.key.as_str()) < (last.at, last.key.as_str());
            if self.furthest.as_ref().is_none_or(is_further) {
                self.furthest = Some(last.clone());
            }
            self.cursor = Some(last);
        }
        let lookback = Some(self.query.lookback).filter(|lookback| !lookback.is_zero());
        let lookback = lookback.and_then(|lookback| chrono::TimeDelta::from_std(lookback).ok());
        let furthest = self.furthest.as_ref().and_then(|furthest| furthest.at);
        Ok(Page {
            read_again_from: lookback.zip(furthest).map(|(lookback, furthest)| furthest - lookback),
            is_last: i64::try_from(rows.len()).unwrap_or(i64::MAX) < limit,
            rows: read_rows(&rows)?,
            position: self.furthest.as_ref().map(|furthest| json!(furthest)),
        })
    }

    async fn rows(&mut self, ids: &[String]) -> Result<Vec<SourceRow>, SourceError> {
        let sql = format!(
            "SELECT {} FROM {} WHERE q.{}::text = ANY ($1) AND {} < {} AND isfinite({}) ORDER BY {}",
            self.columns(),
            self.table(),
            quoted(&self.query.key),
            self.watermark(),
            self.time("$2"),
            self.watermark(),
            self.watermark(),
        );
        let until = self.until;
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let rows = sqlx::query(AssertSqlSafe(sql))
            .bind(ids)
            .bind(until)
            .persistent(false)
            .fetch_all(&mut *tx)
            .await?;
        tx.rollback().await?;
        read_rows(&rows)
    }

    async fn count(&mut self) -> Result<Option<SourceCount>, SourceError> {
        let sql = format!(
            "SELECT count(*) FILTER (WHERE NOT {}) AS rows,
                count(*) FILTER (WHERE {watermark} IS NULL OR NOT isfinite({watermark})) AS without_watermark
             FROM {}",
            self.is_deleted(),
            self.table(),
            watermark = self.watermark(),
        );
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let row = sqlx::query(AssertSqlSafe(sql)).persistent(false).fetch_one(&mut *tx).await?;
        tx.rollback().await?;
        let count =
            SourceCount { rows: row.try_get("rows")?, without_watermark: row.try_get("without_watermark")? };
        Ok(Some(count))
    }

    async fn remove(&mut self, _ids: &[String]) -> Result<(), SourceError> {
        Ok(())
    }

    async fn inspect(&mut self) -> Result<Inspection, SourceError> {
        let columns = self.described().await?;
        let begun = self.fence().await?;
        let count = self.count().await?;
        let mut warnings = self.warnings().await?;
        if count.is_some_and(|count| count.without_watermark > 0) {
            warnings.push(format!(
                "{} rows have no `{}` and are never read",
                count.map_or(0, |count| count.without_watermark),
                self.query.watermark
            ));
        }
        let guarantee = if begun.sees_transactions {
            format!(
                "every change is read, if `{}` is set by `now()` or later in its transaction",
                self.query.watermark
            )
        } else {
            warnings.push(
                "open transactions are not visible: `GRANT pg_read_all_stats` to the role, and read from the primary"
                    .to_owned(),
            );
            format!(
                "changes that are committed more than {} after their `{}` can be missed",
                humantime_serde::re::humantime::format_duration(self.query.lookback),
                self.query.watermark
            )
        };
        let sql = format!(
            "SELECT {} FROM {} WHERE isfinite({}) ORDER BY {} DESC LIMIT $1",
            self.columns(),
            self.table(),
            self.watermark(),
            self.watermark()
        );
        let mut tx = begin(&mut self.connection, &self.reading, true).await?;
        let rows =
            sqlx::query(AssertSqlSafe(sql)).bind(LOOKED_AT).persistent(false).fetch_all(&mut *tx).await?;
        tx.rollback().await?;
        Ok(Inspection { columns, rows: read_rows(&rows)?, count, guarantee, warnings })
    }
}
