//! The event path: `ingest -> plan -> dispatch -> deliver -> record`, in one direction.
//!
//! `ingest` stores events with their plan, many requests in one commit. `dispatch` packs due deliveries into batches
//! and freezes them, `deliver` makes the calls with no transaction open, `record` stores their answers. `worker` runs
//! these steps for one process, and `upkeep` takes over from processes that died. `memory_queue` is what a process
//! holds in memory; Postgres is the source of truth, and every write names the claim that it is made under.
//!
//! This module knows neither HTTP requests nor OneSignal's JSON: requests come from `api`, calls go through the
//! provider port.

pub mod compiled;
pub mod ingest;
pub mod operator;
pub mod plan;
pub mod rate;
pub mod send;
pub mod worker;

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use async_trait::async_trait;
use parking_lot::Mutex;
use tokio::sync::Notify;
use uuid::Uuid;

use crate::compute::Compute;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{IdSource, WorkerId};
use crate::domain::retry::RetryPolicy;
use crate::domain::snapshot::UploadKey;
use crate::provider::MessageProvider;
use crate::store::Store;
use crate::store::watch::DatabaseWatch;

pub use worker::database_watch::WATCH_EVERY;

/// Every limit and duration that the pipeline's steps need.
#[derive(Debug, Clone)]
pub struct PipelineLimits {
    /// The maximum number of events in one group commit.
    pub group_events: usize,
    /// The maximum number of events that wait for a group commit.
    pub waiting_events: usize,
    /// The number of open deliveries above which events are rejected, the lowest priority first.
    pub backlog: u64,
    /// The size of an audience above which a person has to release the delivery.
    pub release_over: u32,
    /// The maximum number of concurrent calls per app.
    pub calls_in_flight: usize,
    /// The share of an app's rate limit that is used.
    pub plan_share: f64,
    /// The maximum number of deliveries in the memory queue.
    pub memory_queue_size: usize,
    /// The maximum number of recipients in one call.
    pub max_targets: usize,
    /// How long a delivery may be sent if nothing else is specified.
    pub default_ttl: Duration,
    /// The minimum time left before expiry for urgent deliveries.
    pub urgent_min_remaining: Duration,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How often it is renewed.
    pub lease_renewal: Duration,
    /// How long deliveries are sent one per call after the database was restored.
    pub restored_window: Duration,
    /// How often due deliveries are polled.
    pub poll_interval: Duration,
    /// How often rows leased to this worker are compared with its memory.
    pub reconcile: Duration,
    /// The longest call: a dead worker's calls have ended this long after its lease.
    pub call_timeout: Duration,
    /// How long a rejected API key closes its app's gate, at first and at most.
    pub gate: (Duration, Duration),
    /// When an app's failure rate stops its calls, and how it recovers.
    pub breaker: rate::budget::BreakerPolicy,
    /// Retention periods.
    pub keep_days: KeepDays,
    /// The retry policy of each priority.
    pub retry: RetryPolicy,
}

/// Retention periods, in days.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepDays {
    /// The history: events without their payload, deliveries, decisions, calls.
    pub history: u32,
    /// Payloads of events. Never longer than the history.
    pub payloads: u32,
    /// The keys that detect duplicates.
    pub keys: u32,
}

/// Makes sure that a version's locale is uploaded to an app. The catalog does it; the pipeline only knows that it may
/// have to be repeated after OneSignal has lost a template.
#[async_trait]
pub trait TemplateUploads: Send + Sync + 'static {
    /// Uploads what is missing; returns whether OneSignal has it now.
    async fn ensure(&self, key: &UploadKey) -> bool;
}

/// A started worker: this process's name in leases.
#[derive(Debug, Clone, Copy)]
pub struct WorkerLease {
    /// New at every start and after every expired lease.
    pub id: WorkerId,
    /// When the lease expires.
    pub until: Timestamp,
}

