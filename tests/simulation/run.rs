//! One seed: a scheduler that does one step of one replica at a time, moves the clock, and injects faults.

pub mod clock;
mod meddling;
mod posting;
pub mod restore;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use herald::domain::clock::{Clock, TestClock, Timestamp};
use herald::domain::id::EventId;
use herald::pipeline::ingest::{Accepted, IngestError};
use herald::provider::MessageProvider;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use uuid::Uuid;

use crate::catalog::EventSpec;
use crate::control::{Control, Odds};
use crate::onesignal::{OneSignal, dice};
use crate::plants::Plant;
use crate::provider::Provider;
use crate::replica::{Driven, Ended, Kind, Kit, Replica, Running};
use crate::report::Report;
use crate::world::{REPLICAS, World, start_of_time};

use self::clock::{DatabaseClock, Step};
use self::restore::{Backup, Restored};

/// Steps of the stormy part.
const STEPS: u32 = 150;
/// Events at most.
const EVENTS_POSTED: usize = 14;
/// The recipients. Some have no subscription, and one makes OneSignal refuse the whole call.
const PEOPLE: [&str; 10] = ["u1", "u2", "u3", "u4", "u5", "u6", "u7", "lapsed1", "lapsed2", "poison1"];

/// An event as its source knows it.
pub struct Posted {
    pub spec: &'static EventSpec,
    pub event_key: String,
    pub mark: String,
    pub recipients: Vec<&'static str>,
    pub expires_at: Option<Timestamp>,
    pub cancellation_key: Option<String>,
    pub stops: String,
    /// What it was acknowledged as, each time.
    pub acknowledged: Vec<EventId>,
    /// It was refused for good: its time was over when it came.
    pub is_refused: bool,
}

/// Someone did not want a channel any more from then on.
pub struct OptOut {
    pub person: &'static str,
    pub channel: &'static str,
    pub since: Timestamp,
    /// Whether the database's clock had gone back before.
    pub is_after_step: bool,
}

/// One seed on its way.
pub struct Run<'a> {
    pub seed: u64,
    pub world: &'a World,
    pub plant: &'a Plant,
    /// The true time, which OneSignal goes by.
    pub truth: Arc<TestClock>,
    /// The database's clock, which Herald goes by.
    pub clock: Arc<DatabaseClock>,
    /// What happens to the whole database in this seed.
    pub plan: DatabasePlan,
    pub step: Option<Step>,
    pub backup: Option<Backup>,
    pub restored: Option<Restored>,
    pub onesignal: Arc<OneSignal>,
    pub replicas: Vec<Replica>,
    pub posted: Vec<Posted>,
    pub opt_outs: Vec<OptOut>,
    /// Good events that were refused, and how.
    pub refused: Vec<String>,
    pub report: Report,
    pub random: StdRng,
    /// Days whose partitions are there.
    days: BTreeSet<chrono::NaiveDate>,
    outage_until: Option<Timestamp>,
    has_long_jump: bool,
}

impl<'a> Run<'a> {
    pub fn new(seed: u64, world: &'a World, plant: &'a Plant) -> Self {
        let truth = Arc::new(TestClock::at(start_of_time()));
        let clock = Arc::new(DatabaseClock::new(&truth));
        let onesignal = Arc::new(OneSignal::new(seed, Arc::clone(&truth), world.templates.clone(), true));
        let plan = DatabasePlan::of(seed);
        let mut random = StdRng::seed_from_u64(seed);
        let odds = weather(&mut random);
        let count = random.random_range(2..=REPLICAS);
        let replicas =
            (0..count).map(|slot| replica(seed, slot, odds, world, plant, &clock, &onesignal)).collect();
        // A jump of 31 days would end the time in which deliveries are sent alone after a restore.
        let has_long_jump = random.random_range(0..12) == 0 && plan.restored.is_none();
        Self {
            seed,
            world,
            plant,
            truth,
            clock,
            plan,
            step: None,
            backup: None,
            restored: None,
            onesignal,
            replicas,
            posted: Vec::new(),
            opt_outs: Vec::new(),
            refused: Vec::new(),
            report: Report { seeds: 1, ..Report::default() },
            random,
            days: BTreeSet::new(),
            outage_until: None,
            has_long_jump,
        }
    }

