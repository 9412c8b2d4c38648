//! What a sending rule plans for an event: recipients, time, version and locale, and content. Pure.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use chrono::TimeDelta;
use serde_json::Value;

use crate::domain::app::App;
use crate::domain::channel::{Channel, Priority};
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::digest::gathered;
use crate::domain::event::{Event, Recipient, RecipientLabel};
use crate::domain::facts::{Facts, RecipientFacts};
use crate::domain::id::{TemplateVersionId, TypedId};
use crate::domain::retry::delta;
use crate::domain::rule::{Audience, Canary, Rule};
use crate::domain::timing::{HandOver, ProviderTiming, Schedule, schedule_at_provider_from};
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::ingest::throttle::{addressee_digest, person_digest};
use crate::pipeline::plan::message;
use crate::pipeline::plan::message::Message;
use crate::pipeline::plan::{Addressee, Gather, InitialState, Plan, PlannedDelivery, Planner, app_for};
use crate::vault::sha256;

/// How far back a source's own event time is trusted, and how far ahead.
const TIME_BACK: TimeDelta = TimeDelta::hours(24);
const TIME_AHEAD: TimeDelta = TimeDelta::minutes(5);

/// What a sending rule sends, with the event's values filled in.
pub(in crate::pipeline) struct Send<'a> {
    pub template: &'a str,
    pub audience: Audience,
    pub canary: Option<Canary>,
    /// The time that the rule counts from.
    pub named: Option<Timestamp>,
    /// The value that the events of one digest share.
    pub digest_key: Option<String>,
}

/// When a rule's delivery would be due, apart from its hours, and when it expires if it is due then.
fn timing(
    planner: Planner<'_>,
    event: &Event,
    rule: &Rule,
    named: Option<Timestamp>,
) -> (Timestamp, TimeDelta, Option<Timestamp>) {
    let received = event.received_at;
    let timing = &rule.definition.timing;
    let happened = event.occurred_at.unwrap_or(received).clamp(received - TIME_BACK, received + TIME_AHEAD);
    let delay = TimeDelta::seconds(timing.delay_s.into());
    let wanted = match named {
        Some(named) => named + delay - TimeDelta::seconds(timing.before_s.into()),
        None => received + delay,
    };
    let wanted = event.send_after.map_or(wanted, |after| after.max(wanted));
    let due = wanted.max(received);
    // What was due before the event arrived has been due since then: a late arrival does not extend its time to live.
    let end_of_late = |life: TimeDelta| (wanted < received).then(|| wanted + life);
    // A digest is sent when its window ends.
    let due = due + TimeDelta::seconds(rule.definition.digest.as_ref().map_or(0, |d| d.window_s.into()));
    let type_life = planner.catalog.event_type(&event.event_type).and_then(|t| t.entry.time_to_live);
    match (rule.expires_in(), type_life) {
        (None, Some(life)) if named.is_none() => (due, TimeDelta::MAX, Some(happened + delay + delta(life))),
        (Some(life), _) | (None, Some(life)) => (due, delta(life), end_of_late(delta(life))),
        (None, None) => (due, delta(planner.default_ttl), end_of_late(delta(planner.default_ttl))),
    }
}

/// The times of one delivery.
#[derive(Clone, Copy)]
struct Times {
    due: Timestamp,
    /// When it expires.
    end: Timestamp,
    /// When the rule's send window closes.
    closes: Option<Timestamp>,
}

impl Times {
    /// The times of a delivery that is never sent.
    fn of_unsent(due_at: Timestamp) -> Self {
        Self { due: due_at, end: due_at + TimeDelta::seconds(1), closes: None }
    }
}

/// One sending rule's part of a plan, once it is certain that the rule applies.
pub(in crate::pipeline) struct RulePlan<'a> {
    planner: Planner<'a>,
    event: &'a Event,
    rule: &'a Arc<Rule>,
    template: &'a str,
    canary: Option<Canary>,
    app: &'a Arc<App>,
    version: Option<&'a Arc<CompiledVersion>>,
    schedule: Option<ProviderTiming>,
    digest_key: Option<String>,
    /// What the copy sees of the event.
    data: Cow<'a, Value>,
    now: Timestamp,
    due_at: Timestamp,
    life: TimeDelta,
    ends_at: Option<Timestamp>,
    /// The content of each version in each locale: the same for all recipients of the event.
    messages: HashMap<(TemplateVersionId, String), Result<Message, Box<Decision>>>,
}

