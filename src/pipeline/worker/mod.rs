//! One process's worker: its lease, and the loops over the steps. It sleeps when idle; nothing polls on the hot path.

pub mod database_watch;
pub mod failpoints;
pub mod upkeep;

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::app::AppId;
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::gate::{Gate, GateSubject, RATE_LIMITED};
use crate::domain::id::WorkerId;
use crate::domain::retry::delta;
use crate::pipeline::rate::budget::KnownGate;
use crate::pipeline::send::dispatch::Round;
use crate::pipeline::{Pipeline, WorkerLease};
use crate::store::StoreError;
use crate::store::queue::{Claim, DueFilter};

/// The maximum number of due rows claimed at once, of each priority.
const CLAIM_AT_ONCE: usize = 1_000;
/// How often the whole index of due rows is scanned, for commits that came late.
const SWEEP: TimeDelta = TimeDelta::seconds(15);
/// How far below the oldest due row seen so far a scan begins.
const WATERMARK_SLACK: TimeDelta = TimeDelta::seconds(60);
/// How long a step pauses after the database was unavailable.
const AFTER_FAILURE: Duration = Duration::from_millis(500);
/// How often replicas exchange their demand.
const RATE_SHARING_INTERVAL: Duration = Duration::from_secs(1);
/// How often orphans are searched for.
const RESCUE_EVERY: Duration = Duration::from_secs(5);
/// How often maintenance runs.
const MAINTENANCE_INTERVAL: Duration = Duration::from_mins(1);

/// Where the scan for due rows left off.
#[derive(Debug, Default)]
pub struct Polling {
    watermarks: [Option<Timestamp>; 3],
    swept_at: Option<Timestamp>,
    took_back_at: Option<Timestamp>,
}

impl Polling {
    /// Starts over after the clock went back: the position may be in the future.
    fn follow_clock(&mut self, now: Timestamp) {
        if self.swept_at.is_some_and(|at| at > now) || self.took_back_at.is_some_and(|at| at > now) {
            *self = Self::default();
        }
    }
}

/// The running loops of one process.
pub struct Worker {
    pipeline: Arc<Pipeline>,
    loops: JoinSet<()>,
    calls: TaskTracker,
    stop_taking: CancellationToken,
    stop: CancellationToken,
}

