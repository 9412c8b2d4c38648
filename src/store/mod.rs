//! Postgres: one file a table family, plain functions with plain SQL.
//!
//! Rows become domain types here; a row that can't is [`StoreError::Corrupt`]. Use cases own the transaction.
//! No statement reads the database's clock, save the one that the clock itself is made of: `$now` is passed in.

pub mod actions;
pub mod apps;
pub mod audit;
pub mod batches;
pub mod cancellable;
pub mod catalog;
pub mod clock;
pub mod collapse_heads;
pub mod consistency;
pub mod decisions;
pub mod deliveries;
pub mod delivery_reads;
pub mod digest_windows;
pub mod event_summaries;
pub mod events;
#[cfg(debug_assertions)]
pub mod fault_injection;
pub mod gates;
pub mod grants;
pub mod health;
pub mod health_metrics;
pub mod issues;
pub mod keys;
pub mod log_ins;
pub mod names;
pub mod ordering_lanes;
pub mod orphans;
pub mod people;
pub mod queue;
pub mod rate_shares;
pub mod recipients;
pub mod rejections;
pub mod replays;
pub mod retention;
pub mod rotation;
pub mod scheduled_messages;
pub mod schema;
pub mod search;
pub mod second_factors;
pub mod secrets;
pub mod sessions;
pub mod sources;
mod stale_connections;
pub mod team;
pub mod template_uploads;
pub mod templates;
pub mod test_recipients;
pub mod throttle_counters;
mod tls;
pub mod traffic;
pub mod transitions;
pub mod upload_upkeep;
pub mod version_stats;
pub mod watch;
pub mod webhook_bodies;
pub mod webhooks;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};

use crate::vault::{Vault, VaultError};

pub use tls::DatabaseTls;

/// A transaction: committed by the use case that began it, rolled back when dropped.
pub type Tx = Transaction<'static, Postgres>;

/// What can go wrong with the database.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres, or the way to it.
    #[error("failed to reach or use the database")]
    Database(#[source] sqlx::Error),
    /// The way to Postgres can't be protected.
    #[error(
        "the database's TLS can't be verified; name its authority with `?sslrootcert=FILE` in `database_url`, or write \
         `?sslmode=disable` where nobody else can reach the way to it"
    )]
    Tls(#[source] sqlx::Error),
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

/// Postgres' codes for bytes that are no text of the database's encoding, and for `\u0000` in JSON.
const BAD_TEXT: [&str; 2] = ["22021", "22P05"];
/// Postgres' code for a statement that took too long: less of it may be quick enough.
const STATEMENT_TIMEOUT: &str = "57014";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        stale_connections::notice(&error);
        if matches!(error, sqlx::Error::Tls(_)) {
            return Self::Tls(error);
        }
        Self::Database(error)
    }
}

impl StoreError {
    /// A row that can't be read.
    pub fn corrupt(table: &'static str, column: &'static str, id: impl std::fmt::Display) -> Self {
        Self::Corrupt { table, column, id: id.to_string() }
    }

    /// The error with its causes in one line, for the log.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(deeper) = cause {
            text = format!("{text}: {deeper}");
            cause = deeper.source();
        }
        text
    }

    /// Whether Postgres refused a text that it can't hold, such as one with a NUL.
    pub fn is_bad_text(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| BAD_TEXT.contains(&code.as_ref())))
    }

    /// Whether the statement itself was refused, so that the rest of a group may still go through without it.
    /// Otherwise the connection or the server is away.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error))
        if !error.code().is_some_and(|code| {
            let is_away = ["57", "53", "08"].iter().any(|class| code.starts_with(class)) || code == "25006";
            is_away && code != STATEMENT_TIMEOUT
        }))
    }

    /// Whether the statement only came at a bad moment: a lock was not had in time, or another transaction stood in the
    /// way (deadlock, serialization). The same again may go through.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error))
        if error.code().is_some_and(|code| {
            code == "55P03" || code == STATEMENT_TIMEOUT || code.starts_with("40")
        }))
    }
}

