//! How many calls an app may have begun and under way: a token bucket, a number of places, and its gate.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use parking_lot::Mutex;

use crate::domain::app::{App, AppId};
use crate::domain::clock::Timestamp;

/// Every app's budget in this process.
#[derive(Debug)]
pub struct Budget {
    calls_in_flight: usize,
    plan_share: f64,
    apps: Mutex<HashMap<AppId, AppBudget>>,
}

#[derive(Debug)]
struct AppBudget {
    tokens: f64,
    refilled_at: Timestamp,
    in_flight: usize,
    gate: GateState,
}

/// What an app's gate lets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum GateState {
    Open,
    /// Nothing until then; one probe afterwards.
    Closed(Timestamp),
    /// One call is on its way to find out.
    Probing,
}

/// Why no call can begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Until this moment.
    Until(Timestamp),
    /// Until a call comes back.
    ForPlace,
}

impl Budget {
    /// Budgets for apps that will be named later.
    pub fn new(calls_in_flight: usize, plan_share: f64) -> Self {
        Self { calls_in_flight: calls_in_flight.max(1), plan_share, apps: Mutex::new(HashMap::new()) }
    }

    /// Takes a token and a place for one call.
    ///
    /// # Errors
    /// [`Wait`]: until when there is none.
    pub fn begin(&self, app: &App, now: Timestamp) -> Result<(), Wait> {
        let rate = f64::from(app.calls_per_second) * self.plan_share;
        // A tenth of a second's worth may go at once: with what comes in a second it stays below the plan.
        let burst = (rate / 10.0).max(1.0);
        let mut apps = self.apps.lock();
        let budget = apps.entry(app.id).or_insert_with(|| AppBudget::full(burst, now));
        if app.paused.is_some() {
            return Err(Wait::Until(now + TimeDelta::seconds(1)));
        }
        match budget.gate {
            GateState::Closed(until) if until > now => return Err(Wait::Until(until)),
            GateState::Open | GateState::Closed(_) => {}
            GateState::Probing => return Err(Wait::ForPlace),
        }
        if budget.in_flight >= self.calls_in_flight {
            return Err(Wait::ForPlace);
        }
        budget.refill(rate, burst, now);
        if budget.tokens < 1.0 {
            let missing = Duration::from_secs_f64((1.0 - budget.tokens) / rate.max(0.001));
            return Err(Wait::Until(now + crate::domain::retry::delta(missing)));
        }
        budget.tokens -= 1.0;
        budget.in_flight += 1;
        if budget.gate != GateState::Open {
            budget.gate = GateState::Probing;
        }
        Ok(())
    }

