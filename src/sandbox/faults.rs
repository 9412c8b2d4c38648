//! Scripted faults: which there are, and when they strike.

use std::time::{Duration, Instant};

use axum::http::StatusCode;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};

use super::rate::Window;

/// What a fault does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Kind {
    /// Answers `status` without accepting.
    Status,
    /// Waits `delay_ms`, then continues normally.
    #[serde(alias = "slow")]
    Delay,
    /// Never answers.
    Hang,
    /// Resets the connection without accepting.
    ResetBefore,
    /// Accepts, then resets the connection.
    ResetAfter,
    /// Accepts, then never answers.
    ReplyLost,
    /// Accepts, then sends half of the answer.
    Truncate,
    /// Answers an HTML page (`status`, or 503) without accepting.
    Html,
    /// Answers 429 above `limit_per_second`.
    RateLimit,
    /// Answers as if the key had been revoked.
    KeyRevoked,
    /// Answers as if the app had been switched off.
    AppDisabled,
}

impl Kind {
    /// All of them, in the order in which the page offers them.
    pub(super) const ALL: [Self; 11] = [
        Self::Status,
        Self::RateLimit,
        Self::Html,
        Self::Delay,
        Self::Hang,
        Self::ResetBefore,
        Self::ResetAfter,
        Self::ReplyLost,
        Self::Truncate,
        Self::KeyRevoked,
        Self::AppDisabled,
    ];

    /// A description.
    pub(super) fn about(self) -> &'static str {
        match self {
            Self::Status => "returns an error status without accepting",
            Self::RateLimit => "returns 429 above a rate of calls per second",
            Self::Html => "returns a proxy's HTML page without accepting",
            Self::Delay => "responds slowly: waits, then continues normally",
            Self::Hang => "never responds and does not accept",
            Self::ResetBefore => "resets the connection without accepting",
            Self::ResetAfter => "accepts, then resets the connection",
            Self::ReplyLost => "accepts, then never responds",
            Self::Truncate => "accepts, then sends half of the response",
            Self::KeyRevoked => "responds as if the key had been revoked",
            Self::AppDisabled => "responds as if the app had been disabled",
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Delay => "delay",
            Self::Hang => "hang",
            Self::ResetBefore => "reset_before",
            Self::ResetAfter => "reset_after",
            Self::Truncate => "truncate",
            Self::Html => "html",
            Self::RateLimit => "rate_limit",
            Self::ReplyLost => "reply_lost",
            Self::KeyRevoked => "key_revoked",
            Self::AppDisabled => "app_disabled",
        }
    }
}

/// Which calls a fault may strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Family {
    /// Create, cancel, view and list message.
    Notifications,
    /// Everything below `/templates`.
    Templates,
    /// Users, their aliases and their subscriptions.
    Users,
    /// Custom events.
    Events,
    Segments,
    /// Exports, histories and outcomes.
    Exports,
    /// Everything.
    All,
}

impl Family {
    /// All of them, in the order in which the page offers them.
    pub(super) const ALL: [Self; 7] = [
        Self::All,
        Self::Notifications,
        Self::Templates,
        Self::Users,
        Self::Events,
        Self::Segments,
        Self::Exports,
    ];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::Notifications => "notifications",
            Self::Templates => "templates",
            Self::Users => "users",
            Self::Events => "events",
            Self::Segments => "segments",
            Self::Exports => "exports",
        }
    }
}

/// A fault request.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Fault {
    #[serde(default = "Fault::everywhere")]
    pub endpoint: Family,
    pub kind: Kind,
    /// How likely it strikes a call, 0 to 1.
    #[serde(default = "Fault::always")]
    pub probability: f64,
    /// The same seed strikes the same calls, counted from when the fault was set.
    #[serde(default)]
    pub seed: u64,
    /// Maximum number of occurrences.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub delay_ms: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit_per_second: Option<u32>,
    /// Seconds in the `Retry-After` header of `status` and `rate_limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<u64>,
    /// The JSON body of `status`, instead of OneSignal's usual text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<serde_json::Value>,
}

impl Fault {
    fn everywhere() -> Family {
        Family::All
    }

    fn always() -> f64 {
        1.0
    }

    /// Validation errors.
    pub(super) fn check(&self) -> Result<(), String> {
        if !(0.0..=1.0).contains(&self.probability) {
            return Err("`probability` must be between 0 and 1".to_owned());
        }
        let valid = |status: u16| status >= 200 && StatusCode::from_u16(status).is_ok();
        if self.status.is_some_and(|status| !valid(status)) {
            return Err("`status` must be between 200 and 999".to_owned());
        }
        let missing = match self.kind {
            Kind::Status if self.status.is_none() => Some("status"),
            Kind::Delay if self.delay_ms.is_none() => Some("delay_ms"),
            Kind::RateLimit if self.limit_per_second.is_none() => Some("limit_per_second"),
            Kind::Status
            | Kind::Delay
            | Kind::RateLimit
            | Kind::Hang
            | Kind::ResetBefore
            | Kind::ResetAfter
            | Kind::ReplyLost
            | Kind::Truncate
            | Kind::KeyRevoked
            | Kind::AppDisabled
            | Kind::Html => None,
        };
        missing
            .map_or(Ok(()), |field| Err(format!("a fault of kind `{}` requires `{field}`", self.kind.name())))
    }
}

/// A fault that is set, and how it went so far.
#[derive(Debug, Serialize)]
pub(super) struct Armed {
    pub id: u64,
    #[serde(flatten)]
    pub fault: Fault,
    pub calls: u64,
    pub strikes: u64,
    #[serde(skip)]
    random: StdRng,
    #[serde(skip)]
    window: Window,
}

