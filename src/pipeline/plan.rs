//! What becomes of an event: a pure function of the event, the catalog, what is known of people, and the time.
//!
//! Every "no" is a decision. The values that each delivery will carry are worked out here, so a hole is found before
//! anything is sent.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde_json::Value;

use super::message::{self, Message};
use super::prepared::{PreparedCatalog, PreparedVersion};
use crate::domain::app::App;
use crate::domain::channel::{Channel, Lane};
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::event::{Event, Recipient, RecipientLabel};
use crate::domain::facts::{Facts, RecipientFacts};
use crate::domain::id::{DeliveryId, IdSource};
use crate::domain::retry::delta;
use crate::domain::rule::{Audience, Rule};

/// How far back a source's own time of an event is believed, and how far ahead.
const TIME_BACK: TimeDelta = TimeDelta::hours(24);
const TIME_AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What planning needs to know beside the event.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    /// The catalog.
    pub catalog: &'a PreparedCatalog,
    /// Where delivery ids come from.
    pub ids: &'a IdSource,
    /// How long a delivery is worth sending when nobody says.
    pub default_life: Duration,
    /// Urgent deliveries need this much life left.
    pub urgent_margin: Duration,
}

/// What becomes of an event.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What will be sent, or waits for a person, or is skipped.
    pub deliveries: Vec<PlannedDelivery>,
    /// Why something was not planned, or is not on the happy path.
    pub decisions: Vec<Decision>,
}

/// How a planned delivery begins.
#[derive(Debug, Clone)]
pub enum Beginning {
    /// Goes out when it is due.
    Due {
        /// Not before this.
        at: Timestamp,
        /// What it says.
        message: Message,
    },
    /// Waits for a person.
    Held,
    /// Over before it began.
    Skipped,
}

/// Whom a delivery is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Addressee {
    /// One person or device.
    Person(Recipient),
    /// An audience that OneSignal resolves.
    Audience(Audience),
}

impl Addressee {
    /// The person, if it is one.
    pub fn person(&self) -> Option<&Recipient> {
        match self {
            Self::Person(recipient) => Some(recipient),
            Self::Audience(_) => None,
        }
    }

    /// The recipient's label, if it is one person.
    pub fn label(&self) -> Option<&RecipientLabel> {
        self.person().map(|recipient| &recipient.label)
    }
}

/// A delivery as planned.
#[derive(Debug, Clone)]
pub struct PlannedDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The rule.
    pub rule: Arc<Rule>,
    /// The app.
    pub app: Arc<App>,
    /// The channel.
    pub channel: Channel,
    /// The version and locale it is pinned to, if one was live.
    pub pinned: Option<(Arc<PreparedVersion>, String)>,
    /// Whom it is for.
    pub to: Addressee,
    /// Not after this.
    pub expires_at: Timestamp,
    /// How it begins.
    pub beginning: Beginning,
}

/// Plans `event`. `facts` may be empty: then nothing is known of its recipients.
pub fn plan(planner: Planner<'_>, event: &Event, facts: &Facts, now: Timestamp) -> Plan {
    let mut plan = Plan::default();
    let rules = planner.catalog.rules_for(&event.event_type);
    if rules.is_empty() {
        let detail = format!("no rule answers {}", event.event_type);
        plan.decisions.push(Decision::new(DecisionCode::NoRule, detail));
    }
    for rule in rules {
        match RulePlan::begin(planner, event, rule, now) {
            Ok(rule_plan) => rule_plan.carry_out(facts, &mut plan),
            Err(decision) => plan.decisions.push(decision.of_rule(&rule.key)),
        }
    }
    plan
}

