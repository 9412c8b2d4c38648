//! A server that speaks OneSignal's contract: for development, tests and load, without an account.
//!
//! It checks Create message and the templates as OneSignal does, records what it accepted, renders it the way
//! OneSignal would, shows it in an inbox page and plays scripted faults. It reads the contract on its own and shares
//! no code with Herald's client, so that each can catch the other's mistakes. It sends nothing to anybody.
//!
//! Requests come in through `http`; `create`, `notifications` and `templates` are OneSignal's paths, `control` the
//! sandbox's own. `state` holds what was accepted; `journal` keeps it in a file when there is one.
//! Texts that the contract doesn't give are our own, with OneSignal's status.

mod access;
mod control;
mod create;
mod faults;
mod http;
mod inbox;
mod journal;
mod json;
mod message;
mod notifications;
mod options;
mod people;
mod rate;
mod refusal;
mod render;
mod state;
mod stats;
mod templates;
mod wire;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;
use uuid::Uuid;

use crate::domain::clock::{Clock, SystemClock, Timestamp};

pub use journal::SandboxError;
pub use message::{Channel, ReceivedMessage, ReceivedRecipient};
pub use options::{SandboxApp, SandboxOptions};

/// One OneSignal that exists on this machine alone.
pub struct Sandbox {
    options: SandboxOptions,
    clock: SystemClock,
    state: Mutex<state::State>,
    faults: Mutex<faults::Faults>,
    stats: Mutex<stats::Stats>,
    rates: Mutex<HashMap<Uuid, rate::Window>>,
    news: watch::Sender<News>,
}

/// What the live inbox waits for: the newest message, and how often everything was thrown away.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct News {
    newest: u64,
    resets: u64,
}

impl Sandbox {
    /// Opens the sandbox, with what its data file holds when it has one.
    ///
    /// # Errors
    /// [`SandboxError`] when the data file can't be used; trying again does not help.
    pub fn open(options: SandboxOptions) -> Result<Arc<Self>, SandboxError> {
        let state = state::State::open(&options)?;
        let clock = SystemClock::new();
        clock.advance(state.advanced());
        let news = News { newest: state.newest(), resets: 0 };
        Ok(Arc::new(Self {
            options,
            clock,
            state: Mutex::new(state),
            faults: Mutex::default(),
            stats: Mutex::default(),
            rates: Mutex::default(),
            news: watch::Sender::new(news),
        }))
    }

    /// Every accepted message that is still kept, oldest first, rendered for each recipient.
    pub fn messages(&self) -> Vec<ReceivedMessage> {
        let kept = self.state.lock().messages_after(0, usize::MAX);
        kept.iter().map(|message| self.received(message)).collect()
    }

    /// Moves the sandbox's own clock forward, as `POST /_sandbox/clock` does: idempotency keys grow old by it.
    ///
    /// # Errors
    /// [`SandboxError`] when the data file can't be written.
    pub fn advance_clock(&self, step: Duration) -> Result<(), SandboxError> {
        self.state.lock().record_advance(step)?;
        self.clock.advance(step);
        Ok(())
    }

    /// Forgets messages, keys, templates, people, faults and counts. The clock stays where it is.
    ///
    /// # Errors
    /// [`SandboxError`] when the data file can't be emptied.
    pub fn reset(&self) -> Result<(), SandboxError> {
        self.state.lock().clear()?;
        *self.faults.lock() = faults::Faults::default();
        *self.stats.lock() = stats::Stats::default();
        self.rates.lock().clear();
        self.news.send_modify(|news| news.resets += 1);
        Ok(())
    }

    fn now(&self) -> Timestamp {
        self.clock.now()
    }

    fn received(&self, message: &message::Message) -> ReceivedMessage {
        render::received(message, &self.options)
    }
}
