//! The processes that `herald dev` starts: a private Postgres, and the sandbox.

use std::net::SocketAddr;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::Mutex;

use super::folder::DataFolder;
use crate::archive::stream;
use local_postgres::{LocalPostgres, LocalPostgresError, Options};

/// What helps where no Postgres is installed.
const NO_POSTGRES: &str =
    "`herald dev` starts a Postgres of its own, and none is installed. Install one, or use any other:
  in Docker:  docker run -d -p 5432:5432 -e POSTGRES_PASSWORD=herald postgres:17
              export HERALD_DATABASE_URL='postgres://postgres:herald@127.0.0.1:5432/postgres?sslmode=disable'
  elsewhere:  export HERALD_DATABASE_URL=postgres://user:password@host:5432/database
";

/// The sandbox's Event Stream to Herald: one, however often `dev` is started.
const STREAM: &str = "5a0d0000-0000-4000-8000-0000000000e5";
/// How long to wait for a port that a process from an earlier run still uses.
const PORT_TIME: Duration = Duration::from_secs(3);
/// How long the sandbox may take to respond.
const START_TIME: Duration = Duration::from_secs(15);

/// Starts this folder's private Postgres.
pub async fn start_postgres(folder: &DataFolder) -> anyhow::Result<LocalPostgres> {
    let options = Options::durable(folder.postgres());
    let started = tokio::task::spawn_blocking(move || LocalPostgres::start(&options)).await;
    match started.context("the thread that starts Postgres failed")? {
        Err(error @ LocalPostgresError::NotInstalled) => Err(error).context(NO_POSTGRES),
        other => other.context("Postgres could not be started"),
    }
}

/// Waits until a port is free: processes from an earlier run exit within moments.
pub async fn wait_for_port(address: SocketAddr, flag: &str) -> anyhow::Result<()> {
    let deadline = tokio::time::Instant::now() + PORT_TIME;
    loop {
        match super::super::serve::bind(address, flag).await {
            Ok(_) => return Ok(()),
            Err(error) if tokio::time::Instant::now() >= deadline => return Err(error),
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

/// The sandbox, as a child process running the same binary.
pub struct Sandbox {
    child: Mutex<Child>,
    /// The sandbox runs as long as this end of the pipe is open. Kept separately because waiting for a child closes its
    /// input.
    lifeline: Option<ChildStdin>,
    url: String,
    http: reqwest::Client,
}

impl Sandbox {
    /// Starts it and waits until it responds. It exits when we do, even if we crash: only we hold its input pipe open.
    pub async fn start(folder: &DataFolder, port: u16) -> anyhow::Result<Self> {
        let binary = std::env::current_exe().context("can't find this binary")?;
        let mut child = Command::new(binary)
            .args([
                "sandbox",
                "--with-parent",
                "--preset",
                "paid",
                "--calls-per-second",
                "150",
                "--listen",
                &format!("127.0.0.1:{port}"),
                "--data",
            ])
            .arg(folder.sandbox())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            // Its own process group, so that Ctrl-C reaches only us and we shut it down cleanly.
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .context("the sandbox could not be started")?;
        let url = format!("http://127.0.0.1:{port}");
        let lifeline = child.stdin.take();
        let sandbox = Self { child: Mutex::new(child), lifeline, url, http: reqwest::Client::new() };
        let deadline = tokio::time::Instant::now() + START_TIME;
        while sandbox.stats().await.is_err() {
            if let Some(status) = sandbox.child.lock().await.try_wait()? {
                bail!("the sandbox exited immediately ({status}); see its output above");
            }
            if tokio::time::Instant::now() >= deadline {
                bail!("the sandbox does not respond at {}", sandbox.url);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(sandbox)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        self.url.clone()
    }

    /// Has it report outcomes to Herald, in the same way as OneSignal's Event Streams.
    pub async fn report_to(&self, herald: &str, secret: &SecretString) -> anyhow::Result<()> {
        let stream = json!({
            "id": STREAM, "url": format!("{herald}/v1/onesignal/events"), "body": stream::template(),
            "headers": {"Authorization": format!("Bearer {}", secret.expose_secret())},
        });
        let request = self.http.post(format!("{}/_sandbox/event-streams", self.url)).json(&stream);
        request.send().await?.error_for_status().context("the sandbox refused the Event Stream")?;
        Ok(())
    }

    async fn stats(&self) -> anyhow::Result<Value> {
        Ok(self.http.get(format!("{}/_sandbox/stats", self.url)).send().await?.json().await?)
    }

    /// The latest messages that it received.
    pub async fn messages(&self) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        let mut cursor = String::new();
        loop {
            let url = format!("{}/_sandbox/messages?limit=1000{cursor}", self.url);
            let page: Value = self.http.get(url).send().await?.json().await?;
            all.extend(page["data"].as_array().cloned().unwrap_or_default());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => return Ok(all),
            }
        }
    }

    /// Waits until it exits.
    pub async fn ended(&self) -> String {
        let status = self.child.lock().await.wait().await;
        status.map_or_else(|error| error.to_string(), |status: ExitStatus| status.to_string())
    }

    /// Stops it cleanly.
    pub async fn stop(self) {
        drop(self.lifeline);
        let mut child = self.child.into_inner();
        if tokio::time::timeout(Duration::from_secs(5), child.wait()).await.is_err() {
            let _ = child.kill().await;
        }
    }
}
