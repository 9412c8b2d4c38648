//! Connectors: rows of other databases become users or events.
//!
//! A connector is polled by one process at a time. Rows are read through the interface in [`reader`], changed users go
//! into the outbox with the priority of connectors, and events take the same way as those that are posted, through the
//! port [`EventIntake`]. The position, rows that were set aside and users are stored in one transaction under the poll's
//! epoch, so a process that dies or comes late repeats or loses nothing. Nothing is ever written to a source, except that
//! rows of an outbox are deleted once they are stored here.

mod change;
pub mod definition;
mod inspect;
mod page;
mod poll;
pub mod postgres;
pub mod reader;
pub mod rows;
mod shared;
mod worker;

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::Notify;

use self::definition::Definition;
use super::People;
use super::import::mapping::RowProblem;
use crate::domain::app::App;
use crate::domain::id::ConnectorId;
use crate::store::StoreError;
use crate::store::connectors::Connector;

pub use change::{SaveError, Saving, is_stale, observed_words, place_of};
pub use inspect::Look;

/// What became of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Taken {
    /// It was accepted.
    New,
    /// It had been accepted before.
    Repeated,
    /// It can't be accepted as it is.
    Wrong(RowProblem),
}

/// Accepting events, as the API does.
#[async_trait]
pub trait EventIntake: Send + Sync {
    /// Accepts events of a source, for a connector; the result of each, in order.
    ///
    /// # Errors
    /// Why none can be accepted at present; repeating the same events later helps.
    async fn accept(
        &self,
        connector: ConnectorId,
        source: &str,
        events: Vec<Value>,
    ) -> Result<Vec<Taken>, String>;
}

/// Why a poll ends early.
#[derive(Debug, thiserror::Error)]
pub(super) enum PollError {
    /// Herald's database.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The source, or something that it needs at Herald.
    #[error("{0}")]
    Source(#[from] reader::SourceError),
    /// It stops, and asks a person.
    #[error("{0}")]
    Stops(String),
    /// Its rows wait in the outbox.
    #[error("its rows wait in the outbox")]
    Waits,
    /// Someone else has the connector by now, or a person changed it.
    #[error("another process has the connector by now")]
    Lost,
}

/// The connectors of one process.
pub struct Connectors {
    people: Arc<People>,
    intake: Arc<dyn EventIntake>,
    /// Notified when a connector may be due.
    wake: Notify,
    listeners: Mutex<worker::Listeners>,
}

impl std::fmt::Debug for Connectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Connectors")
    }
}

impl Connectors {
    /// Builds them; nothing runs yet.
    pub fn new(people: Arc<People>, intake: Arc<dyn EventIntake>) -> Arc<Self> {
        Arc::new(Self { people, intake, wake: Notify::new(), listeners: Mutex::default() })
    }

    /// Wakes the worker of this process.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// The app that a connector's users belong to.
    async fn app(&self, definition: &Definition) -> Result<App, PollError> {
        let apps = self.people.store.apps().await?;
        let found = match &definition.app {
            Some(name) => apps.into_iter().find(|app| app.is_called(name)),
            None => apps.into_iter().find(|app| app.is_default),
        };
        let missing = || reader::SourceError("there is no app with the connector's `app`".to_owned());
        Ok(found.ok_or_else(missing)?)
    }
}

/// The definition of a stored connector.
fn definition_of(connector: &Connector) -> Result<Definition, StoreError> {
    Definition::of(&connector.definition)
        .ok_or_else(|| StoreError::corrupt("connectors", "definition", connector.id))
}
