//! What people do with connectors: save, start, pause.

use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Value, json};
use url::Url;

use super::definition::{Definition, Source};
use super::postgres::{options, query};
use super::{Connectors, definition_of};
use crate::domain::clock::Timestamp;
use crate::store::StoreError;
use crate::store::connectors::{Connector, ConnectorDraft, ConnectorState};

/// A connector that was not polled for this long is stale, or for three intervals if that is longer.
const STALE_AFTER: TimeDelta = TimeDelta::seconds(10);
/// Why a new connector is stopped.
const IS_NEW: &str = "it is new: check what it would read, then start it";

/// A definition to save under a name.
#[derive(Debug)]
pub struct Saving<'a> {
    /// The name.
    pub name: &'a str,
    /// The definition.
    pub definition: &'a Definition,
    /// The source's address; `None` keeps the one that is known.
    pub connection: Option<SecretString>,
    /// Who saves it.
    pub author: &'a str,
    /// The revision that the change is based on; 0 for a new one.
    pub based_on: i32,
}

/// Why a connector is not saved.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// A field is wrong.
    #[error("{detail}")]
    Wrong {
        /// A JSON pointer.
        pointer: &'static str,
        /// What is wrong.
        detail: String,
    },
    /// Someone else changed it meanwhile.
    #[error("the connector was changed by someone else")]
    Changed,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Connectors {
    /// Saves a connector. A new one does not read yet. One whose query or mapping changes stops, says how many rows are
    /// concerned, and waits to be started.
    ///
    /// # Errors
    /// [`SaveError`].
    pub async fn save(&self, saving: Saving<'_>) -> Result<(), SaveError> {
        let Saving { name, definition, connection, author, based_on } = saving;
        let wrong = |pointer, detail: &str| SaveError::Wrong { pointer, detail: detail.to_owned() };
        if let Some(problem) = definition.problems().into_iter().next() {
            return Err(SaveError::Wrong { pointer: problem.pointer, detail: problem.detail });
        }
        let known = self.people.store.find_connector(name).await?;
        let is_shared = definition.shared_role().is_some();
        if let Some(address) = &connection {
            if is_shared {
                return Err(wrong("/connection", "a table in Herald's own database needs no connection"));
            }
            options(address, name)
                .map_err(|error| SaveError::Wrong { pointer: "/connection", detail: error.to_string() })?;
        }
        let has_address =
            connection.is_some() || known.as_ref().is_some_and(|known| known.connection.is_some());
        if !is_shared && !has_address {
            return Err(wrong(
                "/connection",
                "say where the source is: `postgres://user:password@host/database`",
            ));
        }
        let now = self.people.clock.now();
        let (id, state, detail) = match &known {
            None => (self.people.ids.next(now), ConnectorState::Stopped, IS_NEW.to_owned()),
            Some(known) => {
                let (state, detail) = self.state_after(known, definition, connection.as_ref()).await?;
                (known.id, state, detail)
            }
        };
        let draft = ConnectorDraft {
            name,
            definition: &json!(definition),
            connection: connection.as_ref(),
            keeps_connection: known.is_some() && connection.is_none() && !is_shared,
            author,
            state,
            detail: &detail,
        };
        if !self.people.store.save_connector(id, &draft, based_on, now).await? {
            return Err(SaveError::Changed);
        }
        self.wake();
        Ok(())
    }

    /// The state of a connector once another definition replaces its own.
    async fn state_after(
        &self,
        known: &Connector,
        definition: &Definition,
        connection: Option<&SecretString>,
    ) -> Result<(ConnectorState, String), StoreError> {
        let reads_otherwise =
            Definition::of(&known.definition).is_none_or(|old| old.reads_otherwise(definition));
        let is_elsewhere = connection.is_some_and(|address| {
            known.connection.as_ref().is_none_or(|old| old.expose_secret() != address.expose_secret())
        });
        if !reads_otherwise && !is_elsewhere {
            return Ok((known.state, known.detail.clone()));
        }
        let changed = Connector {
            definition: json!(definition),
            connection: connection.cloned().or_else(|| known.connection.clone()),
            ..known.clone()
        };
        let look = self.look(&changed).await?;
        let rows = match look.rows {
            Some(rows) => format!("{rows} rows are concerned"),
            None => "rows that are read from now on are concerned".to_owned(),
        };
        let detail = format!(
            "its source or mapping was changed: {rows}; start it to go on, or to read all of them again"
        );
        Ok((ConnectorState::Stopped, detail))
    }

    /// Starts a connector, or lets it go on. With `rereads`, it reads all rows of its query again.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn start(&self, connector: &Connector, rereads: bool) -> Result<(), StoreError> {
        let definition = definition_of(connector)?;
        let position = match definition.source() {
            Some(Source::Query(_)) if rereads => Some(query::beginning()),
            Some(Source::Query(_) | Source::Outbox(_)) | None => None,
        };
        let now = self.people.clock.now();
        let store = &self.people.store;
        store.set_connector_state(connector.id, ConnectorState::Running, position.as_ref(), now).await?;
        self.wake();
        Ok(())
    }

    /// Pauses a connector. A poll in progress stores nothing more.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn pause(&self, connector: &Connector) -> Result<(), StoreError> {
        let now = self.people.clock.now();
        self.people.store.set_connector_state(connector.id, ConnectorState::Paused, None, now).await
    }
}

/// Whether a connector should have been polled by now.
pub fn is_stale(connector: &Connector, now: Timestamp) -> bool {
    let interval = Definition::of(&connector.definition).map(|definition| definition.interval);
    let interval = interval.and_then(|interval| TimeDelta::from_std(interval).ok()).unwrap_or_default();
    connector.state == ConnectorState::Running && now - connector.polled_at > STALE_AFTER.max(interval * 3)
}

/// Where a connector's source is, without user and password.
pub fn place_of(connector: &Connector) -> String {
    let Some(address) = &connector.connection else { return "Herald's own database".to_owned() };
    let Ok(url) = address.expose_secret().parse::<Url>() else { return "another database".to_owned() };
    if url.host_str().is_none_or(|host| host.is_empty() || host.starts_with("%2F")) {
        return format!("local socket{}", url.path());
    }
    let port = url.port().map(|port| format!(":{port}")).unwrap_or_default();
    format!("{}{port}{}", url.host_str().unwrap_or_default(), url.path())
}

/// What the last poll saw, in words; empty if nothing is unusual.
pub fn observed_words(observed: &Value) -> Vec<String> {
    let mut words = Vec::new();
    if observed["waits"] == true {
        words.push("reads no further while its rows wait in the outbox".to_owned());
    }
    if let (Some(by), Some(since)) =
        (observed["held_back"]["by"].as_str(), observed["held_back"]["since"].as_str())
    {
        words.push(format!("held back by {by} since {since}"));
    }
    if observed["sees_transactions"] == false {
        words.push(
            "open transactions are not visible: late commits are found in the lookback window only"
                .to_owned(),
        );
    }
    if let Some(rows @ 1..) = observed["without_watermark"].as_i64() {
        words.push(format!("{rows} rows have no watermark and are never read"));
    }
    words
}
