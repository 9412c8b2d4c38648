//! How many calls an app may have begun and under way: a token bucket that all replicas share, a number of places that
//! follows the provider's latency, turns between the priorities, a budget of retries, a breaker, the volume guard, and the
//! app's gate.
//!
//! All of it is in memory and asked under one short lock. What replicas have to agree on is exchanged once a second
//! while something is going on (`pipeline::rate_sharing`), and gates stand in Postgres.

mod breaker;
mod bucket;
mod concurrency;
mod gate;
mod share;
#[cfg(test)]
mod tests;
mod turns;
mod volume;

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::TimeDelta;
use parking_lot::Mutex;

use self::breaker::Breaker;
use self::bucket::Bucket;
use self::concurrency::Concurrency;
use self::gate::GateState;
use self::share::Share;
use self::turns::Turns;
use self::volume::Volume;
use crate::domain::app::{App, AppId};
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;

pub use self::breaker::{BreakerPolicy, Health};
pub use self::concurrency::CallEnd;
pub use self::gate::KnownGate;
pub use self::share::Others;
pub use self::turns::Waiting;
pub use self::volume::{VolumeState, WINDOW, minute};

/// Retries a second that are always allowed.
const RETRIES_A_SECOND: f64 = 1.0;
/// Retries that each first try allows besides: so they are a tenth of the calls at most.
const RETRIES_A_TRY: f64 = 0.1;
/// How long first tries go on counting for retries.
const RETRY_WINDOW_S: f64 = 120.0;
/// Retries that may go at once whatever came before: what a process that died was sending is tried again without delay.
const RETRIES_AT_FIRST: f64 = 100.0;
/// Urgent calls have places of their own beyond those that all calls share: one for so many of the most that there may
/// be. Calls that hang can then not keep a one-time code back.
const URGENT_PART: usize = 8;
/// Answers to other calls that show that the provider is there while one call hangs.
const ANSWERS_OF_THE_LIVING: u64 = 3;
/// Overdue calls that there may be for each place.
const OVERDUE_A_PLACE: usize = 8;
/// The part of the rate that an app begins with after its breaker was open.
const RAMP_FROM: f64 = 0.1;

/// Every app's budget in this process.
#[derive(Debug)]
pub struct Budget {
    calls_in_flight: usize,
    plan_share: f64,
    breaker: BreakerPolicy,
    /// Other replicas that were alive at the last exchange.
    others: AtomicUsize,
    apps: Mutex<HashMap<AppId, AppBudget>>,
}

#[derive(Debug)]
struct AppBudget {
    bucket: Bucket,
    retries: Bucket,
    in_flight: usize,
    concurrency: Concurrency,
    /// Calls under way that are overdue: they take no place any more.
    overdue: usize,
    /// Calls that brought an answer, ever.
    answered: u64,
    turns: Turns,
    share: Share,
    volume: Volume,
    breaker: Breaker,
    gate: GateState,
    /// Since when the app comes back, after its breaker was open.
    ramp_since: Option<Timestamp>,
    /// Calls begun since the last exchange, and whether some had to wait for tokens.
    begun: u32,
    was_short: bool,
}

/// What is to be begun.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// How urgent it is.
    pub priority: Priority,
    /// Whether it was tried before.
    pub is_retry: bool,
    /// Which priorities have something to send, itself among them.
    pub waiting: Waiting,
}

impl Call {
    /// A first try in this priority, with nothing else waiting.
    pub fn first(priority: Priority) -> Self {
        Self { priority, is_retry: false, waiting: [false; 3] }
    }
}

/// Why no call can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until this moment.
    Until(Timestamp),
    /// Until this moment, or for a first try instead: the budget of retries is spent.
    ForRetry(Timestamp),
    /// Until a call comes back.
    ForPlace,
    /// The gate is half open: a call may find out once [`Budget::allow_probe`] says so.
    ForProbe,
}

/// What this replica has to say in an exchange about one app.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppReport {
    /// The app.
    pub app: AppId,
    /// How much of the rate it could use, from 0 to 1.
    pub demand: f64,
    /// Messages that it has sent since the last exchange.
    pub messages: u64,
}

