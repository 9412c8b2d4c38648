//! Who exists, and where each can be reached.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::json::Object;
use super::message::{Channel, Recipient};

/// Ids that OneSignal gives to nobody.
const BLOCKED_EXTERNAL_IDS: [&str; 9] =
    ["", "null", "NULL", "NA", "undefined", "0", "-1", "all", "00000000-0000-0000-0000-000000000000"];

/// A person made known with `POST /_sandbox/users`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Person {
    pub external_id: Option<String>,
    #[serde(default)]
    pub aliases: BTreeMap<String, String>,
    /// Made from the other ids when it is not given.
    #[serde(default)]
    pub onesignal_id: Option<Uuid>,
    /// Absent: subscribed on every channel. Empty: on none.
    pub subscriptions: Option<Vec<Subscription>>,
    #[serde(default)]
    pub tags: Object,
    pub language: Option<String>,
    pub timezone_id: Option<String>,
}

/// Where a person can be reached, or no longer wants to be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Subscription {
    /// A channel, or one of OneSignal's types: `Email`, `SMS`, `iOSPush` …
    #[serde(rename = "type")]
    pub channel: Channel,
    /// The address; for push, the device's token.
    pub token: Option<String>,
    #[serde(default = "enabled")]
    pub enabled: bool,
    pub id: Option<Uuid>,
}

fn enabled() -> bool {
    true
}

/// Whether a target gets the message.
#[derive(Debug, PartialEq)]
pub(super) enum Reach {
    /// It does.
    Reached(Recipient),
    /// It exists, but not subscribed on the channel: OneSignal lists it in `errors`.
    Unsubscribed,
    /// It does not exist: OneSignal drops it without mention.
    Unknown,
}

impl Person {
    /// Fills in what may be left out, and says what is wrong with the rest.
    pub(super) fn complete(mut self) -> Result<Self, String> {
        if self.external_id.is_none() && self.aliases.is_empty() {
            return Err("a person needs an `external_id` or one of `aliases`".to_owned());
        }
        if let Some(id) = self.external_id.as_deref().filter(|id| BLOCKED_EXTERNAL_IDS.contains(id)) {
            return Err(format!("`{id}` is an external id that OneSignal gives to nobody"));
        }
        let seed = format!("{:?}{:?}", self.external_id, self.aliases);
        self.onesignal_id.get_or_insert_with(|| made_up_uuid("onesignal_id", &seed));
        for (n, subscription) in self.subscriptions.iter_mut().flatten().enumerate() {
            if subscription.channel != Channel::Push && subscription.token.is_none() {
                return Err("an email or SMS subscription needs its address as `token`".to_owned());
            }
            subscription.id.get_or_insert_with(|| made_up_uuid("subscription", &format!("{seed}{n}")));
        }
        Ok(self)
    }

    /// The subscription that a message on `channel` goes to; with `also_disabled`, one that is switched off too.
    pub(super) fn subscription(&self, channel: Channel, also_disabled: bool) -> Option<&Subscription> {
        let of_channel = || self.subscriptions.iter().flatten().filter(move |sub| sub.channel == channel);
        of_channel().find(|sub| sub.enabled).or_else(|| of_channel().find(|_| also_disabled))
    }

    fn reach(self: &Arc<Self>, label: &str, id: &str, channel: Channel, also_disabled: bool) -> Reach {
        if self.subscriptions.is_some() && self.subscription(channel, also_disabled).is_none() {
            return Reach::Unsubscribed;
        }
        Reach::Reached(Recipient { label: label.to_owned(), id: id.to_owned(), person: Some(self.clone()) })
    }

    /// Every name that the person can be found by.
    fn names(&self) -> Vec<(String, String)> {
        let external = self.external_id.iter().map(|id| ("external_id".to_owned(), id.clone()));
        let onesignal = self.onesignal_id.iter().map(|id| ("onesignal_id".to_owned(), id.to_string()));
        let aliases = self.aliases.iter().map(|(label, id)| (label.clone(), id.clone()));
        let subscriptions = self.subscriptions.iter().flatten().flat_map(|sub| {
            let id = sub.id.map(|id| ("subscription_id".to_owned(), id.to_string()));
            id.into_iter().chain(
                sub.token.clone().and_then(|token| Some((sub.channel.address_label()?.to_owned(), token))),
            )
        });
        external.chain(onesignal).chain(aliases).chain(subscriptions).collect()
    }
}

