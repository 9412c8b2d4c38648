//! Planning: a pure function of the event, the catalog, the known facts about people, and the time.
//!
//! Every "no" is a decision. The values of each delivery are computed here, so that a missing one is found before
//! anything is sent. For what a sending rule plans see `send_rule`.

pub mod message;
pub mod redaction;
pub mod send_rule;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use crate::domain::app::{App, AppId};
use crate::domain::budget::Budget as Work;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::custom_event::MAX_EVENT_BYTES;
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

/// The bytes of a custom event besides its name, properties and person: field names, time and key.
const ENVELOPE_BYTES: usize = 160;

/// What planning needs besides the event.
#[derive(Clone, Copy)]
pub struct Planner<'a> {
    /// The catalog.
    pub catalog: &'a CompiledCatalog,
    /// The source of delivery ids.
    pub ids: &'a IdSource,
    /// How long a delivery may be sent if nothing else is specified.
    pub default_ttl: Duration,
    /// The minimum time left before expiry for urgent deliveries.
    pub urgent_min_remaining: Duration,
    /// The size of an audience above which a person has to release the delivery.
    pub release_over: u32,
    /// The limits for conditions and copy.
    pub work: &'a Work,
}

/// The plan for an event.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What will be sent, is held, or is skipped.
    pub deliveries: Vec<PlannedDelivery>,
    /// Why something was not planned, or not as usual.
    pub decisions: Vec<Decision>,
    /// Changes to people at OneSignal.
    pub actions: Vec<PlannedAction>,
    /// Set if it was changed because of rows in the database: after a failed commit it has to be planned again.
    pub depends_on_others: bool,
    /// Cancellation keys under which pending deliveries are cancelled, each with its rule's key.
    pub cancellations: Vec<(String, String)>,
    /// Whether its event was posted with a test key.
    pub is_test: bool,
}

/// A planned tag or custom event.
#[derive(Debug, Clone)]
pub struct PlannedAction {
    /// The rule.
    pub rule: Arc<Rule>,
    /// The app.
    pub app: AppId,
    /// The person.
    pub recipient: Recipient,
    /// What is done.
    pub body: Arc<ActionBody>,
}

/// What an action does.
#[derive(Debug, Clone, PartialEq)]
pub enum ActionBody {
    /// Sets tags; an empty text removes one.
    Tags(BTreeMap<String, String>),
    /// Sends a custom event.
    Track {
        /// Its name.
        name: String,
        /// Its properties.
        properties: Map<String, Value>,
    },
}

impl ActionBody {
    /// The kind of rule that does it.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Tags(_) => "tag",
            Self::Track { .. } => "track",
        }
    }

    /// The body as it is stored and shown.
    pub fn to_json(&self) -> Value {
        match self {
            Self::Tags(tags) => json!(tags),
            Self::Track { name, properties } => json!({"name": name, "properties": properties}),
        }
    }

    /// Whether it can be done to a recipient of this label.
    fn fits(&self, label: &RecipientLabel) -> bool {
        match label {
            RecipientLabel::ExternalId | RecipientLabel::OnesignalId => true,
            RecipientLabel::Alias(_) => matches!(self, Self::Tags(_)),
            RecipientLabel::SubscriptionId | RecipientLabel::Email | RecipientLabel::Phone => false,
        }
    }
}

/// The initial state of a planned delivery.
#[derive(Debug, Clone)]
pub enum InitialState {
    /// Sent when it is due.
    Due {
        /// Not before this time.
        at: Timestamp,
        /// Its content.
        message: Message,
    },
    /// Waits for a person.
    Held,
    /// Ended before it began.
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

    /// The recipient's alias label, if it is one person.
    pub fn label(&self) -> Option<&RecipientLabel> {
        self.person().map(|recipient| &recipient.label)
    }
}

/// The digest that an event belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gather {
    /// The hash that the events of one digest share.
    pub digest: [u8; 32],
    /// The maximum number of events in it.
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
    /// Not after this time.
    pub expires_at: Timestamp,
    /// When the rule's send window closes.
    pub closes_at: Option<Timestamp>,
    /// What OneSignal does with the scheduled time.
    pub schedule: Option<Arc<Schedule>>,
    /// Its initial state.
    pub initial: InitialState,
    /// The hash that a newer event finds it by.
    pub collapse: Option<[u8; 32]>,
    /// Its digest, if many events become one message.
    pub gather: Option<Gather>,
    /// Its ordering lane, if it is sent in order.
    pub turn: Option<Place>,
    /// Whether it replaces a pending delivery, and takes over its slot in `throttle_counters`.
    pub takes_over: bool,
}

