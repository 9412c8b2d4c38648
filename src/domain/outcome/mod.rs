//! Outcomes: what a device, a mailbox or a carrier did with a message.
//!
//! Reports arrive late, repeatedly and in any order, so facts are merged: each value is the least or the greatest of
//! those reported. The delivery status has ranks and is computed from the set of kinds; engagement is a set.

mod counts;
mod report;

use std::collections::BTreeMap;

use super::channel::Channel;
use super::clock::Timestamp;

pub use counts::{Counts, SOON, WINDOW};
pub use report::{Report, masked};

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutcomeKind {
    /// Apple, Google, the mail server or the carrier accepted it.
    Sent,
    /// It was not sent, because the address is on OneSignal's suppression list.
    Suppressed,
    /// It could not be delivered; later messages may be.
    Failed,
    /// The device or the mailbox confirmed it.
    Delivered,
    /// The mailbox does not exist, permanently.
    Bounced,
    /// It was opened.
    Opened,
    /// A link in it, or the notification itself, was clicked.
    Clicked,
    /// The recipient unsubscribed.
    Unsubscribed,
    /// The recipient reported it as spam.
    Complained,
    /// A kind that this version does not know, as it was reported.
    Other(String),
}

/// Known kinds with OneSignal's names for them, old spellings included.
const NAMES: [(OutcomeKind, &[&str]); 9] = [
    (OutcomeKind::Sent, &["sent"]),
    (OutcomeKind::Suppressed, &["suppressed", "supressed"]),
    (OutcomeKind::Failed, &["failed", "undelivered"]),
    (OutcomeKind::Delivered, &["delivered", "received"]),
    (OutcomeKind::Bounced, &["bounced", "hardbounced"]),
    (OutcomeKind::Opened, &["opened"]),
    (OutcomeKind::Clicked, &["clicked"]),
    (OutcomeKind::Unsubscribed, &["unsubscribed"]),
    (OutcomeKind::Complained, &["reported_as_spam", "reportedasspam", "resporedasspam", "complained"]),
];

impl OutcomeKind {
    /// The name in Postgres and in the API.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Sent => "sent",
            Self::Suppressed => "suppressed",
            Self::Failed => "failed",
            Self::Delivered => "delivered",
            Self::Bounced => "bounced",
            Self::Opened => "opened",
            Self::Clicked => "clicked",
            Self::Unsubscribed => "unsubscribed",
            Self::Complained => "complained",
            Self::Other(name) => name,
        }
    }

    /// The kind of a name that [`OutcomeKind::as_str`] returned.
    pub fn from_name(name: &str) -> Self {
        let known = NAMES.into_iter().find(|(kind, _)| kind.as_str() == name);
        known.map_or_else(|| Self::Other(name.to_owned()), |(kind, _)| kind)
    }

    /// Parses a kind of Event Streams, such as `message.push.received`, into its channel and what happened.
    pub fn of_stream(kind: &str) -> (String, Self) {
        let lower = kind.trim().to_ascii_lowercase();
        let rest = lower.strip_prefix("message.").unwrap_or(&lower);
        let (channel, what) = rest.split_once('.').unwrap_or(("", rest));
        let is_ours = channel.parse::<Channel>().is_ok();
        let known = NAMES.into_iter().find(|(_, names)| is_ours && names.contains(&what));
        let kind = known.map_or_else(|| Self::Other(lower.clone()), |(kind, _)| kind);
        (channel.to_owned(), kind)
    }

    /// Why a person gets no further messages on a channel after this, if that is so. A device that unsubscribes from
    /// push is not the person: OneSignal stops sending to that device.
    pub fn ends_channel(&self, channel: Channel) -> Option<&'static str> {
        match (self, channel) {
            (Self::Bounced, Channel::Email) => Some("bounced"),
            (Self::Suppressed, Channel::Email) => Some("suppressed"),
            (Self::Complained, Channel::Email) => Some("complained"),
            (Self::Unsubscribed, Channel::Email | Channel::Sms) => Some("unsubscribed"),
            (
                Self::Sent
                | Self::Suppressed
                | Self::Failed
                | Self::Delivered
                | Self::Bounced
                | Self::Opened
                | Self::Clicked
                | Self::Unsubscribed
                | Self::Complained
                | Self::Other(_),
                _,
            ) => None,
        }
    }
}

/// When and how one kind of outcome was reported for one device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fact {
    /// The earliest time.
    pub first_at: Timestamp,
    /// The latest time.
    pub last_at: Timestamp,
    /// The type of the device; empty if it is unknown.
    pub device: String,
    /// The reason of a failure; empty if there is none.
    pub reason: String,
}

