//! A server that speaks OneSignal's contract: for development, tests and load, without an account.
//!
//! It checks calls as OneSignal does, records what it accepted, renders it the way OneSignal would, shows it in an
//! inbox
//! page and plays scripted faults. It reads the contract on its own and shares no code with Herald's client, so that
//! each
//! can catch the other's mistakes. It sends nothing to anybody but Event Streams to the address that they were given.
//!
//! Requests come in through `http`. OneSignal's paths are `create`, `notifications`, `templates`, `users`, `segments`,
//! `custom_events`, `exports` and `outcomes`; `control` and `inbox` are the sandbox's own. `state` holds what was
//! accepted, and `journal` keeps it in a file when there is one; `sending` lets messages go out at their time, `acts`
//! is
//! what recipients do with them, `streams` tells of both.
//! Texts that the contract doesn't give are our own, with OneSignal's status.

mod access;
mod actions;
mod control;
mod create;
mod custom_events;
mod exports;
mod faults;
mod filters;
mod guard;
mod host;
mod http;
mod inbox;
mod journal;
mod json;
mod message;
mod notifications;
mod options;
mod outcomes;
mod people;
mod plan;
mod rate;
mod refusal;
mod render;
mod routes;
mod schedule;
mod segments;
mod sending;
mod state;
mod stats;
mod streams;
mod templates;
mod users;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};
use uuid::Uuid;

use crate::domain::clock::{Clock, SystemClock, Timestamp};

pub use custom_events::ReceivedCustomEvent;
pub use journal::SandboxError;
pub use message::{Channel, ReceivedMessage, ReceivedRecipient};
pub use options::{Exchange, FrequencyCap, Observer, SandboxApp, SandboxOptions, SandboxPlan};
use rate::Bucket;

/// One OneSignal that exists on this machine alone.
pub struct Sandbox {
    options: SandboxOptions,
    clock: SystemClock,
    state: Mutex<state::State>,
    faults: Mutex<faults::Faults>,
    stats: Mutex<stats::Stats>,
    rates: Mutex<rate::Rates>,
    streams: Mutex<streams::Streams>,
    custom_events: Mutex<custom_events::CustomEvents>,
    exports: Mutex<exports::Exports>,
    /// Wakes the worker when something may be due earlier than it thought.
    woken: Notify,
    news: watch::Sender<News>,
}

/// Updates for the live inbox: the latest message, and the number of resets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct News {
    newest: u64,
    resets: u64,
}

impl Sandbox {
    /// Opens the sandbox, with the content of its data file, if there is one.
    ///
    /// # Errors
    /// [`SandboxError`] if the data file can't be used; retrying does not help.
    pub fn open(options: SandboxOptions) -> Result<Arc<Self>, SandboxError> {
        let state = state::State::open(&options)?;
        let clock = SystemClock::new();
        clock.advance(state.advanced());
        let news = News { newest: state.newest(), resets: 0 };
        let mut streams = streams::Streams::default();
        for stream in state.streams() {
            streams.put(stream.clone());
        }
        Ok(Arc::new(Self {
            options,
            clock,
            state: Mutex::new(state),
            faults: Mutex::default(),
            stats: Mutex::default(),
            rates: Mutex::default(),
            streams: Mutex::new(streams),
            custom_events: Mutex::default(),
            exports: Mutex::default(),
            woken: Notify::new(),
            news: watch::Sender::new(news),
        }))
    }

    /// All stored messages, oldest first, rendered for each recipient.
    pub fn messages(&self) -> Vec<ReceivedMessage> {
        let kept = self.state.lock().messages_after(0, usize::MAX);
        kept.iter().map(|message| self.received(message)).collect()
    }

    /// Moves the sandbox's own clock forward, as `POST /_sandbox/clock` does: idempotency keys grow old by it, and
    /// scheduled messages go out.
    ///
    /// # Errors
    /// [`SandboxError`] when the data file can't be written.
    pub fn advance_clock(&self, step: Duration) -> Result<(), SandboxError> {
        self.state.lock().record_advance(step)?;
        self.clock.advance(step);
        self.send_due();
        self.woken.notify_one();
        Ok(())
    }

    /// Forgets messages, keys, templates, people, segments, streams, faults and counts. The clock stays where it is.
    ///
    /// # Errors
    /// [`SandboxError`] when the data file can't be emptied.
    pub fn reset(&self) -> Result<(), SandboxError> {
        self.state.lock().clear()?;
        *self.faults.lock() = faults::Faults::default();
        *self.stats.lock() = stats::Stats::default();
        *self.rates.lock() = rate::Rates::default();
        self.streams.lock().clear();
        *self.custom_events.lock() = custom_events::CustomEvents::default();
        *self.exports.lock() = exports::Exports::default();
        self.news.send_modify(|news| news.resets += 1);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    /// Whether one more call is within its limit in this second.
    fn admits_call(&self, bucket: Bucket, of: Uuid, limit: u32) -> bool {
        self.rates.lock().admits(bucket, of, limit, Instant::now())
    }

    /// Whether the app may make one more create or cancel call.
    fn admits(&self, app: Uuid) -> bool {
        self.admits_call(Bucket::Messages, app, self.options.calls_per_second)
    }

    /// Whether the app's view rate limit allows another call.
    fn admits_view(&self, app: Uuid) -> bool {
        self.admits_call(Bucket::Views, app, self.options.views_per_second)
    }

    fn received(&self, message: &message::Message) -> ReceivedMessage {
        render::received(message, &self.options)
    }
}