impl<'a> RulePlan<'a> {
    pub fn begin(
        planner: Planner<'a>,
        event: &'a Event,
        rule: &'a Arc<Rule>,
        send: &Send<'a>,
        now: Timestamp,
    ) -> Result<Self, Decision> {
        let app = app_for(planner, event, rule)?;
        if send.audience == Audience::EventRecipients && event.recipients.is_empty() {
            let detail = "the rule sends to the event's recipients, but the event has none";
            return Err(Decision::new(DecisionCode::NoRecipient, detail));
        }
        if planner.catalog.is_archived(send.template) {
            let detail = format!("template {} is archived", send.template);
            return Err(Decision::new(DecisionCode::Archived, detail));
        }
        let (due_at, life, ends_at) = timing(planner, event, rule, send.named);
        let made = Self {
            planner,
            event,
            rule,
            template: send.template,
            canary: send.canary,
            app,
            version: planner.catalog.live_version(send.template),
            schedule: rule.definition.timing.provider.clone(),
            digest_key: send.digest_key.clone(),
            data: match &send.digest_key {
                Some(_) => Cow::Owned(gathered(vec![event.data.clone()], 1)),
                None => Cow::Borrowed(&event.data),
            },
            now,
            due_at,
            life,
            ends_at,
            messages: HashMap::new(),
        };
        // Which version's hours allow it depends on each person; what has expired for all of them is reported once.
        made.end(due_at)?;
        Ok(made)
    }

    /// The same for this exact version, live or not.
    pub fn of_version(mut self, version: &'a Arc<CompiledVersion>) -> Self {
        self.version = Some(version);
        self
    }

    /// When a delivery that is due at `due` expires.
    fn end(&self, due: Timestamp) -> Result<Timestamp, Decision> {
        let end = self.ends_at.unwrap_or_else(|| due + self.life);
        let end = self.event.expires_at.map_or(end, |asked| asked.min(end));
        let margin = match self.rule.definition.priority {
            Priority::Urgent => delta(self.planner.urgent_min_remaining),
            Priority::Normal | Priority::Bulk => TimeDelta::zero(),
        };
        if end <= due.max(self.now) + margin {
            let detail = format!("it would be due at {due} but expires at {end}");
            return Err(Decision::new(DecisionCode::Expired, detail));
        }
        Ok(end)
    }

    /// When it is due for a person in this time zone, and when it expires.
    fn times(&self, zone: Option<&str>) -> Result<Times, Decision> {
        let timing = &self.rule.definition.timing;
        let zone = timing.zone.of(zone);
        let Some(due) = timing.allowed(self.due_at, zone) else {
            let detail = format!("the rule's hours allow no time after {} in {zone}", self.due_at);
            return Err(Decision::new(DecisionCode::NoTime, detail));
        };
        match self.end(due) {
            Ok(end) => {
                let closes = timing.has_hours().then(|| timing.closes_after(due, zone)).flatten();
                Ok(Times { due, end, closes })
            }
            Err(_) if due > self.due_at => {
                let detail = format!("the rule's hours allow it at {due} in {zone}, after it has expired");
                Err(Decision::new(DecisionCode::NoTime, detail))
            }
            Err(decision) => Err(decision),
        }
    }