impl Fact {
    /// Adds what another report says. Commutative, associative and idempotent.
    pub fn merge(&mut self, other: Self) {
        self.first_at = self.first_at.min(other.first_at);
        self.last_at = self.last_at.max(other.last_at);
        // Of different texts, the greater one: any fixed choice will do.
        self.device = std::mem::take(&mut self.device).max(other.device);
        self.reason = std::mem::take(&mut self.reason).max(other.reason);
    }
}

/// A device or mailbox, and what happened there.
pub type Place = (String, OutcomeKind);

/// Everything that is known about one person's copies of a message, by subscription and kind.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Facts(BTreeMap<Place, Fact>);

impl Facts {
    /// Adds a fact. Returns whether it was the first of its kind on that device, or changed what was known.
    pub fn add(&mut self, place: Place, fact: Fact) -> Added {
        match self.0.entry(place) {
            std::collections::btree_map::Entry::Vacant(free) => {
                free.insert(fact);
                Added::New
            }
            std::collections::btree_map::Entry::Occupied(mut known) => {
                let before = known.get().clone();
                known.get_mut().merge(fact);
                if *known.get() == before { Added::Nothing } else { Added::More }
            }
        }
    }

    /// The facts, by subscription and kind.
    pub fn iter(&self) -> impl Iterator<Item = (&Place, &Fact)> {
        self.0.iter()
    }

    /// The kinds of each device, with their facts.
    fn devices(&self) -> BTreeMap<&str, BTreeMap<&OutcomeKind, &Fact>> {
        let mut devices: BTreeMap<&str, BTreeMap<&OutcomeKind, &Fact>> = BTreeMap::new();
        for ((subscription, kind), fact) in &self.0 {
            devices.entry(subscription).or_default().insert(kind, fact);
        }
        devices
    }

    /// The delivery status: the best of the person's devices.
    pub fn status(&self) -> Option<Status> {
        self.devices().values().filter_map(|kinds| status_of(kinds.keys().copied())).max()
    }

    /// Whether none of the devices can confirm a delivery.
    pub fn is_unmeasurable(&self) -> bool {
        !self.0.is_empty() && self.0.values().all(|fact| !confirms(&fact.device))
    }
}

impl FromIterator<(Place, Fact)> for Facts {
    fn from_iter<I: IntoIterator<Item = (Place, Fact)>>(facts: I) -> Self {
        let mut all = Self::default();
        for (place, fact) in facts {
            all.add(place, fact);
        }
        all
    }
}

/// What adding a fact changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Added {
    /// The kind is new on that device.
    New,
    /// Times or texts changed.
    More,
    /// Nothing.
    Nothing,
}

/// How far a message came; the order is the one among several devices of a person.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Status {
    /// Not sent: the address is on the suppression list.
    Suppressed,
    /// Permanently undeliverable.
    Bounced,
    /// Not delivered.
    Failed,
    /// Accepted by Apple, Google, the mail server or the carrier.
    Sent,
    /// Confirmed.
    Delivered,
}

impl Status {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Suppressed => "suppressed",
            Self::Bounced => "bounced",
            Self::Failed => "failed",
            Self::Sent => "sent",
            Self::Delivered => "delivered",
        }
    }
}

/// The status of one device. A bounce can follow a delivery to the mail server, and is final; a device that answered
/// has received it, whatever was reported besides.
fn status_of<'a>(kinds: impl Iterator<Item = &'a OutcomeKind>) -> Option<Status> {
    let rank = |kind: &OutcomeKind| match kind {
        OutcomeKind::Sent => Some((1, Status::Sent)),
        OutcomeKind::Suppressed => Some((2, Status::Suppressed)),
        OutcomeKind::Failed => Some((3, Status::Failed)),
        OutcomeKind::Delivered
        | OutcomeKind::Opened
        | OutcomeKind::Clicked
        | OutcomeKind::Unsubscribed
        | OutcomeKind::Complained => Some((4, Status::Delivered)),
        OutcomeKind::Bounced => Some((5, Status::Bounced)),
        OutcomeKind::Other(_) => None,
    };
    kinds.filter_map(rank).max_by_key(|(rank, _)| *rank).map(|(_, status)| status)
}