    /// The database's time.
    pub fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// The true time.
    pub fn true_now(&self) -> Timestamp {
        self.truth.now()
    }

    fn chance(&mut self, in_a_hundred: u32) -> bool {
        self.random.random_range(0..100) < in_a_hundred
    }

    /// The stormy part.
    pub async fn storm(&mut self) {
        self.make_days().await;
        for slot in 0..self.replicas.len() {
            self.revive(slot).await;
        }
        for number in 0..STEPS {
            self.report.steps += 1;
            self.disturb_database(number).await;
            match self.random.random_range(0..100) {
                0..9 => self.post_new().await,
                9..13 => self.post_again().await,
                13..27 => self.move_clock().await,
                27..29 => self.kill().await,
                29..31 => self.freeze(),
                31..32 => self.toggle_outage(),
                32..35 => self.meddle().await,
                _ => self.step_of_one().await,
            }
        }
    }

    fn pick_replica(&mut self) -> Option<usize> {
        let now = self.true_now();
        let alive: Vec<usize> = (0..self.replicas.len())
            .filter(|slot| {
                let replica = &self.replicas[*slot];
                replica.pipeline.is_some() && replica.frozen_until.is_none_or(|until| until <= now)
            })
            .collect();
        if alive.is_empty() { None } else { Some(alive[self.random.random_range(0..alive.len())]) }
    }

    async fn step_of_one(&mut self) {
        if let Some(dead) = (0..self.replicas.len()).find(|slot| self.replicas[*slot].pipeline.is_none())
            && self.chance(25)
        {
            return self.revive(dead).await;
        }
        let Some(slot) = self.pick_replica() else { return };
        let replica = &mut self.replicas[slot];
        let parked: Vec<usize> =
            (0..replica.running.len()).filter(|n| !replica.running[*n].waits_for_commit).collect();
        if !parked.is_empty() && self.random.random_range(0..100) < 45 {
            let place = parked[self.random.random_range(0..parked.len())];
            let running = self.replicas[slot].running.remove(place);
            return self.drive(slot, running).await;
        }
        let calls = self.replicas[slot].calls();
        if !calls.is_empty() {
            for call in calls {
                if self.replicas[slot].pipeline.is_some() {
                    self.drive(slot, call).await;
                }
            }
            return;
        }
        let kind = self.pick_kind(slot);
        self.begin(slot, kind).await;
    }

    fn pick_kind(&mut self, slot: usize) -> Kind {
        if self.replicas[slot].events_waiting() > 0 && self.chance(60) {
            return Kind::Commit;
        }
        if self.is_watched() && self.chance(4) {
            return Kind::Watch;
        }
        match self.random.random_range(0..100) {
            0..28 => Kind::Dispatch,
            28..56 => Kind::Record,
            56..80 => Kind::Polling,
            80..91 => Kind::Rescue,
            91..95 => Kind::Renew,
            95..98 => Kind::ReclaimOrphaned,
            _ => Kind::Tidy,
        }
    }

    async fn begin(&mut self, slot: usize, kind: Kind) {
        let now = self.true_now();
        match kind {
            Kind::Renew => self.replicas[slot].renewed_at = now,
            Kind::Watch => self.replicas[slot].watched_at = now,
            _ => {}
        }
        if kind == Kind::Renew && self.plant.heartbeat_is_unfenced {
            self.world.execute(&heartbeat(&self.replicas[slot].host(), self.now())).await;
        }
        if let Some(running) = self.replicas[slot].begin(kind) {
            self.drive(slot, running).await;
        }
    }

    async fn drive(&mut self, slot: usize, running: Running) {
        let kind = running.kind;
        let driven = self.replicas[slot].drive(running).await;
        match driven {
            Driven::Ended(Ended::Done) if kind == Kind::Commit => {
                for (number, result) in self.replicas[slot].answered_posts() {
                    self.answered(number, &result);
                }
            }
            Driven::Ended(Ended::Done) | Driven::Parked => {}
            Driven::Ended(Ended::Failed) => self.replicas[slot].die(),
            Driven::Ended(Ended::Looked(look)) => self.replicas[slot].looked(look),
            Driven::Ended(Ended::Posted(number, result)) => self.answered(number, &result),
            Driven::Died => self.world.end_idle_transactions().await,
        }
    }

