//! The way of an event: `ingest -> plan -> dispatch -> deliver -> record`, one direction.
//!
//! `ingest` stores events with what `plan` makes of them, many requests in one commit. `dispatch` packs due deliveries
//! into batches and freezes them, `deliver` makes the calls with no transaction open, `record` writes down what they
//! came back with. `worker` runs those steps for one process and `upkeep` takes over from processes that died. What a
//! process holds in memory is in `line`; Postgres is the truth, and every write names the claim it is made under.
//!
//! Nothing here knows HTTP's edge or OneSignal's JSON: requests come from `api`, calls go through the provider's port.

pub mod compiled;
pub mod ingest;
pub mod operator;
pub mod plan;
pub mod rate;
pub mod send;
pub mod worker;

use std::collections::BTreeSet;
use std::sync::Arc;
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

/// Every figure that the pipeline's steps need.
#[derive(Debug, Clone)]
pub struct PipelineLimits {
    /// Events in one group commit at most.
    pub group_events: usize,
    /// Events that may wait for a group commit.
    pub waiting_events: usize,
    /// Open deliveries beyond which events are refused, the least urgent first.
    pub backlog: u64,
    /// Recipients of an audience beyond which a person has to release it.
    pub release_over: u32,
    /// Calls under way at once, for each app.
    pub calls_in_flight: usize,
    /// Share of an app's calls a second that is used.
    pub plan_share: f64,
    /// Deliveries that may wait in memory.
    pub memory_queue_size: usize,
    /// Recipients in one call at most.
    pub max_targets: usize,
    /// How long a delivery is worth sending when nobody says.
    pub default_ttl: Duration,
    /// Urgent deliveries need this much life left.
    pub urgent_min_remaining: Duration,
    /// How long a lease lasts.
    pub lease: Duration,
    /// How often it is renewed.
    pub lease_renewal: Duration,
    /// How long deliveries are sent alone after the database was restored.
    pub restored_window: Duration,
    /// How often due deliveries are looked for.
    pub poll_interval: Duration,
    /// How often rows in this worker's name are compared with its memory.
    pub reconcile: Duration,
    /// The longest call: a dead worker's calls have ended this long after its lease.
    pub call_timeout: Duration,
    /// How long a refused key closes its app at first, and at most.
    pub gate: (Duration, Duration),
    /// When an app's calls fail so often that none are made, and how it comes back.
    pub breaker: rate::budget::BreakerPolicy,
    /// How long things are kept.
    pub keep_days: KeepDays,
    /// How the priorities are tried again.
    pub retry: RetryPolicy,
}

/// Days that things are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeepDays {
    /// What happened: events without what they said, deliveries, decisions, calls.
    pub history: u32,
    /// What events said. Never longer than the history.
    pub payloads: u32,
    /// The keys that guard against repeats.
    pub keys: u32,
}

/// Makes sure that a version's locale is uploaded to an app. The catalog does it; the pipeline only knows that it
/// may have to be done again when OneSignal has lost a template.
#[async_trait]
pub trait TemplateUploads: Send + Sync + 'static {
    /// Uploads what is missing; returns whether OneSignal has it now.
    async fn ensure(&self, key: &UploadKey) -> bool;
}

/// A started worker: this process's name in leases.
#[derive(Debug, Clone, Copy)]
pub struct WorkerLease {
    /// New at every start and after every lapse.
    pub id: WorkerId,
    /// Until when its claims stand.
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
    /// Rings when rows may be due, orphaned or forgotten.
    pub(crate) look: Notify,
    /// Set when a commit's result is unknown: rows may be in our name that we don't hold.
    pub(crate) doubt: std::sync::atomic::AtomicBool,
    /// Set when somebody was let go whose turn it is now.
    pub(crate) turns_passed: std::sync::atomic::AtomicBool,
    /// What is known of the database's past.
    watch: arc_swap::ArcSwap<DatabaseWatch>,
    /// When the database was looked at last, in microseconds since 1970.
    watched_at: std::sync::atomic::AtomicI64,
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
    /// Ids and jitter.
    pub ids: Arc<IdSource>,
    /// Who carries the messages.
    pub provider: Arc<dyn MessageProvider>,
    /// The threads for work on input.
    pub compute: Arc<Compute>,
    /// Who uploads templates again.
    pub uploads: Arc<dyn TemplateUploads>,
    /// The figures.
    pub limits: PipelineLimits,
    /// The deployment's secret seed of idempotency keys.
    pub namespace: Uuid,
}

impl Pipeline {
    /// Puts the parts together; nothing runs yet and the catalog is read when first needed.
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
            look: Notify::new(),
            doubt: std::sync::atomic::AtomicBool::new(false),
            turns_passed: std::sync::atomic::AtomicBool::new(false),
            watch: arc_swap::ArcSwap::default(),
            watched_at: std::sync::atomic::AtomicI64::new(i64::MIN),
            limits,
        })
    }

    /// How long things are kept.
    pub fn kept_days(&self) -> KeepDays {
        self.limits.keep_days
    }

    /// Deliveries that this process holds in memory.
    pub fn deliveries_in_memory(&self) -> usize {
        self.memory_queue.held_count()
    }

    /// Has what is due and what is stopped looked at now.
    pub fn wake(&self) {
        self.look.notify_one();
    }

    /// Events that wait for a group commit.
    pub fn events_waiting(&self) -> usize {
        self.intake.waiting_count()
    }

    /// Whether some step is reading the catalog anew: others wait for it.
    pub fn is_reading_catalog(&self) -> bool {
        self.catalog.is_being_read()
    }

    /// This process's lease, while it stands.
    pub(crate) fn present_lease(&self, now: Timestamp) -> Option<WorkerLease> {
        self.lease.load().as_deref().copied().filter(|lease| lease.until > now)
    }

    /// Notes that rows may stand in our name that we don't hold, and has them looked for.
    pub(crate) fn raise_doubt(&self) {
        self.doubt.store(true, std::sync::atomic::Ordering::SeqCst);
        self.look.notify_one();
    }
}
