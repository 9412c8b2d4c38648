//! What becomes of an event: a pure function of the event, the catalog, what is known of people, and the time.
//!
//! Every "no" is a decision. The values that each delivery will carry are worked out here, so a hole is found before
//! anything is sent. What a rule that sends makes of it is in `sends`.

pub mod message;
pub mod redaction;
pub mod send_rule;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::domain::app::{App, AppId};
use crate::domain::budget::Budget as Work;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::event::{Event, Recipient, RecipientLabel};
use crate::domain::facts::Facts;
use crate::domain::id::{DeliveryId, IdSource};
use crate::domain::rule::{Action, Audience, Rule};
use crate::domain::timing::Schedule;
use crate::pipeline::compiled::rules::{CompiledRule, Globals};
use crate::pipeline::compiled::{CompiledCatalog, CompiledVersion};
use crate::pipeline::plan::message::Message;
use crate::pipeline::plan::send_rule::{RulePlan, Send};
use crate::store::ordering_lanes::Place;

/// What planning needs to know beside the event.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    /// The catalog.
    pub catalog: &'a CompiledCatalog,
    /// Where delivery ids come from.
    pub ids: &'a IdSource,
    /// How long a delivery is worth sending when nobody says.
    pub default_ttl: Duration,
    /// Urgent deliveries need this much life left.
    pub urgent_min_remaining: Duration,
    /// Recipients of an audience beyond which a person has to release it.
    pub release_over: u32,
    /// What conditions and copy are paid from.
    pub work: &'a Work,
}

/// What becomes of an event.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What will be sent, or waits for a person, or is skipped.
    pub deliveries: Vec<PlannedDelivery>,
    /// Why something was not planned, or is not on the happy path.
    pub decisions: Vec<Decision>,
    /// What is to be done with people at OneSignal.
    pub actions: Vec<PlannedAction>,
    /// Set when it was changed by what stood in the database: a try that was not committed has to plan it anew.
    pub depends_on_others: bool,
    /// Cancellation keys under which whatever waits is cancelled, each with its rule's key.
    pub cancellations: Vec<(String, String)>,
    /// Whether its event was posted with a test key.
    pub is_test: bool,
}

/// A tag or a custom event as planned.
#[derive(Debug, Clone)]
pub struct PlannedAction {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The app.
    pub app: AppId,
    /// `tag` or `track`.
    pub kind: &'static str,
    /// The person.
    pub recipient: Recipient,
    /// The tags, or the event's name and properties.
    pub body: Arc<Value>,
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

/// What an event is gathered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// The same for those that become one message.
    pub digest: [u8; 32],
    /// How many of them it holds.
    pub max: u32,
    /// Whether there is time for others to join it.
    pub has_window: bool,
}

/// A delivery as planned.
#[derive(Debug, Clone)]
pub struct PlannedDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// The rule.
    pub rule: Arc<Rule>,
    /// The template's key.
    pub template: String,
    /// The app.
    pub app: Arc<App>,
    /// The channel.
    pub channel: Channel,
    /// The version and locale it is pinned to, if one was live.
    pub pinned: Option<(Arc<CompiledVersion>, String)>,
    /// Whom it is for.
    pub to: Addressee,
    /// Not after this.
    pub expires_at: Timestamp,
    /// When the rule's hours that it is due in are over.
    pub closes_at: Option<Timestamp>,
    /// What OneSignal does with the time of the message.
    pub schedule: Option<Arc<Schedule>>,
    /// How it begins.
    pub beginning: Beginning,
    /// What a newer event finds it by.
    pub collapse: Option<[u8; 32]>,
    /// What its event is gathered with, if many become one message.
    pub gather: Option<Gather>,
    /// Its place in line, if it goes out one after another.
    pub turn: Option<Place>,
    /// Whether it replaces one that waited, and takes its place in throttle_counters, too.
    pub takes_over: bool,
}

/// Plans `event`. `facts` may be empty: then nothing is known of its recipients.
pub fn plan(planner: Planner<'_>, event: &Event, facts: &Facts, now: Timestamp) -> Plan {
    let mut plan = Plan { is_test: event.is_test, ..Plan::default() };
    let rules = planner.catalog.rules_for(&event.event_type);
    if rules.is_empty() {
        let detail = format!("no rule answers {}", event.event_type);
        plan.decisions.push(Decision::new(DecisionCode::NoRule, detail));
    }
    let globals = Globals::of(event, planner.work);
    for rule in rules {
        let made = plan_rule((planner, &globals), event, rule, facts, now, &mut plan);
        if let Err(decision) = made {
            plan.decisions.push(decision.of_rule(&rule.rule.key));
        }
    }
    plan
}

