//! Real processes: `herald serve` and `herald sandbox` on their own, to be killed and started again.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::Value;

use super::database;

/// The key of every process test.
pub const KEY: &str = "hk_test_00000000000000000000000000process";
/// How long anything may take.
const PATIENCE: Duration = Duration::from_mins(1);

/// A service and a sandbox as processes.
pub struct Processes {
    sandbox: Child,
    pub herald: Child,
    pub database: String,
    pub port: u16,
    pub sandbox_port: u16,
    settings: Vec<(&'static str, &'static str)>,
    http: reqwest::Client,
}

impl Drop for Processes {
    fn drop(&mut self) {
        for child in [&mut self.herald, &mut self.sandbox] {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl Processes {
    /// Starts both, with durations that a test can wait for, and applies the sample catalog.
    pub async fn start(settings: &[(&'static str, &'static str)]) -> Self {
        herald::app::choose_tls();
        let (port, sandbox_port) = (free_port(), free_port());
        let sandbox = Command::new(env!("CARGO_BIN_EXE_herald"))
            .args(["sandbox", "--calls-per-second", "0", "--listen", &format!("127.0.0.1:{sandbox_port}")])
            .stderr(Stdio::null())
            .spawn()
            .expect("a sandbox");
        let database = database::fresh().await;
        let settings = settings.to_vec();
        let herald = serve(&database, port, sandbox_port, &settings, &[]);
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
        let processes = Self { sandbox, herald, database, port, sandbox_port, settings, http };
        processes.wait_until_ready().await;
        let applied = Command::new(env!("CARGO_BIN_EXE_herald"))
            .args(["catalog", "apply", "--sample"])
            .env("HERALD_URL", format!("http://127.0.0.1:{port}"))
            .env("HERALD_KEY", KEY)
            .stdout(Stdio::null())
            .status();
        assert!(applied.expect("apply ran").success());
        processes
    }

    /// Kills the service as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.herald.kill();
        let _ = self.herald.wait();
    }

    /// Starts the service again, with these variables on top.
    pub async fn start_again(&mut self, more: &[(&'static str, &'static str)]) {
        self.herald = serve(&self.database, self.port, self.sandbox_port, &self.settings, more);
        self.wait_until_ready().await;
    }

    /// Whether the service has died by itself.
    pub fn has_died(&mut self) -> bool {
        matches!(self.herald.try_wait(), Ok(Some(_)))
    }

    async fn wait_until_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        let url = format!("http://127.0.0.1:{}/readyz", self.port);
        while !self.http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
            assert!(Instant::now() < deadline, "the service is not ready");
            tick().await;
        }
    }

    /// Posts an event until it is acknowledged or the service is gone.
    pub async fn post(&self, event: &Value) -> Option<Value> {
        let url = format!("http://127.0.0.1:{}/v1/events", self.port);
        let answer = self.http.post(url).bearer_auth(KEY).json(event).send().await.ok()?;
        (answer.status() == 202).then_some(())?;
        answer.json().await.ok()
    }

    pub async fn sandbox_json(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.sandbox_port);
        self.http.request(Method::GET, url).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Everything that the sandbox received, as (channel, external id), once for each message and recipient.
    pub async fn received(&self) -> Vec<(String, String)> {
        let mut received = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.sandbox_json(&format!("/_sandbox/messages?limit=1000{cursor}")).await;
            for message in page["data"].as_array().into_iter().flatten() {
                for recipient in message["recipients"].as_array().into_iter().flatten() {
                    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
                    received.push((text(&message["channel"]), text(&recipient["external_id"])));
                }
            }
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return received,
            }
        }
    }

    /// Waits until no delivery is open any more.
    pub async fn wait_until_drained(&self) {
        use sqlx::Connection;
        let deadline = Instant::now() + PATIENCE;
        let mut connection = sqlx::PgConnection::connect(&self.database).await.expect("connected");
        loop {
            let open: i64 = sqlx::query_scalar("SELECT count(*) FROM queue")
                .fetch_one(&mut connection)
                .await
                .expect("counted");
            if open == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{open} deliveries are still open");
            tick().await;
        }
    }
}

/// A short wait between two looks at another process.
pub async fn tick() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

fn serve(
    database: &str,
    port: u16,
    sandbox_port: u16,
    settings: &[(&'static str, &'static str)],
    more: &[(&'static str, &'static str)],
) -> Child {
    Command::new(env!("CARGO_BIN_EXE_herald"))
        .arg("serve")
        .env("HERALD_DATABASE_URL", database)
        .env("HERALD_SECRET_KEY", database::SECRET_KEY)
        .env("HERALD_ALLOW_UNSAFE_POSTGRES", "true")
        .env("HERALD_LISTEN", format!("127.0.0.1:{port}"))
        .env("HERALD_DEV_KEY", KEY)
        .env("HERALD_ONESIGNAL__APP_ID", "5a0d0000-0000-4000-8000-000000000001")
        .env("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox")
        .env("HERALD_ONESIGNAL__BASE_URL", format!("http://127.0.0.1:{sandbox_port}"))
        .env("HERALD_ONESIGNAL__CALLS_PER_SECOND", "6000")
        .env("HERALD_DELIVERY__LEASE", "2s")
        .env("HERALD_DELIVERY__LEASE_RENEWAL", "500ms")
        .env("HERALD_DELIVERY__CALL_TIMEOUT", "2s")
        .env("HERALD_DELIVERY__RECONCILE", "1s")
        .env("HERALD_RETRY__AMBIGUOUS_GAP", "2s")
        .env("HERALD_LOG__FILTER", "error")
        .envs(settings.iter().copied())
        .envs(more.iter().copied())
        .spawn()
        .expect("a service")
}
