//! How many calls an app may start and have in flight: a token bucket shared by all replicas, a concurrency limit that
//! follows the provider's latency, scheduling between priorities, a retry budget, a breaker, the volume guard and the
//! app's gate.
//!
//! All of it is in memory, behind one lock that is held briefly. Replicas exchange what they have to agree on once a
//! second while there is activity (`pipeline::rate_sharing`); gates are stored in Postgres.

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

/// Retries per second that are always allowed.
const RETRIES_A_SECOND: f64 = 1.0;
/// Retries that each first attempt adds to the budget: at most a tenth of the calls are retries.
const RETRIES_A_TRY: f64 = 0.1;
/// How long a first attempt counts toward the retry budget.
const RETRY_WINDOW_S: f64 = 120.0;
/// The retry budget at the start: what a process that died was sending is retried without delay.
const RETRIES_AT_FIRST: f64 = 100.0;
/// Urgent calls have reserved slots beyond the shared ones: one for each this many of the maximum. Calls that hang then
/// can't delay a one-time code.
const URGENT_PART: usize = 8;
/// Answers to other calls that show that the provider is available while one call hangs.
const ANSWERS_OF_THE_LIVING: u64 = 3;
/// The maximum number of overdue calls per slot.
const OVERDUE_A_PLACE: usize = 8;
/// The share of the rate that an app starts with after its breaker was open.
const RAMP_FROM: f64 = 0.1;

/// Every app's budget in this process.
#[derive(Debug)]
pub struct Budget {
    calls_in_flight: usize,
    plan_share: f64,
    breaker: BreakerPolicy,
    /// Other live replicas, as of the last exchange.
    others: AtomicUsize,
    apps: Mutex<HashMap<AppId, AppBudget>>,
}

#[derive(Debug)]
struct AppBudget {
    bucket: Bucket,
    retries: Bucket,
    in_flight: usize,
    concurrency: Concurrency,
    /// Calls in flight that are overdue: they no longer take a slot.
    overdue: usize,
    /// The number of calls that got an answer since the start.
    answered: u64,
    turns: Turns,
    share: Share,
    volume: Volume,
    breaker: Breaker,
    gate: GateState,
    /// Since when the app has been ramping up after its breaker was open.
    ramp_since: Option<Timestamp>,
    /// Calls started since the last exchange, and whether some had to wait for tokens.
    begun: u32,
    was_short: bool,
}

/// A call that is about to start.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// Its priority.
    pub priority: Priority,
    /// Whether it is a retry.
    pub is_retry: bool,
    /// The priorities that have something to send, including its own.
    pub waiting: Waiting,
}

impl Call {
    /// A first attempt of this priority, with nothing else pending.
    pub fn first(priority: Priority) -> Self {
        Self { priority, is_retry: false, waiting: [false; 3] }
    }
}

/// Why no call can start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until this time.
    Until(Timestamp),
    /// Until this time for a retry, or that time for a first attempt: the retry budget is spent.
    ForRetry(Timestamp),
    /// Until a call returns.
    ForPlace,
    /// The gate is half open: a call may probe it once [`Budget::allow_probe`] permits it.
    ForProbe,
}

/// What this replica reports about one app.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AppReport {
    /// The app.
    pub app: AppId,
    /// The share of the rate that it could use, from 0 to 1.
    pub demand: f64,
    /// Messages that it has sent since the last exchange.
    pub messages: u64,
}

/// What the other replicas reported about one app.
#[derive(Debug, Clone)]
pub struct AppShare {
    /// The other replicas.
    pub others: Others,
    /// What all replicas have sent within the window, by minute.
    pub messages: Vec<(Timestamp, u64)>,
    /// The app's subscriptions, if configured.
    pub subscriptions: Option<u64>,
}

impl Budget {
    /// Budgets of apps, which are added when first used.
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

    /// The next priority to serve among those of an app that have something to send.
    pub fn turn(&self, app: AppId, waiting: Waiting, now: Timestamp) -> Option<Priority> {
        self.with(app, now, |budget| budget.turns.next(waiting))
    }

    /// Takes a token and a slot for one call.
    ///
    /// # Errors
    /// [`Wait`]: how long none is available.
    pub fn begin(&self, app: &App, call: Call, now: Timestamp) -> Result<(), Wait> {
        self.with(app.id, now, |budget| {
            if app.paused.is_some() {
                return Err(Wait::Until(now + TimeDelta::seconds(1)));
            }
            budget.gate.admits(now)?;
            let reserved =
                if call.priority == Priority::Urgent { self.calls_in_flight / URGENT_PART } else { 0 };
            if budget.in_flight >= budget.concurrency.slots() + reserved {
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

    /// Returns the slot of a call that has ended.
    pub fn end(&self, app: AppId, how: CallEnd) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.concurrency.ended(how, budget.in_flight);
            budget.in_flight = budget.in_flight.saturating_sub(1);
            budget.answered += u64::from(matches!(how, CallEnd::Answered(_)));
        }
    }

    /// How many calls of an app got an answer: the value that [`Budget::set_aside`] compares with.
    pub fn answered(&self, app: AppId) -> u64 {
        self.apps.lock().get(&app).map_or(0, |budget| budget.answered)
    }

    /// Releases the slot of a call that is overdue and still in flight, so that others can start. Does nothing if no
    /// other call has been answered since it began: then the provider is unavailable, and more calls would only hang as
    /// well. Returns whether the slot was released.
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

    /// Notes that an overdue call has ended.
    pub fn end_set_aside(&self, app: AppId, how: CallEnd) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.concurrency.ended(how, budget.in_flight);
            budget.overdue = budget.overdue.saturating_sub(1);
            budget.answered += u64::from(matches!(how, CallEnd::Answered(_)));
        }
    }