/// What an exchange says about one app.
#[derive(Debug, Clone)]
pub struct AppShare {
    /// The other replicas.
    pub others: Others,
    /// What all replicas have sent within the window, by minute.
    pub messages: Vec<(Timestamp, u64)>,
    /// The app's subscriptions, if somebody said.
    pub subscriptions: Option<u64>,
}

impl Budget {
    /// Budgets for apps that will be named later.
    pub fn new(calls_in_flight: usize, plan_share: f64, breaker: BreakerPolicy) -> Self {
        let calls_in_flight = calls_in_flight.max(1);
        let others = AtomicUsize::new(0);
        Self { calls_in_flight, plan_share, breaker, others, apps: Mutex::new(HashMap::new()) }
    }

    fn with<T>(&self, app: AppId, now: Timestamp, then: impl FnOnce(&mut AppBudget) -> T) -> T {
        then(self.apps.lock().entry(app).or_insert_with(|| self.new_app(now)))
    }

    fn new_app(&self, now: Timestamp) -> AppBudget {
        AppBudget::new(self.calls_in_flight, self.others.load(Ordering::Relaxed), now)
    }

    /// Whose turn it is among the priorities of an app that have something to send.
    pub fn turn(&self, app: AppId, waiting: Waiting, now: Timestamp) -> Option<Priority> {
        self.with(app, now, |budget| budget.turns.next(waiting))
    }

    /// Takes a token and a place for one call.
    ///
    /// # Errors
    /// [`Wait`]: until when there is none.
    pub fn begin(&self, app: &App, call: Call, now: Timestamp) -> Result<(), Wait> {
        self.with(app.id, now, |budget| {
            if app.paused.is_some() {
                return Err(Wait::Until(now + TimeDelta::seconds(1)));
            }
            budget.gate.admits(now)?;
            let reserved =
                if call.priority == Priority::Urgent { self.calls_in_flight / URGENT_PART } else { 0 };
            if budget.in_flight >= budget.concurrency.places() + reserved {
                return Err(Wait::ForPlace);
            }
            if let VolumeState::TooHigh { until } = budget.volume.state(now) {
                return Err(Wait::Until(until));
            }
            let plan = f64::from(app.calls_per_second) * self.plan_share;
            if call.is_retry {
                let max = RETRIES_AT_FIRST + RETRIES_A_TRY * RETRY_WINDOW_S * plan;
                budget.retries.refill(RETRIES_A_SECOND, max, now);
                budget.retries.take(RETRIES_A_SECOND, now).map_err(Wait::ForRetry)?;
            }
            let rate = plan * budget.share.part() * budget.ramp(self.breaker.ramp, now);
            budget.bucket.refill(rate, burst(rate), now);
            if let Err(until) = budget.bucket.take(rate, now) {
                budget.was_short = true;
                if call.is_retry {
                    budget.retries.give(1.0, f64::MAX);
                }
                return Err(Wait::Until(until));
            }
            if !call.is_retry {
                budget.retries.give(RETRIES_A_TRY, RETRIES_AT_FIRST + RETRIES_A_TRY * RETRY_WINDOW_S * plan);
            }
            budget.in_flight += 1;
            budget.begun += 1;
            budget.gate.begun();
            budget.turns.took(call.priority, call.waiting);
            Ok(())
        })
    }

