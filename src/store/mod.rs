//! Postgres: one file per table family, plain functions with plain SQL.
//!
//! Rows become domain types here; a row that can't be converted is [`StoreError::Corrupt`]. Use cases own the
//! transaction. No statement reads the database's clock, except for the one that the clock itself uses: `$now` is
//! passed in.

pub mod actions;
pub mod apps;
pub mod audit;
pub mod batches;
pub mod cancellable;
pub mod catalog;
pub mod clock;
pub mod collapse_heads;
mod commits;
pub mod connector_rows;
pub mod connectors;
pub mod consistency;
pub mod custom_events;
mod days;
pub mod decisions;
pub mod deliveries;
pub mod delivery_reads;
pub mod digest_windows;
pub mod erased_history;
mod erased_outcomes;
pub mod erasure_restores;
pub mod erasures;
mod error;
pub mod event_summaries;
pub mod events;
pub mod fact_waits;
#[cfg(debug_assertions)]
pub mod fault_injection;
pub mod gates;
pub mod grants;
pub mod health;
pub mod health_metrics;
pub mod import_rows;
pub mod imports;
pub mod issues;
pub mod keys;
pub mod log_ins;
mod migrations;
pub mod names;
pub mod opt_outs;
pub mod ordering_lanes;
pub mod orphans;
pub mod outcome_feed;
pub mod outcome_reports;
pub mod outcome_stats;
pub mod outcomes;
pub mod people;
pub mod provider_messages;
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
pub mod user_removal;
pub mod user_writes;
pub mod users;
pub mod version_stats;
pub mod watch;
pub mod webhook_bodies;
pub mod webhooks;
mod windows;
pub mod workers;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use sqlx::postgres::{PgConnectOptions, PgPool, PgPoolOptions};
use sqlx::{Postgres, Transaction};
use tokio::sync::OnceCell;

use crate::vault::{DigestKey, Vault};

pub use commits::{Committed, commit};
pub use error::StoreError;
pub use tls::{DatabaseTls, verified};

/// A transaction: committed by the use case that began it, rolled back when dropped.
pub type Tx = Transaction<'static, Postgres>;

/// The connections to one database, and the vault for its sealed columns.
///
/// Each user of the database has its own connections, so that none can take them all: see [`Store::of`].
#[derive(Debug, Clone)]
pub struct Store {
    pool: PgPool,
    pools: Arc<Pools>,
    vault: Arc<Vault>,
    tls: DatabaseTls,
    known_days: Arc<windows::KnownDays>,
    erasure_key: Arc<OnceCell<DigestKey>>,
}

/// Who uses the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum User {
    /// The pipeline: leases, batches, answers, and what operators do.
    Pipeline,
    /// Keys and sessions: authentication.
    Access,
    /// Reads of the API, and changes of the catalog.
    Api,
    /// Users and custom events.
    People,
    /// Outcomes.
    Archive,
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
    people: PgPool,
    archive: PgPool,
    pages: PgPool,
    health: PgPool,
}

/// The set-up of every session.
///
/// Statements are prepared once and their plans cached: one that was planned while the queue was empty would scan it
/// sequentially for each row once it contains a million. So every plan uses an index if there is one, and none is
/// JIT-compiled, whatever the planner's cost estimate.
pub const SESSION: [(&str, &str); 5] = [
    ("idle_in_transaction_session_timeout", "15000"),
    ("synchronous_commit", "on"),
    ("timezone", "UTC"),
    ("enable_seqscan", "off"),
    ("jit", "off"),
];

/// How the pipeline's statements are planned: once on each connection, for any number of rows. Otherwise, each call with
/// few rows would be planned again, which takes longer than its execution.
const PLANNED_ONCE: &str = "force_generic_plan";
/// Connections of each [`User`].
const PIPELINE_CONNECTIONS: u32 = 10;
const ACCESS_CONNECTIONS: u32 = 4;
const API_CONNECTIONS: u32 = 8;
const PEOPLE_CONNECTIONS: u32 = 6;
/// One that stores reports and one that records them.
const ARCHIVE_CONNECTIONS: u32 = 2;
const PAGE_CONNECTIONS: u32 = 6;
const HEALTH_CONNECTIONS: u32 = 1;
/// How long an unused connection is kept.
const IDLE_TIME: Duration = Duration::from_mins(10);
/// How often a transaction is retried on another connection when the one from the pool turns out to be dead.
const BEGIN_TRIES: usize = 4;