    /// Gives back the place of a call that came back.
    pub fn end(&self, app: AppId) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.in_flight = budget.in_flight.saturating_sub(1);
        }
    }

    /// Gives back place and token of a call that was never made.
    pub fn cancel(&self, app: AppId) {
        if let Some(budget) = self.apps.lock().get_mut(&app) {
            budget.in_flight = budget.in_flight.saturating_sub(1);
            budget.tokens += 1.0;
            if budget.gate == GateState::Probing {
                budget.gate = GateState::Closed(budget.refilled_at);
            }
        }
    }

    /// Closes an app's gate; one that is closed for longer stays so.
    pub fn close(&self, app: AppId, until: Timestamp, now: Timestamp) {
        let mut apps = self.apps.lock();
        let budget = apps.entry(app).or_insert_with(|| AppBudget::full(1.0, now));
        budget.gate = match budget.gate {
            GateState::Closed(later) if later > until => GateState::Closed(later),
            GateState::Open | GateState::Closed(_) | GateState::Probing => GateState::Closed(until),
        };
    }

    /// Takes note of a probe that worked; returns whether there was one, so that the gate is open now.
    pub fn probe_worked(&self, app: AppId) -> bool {
        self.settle_probe(app, GateState::Open)
    }

    /// Takes note of a probe that told nothing: the next one may go at `again`.
    pub fn probe_told_nothing(&self, app: AppId, again: Timestamp) {
        self.settle_probe(app, GateState::Closed(again));
    }

    fn settle_probe(&self, app: AppId, gate: GateState) -> bool {
        let mut apps = self.apps.lock();
        let Some(budget) = apps.get_mut(&app).filter(|budget| budget.gate == GateState::Probing) else {
            return false;
        };
        budget.gate = gate;
        true
    }

    /// Takes over what the database says of the gates: those that other replicas closed, and those that were opened.
    pub fn learn_gates(&self, closed: &HashMap<AppId, Timestamp>, now: Timestamp) {
        let mut apps = self.apps.lock();
        for (app, budget) in apps.iter_mut() {
            if !closed.contains_key(app) {
                budget.gate = GateState::Open;
            }
        }
        for (app, until) in closed {
            let budget = apps.entry(*app).or_insert_with(|| AppBudget::full(1.0, now));
            match budget.gate {
                GateState::Open => budget.gate = GateState::Closed(*until),
                GateState::Closed(known) => budget.gate = GateState::Closed(known.max(*until)),
                GateState::Probing if *until > now => budget.gate = GateState::Closed(*until),
                GateState::Probing => {}
            }
        }
    }

    /// Apps that nothing can be sent through at `now`; a half-open one waits for its probe.
    pub fn closed_apps(&self, now: Timestamp) -> Vec<AppId> {
        let apps = self.apps.lock();
        apps.iter()
            .filter(|(_, b)| match b.gate {
                GateState::Open => false,
                GateState::Closed(until) => until > now,
                GateState::Probing => true,
            })
            .map(|(a, _)| *a)
            .collect()
    }
}

impl AppBudget {
    fn full(tokens: f64, now: Timestamp) -> Self {
        Self { tokens, refilled_at: now, in_flight: 0, gate: GateState::Open }
    }

    fn refill(&mut self, rate: f64, burst: f64, now: Timestamp) {
        let elapsed = (now - self.refilled_at).to_std().unwrap_or_default();
        self.tokens = (self.tokens + elapsed.as_secs_f64() * rate).min(burst);
        self.refilled_at = self.refilled_at.max(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn app(calls_per_second: u32) -> App {
        App {
            id: AppId(uuid::Uuid::from_u128(1)),
            name: "shop".into(),
            base_url: "http://localhost".parse().unwrap(),
            api_key: "k".into(),
            is_sandbox: true,
            is_default: true,
            calls_per_second,
            paused: None,
        }
    }

    #[test]
    fn no_second_sees_more_calls_than_the_plan_allows() {
        let (budget, app) = (Budget::new(100_000, 0.9), app(150));
        let mut begun = 0;
        for ms in 0..1_000 {
            while budget.begin(&app, now() + TimeDelta::milliseconds(ms)).is_ok() {
                begun += 1;
            }
        }
        assert!((135..=150).contains(&begun), "{begun}");
    }

    #[test]
    fn calls_under_way_are_bounded_and_a_place_comes_back() {
        let (budget, app) = (Budget::new(2, 1.0), app(6_000));
        assert!(budget.begin(&app, now()).is_ok() && budget.begin(&app, now()).is_ok());
        assert_eq!(budget.begin(&app, now()), Err(Wait::ForPlace));
        budget.end(app.id);
        assert!(budget.begin(&app, now()).is_ok());
    }

    #[test]
    fn behind_a_closed_gate_one_call_finds_out_whether_it_may_open() {
        let (budget, app) = (Budget::new(10, 1.0), app(6_000));
        let until = now() + TimeDelta::seconds(60);
        budget.close(app.id, until, now());
        assert_eq!(budget.begin(&app, now()), Err(Wait::Until(until)));
        assert!(budget.begin(&app, until).is_ok(), "the probe");
        assert_eq!(budget.begin(&app, until), Err(Wait::ForPlace));
        assert!(budget.probe_worked(app.id));
        assert!(budget.begin(&app, until).is_ok());
    }
}
