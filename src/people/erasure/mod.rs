//! Erasure: removes a person from Herald and from OneSignal, and keeps them from coming back.
//!
//! A request stores keyed hashes of everything that names the person, and removes who they are, in one transaction:
//! from then on nothing is sent to them or written about them. `run` does the rest, and repeats it until nothing is
//! left. `record` writes the hashes to a file, from which they are applied again after a restore of the database.

pub mod record;
mod run;

use std::collections::{BTreeMap, BTreeSet};

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::People;
use crate::domain::clock::Timestamp;
use crate::domain::erasure::Identifier;
use crate::domain::event::Recipient;
use crate::domain::id::ErasureId;
use crate::store::actions::{ActionEnd, EndState};
use crate::store::erased_history::{ErasedRows, Names};
use crate::store::erasures::{self, StoredErasure};
use crate::store::user_removal::{self, Removed};
use crate::store::{Committed, StoreError, commit};

/// The deliveries of the process, as far as people's use cases affect them.
#[async_trait]
pub trait Deliveries: Send + Sync + 'static {
    /// Some that waited for their recipients may be sent now.
    fn wake(&self);

    /// Ends what is pending for a person. Returns how many deliveries ended, and how many messages are recalled.
    ///
    /// # Errors
    /// [`StoreError`]; retrying helps.
    async fn end_for_erased(&self, names: &Names) -> Result<(usize, usize), StoreError>;
}

/// What was erased so far. It contains no personal data.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// By the app's OneSignal ID.
    pub apps: BTreeMap<String, AppProgress>,
    /// Pending deliveries that ended.
    pub ended: usize,
    /// Messages that OneSignal holds until their time and was asked to cancel.
    pub recalled: usize,
    /// Rows of the history and of imports.
    pub rows: ErasedRows,
    /// Whether it was applied again after a restore: then the identifiers have to be found by their hashes first.
    pub is_restored: bool,
    /// Whether they were.
    pub is_searched: bool,
}

/// The state of one app at OneSignal.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct AppProgress {
    /// How often OneSignal accepted a deletion.
    pub deletions: u32,
    /// When OneSignal no longer knew the person, after everything that was in progress at the request had ended.
    pub gone_at: Option<Timestamp>,
    /// OneSignal's last answer, or why there was no call.
    pub last_answer: String,
}

impl Progress {
    /// Reads it from an erasure.
    pub fn of(erasure: &StoredErasure) -> Self {
        serde_json::from_value(erasure.progress.clone()).unwrap_or_default()
    }

    fn to_json(&self) -> Value {
        serde_json::to_value(self).unwrap_or_default()
    }
}

impl People {
    /// Requests the erasure of a person. An open one is returned as it is; one that is done is repeated.
    ///
    /// # Errors
    /// [`StoreError`]; nothing is stored then.
    pub async fn erase(&self, who: &Recipient, by: &str) -> Result<StoredErasure, StoreError> {
        let now = self.clock.now();
        let named = BTreeSet::from([Identifier::from(who)]);
        let digests = self.store.digests(&named).await?.into_keys().collect();
        let mut tx = self.store.begin().await?;
        if let Some(open) = erasures::open_for(&mut tx, &digests).await? {
            return Ok(open);
        }
        let alias = (who.label.as_str().to_owned(), who.id.clone());
        let removed = user_removal::remove(&mut tx, &[alias].into()).await?;
        let identifiers: BTreeSet<Identifier> = named.union(&removed.identifiers).cloned().collect();
        let digests = self.store.digests(&identifiers).await?.into_keys().collect();
        let id: ErasureId = self.ids.next(now);
        let sealed = self.store.seal_identifiers(id, &identifiers)?;
        let erasure = erasures::insert(&mut tx, id, by, &sealed, now).await?;
        erasures::add_digests(&mut tx, id, &digests).await?;
        match commit(tx).await {
            Committed::Yes => {}
            Committed::No(error) | Committed::Unclear(error) => return Err(error),
        }
        self.finish_removed(&removed).await?;
        self.record_erasures().await;
        self.wake();
        Ok(self.store.erasure(id).await?.unwrap_or(erasure))
    }

    /// Lets a person come back. Returns `false` unless the erasure is done.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn lift_erasure(&self, id: ErasureId) -> Result<bool, StoreError> {
        let is_lifted = self.store.lift_erasure(id, self.clock.now()).await?;
        if is_lifted {
            self.record_erasures().await;
        }
        Ok(is_lifted)
    }

    /// Ends what waited for the writes of people who were removed.
    async fn finish_removed(&self, removed: &Removed) -> Result<(), StoreError> {
        for import in &removed.imports {
            self.store.count_written(*import, 0, 1).await?;
        }
        if removed.actions.is_empty() {
            return Ok(());
        }
        let end = |action: &uuid::Uuid| ActionEnd {
            action: *action,
            state: EndState::Refused,
            detail: "erased: the person was erased".to_owned(),
        };
        self.store.end_actions(&removed.actions.iter().map(end).collect::<Vec<_>>(), self.clock.now()).await
    }
}
