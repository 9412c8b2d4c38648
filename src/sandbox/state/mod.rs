//! The sandbox's state, which is first written to the file and then to memory.

mod lines;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::access::uuid;
use super::actions::{Act, Acts};
use super::guard::Guard;
use super::journal::{Journal, Line, SandboxError, StoredMessage};
use super::message::{Message, Recipient};
use super::options::{FrequencyCap, SandboxOptions};
use super::people::{People, Person};
use super::refusal::Refusal;
use super::segments::Segment;
use super::streams::Stream;
use super::templates::Template;
use crate::domain::clock::Timestamp;

/// How long OneSignal remembers an idempotency key.
const KEY_LIFE: TimeDelta = TimeDelta::days(30);

/// The first answer to an idempotency key.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Remembered {
    pub app_id: Uuid,
    pub key: Uuid,
    pub at: Timestamp,
    /// Of the body that it came with.
    pub digest: String,
    pub answer: Value,
}

/// A message that is about to be accepted, with the answer to remember when it has a key.
#[derive(Debug)]
pub(super) struct Accepted {
    pub message: Message,
    pub remembered: Option<Remembered>,
}

/// A message, or the part of one, that goes out at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Due {
    pub at: Timestamp,
    /// Anyone who was due by then has got it.
    pub reported: Timestamp,
    pub sequence: u64,
}

/// The persistent state.
#[derive(Debug)]
pub(super) struct State {
    journal: Journal,
    apps: Vec<Uuid>,
    keep_people: usize,
    keep_messages: usize,
    keep_bytes: usize,
    keep_keys: usize,
    messages: BTreeMap<u64, Arc<Message>>,
    by_id: HashMap<Uuid, u64>,
    bytes: usize,
    newest: u64,
    keys: HashMap<(Uuid, Uuid), Remembered>,
    /// The keys, oldest first. A key that was used again after its life is in here twice.
    key_ages: VecDeque<(Timestamp, (Uuid, Uuid))>,
    templates: BTreeMap<Uuid, Arc<Template>>,
    /// Templates by revision, while the file is read: messages name them.
    revisions: HashMap<(Uuid, u32), Arc<Template>>,
    people: HashMap<Uuid, People>,
    nobody: People,
    segments: BTreeMap<Uuid, Segment>,
    streams: BTreeMap<Uuid, Stream>,
    acts: Acts,
    guard: Guard,
    /// What has not gone out yet, by its time, with the time up to which it has.
    waiting: BTreeMap<(Timestamp, u64), Timestamp>,
    /// Up to when messages that wait for their time have gone out.
    sent: HashMap<u64, Timestamp>,
    /// When recipients were last pushed to, for the frequency cap.
    pushes: HashMap<(Uuid, String, String), Vec<Timestamp>>,
    advanced: Duration,
}

impl State {
    /// Reads the data file, if there is one, and compacts it.
    pub(super) fn open(options: &SandboxOptions) -> Result<Self, SandboxError> {
        let (journal, lines) = Journal::open(options.data_file.as_deref())?;
        let mut state = Self {
            journal,
            keep_messages: options.keep_messages.max(1),
            keep_bytes: options.keep_bytes,
            keep_keys: options.keep_keys.max(1),
            messages: BTreeMap::new(),
            by_id: HashMap::new(),
            bytes: 0,
            newest: 0,
            keys: HashMap::new(),
            key_ages: VecDeque::new(),
            templates: BTreeMap::new(),
            revisions: HashMap::new(),
            apps: options.apps.iter().map(|app| app.id).collect(),
            keep_people: options.keep_people,
            people: HashMap::new(),
            nobody: People::default(),
            segments: BTreeMap::new(),
            streams: BTreeMap::new(),
            acts: Acts::default(),
            guard: Guard::default(),
            waiting: BTreeMap::new(),
            sent: HashMap::new(),
            pushes: HashMap::new(),
            advanced: Duration::ZERO,
        };
        for line in lines {
            state.apply(line);
        }
        state.wait_again();
        state.revisions = HashMap::new();
        let kept = state.lines();
        state.journal.rewrite(kept)?;
        Ok(state)
    }

    /// The total offset of the clock, over all runs.
    pub(super) fn advanced(&self) -> Duration {
        self.advanced
    }

    /// The sequence of the newest message ever accepted; 0 for none.
    pub(super) fn newest(&self) -> u64 {
        self.newest
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.newest + 1
    }

    /// The app's users.
    pub(super) fn people(&self, app: Uuid) -> &People {
        self.people.get(&app).unwrap_or(&self.nobody)
    }

    pub(super) fn record_advance(&mut self, step: Duration) -> Result<(), SandboxError> {
        let advanced = self.advanced.saturating_add(step);
        self.journal.write(&Line::Advanced { microseconds: micros(advanced) })?;
        self.advanced = advanced;
        Ok(())
    }

