//! What became of messages at OneSignal, asked when a person looks.

use futures_util::future::join_all;

use crate::domain::answer::{MessageStats, ProviderMessageId};
use crate::domain::app::AppId;
use crate::pipeline::Pipeline;
use crate::provider::ProviderError;
use crate::store::StoreError;

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
pub enum MessageStatsError {
    /// The app is not one of ours any more.
    #[error("the app that sent it is no longer known here")]
    AppGone,
    /// OneSignal did not tell.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The database is away.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pipeline {
    /// What OneSignal counts for each of these messages, one call each and all at once; `None` where it knows none of this
    /// id: it tells of a message for 30 days. Callers ask for ten at most, which is what it lets an app ask a second.
    ///
    /// # Errors
    /// The first [`MessageStatsError`]; asking again helps unless the app is gone.
    pub async fn message_stats(
        &self,
        messages: &[(AppId, ProviderMessageId)],
    ) -> Result<Vec<Option<MessageStats>>, MessageStatsError> {
        let catalog = self.catalog.get(&self.store).await?;
        let asked = messages.iter().map(async |(app, message)| {
            let app = catalog.app(Some(*app)).ok_or(MessageStatsError::AppGone)?;
            Ok(self.provider.message(app, message).await?)
        });
        join_all(asked).await.into_iter().collect()
    }
}
