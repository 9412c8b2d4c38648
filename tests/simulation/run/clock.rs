//! The database's clock, which goes back once in some seeds, and what must not wait for it afterwards.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use herald::domain::clock::{Clock, TestClock, Timestamp};
use rand::RngExt;
use sqlx::Row;
use uuid::Uuid;

use super::Run;
use crate::oracle::Finding;
use crate::replica::Kind;

/// How often each process looks at the database.
const WATCH_EVERY: TimeDelta = TimeDelta::seconds(5);
/// How long after the time at which it was due a delivery may wait in a calm: a few looks and a lease.
const PATIENCE: TimeDelta = TimeDelta::minutes(3);

/// The true time, and how far the database's clock is off.
pub struct DatabaseClock {
    truth: Arc<TestClock>,
    back_us: AtomicI64,
}

impl DatabaseClock {
    pub fn new(truth: &Arc<TestClock>) -> Self {
        Self { truth: Arc::clone(truth), back_us: AtomicI64::new(0) }
    }

    fn set_back(&self, by: TimeDelta) {
        self.back_us.fetch_add(by.num_microseconds().unwrap_or_default(), Ordering::SeqCst);
    }

    fn back(&self) -> TimeDelta {
        TimeDelta::microseconds(self.back_us.load(Ordering::SeqCst))
    }
}

impl Clock for DatabaseClock {
    fn now(&self) -> Timestamp {
        self.truth.now() - self.back()
    }
}

/// The clock went back.
pub struct Step {
    /// In true time.
    at: Timestamp,
    back: TimeDelta,
    /// What waited then and was not planned for a time of day: when it was due, by the clock before the step.
    waiting: BTreeMap<Uuid, Timestamp>,
    /// Batches that were there: the times at which they were made don't show it.
    pub batches: HashSet<Uuid>,
}

impl Step {
    /// What the database's clock showed at a true time.
    pub fn by_database(&self, at: Timestamp) -> Timestamp {
        if at > self.at { at - self.back } else { at }
    }

    /// How far it went back.
    pub fn back(&self) -> TimeDelta {
        self.back
    }
}

