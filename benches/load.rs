//! The load figures: a private Postgres with fsync on, the sandbox and one `herald serve` as processes of their own,
//! and posters over raw connections. `cargo bench --bench load` prints a table; `BENCH_CALLS=150 cargo bench
//! --bench load` shows how deliveries share calls at OneSignal's free plan. Only ratios within one run mean anything on
//! a shared machine.

#![expect(
    clippy::expect_used,
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a benchmark stops where something fails, and its figures are rounded"
)]

use std::fmt::Write as _;
use std::net::TcpListener as StdListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use herald::local_postgres::{LocalPostgres, Options};
use sqlx::Connection;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const KEY: &str = "hk_test_0000000000000000000000000000bench";
const APP: &str = "5a0d0000-0000-4000-8000-000000000001";

struct Setup {
    postgres: Option<LocalPostgres>,
    sandbox: Child,
    herald: Child,
    database: String,
    herald_port: u16,
    sandbox_port: u16,
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

fn free_port() -> u16 {
    StdListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

fn herald_command(setup: &str, herald_port: u16, sandbox_port: u16) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
    command
        .env("HERALD_DATABASE_URL", setup)
        .env("HERALD_SECRET_KEY", "a secret key for benchmarks and nothing else")
        .env("HERALD_LISTEN", format!("127.0.0.1:{herald_port}"))
        .env("HERALD_DEV_KEY", KEY)
        .env("HERALD_ONESIGNAL__APP_ID", APP)
        .env("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox")
        .env("HERALD_ONESIGNAL__BASE_URL", format!("http://127.0.0.1:{sandbox_port}"))
        .env("HERALD_ONESIGNAL__CALLS_PER_SECOND", calls_per_second())
        .env("HERALD_LOG__FILTER", "warn")
        .stdout(Stdio::null());
    command
}

/// Calls a second that the sandbox allows: `BENCH_CALLS`, or as good as no limit.
fn calls_per_second() -> String {
    std::env::var("BENCH_CALLS").unwrap_or_else(|_| "1000000".into())
}

async fn start(folder: &std::path::Path) -> Setup {
    let (herald_port, sandbox_port) = (free_port(), free_port());
    let mut options = Options::durable(folder.join("postgres"));
    options.settings = vec![("shared_buffers".into(), "1GB".into()), ("max_wal_size".into(), "4GB".into())];
    let postgres = tokio::task::spawn_blocking(move || LocalPostgres::start(&options)).await.expect("joined");
    let postgres = postgres.expect("a private Postgres");
    let database = postgres.url();
    let calls: u64 = calls_per_second().parse().expect("a number");
    let sandbox_limit = if calls >= 1_000_000 { "0".to_owned() } else { calls.to_string() };
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
    let migrated = herald_command(&database, herald_port, sandbox_port).arg("migrate").status();
    assert!(migrated.expect("migrate ran").success());
    let herald = herald_command(&database, herald_port, sandbox_port).arg("serve").spawn().expect("herald");
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
struct Poster {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Poster {
    async fn connect(port: u16) -> Self {
        let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("connected");
        stream.set_nodelay(true).expect("nodelay");
        Self { stream, buffer: Vec::with_capacity(8192) }
    }

    async fn post(&mut self, body: &str) -> u16 {
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

fn event(n: u64, event_type: &str) -> String {
    let filler = "x".repeat(400);
    format!(
        r#"{{"id":"bench-{n}","type":"{event_type}","recipient":{{"external_id":"user-{n}"}},"data":{{"plan":"Plus","renews_on":"2027-01-01","price":"49 EUR","order_id":"{n}","carrier":"DHL","eta":"2027-01-01","invoice":"{n}","amount":"2 EUR","pay_url":"https://shop.example/{n}","note":"{filler}"}}}}"#
    )
}

static NEXT: AtomicU64 = AtomicU64::new(1);

async fn closed_loop(port: u16, connections: usize, time: Duration) -> (f64, Vec<Duration>) {
    let deadline = Instant::now() + time;
    let began = Instant::now();
    let tasks: Vec<_> = (0..connections)
        .map(|_| {
            tokio::spawn(async move {
                let mut poster = Poster::connect(port).await;
                let mut times = Vec::new();
                while Instant::now() < deadline {
                    let body = event(NEXT.fetch_add(1, Ordering::Relaxed), "payment.failed");
                    let sent = Instant::now();
                    let status = poster.post(&body).await;
                    assert_eq!(status, 202);
                    times.push(sent.elapsed());
                }
                times
            })
        })
        .collect();
    let mut all = Vec::new();
    for task in tasks {
        all.extend(task.await.expect("posted"));
    }
    all.sort_unstable();
    (all.len() as f64 / began.elapsed().as_secs_f64(), all)
}

fn at(times: &[Duration], share: f64) -> f64 {
    times
        .get(((times.len() as f64 * share) as usize).min(times.len().saturating_sub(1)))
        .map_or(0.0, |t| t.as_secs_f64() * 1e3)
}

async fn drained(setup: &Setup) -> Duration {
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

async fn wal_bytes(setup: &Setup) -> i64 {
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    sqlx::query_scalar("SELECT pg_wal_lsn_diff(pg_current_wal_lsn(), '0/0')::bigint")
        .fetch_one(&mut connection)
        .await
        .expect("read")
}

async fn rows(setup: &Setup) -> i64 {
    let mut connection = sqlx::PgConnection::connect(&setup.database).await.expect("connected");
    sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM events) + (SELECT count(*) FROM event_keys) + (SELECT count(*) FROM event_payloads)
            + (SELECT count(*) FROM deliveries) + (SELECT count(*) FROM decisions) + (SELECT count(*) FROM batches)
            + (SELECT count(*) FROM attempts)",
    )
    .fetch_one(&mut connection)
    .await
    .expect("counted")
}

fn pss_mb(pid: u32) -> f64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/smaps_rollup")).unwrap_or_default();
    let line = text.lines().find(|l| l.starts_with("Pss:")).unwrap_or("Pss: 0 kB");
    line.split_whitespace().nth(1).and_then(|kb| kb.parse::<f64>().ok()).unwrap_or(0.0) / 1024.0
}

async fn sandbox_json(setup: &Setup, path: &str) -> serde_json::Value {
    let url = format!("http://127.0.0.1:{}{path}", setup.sandbox_port);
    reqwest::get(url).await.expect("answered").json().await.expect("JSON")
}

/// 200 events a second: the time from the acknowledgement to the sandbox's receipt, and from the post to it.
async fn open_loop(setup: &Setup, per_second: u64, seconds: u64) {
    let acknowledged: Arc<parking_lot::Mutex<Vec<(String, i64, i64)>>> = Arc::default();
    let mut ticks = tokio::time::interval(Duration::from_micros(1_000_000 / per_second));
    let free: Arc<parking_lot::Mutex<Vec<Poster>>> = Arc::default();
    let mut tasks = Vec::new();
    for _ in 0..per_second * seconds {
        ticks.tick().await;
        let (free, acknowledged, port) = (Arc::clone(&free), Arc::clone(&acknowledged), setup.herald_port);
        tasks.push(tokio::spawn(async move {
            let n = NEXT.fetch_add(1, Ordering::Relaxed);
            let taken = free.lock().pop();
            let mut poster = match taken {
                Some(poster) => poster,
                None => Poster::connect(port).await,
            };
            let due = micros();
            assert_eq!(poster.post(&event(n, "payment.failed")).await, 202);
            acknowledged.lock().push((format!("user-{n}"), due, micros()));
            free.lock().push(poster);
        }));
    }
    for task in tasks {
        task.await.expect("posted");
    }
    drained(setup).await;
    let acknowledged = std::mem::take(&mut *acknowledged.lock());
    report_arrivals(setup, &acknowledged).await;
}

async fn report_arrivals(setup: &Setup, acknowledged: &[(String, i64, i64)]) {
    let mut arrived = std::collections::HashMap::new();
    let mut cursor = String::new();
    loop {
        let page = sandbox_json(setup, &format!("/_sandbox/messages?limit=1000{cursor}")).await;
        for message in page["data"].as_array().into_iter().flatten() {
            let at =
                message["received_at"].as_str().and_then(|t| chrono::DateTime::parse_from_rfc3339(t).ok());
            let at = at.expect("a time").timestamp_micros();
            for recipient in message["recipients"].as_array().into_iter().flatten() {
                arrived.insert(recipient["external_id"].as_str().unwrap_or_default().to_owned(), at);
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    let since = |moment: fn(&(String, i64, i64)) -> i64| {
        let mut times: Vec<Duration> = acknowledged
            .iter()
            .filter_map(|a| Some(Duration::from_micros((arrived.get(&a.0)? - moment(a)).max(0) as u64)))
            .collect();
        times.sort_unstable();
        times
    };
    let (ack, due) = (since(|a| a.2), since(|a| a.1));
    println!("arrived {} of {}", ack.len(), acknowledged.len());
    println!("202 to sandbox   p50 {:.2} ms   p99 {:.2} ms", at(&ack, 0.5), at(&ack, 0.99));
    println!("post to sandbox  p50 {:.2} ms   p99 {:.2} ms", at(&due, 0.5), at(&due, 0.99));
}

fn micros() -> i64 {
    use herald::domain::clock::Clock;
    herald::domain::clock::SystemClock::new().now().timestamp_micros()
}

/// 10,000 `order.shipped` events for different people at the sandbox's rate limit: how many deliveries share a call, and
/// that nobody got one twice or with a blank.
async fn packing(setup: &Setup) {
    const EVENTS: u64 = 10_000;
    let began = Instant::now();
    let tasks: Vec<_> = (0..64)
        .map(|_| {
            let port = setup.herald_port;
            tokio::spawn(async move {
                let mut poster = Poster::connect(port).await;
                loop {
                    let n = NEXT.fetch_add(1, Ordering::Relaxed);
                    if n > EVENTS {
                        return;
                    }
                    assert_eq!(poster.post(&event(n, "order.shipped")).await, 202);
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("posted");
    }
    let accepted = began.elapsed();
    drained(setup).await;
    let (mut calls, mut deliveries, mut blanks) = (0, 0, 0);
    let mut seen = std::collections::HashSet::new();
    let mut cursor = String::new();
    loop {
        let page = sandbox_json(setup, &format!("/_sandbox/messages?limit=1000{cursor}")).await;
        for message in page["data"].as_array().into_iter().flatten() {
            calls += 1;
            for recipient in message["recipients"].as_array().into_iter().flatten() {
                deliveries += 1;
                blanks += recipient["blanks"].as_array().map_or(0, Vec::len);
                seen.insert(format!("{} {}", message["channel"], recipient["external_id"]));
            }
        }
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    println!(
        "{EVENTS} events accepted in {:.1} s, delivered after {:.1} s",
        accepted.as_secs_f64(),
        began.elapsed().as_secs_f64()
    );
    println!(
        "{calls} calls, {deliveries} deliveries: {:.1} a call",
        f64::from(deliveries) / f64::from(calls)
    );
    println!("twice: {}, blanks: {blanks}", deliveries as usize - seen.len());
}

#[tokio::main]
async fn main() {
    herald::app::choose_tls();
    let folder = std::env::temp_dir().join(format!("herald-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder");
    let time =
        Duration::from_secs(std::env::var("BENCH_SECONDS").ok().and_then(|s| s.parse().ok()).unwrap_or(5));
    {
        let setup = start(&folder).await;
        if std::env::var_os("BENCH_CALLS").is_some() {
            packing(&setup).await;
            return;
        }
        println!("memory at rest {:.1} MB (PSS)", pss_mb(setup.herald.id()));
        open_loop(&setup, 200, 10).await;
        println!(
            "{:>12} {:>12} {:>10} {:>10} {:>10} {:>12} {:>10} {:>10}",
            "connections", "accepted/s", "p50 ms", "p99 ms", "drain s", "WAL B/event", "rows/event", "PSS MB"
        );
        for connections in [1, 16, 64] {
            let (wal, rows_before, first) =
                (wal_bytes(&setup).await, rows(&setup).await, NEXT.load(Ordering::Relaxed));
            let (rate, times) = closed_loop(setup.herald_port, connections, time).await;
            let memory = pss_mb(setup.herald.id());
            let drain = drained(&setup).await;
            let events = (NEXT.load(Ordering::Relaxed) - first) as f64;
            let wal = (wal_bytes(&setup).await - wal) as f64 / events;
            let kept = (rows(&setup).await - rows_before) as f64 / events;
            println!(
                "{connections:>12} {rate:>12.0} {:>10.2} {:>10.2} {:>10.2} {wal:>12.0} {kept:>10.2} {memory:>10.1}",
                at(&times, 0.5),
                at(&times, 0.99),
                drain.as_secs_f64()
            );
        }
        let stats = sandbox_json(&setup, "/_sandbox/stats").await;
        println!(
            "sandbox: {} messages, {} recipients, {} idempotent replays",
            stats["messages"], stats["recipients"], stats["idempotent_replays"]
        );
    }
    let _ = std::fs::remove_dir_all(&folder);
}
