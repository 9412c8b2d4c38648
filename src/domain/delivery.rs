//! Deliveries: their states, and the one function that decides transitions.

use super::answer::Answer;
use super::channel::Priority;
use super::clock::Timestamp;
use super::id::DeliveryId;

/// A delivery's state. The same names are the Postgres enum and used in `docs/delivery-states.md`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeliveryState {
    /// Waits for its time, for its batch or for a gate.
    Queued {
        /// Not before this time.
        due_at: Timestamp,
    },
    /// In a frozen batch whose call is in progress.
    Sending,
    /// In a frozen batch that will be sent again, unchanged.
    Retrying {
        /// Not before this time.
        due_at: Timestamp,
    },
    /// Waits for a person.
    Held,
    /// OneSignal accepted it.
    Accepted,
    /// There was no one to reach.
    Unreachable,
    /// OneSignal rejected it.
    Rejected,
    /// No longer wanted: opted out, erased, superseded.
    Skipped,
    /// Ended by a person or a cancellation.
    Cancelled,
    /// It expired.
    Expired,
    /// No attempts are left, and it was certainly not sent.
    Exhausted,
    /// It is unknown whether it was sent.
    Unknown,
}

/// The name of a state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StateName(&'static str);

impl StateName {
    /// Every state's name, in the order of the Postgres enum.
    pub const ALL: [Self; 12] = [
        Self("queued"),
        Self("sending"),
        Self("retrying"),
        Self("held"),
        Self("accepted"),
        Self("unreachable"),
        Self("rejected"),
        Self("skipped"),
        Self("cancelled"),
        Self("expired"),
        Self("exhausted"),
        Self("unknown"),
    ];
    /// `held`.
    pub const HELD: Self = Self("held");
    /// `queued`.
    pub const QUEUED: Self = Self("queued");
    /// `sending`.
    pub const SENDING: Self = Self("sending");

    /// The name.
    pub fn as_str(self) -> &'static str {
        self.0
    }

    /// Parses a name; `None` if no state has it.
    pub fn find(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|name| name.0 == word)
    }

    /// Whether a delivery in this state can still change.
    pub fn is_open(self) -> bool {
        matches!(self.0, "queued" | "sending" | "retrying" | "held")
    }

    /// The name shown to people: `queued` before its time is shown as `scheduled`.
    pub fn shown(self, due_at: Option<Timestamp>, now: Timestamp) -> &'static str {
        match due_at {
            Some(due_at) if self == Self::QUEUED && due_at > now => "scheduled",
            Some(_) | None => self.0,
        }
    }
}

impl DeliveryState {
    /// The state's name.
    pub fn name(&self) -> StateName {
        StateName(match self {
            Self::Queued { .. } => "queued",
            Self::Sending => "sending",
            Self::Retrying { .. } => "retrying",
            Self::Held => "held",
            Self::Accepted => "accepted",
            Self::Unreachable => "unreachable",
            Self::Rejected => "rejected",
            Self::Skipped => "skipped",
            Self::Cancelled => "cancelled",
            Self::Expired => "expired",
            Self::Exhausted => "exhausted",
            Self::Unknown => "unknown",
        })
    }
}

/// What decides a delivery's next transition: its row in the queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Delivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its state.
    pub state: DeliveryState,
    /// Its priority.
    pub priority: Priority,
    /// Attempts that count.
    pub attempts: u16,
    /// Raised only after a definite non-send: part of the idempotency key.
    pub generation: u16,
    /// Whether the one recheck after an empty `id` is used.
    pub is_rechecked: bool,
    /// The maximum number of members in its next batch: halved while a bad one is isolated.
    pub pack_limit: u16,
    /// When its first call began.
    pub first_attempt_at: Option<Timestamp>,
    /// When its first call that may have been a send began; never cleared.
    pub first_ambiguous_at: Option<Timestamp>,
}

/// More members than a batch can have.
pub const NO_PACK_LIMIT: u16 = 30_000;

