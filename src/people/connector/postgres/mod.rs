//! Sources in Postgres. Each statement is a transaction of its own with its limits set inside, so that it works through
//! a pooler too, and a query's transaction is read-only.

pub mod outbox;
pub mod query;

use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgRow};
use sqlx::{Connection, Postgres, Row, Transaction};

use super::definition::{RowKind, Source};
use super::reader::{Reader, SourceError, SourceRow};
use crate::store;

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Rows that a look at a source returns.
const LOOKED_AT: i64 = 5;

/// How a source is read.
#[derive(Debug, Clone)]
pub struct Reading {
    /// The connector's name, which its sessions carry.
    pub name: String,
    /// What rows become: it decides how their columns are read.
    pub rows: RowKind,
    /// The longest statement.
    pub statement_timeout: Duration,
}

/// Opens a source for one poll.
///
/// # Errors
/// [`SourceError`] if it can't be reached.
pub async fn open(
    address: &SecretString,
    source: Source<'_>,
    reading: Reading,
) -> Result<Box<dyn Reader>, SourceError> {
    let connection = connect(address, &reading.name).await?;
    Ok(match source {
        Source::Query(query) => Box::new(query::QueryReader::new(connection, query.clone(), reading)),
        Source::Outbox(outbox) => {
            Box::new(outbox::OutboxReader::new(connection, outbox.clone(), reading, address.clone()))
        }
    })
}

/// The options of a connection to a source, with TLS verified unless the address says otherwise.
///
/// # Errors
/// [`SourceError`] if the address can't be read.
pub fn options(address: &SecretString, name: &str) -> Result<PgConnectOptions, SourceError> {
    let url = address.expose_secret();
    let invalid = || {
        SourceError(
            "the connection is not an address such as `postgres://user:password@host/database`".to_owned(),
        )
    };
    if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
        return Err(invalid());
    }
    let options: PgConnectOptions = url.parse().map_err(|_| invalid())?;
    let name: String = format!("herald connector {name}").chars().take(63).collect();
    // A pooler may give each transaction another session, so no statement is kept.
    Ok(store::verified(options.application_name(&name).statement_cache_capacity(0), url).0)
}

async fn connect(address: &SecretString, name: &str) -> Result<PgConnection, SourceError> {
    let options = options(address, name)?;
    match tokio::time::timeout(CONNECT_TIMEOUT, PgConnection::connect_with(&options)).await {
        Ok(Ok(connection)) => Ok(connection),
        Ok(Err(error)) => Err(error.into()),
        Err(_) => Err(SourceError("the source did not answer within 10 seconds".to_owned())),
    }
}

impl From<sqlx::Error> for SourceError {
    /// The message without values of rows: Postgres puts those into the detail.
    fn from(error: sqlx::Error) -> Self {
        Self(match &error {
            sqlx::Error::Database(refused) => match refused.code() {
                Some(code) => format!("{} (SQLSTATE {code})", refused.message()),
                None => refused.message().to_owned(),
            },
            sqlx::Error::Io(error) => format!("the source can't be reached: {error}"),
            sqlx::Error::Tls(error) => format!(
                "the source's TLS certificate can't be verified ({error}); name its CA with `?sslrootcert=FILE` in the \
                 connection"
            ),
            other => other.to_string(),
        })
    }
}

/// Begins a transaction with the limits of a connector's statements.
async fn begin<'c>(
    connection: &'c mut PgConnection,
    reading: &Reading,
    is_read_only: bool,
) -> Result<Transaction<'c, Postgres>, SourceError> {
    let how = if is_read_only { "BEGIN READ ONLY" } else { "BEGIN" };
    let mut tx = connection.begin_with(how).await?;
    sqlx::query(
        "SELECT set_config('statement_timeout', $1, true), set_config('lock_timeout', '5s', true),
            set_config('idle_in_transaction_session_timeout', '15s', true), set_config('timezone', 'UTC', true),
            set_config('datestyle', 'ISO', true)",
    )
    .bind(reading.statement_timeout.as_millis().to_string())
    .persistent(false)
    .execute(&mut *tx)
    .await?;
    Ok(tx)
}

/// A name as SQL.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// A row's columns as one JSON object: of users as texts, which keep every digit; of events with their types.
fn cells(rows: RowKind) -> &'static str {
    match rows {
        RowKind::Users => "(SELECT jsonb_object_agg(c.key, c.value) FROM jsonb_each_text(to_jsonb(q)) AS c)",
        RowKind::Events => "to_jsonb(q)",
    }
}

/// Reads rows with the columns `id`, `key`, `changed_at`, `is_deleted` and `cells`.
fn read_rows(rows: &[PgRow]) -> Result<Vec<SourceRow>, SourceError> {
    rows.iter()
        .map(|row| {
            let cells: Option<sqlx::types::Json<serde_json::Map<String, serde_json::Value>>> =
                row.try_get("cells")?;
            Ok(SourceRow {
                id: row.try_get::<Option<String>, _>("id")?.unwrap_or_default(),
                key: row.try_get::<Option<String>, _>("key")?.unwrap_or_default(),
                changed_at: row.try_get("changed_at")?,
                is_deleted: row.try_get("is_deleted")?,
                cells: cells.map(|cells| cells.0).unwrap_or_default(),
            })
        })
        .collect()
}
