//! Packing: which waiting deliveries share a Create message call, and what that call says. Pure.
//!
//! OneSignal's limit on calls a second is what a backlog waits for, so a call carries as many people as fit: everybody
//! whose values are the same in one `all` entry, or people with values of their own side by side under `users`, up to
//! the byte limit of the channel.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use serde_json::{Map, Value, json};

use crate::domain::app::AppId;
use crate::domain::batch::{BatchContent, DeliveryIdentity, Targets};
use crate::domain::channel::{Channel, Priority};
use crate::domain::clock::Timestamp;
use crate::domain::event::RecipientLabel;
use crate::domain::id::{DeliveryId, EventId, RuleId, SourceId, TemplateVersionId};
use crate::domain::rule::Audience;
use crate::domain::snapshot::UploadKey;
use crate::domain::timing::{ProviderTiming, Schedule};
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::plan::Addressee;
use crate::pipeline::plan::message::Message;
use crate::store::queue::Claim;

/// What deliveries must have in common to share a call.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PackKey {
    /// How urgent: the first part, so that keys sort by it.
    pub priority: Priority,
    /// The app.
    pub app: AppId,
    /// The version.
    pub version: TemplateVersionId,
    /// The locale.
    pub locale: String,
    /// How the recipients are named; `None` for an audience.
    pub label: Option<RecipientLabel>,
    /// What OneSignal does with the time of the message.
    pub schedule: Option<Arc<Schedule>>,
    /// Whether the contents travel with the call.
    pub is_inline: bool,
    /// Sent by hand, to see it: the call says so.
    pub is_test_send: bool,
}

impl PackKey {
    /// The upload that its calls name.
    pub fn upload(&self) -> UploadKey {
        UploadKey { app: self.app, version: self.version, locale: self.locale.clone() }
    }
}

/// A delivery in memory that only waits for its call.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Our claim on it.
    pub claim: Claim,
    /// What it must have in common with its company.
    pub key: PackKey,
    /// The pinned version.
    pub version: Arc<CompiledVersion>,
    /// Whom it is for.
    pub to: Addressee,
    /// What it says.
    pub message: Message,
    /// Its event.
    pub event: EventId,
    /// Who posted that, and under which id.
    pub posted: (SourceId, Arc<str>),
    /// The rule.
    pub rule: (RuleId, Arc<str>),
    /// The delivery that it replays.
    pub replay_of: Option<DeliveryId>,
    /// The producer's trace.
    pub traceparent: Option<Arc<str>>,
    /// Whether its message may hold values that are sealed in the database.
    pub holds_secrets: bool,
    /// When the rule's hours that it may be sent in are over: from then on it has to be prepared again.
    pub closes_at: Option<Timestamp>,
    /// Its turn in the line, which gives it out; 0 before that.
    pub turn: u64,
}

impl Ready {
    /// What makes it itself in the eyes of idempotency.
    pub fn identity(&self) -> DeliveryIdentity<'_> {
        DeliveryIdentity {
            source: self.posted.0,
            event_key: &self.posted.1,
            rule: self.rule.0,
            channel: self.version.version.channel,
            recipient: self.to.person(),
            generation: self.claim.delivery.generation,
            replay: self.replay_of.map(|_| self.claim.delivery.id),
        }
    }
}

/// How large a call may get.
#[derive(Debug, Clone, Copy)]
pub struct PackLimits {
    /// Recipients at most.
    pub targets: usize,
    /// Bytes of `custom_data` at most when people's values stand side by side.
    pub bytes: usize,
    /// How many waiting deliveries are looked through for company.
    pub window: usize,
}

impl PackLimits {
    /// The limits for a channel: 95 % of OneSignal's bytes, so that a difference in counting does no harm.
    pub fn new(version: &CompiledVersion, max_targets: usize) -> Self {
        Self {
            targets: max_targets,
            bytes: version.version.channel.custom_data_limit() * 95 / 100,
            window: 4_096,
        }
    }
}