/// When a rule's delivery is due, and until when it is worth sending.
fn timing(planner: Planner<'_>, event: &Event, rule: &Rule) -> (Timestamp, Timestamp) {
    let received = event.received_at;
    let happened = event.occurred_at.unwrap_or(received).clamp(received - TIME_BACK, received + TIME_AHEAD);
    let delayed = received + delta(rule.delay);
    let due = event.send_after.map_or(delayed, |after| after.max(delayed));
    let type_life = planner.catalog.event_type(&event.event_type).and_then(|t| t.entry.time_to_live);
    let end = match (rule.expires_in, type_life) {
        (Some(life), _) => due + delta(life),
        (None, Some(life)) => happened + delta(rule.delay) + delta(life),
        (None, None) => due.max(happened) + delta(planner.default_life),
    };
    (due, event.expires_at.map_or(end, |asked| asked.min(end)))
}

/// One rule's part of a plan, once it is clear that the rule applies.
struct RulePlan<'a> {
    planner: Planner<'a>,
    event: &'a Event,
    rule: &'a Arc<Rule>,
    app: &'a Arc<App>,
    version: Option<&'a Arc<PreparedVersion>>,
    due_at: Timestamp,
    expires_at: Timestamp,
    /// What each locale says: the same for all recipients of the event.
    said: HashMap<String, Result<Message, Box<Decision>>>,
}

impl<'a> RulePlan<'a> {
    fn begin(
        planner: Planner<'a>,
        event: &'a Event,
        rule: &'a Arc<Rule>,
        now: Timestamp,
    ) -> Result<Self, Decision> {
        if !rule.is_enabled {
            return Err(Decision::new(DecisionCode::RuleDisabled, "the rule is switched off"));
        }
        let app = planner.catalog.app(rule.app).ok_or_else(|| {
            Decision::new(DecisionCode::NoApp, "the rule names no known app and no app is the default")
        })?;
        if event.is_test && !app.is_sandbox {
            let detail = format!("a test key reaches sandbox apps only, and {} is none", app.name);
            return Err(Decision::new(DecisionCode::TestKey, detail));
        }
        if rule.audience == Audience::EventRecipients && event.recipients.is_empty() {
            let detail = "the rule writes to the event's recipients, and it has none";
            return Err(Decision::new(DecisionCode::NoRecipient, detail));
        }
        let (due_at, expires_at) = timing(planner, event, rule);
        let margin = match rule.lane {
            Lane::Urgent => delta(planner.urgent_margin),
            Lane::Normal | Lane::Bulk => TimeDelta::zero(),
        };
        if expires_at <= due_at.max(now) + margin {
            let detail = format!("it would be due at {due_at} and is worth sending until {expires_at}");
            return Err(Decision::new(DecisionCode::Expired, detail));
        }
        let version = planner.catalog.live_version(&rule.template);
        Ok(Self { planner, event, rule, app, version, due_at, expires_at, said: HashMap::new() })
    }

    fn carry_out(mut self, facts: &Facts, plan: &mut Plan) {
        match &self.rule.audience {
            Audience::EventRecipients => {
                for recipient in &self.event.recipients {
                    self.plan_person(recipient, facts.of(recipient), plan);
                }
            }
            audience @ Audience::Segments { .. } => {
                let wish = self.event.locale.clone();
                let decision = (!self.app.is_sandbox).then(|| {
                    let detail = "it goes to whole segments: a person releases it";
                    Decision::new(DecisionCode::NeedsRelease, detail)
                });
                self.push(Addressee::Audience(audience.clone()), wish.as_deref(), decision, plan);
            }
        }
    }

    fn plan_person(&mut self, recipient: &Recipient, facts: Option<&RecipientFacts>, plan: &mut Plan) {
        let channel = self.version.map(|v| v.version.channel);
        if let Some(channel) = channel.filter(|channel| !reaches(*channel, &recipient.label)) {
            let label = recipient.label.as_str();
            let detail = format!("{} can't reach a recipient by `{label}`", channel.as_str());
            plan.decisions.push(Decision::new(DecisionCode::WrongChannel, detail).of_rule(&self.rule.key));
            return;
        }
        let wish = self
            .event
            .locale
            .as_deref()
            .or_else(|| facts.and_then(|f| f.locale.as_deref()))
            .map(str::to_owned);
        if let Some(decision) = facts.and_then(|facts| unwanted(facts, channel)) {
            self.skip(recipient, wish.as_deref(), decision, plan);
            return;
        }
        self.push(Addressee::Person(recipient.clone()), wish.as_deref(), None, plan);
    }