/// The faults that are set, in the order in which they were.
#[derive(Debug, Default, Serialize)]
#[serde(transparent)]
pub(super) struct Faults {
    armed: Vec<Armed>,
    #[serde(skip)]
    set: u64,
}

/// The fault for a call.
#[derive(Debug, Default)]
pub(super) struct Strike {
    /// How long it waits first.
    pub delay: Duration,
    /// Then this.
    pub fault: Option<Fault>,
    /// The kinds, for the counts.
    pub kinds: Vec<&'static str>,
}

impl Faults {
    /// Sets one more; returns its id.
    pub(super) fn set(&mut self, fault: Fault) -> u64 {
        self.set += 1;
        let random = StdRng::seed_from_u64(fault.seed);
        let window = Window::default();
        self.armed.push(Armed { id: self.set, fault, calls: 0, strikes: 0, random, window });
        self.set
    }

    /// Those that are set, first set first.
    pub(super) fn armed(&self) -> &[Armed] {
        &self.armed
    }

    /// Removes all, or the one with `id`; returns how many there were.
    pub(super) fn clear(&mut self, id: Option<u64>) -> usize {
        let before = self.armed.len();
        self.armed.retain(|armed| id.is_some_and(|id| id != armed.id));
        before - self.armed.len()
    }

    /// What a call of `family` meets at `now`. Every fault that may strike it draws its lot, so that one fault's calls
    /// do not depend on the others; delays add up, and of the rest the one set first counts.
    pub(super) fn strike(&mut self, family: Family, now: Instant) -> Strike {
        let mut strike = Strike::default();
        for armed in self
            .armed
            .iter_mut()
            .filter(|armed| matches!(armed.fault.endpoint, f if f == family || f == Family::All))
        {
            if !armed.draw(now) || (armed.fault.kind != Kind::Delay && strike.fault.is_some()) {
                continue;
            }
            armed.strikes += 1;
            strike.kinds.push(armed.fault.kind.name());
            if armed.fault.kind == Kind::Delay {
                strike.delay += Duration::from_millis(armed.fault.delay_ms.unwrap_or_default());
            } else {
                strike.fault = Some(armed.fault.clone());
            }
        }
        strike
    }
}

impl Armed {
    fn draw(&mut self, now: Instant) -> bool {
        self.calls += 1;
        let lot: f64 = self.random.random();
        let left = self.fault.times.is_none_or(|times| self.strikes < times);
        if !left || lot >= self.fault.probability {
            return false;
        }
        match self.fault.kind {
            Kind::RateLimit => !self.window.admits(self.fault.limit_per_second.unwrap_or_default(), now),
            Kind::Status
            | Kind::Delay
            | Kind::Hang
            | Kind::ResetBefore
            | Kind::ResetAfter
            | Kind::ReplyLost
            | Kind::Truncate
            | Kind::KeyRevoked
            | Kind::AppDisabled
            | Kind::Html => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(json: &str) -> Fault {
        serde_json::from_str(json).unwrap()
    }

    fn pattern(fault: &Fault, calls: usize) -> Vec<bool> {
        let mut faults = Faults::default();
        faults.set(fault.clone());
        (0..calls).map(|_| faults.strike(Family::Notifications, Instant::now()).fault.is_some()).collect()
    }

    #[test]
    fn the_same_seed_strikes_the_same_calls() {
        let seven =
            fault(r#"{"endpoint":"notifications","kind":"status","status":503,"probability":0.3,"seed":7}"#);
        let eight = Fault { seed: 8, ..seven.clone() };
        assert_eq!(pattern(&seven, 200), pattern(&seven, 200));
        assert_ne!(pattern(&seven, 200), pattern(&eight, 200));
        let struck = pattern(&seven, 1000).into_iter().filter(|struck| *struck).count();
        assert!((250..350).contains(&struck), "{struck}");
    }

    #[test]
    fn a_fault_strikes_its_own_endpoint_and_no_more_often_than_it_may() {
        let mut faults = Faults::default();
        faults.set(fault(r#"{"endpoint":"templates","kind":"hang","times":2}"#));
        assert!(faults.strike(Family::Notifications, Instant::now()).fault.is_none());
        let struck = [(); 3].map(|()| faults.strike(Family::Templates, Instant::now()).fault.is_some());
        assert_eq!(struck, [true, true, false]);
    }

    #[test]
    fn delays_add_up_and_the_first_other_fault_counts() {
        let mut faults = Faults::default();
        for json in [
            r#"{"kind":"delay","delay_ms":5}"#,
            r#"{"kind":"html"}"#,
            r#"{"kind":"delay","delay_ms":7}"#,
            r#"{"kind":"hang","times":1}"#,
        ] {
            faults.set(fault(json));
        }
        let strike = faults.strike(Family::Notifications, Instant::now());
        assert_eq!(strike.delay, Duration::from_millis(12));
        assert_eq!(strike.fault.unwrap().kind, Kind::Html);
        assert_eq!(faults.clear(Some(2)), 1);
        assert_eq!(
            faults.strike(Family::All, Instant::now()).fault.unwrap().kind,
            Kind::Hang,
            "it was not used up"
        );
    }

    #[test]
    fn a_fault_without_what_its_kind_needs_is_refused() {
        assert!(fault(r#"{"kind":"status"}"#).check().unwrap_err().contains("requires `status`"));
        assert!(fault(r#"{"kind":"status","status":99}"#).check().is_err());
        assert!(fault(r#"{"kind":"hang","probability":1.5}"#).check().is_err());
        assert!(serde_json::from_str::<Fault>(r#"{"kind":"hang","porbability":1}"#).is_err());
    }
}
