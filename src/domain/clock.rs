//! The one source of time.
//!
//! `Clock::now()` is read at the start of a use case and passed on as an argument, into SQL too.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

/// A time in UTC, with at most microseconds (what Postgres stores).
pub type Timestamp = DateTime<Utc>;

/// The source of time. Production reads Postgres' clock; tests control their own.
pub trait Clock: Send + Sync + 'static {
    /// The current time, truncated to whole microseconds.
    fn now(&self) -> Timestamp;
}

/// This machine's clock, plus an adjustable offset: for the sandbox and for commands without a database.
#[derive(Debug, Default)]
pub struct SystemClock {
    offset_us: AtomicI64,
}

impl SystemClock {
    /// A clock that shows the machine's own time.
    pub fn new() -> Self {
        Self::default()
    }

    /// Advances the clock by `step`, on top of earlier steps.
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

/// A clock that stops until a test advances it.
#[derive(Debug)]
pub struct TestClock {
    now_us: AtomicI64,
}

impl TestClock {
    /// A clock stopped at `start`.
    pub fn at(start: Timestamp) -> Self {
        Self { now_us: AtomicI64::new(start.timestamp_micros()) }
    }

    /// Advances the clock by `step`.
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

/// Truncates a time to whole microseconds, so that it is equal after a round trip through Postgres.
pub fn truncate(at: Timestamp) -> Timestamp {
    Timestamp::from_timestamp_micros(at.timestamp_micros()).unwrap_or(at)
}

/// A deadline for pure work such as rendering: a duration on the machine, not a time of day.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// A deadline `budget` from now.
    pub fn after(budget: Duration) -> Self {
        Self(Instant::now() + budget)
    }

    /// Whether the deadline has passed.
    pub fn passed(&self) -> bool {
        Instant::now() >= self.0
    }
}

/// Time since the machine booted, including sleep: unlike `Instant`, it continues while the machine is suspended.
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
