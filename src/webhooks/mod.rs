//! Incoming webhooks: authenticating an external system's calls, and converting its JSON to an event.
//!
//! [`SourceSettings`] is the form in `sources/<name>.toml` and the API; [`Webhook`] is the validated form.
//! [`Auth::verify`] checks signature and age, [`Body::read`] parses the bytes, [`Webhook::map`] converts them to an
//! event.
//! All of it is pure: bodies, headers, secrets and the time are arguments. No error contains a value from a body or a
//! secret.

mod body;
mod checks;
mod mapping;
mod scheme;
mod settings;
mod signature;

pub use body::Body;
pub use mapping::{Mapped, Webhook};
pub use scheme::Scheme;
pub use settings::{Auth, AuthKind, MappingSettings, SettingsProblem, SourceSettings, WebhookSettings};
pub use signature::{Call, Signed, TOLERANCE};

use std::collections::BTreeMap;

use crate::domain::budget::Budget;

/// Headers by lower-case name; repeated ones are joined with commas.
pub type Headers = BTreeMap<String, String>;

/// All problems of a source's settings, including its webhook if it has one.
pub fn check(settings: &SourceSettings, budget: &Budget) -> Vec<SettingsProblem> {
    let checked = match settings.webhook {
        Some(_) => Webhook::new(settings, budget).map(|_| ()),
        None => mapping::check_without_webhook(settings, budget),
    };
    checked.err().unwrap_or_default()
}