/// The way to one database, and the vault for its sealed columns.
///
/// Each user of the database has connections of its own, so that none can take them all: see [`Store::of`].
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    pools: Arc<Pools>,
    vault: Arc<Vault>,
    tls: DatabaseTls,
}

/// Who uses the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The pipeline: leases, batches, answers, and what operators do.
    Pipeline,
    /// Keys and sessions: who is asking.
    Access,
    /// Reads of the API, and changes of the catalog.
    Api,
    /// Pages of the console.
    Pages,
    /// Health checks.
    Health,
}

/// The connections of each user of the database.
#[derive(Debug)]
struct Pools {
    ingest: PgPool,
    pipeline: PgPool,
    access: PgPool,
    api: PgPool,
    pages: PgPool,
    health: PgPool,
}

/// How every session is set up.
///
/// Statements are prepared once and their plans kept: one that was planned while the queue was empty would scan it from
/// end to end for each row once it holds a million. So every plan goes by an index where there is one, and none is worth
/// compiling, whatever the planner says it costs.
pub const SESSION: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "15000"),
    ("synchronous_commit", "on"),
    ("timezone", "UTC"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// Connections of each [`User`].
const PIPELINE_CONNECTIONS: u32 = 10;
const ACCESS_CONNECTIONS: u32 = 4;
const API_CONNECTIONS: u32 = 8;
const PAGE_CONNECTIONS: u32 = 6;
const HEALTH_CONNECTIONS: u32 = 1;
/// How long a connection is kept that nobody uses.
const IDLE_TIME: Duration = Duration::from_mins(10);
/// Times that a transaction is begun anew on another connection, when the one from the pool turns out to be dead.
const BEGIN_TRIES: usize = 4;

/// How a [`Store`] uses its database.
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// How long a statement of reads and workers may take.
    pub statement_timeout: Duration,
    /// How long a statement of a page may take.
    pub page_statement_timeout: Duration,
    /// How long a statement of reads and workers waits for a row that another transaction holds.
    pub lock_timeout: Duration,
    /// How long a statement of a group commit may take.
    pub ingest_statement_timeout: Duration,
    /// How long a group commit waits for a key that another transaction holds.
    pub ingest_lock_timeout: Duration,
    /// Group commits under way at once: each has a connection of its own, apart from everything else.
    pub committers: u32,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            statement_timeout: Duration::from_secs(30),
            page_statement_timeout: Duration::from_secs(5),
            lock_timeout: Duration::from_secs(2),
            ingest_statement_timeout: Duration::from_secs(5),
            ingest_lock_timeout: Duration::from_millis(500),
            committers: 2,
        }
    }
}

