//! OneSignal apps that Herald sends through.

use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use url::Url;
use uuid::Uuid;

use super::event::RecipientLabel;

/// OneSignal's id of an app: public, not Herald's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct AppId(pub Uuid);

impl std::fmt::Display for AppId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

/// An app with everything needed to call OneSignal.
#[derive(Debug, Clone)]
pub struct App {
    /// OneSignal's id.
    pub id: AppId,
    /// Its name.
    pub name: String,
    /// The base URL of its API: OneSignal, or a sandbox.
    pub base_url: Url,
    /// Its secret.
    pub api_key: SecretString,
    /// Whether it can't reach real people.
    pub is_sandbox: bool,
    /// Whether rules that name no app use it.
    pub is_default: bool,
    /// Create and cancel calls that its plan allows per second.
    pub calls_per_second: u32,
    /// Its number of subscribed subscriptions, if set: OneSignal disables an app that sends too much for them.
    pub subscriptions: Option<u32>,
    /// Why it is paused, if it is.
    pub paused: Option<String>,
    /// The alias labels of its people; `None` if not set, and any label is accepted.
    pub alias_labels: Option<Vec<String>>,
}

/// The prefix of the built-in sandbox's key: an app that uses it can't reach real people.
const SANDBOX_KEY: &str = "os_v2_app_sandbox";

impl App {
    /// Whether a key is the sandbox's.
    pub fn is_sandbox_key(key: &SecretString) -> bool {
        key.expose_secret().starts_with(SANDBOX_KEY)
    }

    /// Whether its people may be named by this label.
    pub fn takes(&self, label: &RecipientLabel) -> bool {
        match (label, &self.alias_labels) {
            (RecipientLabel::Alias(label), Some(declared)) => declared.contains(label),
            (RecipientLabel::Alias(_), None)
            | (
                RecipientLabel::ExternalId
                | RecipientLabel::OnesignalId
                | RecipientLabel::SubscriptionId
                | RecipientLabel::Email
                | RecipientLabel::Phone,
                _,
            ) => true,
        }
    }

    /// Whether `name` means this app: its name, or OneSignal's id.
    pub fn is_called(&self, name: &str) -> bool {
        self.name == name || self.id.to_string() == name
    }
}
