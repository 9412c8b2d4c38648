//! What is known about recipients when an event is planned.

use std::collections::{BTreeSet, HashMap};

use super::channel::Channel;
use super::event::Recipient;
use super::user::Changes;

/// What is known of one person.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RecipientFacts {
    /// The locale they read.
    pub locale: Option<String>,
    /// The time zone they live in, by its IANA name.
    pub time_zone: Option<String>,
    /// Channels that they opted out of.
    pub opted_out: BTreeSet<Channel>,
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
