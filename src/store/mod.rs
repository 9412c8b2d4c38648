//! Postgres: one file a table family, plain functions with plain SQL.
//!
//! Rows become domain types here; a row that can't is [`StoreError::Corrupt`]. Use cases own the transaction.
//! No statement reads the database's clock, save the one that the clock itself is made of: `$now` is passed in.

pub mod apps;
pub mod batches;
pub mod catalog;
pub mod clock;
pub mod decisions;
pub mod deliveries;
pub mod events;
pub mod gates;
pub mod health;
pub mod keys;
pub mod leases;
pub mod listing;
pub mod people;
pub mod queue;
pub mod results;
pub mod retention;
pub mod schema;
pub mod secrets;
pub mod sources;
pub mod uploads;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Connection, PgConnection, Postgres, Transaction};

use crate::vault::{Vault, VaultError};

/// A transaction: committed by the use case that began it, rolled back when dropped.
pub type Tx = Transaction<'static, Postgres>;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres, or the way to it.
    #[error("failed to reach or use the database")]
    Database(#[from] sqlx::Error),
    /// A row that this version can't read.
    #[error("{table} {id}: column {column} can't be read")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        id: String,
    },
    /// A sealed value does not open.
    #[error("failed to open a sealed value")]
    Sealed(#[from] VaultError),
    /// The migrations don't fit.
    #[error("failed to migrate the schema")]
    Migration(#[from] sqlx::migrate::MigrateError),
    /// The server's settings can lose what was committed.
    #[error(
        "`{setting}` is off: this Postgres can lose commits; switch it on, or set allow_unsafe_postgres for a throw-away cluster"
    )]
    Unsafe {
        /// The setting.
        setting: &'static str,
    },
}

impl StoreError {
    /// A row that can't be read.
    pub fn corrupt(table: &'static str, column: &'static str, id: impl ToString) -> Self {
        Self::Corrupt { table, column, id: id.to_string() }
    }

    /// Whether the statement itself was refused, so that the rest of a group may still go through without it.
    /// Otherwise the connection or the server is away.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error))
            if !error.code().is_some_and(|code| code.starts_with("57") || code.starts_with("53") || code.starts_with("08") || code == "25006"))
    }

    /// Whether a lock was not had in time.
    pub fn is_lock_timeout(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error)) if error.code().is_some_and(|code| code == "55P03"))
    }
}

/// The way to one database, and the vault for its sealed columns.
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    options: PgConnectOptions,
    vault: Arc<Vault>,
}

/// Connections for reads and for the workers; ingest has its own.
const POOL_CONNECTIONS: u32 = 10;

impl Store {
    /// Prepares the way to `url`; connections are made when needed.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the address itself is malformed.
    pub fn new(
        url: &SecretString,
        vault: Arc<Vault>,
        statement_timeout: Duration,
    ) -> Result<Self, StoreError> {
        let millis = statement_timeout.as_millis().to_string();
        let options = url.expose_secret().parse::<PgConnectOptions>()?.application_name("herald").options([
            ("statement_timeout", millis.as_str()),
            ("lock_timeout", "2000"),
            ("idle_in_transaction_session_timeout", "15000"),
            ("synchronous_commit", "on"),
            ("timezone", "UTC"),
        ]);
        let pool = PgPoolOptions::new()
            .max_connections(POOL_CONNECTIONS)
            .acquire_timeout(Duration::from_secs(5))
            .test_before_acquire(false)
            .connect_lazy_with(options.clone());
        Ok(Self { pool, options, vault })
    }

    /// The vault that sealed columns are opened with.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database is away; trying again helps.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        Ok(self.pool.begin().await?)
    }

    /// A connection of its own, outside the pool, for a task that always needs one.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database is away; trying again helps.
    pub async fn connect(&self) -> Result<PgConnection, StoreError> {
        Ok(PgConnection::connect_with(&self.options).await?)
    }

    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// Closes every connection of the pool.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// Sets how long statements of this connection wait for a lock.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_lock_timeout(connection: &mut PgConnection, timeout: Duration) -> Result<(), StoreError> {
    sqlx::query("SELECT set_config('lock_timeout', $1, false)")
        .bind(format!("{}ms", timeout.as_millis()))
        .execute(connection)
        .await?;
    Ok(())
}