impl Pipeline {
    /// Registers this process as a worker under a new id.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn enter(&self, host: &str) -> Result<WorkerId, StoreError> {
        let now = self.clock.now();
        let lease = WorkerLease { id: self.ids.next(now), until: now + delta(self.limits.lease) };
        self.store.enter_worker(lease.id, host, lease.until, now).await?;
        self.lease.store(Some(Arc::new(lease)));
        Ok(lease.id)
    }

    /// Renews the lease. Once it has expired, this process continues under a new id and forgets what it held.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; the lease is then unchanged.
    pub async fn renew(&self, host: &str) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.lease.load().as_deref().copied() else {
            // The lease was lost, but registering again failed: retry, or this process would never send again.
            return self.enter(host).await.map(|_| ());
        };
        let until = now + delta(self.limits.lease);
        if self.store.renew_lease(lease.id, until, now).await? {
            self.lease.store(Some(Arc::new(WorkerLease { id: lease.id, until })));
            return Ok(());
        }
        tracing::warn!(worker.id = %lease.id, "the lease of {} expired; continuing under a new one", lease.id);
        self.lease.store(None);
        let forgotten = self.memory_queue.take_all_waiting();
        self.memory_queue.forget(forgotten.iter().map(|ready| ready.claim.key()));
        self.enter(host).await.map(|_| ())
    }

    /// Looks for due, retrying and orphaned deliveries, and queues them. Returns when to look again at the latest.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn poll_once(&self, state: &mut Polling) -> Result<Option<Timestamp>, StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.present_lease(now) else { return Ok(None) };
        state.follow_clock(now);
        self.catalog.warm(&self.store).await?;
        self.learn_gates(now).await?;
        self.release_stopped(lease, now).await?;
        self.upload_wanted().await;
        let doubt = self.doubt.swap(false, std::sync::atomic::Ordering::SeqCst);
        let is_time = state.took_back_at.is_none_or(|at| at + delta(self.limits.reconcile) <= now);
        if doubt || is_time {
            state.took_back_at = Some(now);
            self.reclaim_orphaned().await.inspect_err(|_| self.raise_doubt())?;
        }
        self.claim_retries(lease, now).await?;
        let mut was_full = false;
        for (index, priority) in Priority::ALL.into_iter().enumerate() {
            was_full |= self.claim_priority(lease, priority, index, state, now).await?;
        }
        if state.swept_at.is_none_or(|at| at + SWEEP <= now) {
            state.swept_at = Some(now);
        }
        if was_full { Ok(Some(now)) } else { self.store.next_due(now).await }
    }

    /// Claims one priority's due rows; returns whether there may be more.
    async fn claim_priority(
        &self,
        lease: WorkerLease,
        priority: Priority,
        index: usize,
        state: &mut Polling,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let closed = self.stopped_apps(now).await?.into_iter().map(|app| app.0).collect::<Vec<_>>();
        let reserved = self.memory_queue.reserve_for(priority, CLAIM_AT_ONCE);
        if reserved == 0 {
            return Ok(false);
        }
        let free = i64::try_from(reserved).unwrap_or(i64::MAX);
        let sweep = state.swept_at.is_none_or(|at| at + SWEEP <= now);
        let not_before = state.watermarks[index].filter(|_| !sweep).unwrap_or(Timestamp::UNIX_EPOCH);
        let filter = DueFilter { priority, not_before, without_apps: &closed, limit: free };
        let claims = self.store.claim_due(lease.id, filter, now).await;
        let claims = claims.inspect_err(|_| self.memory_queue.unreserve(reserved))?;
        let oldest = claims.iter().filter_map(|claim| claim.delivery.due_at()).min();
        state.watermarks[index] = Some(oldest.unwrap_or(now) - WATERMARK_SLACK);
        let is_full = claims.len() == reserved;
        self.memory_queue.hold(claims.iter().map(Claim::key));
        failpoints::point("after_claim");
        let keys: Vec<_> = claims.iter().map(Claim::key).collect();
        match self.prepare(lease.id, claims, now).await {
            Ok(ready) => {
                self.memory_queue.unreserve(reserved - ready.len());
                self.memory_queue.put_waiting(ready);
                self.turn_back_stopped(lease, now).await?;
                Ok(is_full)
            }
            Err(error) => {
                self.memory_queue.unreserve(reserved);
                self.memory_queue.forget(keys);
                self.raise_doubt();
                Err(error)
            }
        }
    }

    /// Apps that nothing can be sent through now: behind a closed gate, or paused by a person.
    pub(in crate::pipeline) async fn stopped_apps(&self, now: Timestamp) -> Result<Vec<AppId>, StoreError> {
        let mut stopped = self.budget.closed_apps(now);
        stopped.extend(self.catalog.get(&self.store).await?.paused_apps());
        Ok(stopped)
    }

    /// Releases deliveries through apps that are paused or have a closed gate: they would fill memory that others need.
    async fn release_stopped(&self, lease: WorkerLease, now: Timestamp) -> Result<(), StoreError> {
        self.turn_back_stopped(lease, now).await?;
        let stopped = self.stopped_apps(now).await?;
        if stopped.is_empty() {
            return Ok(());
        }
        let waiting = self.memory_queue.take_where(|ready| stopped.contains(&ready.key.app));
        self.release_claims(lease, &waiting, None).await?;
        let retries = self.memory_queue.take_retries(|frozen| stopped.contains(&frozen.batch.app.id));
        self.release_frozen(retries).await
    }

    async fn learn_gates(&self, now: Timestamp) -> Result<(), StoreError> {
        let gates = self.store.gates().await?;
        self.stops.learn(&gates);
        let of_app = |gate: &Gate| match gate.subject {
            GateSubject::App(app) => {
                Some((app, KnownGate { until: gate.closed_until, opens_slowly: gate.code != RATE_LIMITED }))
            }
            GateSubject::Version(_) | GateSubject::Rule(_) => None,
        };
        let gates = gates.iter().filter_map(of_app).collect();
        self.budget.learn_gates(&gates, now);
        Ok(())
    }

    async fn upload_wanted(&self) {
        let wanted = std::mem::take(&mut *self.wanted_uploads.lock());
        for key in wanted {
            if self.uploads.ensure(&key).await {
                self.catalog.forget();
            } else {
                self.wanted_uploads.lock().insert(key);
            }
        }
    }

    /// Runs every step until nothing is left to do at the current time: for tests, which control the clock.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable.
    pub async fn run_until_idle(self: &Arc<Self>) -> Result<(), StoreError> {
        let mut state = Polling::default();
        loop {
            self.rescue().await?;
            self.expire_waiting().await?;
            self.overtake().await?;
            self.poll_once(&mut state).await?;
            let mut progressed = self.dispatch().await? == Round::Sent;
            let calls = self.take_calls();
            progressed |= !calls.is_empty();
            futures_util::future::join_all(calls).await;
            progressed |= self.record().await?;
            progressed |= self.recall().await? > 0;
            if !progressed {
                return Ok(());
            }
        }
    }
}

