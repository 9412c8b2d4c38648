//! Decisions: why something was not planned, or why a delivery did not go as expected.

use serde_json::{Map, Value};

use super::id::DeliveryId;

/// The code of a decision: stable, for scripts and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecisionCode {
    /// No rule matches this event type.
    NoRule,
    /// A matching rule is disabled.
    RuleDisabled,
    /// The rule's condition is false, or can't be evaluated for this event.
    ConditionFalse,
    /// The rule's condition, or a value that it takes from the event, can't be evaluated.
    ExpressionFailed,
    /// The person has already been sent as many of these as the rule allows.
    Throttled,
    /// The rule's hours do not allow it before it expires.
    NoTime,
    /// It was due outside its rule's hours, and waits for them.
    OutsideHours,
    /// Pending deliveries under a cancellation key were cancelled, or there were none.
    CancelledOthers,
    /// Tags or a custom event were planned.
    ActionPlanned,
    /// It waits until what its event says about the recipient is written.
    WaitsForFacts,
    /// The rule's template is archived.
    Archived,
    /// The rule's template has no live version.
    NoLiveVersion,
    /// The event lacks a value that the template needs.
    MissingValue,
    /// A value is not safe where the template uses it.
    UnsafeValue,
    /// The values exceed OneSignal's limit, and the copy can't be rendered here.
    TooLarge,
    /// An audience of segments needs a person's release outside the sandbox.
    NeedsRelease,
    /// The rule needs recipients, and the event names none.
    NoRecipient,
    /// The rule names no app, and there is no default app.
    NoApp,
    /// A test key can use sandbox apps only.
    TestKey,
    /// The channel can't reach this kind of recipient.
    WrongChannel,
    /// The person opted out of this channel.
    OptedOut,
    /// The person was erased.
    Erased,
    /// It expired before it was sent.
    Expired,
    /// It became part of an earlier event's digest.
    Digested,
    /// It blocked the others of its ordering key for too long.
    Overtaken,
    /// A newer event with the same collapse key replaced it.
    Superseded,
    /// A person or a cancellation ended it.
    Cancelled,
    /// It was cancelled while OneSignal holds it until its time.
    Recalling,
    /// It was cancelled, but OneSignal sent it anyway.
    TooLate,
    /// A person released it.
    Released,
    /// OneSignal knows the person, but has no working subscription.
    Unreachable,
    /// OneSignal rejected the message.
    Rejected,
    /// It will be retried.
    Retried,
    /// It was queued again behind a closed gate.
    Gated,
    /// Its batch was rejected as a whole and split.
    Split,
    /// No attempts are left.
    Exhausted,
    /// It is unknown whether it was sent.
    Unknown,
    /// The process that held it died; another one took it over.
    Rescued,
    /// It was replayed by a person, with a reason.
    Replayed,
    /// It crashed the process that handled it too often.
    Poisonous,
}

impl DecisionCode {
    /// The code as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::NoRule => "no_rule",
            Self::RuleDisabled => "rule_disabled",
            Self::ConditionFalse => "condition_false",
            Self::ExpressionFailed => "expression_failed",
            Self::Throttled => "throttled",
            Self::NoTime => "no_time",
            Self::OutsideHours => "outside_hours",
            Self::CancelledOthers => "cancelled_others",
            Self::ActionPlanned => "action_planned",
            Self::WaitsForFacts => "waits_for_facts",
            Self::Archived => "archived",
            Self::NoLiveVersion => "no_live_version",
            Self::MissingValue => "missing_value",
            Self::UnsafeValue => "unsafe_value",
            Self::TooLarge => "too_large",
            Self::NeedsRelease => "needs_release",
            Self::NoRecipient => "no_recipient",
            Self::NoApp => "no_app",
            Self::TestKey => "test_key",
            Self::WrongChannel => "wrong_channel",
            Self::OptedOut => "opted_out",
            Self::Erased => "erased",
            Self::Expired => "expired",
            Self::Digested => "digested",
            Self::Overtaken => "overtaken",
            Self::Superseded => "superseded",
            Self::Cancelled => "cancelled",
            Self::Recalling => "recalling",
            Self::TooLate => "too_late",
            Self::Released => "released",
            Self::Unreachable => "unreachable",
            Self::Rejected => "rejected",
            Self::Retried => "retried",
            Self::Gated => "gated",
            Self::Split => "split",
            Self::Exhausted => "exhausted",
            Self::Unknown => "unknown",
            Self::Rescued => "rescued",
            Self::Replayed => "replayed",
            Self::Poisonous => "poisonous",
        }
    }
}

/// Why something was not planned, or why a delivery did not go as expected.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The delivery that it concerns, if any.
    pub delivery: Option<DeliveryId>,
    /// The rule that it concerns, if any.
    pub rule: Option<String>,
    /// What was decided.
    pub code: DecisionCode,
    /// A description.
    pub detail: String,
    /// The relevant values; never a sensitive one.
    pub facts: Map<String, Value>,
}

impl Decision {
    /// A decision about a whole event or a rule.
    pub fn new(code: DecisionCode, detail: impl Into<String>) -> Self {
        Self { delivery: None, rule: None, code, detail: detail.into(), facts: Map::new() }
    }

    /// The same, about this rule.
    #[must_use]
    pub fn of_rule(mut self, rule: &str) -> Self {
        self.rule = Some(rule.to_owned());
        self
    }

    /// The same, about this delivery.
    #[must_use]
    pub fn of_delivery(mut self, delivery: DeliveryId) -> Self {
        self.delivery = Some(delivery);
        self
    }

    /// The same, with a relevant value.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}
