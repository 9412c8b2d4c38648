//! Real processes: `herald serve` and `herald sandbox` on their own, to be killed and started again.

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use reqwest::Method;
use serde_json::Value;

use super::database::{self, Database};

/// The key of every process test.
pub const KEY: &str = "hk_test_00000000000000000000000000process";
/// How long anything may take.
pub const PATIENCE: Duration = Duration::from_mins(1);

/// A variable and its value.
pub type Setting = (&'static str, &'static str);

/// `herald` with nothing of this process's own settings.
pub fn herald() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_herald"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HERALD_") {
            command.env_remove(name);
        }
    }
    // No `herald.toml` of the working folder either.
    command.current_dir(std::env::temp_dir());
    command
}

/// `herald` with these arguments and variables, run to its end on a thread of its own.
pub async fn run(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = herald();
    command.args(arguments).envs(variables.iter().copied()).stdin(Stdio::null());
    let done = tokio::task::spawn_blocking(move || command.output());
    done.await.expect("it was run").expect("the program is there")
}

/// A service and a sandbox as processes.
pub struct Processes {
    sandbox: Child,
    pub herald: Child,
    pub database: Database,
    pub port: u16,
    pub sandbox_port: u16,
    settings: Vec<Setting>,
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

pub fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

impl Processes {
    /// Starts both, with durations that a test can wait for, and applies the sample catalog.
    pub async fn start(settings: &[Setting]) -> Self {
        Self::start_on(database::fresh().await, settings).await
    }

    /// The same on a migrated database.
    pub async fn start_on(database: Database, settings: &[Setting]) -> Self {
        herald::app::choose_tls();
        let (port, sandbox_port) = (free_port(), free_port());
        let sandbox = herald()
            .args(["sandbox", "--calls-per-second", "0", "--listen", &format!("127.0.0.1:{sandbox_port}")])
            .stderr(Stdio::null())
            .spawn()
            .expect("a sandbox");
        let settings = settings.to_vec();
        let herald = service(&database, port, sandbox_port, &settings, &[]).spawn().expect("a service");
        let http = reqwest::Client::builder().timeout(Duration::from_secs(10)).build().expect("a client");
        let processes = Self { sandbox, herald, database, port, sandbox_port, settings, http };
        processes.wait_until_ready().await;
        let applied = processes.client(&["catalog", "apply", "--sample"]).await;
        assert!(applied.status.success(), "{applied:?}");
        processes
    }

    /// Runs a command that speaks to this service.
    pub async fn client(&self, arguments: &[&str]) -> Output {
        run(arguments, &[("HERALD_URL", &self.url()), ("HERALD_KEY", KEY)]).await
    }

    /// The same, with something to read on standard input.
    pub async fn client_reading(&self, arguments: &[&str], input: &str) -> Output {
        let mut command = herald();
        command.args(arguments).env("HERALD_URL", self.url()).env("HERALD_KEY", KEY);
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let input = input.to_owned();
        let done = tokio::task::spawn_blocking(move || {
            let mut child = command.spawn()?;
            let written = child.stdin.take().map(|mut pipe| pipe.write_all(input.as_bytes()));
            written.transpose()?;
            child.wait_with_output()
        });
        done.await.expect("it was run").expect("the program is there")
    }

    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Kills the service as `kill -9` does.
    pub fn kill(&mut self) {
        let _ = self.herald.kill();
        let _ = self.herald.wait();
    }

    /// Sends the service a signal.
    pub fn signal(&self, signal: Signal) {
        send(&self.herald, signal);
    }

    /// Starts the service again, with these variables on top.
    pub async fn start_again(&mut self, more: &[Setting]) {
        let mut command = self.command(more);
        self.herald = command.spawn().expect("a service");
        self.wait_until_ready().await;
    }

    /// Starts the service again with everything that it logs in a file.
    pub async fn start_logging(&mut self, filter: &'static str, log: &Path) {
        let file = std::fs::File::create(log).expect("a log file");
        let mut command = self.command(&[("HERALD_LOG__FILTER", filter)]);
        self.herald = command.stderr(file).spawn().expect("a service");
        self.wait_until_ready().await;
    }

