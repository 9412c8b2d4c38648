//! OneSignal's statistics for messages, read when a person views them.

use futures_util::future::join_all;

use crate::domain::answer::{MessageStats, ProviderMessageId};
use crate::domain::app::AppId;
use crate::pipeline::Pipeline;
use crate::provider::ProviderError;
use crate::store::StoreError;

/// Why there are no statistics.
#[derive(Debug, thiserror::Error)]
pub enum MessageStatsError {
    /// The app is no longer configured.
    #[error("the app that sent it is no longer known here")]
    AppGone,
    /// OneSignal did not return them.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The database is unavailable.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Pipeline {
    /// OneSignal's counts for each of these messages, one call each, all in parallel; `None` if it does not know the
    /// id: it keeps messages for 30 days. Callers ask for ten at most, which is the number of such calls per second
    /// that it allows an app.
    ///
    /// # Errors
    /// The first [`MessageStatsError`]; retrying helps unless the app is gone.
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
