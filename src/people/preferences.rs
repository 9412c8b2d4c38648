//! Preferences: the channels on which a person wants no messages. Planning and sending obey them at once.

use std::collections::BTreeMap;

use super::People;
use crate::domain::channel::Channel;
use crate::domain::event::Recipient;
use crate::domain::id::{TypedId, UserId};
use crate::store::{StoreError, erasures, users};

/// A change of preferences.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangedPreferences {
    /// The person.
    pub user: UserId,
    /// Whether anything changed.
    pub is_changed: bool,
}

/// Why preferences are not changed.
#[derive(Debug, thiserror::Error)]
pub enum PreferenceError {
    /// The person was erased.
    #[error("this person was erased")]
    Erased,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl People {
    /// Opts a person out of channels (`true`), or back in (`false`). Someone unknown becomes known, so that an opt-out is
    /// never lost.
    ///
    /// # Errors
    /// [`PreferenceError`].
    pub async fn set_opt_outs(
        &self,
        who: &Recipient,
        opt_outs: &BTreeMap<Channel, bool>,
    ) -> Result<ChangedPreferences, PreferenceError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let digests = self.store.recipient_digests(&[who]).await?;
        if !erasures::erased_among(&mut tx, &digests.into_iter().collect()).await?.is_empty() {
            return Err(PreferenceError::Erased);
        }
        let alias = (who.label.as_str().to_owned(), who.id.clone());
        let fresh = || self.ids.next::<UserId>(now).uuid();
        let people = users::ensure(&mut tx, &[alias.clone()].into(), fresh, now).await?;
        let user = people.get(&alias).copied().ok_or_else(|| StoreError::corrupt("users", "id", "new"))?;
        if !users::lock(&mut tx, &[user].into()).await?.is_empty() {
            return Err(PreferenceError::Erased);
        }
        let is_changed = users::set_opt_outs(&mut tx, user, opt_outs, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(ChangedPreferences { user: UserId::from_uuid(user), is_changed })
    }
}