    /// The version that a person gets.
    fn version_for(&self, recipient: &Recipient) -> Option<&'a Arc<CompiledVersion>> {
        let canary = self.canary.filter(|canary| canary.takes(&person_digest(recipient)));
        canary.and_then(|c| self.planner.catalog.version_number(self.template, c.version)).or(self.version)
    }

    /// Why a message to an audience waits for a person, if it does. The size of an audience is not known, but it is at
    /// most the app's number of subscriptions.
    fn needs_release(&self) -> Option<Decision> {
        let max = self.planner.release_over;
        let (detail, size) = match self.app.subscriptions {
            Some(count) if count <= max => return None,
            Some(count) => {
                let detail = format!(
                    "it goes to an audience of up to {count}; above {max} a person has to release it"
                );
                (detail, Some(count))
            }
            None if self.app.is_sandbox => return None,
            None => {
                let detail = "it goes to an audience of unknown size, because the app's number of subscriptions is not set; a person has to release it";
                (detail.to_owned(), None)
            }
        };
        let decision = Decision::new(DecisionCode::NeedsRelease, detail).with("release_over", max);
        Some(match size {
            Some(size) => decision.with("subscriptions", size),
            None => decision,
        })
    }

    pub fn carry_out(mut self, audience: &Audience, facts: &Facts, plan: &mut Plan) {
        match audience {
            Audience::EventRecipients => {
                for recipient in &self.event.recipients {
                    self.plan_person(recipient, facts.of(recipient), plan);
                }
            }
            Audience::Segments { .. } | Audience::Filters(_) => {
                let hold = self.needs_release();
                let to = Addressee::Audience(audience.clone());
                let wish = self.event.locale.clone();
                match self.times(None) {
                    Ok(times) => self.push(to, self.version, (wish.as_deref(), times), hold, plan),
                    Err(decision) => plan.decisions.push(decision.of_rule(&self.rule.key)),
                }
            }
        }
    }

    fn plan_person(&mut self, recipient: &Recipient, facts: Option<&RecipientFacts>, plan: &mut Plan) {
        let version = self.version_for(recipient);
        let channel = version.map(|v| v.version.channel);
        if let Some(channel) = channel.filter(|channel| !reaches(*channel, &recipient.label)) {
            let label = recipient.label.as_str();
            let detail = format!("{} can't reach a recipient by `{label}`", channel.as_str());
            plan.decisions.push(Decision::new(DecisionCode::WrongChannel, detail).of_rule(&self.rule.key));
            return;
        }
        let of_person = |read: fn(&RecipientFacts) -> &Option<String>| facts.and_then(|f| read(f).clone());
        let wish = self.event.locale.clone().or_else(|| of_person(|f| &f.locale));
        let zone = of_person(|f| &f.time_zone);
        let to = Addressee::Person(recipient.clone());
        let (skip, times) =
            match (facts.and_then(|facts| unwanted(facts, channel)), self.times(zone.as_deref())) {
                (Some(decision), times) => (Some(decision), times.unwrap_or(Times::of_unsent(self.due_at))),
                (None, Ok(times)) => (None, times),
                (None, Err(decision)) => (Some(decision), Times::of_unsent(self.due_at)),
            };
        match skip {
            None => self.push(to, version, (wish.as_deref(), times), None, plan),
            Some(decision) => {
                let pinned =
                    version.map(|v| (Arc::clone(v), v.version.choose_locale(wish.as_deref()).to_owned()));
                self.finish(to, pinned, (InitialState::Skipped, times), Some(decision), plan);
            }
        }
    }

    /// Plans one delivery; `hold` is the reason if it has to wait for a person in any case.
    fn push(
        &mut self,
        to: Addressee,
        version: Option<&Arc<CompiledVersion>>,
        (wish, times): (Option<&str>, Times),
        hold: Option<Decision>,
        plan: &mut Plan,
    ) {
        let Some(version) = version else {
            let detail = format!("template {} has no live version", self.template);
            let decision = Decision::new(DecisionCode::NoLiveVersion, detail);
            self.finish(to, None, (InitialState::Held, times), Some(decision), plan);
            return;
        };
        let locale = version.version.choose_locale(wish).to_owned();
        let data = &*self.data;
        let message = self
            .messages
            .entry((version.version.id, locale.clone()))
            .or_insert_with_key(|(_, l)| message::compose(version, l, data, self.planner.work))
            .clone();
        let (initial, decision) = match (message, hold) {
            (Err(decision), _) => (InitialState::Held, Some(*decision)),
            (Ok(_), Some(decision)) => (InitialState::Held, Some(decision)),
            (Ok(message), None) => (InitialState::Due { at: times.due, message }, None),
        };
        self.finish(to, Some((Arc::clone(version), locale)), (initial, times), decision, plan);
    }

    fn gather(&self, to: &Addressee) -> Option<Gather> {
        let (key, digest) = (self.digest_key.as_ref()?, self.rule.definition.digest.as_ref()?);
        let mut name = self.rule.id.uuid().as_bytes().to_vec();
        name.extend_from_slice(&sha256(self.event.key_space().name(key).as_bytes()));
        name.extend_from_slice(&addressee_digest(to));
        Some(Gather { digest: sha256(&name), max: digest.max.max(1), has_window: digest.window_s > 0 })
    }

    /// What OneSignal does with the scheduled time of a message that is due then: future messages are submitted before
    /// their time.
    fn schedule(&self, due_at: Timestamp) -> Option<Arc<Schedule>> {
        let timing = self.schedule.clone()?;
        // Open digests stay here.
        let is_ahead = due_at > self.now && self.digest_key.is_none();
        let scheduled_messages = is_ahead.then_some(HandOver { send_after: due_at, event: self.event.id });
        Some(Arc::new(Schedule { timing, scheduled_messages }))
    }

    fn finish(
        &self,
        to: Addressee,
        pinned: Option<(Arc<CompiledVersion>, String)>,
        (initial, times): (InitialState, Times),
        decision: Option<Decision>,
        plan: &mut Plan,
    ) {
        let schedule = self.schedule(times.due);
        let initial = match (initial, schedule.as_deref().and_then(Schedule::send_after)) {
            (InitialState::Due { message, .. }, Some(send_after)) => InitialState::Due {
                at: schedule_at_provider_from(send_after).max(self.event.received_at),
                message,
            },
            (initial, _) => initial,
        };
        // Created in the event's own millisecond: that is how an event's deliveries are found without an index.
        let id = self.planner.ids.next(self.event.received_at);
        if let Some(decision) = decision {
            plan.decisions.push(decision.of_rule(&self.rule.key).of_delivery(id));
        }
        let gather = self.gather(&to);
        plan.deliveries.push(PlannedDelivery {
            id,
            gather,
            rule: Arc::clone(self.rule),
            template: self.template.to_owned(),
            app: Arc::clone(self.app),
            channel: self.planner.catalog.channel_of(self.template).unwrap_or(Channel::Push),
            pinned,
            to,
            expires_at: times.end,
            closes_at: times.closes,
            schedule,
            initial,
            collapse: None,
            turn: None,
            takes_over: false,
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
        return Some(Decision::new(DecisionCode::Erased, "the person was erased"));
    }
    let channel = channel?;
    facts.opted_out.get(&channel).map(|reason| reason.decision(channel))
}
