//! What every run stands on: a private Postgres with fsync on, the sandbox and one `herald serve` as processes of their
//! own, and clients over raw connections.

use std::fmt::Write as _;
use std::net::TcpListener as StdListener;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use local_postgres::{LocalPostgres, Options};
use sqlx::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub const KEY: &str = "hk_test_0000000000000000000000000000bench";
pub const APP: &str = "5a0d0000-0000-4000-8000-000000000001";

/// As good as no limit.
pub const NO_LIMIT: u64 = 1_000_000;

/// How a run differs from the usual one.
pub struct Wanted {
    /// Calls a second that the sandbox allows.
    pub calls_per_second: u64,
    /// Recipients in one call at most.
    pub max_targets: u64,
}

/// Postgres, sandbox and Herald, each a process of its own.
pub struct Setup {
    pub postgres: Option<LocalPostgres>,
    pub sandbox: Child,
    pub herald: Child,
    pub database: String,
    pub herald_port: u16,
    pub sandbox_port: u16,
}

impl Drop for Setup {
    fn drop(&mut self) {
        let _ = self.herald.kill();
        let _ = self.herald.wait();
        let _ = self.sandbox.kill();
        let _ = self.sandbox.wait();
        drop(self.postgres.take());
    }
}

pub fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

pub fn herald_command(wanted: &Wanted, database: &str, (herald_port, sandbox_port): (u16, u16)) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
    command
        .env("HERALD_DATABASE_URL", database)
        .env("HERALD_SECRET_KEY", "a secret key for benchmarks and nothing else")
        .env("HERALD_LISTEN", format!("127.0.0.1:{herald_port}"))
        .env("HERALD_DEV_KEY", KEY)
        .env("HERALD_ONESIGNAL__APP_ID", APP)
        .env("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox")
        .env("HERALD_ONESIGNAL__BASE_URL", format!("http://127.0.0.1:{sandbox_port}"))
        .env("HERALD_ONESIGNAL__CALLS_PER_SECOND", wanted.calls_per_second.to_string())
        .env("HERALD_DELIVERY__MAX_TARGETS", wanted.max_targets.to_string())
        .env("HERALD_LOG__FILTER", "warn")
        .stdout(Stdio::null());
    command
}

/// Starts everything with the sample catalog live.
pub async fn start(folder: &std::path::Path, wanted: &Wanted) -> Setup {
    let (herald_port, sandbox_port) = (free_port(), free_port());
    let mut options = Options::durable(folder.join("postgres"));
    options.settings = vec![("shared_buffers".into(), "1GB".into()), ("max_wal_size".into(), "4GB".into())];
    let postgres = tokio::task::spawn_blocking(move || LocalPostgres::start(&options)).await.expect("joined");
    let postgres = postgres.expect("a private Postgres");
    let database = postgres.url();
    let ports = (herald_port, sandbox_port);
    let is_limited = wanted.calls_per_second < NO_LIMIT;
    let sandbox_limit = if is_limited { wanted.calls_per_second.to_string() } else { "0".to_owned() };
    let sandbox = Command::new(env!("CARGO_BIN_EXE_herald"))
        .args([
            "sandbox",
            "--listen",
            &format!("127.0.0.1:{sandbox_port}"),
            "--calls-per-second",
            &sandbox_limit,
        ])
        .stderr(Stdio::null())
        .spawn()
        .expect("a sandbox");
    let migrated = herald_command(wanted, &database, ports).arg("migrate").status();
    assert!(migrated.expect("migrate ran").success());
    let herald = herald_command(wanted, &database, ports).arg("serve").spawn().expect("herald");
    let setup = Setup { postgres: Some(postgres), sandbox, herald, database, herald_port, sandbox_port };
    for _ in 0..300 {
        if TcpStream::connect(("127.0.0.1", herald_port)).await.is_ok() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let applied = Command::new(env!("CARGO_BIN_EXE_herald"))
        .args(["catalog", "apply", "--sample"])
        .env("HERALD_URL", format!("http://127.0.0.1:{herald_port}"))
        .env("HERALD_KEY", KEY)
        .stdout(Stdio::null())
        .status();
    assert!(applied.expect("apply ran").success());
    setup
}

/// One kept-alive connection that posts and reads the status.
pub struct Poster {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Poster {
    pub async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, buffer: Vec::with_capacity(8192) }
    }

    pub async fn post(&mut self, body: &str) -> u16 {
        let mut request = String::with_capacity(body.len() + 256);
        let _ = write!(
            request,
            "POST /v1/events HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {KEY}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
            body.len()
        );
        self.stream.write_all(request.as_bytes()).await.expect("written");
        self.buffer.clear();
        loop {
            let read = self.stream.read_buf(&mut self.buffer).await.expect("read");
            assert!(read > 0, "the connection was closed");
            let Some(head) = self.buffer.windows(4).position(|w| w == b"\r\n\r\n") else { continue };
            let text = String::from_utf8_lossy(&self.buffer[..head]).to_ascii_lowercase();
            let length: usize = text
                .lines()
                .find_map(|l| l.strip_prefix("content-length: "))
                .and_then(|l| l.trim().parse().ok())
                .unwrap_or(0);
            if self.buffer.len() >= head + 4 + length {
                return text[9..12].parse().expect("a status");
            }
        }
    }
}

pub fn event(n: u64, event_type: &str) -> String {
    let filler = "x".repeat(400);
    format!(
        r#"{{"id":"bench-{n}","type":"{event_type}","recipient":{{"external_id":"user-{n}"}},"data":{{"plan":"Plus","renews_on":"2027-01-01","price":"49 EUR","order_id":"{n}","carrier":"DHL","eta":"2027-01-01","invoice":"{n}","amount":"2 EUR","pay_url":"https://shop.example/{n}","code":"123456","name":"Anna","note":"{filler}"}}}}"#
    )
}

/// The number of the next event.
pub static NEXT: AtomicU64 = AtomicU64::new(1);

pub fn at(times: &[Duration], share: f64) -> f64 {
    times
        .get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)))
        .map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

/// Waits until nothing is open; returns how long that took.
pub async fn drained(setup: &Setup) -> Duration {
    let began = Instant::now();
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    loop {
        let open: i64 = sqlx::query_scalar("SELECT count(*) FROM queue WHERE state <> 'held'")
            .fetch_one(&mut connection)
            .await
            .expect("counted");
        if open == 0 {
            return began.elapsed();
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub fn pss_mb(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("Pss:")).unwrap_or("Pss: 0 kB");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

/// Asks the sandbox at this port.
pub async fn sandbox_json(port: u16, path: &str) -> serde_json::Value {
    let url = format!("http://127.0.0.1:{port}{path}");
    reqwest::get(url).await.expect("answered").json().await.expect("JSON")
}

pub fn micros() -> i64 {
    use herald::domain::clock::Clock;
    herald::domain::clock::SystemClock::new().now().timestamp_micros()
}