/// The options of a [`Store`].
#[derive(Debug, Clone, Copy)]
pub struct StoreOptions {
    /// The statement timeout of reads and workers.
    pub statement_timeout: Duration,
    /// The statement timeout of pages.
    pub page_statement_timeout: Duration,
    /// How long a statement of reads and workers waits for a locked row.
    pub lock_timeout: Duration,
    /// The statement timeout of a group commit.
    pub ingest_statement_timeout: Duration,
    /// How long a group commit waits for a locked key.
    pub ingest_lock_timeout: Duration,
    /// The number of concurrent group commits: each has a connection of its own, separate from everything else.
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
    /// Prepares the connections to `url`; they are opened when needed.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the address itself is malformed.
    pub fn new(url: &SecretString, vault: Arc<Vault>, options: StoreOptions) -> Result<Self, StoreError> {
        let url = url.expose_secret();
        // sqlx accepts any scheme and tries to resolve the host.
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.starts_with(scheme)) {
            return Err(sqlx::Error::Configuration("it does not start with postgres://".into()).into());
        }
        let name = session_name(&vault);
        let (connect, tls) = verified(url.parse::<PgConnectOptions>()?.application_name(&name), url);
        let pool = |connections, statement: Duration, lock: Duration, plans| {
            let (statement, lock) = (statement.as_millis().to_string(), lock.as_millis().to_string());
            let connect = connect
                .clone()
                .options([("statement_timeout", statement.as_str()), ("lock_timeout", lock.as_str())])
                .options([("plan_cache_mode", plans)])
                .options(SESSION);
            stale_connections::watch(PgPoolOptions::new())
                .max_connections(connections)
                .acquire_timeout(Duration::from_secs(5))
                .test_before_acquire(false)
                // A health check does not wait for a new connection while others keep the server busy.
                .idle_timeout((connections != HEALTH_CONNECTIONS).then_some(IDLE_TIME))
                .connect_lazy_with(connect)
        };
        let plain =
            |connections, plans| pool(connections, options.statement_timeout, options.lock_timeout, plans);
        let ordinary = |connections| plain(connections, "auto");
        let pools = Pools {
            ingest: pool(
                options.committers,
                options.ingest_statement_timeout,
                options.ingest_lock_timeout,
                PLANNED_ONCE,
            ),
            pipeline: plain(PIPELINE_CONNECTIONS, PLANNED_ONCE),
            access: ordinary(ACCESS_CONNECTIONS),
            api: ordinary(API_CONNECTIONS),
            people: ordinary(PEOPLE_CONNECTIONS),
            archive: ordinary(ARCHIVE_CONNECTIONS),
            pages: pool(PAGE_CONNECTIONS, options.page_statement_timeout, options.lock_timeout, "auto"),
            health: ordinary(HEALTH_CONNECTIONS),
        };
        let pool = pools.pipeline.clone();
        Ok(Self {
            pool,
            pools: Arc::new(pools),
            vault,
            tls,
            known_days: Arc::default(),
            erasure_key: Arc::default(),
        })
    }

    /// The same database, with the connections of `user`. A new store uses those of the pipeline.
    #[must_use]
    pub fn of(&self, user: User) -> Self {
        let pool = match user {
            User::Pipeline => &self.pools.pipeline,
            User::Access => &self.pools.access,
            User::Api => &self.pools.api,
            User::People => &self.pools.people,
            User::Archive => &self.pools.archive,
            User::Pages => &self.pools.pages,
            User::Health => &self.pools.health,
        };
        Self {
            pool: pool.clone(),
            pools: Arc::clone(&self.pools),
            vault: Arc::clone(&self.vault),
            tls: self.tls,
            known_days: Arc::clone(&self.known_days),
            erasure_key: Arc::clone(&self.erasure_key),
        }
    }

    /// The same connections, but nothing is remembered of the database: as in a process that has just started.
    #[must_use]
    pub fn afresh(&self) -> Self {
        Self { known_days: Arc::default(), ..self.clone() }
    }

    /// How the connections to the database are secured.
    pub fn tls(&self) -> DatabaseTls {
        self.tls
    }

    /// The vault for sealed columns.
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// Begins a transaction.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database is unavailable; retrying helps.
    pub async fn begin(&self) -> Result<Tx, StoreError> {
        begin(&self.pool).await
    }

    /// Begins a group commit's transaction, on a reserved connection.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database is unavailable; retrying helps.
    pub async fn begin_ingest(&self) -> Result<Tx, StoreError> {
        begin(&self.pools.ingest).await
    }

    /// The executor for statements without a transaction.
    #[cfg(not(debug_assertions))]
    pub(crate) fn pool(&self) -> &PgPool {
        &self.pool
    }

    /// The same, with fault injection in simulations.
    #[cfg(debug_assertions)]
    pub(crate) fn pool(&self) -> fault_injection::Statements<'_> {
        fault_injection::Statements(&self.pool)
    }

    /// Closes every connection.
    pub async fn close(&self) {
        let Pools { ingest, pipeline, access, api, people, archive, pages, health } = self.pools.as_ref();
        for pool in [ingest, pipeline, access, api, people, archive, pages, health] {
            pool.close().await;
        }
    }
}

/// The name of a process's sessions in Postgres: which secret key it encrypts with, and its host, so that a rotation of
/// the key sees every process that is connected.
fn session_name(vault: &Vault) -> String {
    let key = u32::from_be_bytes(vault.present_id());
    let host = nix::unistd::gethostname().ok().and_then(|host| host.into_string().ok());
    format!("herald {key:08x} {}", host.as_deref().unwrap_or("unknown"))
}

#[cfg(not(debug_assertions))]
use begin_on as begin;
#[cfg(debug_assertions)]
use fault_injection::begin;

/// Begins on a separate task, which returns the transaction.
///
/// A request's future is dropped when its client disconnects. If that happened in the middle of `BEGIN`, sqlx 0.9 would
/// return the connection to the pool inside a transaction that it does not know of; later writes on it would be
/// acknowledged and then rolled back (transact-rs/sqlx#4393). A task is never dropped halfway: without a receiver, its
/// transaction is rolled back like any other.
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

/// SHA-256 of a piece of content, to recognize it.
pub fn content_hash(content: &[u8]) -> [u8; 32] {
    crate::vault::sha256(content)
}
