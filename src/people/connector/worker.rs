//! The loops of one process: they poll connectors that are due, and listen to sources that notify.
//!
//! A notification only makes a connector due. Whether one arrives or not, the source is read at each interval, and after
//! each new connection.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::Connectors;
use super::definition::Definition;
use super::postgres::outbox::listen;
use crate::domain::id::ConnectorId;
use crate::store::StoreError;
use crate::store::connectors::{Connector, ConnectorState};

/// Connectors of a process that are polled concurrently.
const POLLERS: usize = 3;
/// How often connectors that are due are looked for.
const LOOK: Duration = Duration::from_secs(1);
/// How long a listener waits before it connects again.
const RECONNECT: Duration = Duration::from_secs(5);

/// The listeners of a process, by connector and revision.
pub(super) type Listeners = HashMap<(ConnectorId, i32), JoinHandle<()>>;

impl Connectors {
    /// Polls until `stop`.
    pub async fn keep_polling(self: Arc<Self>, stop: CancellationToken) {
        let pollers = (0..POLLERS).map(|_| Arc::clone(&self).poll_until(stop.clone()));
        let listening = Arc::clone(&self).listen_until(stop.clone());
        tokio::join!(futures_util::future::join_all(pollers), listening);
    }

    async fn poll_until(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            match self.run_once().await {
                Ok(true) => continue,
                Ok(false) => {}
                Err(error) => {
                    let error = error.with_causes();
                    tracing::warn!(error, "a connector could not be polled; trying again");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK) => {}
                () = self.wake.notified() => {}
                () = stop.cancelled() => {}
            }
        }
    }

    /// Keeps one listener for each running connector whose source notifies.
    async fn listen_until(self: Arc<Self>, stop: CancellationToken) {
        while !stop.is_cancelled() {
            if let Err(error) = self.update_listeners().await {
                tracing::debug!(error = %error.with_causes(), "connectors could not be read");
            }
            tokio::select! {
                () = tokio::time::sleep(LOOK * 5) => {}
                () = stop.cancelled() => {}
            }
        }
        for (_, listener) in self.listeners.lock().drain() {
            listener.abort();
        }
    }

    /// Starts listeners that are missing, and stops those that are no longer wanted.
    ///
    /// # Errors
    /// [`StoreError`] when Herald's database is unavailable.
    pub async fn update_listeners(self: &Arc<Self>) -> Result<(), StoreError> {
        let connectors = self.people.store.connectors().await?;
        let mut listeners = self.listeners.lock();
        let mut wanted = HashMap::new();
        for connector in connectors {
            let Some(channel) = channel_of(&connector) else { continue };
            let key = (connector.id, connector.revision);
            let listener = listeners
                .remove(&key)
                .unwrap_or_else(|| tokio::spawn(Arc::clone(self).listen(connector, channel)));
            wanted.insert(key, listener);
        }
        for (_, unwanted) in std::mem::replace(&mut *listeners, wanted) {
            unwanted.abort();
        }
        Ok(())
    }

    /// Makes a connector due whenever its source says so, and after each new connection.
    async fn listen(self: Arc<Self>, connector: Connector, channel: String) {
        let Some(address) = connector.connection.clone() else { return };
        loop {
            if let Ok(mut listener) = listen(&address, &connector.name, &channel).await {
                loop {
                    let is_woken =
                        self.people.store.wake_connector(connector.id, self.people.clock.now()).await;
                    if is_woken.is_ok() {
                        self.wake();
                    }
                    if !matches!(listener.try_recv().await, Ok(Some(_))) {
                        break;
                    }
                }
            }
            // The poll at each interval reports a source that is away.
            tokio::time::sleep(RECONNECT).await;
        }
    }
}

/// The channel that a running connector listens to.
fn channel_of(connector: &Connector) -> Option<String> {
    let definition = Definition::of(&connector.definition)?;
    let channel = definition.outbox.and_then(|outbox| outbox.channel);
    channel.filter(|_| connector.state == ConnectorState::Running)
}
