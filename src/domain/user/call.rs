//! One call about a user, and the classified answer to it.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A way to reach a person, as OneSignal names it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Subscription {
    /// OneSignal's type: `Email`, `SMS`, `iOSPush`, …
    #[serde(rename = "type")]
    pub kind: String,
    /// The address, the number, or the push token.
    pub token: String,
    /// Whether it is switched on; left alone if absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enabled: Option<bool>,
}

/// Properties to be written.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct UserFields {
    /// Tags; an empty text removes one.
    pub tags: BTreeMap<String, String>,
    /// The language.
    pub language: Option<String>,
    /// The time zone's IANA name.
    pub time_zone: Option<String>,
    /// The country's two letters.
    pub country: Option<String>,
    /// Latitude and longitude.
    pub location: Option<(f64, f64)>,
}

/// One HTTP call about one user. `by` is an alias: a label with an id.
#[derive(Debug, Clone, PartialEq)]
pub enum UserCall {
    /// Creates the user, or changes the one whom an alias in it names.
    Upsert {
        /// Aliases: labels with ids.
        identity: BTreeMap<String, String>,
        /// Properties.
        fields: UserFields,
        /// Subscriptions; one of another user moves to this one.
        subscriptions: Vec<Subscription>,
    },
    /// Changes properties of an existing user.
    Update {
        /// The user.
        by: (String, String),
        /// Properties.
        fields: UserFields,
    },
    /// Removes an alias.
    RemoveAlias {
        /// The user.
        by: (String, String),
        /// The alias's label.
        label: String,
    },
    /// Deletes the user with their aliases and subscriptions.
    Delete {
        /// The user.
        by: (String, String),
    },
}

/// The classified answer to a call about a user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum UserAnswer {
    /// It is written.
    Done {
        /// OneSignal's id of the user, if it said it.
        onesignal_id: Option<uuid::Uuid>,
    },
    /// OneSignal knows no such user (yet).
    UnknownUser,
    /// An alias belongs to another user; nothing was written.
    AliasConflict {
        /// OneSignal's text.
        detail: String,
    },
    /// The plan's number of tags is exceeded; nothing was written.
    TagLimit {
        /// OneSignal's text.
        detail: String,
    },
    /// The user has the maximum number of subscriptions; nothing was written.
    SubscriptionLimit {
        /// OneSignal's text.
        detail: String,
    },
    /// OneSignal refuses the content; repeating it does not help.
    Refused {
        /// OneSignal's text.
        detail: String,
    },
    /// The app's key is refused, or the app can't be called at all.
    AppUnusable {
        /// OneSignal's text.
        detail: String,
    },
    /// Too many calls, for this user or for the app: nothing was written.
    RateLimited {
        /// The delay that OneSignal asks for.
        retry_after: Option<Duration>,
    },
    /// No connection: nothing was written.
    NotConnected {
        /// The cause.
        detail: String,
    },
    /// It may have been written.
    Ambiguous {
        /// The cause.
        detail: String,
    },
}

impl UserAnswer {
    /// The code as it is stored and shown.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Done { .. } => "done",
            Self::UnknownUser => "unknown_user",
            Self::AliasConflict { .. } => "alias_conflict",
            Self::TagLimit { .. } => "tag_limit",
            Self::SubscriptionLimit { .. } => "subscription_limit",
            Self::Refused { .. } => "refused",
            Self::AppUnusable { .. } => "app_unusable",
            Self::RateLimited { .. } => "rate_limited",
            Self::NotConnected { .. } => "not_connected",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }

    /// OneSignal's text, or the cause; empty if there is nothing to say.
    pub fn detail(&self) -> &str {
        match self {
            Self::AliasConflict { detail }
            | Self::TagLimit { detail }
            | Self::SubscriptionLimit { detail }
            | Self::Refused { detail }
            | Self::AppUnusable { detail }
            | Self::NotConnected { detail }
            | Self::Ambiguous { detail } => detail,
            Self::Done { .. } | Self::UnknownUser | Self::RateLimited { .. } => "",
        }
    }
}