/// The same UUID for the same name, so that a person keeps it through a restart.
pub(super) fn made_up_uuid(kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("sandbox:{kind}:{name}").as_bytes())
}

/// Everybody who was made known, by each of their names.
#[derive(Debug, Default)]
pub(super) struct People {
    by_name: HashMap<(String, String), u64>,
    known: BTreeMap<u64, Arc<Person>>,
    added: u64,
}

impl People {
    /// Adds a person, in place of the one with the same `external_id` or, without one, any same alias. A name that
    /// somebody else had moves to the new one.
    pub(super) fn put(&mut self, person: Arc<Person>) {
        let own = person.external_id.iter().map(|id| ("external_id".to_owned(), id.clone()));
        let aliases = person.aliases.iter().map(|(label, id)| (label.clone(), id.clone()));
        let earlier = own.chain(aliases).find_map(|name| self.by_name.get(&name).copied());
        if let Some(replaced) = earlier.and_then(|number| self.known.remove(&number).map(|_| number)) {
            self.by_name.retain(|_, number| *number != replaced);
        }
        self.added += 1;
        for name in person.names() {
            self.by_name.insert(name, self.added);
        }
        self.known.insert(self.added, person);
    }

    /// Everybody, in the order in which they were made known.
    pub(super) fn all(&self) -> impl Iterator<Item = &Arc<Person>> {
        self.known.values()
    }

    /// Whether nobody was made known.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// What becomes of one target. `strict`: nobody exists but who was made known.
    pub(super) fn reach(
        &self,
        label: &str,
        id: &str,
        channel: Channel,
        also_disabled: bool,
        strict: bool,
    ) -> Reach {
        let name = (label.to_owned(), id.to_owned());
        if let Some(person) = self.by_name.get(&name).and_then(|number| self.known.get(number)) {
            return person.reach(label, id, channel, also_disabled);
        }
        // An address that nobody has becomes a new subscription at OneSignal.
        let is_address = channel.address_label() == Some(label);
        if (strict && !is_address) || (label == "external_id" && BLOCKED_EXTERNAL_IDS.contains(&id)) {
            return Reach::Unknown;
        }
        Reach::Reached(Recipient::made_up(label, id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn person(json: &str) -> Arc<Person> {
        Arc::new(serde_json::from_str::<Person>(json).unwrap().complete().unwrap())
    }

    fn reached(reach: &Reach) -> bool {
        matches!(reach, Reach::Reached(_))
    }

    #[test]
    fn a_person_is_found_by_every_name_and_only_where_subscribed() {
        let mut people = People::default();
        people.put(person(
            r#"{"external_id":"u1","aliases":{"crm":"9"},"subscriptions":[
                {"type":"Email","token":"a@b.c"},{"type":"iOSPush","enabled":false}]}"#,
        ));
        for (label, id) in [("external_id", "u1"), ("crm", "9"), ("email", "a@b.c")] {
            assert!(reached(&people.reach(label, id, Channel::Email, false, true)), "{label}");
            assert_eq!(people.reach(label, id, Channel::Push, false, true), Reach::Unsubscribed, "{label}");
        }
        assert!(
            reached(&people.reach("crm", "9", Channel::Push, true, true)),
            "switched off, but wanted all the same"
        );
        assert_eq!(people.reach("crm", "9", Channel::Sms, true, true), Reach::Unsubscribed);
    }

    #[test]
    fn strangers_exist_unless_strict_or_blocked() {
        let people = People::default();
        assert!(reached(&people.reach("external_id", "u1", Channel::Push, false, false)));
        assert_eq!(people.reach("external_id", "u1", Channel::Push, false, true), Reach::Unknown);
        assert_eq!(people.reach("external_id", "undefined", Channel::Push, false, false), Reach::Unknown);
        assert!(
            reached(&people.reach("email", "new@b.c", Channel::Email, false, true)),
            "a new subscription"
        );
    }

    #[test]
    fn a_person_made_known_again_replaces_the_first_form() {
        let mut people = People::default();
        people.put(person(r#"{"external_id":"u1","aliases":{"crm":"9"}}"#));
        people.put(person(r#"{"external_id":"u1","subscriptions":[]}"#));
        assert_eq!(people.all().count(), 1);
        assert_eq!(people.reach("external_id", "u1", Channel::Push, false, false), Reach::Unsubscribed);
        assert_eq!(people.reach("crm", "9", Channel::Push, false, true), Reach::Unknown, "the alias is gone");
    }
}