impl Delivery {
    /// The delivery after an attempt that began at `started_at`, with `members` in its batch, was answered with
    /// `answer`.
    ///
    /// `next_due` comes from [`super::retry::RetryPolicy::next_due`]; `None` means that no further attempt is allowed.
    /// Once an attempt was ambiguous, the delivery ends only as `accepted`, `unreachable` or `unknown`, and its batch
    /// is never recomposed.
    #[must_use]
    pub fn after(
        mut self,
        answer: &Answer,
        next_due: Option<Timestamp>,
        started_at: Timestamp,
        members: u16,
    ) -> Self {
        self.first_attempt_at = self.first_attempt_at.or(Some(started_at));
        self.state = match answer {
            Answer::Accepted => DeliveryState::Accepted,
            Answer::Unreachable => DeliveryState::Unreachable,
            Answer::NothingSent => self.after_nothing_sent(next_due),
            Answer::Rejected { .. } | Answer::Split if self.may_have_been_sent() => DeliveryState::Unknown,
            Answer::Rejected { .. } => DeliveryState::Rejected,
            Answer::Split => {
                self.generation += 1;
                self.pack_limit = (members / 2).max(1);
                requeued(next_due, started_at)
            }
            Answer::Gated => self.after_gate(next_due, started_at),
            Answer::NotConnected { .. } => self.tried_again(next_due),
            Answer::Conflict | Answer::Ambiguous { .. } | Answer::LeaseExpired { .. } => {
                self.first_ambiguous_at = self.first_ambiguous_at.or(Some(started_at));
                self.tried_again(next_due)
            }
        };
        self
    }

    /// The delivery once it has expired: `unknown` if it may have been sent, otherwise `expired`.
    #[must_use]
    pub fn expire(mut self) -> Self {
        self.state = if self.may_have_been_sent() { DeliveryState::Unknown } else { DeliveryState::Expired };
        self
    }

    /// The delivery once its result can no longer be determined, or its batch can no longer be rebuilt identically.
    #[must_use]
    pub fn give_up(mut self) -> Self {
        self.state = DeliveryState::Unknown;
        self
    }

    /// The delivery of a batch that was certainly not sent, to be packed again. It keeps its generation: sent alone again, it
    /// has the key under which a database that was lost since may have sent it.
    #[must_use]
    pub fn regroup(mut self, due_at: Timestamp) -> Self {
        if self.may_have_been_sent() {
            return self.give_up();
        }
        self.state = DeliveryState::Queued { due_at };
        self
    }

    /// The delivery in a state that needs no answer: held, skipped, released.
    #[must_use]
    pub fn into_state(mut self, state: DeliveryState) -> Self {
        self.state = state;
        self
    }

    /// When it is due, while it is pending.
    pub fn due_at(&self) -> Option<Timestamp> {
        match self.state {
            DeliveryState::Queued { due_at } | DeliveryState::Retrying { due_at } => Some(due_at),
            DeliveryState::Sending
            | DeliveryState::Held
            | DeliveryState::Accepted
            | DeliveryState::Unreachable
            | DeliveryState::Rejected
            | DeliveryState::Skipped
            | DeliveryState::Cancelled
            | DeliveryState::Expired
            | DeliveryState::Exhausted
            | DeliveryState::Unknown => None,
        }
    }

    /// Whether some attempt so far may have reached the person.
    pub fn may_have_been_sent(&self) -> bool {
        self.first_ambiguous_at.is_some()
    }

    /// Soon after registration an empty `id` can be a race, so it is tried once more, as a new message.
    fn after_nothing_sent(&mut self, next_due: Option<Timestamp>) -> DeliveryState {
        let Some(due_at) = next_due else { return DeliveryState::Unreachable };
        if self.is_rechecked || self.may_have_been_sent() {
            return DeliveryState::Unreachable;
        }
        self.is_rechecked = true;
        self.generation += 1;
        DeliveryState::Queued { due_at }
    }

    /// A gate does not count as an attempt. What may have been sent keeps its batch.
    fn after_gate(&self, next_due: Option<Timestamp>, started_at: Timestamp) -> DeliveryState {
        let due_at = next_due.unwrap_or(started_at);
        if self.may_have_been_sent() {
            DeliveryState::Retrying { due_at }
        } else {
            DeliveryState::Queued { due_at }
        }
    }