    /// Gives back the place of a call that came back.
    pub fn end(&self, app: AppId, how: CallEnd) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.concurrency.ended(how, budget.in_flight);
            budget.in_flight = budget.in_flight.saturating_sub(1);
            budget.answered += u64::from(matches!(how, CallEnd::Answered(_)));
        }
    }

    /// How many calls of an app have brought an answer: what [`Budget::set_aside`] compares.
    pub fn answered(&self, app: AppId) -> u64 {
        self.apps.lock().get(&app).map_or(0, |budget| budget.answered)
    }

    /// Gives back the place of a call that is overdue and still under way, so that others can go. Not if nothing else was
    /// answered since it began: then the provider is away, and more calls would only wait beside it. Returns whether it did.
    pub fn set_aside(&self, app: AppId, answered_before: u64) -> bool {
        let mut apps = self.apps.lock();
        let Some(budget) = apps.get_mut(&app) else { return false };
        let is_alive = budget.answered >= answered_before + ANSWERS_OF_THE_LIVING;
        if !is_alive || budget.overdue >= self.calls_in_flight * OVERDUE_A_PLACE {
            return false;
        }
        budget.in_flight = budget.in_flight.saturating_sub(1);
        budget.overdue += 1;
        true
    }

    /// Takes note of a call that came back after it was set aside.
    pub fn end_set_aside(&self, app: AppId, how: CallEnd) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.concurrency.ended(how, budget.in_flight);
            budget.overdue = budget.overdue.saturating_sub(1);
            budget.answered += u64::from(matches!(how, CallEnd::Answered(_)));
        }
    }

    /// Gives back place and token of a call that was never made.
    pub fn cancel(&self, app: AppId, now: Timestamp) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.in_flight = budget.in_flight.saturating_sub(1);
            budget.begun = budget.begun.saturating_sub(1);
            budget.bucket.give(1.0, f64::MAX);
            budget.gate.was_not_made(now);
        }
    }

    /// Counts messages that are on their way to people.
    pub fn sent(&self, app: AppId, messages: u64, now: Timestamp) {
        self.with(app, now, |budget| budget.volume.sent(messages));
    }

    /// Takes note of how a call went; returns whether it is better to make no more for now.
    pub fn note(&self, app: AppId, health: Health, now: Timestamp) -> bool {
        self.with(app, now, |budget| {
            let was_probe = budget.gate == GateState::Probing;
            let opens = budget.breaker.note(health, &self.breaker, now);
            health != Health::Well && (opens || was_probe)
        })
    }

    /// Closes an app's gate; one that is closed for longer stays so. After a breaker's gate the app comes back slowly.
    pub fn close(&self, app: AppId, known: KnownGate, now: Timestamp) {
        self.with(app, now, |budget| budget.gate.close(known));
    }

    /// Whether a gate is half open and nobody here is finding out yet.
    pub fn wants_probe(&self, app: AppId, now: Timestamp) -> bool {
        self.with(app, now, |budget| budget.gate.admits(now) == Err(Wait::ForProbe))
    }

    /// Takes note that the database has no gate of this app any more: another replica's probe worked.
    pub fn gate_is_gone(&self, app: AppId, now: Timestamp) {
        self.with(app, now, |budget| budget.open(now));
    }

    /// Lets one call find out whether a half-open gate may open.
    pub fn allow_probe(&self, app: AppId, now: Timestamp) {
        self.with(app, now, |budget| budget.gate.allow_probe(now));
    }

    /// Takes note of a probe that worked; returns whether there was one, so that the gate is open now.
    pub fn probe_worked(&self, app: AppId, now: Timestamp) -> bool {
        self.with(app, now, |budget| {
            let worked = budget.gate == GateState::Probing;
            if worked {
                budget.open(now);
            }
            worked
        })
    }

    /// Takes over what the database says of the gates: those that other replicas closed, and those that were opened.
    pub fn learn_gates(&self, known: &HashMap<AppId, KnownGate>, now: Timestamp) {
        let mut apps = self.apps.lock();
        for (_, budget) in apps.iter_mut().filter(|(app, _)| !known.contains_key(app)) {
            budget.open(now);
        }
        for (app, gate) in known {
            apps.entry(*app).or_insert_with(|| self.new_app(now)).gate.learn(*gate, now);
        }
    }

    /// Apps that nothing can be sent through at `now`; a half-open one waits for its probe.
    pub fn closed_apps(&self, now: Timestamp) -> Vec<AppId> {
        let apps = self.apps.lock();
        let stopped = |budget: &AppBudget| {
            budget.gate.is_closed(now) || matches!(budget.volume.state(now), VolumeState::TooHigh { .. })
        };
        apps.iter().filter(|(_, budget)| stopped(budget)).map(|(app, _)| *app).collect()
    }

    /// Where an app stands with the volume guard, with the messages of the window; and whether it has only just come to
    /// half of its limit.
    pub fn volume(&self, app: AppId, now: Timestamp) -> (VolumeState, u64, bool) {
        self.with(app, now, |budget| {
            (budget.volume.state(now), budget.volume.used(now), budget.volume.rises(now))
        })
    }

    /// Forgets every moment that was reckoned by the clock before it went back to `now`. Gates are learned again from the
    /// database.
    pub fn clock_went_back(&self, now: Timestamp) {
        for budget in self.apps.lock().values_mut() {
            budget.bucket.restart(now);
            budget.retries.restart(now);
            budget.breaker = Breaker::default();
            budget.ramp_since = budget.ramp_since.map(|since| since.min(now));
            budget.gate.restart(now);
        }
    }

    /// Whether there is anything to tell the others: calls, messages, or that there are none any more.
    pub fn has_news(&self) -> bool {
        let apps = self.apps.lock();
        apps.values().any(|b| b.begun > 0 || b.was_short || b.volume.has_unwritten() || b.share.is_wanted())
    }

    /// Takes note of how many other replicas are alive.
    pub fn know_others(&self, others: usize) {
        self.others.store(others, Ordering::Relaxed);
    }

    /// What this replica has to say to the others, `elapsed` after the last time; nothing about apps that are at rest.
    pub fn report(&self, elapsed: Duration, rates: &HashMap<AppId, u32>) -> Vec<AppReport> {
        let mut apps = self.apps.lock();
        let said = apps.iter_mut().map(|(app, budget)| {
            let rate = rates.get(app).map_or(1.0, |rate| f64::from(*rate) * self.plan_share);
            let used = f64::from(budget.begun) / elapsed.as_secs_f64().max(0.001) / rate.max(0.001);
            // A little more than it used, so that a growing load is not held back at each step.
            let demand = if budget.was_short { 1.0 } else { (used * 1.5).min(1.0) };
            (budget.begun, budget.was_short) = (0, false);
            AppReport { app: *app, demand, messages: budget.volume.take_unwritten() }
        });
        said.collect()
    }

    /// Takes note of an exchange about one app.
    pub fn listen(&self, said: AppReport, heard: AppShare, now: Timestamp) {
        self.with(said.app, now, |budget| {
            budget.share.exchanged(said.demand, heard.others);
            budget.volume.learn(heard.messages, heard.subscriptions);
        });
    }

    /// Takes back what was said, when the exchange failed.
    pub fn retract_report(&self, said: &[AppReport], now: Timestamp) {
        for one in said {
            self.with(one.app, now, |budget| budget.volume.sent(one.messages));
        }
    }
}

