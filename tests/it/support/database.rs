//! One throw-away cluster for the test process, a migrated template, and a database of its own for each test.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use herald::local_postgres::{LocalPostgres, Options};
use herald::store::{Store, StoreOptions};
use herald::vault::Vault;
use sqlx::Connection;
use tokio::sync::OnceCell;

/// The secret key of every test.
pub const SECRET_KEY: &str = "a secret key for tests and for nothing else";
const TEMPLATE: &str = "herald_template";

static CLUSTER: OnceCell<LocalPostgres> = OnceCell::const_new();
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// A database of its own; its name is never used again.
pub async fn fresh() -> String {
    let cluster = CLUSTER.get_or_init(start).await;
    let name = format!("test_{}", NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = sqlx::PgConnection::connect(&cluster.url()).await.expect("the cluster answers");
    let create = format!("CREATE DATABASE {name} TEMPLATE {TEMPLATE}");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.expect("a database");
    cluster.url_of(&name)
}

/// The server process dies with this one: it reads from a pipe that only we hold.
async fn start() -> LocalPostgres {
    let folder = clean_folder();
    let started = tokio::task::spawn_blocking(move || {
        let mut options = Options::throwaway(folder.join("postgres"));
        options.settings.push(("max_connections".into(), "400".into()));
        LocalPostgres::start(&options)
    });
    let cluster = started.await.expect("it was started").expect("a private Postgres");
    let mut admin = sqlx::PgConnection::connect(&cluster.url()).await.expect("it answers");
    let create = format!("CREATE DATABASE {TEMPLATE}");
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.expect("a template database");
    let vault = Vault::new(&SECRET_KEY.into(), &[]).expect("a vault");
    let url = cluster.url_of(TEMPLATE);
    let store = Store::new(&url.into(), vault.into(), StoreOptions::default()).expect("a store");
    store.migrate(uuid::Uuid::from_u128(7), super::app::start_of_time()).await.expect("migrated");
    store.close().await;
    cluster
}

/// A folder for this process; those of processes that are gone are removed.
fn clean_folder() -> PathBuf {
    let root = std::env::temp_dir();
    for entry in std::fs::read_dir(&root).expect("a folder for temporary files").flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(pid) = name.strip_prefix("herald-test-").and_then(|pid| pid.parse::<u32>().ok()) else {
            continue;
        };
        if !PathBuf::from(format!("/proc/{pid}")).exists() {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
    let folder = root.join(format!("herald-test-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}