/// Bytes of `{"users":{}}`.
const USERS_FRAME: usize = 12;

/// Takes the next call's members out of `waiting`, all of one [`PackKey`]; the oldest is always among them.
/// Nobody is in it twice.
pub fn next_batch(waiting: &mut VecDeque<Ready>, limits: PackLimits) -> Vec<Ready> {
    let Some(first) = waiting.front() else { return Vec::new() };
    let is_alone = first.key.priority == Priority::Urgent || first.key.label.is_none();
    let chosen = if is_alone { vec![0] } else { choose(waiting, limits) };
    take(waiting, &chosen)
}

fn choose(waiting: &VecDeque<Ready>, limits: PackLimits) -> Vec<usize> {
    let Some(first) = waiting.front() else { return Vec::new() };
    let same = choose_same(waiting, limits, &first.message);
    let may_stand_beside_others = matches!(first.message, Message::Values { .. })
        && first.key.label == Some(RecipientLabel::ExternalId);
    if same.len() == 1 && may_stand_beside_others { choose_side_by_side(waiting, limits) } else { same }
}

/// Everybody to whom the same is said.
fn choose_same(waiting: &VecDeque<Ready>, limits: PackLimits, message: &Message) -> Vec<usize> {
    let mut company = Company::new(limits.targets);
    for (place, ready) in waiting.iter().enumerate().take(limits.window) {
        if says_the_same(&ready.message, message) && !company.admit(place, ready) {
            break;
        }
    }
    company.places
}

fn says_the_same(one: &Message, other: &Message) -> bool {
    match (one, other) {
        (Message::Values { text: one, .. }, Message::Values { text: other, .. }) => one == other,
        (Message::Plain, Message::Plain) => true,
        (Message::Inline(one), Message::Inline(other)) => Arc::ptr_eq(one, other) || one == other,
        (Message::Plain | Message::Values { .. } | Message::Inline(_), _) => false,
    }
}

/// People with values of their own, as many as fit.
fn choose_side_by_side(waiting: &VecDeque<Ready>, limits: PackLimits) -> Vec<usize> {
    let mut company = Company::new(limits.targets);
    let mut bytes = USERS_FRAME;
    for (place, ready) in waiting.iter().enumerate().take(limits.window) {
        let Message::Values { text, .. } = &ready.message else { continue };
        let entry = entry_bytes(ready.to.person().map_or("", |p| &p.id), text);
        if place > 0 && bytes + entry > limits.bytes {
            break;
        }
        bytes += entry;
        if !company.admit(place, ready) {
            break;
        }
    }
    company.places
}

/// Bytes of `"id":entry,`.
fn entry_bytes(id: &str, text: &str) -> usize {
    json!(id).to_string().len() + text.len() + 2
}

/// The members of a call while it is filled.
struct Company<'a> {
    places: Vec<usize>,
    people: HashSet<&'a str>,
    max: usize,
}

impl<'a> Company<'a> {
    fn new(max: usize) -> Self {
        Self { places: Vec::new(), people: HashSet::new(), max: max.max(1) }
    }

    /// Takes a delivery in, unless its person is in already; `false` once the call is full.
    fn admit(&mut self, place: usize, ready: &'a Ready) -> bool {
        let limit = usize::from(ready.claim.delivery.pack_limit);
        if self.places.len() >= self.max.min(limit) {
            // A delivery that may travel in small company only does not stop the others.
            return self.places.len() < self.max;
        }
        if self.people.insert(ready.to.person().map_or("", |p| p.id.as_str())) {
            self.places.push(place);
            self.max = self.max.min(limit);
        }
        self.places.len() < self.max
    }
}

