//! Sending an accepted message: the frequency cap, the volume guard, the first events.

use std::sync::Arc;

use uuid::Uuid;

use super::actions::{Act, RecipientAction};
use super::create::random_uuid;
use super::message::{Channel, Message, Recipient};
use super::people::{Kind, Person, Subscription, made_up_uuid};
use super::render;
use super::schedule::Schedule;
use super::state::{Due, State};
use super::streams::StreamEvent;
use super::{Sandbox, SandboxError};
use crate::domain::clock::Timestamp;

impl Sandbox {
    /// Sends everything that is due.
    pub(super) fn send_due(&self) {
        let now = self.now();
        let mut events = Vec::new();
        {
            let mut state = self.state.lock();
            while let Some(due) = state.take_due(now) {
                match self.send(&mut state, &due, now) {
                    Ok(more) => events.extend(more),
                    Err(error) => {
                        tracing::error!("the sandbox could not record that a message was sent: {error}");
                        break;
                    }
                }
            }
        }
        self.tell(&events);
    }

    /// Sends one message, or that part of it that is due, and puts the rest back.
    fn send(&self, state: &mut State, due: &Due, now: Timestamp) -> Result<Vec<StreamEvent>, SandboxError> {
        let Some(message) = state.at(due.sequence).filter(|message| !message.canceled) else {
            return Ok(Vec::new());
        };
        if state.is_disabled(message.app_id) {
            state.cancel(message.id)?;
            return Ok(Vec::new());
        }
        let capping = self.options.frequency_cap.filter(|_| message.wants_cap());
        let telling = self.streams.lock().listen_to(message.app_id);
        let schedule = Schedule::of(&message);
        let mut events = Vec::new();
        let mut sent = message.recipients as u64;
        if capping.is_some() || telling || schedule.at_once().is_none() {
            let request = message.request();
            let everybody = render::recipients(&message, &request, usize::MAX);
            let times = everybody.iter().enumerate().map(|(place, to)| (place, schedule.due(place, to), to));
            let (out, later): (Vec<_>, Vec<_>) =
                times.filter(|(_, at, _)| *at > due.reported).partition(|(_, at, _)| *at <= now);
            if let Some(next) = later.iter().map(|(_, at, _)| *at).min() {
                state.wait(Due { at: next, reported: now, sequence: due.sequence });
            }
            let mut capped = Vec::new();
            if let Some(cap) = capping {
                capped = state.over_cap(message.app_id, &out, cap, now);
                state.cap(due.sequence, capped.clone())?;
            }
            let out = out.into_iter().filter(|(place, _, _)| !capped.contains(place));
            let out: Vec<_> = out.collect();
            sent = out.len() as u64;
            if telling {
                let kinds = first_events(message.channel);
                events.extend(out.iter().flat_map(|(_, at, to)| {
                    kinds.iter().map(|what| event(&message, to, what, *at)).collect::<Vec<_>>()
                }));
            }
        }
        if message.paced || message.send_after.is_some() {
            state.sent(due.sequence, now)?;
        }
        self.count_volume(state, message.app_id, sent, now)?;
        Ok(events)
    }

    /// Counts sent messages, and disables the app if there were too many for its subscriptions.
    fn count_volume(
        &self,
        state: &mut State,
        app: Uuid,
        sent: u64,
        now: Timestamp,
    ) -> Result<(), SandboxError> {
        let known = || self.options.strict_users.then(|| state.people(app).subscribed() as u64);
        let Some(subscribed) = self.options.subscriptions.or_else(known) else { return Ok(()) };
        if state.count_volume(app, sent, subscribed, now) {
            tracing::warn!(%app, "the app was disabled: more than ten messages per subscription in 15 minutes");
            state.disable(app, true)?;
        }
        Ok(())
    }

    /// Applies a recipient action to a message: it is counted in the views and sent to Event Streams, with the reason of
    /// a failure.
    pub(super) fn act(
        &self,
        message: &Arc<Message>,
        place: usize,
        deed: RecipientAction,
        reason: Option<&str>,
    ) -> Result<(), SandboxError> {
        let now = self.now();
        let request = message.request();
        let mut everybody = render::recipients(message, &request, usize::MAX);
        if place >= everybody.len() {
            return Ok(());
        }
        let recipient = everybody.swap_remove(place);
        let mut events = Vec::new();
        {
            let mut state = self.state.lock();
            // A click in an email implies an open.
            let opened = state
                .acts()
                .of(message.id)
                .iter()
                .any(|act| act.place == place && act.deed == RecipientAction::Open);
            let opens = deed == RecipientAction::Click && message.channel == Channel::Email && !opened;
            let deeds = opens.then_some(RecipientAction::Open).into_iter().chain([deed]);
            for deed in deeds {
                state.add_act(Act { message: message.id, place, deed, at: now })?;
                let reason = reason.unwrap_or(deed.usual_reason());
                events.extend(deed.event(message.channel).map(|what| StreamEvent {
                    reason: reason.to_owned(),
                    ..event(message, &recipient, what, now)
                }));
            }
            if let Some(on) = deed.switches() {
                let person = switched(&state, message, &recipient, on, now);
                state.put_people(vec![person])?;
            }
        }
        self.tell(&events);
        Ok(())
    }

    fn tell(&self, events: &[StreamEvent]) {
        if events.is_empty() {
            return;
        }
        let mut streams = self.streams.lock();
        for event in events {
            streams.push(event);
        }
        drop(streams);
        self.woken.notify_one();
    }
}

/// Automatic actions after sending.
fn first_events(channel: Channel) -> &'static [&'static str] {
    match channel {
        Channel::Push | Channel::Email => &["sent", "received"],
        Channel::Sms => &["sent", "delivered"],
    }
}

fn event(message: &Arc<Message>, to: &Recipient, what: &'static str, at: Timestamp) -> StreamEvent {
    StreamEvent {
        id: random_uuid(),
        what,
        at,
        message: message.clone(),
        recipient: to.clone(),
        reason: String::new(),
    }
}

/// The recipient with their subscription on the message's channel switched on or off; made known if they were not.
fn switched(state: &State, message: &Message, to: &Recipient, on: bool, now: Timestamp) -> Person {
    let people = state.people(message.app_id);
    let known = people.find(&to.label, &to.id).map(|person| Person::clone(person));
    let mut person = known.unwrap_or_else(|| made_known(message, to, now));
    let device = render::device(to, message.channel);
    let own = person.subscriptions_mut();
    if !own.iter().any(|own| own.channel() == message.channel) {
        own.push(Subscription {
            kind: Kind::usual(message.channel),
            token: device.address,
            enabled: true,
            id: device.subscription_id.parse().ok(),
            notification_types: None,
            device: super::json::Object::new(),
        });
    }
    for own in own.iter_mut().filter(|own| own.channel() == message.channel) {
        own.enabled = on;
        own.notification_types = Some(if on { 1 } else { -2 });
    }
    person
}

fn made_known(message: &Message, to: &Recipient, now: Timestamp) -> Person {
    let mut person = Person {
        app_id: Some(message.app_id),
        onesignal_id: Some(made_up_uuid("onesignal_id", &to.id)),
        everywhere: true,
        subscriptions: Some(Vec::new()),
        created_at: Some(now),
        ..Person::default()
    };
    match to.label.as_str() {
        "external_id" => person.external_id = Some(to.id.clone()),
        "onesignal_id" => person.onesignal_id = to.id.parse().ok(),
        "email" | "phone_number" | "subscription_id" => {}
        label => {
            person.aliases.insert(label.to_owned(), to.id.clone());
        }
    }
    person
}
