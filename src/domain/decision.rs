//! Decisions: why something was not planned, or why a delivery left the happy path.

use serde_json::{Map, Value};

use super::id::DeliveryId;

/// The code of a decision: stable, for scripts and filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum DecisionCode {
    /// No rule answers this event type.
    NoRule,
    /// A rule that answers it is switched off.
    RuleDisabled,
    /// The rule's condition does not hold, or can't be worked out for this event.
    ConditionFalse,
    /// The rule's condition, or a value that it takes from the event, can't be worked out.
    ExpressionFailed,
    /// The person has had as many of these as the rule allows.
    Throttled,
    /// The rule's hours leave no time before it expires.
    NoTime,
    /// It was to be sent outside its rule's hours, and waits for them.
    OutsideHours,
    /// What waited under a cancellation key was cancelled, or nothing did.
    CancelledOthers,
    /// Tags or a custom event were planned.
    ActionPlanned,
    /// The rule's template was put away.
    Archived,
    /// The rule's template has no live version.
    NoLiveVersion,
    /// The event lacks a value that the template needs.
    MissingValue,
    /// A value can't stand where the template puts it.
    UnsafeValue,
    /// The values don't fit OneSignal's limit, and the copy can't be rendered here.
    TooLarge,
    /// An audience of segments waits for a person outside the sandbox.
    NeedsRelease,
    /// The rule wants recipients, and the event names none.
    NoRecipient,
    /// The rule names no app, and none is the default.
    NoApp,
    /// A test key reaches sandbox apps only.
    TestKey,
    /// The channel can't reach this kind of recipient.
    WrongChannel,
    /// The person does not want this channel.
    OptedOut,
    /// The person asked to be forgotten.
    Erased,
    /// Its time was over before it could go out.
    Expired,
    /// It was gathered into the message of an earlier event.
    Digested,
    /// It held up the others of its ordering key for too long.
    Overtaken,
    /// A newer event with the same collapse key took its place.
    Superseded,
    /// A person or a cancellation ended it.
    Cancelled,
    /// Somebody cancelled it while OneSignal holds it until its time.
    Recalling,
    /// Somebody cancelled it, and OneSignal sent it all the same.
    TooLate,
    /// A person released it.
    Released,
    /// OneSignal knows the person, but has no working subscription.
    Unreachable,
    /// OneSignal refused the message.
    Rejected,
    /// It will be tried again.
    Retried,
    /// It went back to the queue behind a closed gate.
    Gated,
    /// Its batch was refused as a whole and taken apart.
    Split,
    /// The tries are used up.
    Exhausted,
    /// Whether it went out could not be settled.
    Unknown,
    /// The process that held it died; another one took it over.
    Rescued,
    /// It was made again, for a person who said why.
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

/// Why something was not planned, or why a delivery left the happy path.
#[derive(Debug, Clone)]
pub struct Decision {
    /// The delivery that it is about, if there is one.
    pub delivery: Option<DeliveryId>,
    /// The rule that it is about, if there is one.
    pub rule: Option<String>,
    /// What was decided.
    pub code: DecisionCode,
    /// The same in plain words.
    pub detail: String,
    /// The values that mattered; never a sensitive one.
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

    /// The same, with a value that mattered.
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.facts.insert(name.to_owned(), value.into());
        self
    }
}
