//! What is known about recipients when an event is planned.

use std::collections::{BTreeSet, HashMap};

use super::channel::Channel;
use super::event::Recipient;

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

impl FromIterator<(Recipient, RecipientFacts)> for Facts {
    fn from_iter<I: IntoIterator<Item = (Recipient, RecipientFacts)>>(known: I) -> Self {
        Self { known: known.into_iter().collect() }
    }
}
