//! The port to the message provider, and OneSignal's adapter.
//!
//! The input is a frozen batch or a compiled template; the output is a classified response. Nothing here retries,
//! waits or decides: one method call is one HTTP call. Responses keep their raw body, since OneSignal's are
//! polymorphic.

pub mod onesignal;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_trait::async_trait;
use serde_json::Value;

use crate::domain::answer::{BatchAnswer, MessageStats, ProviderMessageId, Recall};
use crate::domain::app::App;
use crate::domain::batch::Batch;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::custom_event::{CustomEvent, CustomEventsAnswer};
use crate::domain::erasure::Identifier;
use crate::domain::template::Fields;
use crate::domain::user::{UserAnswer, UserCall};

/// Sends messages. Implementations make one HTTP call per method and never retry.
#[async_trait]
pub trait MessageProvider: Send + Sync + 'static {
    /// Sends a frozen batch. `now` determines the remaining `ttl` of push messages.
    async fn send(&self, batch: &Batch, now: Timestamp) -> BatchAnswer;

    /// The request that [`Self::send`] would make for a batch, for display. It contains no secret.
    fn request(&self, batch: &Batch, now: Timestamp) -> Value;

    /// Cancels a message that is scheduled at the provider.
    async fn cancel(&self, app: &App, message: &ProviderMessageId) -> Recall;

    /// The provider's statistics of a message; `None` if it has no message with this id (any more).
    ///
    /// # Errors
    /// [`ProviderError`]; retrying helps.
    async fn message(
        &self,
        app: &App,
        message: &ProviderMessageId,
    ) -> Result<Option<MessageStats>, ProviderError>;

    /// Creates a template and returns the provider's template ID.
    ///
    /// # Errors
    /// [`ProviderError::Unclear`] if it may exist now: look it up by name before retrying.
    async fn create_template(&self, app: &App, upload: &TemplateUpload) -> Result<String, ProviderError>;

    /// Finds the id of the template with this name.
    ///
    /// # Errors
    /// [`ProviderError`]; retrying helps unless it is [`ProviderError::Refused`].
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

    /// A template at the provider; `None` if it doesn't exist.
    ///
    /// # Errors
    /// [`ProviderError`], as for [`MessageProvider::find_template`].
    async fn get_template(&self, app: &App, id: &str) -> Result<Option<RemoteTemplate>, ProviderError>;

    /// Updates a template's content under the same ID, with immediate effect.
    ///
    /// # Errors
    /// [`ProviderError`]; the call can safely be repeated.
    async fn update_template(
        &self,
        app: &App,
        id: &str,
        upload: &TemplateUpload,
    ) -> Result<(), ProviderError>;

    /// Deletes a template; a missing one is not an error.
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

/// Writes users and custom events. Implementations make one HTTP call per method and never retry.
#[async_trait]
pub trait PeopleProvider: Send + Sync + 'static {
    /// Writes one user.
    async fn write_user(&self, app: &App, call: &UserCall) -> UserAnswer;

    /// The request that [`Self::write_user`] would make, for display: method, path and body. It contains no secret.
    fn user_request(&self, app: &App, call: &UserCall) -> (&'static str, String, Option<Value>);

    /// Everything by which OneSignal knows a user: aliases, addresses, subscriptions and tokens. `None` if it does not
    /// know them.
    ///
    /// # Errors
    /// [`ProviderError`].
    async fn identifiers_of(
        &self,
        app: &App,
        by: &(String, String),
    ) -> Result<Option<BTreeSet<Identifier>>, ProviderError>;

    /// Sends custom events in one request.
    async fn send_custom_events(&self, app: &App, events: &[CustomEvent]) -> CustomEventsAnswer;
}

/// One compiled locale of a version, for upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateUpload {
    /// The unique name.
    pub name: String,
    /// The channel.
    pub channel: Channel,
    /// The compiled fields that the provider supports, by language and Herald's names; `en` is always present and
    /// contains
    /// fields without a language.
    pub contents: BTreeMap<String, Fields>,
}

/// A list of templates, without contents.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TemplatePage {
    /// Their ids and names.
    pub templates: Vec<(String, String)>,
    /// Whether there are more.
    pub has_more: bool,
}

/// A template at the provider.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteTemplate {
    /// The display name.
    pub name: String,
    /// The channel.
    pub channel: Channel,
    /// Its fields by language and Herald's names; fields without a language are under `en`.
    pub contents: BTreeMap<String, Fields>,
    /// Names of non-empty provider fields that Herald's templates don't have.
    pub others: Vec<String>,
}

/// An error of a template or app call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// The provider rejected the request.
    #[error("OneSignal rejected it with status {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// OneSignal's message.
        detail: String,
    },
    /// Nothing was done: too many calls.
    #[error("OneSignal's rate limit is reached")]
    RateLimited {
        /// The requested delay.
        retry_after: Option<Duration>,
    },
    /// Nothing was done: no connection.
    #[error("OneSignal could not be reached: {0}")]
    Unreachable(String),
    /// It may have been done, or not.
    #[error("no clear response from OneSignal: {0}")]
    Unclear(String),
}
