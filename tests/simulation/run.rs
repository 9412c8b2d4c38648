//! One seed: a scheduler that does one step of one replica at a time, moves the clock, and injects faults.

mod meddling;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use herald::domain::clock::{Clock, TestClock, Timestamp};
use herald::domain::event::Recipient;
use herald::domain::id::EventId;
use herald::pipeline::ingest::{Accepted, Content, IngestError, NewEvent};
use herald::provider::MessageProvider;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::json;
use uuid::Uuid;

use crate::catalog::{EVENTS, EventSpec};
use crate::control::{Control, Odds};
use crate::onesignal::OneSignal;
use crate::plants::Plant;
use crate::provider::Provider;
use crate::replica::{Driven, Ended, Kind, Kit, Replica, Running};
use crate::report::Report;
use crate::world::{World, key, start_of_time};

/// Steps of the stormy part.
const STEPS: u32 = 150;
/// Events at most.
const EVENTS_POSTED: usize = 14;
/// Whoever can be written to. Some have no subscription, and one makes OneSignal refuse the whole call.
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

/// Somebody did not want a channel any more from then on.
pub struct OptOut {
    pub person: &'static str,
    pub channel: &'static str,
    pub since: Timestamp,
}

/// One seed on its way.
pub struct Run<'a> {
    pub seed: u64,
    pub world: &'a World,
    pub plant: &'a Plant,
    pub clock: Arc<TestClock>,
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
        let clock = Arc::new(TestClock::at(start_of_time()));
        let onesignal = Arc::new(OneSignal::new(seed, Arc::clone(&clock), world.templates.clone(), true));
        let mut random = StdRng::seed_from_u64(seed);
        let odds = weather(&mut random);
        let count = random.random_range(2..=3);
        let replicas =
            (0..count).map(|slot| replica(seed, slot, odds, world, plant, &clock, &onesignal)).collect();
        let has_long_jump = random.random_range(0..12) == 0;
        Self {
            seed,
            world,
            plant,
            clock,
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

    pub fn now(&self) -> Timestamp {
        self.clock.now()
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
        for _ in 0..STEPS {
            self.report.steps += 1;
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

    async fn post_new(&mut self) {
        if self.posted.len() >= EVENTS_POSTED {
            return self.step_of_one().await;
        }
        let number = self.posted.len();
        let spec = self.pick_spec();
        let mut recipients: Vec<&'static str> = Vec::new();
        if !spec.rules.iter().all(|rule| rule.is_audience) {
            for _ in 0..self.random.random_range(1..=3) {
                let one = PEOPLE[self.random.random_range(0..PEOPLE.len())];
                if !recipients.contains(&one) {
                    recipients.push(one);
                }
            }
        }
        let expires_at = self.chance(12).then(|| {
            let minutes = self.random.random_range(2..90);
            self.now() + TimeDelta::minutes(minutes)
        });
        let group = self.random.random_range(0..2);
        let cancellation_key = self.chance(40).then(|| format!("group-{group}"));
        self.posted.push(Posted {
            spec,
            event_key: format!("event-{number}"),
            mark: format!("zq{number}z"),
            recipients,
            expires_at,
            cancellation_key,
            stops: format!("group-{group}"),
            acknowledged: Vec::new(),
            is_refused: false,
        });
        self.report.events += 1;
        self.post(number).await;
        if self.chance(15) {
            self.post(number).await;
        }
    }

    fn pick_spec(&mut self) -> &'static EventSpec {
        let mut left = self.random.random_range(0..EVENTS.iter().map(|event| event.weight).sum());
        for event in &EVENTS {
            if left < event.weight {
                return event;
            }
            left -= event.weight;
        }
        &EVENTS[0]
    }

    /// A source that has no answer, or lost it, posts the same again.
    async fn post_again(&mut self) {
        let open: Vec<usize> =
            (0..self.posted.len()).filter(|n| self.posted[*n].acknowledged.is_empty()).collect();
        let number = match (open.is_empty(), self.posted.len()) {
            (_, 0) => return,
            (false, _) => open[self.random.random_range(0..open.len())],
            (true, count) => self.random.random_range(0..count),
        };
        self.post(number).await;
    }

    async fn post(&mut self, number: usize) {
        let Some(slot) = self.pick_replica() else { return };
        self.post_to(slot, number).await;
    }

    pub async fn post_to(&mut self, slot: usize, number: usize) {
        let event = self.event(number);
        let Some(running) = self.replicas[slot].post(number, event) else { return };
        self.drive(slot, running).await;
    }

    fn event(&mut self, number: usize) -> NewEvent {
        let posted = &self.posted[number];
        let mut event_key = posted.event_key.clone();
        if self.plant.changes_event_keys && !posted.acknowledged.is_empty() {
            event_key.push_str("-again");
        }
        let data = json!({"n": posted.mark, "code": format!("canary-{number}"), "stops": posted.stops,
            "x": "javascript:alert(1)"});
        NewEvent {
            source: self.world.source,
            key: key(),
            is_test: false,
            event_key,
            event_type: posted.spec.name.parse().expect("a type"),
            recipients: posted
                .recipients
                .iter()
                .map(|id| Recipient::parse("external_id", id).expect("a recipient"))
                .collect(),
            content: Content::of(data.to_string().into_bytes()),
            data,
            occurred_at: None,
            locale: None,
            send_after: None,
            expires_at: posted.expires_at,
            cancellation_key: posted.cancellation_key.clone(),
            collapse_key: None,
            sequence: None,
            ordering_key: None,
            traceparent: None,
        }
    }

    fn pick_replica(&mut self) -> Option<usize> {
        let now = self.now();
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
            let replica = &self.replicas[slot];
            let now = self.now();
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
        self.clock.advance(by);
        self.onesignal.advance();
        self.make_days().await;
        let now = self.now();
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
        let running = self.replicas[slot].step(Kind::Other, async move {
            let _ = pipeline.enter(&host).await;
            Ended::Done
        });
        self.drive(slot, running).await;
    }

    fn freeze(&mut self) {
        let Some(slot) = self.pick_replica() else { return };
        self.report.fault("freeze");
        let seconds = self.random.random_range(10..600);
        self.replicas[slot].frozen_until = Some(self.now() + TimeDelta::seconds(seconds));
    }

    fn toggle_outage(&mut self) {
        self.report.fault("database outage");
        let seconds = self.random.random_range(1..120);
        self.outage_until = Some(self.now() + TimeDelta::seconds(seconds));
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
    clock: &Arc<TestClock>,
    onesignal: &Arc<OneSignal>,
) -> Replica {
    let control = Arc::new(Control::new(seed.wrapping_mul(31).wrapping_add(slot as u64), odds));
    let provider = Arc::new(Provider {
        onesignal: Arc::clone(onesignal),
        adapter: Arc::clone(&world.adapter),
        control: Arc::clone(&control),
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
        store: world.store(),
        clock: plant.clock_of(slot, clock),
        control,
        provider: provider as Arc<dyn MessageProvider>,
        limits,
        namespace,
        seed,
    })
}

/// A heartbeat that asks nobody whether its lease still stands.
pub fn heartbeat(host: &str, now: Timestamp) -> String {
    let until = now + TimeDelta::seconds(45);
    format!(
        "UPDATE workers SET lease_until = '{until}' WHERE host = '{host}'
         AND started_at = (SELECT max(started_at) FROM workers WHERE host = '{host}')"
    )
}
