//! Bugs that are planted from outside, each of which the oracle must find.

use std::sync::Arc;

use chrono::TimeDelta;
use herald::domain::clock::{Clock, TestClock, Timestamp};
use herald::pipeline::PipelineLimits;

/// How a provider's adapter could be wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tamper {
    FreshKeys,
    LostReplyIsNoConnection,
    EmptyIdIsAccepted,
    InvalidAliasesSwallowed,
}

/// A bug.
#[expect(clippy::struct_excessive_bools, reason = "each is a bug of its own")]
pub struct Plant {
    pub name: &'static str,
    /// What plants it in the database, and what takes it out.
    pub sql: &'static str,
    pub undo: &'static str,
    pub tamper: Option<Tamper>,
    pub set: fn(&mut PipelineLimits),
    /// How far each replica's clock is off, in seconds.
    pub skews: [i64; 3],
    pub namespace_differs: bool,
    pub changes_event_keys: bool,
    pub heartbeat_is_unfenced: bool,
    pub renews_without_end: bool,
    /// Invariants, one of which must be found broken.
    pub catches: &'static [&'static str],
}

/// No bug at all.
pub const NONE: Plant = Plant {
    name: "none",
    sql: "",
    undo: "",
    tamper: None,
    set: |_| {},
    skews: [0; 3],
    namespace_differs: false,
    changes_event_keys: false,
    heartbeat_is_unfenced: false,
    renews_without_end: false,
    catches: &[],
};

impl Plant {
    /// The clock that a replica reads.
    pub fn clock_of(&self, slot: usize, clock: &Arc<TestClock>) -> Arc<dyn Clock> {
        match self.skews[slot] {
            0 => Arc::clone(clock) as Arc<dyn Clock>,
            off => Arc::new(Skewed { clock: Arc::clone(clock), by: TimeDelta::seconds(off) }),
        }
    }
}

struct Skewed {
    clock: Arc<TestClock>,
    by: TimeDelta,
}

impl Clock for Skewed {
    fn now(&self) -> Timestamp {
        self.clock.now() + self.by
    }
}