    fn tried_again(&mut self, next_due: Option<Timestamp>) -> DeliveryState {
        self.attempts = self.attempts.saturating_add(1);
        match next_due {
            Some(due_at) => DeliveryState::Retrying { due_at },
            None if self.may_have_been_sent() => DeliveryState::Unknown,
            None => DeliveryState::Exhausted,
        }
    }
}

fn requeued(next_due: Option<Timestamp>, started_at: Timestamp) -> DeliveryState {
    DeliveryState::Queued { due_at: next_due.unwrap_or(started_at) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::IdSource;
    use chrono::TimeDelta;

    fn start() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    fn sending() -> Delivery {
        Delivery {
            id: IdSource::seeded(1).next(start()),
            state: DeliveryState::Sending,
            priority: Priority::Normal,
            attempts: 0,
            generation: 0,
            is_rechecked: false,
            pack_limit: NO_PACK_LIMIT,
            first_attempt_at: None,
            first_ambiguous_at: None,
        }
    }

    fn soon() -> Timestamp {
        start() + TimeDelta::seconds(30)
    }

    fn lost_reply() -> Answer {
        Answer::Ambiguous { cause: "timeout".into(), retry_after: None }
    }

    #[test]
    fn an_ambiguous_attempt_is_tried_again_in_the_same_batch() {
        let after = sending().after(&lost_reply(), Some(soon()), start(), 5);
        assert_eq!(after.state, DeliveryState::Retrying { due_at: soon() });
        assert_eq!((after.attempts, after.generation), (1, 0));
        assert_eq!(after.first_ambiguous_at, Some(start()));
    }

    #[test]
    fn what_may_have_been_sent_never_ends_rejected_exhausted_or_in_another_batch() {
        let doubtful = sending().after(&lost_reply(), Some(soon()), start(), 5);
        let rejected = Answer::Rejected { detail: "bad".into() };
        assert_eq!(doubtful.clone().after(&rejected, None, start(), 1).state, DeliveryState::Unknown);
        assert_eq!(
            doubtful.clone().after(&Answer::Split, Some(soon()), start(), 5).state,
            DeliveryState::Unknown
        );
        assert_eq!(doubtful.clone().after(&lost_reply(), None, start(), 5).state, DeliveryState::Unknown);
        let gated = doubtful.clone().after(&Answer::Gated, Some(soon()), start(), 5);
        assert!(matches!(gated.state, DeliveryState::Retrying { .. }) && gated.attempts == 1);
        assert_eq!(
            doubtful.after(&Answer::NothingSent, Some(soon()), start(), 5).state,
            DeliveryState::Unreachable
        );
    }

    #[test]
    fn a_gate_costs_no_try_and_frees_the_batch() {
        let after = sending().after(&Answer::Gated, Some(soon()), start(), 5);
        assert_eq!(after.state, DeliveryState::Queued { due_at: soon() });
        assert_eq!(after.attempts, 0);
    }

    #[test]
    fn a_refused_batch_is_halved_until_the_bad_one_stands_alone() {
        let after = sending().after(&Answer::Split, Some(soon()), start(), 9);
        assert_eq!((after.pack_limit, after.generation), (4, 1));
        let alone = after.after(&Answer::Rejected { detail: "bad".into() }, None, start(), 1);
        assert_eq!(alone.state, DeliveryState::Rejected);
    }

    #[test]
    fn nobody_subscribed_is_checked_once_more_and_then_final() {
        let again = sending().after(&Answer::NothingSent, Some(soon()), start(), 1);
        assert!(matches!(again.state, DeliveryState::Queued { .. }) && again.generation == 1);
        assert_eq!(
            again.after(&Answer::NothingSent, Some(soon()), start(), 1).state,
            DeliveryState::Unreachable
        );
    }

    #[test]
    fn without_a_connection_the_tries_run_out_as_exhausted() {
        let answer = Answer::NotConnected { detail: "refused".into() };
        assert_eq!(sending().after(&answer, None, start(), 1).state, DeliveryState::Exhausted);
    }
}
