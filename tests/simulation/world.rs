//! A database with the simulation's catalog in it, made once and emptied before each seed.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use herald::app::{Herald, Overrides, pipeline_limits};
use herald::catalog::{Applying, By};
use herald::config::{Loader, Settings};
use herald::domain::app::{App, AppId};
use herald::domain::clock::{Clock, TestClock, Timestamp};
use herald::domain::id::{IdSource, KeyId, SourceId, TypedId};
use herald::pipeline::PipelineLimits;
use herald::provider::onesignal::OneSignal as Adapter;
use herald::store::{Store, StoreOptions};
use herald::vault::Vault;
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use uuid::Uuid;

use crate::catalog;
use crate::control::{Control, Odds};
use crate::onesignal::OneSignal;
use crate::provider::{Provider, TIMEOUTS};
use crate::support::database::{self, Database};

/// When every seed begins.
pub fn start_of_time() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().expect("a time")
}

const BY: By<'_> = By::unlimited("simulation", "");
/// The most replicas of a seed.
pub const REPLICAS: usize = 3;
const SECOND_APP: &str = "5a0d0000-0000-4000-8000-000000000002";

/// One database, to be used by one seed after the other.
pub struct World {
    /// Dropped with its last user.
    _database: Database,
    /// Sees everything and meets no fault.
    pub books: PgPool,
    pub adapter: Arc<Adapter>,
    pub source: SourceId,
    pub limits: PipelineLimits,
    pub namespace: Uuid,
    /// What OneSignal holds at the start.
    pub templates: BTreeMap<String, (String, String)>,
    /// The connections of each replica, kept from one seed to the next: a new connection costs Postgres as much as
    /// hundreds of statements, since it reads the catalog of every partition and prepares every statement.
    stores: Vec<Store>,
}

impl World {
    pub async fn new() -> Self {
        herald::app::choose_tls();
        let database = database::fresh().await;
        let books = PgPoolOptions::new().max_connections(1).connect(&database).await.expect("connected");
        let adapter = Arc::new(Adapter::new(TIMEOUTS).expect("TLS"));
        let clock = Arc::new(TestClock::at(start_of_time()));
        let onesignal = Arc::new(OneSignal::new(0, Arc::clone(&clock), BTreeMap::new(), false));
        let provider = Provider {
            onesignal: Arc::clone(&onesignal),
            adapter: Arc::clone(&adapter),
            control: Arc::new(Control::new(0, Odds::NONE)),
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            books: books.clone(),
            tamper: None,
        };
        let settings = settings(&database);
        let overrides = Overrides {
            clock: Some(clock as Arc<dyn Clock>),
            ids: Some(Arc::new(IdSource::seeded(0))),
            provider: Some(Arc::new(provider)),
            ..Overrides::default()
        };
        let limits = limits(&settings);
        let herald = Herald::build(settings, overrides).await.expect("Herald");
        herald.store.upsert_app(&second_app(), start_of_time()).await.expect("a second app");
        for newer in [false, true] {
            let mut files = catalog::files();
            if newer {
                let copy = "+++\nheadings = \"Newer news\"\n+++\n{{ data.n }}".to_owned();
                files.insert("templates/note-push/push.en.liquid".into(), copy);
            }
            let applying = Applying { accepts_held_events: true, ..Applying::default() };
            herald.publisher.apply(&files, applying, BY).await.expect("a catalog");
        }
        let id = SourceId::from_uuid(Uuid::from_u128(77));
        let source = herald.store.find_or_insert_source(id, "shop", start_of_time()).await.expect("a source");
        let namespace = herald.store.namespace().await.expect("a namespace");
        herald.store.close().await;
        sqlx::raw_sql(include_str!("watch.sql")).execute(&books).await.expect("a watch");
        let stores: Vec<Store> = (0..REPLICAS).map(|_| store(&database)).collect();
        for store in &stores {
            // What a process reads once and keeps: a seed executes the same statements, whether it is the first or not.
            store.erasure_key().await.expect("a key");
        }
        Self {
            _database: database,
            books,
            adapter,
            source,
            limits,
            namespace,
            templates: onesignal.templates(),
            stores,
        }
    }

    /// The connections of one replica, which has just started.
    pub fn store(&self, slot: usize) -> Store {
        self.stores[slot].afresh()
    }

    /// Empties everything that a seed leaves behind.
    pub async fn reset(&self) {
        sqlx::raw_sql(include_str!("reset.sql")).execute(&self.books).await.expect("emptied");
    }

    /// Runs a statement that must work.
    pub async fn execute(&self, sql: &str) {
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned())).execute(&self.books).await.expect("done");
    }

    /// Ends transactions that are stalled, as Postgres does after a while.
    pub async fn end_idle_transactions(&self) {
        let query = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity
            WHERE datname = current_database() AND state LIKE 'idle in transaction%'";
        sqlx::query(query).execute(&self.books).await.expect("ended");
    }
}

fn store(database: &str) -> Store {
    let vault = Vault::new(&database::SECRET_KEY.into(), &[]).expect("a vault");
    let options = StoreOptions {
        lock_timeout: Duration::from_millis(60),
        ingest_lock_timeout: Duration::from_millis(60),
        ..StoreOptions::default()
    };
    Store::new(&database.to_owned().into(), vault.into(), options).expect("a store")
}

/// The key of every post.
pub fn key() -> KeyId {
    KeyId::from_uuid(Uuid::from_u128(78))
}

fn settings(database: &str) -> Settings {
    Loader::default()
        .variable("HERALD_DATABASE_URL", database)
        .variable("HERALD_SECRET_KEY", database::SECRET_KEY)
        .variable("HERALD_ALLOW_UNSAFE_POSTGRES", "true")
        .variable("HERALD_ONESIGNAL__APP_ID", "5a0d0000-0000-4000-8000-000000000001")
        .variable("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox")
        .variable("HERALD_ONESIGNAL__BASE_URL", "http://127.0.0.1:9")
        .variable("HERALD_ONESIGNAL__CALLS_PER_SECOND", "40")
        .load()
        .expect("settings")
}

/// Small enough that every bound is met.
fn limits(settings: &Settings) -> PipelineLimits {
    PipelineLimits {
        group_events: 4,
        calls_in_flight: 3,
        memory_queue_size: 8,
        max_targets: 4,
        ..pipeline_limits(settings)
    }
}

fn second_app() -> App {
    App {
        id: AppId(SECOND_APP.parse().expect("an id")),
        name: "second".into(),
        base_url: "http://127.0.0.1:9".parse().expect("an address"),
        api_key: "os_v2_app_sandbox".into(),
        is_sandbox: true,
        is_default: false,
        calls_per_second: 2,
        subscriptions: None,
        paused: None,
        alias_labels: None,
    }
}
