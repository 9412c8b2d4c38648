//! Recipient actions: open, click, bounce.

use std::collections::{HashMap, HashSet};

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::message::Channel;
use crate::domain::clock::Timestamp;

/// Maximum stored actions per message.
const KEPT: usize = 20_000;

/// An action of a recipient, their mailbox or their carrier.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum RecipientAction {
    Open,
    Click,
    /// The mailbox does not exist, or the number doesn't.
    Bounce,
    /// It could not be brought to the device.
    Fail,
    ReportSpam,
    Unsubscribe,
    Subscribe,
}

impl RecipientAction {
    /// All of them, in the order in which the inbox offers them.
    pub(super) const ALL: [Self; 7] = [
        Self::Open,
        Self::Click,
        Self::Bounce,
        Self::Fail,
        Self::ReportSpam,
        Self::Unsubscribe,
        Self::Subscribe,
    ];

    /// Its name in paths.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Click => "click",
            Self::Bounce => "bounce",
            Self::Fail => "fail",
            Self::ReportSpam => "report_spam",
            Self::Unsubscribe => "unsubscribe",
            Self::Subscribe => "subscribe",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|deed| deed.name() == text)
    }

    /// Whether it is possible for a message of this channel.
    pub(super) fn fits(self, channel: Channel) -> bool {
        match self {
            Self::Open | Self::Bounce | Self::ReportSpam => channel == Channel::Email,
            Self::Click => channel != Channel::Sms,
            Self::Fail | Self::Unsubscribe | Self::Subscribe => true,
        }
    }

    /// Its name in Event Streams: the end of `message.push.clicked`; `None` if there is no event.
    pub(super) fn event(self, channel: Channel) -> Option<&'static str> {
        match self {
            Self::Open => Some("opened"),
            Self::Click => Some("clicked"),
            Self::Bounce => Some("bounced"),
            Self::Fail if channel == Channel::Sms => Some("undelivered"),
            Self::Fail => Some("failed"),
            Self::ReportSpam => Some("reported_as_spam"),
            Self::Unsubscribe => (channel != Channel::Sms).then_some("unsubscribed"),
            Self::Subscribe => None,
        }
    }

    /// Why it failed, unless something else is given; empty if it is no failure.
    pub(super) fn usual_reason(self) -> &'static str {
        match self {
            Self::Bounce => "550 5.1.1 mailbox unknown",
            Self::Fail => "device not reachable",
            Self::Open | Self::Click | Self::ReportSpam | Self::Unsubscribe | Self::Subscribe => "",
        }
    }

    /// The new state of the subscription; `None`: unchanged.
    pub(super) fn switches(self) -> Option<bool> {
        match self {
            Self::Subscribe => Some(true),
            Self::Unsubscribe | Self::Bounce | Self::ReportSpam => Some(false),
            Self::Open | Self::Click | Self::Fail => None,
        }
    }
}

/// One deed of one recipient with one message.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Act {
    pub message: Uuid,
    /// The recipient's place in the message.
    pub place: usize,
    pub deed: RecipientAction,
    pub at: Timestamp,
}

/// Actions of stored messages.
#[derive(Debug, Default)]
pub(super) struct Acts(HashMap<Uuid, Vec<Act>>);

impl Acts {
    pub(super) fn add(&mut self, act: Act) {
        let of_message = self.0.entry(act.message).or_default();
        if of_message.len() < KEPT {
            of_message.push(act);
        }
    }

    pub(super) fn of(&self, message: Uuid) -> &[Act] {
        self.0.get(&message).map_or(&[], Vec::as_slice)
    }

    pub(super) fn forget(&mut self, message: Uuid) {
        self.0.remove(&message);
    }

    pub(super) fn clear(&mut self) {
        self.0.clear();
    }

    pub(super) fn all(&self) -> impl Iterator<Item = &Act> {
        self.0.values().flatten()
    }

    /// How many recipients did it: each counts once.
    pub(super) fn people(&self, message: Uuid, deed: RecipientAction) -> usize {
        let did = self.of(message).iter().filter(|act| act.deed == deed).map(|act| act.place);
        did.collect::<HashSet<_>>().len()
    }

    /// How often it was done.
    pub(super) fn times(&self, message: Uuid, deed: RecipientAction) -> usize {
        self.of(message).iter().filter(|act| act.deed == deed).count()
    }
}