    /// Another service on the same database and sandbox, on a port of its own.
    pub async fn replica(&self, arguments: &[&str]) -> Replica {
        self.replica_on(free_port(), arguments).await
    }

    /// A service in place of one that died, on its port.
    pub async fn replica_at(&self, port: u16) -> Replica {
        self.replica_on(port, &[]).await
    }

    async fn replica_on(&self, port: u16, arguments: &[&str]) -> Replica {
        let mut command = service(&self.database, port, self.sandbox_port, &self.settings, &[]);
        let child = command.args(arguments).spawn().expect("a service");
        let replica = Replica { child, port };
        if !arguments.contains(&"--no-http") {
            wait_until_ready(&self.http, port).await;
        }
        replica
    }

    fn command(&self, more: &[Setting]) -> Command {
        service(&self.database, self.port, self.sandbox_port, &self.settings, more)
    }

    /// Whether the service has died by itself.
    pub fn has_died(&mut self) -> bool {
        matches!(self.herald.try_wait(), Ok(Some(_)))
    }

    /// Waits until the service has ended by itself.
    pub async fn wait_until_ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Ok(Some(status)) = self.herald.try_wait() {
                return status;
            }
            assert!(Instant::now() < deadline, "the service has not ended");
            tick().await;
        }
    }

    pub async fn wait_until_ready(&self) {
        wait_until_ready(&self.http, self.port).await;
    }

    /// Posts an event until it is acknowledged or the service is gone.
    pub async fn post(&self, event: &Value) -> Option<Value> {
        let answer = self.try_post(self.port, event).await.ok()?;
        (answer.status() == 202).then_some(())?;
        answer.json().await.ok()
    }

    /// Posts an event to the service on this port.
    pub async fn try_post(&self, port: u16, event: &Value) -> reqwest::Result<reqwest::Response> {
        let url = format!("http://127.0.0.1:{port}/v1/events");
        self.http.post(url).bearer_auth(KEY).json(event).send().await
    }

    pub async fn sandbox_json(&self, path: &str) -> Value {
        let url = format!("http://127.0.0.1:{}{path}", self.sandbox_port);
        self.http.request(Method::GET, url).send().await.expect("an answer").json().await.expect("JSON")
    }

    /// Scripts a fault.
    pub async fn fault(&self, fault: &Value) {
        let url = format!("http://127.0.0.1:{}/_sandbox/faults", self.sandbox_port);
        let answer = self.http.post(url).json(fault).send().await.expect("an answer");
        assert!(answer.status().is_success(), "{}", answer.status());
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

    /// One number straight from the database.
    pub async fn count(&self, query: &'static str) -> i64 {
        use sqlx::Connection;
        let mut connection = sqlx::PgConnection::connect(&self.database).await.expect("connected");
        sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("counted")
    }

    /// Waits until no delivery is open any more.
    pub async fn wait_until_drained(&self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let open = self.count("SELECT count(*) FROM queue").await;
            if open == 0 {
                return;
            }
            assert!(Instant::now() < deadline, "{open} deliveries are still open");
            tick().await;
        }
    }
}

/// One more service beside [`Processes`].
pub struct Replica {
    child: Child,
    pub port: u16,
}

impl Drop for Replica {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn send(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a process number");
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal).expect("it runs");
}

async fn wait_until_ready(http: &reqwest::Client, port: u16) {
    let deadline = Instant::now() + PATIENCE;
    let url = format!("http://127.0.0.1:{port}/readyz");
    while !http.get(&url).send().await.is_ok_and(|answer| answer.status().is_success()) {
        assert!(Instant::now() < deadline, "the service is not ready");
        tick().await;
    }
}

/// A short wait between two looks at another process.
pub async fn tick() {
    tokio::time::sleep(Duration::from_millis(50)).await;
}

/// A file of this test process's own.
pub fn scratch(name: &str) -> PathBuf {
    database::clean_folder().join(format!("{name}-{}", free_port()))
}

/// `herald serve`, set up to recover within seconds.
fn service(database: &str, port: u16, sandbox_port: u16, settings: &[Setting], more: &[Setting]) -> Command {
    let mut command = herald();
    command
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
        .envs(more.iter().copied());
    command
}
