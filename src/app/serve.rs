//! Running HTTP, group commits and the worker, and shutting them down in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::middleware::from_fn_with_state;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::drift_check::keep_checking_drift;
use super::http::{self, IsProxy};
use super::log_in;
use super::runtime::Herald;
use super::signals::Stop;
use crate::api;
use crate::config::Settings;
use crate::console;
use crate::pipeline::WATCH_EVERY;
use crate::pipeline::ingest::intake::Committing;
use crate::pipeline::worker::Worker;
use crate::store::clock::PgClock;

/// How long a process keeps serving after SIGTERM, so that load balancers notice that it is not ready.
const NOTICE: Duration = Duration::from_secs(5);
/// How long requests in progress may take once no new ones are accepted.
const LAST_REQUESTS: Duration = Duration::from_secs(5);

/// Which parts of the service a process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Roles {
    /// Answers HTTP.
    pub http: bool,
    /// Sends.
    pub workers: bool,
}

impl Roles {
    /// Both.
    pub const ALL: Self = Self { http: true, workers: true };
}

/// A running service.
pub struct Running {
    herald: Arc<Herald>,
    /// The HTTP address, if it serves HTTP.
    pub address: Option<SocketAddr>,
    http: Option<tokio::task::JoinHandle<()>>,
    stop_http: CancellationToken,
    commits: JoinSet<()>,
    stop_commits: CancellationToken,
    worker: Option<Worker>,
    clock: Option<tokio::task::JoinHandle<()>>,
    drift_check: Option<tokio::task::JoinHandle<()>>,
    people: Option<tokio::task::JoinHandle<()>>,
    connectors: Option<tokio::task::JoinHandle<()>>,
    archive: Option<tokio::task::JoinHandle<()>>,
    stop_people: CancellationToken,
}

impl Running {
    /// Starts the service on a bound listener; `None` for a process without HTTP.
    ///
    /// # Errors
    /// If the database is unavailable or the listener can't be used.
    pub async fn start(herald: Herald, listener: Option<TcpListener>, workers: bool) -> anyhow::Result<Self> {
        let herald = Arc::new(herald);
        prepare_database(&herald).await?;
        let stop_commits = CancellationToken::new();
        let mut commits = JoinSet::new();
        for _ in 0..herald.settings.ingest.committers.max(1) {
            let committer = Arc::clone(&herald.pipeline);
            commits.spawn(committer.commit_groups(Committing::Ordinary, stop_commits.clone()));
        }
        let urgent = Arc::clone(&herald.pipeline);
        commits.spawn(urgent.commit_groups(Committing::Urgent, stop_commits.clone()));
        commits.spawn(Arc::clone(&herald.pipeline).keep_watch(stop_commits.clone()));
        commits.spawn(Arc::clone(&herald.api.archive).store_groups(stop_commits.clone()));
        let worker = if workers {
            Some(Worker::start(Arc::clone(&herald.pipeline), host_name()).await?)
        } else {
            None
        };
        let stop_people = CancellationToken::new();
        let people =
            workers.then(|| tokio::spawn(Arc::clone(&herald.people).keep_writing(stop_people.clone())));
        let connectors = workers
            .then(|| tokio::spawn(Arc::clone(&herald.api.connectors).keep_polling(stop_people.clone())));
        let archive = workers
            .then(|| tokio::spawn(Arc::clone(&herald.api.archive).keep_recording(stop_people.clone())));
        let drift_check = workers.then(|| tokio::spawn(keep_checking_drift(Arc::clone(&herald))));
        let clock =
            herald.pg_clock.clone().map(|clock| tokio::spawn(keep_watching(Arc::clone(&herald), clock)));
        let stop_http = CancellationToken::new();
        let mut address = None;
        let http = match listener {
            Some(listener) => {
                address = Some(listener.local_addr().context("the listener has no address")?);
                let how = (herald.settings.http, is_proxy(&herald.settings));
                Some(tokio::spawn(http::serve(listener, router(&herald), how, stop_http.clone())))
            }
            None => None,
        };
        Ok(Self {
            herald,
            address,
            http,
            stop_http,
            commits,
            stop_commits,
            worker,
            clock,
            drift_check,
            people,
            connectors,
            archive,
            stop_people,
        })
    }

