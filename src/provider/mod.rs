//! The port to whoever carries the messages, and OneSignal's adapter for it.
//!
//! What comes in is a frozen batch or a compiled template; what goes out is a classified answer. Nothing here retries,
//! waits or decides: one method call is one HTTP call. Answers keep their raw body, since OneSignal's are polymorphic.

pub mod onesignal;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::answer::{BatchAnswer, MessageStats, ProviderMessageId, Recall};
use crate::domain::app::App;
use crate::domain::batch::Batch;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::template::Fields;

/// Carries messages. Implementations make one call a method and never try again by themselves.
#[async_trait]
pub trait MessageProvider: Send + Sync + 'static {
    /// Sends a frozen batch. `now` tells how long push messages may still wait for their device.
    async fn send(&self, batch: &Batch, now: Timestamp) -> BatchAnswer;

    /// The request that [`Self::send`] would make of a batch, for people to look at. It holds no secret.
    fn request(&self, batch: &Batch, now: Timestamp) -> Value;

    /// Takes a message back that the provider holds until its time.
    async fn cancel(&self, app: &App, message: &ProviderMessageId) -> Recall;

    /// What became of a message, as the provider counts it; `None` if it knows none of this id (any more).
    ///
    /// # Errors
    /// [`ProviderError`]; trying again helps.
    async fn message(
        &self,
        app: &App,
        message: &ProviderMessageId,
    ) -> Result<Option<MessageStats>, ProviderError>;

    /// Creates a template and returns the provider's id of it.
    ///
    /// # Errors
    /// [`ProviderError::Unclear`] when it may exist now: look it up by name before trying again.
    async fn create_template(&self, app: &App, upload: &TemplateUpload) -> Result<String, ProviderError>;

    /// Finds the id of the template with this name.
    ///
    /// # Errors
    /// [`ProviderError`]; trying again helps when it is not [`ProviderError::Refused`].
    async fn find_template(
        &self,
        app: &App,
        name: &str,
        channel: Channel,
    ) -> Result<Option<String>, ProviderError>;

    /// One page of an app's templates of a channel, from the `offset`-th on; newest first.
    ///
    /// # Errors
    /// [`ProviderError`], as for [`MessageProvider::find_template`].
    async fn list_templates(
        &self,
        app: &App,
        channel: Channel,
        offset: usize,
    ) -> Result<TemplatePage, ProviderError>;

    /// What the provider holds of a template; `None` if it has no such template.
    ///
    /// # Errors
    /// [`ProviderError`], as for [`MessageProvider::find_template`].
    async fn get_template(&self, app: &App, id: &str) -> Result<Option<RemoteTemplate>, ProviderError>;

    /// Has a template say something else, at once and under the same id.
    ///
    /// # Errors
    /// [`ProviderError`]; the same call again does no harm.
    async fn update_template(
        &self,
        app: &App,
        id: &str,
        upload: &TemplateUpload,
    ) -> Result<(), ProviderError>;

    /// Deletes a template; one that is gone already is no error.
    ///
    /// # Errors
    /// [`ProviderError`], as for [`MessageProvider::find_template`].
    async fn delete_template(&self, app: &App, id: &str) -> Result<(), ProviderError>;

    /// Whether the app's key works, without sending anything.
    ///
    /// # Errors
    /// [`ProviderError::Refused`] when it does not.
    async fn check_app(&self, app: &App) -> Result<(), ProviderError>;
}

/// One locale of one version, compiled, as it is uploaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateUpload {
    /// The name that it is found by.
    pub name: String,
    /// Where its messages appear.
    pub channel: Channel,
    /// The compiled fields that the provider can hold, by language and Herald's names; `en` is always there and holds
    /// what is not kept by language.
    pub contents: BTreeMap<String, Fields>,
}

/// Templates as they are listed: without their contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplatePage {
    /// Their ids and names.
    pub templates: Vec<(String, String)>,
    /// Whether there are more behind them.
    pub has_more: bool,
}

/// A template as the provider holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTemplate {
    /// The name that people see there.
    pub name: String,
    /// Where its messages appear.
    pub channel: Channel,
    /// Its fields by language, by Herald's names; what has no language stands under `en`.
    pub contents: BTreeMap<String, Fields>,
    /// The provider's names of fields that say something and that Herald's templates don't have.
    pub others: Vec<String>,
}

/// Why a template or an app could not be dealt with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The provider said no.
    #[error("OneSignal rejected it with status {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// OneSignal's words.
        detail: String,
    },
    /// Nothing was done: too many calls.
    #[error("OneSignal's rate limit is reached")]
    RateLimited {
        /// How long OneSignal asks to wait.
        retry_after: Option<Duration>,
    },
    /// Nothing was done: no connection.
    #[error("OneSignal could not be reached: {0}")]
    Unreachable(String),
    /// It may have been done, or not.
    #[error("no clear response from OneSignal: {0}")]
    Unclear(String),
}