    fn skip(&self, recipient: &Recipient, wish: Option<&str>, decision: Decision, plan: &mut Plan) {
        let pinned = self.version.map(|v| (Arc::clone(v), v.version.choose_locale(wish).to_owned()));
        let to = Addressee::Person(recipient.clone());
        self.finish(to, pinned, Beginning::Skipped, Some(decision), plan);
    }

    /// Plans one delivery; `hold` is why it has to wait for a person in any case.
    fn push(&mut self, to: Addressee, wish: Option<&str>, hold: Option<Decision>, plan: &mut Plan) {
        let Some(version) = self.version else {
            let detail = format!("template {} has no live version", self.rule.template);
            let decision = Decision::new(DecisionCode::NoLiveVersion, detail);
            self.finish(to, None, Beginning::Held, Some(decision), plan);
            return;
        };
        let locale = version.version.choose_locale(wish).to_owned();
        let data = &self.event.data;
        let said = self
            .said
            .entry(locale.clone())
            .or_insert_with_key(|l| message::compose(version, l, data))
            .clone();
        let (beginning, decision) = match (said, hold) {
            (Err(decision), _) => (Beginning::Held, Some(*decision)),
            (Ok(_), Some(decision)) => (Beginning::Held, Some(decision)),
            (Ok(message), None) => (Beginning::Due { at: self.due_at, message }, None),
        };
        self.finish(to, Some((Arc::clone(version), locale)), beginning, decision, plan);
    }

    fn finish(
        &self,
        to: Addressee,
        pinned: Option<(Arc<PreparedVersion>, String)>,
        beginning: Beginning,
        decision: Option<Decision>,
        plan: &mut Plan,
    ) {
        // Made in the event's own millisecond: that is how an event's deliveries are found without an index.
        let id = self.planner.ids.next(self.event.received_at);
        if let Some(decision) = decision {
            plan.decisions.push(decision.of_rule(&self.rule.key).of_delivery(id));
        }
        plan.deliveries.push(PlannedDelivery {
            id,
            rule: Arc::clone(self.rule),
            app: Arc::clone(self.app),
            channel: self.planner.catalog.channel_of(&self.rule.template).unwrap_or(Channel::Push),
            pinned,
            to,
            expires_at: self.expires_at,
            beginning,
        });
    }
}

/// Whether a channel can reach a recipient that is named in this way.
pub fn reaches(channel: Channel, label: &RecipientLabel) -> bool {
    match label {
        RecipientLabel::Email => channel == Channel::Email,
        RecipientLabel::Phone => channel == Channel::Sms,
        RecipientLabel::ExternalId
        | RecipientLabel::OnesignalId
        | RecipientLabel::SubscriptionId
        | RecipientLabel::Alias(_) => true,
    }
}

fn unwanted(facts: &RecipientFacts, channel: Option<Channel>) -> Option<Decision> {
    if facts.is_erased {
        return Some(Decision::new(DecisionCode::Erased, "the person asked to be forgotten"));
    }
    let channel = channel.filter(|channel| facts.opted_out.contains(channel))?;
    Some(Decision::new(DecisionCode::OptedOut, format!("the person does not want {}", channel.as_str())))
}

/// The audience as it is stored.
pub fn audience_json(to: &Addressee) -> Option<Value> {
    match to {
        Addressee::Person(_) => None,
        Addressee::Audience(audience) => serde_json::to_value(audience).ok(),
    }
}
