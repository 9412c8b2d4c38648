//! Packing: which waiting deliveries share a Create message call, and its content. Pure.
//!
//! A backlog is limited by OneSignal's calls per second, so a call has as many recipients as fit: all those with the
//! same values in one `all` entry, or recipients with values of their own under `users`, up to the byte limit of the
//! channel.

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
    /// The priority: the first part, so that keys sort by it.
    pub priority: Priority,
    /// The app.
    pub app: AppId,
    /// The version.
    pub version: TemplateVersionId,
    /// The locale.
    pub locale: String,
    /// The alias label of the recipients; `None` for an audience.
    pub label: Option<RecipientLabel>,
    /// What OneSignal does with the scheduled time.
    pub schedule: Option<Arc<Schedule>>,
    /// Whether the contents are in the request.
    pub is_inline: bool,
    /// A manual test send: the request is marked as one.
    pub is_test_send: bool,
}

impl PackKey {
    /// The upload that its calls name.
    pub fn upload(&self) -> UploadKey {
        UploadKey { app: self.app, version: self.version, locale: self.locale.clone() }
    }
}

/// A delivery in memory that is ready for its call.
#[derive(Debug, Clone)]
pub struct Ready {
    /// Our claim on it.
    pub claim: Claim,
    /// What deliveries must have in common to share its call.
    pub key: PackKey,
    /// The pinned version.
    pub version: Arc<CompiledVersion>,
    /// Whom it is for.
    pub to: Addressee,
    /// Its content.
    pub message: Message,
    /// Its event.
    pub event: EventId,
    /// Its source, and its id there.
    pub posted: (SourceId, Arc<str>),
    /// The rule.
    pub rule: (RuleId, Arc<str>),
    /// The delivery that it replays.
    pub replay_of: Option<DeliveryId>,
    /// The producer's trace.
    pub traceparent: Option<Arc<str>>,
    /// Whether its message may contain values that are sealed in the database.
    pub holds_secrets: bool,
    /// When the rule's send window closes: after that it has to be loaded again.
    pub closes_at: Option<Timestamp>,
    /// Its position in the memory queue, which assigns it; 0 before that.
    pub turn: u64,
}

impl Ready {
    /// What identifies it for idempotency.
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

/// The size limits of a call.
#[derive(Debug, Clone, Copy)]
pub struct PackLimits {
    /// The maximum number of recipients.
    pub targets: usize,
    /// The maximum number of bytes of `custom_data` if recipients have values of their own.
    pub bytes: usize,
    /// The number of waiting deliveries that are searched for members of the call.
    pub window: usize,
}

impl PackLimits {
    /// The limits of a channel: 95 % of OneSignal's bytes, as a margin for differences in counting.
    pub fn new(version: &CompiledVersion, max_targets: usize) -> Self {
        Self {
            targets: max_targets,
            bytes: version.version.channel.custom_data_limit() * 95 / 100,
            window: 4_096,
        }
    }
}

/// The bytes of `{"users":{}}`.
const USERS_FRAME: usize = 12;

/// Takes the next call's members out of `waiting`, all of one [`PackKey`]; the oldest is always among them. No
/// recipient is in it twice.
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

/// All recipients with the same content.
fn choose_same(waiting: &VecDeque<Ready>, limits: PackLimits, message: &Message) -> Vec<usize> {
    let mut company = Company::new(limits.targets);
    for (index, ready) in waiting.iter().enumerate().take(limits.window) {
        if says_the_same(&ready.message, message) && !company.admit(index, ready) {
            break;
        }
    }
    company.indexes
}

fn says_the_same(one: &Message, other: &Message) -> bool {
    match (one, other) {
        (Message::Values { text: one, .. }, Message::Values { text: other, .. }) => one == other,
        (Message::Plain, Message::Plain) => true,
        (Message::Inline(one), Message::Inline(other)) => Arc::ptr_eq(one, other) || one == other,
        (Message::Plain | Message::Values { .. } | Message::Inline(_), _) => false,
    }
}

/// Recipients with values of their own, as many as fit.
fn choose_side_by_side(waiting: &VecDeque<Ready>, limits: PackLimits) -> Vec<usize> {
    let mut company = Company::new(limits.targets);
    let mut bytes = USERS_FRAME;
    for (index, ready) in waiting.iter().enumerate().take(limits.window) {
        let Message::Values { text, .. } = &ready.message else { continue };
        let entry = entry_bytes(ready.to.person().map_or("", |p| &p.id), text);
        if index > 0 && bytes + entry > limits.bytes {
            break;
        }
        bytes += entry;
        if !company.admit(index, ready) {
            break;
        }
    }
    company.indexes
}

/// The bytes of `"id":entry,`.
fn entry_bytes(id: &str, text: &str) -> usize {
    json!(id).to_string().len() + text.len() + 2
}

/// The members of a call being filled.
struct Company<'a> {
    indexes: Vec<usize>,
    people: HashSet<&'a str>,
    max: usize,
}

impl<'a> Company<'a> {
    fn new(max: usize) -> Self {
        Self { indexes: Vec::new(), people: HashSet::new(), max: max.max(1) }
    }

    /// Adds a delivery, unless its recipient is already in; `false` once the call is full.
    fn admit(&mut self, index: usize, ready: &'a Ready) -> bool {
        let limit = usize::from(ready.claim.delivery.pack_limit);
        if self.indexes.len() >= self.max.min(limit) {
            // A delivery that may share its call with only a few others does not stop the search.
            return self.indexes.len() < self.max;
        }
        if self.people.insert(ready.to.person().map_or("", |p| p.id.as_str())) {
            self.indexes.push(index);
            self.max = self.max.min(limit);
        }
        self.indexes.len() < self.max
    }
}

/// Takes the chosen indexes, in ascending order, out of the queue; the others keep their order.
fn take(waiting: &mut VecDeque<Ready>, chosen: &[usize]) -> Vec<Ready> {
    let Some(last) = chosen.last() else { return Vec::new() };
    let mut taken = Vec::with_capacity(chosen.len());
    let mut stay = Vec::new();
    let mut wanted = chosen.iter().copied().peekable();
    for (index, ready) in waiting.drain(..=*last).enumerate() {
        if wanted.next_if_eq(&index).is_some() {
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
    /// In the request itself.
    InTheCall,
}

/// The content of a call with these members. It depends only on the members, their version and its upload, so that it
/// can be rebuilt for every attempt.
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
        // OneSignal accepts a delayed message only without throttling.
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
