//! What an app's gate lets through, as this process knows it; the truth stands in Postgres.

use super::Wait;
use crate::domain::clock::Timestamp;

/// A gate that is not open, as the database has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KnownGate {
    /// Closed until then; half open afterwards.
    pub until: Timestamp,
    /// Whether a breaker closed it: its app comes back slowly.
    pub opens_slowly: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum GateState {
    Open,
    /// Nothing until then; one probe afterwards.
    Closed(KnownGate),
    /// One call may go and find out.
    MayProbe(KnownGate),
    /// It is on its way.
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

    /// A call went through it.
    pub fn begun(&mut self) {
        if *self != Self::Open {
            *self = Self::Probing;
        }
    }

    /// A call that had begun was not made after all.
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

    /// Closed no longer than until `now`, if it is closed.
    pub fn restart(&mut self, now: Timestamp) {
        if let Self::Closed(gate) = *self {
            *self = Self::Closed(KnownGate { until: gate.until.min(now), ..gate });
        }
    }

    /// Whether nothing can be claimed for it now.
    pub fn is_closed(self, now: Timestamp) -> bool {
        match self {
            Self::Open | Self::MayProbe(_) => false,
            Self::Closed(gate) => gate.until > now,
            Self::Probing => true,
        }
    }

    /// Whether its app comes back slowly once it opens.
    pub fn opens_slowly(self) -> bool {
        matches!(
            self,
            Self::Closed(KnownGate { opens_slowly: true, .. })
                | Self::MayProbe(KnownGate { opens_slowly: true, .. })
        )
    }
}