/// Whether devices of this type can confirm that a message arrived. Safari has no service for it, and Huawei confirms
/// messages of one kind only. Others do if the app is set up for it.
pub fn confirms(device: &str) -> bool {
    let device = device.to_ascii_lowercase();
    !["safari", "huawei"].iter().any(|cannot| device.contains(cannot))
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        "2026-11-24T10:00:00Z".parse::<Timestamp>().unwrap() + TimeDelta::seconds(seconds)
    }

    fn report(kind: OutcomeKind, subscription: &str, seconds: i64) -> (Place, Fact) {
        let fact = Fact {
            first_at: at(seconds),
            last_at: at(seconds),
            device: if seconds % 2 == 0 { "iOS".to_owned() } else { String::new() },
            reason: if kind == OutcomeKind::Failed { format!("reason {seconds}") } else { String::new() },
        };
        ((subscription.to_owned(), kind), fact)
    }

    fn eight() -> Vec<(Place, Fact)> {
        vec![
            report(OutcomeKind::Sent, "a", 0),
            report(OutcomeKind::Failed, "a", 1),
            report(OutcomeKind::Failed, "a", 2),
            report(OutcomeKind::Sent, "b", 0),
            report(OutcomeKind::Delivered, "b", 3),
            report(OutcomeKind::Clicked, "b", 4),
            report(OutcomeKind::Clicked, "b", 9),
            report(OutcomeKind::Other("message.push.teleported".to_owned()), "b", 5),
        ]
    }

    #[test]
    fn every_order_of_eight_reports_gives_the_same_facts() {
        let all = eight();
        let wanted: Facts = all.iter().cloned().collect();
        let mut order: Vec<usize> = (0..8).collect();
        let mut tried = 0;
        permute(&mut order, 0, &mut |order| {
            let found: Facts = order.iter().map(|place| all[*place].clone()).collect();
            assert_eq!(found, wanted);
            tried += 1;
        });
        assert_eq!(tried, 40_320);
    }

    fn permute(order: &mut Vec<usize>, from: usize, check: &mut impl FnMut(&[usize])) {
        if from == order.len() {
            return check(order);
        }
        for other in from..order.len() {
            order.swap(from, other);
            permute(order, from + 1, check);
            order.swap(from, other);
        }
    }

    proptest! {
        #[test]
        fn repeats_in_any_order_change_neither_facts_nor_counts(picks in prop::collection::vec(0..8_usize, 8..40)) {
            let all = eight();
            let wanted: Facts = all.iter().cloned().collect();
            let found: Facts = picks.into_iter().chain(0..8).map(|place| all[place].clone()).collect();
            prop_assert_eq!(Counts::of(&found, at(0)), Counts::of(&wanted, at(0)));
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_later_sent_does_not_undo_a_delivery_and_a_bounce_is_final() {
        let status = |kinds: &[OutcomeKind]| status_of(kinds.iter());
        assert_eq!(status(&[OutcomeKind::Delivered, OutcomeKind::Sent]), Some(Status::Delivered));
        assert_eq!(status(&[OutcomeKind::Failed, OutcomeKind::Sent]), Some(Status::Failed));
        assert_eq!(status(&[OutcomeKind::Failed, OutcomeKind::Clicked]), Some(Status::Delivered));
        assert_eq!(status(&[OutcomeKind::Delivered, OutcomeKind::Bounced]), Some(Status::Bounced));
        assert_eq!(status(&[OutcomeKind::Other("x".to_owned())]), None);
    }

    #[test]
    fn one_delivered_and_two_failed_devices_are_one_person_who_was_reached() {
        let facts: Facts = [
            report(OutcomeKind::Sent, "a", 0),
            report(OutcomeKind::Delivered, "a", 2),
            report(OutcomeKind::Failed, "b", 1),
            report(OutcomeKind::Failed, "c", 1),
        ]
        .into_iter()
        .collect();
        let counts = Counts::of(&facts, at(0));
        assert_eq!(facts.status(), Some(Status::Delivered));
        assert_eq!((counts.delivered, counts.failed, counts.devices, counts.devices_delivered), (1, 0, 3, 1));
    }

    #[test]
    fn old_spellings_are_known_and_new_kinds_are_kept() {
        for (kind, wanted) in [
            ("message.push.received", OutcomeKind::Delivered),
            ("message.sms.undelivered", OutcomeKind::Failed),
            ("message.email.hardbounced", OutcomeKind::Bounced),
            ("message.email.supressed", OutcomeKind::Suppressed),
            ("message.email.resporedasspam", OutcomeKind::Complained),
            ("Message.Email.Opened ", OutcomeKind::Opened),
        ] {
            assert_eq!(OutcomeKind::of_stream(kind).1, wanted, "{kind}");
        }
        for unknown in ["message.iam.displayed", "message.push.teleported", "", "sent"] {
            assert_eq!(
                OutcomeKind::of_stream(unknown).1,
                OutcomeKind::Other(unknown.to_owned()),
                "{unknown}"
            );
        }
    }

    #[test]
    fn every_name_is_read_back() {
        for (kind, _) in NAMES {
            assert_eq!(OutcomeKind::from_name(kind.as_str()), kind);
        }
    }
}
