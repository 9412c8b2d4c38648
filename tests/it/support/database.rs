//! One throw-away cluster for the test process, a migrated template, and a database of its own for each test, dropped
//! when the test is over. `TEST_DATABASE_URL` (a superuser's, of any database) uses that server instead.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use herald::store::{Store, StoreOptions};
use herald::vault::Vault;
use local_postgres::{LocalPostgres, Options};
use sqlx::Connection;
use tokio::sync::OnceCell;

/// The secret key of every test.
pub const SECRET_KEY: &str = "a secret key for tests and for nothing else";

static SERVER: OnceCell<Server> = OnceCell::const_new();
static NEXT: AtomicUsize = AtomicUsize::new(1);

/// Where test databases are made.
struct Server {
    admin_url: String,
    /// How a copy of the template is made: copying files beats writing them to the log.
    strategy: &'static str,
    /// Keeps our own server running; the server dies with this process.
    _own: Option<LocalPostgres>,
}

/// A test's database: its address. Clones share it; the last one gone drops it.
#[derive(Clone)]
pub struct Database(Arc<Dropped>);

struct Dropped {
    url: String,
    /// Its name and where it is dropped; `None` when its whole server goes.
    drop_at: Option<(String, String)>,
}

impl Database {
    /// A database of a server that is thrown away whole.
    pub fn of_own_server(url: String) -> Self {
        Self(Arc::new(Dropped { url, drop_at: None }))
    }
}

impl std::ops::Deref for Database {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0.url
    }
}

impl Drop for Dropped {
    fn drop(&mut self) {
        let Some((admin, name)) = self.drop_at.take() else { return };
        // On a thread of its own: a drop can't wait for the runtime that it happens in. What fails leaves a database
        // behind on a server that is thrown away.
        let dropping = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().ok()?;
            runtime.block_on(async {
                let mut admin = sqlx::PgConnection::connect(&admin).await.ok()?;
                let drop = format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)");
                sqlx::query(sqlx::AssertSqlSafe(drop)).execute(&mut admin).await.ok()
            })
        });
        let _ = dropping.join();
    }
}

/// A migrated database of its own.
pub async fn fresh() -> Database {
    make(&format!("TEMPLATE {}", template())).await
}

/// A database of its own with nothing in it.
pub async fn empty() -> Database {
    make("TEMPLATE template0").await
}

/// A database of its own with what another one holds now: no one may be connected to that one.
pub async fn copy_of(database: &Database) -> Database {
    let url: url::Url = database.parse().expect("a database URL");
    make(&format!("TEMPLATE {}", url.path().trim_start_matches('/'))).await
}

async fn make(like: &str) -> Database {
    let server = SERVER.get_or_init(start).await;
    let name = format!("herald_test_{}_{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
    let mut admin = sqlx::PgConnection::connect(&server.admin_url).await.expect("the server answers");
    let create = format!("CREATE DATABASE {name} {like} {}", server.strategy);
    sqlx::query(sqlx::AssertSqlSafe(create)).execute(&mut admin).await.expect("a database");
    let url = url_of(&server.admin_url, &name);
    Database(Arc::new(Dropped { url, drop_at: Some((server.admin_url.clone(), name)) }))
}

fn template() -> String {
    format!("herald_test_{}_template", std::process::id())
}

/// The same server's address for another database.
fn url_of(admin_url: &str, name: &str) -> String {
    let mut url: url::Url = admin_url.parse().expect("a database URL");
    url.set_path(name);
    url.into()
}

async fn start() -> Server {
    let (admin_url, own) = if let Ok(url) = std::env::var("TEST_DATABASE_URL") {
        (url, None)
    } else {
        let own = start_in(server_folder(), &[("max_connections", "400")]).await;
        (own.url(), Some(own))
    };
    let mut admin = sqlx::PgConnection::connect(&admin_url).await.expect("the server answers");
    let version: i32 = sqlx::query_scalar("SELECT current_setting('server_version_num')::integer")
        .fetch_one(&mut admin)
        .await
        .expect("a version");
    let strategy = if version >= 150_000 { "STRATEGY FILE_COPY" } else { "" };
    sqlx::query(sqlx::AssertSqlSafe(format!("CREATE DATABASE {}", template())))
        .execute(&mut admin)
        .await
        .expect("a template database");
    migrate(&url_of(&admin_url, &template())).await;
    Server { admin_url, strategy, _own: own }
}

/// Brings a database's schema up to date.
pub async fn migrate(url: &str) {
    let vault = Vault::new(&SECRET_KEY.into(), &[]).expect("a vault");
    let store = Store::new(&url.to_owned().into(), vault.into(), StoreOptions::default()).expect("a store");
    store.migrate(uuid::Uuid::from_u128(7), super::app::start_of_time()).await.expect("migrated");
    store.close().await;
}

/// A folder for a server of a test's own: in memory where there is enough, since each database is hundreds of files that
/// are created and soon deleted.
pub fn server_folder() -> PathBuf {
    let root = if free_bytes(MEMORY) >= ENOUGH_MEMORY { MEMORY.into() } else { std::env::temp_dir() };
    clean_folder_in(&root).join(format!("postgres-{}", NEXT.fetch_add(1, Ordering::Relaxed)))
}

/// Linux keeps the files of this folder in memory.
const MEMORY: &str = "/dev/shm";
const ENOUGH_MEMORY: u64 = 6 << 30;

/// How much can be written into a folder; 0 if there is none.
fn free_bytes(folder: &str) -> u64 {
    nix::sys::statvfs::statvfs(folder).map_or(0, |found| found.blocks_available() * found.fragment_size())
}

/// Starts a server in a folder, or starts again the one that was stopped there. It dies with this process.
pub async fn start_in(folder: PathBuf, settings: &[(&str, &str)]) -> LocalPostgres {
    let mut options = Options::throwaway(folder);
    options.settings = settings.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect();
    let started = tokio::task::spawn_blocking(move || LocalPostgres::start(&options));
    started.await.expect("it was started").expect("a private Postgres")
}

/// A folder for this process; those of processes that are gone are removed.
pub fn clean_folder() -> PathBuf {
    clean_folder_in(&std::env::temp_dir())
}

fn clean_folder_in(root: &Path) -> PathBuf {
    for entry in std::fs::read_dir(root).expect("a folder for temporary files").flatten() {
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