impl Worker {
    /// Registers this process as a worker and starts its loops.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable.
    pub async fn start(pipeline: Arc<Pipeline>, host: String) -> Result<Self, StoreError> {
        pipeline.enter(&host).await?;
        let (stop_taking, stop) = (CancellationToken::new(), CancellationToken::new());
        let calls = TaskTracker::new();
        let mut loops = JoinSet::new();
        loops.spawn(keep_lease(Arc::clone(&pipeline), host, stop_taking.clone(), stop.clone()));
        loops.spawn(Arc::clone(&pipeline).call_frozen(calls.clone(), stop.clone()));
        loops.spawn(keep_dispatching(Arc::clone(&pipeline), stop_taking.clone()));
        loops.spawn(keep_recording(Arc::clone(&pipeline), stop.clone()));
        loops.spawn(keep_polling(Arc::clone(&pipeline), stop_taking.clone()));
        loops.spawn(keep_sharing_rates(Arc::clone(&pipeline), stop_taking.clone()));
        loops.spawn(keep_rescuing(Arc::clone(&pipeline), stop_taking.clone()));
        loops.spawn(crate::pipeline::operator::recall::keep_recalling(
            Arc::clone(&pipeline),
            stop_taking.clone(),
        ));
        loops.spawn(keep_maintaining(Arc::clone(&pipeline), stop_taking.clone()));
        Ok(Self { pipeline, loops, calls, stop_taking, stop })
    }

