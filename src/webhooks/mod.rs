//! Webhooks in: how a foreign system's calls are told from others', and how its JSON becomes an event.
//!
//! [`SourceSettings`] is what `sources/<name>.toml` and the API say; [`Webhook`] is the same, checked and ready.
//! [`Auth::verify`] looks at signature and age, [`Body::read`] makes a value of bytes, [`Webhook::map`] an event of that. All of it is pure: bodies,
//! headers, secrets and the time come in as arguments. No error holds a value from a body or a secret.

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

/// Headers by lower-case name; one that stands several times is joined with commas.
pub type Headers = BTreeMap<String, String>;

/// Everything that is wrong with what is said about a source, its webhook included if it has one.
pub fn check(settings: &SourceSettings, budget: &Budget) -> Vec<SettingsProblem> {
    let checked = match settings.webhook {
        Some(_) => Webhook::new(settings, budget).map(|_| ()),
        None => mapping::check_without_webhook(settings, budget),
    };
    checked.err().unwrap_or_default()
}
