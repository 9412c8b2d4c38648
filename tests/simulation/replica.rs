//! One replica: a real pipeline, and its steps in progress, each of them driven by hand.

use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::pin::Pin;
use std::sync::{Arc, LazyLock};
use std::task::Poll;
use std::time::Duration;

use async_trait::async_trait;
use herald::catalog::Publisher;
use herald::compute::{Compute, ComputeOptions};
use herald::domain::clock::{Clock, Timestamp};
use herald::domain::id::IdSource;
use herald::domain::snapshot::UploadKey;
use herald::pipeline::ingest::intake::Committing;
use herald::pipeline::ingest::{Accepted, IngestError, NewEvent};
use herald::pipeline::worker::Polling;
use herald::pipeline::{Parts, Pipeline, PipelineLimits, TemplateUploads};
use herald::provider::MessageProvider;
use herald::store::{Store, fault_injection};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::control::{Control, Death};

/// What a replica does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// The post of this number is taken in.
    Post(usize),
    Commit,
    Dispatch,
    Call,
    Record,
    Polling,
    Rescue,
    Renew,
    ReclaimOrphaned,
    Tidy,
    /// The database's clock and identity are looked at.
    Watch,
    /// Someone cancels, releases, …
    Other,
}

/// What a step comes to.
pub enum Ended {
    Done,
    /// The process ends: it could not start.
    Failed,
    Looked(Polling),
    Posted(usize, Result<Accepted, IngestError>),
}

type Step = Pin<Box<dyn Future<Output = Ended>>>;

/// A step in progress.
pub struct Running {
    pub kind: Kind,
    step: Step,
    /// A post that only waits for the next group commit.
    pub waits_for_commit: bool,
}

/// How far driving a step went.
pub enum Driven {
    Ended(Ended),
    Parked,
    Died,
}

/// What every start of a replica has in common.
pub struct Kit {
    pub slot: usize,
    pub store: Store,
    pub clock: Arc<dyn Clock>,
    pub control: Arc<Control>,
    pub provider: Arc<dyn MessageProvider>,
    pub limits: PipelineLimits,
    pub namespace: Uuid,
    pub seed: u64,
}

/// One replica.
pub struct Replica {
    pub kit: Kit,
    pub pipeline: Option<Arc<Pipeline>>,
    pub running: Vec<Running>,
    pub frozen_until: Option<Timestamp>,
    /// The true times at which its lease was renewed last, and the database looked at.
    pub renewed_at: Timestamp,
    pub watched_at: Timestamp,
    starts: u64,
    look: Polling,
}

struct Uploads(Publisher);

#[async_trait]
impl TemplateUploads for Uploads {
    async fn ensure(&self, key: &UploadKey) -> bool {
        self.0.ensure_uploaded(key).await.is_ok()
    }
}

/// The threads for work on input: shared, since they know of no replica.
fn compute() -> Arc<Compute> {
    static COMPUTE: LazyLock<Arc<Compute>> =
        LazyLock::new(|| Arc::new(Compute::start(ComputeOptions::default()).expect("threads start")));
    Arc::clone(&COMPUTE)
}

impl Replica {
    pub fn new(kit: Kit) -> Self {
        let renewed_at = kit.clock.now();
        Self {
            kit,
            pipeline: None,
            running: Vec::new(),
            frozen_until: None,
            renewed_at,
            watched_at: renewed_at,
            starts: 0,
            look: Polling::default(),
        }
    }

    pub fn host(&self) -> String {
        format!("replica-{}", self.kit.slot)
    }

    /// Starts a process; it has yet to enter as a worker.
    pub fn start(&mut self) {
        self.starts += 1;
        let seed = self.kit.seed ^ (self.starts << 32) ^ ((self.kit.slot as u64 + 1) << 48);
        let ids = Arc::new(IdSource::seeded(seed));
        let (store, clock, provider) =
            (self.kit.store.clone(), Arc::clone(&self.kit.clock), Arc::clone(&self.kit.provider));
        let publisher = Publisher::new(
            store.clone(),
            Arc::clone(&clock),
            Arc::clone(&ids),
            Arc::clone(&provider),
            compute(),
        );
        self.look = Polling::default();
        let pipeline = Pipeline::new(Parts {
            store,
            clock,
            ids,
            provider,
            compute: compute(),
            uploads: Arc::new(Uploads(publisher)),
            limits: self.kit.limits.clone(),
            namespace: self.kit.namespace,
        });
        self.kit.control.belongs_to(&pipeline);
        self.pipeline = Some(pipeline);
    }

    /// Everything in memory is gone.
    pub fn die(&mut self) {
        self.running.clear();
        self.pipeline = None;
        self.frozen_until = None;
    }

    pub fn is_running(&self, kind: Kind) -> bool {
        self.running.iter().any(|running| running.kind == kind)
    }