/// A tenth of a second's worth may go at once: with what comes in a second it stays below the plan.
fn burst(rate: f64) -> f64 {
    (rate / 10.0).max(1.0)
}

impl AppBudget {
    fn new(calls_in_flight: usize, others: usize, now: Timestamp) -> Self {
        Self {
            // More than any burst; the first refill cuts it to the rate's.
            bucket: Bucket::with(f64::from(u32::MAX), now),
            retries: Bucket::with(RETRIES_AT_FIRST, now),
            in_flight: 0,
            concurrency: Concurrency::new(calls_in_flight),
            overdue: 0,
            answered: 0,
            turns: Turns::default(),
            share: Share::beside(others),
            volume: Volume::default(),
            breaker: Breaker::default(),
            gate: GateState::Open,
            ramp_since: None,
            begun: 0,
            was_short: false,
        }
    }

    fn open(&mut self, now: Timestamp) {
        if self.gate.opens_slowly() {
            self.ramp_since = Some(now);
        }
        self.gate = GateState::Open;
    }

    /// The part of the rate that an app may use while it comes back.
    fn ramp(&mut self, length: Duration, now: Timestamp) -> f64 {
        let Some(since) = self.ramp_since else { return 1.0 };
        let elapsed = (now - since).to_std().unwrap_or_default().as_secs_f64();
        let done = elapsed / length.as_secs_f64().max(0.001);
        if done >= 1.0 {
            self.ramp_since = None;
            return 1.0;
        }
        RAMP_FROM + (1.0 - RAMP_FROM) * done
    }
}