    /// Stops gracefully: takes nothing new, releases what has not started, waits at most `grace` for calls in flight,
    /// and records their answers.
    pub async fn stop(mut self, grace: Duration) {
        self.stop_taking.cancel();
        let lease = self.pipeline.lease.swap(None);
        let settled = tokio::time::timeout(grace, async {
            // Frozen batches still get their call; the group commit has been stopped before. A poll that was in
            // progress may still add claims: they are released like the others.
            loop {
                if let Some(lease) = lease.as_deref() {
                    self.release_rest(*lease).await;
                }
                if self.pipeline.memory_queue.is_settled() {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        if settled.await.is_err() {
            tracing::warn!(
                "calls were still in flight; another process will settle them once the lease has expired"
            );
        }
        self.stop.cancel();
        self.calls.close();
        while self.loops.join_next().await.is_some() {}
        if let Some(lease) = lease.as_deref()
            && let Err(error) = self.pipeline.store.leave_worker(lease.id).await
        {
            tracing::warn!(error = %error.with_causes(), "the worker's row could not be deleted; it stays until its lease expires");
        }
    }
}

impl Worker {
    /// Releases what has not started.
    async fn release_rest(&self, lease: WorkerLease) {
        let waiting = self.pipeline.memory_queue.take_all_waiting();
        let retries = self.pipeline.memory_queue.take_retries(|_| true);
        let given_back = async {
            let released = self.pipeline.release_claims(lease, &waiting, None).await;
            self.pipeline.release_frozen(retries).await?;
            released
        };
        if let Err(error) = given_back.await {
            tracing::warn!(error = %error.with_causes(), "pending deliveries could not be released; they stay leased until the lease expires");
        }
    }
}

async fn rest(stop: &CancellationToken, duration: Duration) {
    tokio::select! {
        () = tokio::time::sleep(duration) => {}
        () = stop.cancelled() => {}
    }
}

async fn report_failure(step: &str, error: &StoreError, stop: &CancellationToken) {
    tracing::warn!(step, error = %error.with_causes(), "{step} failed because the database is unavailable; retrying");
    rest(stop, AFTER_FAILURE).await;
}

async fn keep_lease(
    pipeline: Arc<Pipeline>,
    host: String,
    stop_taking: CancellationToken,
    stop: CancellationToken,
) {
    while !stop.is_cancelled() {
        rest(&stop, pipeline.limits.lease_renewal).await;
        if stop.is_cancelled() {
            return;
        }
        if stop_taking.is_cancelled() {
            // The lease was released on purpose; what is in flight ends within it.
            continue;
        }
        if let Err(error) = pipeline.renew(&host).await {
            report_failure("renewing the lease", &error, &stop).await;
        }
    }
}

async fn keep_dispatching(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        let until = match pipeline.dispatch().await {
            Ok(Round::Sent) => continue,
            Ok(Round::Rest(until)) => until,
            Err(error) => {
                report_failure("dispatching", &error, &stop).await;
                continue;
            }
        };
        let wait = until.map_or(pipeline.limits.poll_interval, |until| {
            (until - pipeline.clock.now()).to_std().unwrap_or_default().max(Duration::from_millis(1))
        });
        tokio::select! {
            () = pipeline.memory_queue.to_dispatch.notified() => {}
            () = rest(&stop, wait) => {}
        }
    }
}

async fn keep_recording(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    loop {
        match pipeline.record().await {
            Ok(true) => continue,
            Ok(false) | Err(_) if stop.is_cancelled() => return,
            Ok(false) => {}
            Err(error) => {
                report_failure("recording", &error, &stop).await;
                continue;
            }
        }
        tokio::select! {
            () = pipeline.memory_queue.to_record.notified() => {}
            () = stop.cancelled() => {}
        }
    }
}

async fn keep_polling(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    /// The maximum number of wake-ups per second.
    const PAUSE: Duration = Duration::from_millis(100);
    let mut state = Polling::default();
    while !stop.is_cancelled() {
        let next = match pipeline.poll_once(&mut state).await {
            Ok(next) => next,
            Err(error) => {
                report_failure("looking for due deliveries", &error, &stop).await;
                continue;
            }
        };
        let poll = pipeline.limits.poll_interval.mul_f64(0.8 + pipeline.ids.jitter() * 0.4);
        let until_due = next.map(|next| (next - pipeline.clock.now()).to_std().unwrap_or_default());
        let wait = until_due.map_or(poll, |due| due.min(poll)).max(PAUSE);
        rest(&stop, PAUSE).await;
        tokio::select! {
            () = pipeline.look.notified() => {}
            () = rest(&stop, wait.saturating_sub(PAUSE)) => {}
        }
    }
}

async fn keep_sharing_rates(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    let mut last = std::time::Instant::now();
    let mut is_first = true;
    while !stop.is_cancelled() {
        // When idle, the number of other replicas is read only now and then.
        if is_first || pipeline.budget.has_report() || last.elapsed() >= pipeline.limits.lease_renewal {
            is_first = false;
            let elapsed = last.elapsed();
            last = std::time::Instant::now();
            if let Err(error) = pipeline.share_rates(elapsed).await {
                report_failure("sharing the rate", &error, &stop).await;
            }
        }
        rest(&stop, RATE_SHARING_INTERVAL).await;
    }
}

async fn keep_rescuing(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = pipeline.rescue().await {
            report_failure("rescuing", &error, &stop).await;
        }
        if let Err(error) = pipeline.expire_waiting().await {
            report_failure("expiring", &error, &stop).await;
        }
        if let Err(error) = pipeline.overtake().await {
            report_failure("overtaking", &error, &stop).await;
        }
        rest(&stop, RESCUE_EVERY.min(pipeline.limits.lease / 2)).await;
    }
}

async fn keep_maintaining(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    while !stop.is_cancelled() {
        if let Err(error) = pipeline.maintain().await {
            report_failure("tidying", &error, &stop).await;
        }
        rest(&stop, MAINTENANCE_INTERVAL).await;
    }
}
