//! What the sandbox knows, and the order in which it is written down: first the file, then the memory.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::journal::{Journal, Line, SandboxError, StoredMessage};
use super::message::Message;
use super::options::SandboxOptions;
use super::people::{People, Person};
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

/// Everything that outlives a call.
#[derive(Debug)]
pub(super) struct State {
    journal: Journal,
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
    people: People,
    advanced: Duration,
}

impl State {
    /// Reads the data file, when there is one, and writes it anew without what is no longer needed.
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
            people: People::default(),
            advanced: Duration::ZERO,
        };
        for line in lines {
            state.replay(line);
        }
        state.revisions = HashMap::new();
        let kept = state.lines();
        state.journal.rewrite(kept)?;
        Ok(state)
    }

    /// By how much the clock was moved, over all runs.
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

    pub(super) fn people(&self) -> &People {
        &self.people
    }

    pub(super) fn record_advance(&mut self, step: Duration) -> Result<(), SandboxError> {
        let advanced = self.advanced.saturating_add(step);
        self.journal.write(&Line::Advanced { microseconds: micros(advanced) })?;
        self.advanced = advanced;
        Ok(())
    }

    pub(super) fn put_people(&mut self, people: Vec<Person>) -> Result<(), SandboxError> {
        for person in people {
            let person = Arc::new(person);
            self.journal.write(&Line::Person(person.clone()))?;
            self.people.put(person);
        }
        Ok(())
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

    /// Forgets everything but the clock. Sequences go on, so that a cursor from before never shows a later message.
    pub(super) fn clear(&mut self) -> Result<(), SandboxError> {
        let clock = Line::Advanced { microseconds: micros(self.advanced) };
        self.journal.rewrite(vec![clock, Line::Cleared { newest: self.newest }])?;
        self.messages.clear();
        self.by_id.clear();
        self.bytes = 0;
        self.keys.clear();
        self.key_ages.clear();
        self.templates.clear();
        self.people = People::default();
        Ok(())
    }

    fn keep_message(&mut self, message: Message) {
        self.newest = message.sequence;
        self.bytes += message.weight();
        self.by_id.insert(message.id, message.sequence);
        self.messages.insert(message.sequence, Arc::new(message));
        while self.messages.len() > self.keep_messages
            || (self.bytes > self.keep_bytes && self.messages.len() > 1)
        {
            let Some((_, oldest)) = self.messages.pop_first() else { break };
            self.bytes = self.bytes.saturating_sub(oldest.weight());
            self.by_id.remove(&oldest.id);
        }
    }

    fn keep_key(&mut self, first: Remembered) {
        let (now, name) = (first.at, (first.app_id, first.key));
        self.key_ages.push_back((now, name));
        self.keys.insert(name, first);
        while let Some((at, name)) = self.key_ages.front().copied() {
            if now - at < KEY_LIFE && self.key_ages.len() <= self.keep_keys {
                break;
            }
            self.key_ages.pop_front();
            if self.keys.get(&name).is_some_and(|kept| kept.at == at) {
                self.keys.remove(&name);
            }
        }
    }

    fn mark_canceled(&mut self, id: Uuid) {
        let message = self.by_id.get(&id).and_then(|sequence| self.messages.get_mut(sequence));
        if let Some(message) = message {
            Arc::make_mut(message).canceled = true;
        }
    }

    fn replay(&mut self, line: Line) {
        match line {
            Line::Template(template) => {
                self.revisions.insert((template.id, template.revision), template.clone());
                self.templates.insert(template.id, template);
            }
            Line::TemplateDeleted { id } => {
                self.templates.remove(&id);
            }
            Line::Person(person) => self.people.put(person),
            Line::Key(first) => self.keep_key(first),
            Line::Canceled { id } => self.mark_canceled(id),
            Line::Advanced { microseconds } => self.advanced = Duration::from_micros(microseconds),
            Line::Cleared { newest } => self.newest = self.newest.max(newest),
            Line::Message(stored) => {
                let (message, remembered) = stored.into_parts(&self.revisions);
                if let Some(first) = remembered {
                    self.keep_key(first);
                }
                self.keep_message(message);
            }
        }
    }

    /// The lines that make this state again.
    fn lines(&self) -> Vec<Line> {
        let mut lines = vec![
            Line::Advanced { microseconds: micros(self.advanced) },
            Line::Cleared {
                newest: self.messages.first_key_value().map_or(self.newest, |(first, _)| first - 1),
            },
        ];
        lines.extend(self.people.all().cloned().map(Line::Person));
        lines.extend(self.template_lines());
        let kept: HashMap<_, _> =
            self.messages.values().filter_map(|m| Some(((m.app_id, m.idempotency_key?), m.id))).collect();
        // A key is written with its message while that is kept, and by itself once it is not. The key that a later
        // message took over after its life belongs to that one.
        let of_message = |first: &Remembered| {
            let id = kept.get(&(first.app_id, first.key));
            id.is_some_and(|id| first.answer["id"] == id.to_string())
        };
        let ages =
            self.key_ages.iter().filter_map(|(at, name)| self.keys.get(name).filter(|first| first.at == *at));
        lines.extend(ages.filter(|first| !of_message(first)).cloned().map(Line::Key));
        lines.extend(self.messages.values().map(|message| {
            let name = message.idempotency_key.map(|key| (message.app_id, key));
            let first = name.and_then(|name| self.keys.get(&name));
            let own = first.filter(|first| first.answer["id"] == message.id.to_string());
            Line::Message(Box::new(StoredMessage::of(message, own)))
        }));
        lines
    }

    /// The templates as they are, preceded by the earlier revisions that kept messages were made with.
    fn template_lines(&self) -> Vec<Line> {
        let of_messages = self.messages.values().filter_map(|message| message.template.clone());
        let all: BTreeMap<(Uuid, u32), Arc<Template>> = of_messages
            .chain(self.templates.values().cloned())
            .map(|template| ((template.id, template.revision), template))
            .collect();
        let gone: Vec<Uuid> =
            all.keys().map(|(id, _)| *id).filter(|id| !self.templates.contains_key(id)).collect();
        let deleted = gone.into_iter().map(|id| Line::TemplateDeleted { id });
        all.into_values().map(Line::Template).chain(deleted).collect()
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}