/// Plans `event`. `facts` may be empty: then nothing is known of its recipients.
pub fn plan(planner: Planner<'_>, event: &Event, facts: &Facts, now: Timestamp) -> Plan {
    let mut plan = Plan { is_test: event.is_test, ..Plan::default() };
    let rules = planner.catalog.rules_for(&event.event_type);
    if rules.is_empty() {
        let detail = format!("no rule matches {}", event.event_type);
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

/// The plan of one rule for the event.
fn plan_rule(
    (planner, globals): (Planner<'_>, &Globals<'_>),
    event: &Event,
    rule: &CompiledRule,
    facts: &Facts,
    now: Timestamp,
    plan: &mut Plan,
) -> Result<(), Decision> {
    if !rule.rule.is_enabled {
        return Err(Decision::new(DecisionCode::RuleDisabled, "the rule is disabled"));
    }
    rule.applies(globals)?;
    match &rule.rule.definition.action {
        Action::Cancel(key) => {
            plan.cancellations.push((rule.text(key, globals)?, rule.rule.key.clone()));
            Ok(())
        }
        Action::Tag(tags) => {
            let texts = tags.iter().map(|(name, text)| Ok((name.clone(), rule.tag(text, globals)?)));
            let body = ActionBody::Tags(texts.collect::<Result<_, Decision>>()?);
            act(planner, event, rule, facts, body, plan)
        }
        Action::Track { name, properties } => {
            let body =
                ActionBody::Track { name: name.clone(), properties: rule.values(properties, globals)? };
            check_size(event, &body)?;
            act(planner, event, rule, facts, body, plan)
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
    body: ActionBody,
    plan: &mut Plan,
) -> Result<(), Decision> {
    let app = app_for(planner, event, &rule.rule)?;
    if event.recipients.is_empty() {
        let detail = "the rule acts on the event's recipients, but the event has none";
        return Err(Decision::new(DecisionCode::NoRecipient, detail));
    }
    let body = Arc::new(body);
    let before = plan.actions.len();
    for recipient in &event.recipients {
        if facts.of(recipient).is_some_and(|facts| facts.is_erased) {
            let erased = Decision::new(DecisionCode::Erased, "the person was erased");
            plan.decisions.push(erased.of_rule(&rule.rule.key));
            continue;
        }
        if !body.fits(&recipient.label) {
            plan.decisions.push(unfit(&body, &recipient.label).of_rule(&rule.rule.key));
            continue;
        }
        plan.actions.push(PlannedAction {
            rule: Arc::clone(&rule.rule),
            app: app.id,
            recipient: recipient.clone(),
            body: Arc::clone(&body),
        });
    }
    let people = plan.actions.len() - before;
    if people == 0 {
        return Ok(());
    }
    let what = match body.as_ref() {
        ActionBody::Tags(_) => "tags were planned",
        ActionBody::Track { .. } => "a custom event was planned",
    };
    let detail = format!("{what} for {people} {}", if people == 1 { "person" } else { "people" });
    plan.decisions.push(Decision::new(DecisionCode::ActionPlanned, detail).of_rule(&rule.rule.key));
    Ok(())
}

/// Why an action can't be done to a recipient of this label.
fn unfit(body: &ActionBody, label: &RecipientLabel) -> Decision {
    let detail = match body {
        ActionBody::Tags(_) => {
            format!("a user is tagged by External ID, OneSignal ID or an alias, not by `{}`", label.as_str())
        }
        ActionBody::Track { .. } => {
            format!(
                "a custom event needs the External ID or OneSignal ID of the user, not `{}`",
                label.as_str()
            )
        }
    };
    Decision::new(DecisionCode::WrongChannel, detail)
}

/// Checks a custom event against OneSignal's limit.
fn check_size(event: &Event, body: &ActionBody) -> Result<(), Decision> {
    let longest_id = event.recipients.iter().map(|recipient| recipient.id.len()).max().unwrap_or_default();
    let bytes = body.to_json().to_string().len() + longest_id + ENVELOPE_BYTES;
    if bytes <= MAX_EVENT_BYTES {
        return Ok(());
    }
    let detail = format!(
        "the custom event has {bytes} bytes, and OneSignal accepts {MAX_EVENT_BYTES}: send fewer properties"
    );
    Err(Decision::new(DecisionCode::TooLarge, detail))
}

/// The app that a rule acts through, if this event may use it.
pub(in crate::pipeline) fn app_for<'a>(
    planner: Planner<'a>,
    event: &Event,
    rule: &Rule,
) -> Result<&'a Arc<App>, Decision> {
    let app = planner.catalog.app(rule.definition.app).ok_or_else(|| {
        Decision::new(DecisionCode::NoApp, "the rule names no known app and there is no default app")
    })?;
    if event.is_test && !app.is_sandbox {
        let detail = format!("a test key can use sandbox apps only, and {} is not one", app.name);
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
