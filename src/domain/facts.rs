//! What is known about recipients when an event is planned.

use std::collections::{BTreeMap, HashMap};

use serde::Deserialize;

use super::channel::Channel;
use super::decision::{Decision, DecisionCode};
use super::event::Recipient;
use super::user::Changes;

/// Why a person gets no messages on a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OptOutReason {
    /// They, or someone for them, said so.
    Preference,
    /// They unsubscribed at OneSignal.
    Unsubscribed,
    /// They reported a message as spam.
    Complained,
    /// A message bounced permanently.
    Bounced,
    /// OneSignal has the address on its suppression list.
    Suppressed,
}

impl OptOutReason {
    /// The name in decisions.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Preference => "preference",
            Self::Unsubscribed => "unsubscribed",
            Self::Complained => "complained",
            Self::Bounced => "bounced",
            Self::Suppressed => "suppressed",
        }
    }

    /// The decision that no message is sent on this channel.
    pub fn decision(self, channel: Channel) -> Decision {
        let detail = match self {
            Self::Preference => format!("the person opted out of {channel}"),
            Self::Unsubscribed => format!("the person unsubscribed from {channel}, as OneSignal reported"),
            Self::Complained => format!("the person reported {channel} as spam, as OneSignal reported"),
            Self::Bounced => format!("{channel} to the person bounced permanently, as OneSignal reported"),
            Self::Suppressed => format!("OneSignal suppresses {channel} to the person"),
        };
        Decision::new(DecisionCode::OptedOut, detail).with("reason", self.as_str())
    }
}

/// What is known of one person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientFacts {
    /// The locale they read.
    pub locale: Option<String>,
    /// The time zone they live in, by its IANA name.
    pub time_zone: Option<String>,
    /// Channels on which they get no messages, each with its reason.
    pub opted_out: BTreeMap<Channel, OptOutReason>,
    /// They were erased.
    pub is_erased: bool,
}

/// What an event says about one of its recipients.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenFacts {
    /// The person.
    pub recipient: Recipient,
    /// What is to be written to OneSignal. Subscriptions are named by type and token; they are stored under a hash.
    pub changes: Changes,
    /// The locale that they read.
    pub locale: Option<String>,
    /// Their time zone's IANA name.
    pub time_zone: Option<String>,
}

/// What is known about the recipients of an event; most are unknown, which is fine.
#[derive(Debug, Clone, Default)]
pub struct Facts {
    known: HashMap<Recipient, RecipientFacts>,
}

impl Facts {
    /// What is known of this person, if anything.
    pub fn of(&self, recipient: &Recipient) -> Option<&RecipientFacts> {
        if self.known.is_empty() {
            return None;
        }
        self.known.get(recipient)
    }
}

impl Facts {
    /// Whether this person was erased.
    pub fn is_erased(&self, recipient: &Recipient) -> bool {
        self.of(recipient).is_some_and(|facts| facts.is_erased)
    }

    /// The same, with what an event says itself.
    #[must_use]
    pub fn with(&self, given: &[GivenFacts]) -> Self {
        let mut all = self.clone();
        for facts in given {
            let known = all.known.entry(facts.recipient.clone()).or_default();
            known.locale = facts.locale.clone().or(known.locale.take());
            known.time_zone = facts.time_zone.clone().or(known.time_zone.take());
        }
        all
    }
}

impl FromIterator<(Recipient, RecipientFacts)> for Facts {
    fn from_iter<I: IntoIterator<Item = (Recipient, RecipientFacts)>>(known: I) -> Self {
        Self { known: known.into_iter().collect() }
    }
}