    /// A step of this kind, ready to be driven. Loops do one thing after the other: `None` while it is in progress.
    pub fn begin(&mut self, kind: Kind) -> Option<Running> {
        if self.is_running(kind) {
            return None;
        }
        let pipeline = Arc::clone(self.pipeline.as_ref()?);
        let host = self.host();
        Some(match kind {
            Kind::Commit => self.step(kind, async move {
                let stop = CancellationToken::new();
                stop.cancel();
                for committing in [Committing::Urgent, Committing::Ordinary] {
                    Arc::clone(&pipeline).commit_groups(committing, stop.clone()).await;
                }
                Ended::Done
            }),
            Kind::Dispatch => self.step(kind, async move {
                let _ = pipeline.dispatch().await;
                Ended::Done
            }),
            Kind::Record => self.step(kind, async move {
                let _ = pipeline.record().await;
                Ended::Done
            }),
            Kind::Rescue => self.step(kind, async move {
                let _ = pipeline.rescue().await;
                let _ = pipeline.expire_waiting().await;
                let _ = pipeline.overtake().await;
                let _ = pipeline.share_rates(Duration::from_secs(1)).await;
                Ended::Done
            }),
            Kind::Renew => self.step(kind, async move {
                let _ = pipeline.renew(&host).await;
                Ended::Done
            }),
            Kind::Watch => self.step(kind, async move {
                let _ = pipeline.watch_database().await;
                Ended::Done
            }),
            Kind::ReclaimOrphaned => self.step(kind, async move {
                let _ = pipeline.reclaim_orphaned().await;
                Ended::Done
            }),
            Kind::Tidy => self.step(kind, async move {
                let _ = pipeline.maintain().await;
                Ended::Done
            }),
            Kind::Polling => {
                let mut look = std::mem::take(&mut self.look);
                self.step(kind, async move {
                    let _ = pipeline.poll_once(&mut look).await;
                    Ended::Looked(look)
                })
            }
            Kind::Post(_) | Kind::Call | Kind::Other => return None,
        })
    }

    /// A post, ready to be driven.
    pub fn post(&self, number: usize, event: NewEvent) -> Option<Running> {
        let pipeline = Arc::clone(self.pipeline.as_ref()?);
        Some(
            self.step(Kind::Post(number), async move { Ended::Posted(number, pipeline.accept(event).await) }),
        )
    }

    /// Calls that wait to be made.
    pub fn calls(&self) -> Vec<Running> {
        let Some(pipeline) = &self.pipeline else { return Vec::new() };
        let call = |call| {
            self.step(Kind::Call, async move {
                let () = call.await;
                Ended::Done
            })
        };
        pipeline.take_calls().into_iter().map(call).collect()
    }

    /// A step with this replica's faults around it.
    pub fn step(&self, kind: Kind, step: impl Future<Output = Ended> + 'static) -> Running {
        let step = Box::pin(fault_injection::around(Arc::clone(&self.kit.control) as _, step));
        Running { kind, step, waits_for_commit: false }
    }

    /// Drives a step until it ends, is stalled, or the replica dies; what is stalled is kept.
    pub async fn drive(&mut self, mut running: Running) -> Driven {
        let waiting_before = self.events_waiting();
        self.kit.control.take_parked();
        let is_post = matches!(running.kind, Kind::Post(_));
        let control = Arc::clone(&self.kit.control);
        let pipeline = self.pipeline.clone();
        let is_waiting = || {
            is_post && pipeline.as_ref().is_some_and(|pipeline| pipeline.events_waiting() > waiting_before)
        };
        let driving = std::future::poll_fn(|context| {
            match catch_unwind(AssertUnwindSafe(|| running.step.as_mut().poll(context))) {
                Err(panic) if panic.is::<Death>() => Poll::Ready(Driven::Died),
                Err(panic) => resume_unwind(panic),
                Ok(Poll::Ready(ended)) => Poll::Ready(Driven::Ended(ended)),
                Ok(Poll::Pending) if control.take_parked() => Poll::Ready(Driven::Parked),
                Ok(Poll::Pending) if is_waiting() => {
                    running.waits_for_commit = true;
                    Poll::Ready(Driven::Parked)
                }
                Ok(Poll::Pending) => Poll::Pending,
            }
        });
        let driven = tokio::time::timeout(Duration::from_secs(30), driving).await;
        let kind = running.kind;
        let driven = driven.unwrap_or_else(|_| panic!("{kind:?} of replica {} hangs", self.kit.slot));
        match &driven {
            Driven::Parked => self.running.push(running),
            Driven::Died => self.die(),
            Driven::Ended(_) => {}
        }
        driven
    }

    /// Notes what the look-out has learnt.
    pub fn looked(&mut self, look: Polling) {
        self.look = look;
    }

    /// Posts that the last group commit has answered.
    pub fn answered_posts(&mut self) -> Vec<(usize, Result<Accepted, IngestError>)> {
        let mut answered = Vec::new();
        let mut context = std::task::Context::from_waker(std::task::Waker::noop());
        let mut still = Vec::new();
        for mut running in std::mem::take(&mut self.running) {
            if !running.waits_for_commit {
                still.push(running);
                continue;
            }
            match running.step.as_mut().poll(&mut context) {
                Poll::Ready(Ended::Posted(number, result)) => answered.push((number, result)),
                Poll::Ready(Ended::Done | Ended::Failed | Ended::Looked(_)) => {}
                Poll::Pending => still.push(running),
            }
        }
        self.running = still;
        answered
    }

    pub fn events_waiting(&self) -> usize {
        self.pipeline.as_ref().map_or(0, |pipeline| pipeline.events_waiting())
    }
}