/// What one rule makes of the event.
fn plan_rule(
    (planner, globals): (Planner<'_>, &Globals<'_>),
    event: &Event,
    rule: &CompiledRule,
    facts: &Facts,
    now: Timestamp,
    plan: &mut Plan,
) -> Result<(), Decision> {
    if !rule.rule.is_enabled {
        return Err(Decision::new(DecisionCode::RuleDisabled, "the rule is switched off"));
    }
    rule.applies(globals)?;
    match &rule.rule.definition.action {
        Action::Cancel(key) => {
            plan.cancellations.push((rule.text(key, globals)?, rule.rule.key.clone()));
            Ok(())
        }
        Action::Tag(tags) => {
            let texts = tags.iter().map(|(name, text)| Ok((name.clone(), rule.text(text, globals)?.into())));
            let body = Value::Object(texts.collect::<Result<_, Decision>>()?);
            act(planner, event, rule, facts, ("tag", body), plan)
        }
        Action::Track { name, properties } => {
            let properties = rule.values(properties, globals)?;
            let body = serde_json::json!({"name": name, "properties": properties});
            act(planner, event, rule, facts, ("track", body), plan)
        }
        Action::Send { template, audience, canary } => {
            let audience = rule.audience(audience, globals)?;
            let named = rule.named_time(globals)?;
            let digest_key = rule.digest_key(globals)?;
            let send = Send { template, audience, canary: *canary, named, digest_key };
            RulePlan::begin(planner, event, &rule.rule, &send, now)?.carry_out(&send.audience, facts, plan);
            Ok(())
        }
    }
}

/// Plans a tag or a custom event for each recipient.
fn act(
    planner: Planner<'_>,
    event: &Event,
    rule: &CompiledRule,
    facts: &Facts,
    (kind, body): (&'static str, Value),
    plan: &mut Plan,
) -> Result<(), Decision> {
    let app = app_for(planner, event, &rule.rule)?;
    if event.recipients.is_empty() {
        let detail = "the rule acts on the event's recipients, and it has none";
        return Err(Decision::new(DecisionCode::NoRecipient, detail));
    }
    let body = Arc::new(body);
    let before = plan.actions.len();
    for recipient in &event.recipients {
        if facts.of(recipient).is_some_and(|facts| facts.is_erased) {
            let erased = Decision::new(DecisionCode::Erased, "the person asked to be forgotten");
            plan.decisions.push(erased.of_rule(&rule.rule.key));
            continue;
        }
        plan.actions.push(PlannedAction {
            rule: Arc::clone(&rule.rule),
            app: app.id,
            kind,
            recipient: recipient.clone(),
            body: Arc::clone(&body),
        });
    }
    let people = plan.actions.len() - before;
    if people == 0 {
        return Ok(());
    }
    let what = if kind == "tag" { "tags were planned" } else { "a custom event was planned" };
    let detail = format!("{what} for {people} {}", if people == 1 { "person" } else { "people" });
    plan.decisions.push(Decision::new(DecisionCode::ActionPlanned, detail).of_rule(&rule.rule.key));
    Ok(())
}

/// The app that a rule acts through, if this event may reach it.
pub(in crate::pipeline) fn app_for<'a>(
    planner: Planner<'a>,
    event: &Event,
    rule: &Rule,
) -> Result<&'a Arc<App>, Decision> {
    let app = planner.catalog.app(rule.definition.app).ok_or_else(|| {
        Decision::new(DecisionCode::NoApp, "the rule names no known app and no app is the default")
    })?;
    if event.is_test && !app.is_sandbox {
        let detail = format!("a test key reaches sandbox apps only, and {} is none", app.name);
        return Err(Decision::new(DecisionCode::TestKey, detail));
    }
    Ok(app)
}

/// The audience as it is stored.
pub fn audience_json(to: &Addressee) -> Option<Value> {
    match to {
        Addressee::Person(_) => None,
        Addressee::Audience(audience) => serde_json::to_value(audience).ok(),
    }
}