impl Run<'_> {
    /// Whether someone looks at the database in this seed. In the others it would find nothing, and take its time.
    pub(super) fn is_watched(&self) -> bool {
        (self.plan.clock_goes_back.is_some() || self.plan.copied.is_some()) && !self.plant.never_watches
    }

    /// Has a replica look at the database if it is time.
    pub(super) async fn watch_in_time(&mut self, slot: usize) {
        let (now, replica) = (self.true_now(), &self.replicas[slot]);
        let is_awake = replica.frozen_until.is_none_or(|until| until <= now);
        let is_due = replica.watched_at + WATCH_EVERY <= now;
        if self.is_watched() && is_awake && is_due && replica.pipeline.is_some() && self.chance(90) {
            self.begin(slot, Kind::Watch).await;
        }
    }

    /// Each replica looks at the database, until it has.
    pub async fn watch_all(&mut self) {
        if !self.is_watched() {
            return;
        }
        for pipeline in self.replicas.iter().filter_map(|replica| replica.pipeline.as_ref()) {
            for _ in 0..3 {
                if pipeline.watch_database().await.is_ok() {
                    break;
                }
            }
        }
    }

    /// The clock goes back, less than five seconds after someone looked at it. If no one can, it is tried again later.
    pub(super) async fn set_clock_back(&mut self) {
        if self.is_watched() {
            let Some(slot) = self.pick_replica() else { return };
            self.begin(slot, Kind::Watch).await;
            let query = "SELECT EXISTS (SELECT 1 FROM database_watch WHERE read_at = $1)";
            let now = self.now();
            let is_read: bool =
                sqlx::query_scalar(query).bind(now).fetch_one(&self.world.books).await.expect("the books");
            if !is_read {
                return;
            }
        }
        let later = Duration::from_millis(self.random.random_range(0..5_000));
        self.advance(later).await;
        self.report.fault("clock set back");
        let back = if self.chance(30) {
            TimeDelta::seconds(self.random.random_range(120..1_200))
        } else {
            TimeDelta::seconds(self.random.random_range(1_200..8 * 3_600))
        };
        let (waiting, batches) = self.note_what_waits().await;
        self.step = Some(Step { at: self.true_now(), back, waiting, batches });
        self.clock.set_back(back);
        // So that no moment of true time is on both sides of the step.
        self.advance(Duration::from_millis(1)).await;
    }

    async fn note_what_waits(&self) -> (BTreeMap<Uuid, Timestamp>, HashSet<Uuid>) {
        let query = "SELECT q.delivery_id, q.due_at FROM queue q JOIN deliveries d ON d.id = q.delivery_id
            WHERE q.state IN ('queued', 'retrying')
                AND (q.state = 'retrying' OR q.attempts > 0 OR q.due_at <= d.created_at + interval '1 second')";
        let books = &self.world.books;
        let rows = sqlx::query(query).fetch_all(books).await.expect("the books can be read");
        let waiting = rows.iter().map(|row| (row.get("delivery_id"), row.get("due_at"))).collect();
        let batches: Vec<Uuid> =
            sqlx::query_scalar("SELECT id FROM batches").fetch_all(books).await.expect("the books");
        (waiting, batches.into_iter().collect())
    }

    /// What waits until the clock is again where it was.
    pub async fn waits_for_the_clock(&self, calm_since: Timestamp) -> Vec<Finding> {
        const NAME: &str = "nothing waits for the clock";
        let Some(step) = &self.step else { return Vec::new() };
        let query = "SELECT delivery_id, due_at FROM queue
            WHERE state IN ('queued', 'retrying') AND due_at > $1";
        let (now, books) = (self.now(), &self.world.books);
        let rows = sqlx::query(query).bind(now).fetch_all(books).await.expect("the books can be read");
        let late = |(id, due_at): &(Uuid, Timestamp)| {
            step.waiting.get(id) == Some(due_at) && overdue_at(*due_at, calm_since) <= self.true_now()
        };
        let waiting = rows.iter().map(|row| (row.get("delivery_id"), row.get("due_at"))).filter(late);
        let detail = |(id, due_at): (Uuid, Timestamp)| {
            format!("{id} waits until {due_at} since the clock went back by {} s", step.back.num_seconds())
        };
        let mut found: Vec<Finding> = waiting.map(|row| Finding::new(NAME, detail(row))).collect();
        let query = "SELECT id || ' has its lease until ' || lease_until FROM workers
            WHERE lease_until > $1 + interval '46 seconds'
            UNION ALL
            SELECT scope || ' ' || subject || ' is closed until ' || closed_until FROM gates
            WHERE closed_until > $1 + $2 * interval '1 second' AND closed_until < 'infinity'";
        let longest = self.world.limits.gate.1.max(self.world.limits.breaker.longest);
        let longest = i64::try_from(longest.as_secs()).expect("a time").max(16 * 60 + 30);
        let others: Vec<String> = sqlx::query_scalar(query)
            .bind(now)
            .bind(longest)
            .fetch_all(books)
            .await
            .expect("the books can be read");
        found.extend(others.into_iter().map(|other| Finding::new(NAME, other)));
        found
    }

    /// When deliveries must next have stopped waiting for the clock, by the database's clock.
    pub fn next_look_at_the_clock(&self, calm_since: Timestamp) -> Option<Timestamp> {
        let (step, now) = (self.step.as_ref()?, self.true_now());
        let looks = step.waiting.values().map(|due_at| overdue_at(*due_at, calm_since));
        looks.filter(|at| *at > now).min().map(|at| at - self.clock.back())
    }

    /// A moment of OneSignal's by the database's clock of now.
    pub fn by_database(&self, at: Timestamp) -> Timestamp {
        at - self.clock.back()
    }
}

/// When a delivery that waited must have been sent, in true time, if it has been calm since `calm_since`.
fn overdue_at(due_at: Timestamp, calm_since: Timestamp) -> Timestamp {
    due_at.max(calm_since) + PATIENCE
}