/// Takes the chosen places, in ascending order, out of the queue; the others keep theirs.
fn take(waiting: &mut VecDeque<Ready>, chosen: &[usize]) -> Vec<Ready> {
    let Some(last) = chosen.last() else { return Vec::new() };
    let mut taken = Vec::with_capacity(chosen.len());
    let mut stay = Vec::new();
    let mut wanted = chosen.iter().copied().peekable();
    for (place, ready) in waiting.drain(..=*last).enumerate() {
        if wanted.next_if_eq(&place).is_some() {
            taken.push(ready);
        } else {
            stay.push(ready);
        }
    }
    for ready in stay.into_iter().rev() {
        waiting.push_front(ready);
    }
    taken
}

/// Where the copy of a call is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Copy {
    /// Uploaded, under this id of OneSignal's.
    Template(String),
    /// In the call itself.
    InTheCall,
}

/// What a call of these members says. It depends on the members, their version and its upload alone, so that it can be
/// made again for every attempt.
pub fn content(key: &PackKey, members: &[&Ready], copy: &Copy) -> Option<BatchContent> {
    let first = members.first()?;
    let version = &first.version;
    let call_fields = || version.content(&key.locale).map(|c| c.call_fields().clone());
    let (fields, custom_data) = match &first.message {
        Message::Plain => (call_fields()?, None),
        Message::Values { values, text } => {
            let same =
                members.iter().all(|m| matches!(&m.message, Message::Values { text: t, .. } if t == text));
            (call_fields()?, Some(if same { json!({ "all": **values }) } else { side_by_side(members) }))
        }
        Message::Inline(fields) => ((**fields).clone(), None),
    };
    Some(BatchContent {
        app: key.app,
        channel: version.version.channel,
        targets: targets(members)?,
        template_id: match copy {
            Copy::Template(id) => Some(id.clone()),
            Copy::InTheCall => None,
        },
        fields,
        custom_data,
        options: options(key, version),
        send_after: key.schedule.as_ref().and_then(|schedule| schedule.send_after()),
    })
}

/// The static options of the version, with what the schedule and a test send add.
fn options(key: &PackKey, version: &CompiledVersion) -> Map<String, Value> {
    let mut options = version.version.content.options.clone();
    match key.schedule.as_deref().map(|schedule| &schedule.timing) {
        None => {}
        Some(ProviderTiming::LastActive) => {
            options.insert("delayed_option".into(), json!("last-active"));
        }
        Some(ProviderTiming::Timezone { time_of_day }) => {
            options.insert("delayed_option".into(), json!("timezone"));
            if let Some(time) = time_of_day {
                options.insert("delivery_time_of_day".into(), json!(time));
            }
        }
    }
    if key.schedule.is_some() && version.version.channel == Channel::Push {
        // OneSignal takes a delayed message only without throttling.
        options.insert("throttle_rate_per_minute".into(), json!(0));
    }
    if key.is_test_send {
        let name = format!("[test] {} version {}", version.version.template, version.version.number);
        options.insert("name".into(), json!(name.chars().take(128).collect::<String>()));
    }
    options
}

fn side_by_side(members: &[&Ready]) -> Value {
    let mut users = Map::new();
    for member in members {
        if let (Some(person), Message::Values { values, .. }) = (member.to.person(), &member.message) {
            users.insert(person.id.clone(), (**values).clone());
        }
    }
    json!({ "users": users })
}

fn targets(members: &[&Ready]) -> Option<Targets> {
    match &members.first()?.to {
        Addressee::Person(recipient) => {
            let ids = members.iter().filter_map(|m| m.to.person()).map(|p| p.id.clone()).collect();
            Some(Targets::people(&recipient.label, ids))
        }
        Addressee::Audience(Audience::Segments { included, excluded }) => {
            Some(Targets::Segments { included: included.clone(), excluded: excluded.clone() })
        }
        Addressee::Audience(Audience::Filters(filters)) => {
            Some(Targets::Filters(filters.iter().filter_map(|f| serde_json::to_value(f).ok()).collect()))
        }
        Addressee::Audience(Audience::EventRecipients) => None,
    }
}