    fn answered(&mut self, number: usize, result: &Result<Accepted, IngestError>) {
        let posted = &mut self.posted[number];
        match result {
            Ok(accepted) => {
                posted.acknowledged.push(accepted.event);
                if self.random.random_range(0..100) < 10 {
                    self.report.fault("202 lost");
                }
            }
            Err(IngestError::Expired) if posted.acknowledged.is_empty() => posted.is_refused = true,
            Err(IngestError::Busy | IngestError::Unavailable | IngestError::Expired) => {}
            Err(error) => self.refused.push(format!("event {number}: {error}")),
        }
    }

    async fn move_clock(&mut self) {
        let by = match self.random.random_range(0..100) {
            0..40 => Duration::from_millis(self.random.random_range(1..4_000)),
            40..75 => Duration::from_secs(self.random.random_range(4..30)),
            75..92 => Duration::from_secs(self.random.random_range(30..240)),
            92..98 => Duration::from_secs(self.random.random_range(240..5_400)),
            _ if self.has_long_jump => {
                self.has_long_jump = false;
                self.report.fault("31 days");
                Duration::from_hours(31 * 24)
            }
            _ => Duration::from_hours(self.random.random_range(2..9)),
        };
        self.advance(by).await;
        for slot in 0..self.replicas.len() {
            self.watch_in_time(slot).await;
            let replica = &self.replicas[slot];
            let now = self.true_now();
            let is_due = replica.renewed_at + TimeDelta::seconds(10) <= now;
            let is_awake = replica.frozen_until.is_none_or(|until| until <= now);
            if is_due && is_awake && replica.pipeline.is_some() && self.chance(85) {
                self.begin(slot, Kind::Renew).await;
            }
        }
    }

    /// Moves the clock, and has happen what goes on by itself meanwhile.
    pub async fn advance(&mut self, by: Duration) {
        self.report.hours += by.as_secs_f64() / 3_600.0;
        self.truth.advance(by);
        self.onesignal.advance();
        self.make_days().await;
        let now = self.true_now();
        if by >= Duration::from_secs(15) {
            self.world.end_idle_transactions().await;
        }
        if self.plant.renews_without_end {
            self.world.execute("UPDATE workers SET lease_until = 'infinity'").await;
        }
        if self.outage_until.is_some_and(|until| until <= now) {
            self.end_outage();
        }
        for replica in &mut self.replicas {
            if replica.frozen_until.is_some_and(|until| until <= now) {
                replica.frozen_until = None;
            }
        }
    }

    /// Partitions are made ahead by every process each minute: that none is there is no fault of this simulation.
    async fn make_days(&mut self) {
        let today = self.now().date_naive();
        let missing: Vec<_> = (-1..=3)
            .map(|offset| today + TimeDelta::days(offset))
            .filter(|day| !self.days.contains(day))
            .collect();
        for day in missing {
            sqlx::query("SELECT create_day_partitions($1)")
                .bind(day)
                .execute(&self.world.books)
                .await
                .expect("a day");
            self.days.insert(day);
        }
    }

    /// What the plan has for this moment of the storm.
    async fn disturb_database(&mut self, number: u32) {
        if self.plan.clock_goes_back.is_some_and(|at| at <= number) && self.step.is_none() {
            self.set_clock_back().await;
        }
        if self.plan.copied == Some(number) {
            self.copy_database().await;
        }
        if self.plan.restored == Some(number) {
            self.restore_database().await;
        }
    }

    async fn kill(&mut self) {
        let Some(slot) = self.pick_replica() else { return };
        self.report.fault("kill");
        self.replicas[slot].die();
        self.world.end_idle_transactions().await;
    }