/// What all steps share.
pub struct Pipeline {
    pub(crate) store: Store,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) ids: Arc<IdSource>,
    pub(crate) provider: Arc<dyn MessageProvider>,
    pub(crate) compute: Arc<Compute>,
    pub(crate) uploads: Arc<dyn TemplateUploads>,
    pub(crate) limits: PipelineLimits,
    pub(crate) namespace: Uuid,
    pub(crate) catalog: compiled::CatalogCache,
    pub(crate) memory_queue: send::memory_queue::MemoryQueue,
    pub(crate) budget: rate::budget::Budget,
    stops: rate::version_gates::Stops,
    overload: ingest::overload::Overload,
    pub(crate) intake: ingest::intake::Intake,
    pub(crate) lease: ArcSwapOption<WorkerLease>,
    pub(crate) wanted_uploads: Mutex<BTreeSet<UploadKey>>,
    /// Called when an event has stored changes of people or custom events.
    on_people: OnceLock<Box<dyn Fn() + Send + Sync>>,
    /// Notified when rows may be due, orphaned or unknown to this process.
    pub(crate) look: Notify,
    /// Set when a commit's result is unknown: rows may be leased to this worker that it does not know.
    pub(crate) doubt: std::sync::atomic::AtomicBool,
    /// Set when an ordering lane's next delivery was unblocked.
    pub(crate) has_unblocked: std::sync::atomic::AtomicBool,
    /// What is known of the database's clock and restores.
    watch: arc_swap::ArcSwap<DatabaseWatch>,
    /// When the database was last checked, in microseconds since 1970.
    watched_at: std::sync::atomic::AtomicI64,
    /// Checks in a row that were left to another process.
    skipped_watches: std::sync::atomic::AtomicU32,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Pipeline")
    }
}

/// What a pipeline is made of.
pub struct Parts {
    /// The database.
    pub store: Store,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The source of ids and jitter.
    pub ids: Arc<IdSource>,
    /// The message provider.
    pub provider: Arc<dyn MessageProvider>,
    /// The threads for work on input.
    pub compute: Arc<Compute>,
    /// Uploads templates again.
    pub uploads: Arc<dyn TemplateUploads>,
    /// The limits.
    pub limits: PipelineLimits,
    /// The deployment's secret seed of idempotency keys.
    pub namespace: Uuid,
}

impl Pipeline {
    /// Builds the pipeline; nothing runs yet and the catalog is read when first needed.
    pub fn new(parts: Parts) -> Arc<Self> {
        let limits = parts.limits;
        Arc::new(Self {
            store: parts.store,
            clock: parts.clock,
            ids: parts.ids,
            provider: parts.provider,
            compute: parts.compute,
            uploads: parts.uploads,
            namespace: parts.namespace,
            catalog: compiled::CatalogCache::default(),
            memory_queue: send::memory_queue::MemoryQueue::new(limits.memory_queue_size),
            budget: rate::budget::Budget::new(limits.calls_in_flight, limits.plan_share, limits.breaker),
            stops: rate::version_gates::Stops::default(),
            overload: ingest::overload::Overload::default(),
            intake: ingest::intake::Intake::new(limits.waiting_events),
            lease: ArcSwapOption::empty(),
            wanted_uploads: Mutex::new(BTreeSet::new()),
            on_people: OnceLock::new(),
            look: Notify::new(),
            doubt: std::sync::atomic::AtomicBool::new(false),
            has_unblocked: std::sync::atomic::AtomicBool::new(false),
            watch: arc_swap::ArcSwap::default(),
            watched_at: std::sync::atomic::AtomicI64::new(i64::MIN),
            skipped_watches: std::sync::atomic::AtomicU32::new(0),
            limits,
        })
    }

    /// Names what is called when an event has stored changes of people or custom events; a second call changes nothing.
    pub fn set_on_people(&self, on_people: impl Fn() + Send + Sync + 'static) {
        let _ = self.on_people.set(Box::new(on_people));
    }

    /// The retention periods.
    pub fn kept_days(&self) -> KeepDays {
        self.limits.keep_days
    }

    /// The number of deliveries that this process holds in memory.
    pub fn deliveries_in_memory(&self) -> usize {
        self.memory_queue.held_count()
    }

    /// Wakes the poller for due and unblocked deliveries.
    pub fn wake(&self) {
        self.look.notify_one();
    }

    /// The number of events that wait for a group commit.
    pub fn events_waiting(&self) -> usize {
        self.intake.waiting_count()
    }

    /// Whether some step is reading the catalog again: others wait for it.
    pub fn is_reading_catalog(&self) -> bool {
        self.catalog.is_being_read()
    }

    /// This process's lease, while it is valid.
    pub(crate) fn present_lease(&self, now: Timestamp) -> Option<WorkerLease> {
        self.lease.load().as_deref().copied().filter(|lease| lease.until > now)
    }

    /// Notes that rows may be leased to this worker that it does not know, and wakes the poller.
    pub(crate) fn raise_doubt(&self) {
        self.doubt.store(true, std::sync::atomic::Ordering::SeqCst);
        self.look.notify_one();
    }
}