impl Store {
    /// Prepares the way to `url`; connections are made when needed.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the address itself is malformed.
    pub fn new(url: &SecretString, vault: Arc<Vault>, options: StoreOptions) -> Result<Self, StoreError> {
        let url = url.expose_secret();
        // sqlx takes any scheme and goes looking for the host.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(sqlx::Error::Configuration("it does not begin with postgres://".into()).into());
        }
        let (connect, tls) = tls::verified(url.parse::<PgConnectOptions>()?.application_name("herald"), url);
        let pool = |connections, statement: Duration, lock: Duration| {
            let (statement, lock) = (statement.as_millis().to_string(), lock.as_millis().to_string());
            let connect = connect
                .clone()
                .options([("statement_timeout", statement.as_str()), ("lock_timeout", lock.as_str())])
                .options(SESSION);
            stale_connections::watch(PgPoolOptions::new())
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(5))
                .test_before_acquire(false)
                // A health check does not wait for a new connection while others keep the server busy.
                .idle_timeout((connections != HEALTH_CONNECTIONS).then_some(IDLE_TIME))
                .connect_lazy_with(connect)
        };
        let ordinary = |connections| pool(connections, options.statement_timeout, options.lock_timeout);
        let pools = Pools {
            ingest: pool(options.committers, options.ingest_statement_timeout, options.ingest_lock_timeout),
            pipeline: ordinary(PIPELINE_CONNECTIONS),
            access: ordinary(ACCESS_CONNECTIONS),
            api: ordinary(API_CONNECTIONS),
            pages: pool(PAGE_CONNECTIONS, options.page_statement_timeout, options.lock_timeout),
            health: ordinary(HEALTH_CONNECTIONS),
        };
        Ok(Self { pool: pools.pipeline.clone(), pools: Arc::new(pools), vault, tls })
    }

    /// The same database, on the connections of `user`. A new store uses those of the pipeline.
    #[must_use]
    pub fn of(&self, user: User) -> Self {
        let pool = match user {
            User::Pipeline => &self.pools.pipeline,
            User::Access => &self.pools.access,
            User::Api => &self.pools.api,
            User::Pages => &self.pools.pages,
            User::Health => &self.pools.health,
        };
        Self {
            pool: pool.clone(),
            pools: Arc::clone(&self.pools),
            vault: Arc::clone(&self.vault),
            tls: self.tls,
        }
    }

    /// How the way to the database is protected.
    pub fn tls(&self) -> DatabaseTls {
        self.tls
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
        begin(&self.pool).await
    }

    /// Begins a group commit's transaction, on a connection that nothing else uses.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database is away; trying again helps.
    pub async fn begin_ingest(&self) -> Result<Tx, StoreError> {
        begin(&self.pools.ingest).await
    }

    /// Where statements run that need no transaction around them.
    #[cfg(not(debug_assertions))]
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The same, where a simulation may step in.
    #[cfg(debug_assertions)]
    pub(crate) fn pool(&self) -> fault_injection::Statements<'_> {
        fault_injection::Statements(&self.pool)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        let Pools { ingest, pipeline, access, api, pages, health } = self.pools.as_ref();
        for pool in [ingest, pipeline, access, api, pages, health] {
            pool.close().await;
        }
    }
}

#[cfg(not(debug_assertions))]
use begin_on as begin;
#[cfg(debug_assertions)]
use fault_injection::begin;

/// Begins on a task of its own, which hands the transaction over.
///
/// A request's future is dropped when its client hangs up. If that happened half way through `BEGIN`, sqlx 0.9 would
/// return the connection to the pool inside a transaction that it does not know of; later writes on it would be answered
/// and then rolled back (transact-rs/sqlx#4393). A task is never dropped half way: without a receiver, its transaction is
/// rolled back like any other.
async fn begin_on(pool: &PgPool) -> Result<Tx, StoreError> {
    let mut tries = BEGIN_TRIES;
    loop {
        tries -= 1;
        let connection = pool.acquire().await?;
        match tokio::spawn(Transaction::begin(connection, None)).await {
            Ok(Ok(tx)) => return Ok(tx),
            // A dead connection leaves the pool with its error; no statement has run on it yet.
            Ok(Err(sqlx::Error::Io(_))) if tries > 0 => {}
            Ok(Err(error)) => return Err(error.into()),
            Err(_) => return Err(sqlx::Error::WorkerCrashed.into()),
        }
    }
}

/// What a commit came to.
#[derive(Debug)]
pub enum Committed {
    /// It stands.
    Yes,
    /// The server undid it.
    No(StoreError),
    /// The connection broke before the answer: it may stand.
    Unclear(StoreError),
}

/// Commits, and tells "undone" from "nobody knows".
pub async fn commit(tx: Tx) -> Committed {
    #[cfg(debug_assertions)]
    return fault_injection::commit(tx).await;
    #[cfg(not(debug_assertions))]
    commit_now(tx).await
}

async fn commit_now(tx: Tx) -> Committed {
    match tx.commit().await {
        Ok(()) => Committed::Yes,
        Err(error @ sqlx::Error::Database(_)) => {
            let error = StoreError::from(error);
            if error.is_refusal() { Committed::No(error) } else { Committed::Unclear(error) }
        }
        Err(error) => Committed::Unclear(error.into()),
    }
}

/// SHA-256 of a piece of content, to find the same again.
pub fn content_hash(content: &[u8]) -> [u8; 32] {
    crate::vault::sha256(content)
}
