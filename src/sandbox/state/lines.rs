//! The state as journal lines: applying a line, and the lines that recreate the state.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use uuid::Uuid;

use super::super::journal::{Line, SandboxError, StoredMessage};
use super::super::people::Person;
use super::super::templates::Template;
use super::{KEY_LIFE, Remembered, State, micros};
use crate::domain::clock::Timestamp;

impl State {
    /// After a restart: messages that went out at once have done so, those with a time wait for what is left of it.
    pub(super) fn wait_again(&mut self) {
        self.waiting.clear();
        let timed = self.messages.values().filter(|message| !message.canceled).filter_map(|message| {
            let reported = self.sent.get(&message.sequence).copied();
            let waits = message.paced || (message.send_after.is_some() && reported.is_none());
            let at = message.send_after.unwrap_or(message.received_at);
            waits.then(|| ((at, message.sequence), reported.unwrap_or(Timestamp::MIN_UTC)))
        });
        self.waiting = timed.collect();
    }

    /// Writes a line, then applies it.
    pub(super) fn record(&mut self, line: Line) -> Result<(), SandboxError> {
        self.journal.write(&line)?;
        self.apply(line);
        Ok(())
    }

    pub(super) fn keep_key(&mut self, first: Remembered) {
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

    pub(super) fn mark_canceled(&mut self, id: Uuid) {
        let message = self.by_id.get(&id).and_then(|sequence| self.messages.get_mut(sequence));
        if let Some(message) = message {
            Arc::make_mut(message).canceled = true;
        }
    }

    pub(super) fn apply(&mut self, line: Line) {
        match line {
            Line::Template(template) => {
                self.revisions.insert((template.id, template.revision), template.clone());
                self.templates.insert(template.id, template);
            }
            Line::TemplateDeleted { id } => {
                self.templates.remove(&id);
            }
            Line::Person(person) => self.place(&person),
            Line::People(people) => people.iter().for_each(|person| self.place(person)),
            Line::Gone { app_id, names } => self.people.entry(app_id).or_default().forget(names),
            Line::Segment(segment) => {
                self.segments.insert(segment.id, segment);
            }
            Line::SegmentDeleted { id } => {
                self.segments.remove(&id);
            }
            Line::Stream(stream) => {
                self.streams.insert(stream.id, stream);
            }
            Line::StreamDeleted { id } => {
                self.streams.remove(&id);
            }
            Line::Act(act) => self.acts.add(act),
            Line::App { app_id, disabled } => self.guard.set(app_id, disabled),
            Line::Sent { sequence, until } => {
                self.sent.insert(sequence, until);
            }
            Line::Capped { sequence, recipients } => {
                if let Some(message) = self.messages.get_mut(&sequence) {
                    let capped = &mut Arc::make_mut(message).capped;
                    capped.extend(recipients);
                    capped.sort_unstable();
                    capped.dedup();
                }
            }
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

    /// Puts a person into their app, or every app.
    fn place(&mut self, person: &Arc<Person>) {
        let apps = person.app_id.map_or_else(|| self.apps.clone(), |app| vec![app]);
        for app in apps {
            self.people.entry(app).or_default().put(person.clone(), self.keep_people);
        }
    }

    /// The lines that recreate this state.
    pub(super) fn lines(&self) -> Vec<Line> {
        let mut lines = vec![
            Line::Advanced { microseconds: micros(self.advanced) },
            Line::Cleared {
                newest: self.messages.first_key_value().map_or(self.newest, |(first, _)| first - 1),
            },
        ];
        for (app, people) in &self.people {
            lines.push(Line::Gone { app_id: *app, names: people.gone().cloned().collect() });
            lines.extend(people.all().map(|person| {
                let of_app = Person { app_id: Some(*app), ..Person::clone(person) };
                Line::Person(Arc::new(of_app))
            }));
        }
        lines.extend(self.segments.values().cloned().map(Line::Segment));
        lines.extend(self.streams.values().cloned().map(Line::Stream));
        lines.extend(self.guard.disabled().map(|app_id| Line::App { app_id, disabled: true }));
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
        lines.extend(
            self.sent.iter().map(|(sequence, until)| Line::Sent { sequence: *sequence, until: *until }),
        );
        lines.extend(self.acts.all().cloned().map(Line::Act));
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