    /// Makes people known, or changes them; those without an app in every app.
    pub(super) fn put_people(&mut self, people: Vec<Person>) -> Result<(), SandboxError> {
        let in_apps = people.into_iter().flat_map(|person| {
            let apps = person.app_id.map_or_else(|| self.apps.clone(), |app| vec![app]);
            let of_app = |app| Arc::new(Person { app_id: Some(app), ..person.clone() });
            apps.into_iter().map(of_app).collect::<Vec<_>>()
        });
        let changed = in_apps.collect();
        self.record(Line::People(changed))
    }

    pub(super) fn delete_person(&mut self, app_id: Uuid, person: &Person) -> Result<(), SandboxError> {
        self.record(Line::Gone { app_id, names: person.names() })
    }

    pub(super) fn segments(&self) -> impl Iterator<Item = &Segment> {
        self.segments.values()
    }

    pub(super) fn segment(&self, app_id: Uuid, id: Uuid) -> Option<&Segment> {
        self.segments.get(&id).filter(|segment| segment.app_id == app_id)
    }

    pub(super) fn put_segment(&mut self, segment: Segment) -> Result<(), SandboxError> {
        self.record(Line::Segment(segment))
    }

    pub(super) fn delete_segment(&mut self, id: Uuid) -> Result<(), SandboxError> {
        self.record(Line::SegmentDeleted { id })
    }

    pub(super) fn streams(&self) -> impl Iterator<Item = &Stream> {
        self.streams.values()
    }

    pub(super) fn put_stream(&mut self, stream: &Stream) -> Result<(), SandboxError> {
        self.record(Line::Stream(stream.clone()))
    }

    pub(super) fn delete_stream(&mut self, id: Uuid) -> Result<(), SandboxError> {
        self.record(Line::StreamDeleted { id })
    }

    pub(super) fn acts(&self) -> &Acts {
        &self.acts
    }

    pub(super) fn add_act(&mut self, act: Act) -> Result<(), SandboxError> {
        self.record(Line::Act(act))
    }

    pub(super) fn is_disabled(&self, app: Uuid) -> bool {
        self.guard.is_disabled(app)
    }

    pub(super) fn count_volume(&mut self, app: Uuid, messages: u64, subscribed: u64, now: Timestamp) -> bool {
        self.guard.count(app, messages, subscribed, now)
    }

    /// Disables or enables an app. Disabling cancels scheduled messages.
    pub(super) fn disable(&mut self, app_id: Uuid, disabled: bool) -> Result<(), SandboxError> {
        self.record(Line::App { app_id, disabled })?;
        if !disabled {
            return Ok(());
        }
        let waiting = self.waiting.keys().filter_map(|(_, sequence)| self.messages.get(sequence));
        let of_app: Vec<Uuid> =
            waiting.filter(|message| message.app_id == app_id).map(|message| message.id).collect();
        of_app.into_iter().try_for_each(|id| self.cancel(id))
    }

    /// Takes the next message that is due by `now`.
    pub(super) fn take_due(&mut self, now: Timestamp) -> Option<Due> {
        let entry = self.waiting.first_entry().filter(|entry| entry.key().0 <= now)?;
        let ((at, sequence), reported) = entry.remove_entry();
        Some(Due { at, reported, sequence })
    }

    pub(super) fn next_due(&self) -> Option<Timestamp> {
        self.waiting.first_key_value().map(|((at, _), _)| *at)
    }

    pub(super) fn wait(&mut self, due: Due) {
        self.waiting.insert((due.at, due.sequence), due.reported);
    }

    /// Notes that everyone who was due by `until` has got a scheduled message.
    pub(super) fn sent(&mut self, sequence: u64, until: Timestamp) -> Result<(), SandboxError> {
        self.record(Line::Sent { sequence, until })
    }

    /// Records recipients skipped because of the frequency cap.
    pub(super) fn cap(&mut self, sequence: u64, recipients: Vec<usize>) -> Result<(), SandboxError> {
        if recipients.is_empty() { Ok(()) } else { self.record(Line::Capped { sequence, recipients }) }
    }

    /// The places of those who had enough pushes; the others' are counted.
    pub(super) fn over_cap(
        &mut self,
        app: Uuid,
        recipients: &[(usize, Timestamp, &Recipient)],
        cap: FrequencyCap,
        now: Timestamp,
    ) -> Vec<usize> {
        let within = TimeDelta::hours(i64::from(cap.hours));
        if self.pushes.len() > self.keep_people {
            self.pushes.retain(|_, times| times.last().is_some_and(|last| now - *last < within));
        }
        let mut over = Vec::new();
        for (place, _, to) in recipients {
            let times = self.pushes.entry((app, to.label.clone(), to.id.clone())).or_default();
            times.retain(|at| now - *at < within);
            if times.len() >= cap.messages {
                over.push(*place);
            } else {
                times.push(now);
            }
        }
        over
    }

    /// The first answer to a key, unless it is older than 30 days at `now`.
    pub(super) fn remembered(&self, app_id: Uuid, key: Uuid, now: Timestamp) -> Option<Remembered> {
        self.keys.get(&(app_id, key)).filter(|first| now - first.at < KEY_LIFE).cloned()
    }

