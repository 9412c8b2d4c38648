//! The one source of time.
//!
//! `Clock::now()` is read at the start of a use case and travels as an argument from there, into SQL too.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// A moment in UTC, with microseconds at most (what Postgres keeps).
pub type Timestamp = DateTime<Utc>;

/// Tells the time. Production reads Postgres' clock, tests move their own.
pub trait Clock: Send + Sync + 'static {
    /// The present moment, cut to whole microseconds.
    fn now(&self) -> Timestamp;
}

/// This machine's clock, plus an offset that can be moved: the sandbox and commands without a database use it.
#[derive(Debug, Default)]
pub struct SystemClock {
    offset_us: AtomicI64,
}

impl SystemClock {
    /// A clock that tells the machine's own time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Moves the clock forward by `step`, on top of every earlier step.
    pub fn advance(&self, step: Duration) {
        let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX);
        self.offset_us.fetch_add(step, Ordering::SeqCst);
    }
}

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the machine's clock")]
    fn now(&self) -> Timestamp {
        truncate(Utc::now()) + TimeDelta::microseconds(self.offset_us.load(Ordering::SeqCst))
    }
}

/// A clock that stands still until a test moves it.
#[derive(Debug)]
pub struct TestClock {
    now_us: AtomicI64,
}

impl TestClock {
    /// A clock that stands at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self { now_us: AtomicI64::new(start.timestamp_micros()) }
    }

    /// Moves the clock forward by `step`.
    pub fn advance(&self, step: Duration) {
        let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX);
        self.now_us.fetch_add(step, Ordering::SeqCst);
    }

    /// Sets the clock back by `step`.
    pub fn set_back(&self, step: Duration) {
        let step = i64::try_from(step.as_micros()).unwrap_or(i64::MAX);
        self.now_us.fetch_sub(step, Ordering::SeqCst);
    }
}

impl Clock for TestClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_timestamp_micros(self.now_us.load(Ordering::SeqCst)).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

/// Cuts a moment to whole microseconds, so that it compares equal after a trip through Postgres.
pub fn truncate(at: Timestamp) -> Timestamp {
    Timestamp::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// A time budget for pure work such as rendering: how long it may take on the machine, not a moment in the day.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// A budget of `budget`, beginning now.
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// Whether the budget is spent.
    pub fn passed(&self) -> bool {
        Instant::now() >= self.0
    }
}

/// Time since the machine booted, sleep included: unlike `Instant`, it goes on while the machine is suspended.
pub fn boot_time() -> Duration {
    static START: std::sync::OnceLock<Instant> = std::sync::OnceLock::new();
    #[cfg(target_os = "linux")]
    {
        let id = nix::time::ClockId::CLOCK_BOOTTIME;
        if let Ok(spec) = nix::time::clock_gettime(id) {
            return Duration::from(spec);
        }
    }
    START.get_or_init(Instant::now).elapsed()
}