    /// Returns the slot and the token of a call that was never made.
    pub fn cancel(&self, app: AppId, now: Timestamp) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.in_flight = budget.in_flight.saturating_sub(1);
            budget.begun = budget.begun.saturating_sub(1);
            budget.bucket.give(1.0, f64::MAX);
            budget.gate.was_not_made(now);
        }
    }

    /// Counts messages that are being sent.
    pub fn sent(&self, app: AppId, messages: u64, now: Timestamp) {
        self.with(app, now, |budget| budget.volume.sent(messages));
    }

    /// Records the result of a call; returns whether to stop making calls for now.
    pub fn note(&self, app: AppId, health: Health, now: Timestamp) -> bool {
        self.with(app, now, |budget| {
            let was_probe = budget.gate == GateState::Probing;
            let opens = budget.breaker.note(health, &self.breaker, now);
            health != Health::Well && (opens || was_probe)
        })
    }

    /// Closes an app's gate, unless it is already closed for longer. After the breaker's gate the app ramps up slowly.
    pub fn close(&self, app: AppId, known: KnownGate, now: Timestamp) {
        self.with(app, now, |budget| budget.gate.close(known));
    }

    /// Whether a gate is half open and this replica has no probe in flight.
    pub fn wants_probe(&self, app: AppId, now: Timestamp) -> bool {
        self.with(app, now, |budget| budget.gate.admits(now) == Err(Wait::ForProbe))
    }

    /// Notes that the database no longer has this app's gate: another replica's probe succeeded.
    pub fn gate_is_gone(&self, app: AppId, now: Timestamp) {
        self.with(app, now, |budget| budget.open(now));
    }

    /// Lets one call probe a half-open gate.
    pub fn allow_probe(&self, app: AppId, now: Timestamp) {
        self.with(app, now, |budget| budget.gate.allow_probe(now));
    }

    /// Notes that a probe succeeded; returns whether there was one, so that the gate is now open.
    pub fn probe_worked(&self, app: AppId, now: Timestamp) -> bool {
        self.with(app, now, |budget| {
            let worked = budget.gate == GateState::Probing;
            if worked {
                budget.open(now);
            }
            worked
        })
    }

    /// Applies the gates stored in the database: those that other replicas closed, and those that were opened.
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

    /// An app's state in the volume guard, with the messages in the window; and whether it has just reached half of its
    /// limit.
    pub fn volume(&self, app: AppId, now: Timestamp) -> (VolumeState, u64, bool) {
        self.with(app, now, |budget| {
            (budget.volume.state(now), budget.volume.used(now), budget.volume.rises(now))
        })
    }

    /// Forgets every time that was computed before the clock went back to `now`. Gates are read again from the
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

    /// Whether there is anything to report: calls, messages, or that there are no longer any.
    pub fn has_report(&self) -> bool {
        let apps = self.apps.lock();
        apps.values().any(|b| b.begun > 0 || b.was_short || b.volume.has_unwritten() || b.share.is_wanted())
    }

    /// Notes how many other replicas are alive.
    pub fn set_others(&self, others: usize) {
        self.others.store(others, Ordering::Relaxed);
    }

    /// What this replica reports, `elapsed` after its last report; nothing about idle apps.
    pub fn report(&self, elapsed: Duration, rates: &HashMap<AppId, u32>) -> Vec<AppReport> {
        let mut apps = self.apps.lock();
        let reports = apps.iter_mut().map(|(app, budget)| {
            let rate = rates.get(app).map_or(1.0, |rate| f64::from(*rate) * self.plan_share);
            let used = f64::from(budget.begun) / elapsed.as_secs_f64().max(0.001) / rate.max(0.001);
            // A little more than it used, so that a growing load is not held back at each step.
            let demand = if budget.was_short { 1.0 } else { (used * 1.5).min(1.0) };
            (budget.begun, budget.was_short) = (0, false);
            AppReport { app: *app, demand, messages: budget.volume.take_unwritten() }
        });
        reports.collect()
    }

    /// Applies what the other replicas reported about one app.
    pub fn apply_share(&self, report: AppReport, share: AppShare, now: Timestamp) {
        self.with(report.app, now, |budget| {
            budget.share.exchanged(report.demand, share.others);
            budget.volume.learn(share.messages, share.subscriptions);
        });
    }

    /// Restores what was reported when the exchange failed.
    pub fn retract_report(&self, reports: &[AppReport], now: Timestamp) {
        for one in reports {
            self.with(one.app, now, |budget| budget.volume.sent(one.messages));
        }
    }
}

/// A burst is a tenth of a second's worth: together with a second's refill it stays below the plan's limit.
fn burst(rate: f64) -> f64 {
    (rate / 10.0).max(1.0)
}

impl AppBudget {
    fn new(calls_in_flight: usize, others: usize, now: Timestamp) -> Self {
        Self {
            // More than any burst; the first refill caps it.
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

    /// The share of the rate that an app may use while it ramps up.
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
