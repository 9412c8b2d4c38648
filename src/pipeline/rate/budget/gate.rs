//! The state of an app's gate in this process; Postgres is the source of truth.

use super::Wait;
use crate::domain::clock::Timestamp;

/// A gate that is not open, as stored in the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownGate {
    /// Closed until this time; half open afterwards.
    pub until: Timestamp,
    /// Whether the breaker closed it: its app then ramps up slowly.
    pub opens_slowly: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GateState {
    Open,
    /// No calls until this time; one probe afterwards.
    Closed(KnownGate),
    /// One call may probe the app.
    MayProbe(KnownGate),
    /// The probe is in flight.
    Probing,
}

impl GateState {
    pub fn admits(self, now: Timestamp) -> Result<(), Wait> {
        match self {
            Self::Open | Self::MayProbe(_) => Ok(()),
            Self::Closed(gate) if gate.until > now => Err(Wait::Until(gate.until)),
            Self::Closed(_) => Err(Wait::ForProbe),
            Self::Probing => Err(Wait::ForPlace),
        }
    }

    /// Notes that a call went through.
    pub fn begun(&mut self) {
        if *self != Self::Open {
            *self = Self::Probing;
        }
    }

    /// Notes that a call which had begun was not made.
    pub fn was_not_made(&mut self, now: Timestamp) {
        if *self == Self::Probing {
            *self = Self::Closed(KnownGate { until: now, opens_slowly: true });
        }
    }

    pub fn close(&mut self, gate: KnownGate) {
        *self = match *self {
            Self::Closed(known) if known.until > gate.until => Self::Closed(known),
            Self::Open | Self::Closed(_) | Self::MayProbe(_) | Self::Probing => Self::Closed(gate),
        };
    }

    pub fn allow_probe(&mut self, now: Timestamp) {
        if let Self::Closed(gate) = *self
            && gate.until <= now
        {
            *self = Self::MayProbe(gate);
        }
    }

    pub fn learn(&mut self, gate: KnownGate, now: Timestamp) {
        match *self {
            Self::Open => *self = Self::Closed(gate),
            Self::Closed(known) => {
                *self = Self::Closed(KnownGate { until: known.until.max(gate.until), ..gate });
            }
            Self::MayProbe(_) | Self::Probing if gate.until > now => *self = Self::Closed(gate),
            Self::MayProbe(_) | Self::Probing => {}
        }
    }

    /// If it is closed, closed no longer than until `now`.
    pub fn restart(&mut self, now: Timestamp) {
        if let Self::Closed(gate) = *self {
            *self = Self::Closed(KnownGate { until: gate.until.min(now), ..gate });
        }
    }

    /// Whether nothing may be claimed for it at present.
    pub fn is_closed(self, now: Timestamp) -> bool {
        match self {
            Self::Open | Self::MayProbe(_) => false,
            Self::Closed(gate) => gate.until > now,
            Self::Probing => true,
        }
    }

    /// Whether its app ramps up slowly once it opens.
    pub fn opens_slowly(self) -> bool {
        matches!(
            self,
            Self::Closed(KnownGate { opens_slowly: true, .. })
                | Self::MayProbe(KnownGate { opens_slowly: true, .. })
        )
    }
}