    pub async fn revive(&mut self, slot: usize) {
        self.replicas[slot].start();
        let host = self.replicas[slot].host();
        let Some(pipeline) = self.replicas[slot].pipeline.clone() else { return };
        let is_watched = self.is_watched();
        let running = self.replicas[slot].step(Kind::Other, async move {
            // A process that can't look at the database does not start.
            if is_watched && pipeline.watch_database().await.is_err() {
                return Ended::Failed;
            }
            let _ = pipeline.enter(&host).await;
            Ended::Done
        });
        self.drive(slot, running).await;
    }

    fn freeze(&mut self) {
        let Some(slot) = self.pick_replica() else { return };
        self.report.fault("freeze");
        let seconds = self.random.random_range(10..600);
        self.replicas[slot].frozen_until = Some(self.true_now() + TimeDelta::seconds(seconds));
    }

    fn toggle_outage(&mut self) {
        self.report.fault("database outage");
        let seconds = self.random.random_range(1..120);
        self.outage_until = Some(self.true_now() + TimeDelta::seconds(seconds));
        let is_for_all = self.chance(50);
        let one = self.random.random_range(0..self.replicas.len());
        for (slot, replica) in self.replicas.iter().enumerate() {
            replica.kit.control.cut_off(is_for_all || slot == one);
        }
    }

    fn end_outage(&mut self) {
        self.outage_until = None;
        for replica in &self.replicas {
            replica.kit.control.cut_off(false);
        }
    }
}

/// What happens to the whole database in a seed. It has dice of its own: the other seeds are what they were before.
#[derive(Debug, Clone, Copy, Default)]
pub struct DatabasePlan {
    /// The step of the storm before which its clock goes back.
    pub clock_goes_back: Option<u32>,
    /// The step before which a backup is made.
    pub copied: Option<u32>,
    /// The step before which it is restored.
    pub restored: Option<u32>,
}

impl DatabasePlan {
    pub fn of(seed: u64) -> Self {
        let mut random = dice(seed, &["database"], 0);
        match random.random_range(0..24) {
            0..4 => Self { clock_goes_back: Some(random.random_range(30..130)), ..Self::default() },
            4..7 => {
                let copied = random.random_range(20..70);
                let restored = copied + random.random_range(20..60);
                Self { copied: Some(copied), restored: Some(restored), ..Self::default() }
            }
            _ => Self::default(),
        }
    }
}

/// How stormy a seed is.
fn weather(random: &mut StdRng) -> Odds {
    let strength = [0, 1, 1, 2, 4][random.random_range(0..5)];
    Odds {
        pause: 150 * strength,
        death: 25 * strength,
        away: 40 * strength,
        reply_lost: 60 * strength,
        refused: 40 * strength,
    }
}

fn replica(
    seed: u64,
    slot: usize,
    odds: Odds,
    world: &World,
    plant: &Plant,
    clock: &Arc<DatabaseClock>,
    onesignal: &Arc<OneSignal>,
) -> Replica {
    let control = Arc::new(Control::new(seed.wrapping_mul(31).wrapping_add(slot as u64), odds));
    let provider = Arc::new(Provider {
        onesignal: Arc::clone(onesignal),
        adapter: Arc::clone(&world.adapter),
        control: Arc::clone(&control),
        clock: Arc::clone(clock) as Arc<dyn Clock>,
        books: world.books.clone(),
        tamper: plant.tamper,
    });
    let mut limits = world.limits.clone();
    (plant.set)(&mut limits);
    let namespace = if plant.namespace_differs {
        Uuid::from_u128(world.namespace.as_u128() + slot as u128)
    } else {
        world.namespace
    };
    Replica::new(Kit {
        slot,
        store: world.store(slot),
        clock: plant.clock_of(slot, clock),
        control,
        provider: provider as Arc<dyn MessageProvider>,
        limits,
        namespace,
        seed,
    })
}

/// A heartbeat that asks no one whether its lease still stands.
pub fn heartbeat(host: &str, now: Timestamp) -> String {
    let until = now + TimeDelta::seconds(45);
    format!(
        "UPDATE workers SET lease_until = '{until}' WHERE host = '{host}'
         AND started_at = (SELECT max(started_at) FROM workers WHERE host = '{host}')"
    )
}