    /// Its components.
    pub fn herald(&self) -> &Herald {
        &self.herald
    }

    /// Shuts down in order: readiness, new requests, the last commits, calls in progress, the database.
    pub async fn stop(mut self, how: Stop) {
        self.herald.api.stop_being_ready();
        if how == Stop::Terminate && self.http.is_some() {
            tokio::time::sleep(NOTICE).await;
        }
        self.stop_http.cancel();
        if let Some(http) = self.http.take() {
            let abort = http.abort_handle();
            if tokio::time::timeout(LAST_REQUESTS, http).await.is_err() {
                tracing::warn!("requests were still in progress at shutdown; clients will retry");
                abort.abort();
            }
        }
        self.stop_commits.cancel();
        while self.commits.join_next().await.is_some() {}
        self.stop_people.cancel();
        if let Some(connectors) = self.connectors.take() {
            let abort = connectors.abort_handle();
            if tokio::time::timeout(LAST_REQUESTS, connectors).await.is_err() {
                tracing::warn!(
                    "a connector was still reading at shutdown; the next process goes on from its position"
                );
                abort.abort();
            }
        }
        if let Some(people) = self.people.take() {
            let abort = people.abort_handle();
            if tokio::time::timeout(LAST_REQUESTS, people).await.is_err() {
                tracing::warn!(
                    "users were still being written at shutdown; another process will write them again"
                );
                abort.abort();
            }
        }
        if let Some(worker) = self.worker.take() {
            // The notice period and the last requests share the same half minute.
            worker.stop(self.herald.settings.delivery.shutdown_grace.saturating_sub(NOTICE)).await;
        }
        // An unfinished round of outcomes is rolled back, and another process repeats it.
        for task in [self.archive.take(), self.clock.take(), self.drift_check.take()].into_iter().flatten() {
            task.abort();
        }
        self.herald.store.close().await;
        tracing::info!("stopped");
    }
}

/// Checks the database's identity before anything is accepted or sent: after a restore, deliveries are sent
/// individually.
async fn prepare_database(herald: &Herald) -> anyhow::Result<()> {
    // Opens the connection for the first health check.
    herald.api.health.health().await.context("the database is unreachable")?;
    match herald.pipeline.watch_database().await {
        // Some hosted databases show neither their identity nor their timeline.
        Err(error) if error.is_refusal() => {
            let error = error.with_causes();
            tracing::warn!(
                error,
                "restores of this database can't be detected: run `herald restored begin` after one"
            );
            Ok(())
        }
        watched => watched.context("the database can't be monitored"),
    }
}

/// Follows the database's clock, and detects restores.
async fn keep_watching(herald: Arc<Herald>, clock: Arc<PgClock>) {
    let mut logged = String::new();
    loop {
        tokio::time::sleep(WATCH_EVERY).await;
        let watched = match clock.measure(&herald.store).await {
            Ok(()) => herald.pipeline.watch_database().await,
            Err(error) => Err(error),
        };
        // The same error is logged once.
        let error = watched.err().map(|error| error.with_causes()).unwrap_or_default();
        if !error.is_empty() && error != logged {
            tracing::warn!(
                error,
                "the database's clock and identity could not be read; continuing with the last known values"
            );
        }
        logged = error;
    }
}

/// The router of the console and the API.
pub fn router(herald: &Herald) -> Router {
    let console = Arc::clone(&herald.console);
    let api = api::router(Arc::clone(&herald.api))
        .layer(from_fn_with_state(Arc::clone(&console), console::page_for_people));
    let router = console::router(Arc::clone(&console)).fallback_service(api);
    console::with_security_headers(router, &console)
}

/// The trusted proxies. Invalid settings result in none; building Herald rejects
/// them.
pub fn is_proxy(settings: &Settings) -> IsProxy {
    let proxies = log_in::proxies(settings).unwrap_or_default();
    Arc::new(move |address| proxies.trusts(address))
}

fn host_name() -> String {
    nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok())
        .unwrap_or_else(|| "unknown".to_owned())
}
