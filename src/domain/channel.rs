//! Channels and priorities.

use serde::{Deserialize, Serialize};

/// The maximum text size of a push in bytes, title and links included: Apple and Google deliver about 4 KB.
pub const PUSH_BYTES: usize = 4_096;

/// Where a message appears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Channel {
    /// A push notification on any platform.
    Push,
    /// An email.
    Email,
    /// A text message.
    Sms,
}

impl Channel {
    /// Every channel.
    pub const ALL: [Self; 3] = [Self::Push, Self::Email, Self::Sms];

    /// Its name in the API, in Postgres and as OneSignal's `target_channel`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Push => "push",
            Self::Email => "email",
            Self::Sms => "sms",
        }
    }

    /// OneSignal's limit for the whole serialized `custom_data`, in bytes.
    pub fn custom_data_limit(self) -> usize {
        match self {
            Self::Push | Self::Sms => 2_048,
            Self::Email => 10_000,
        }
    }
}

impl std::fmt::Display for Channel {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Channel {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "push" => Ok(Self::Push),
            "email" => Ok(Self::Email),
            "sms" => Ok(Self::Sms),
            other => Err(UnknownWord { word: other.to_owned(), known: "push, email, sms" }),
        }
    }
}

/// The priority of a delivery. Urgent ones are never delayed to fill a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Priority {
    /// One-time codes and alarms.
    Urgent,
    /// Messages that a person expects within minutes.
    Normal,
    /// Announcements to many.
    Bulk,
}

impl Priority {
    /// Every priority, most urgent first.
    pub const ALL: [Self; 3] = [Self::Urgent, Self::Normal, Self::Bulk];

    /// Its name in the API and in Postgres.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }
}

impl std::fmt::Display for Priority {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.as_str())
    }
}

impl std::str::FromStr for Priority {
    type Err = UnknownWord;
    fn from_str(word: &str) -> Result<Self, UnknownWord> {
        match word {
            "urgent" => Ok(Self::Urgent),
            "normal" => Ok(Self::Normal),
            "bulk" => Ok(Self::Bulk),
            other => Err(UnknownWord { word: other.to_owned(), known: "urgent, normal, bulk" }),
        }
    }
}

/// A word that is not one of the allowed ones.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{word}` is not one of {known}")]
pub struct UnknownWord {
    /// The word as given.
    pub word: String,
    /// The allowed ones, for the reader.
    pub known: &'static str,
}