    pub(super) fn remember(&mut self, first: Remembered) -> Result<(), SandboxError> {
        self.journal.write(&Line::Key(first.clone()))?;
        self.keep_key(first);
        Ok(())
    }

    /// Keeps a message, and the answer under its key, as one line of the file.
    pub(super) fn accept(&mut self, accepted: Accepted) -> Result<(), SandboxError> {
        let Accepted { message, remembered } = accepted;
        if self.journal.is_kept() {
            let stored = StoredMessage::of(&message, remembered.as_ref());
            self.journal.write(&Line::Message(Box::new(stored)))?;
        }
        if let Some(first) = remembered {
            self.keep_key(first);
        }
        self.keep_message(message);
        Ok(())
    }

    /// The message with this sequence.
    pub(super) fn at(&self, sequence: u64) -> Option<Arc<Message>> {
        self.messages.get(&sequence).cloned()
    }

    /// The message of any app, by its id.
    pub(super) fn any_message(&self, id: Uuid) -> Option<Arc<Message>> {
        self.by_id.get(&id).and_then(|sequence| self.at(*sequence))
    }

    /// The message that a path names, as long as OneSignal shows it.
    pub(super) fn readable(&self, app_id: Uuid, id: &str, now: Timestamp) -> Result<Arc<Message>, Refusal> {
        let found = uuid(id).and_then(|id| self.message(app_id, id));
        let readable = found.filter(|message| message.is_readable(now));
        readable.ok_or_else(|| Refusal::not_found("Notification not found"))
    }

    pub(super) fn message(&self, app_id: Uuid, id: Uuid) -> Option<Arc<Message>> {
        let message = self.messages.get(self.by_id.get(&id)?)?;
        Some(message.clone()).filter(|message| message.app_id == app_id)
    }

    /// Up to `limit` messages after the one with `sequence`, oldest first.
    pub(super) fn messages_after(&self, sequence: u64, limit: usize) -> Vec<Arc<Message>> {
        self.messages
            .range(sequence.saturating_add(1)..)
            .take(limit)
            .map(|(_, message)| message.clone())
            .collect()
    }

    /// Up to `limit` messages before the one with `sequence`, newest first.
    pub(super) fn messages_before(&self, sequence: u64, limit: usize) -> Vec<Arc<Message>> {
        self.messages.range(..sequence).rev().take(limit).map(|(_, message)| message.clone()).collect()
    }

    /// The messages of one app, newest first.
    pub(super) fn messages_of(&self, app_id: Uuid) -> impl DoubleEndedIterator<Item = &Arc<Message>> {
        self.messages.values().rev().filter(move |message| message.app_id == app_id)
    }

    pub(super) fn cancel(&mut self, id: Uuid) -> Result<(), SandboxError> {
        self.journal.write(&Line::Canceled { id })?;
        self.mark_canceled(id);
        Ok(())
    }

    pub(super) fn template(&self, app_id: Uuid, id: Uuid) -> Option<Arc<Template>> {
        self.templates.get(&id).filter(|template| template.app_id == app_id).cloned()
    }

    pub(super) fn templates(&self) -> impl Iterator<Item = &Arc<Template>> {
        self.templates.values()
    }

    pub(super) fn put_template(&mut self, template: Template) -> Result<Arc<Template>, SandboxError> {
        let template = Arc::new(template);
        self.journal.write(&Line::Template(template.clone()))?;
        self.templates.insert(template.id, template.clone());
        Ok(template)
    }

    pub(super) fn delete_template(&mut self, id: Uuid) -> Result<(), SandboxError> {
        self.journal.write(&Line::TemplateDeleted { id })?;
        self.templates.remove(&id);
        Ok(())
    }

    /// Deletes everything except the clock. Sequences continue, so that an old cursor never shows a later message.
    pub(super) fn clear(&mut self) -> Result<(), SandboxError> {
        let clock = Line::Advanced { microseconds: micros(self.advanced) };
        self.journal.rewrite(vec![clock, Line::Cleared { newest: self.newest }])?;
        self.messages.clear();
        self.by_id.clear();
        self.bytes = 0;
        self.keys.clear();
        self.key_ages.clear();
        self.templates.clear();
        self.people.clear();
        self.segments.clear();
        self.streams.clear();
        self.acts.clear();
        self.guard = Guard::default();
        self.waiting.clear();
        self.sent.clear();
        self.pushes.clear();
        Ok(())
    }

    fn keep_message(&mut self, message: Message) {
        self.newest = message.sequence;
        let at = message.send_after.unwrap_or(message.received_at);
        self.wait(Due { at, reported: Timestamp::MIN_UTC, sequence: message.sequence });
        self.bytes += message.weight();
        self.by_id.insert(message.id, message.sequence);
        self.messages.insert(message.sequence, Arc::new(message));
        while self.messages.len() > self.keep_messages
            || (self.bytes > self.keep_bytes && self.messages.len() > 1)
        {
            let Some((_, oldest)) = self.messages.pop_first() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.weight());
            self.by_id.remove(&oldest.id);
            self.acts.forget(oldest.id);
            self.sent.remove(&oldest.sequence);
        }
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
