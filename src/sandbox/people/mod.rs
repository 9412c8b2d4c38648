//! An app's users and their subscriptions.

mod kinds;
mod person;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use uuid::Uuid;

use super::message::{Channel, Recipient};
pub(super) use kinds::Kind;
pub(super) use person::{BLOCKED_EXTERNAL_IDS, Person, Subscription, token_label};

/// A label and the id under it: an alias, a subscription's id or its token.
pub(super) type Name = (String, String);

/// Maximum remembered deleted users, which must not exist implicitly.
const GONE_KEPT: usize = 100_000;

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

/// The same UUID for the same name, so that a person keeps it through a restart.
pub(super) fn made_up_uuid(kind: &str, name: &str) -> Uuid {
    Uuid::new_v5(&Uuid::NAMESPACE_URL, format!("sandbox:{kind}:{name}").as_bytes())
}

/// An app's users, by each of their names.
#[derive(Debug, Default)]
pub(super) struct People {
    by_name: HashMap<Name, u64>,
    known: BTreeMap<u64, Arc<Person>>,
    added: u64,
    /// The names of the deleted, and the order in which they went.
    gone: HashSet<Name>,
    gone_ages: VecDeque<Name>,
}

impl People {
    /// Adds a person, in place of the one with the same `onesignal_id`, `external_id` or, without one, any same alias.
    /// A name that somebody else had moves to the new one. `max`: the oldest make room above it.
    pub(super) fn put(&mut self, person: Arc<Person>, max: usize) {
        let identity = person.identity();
        let by = |label: &str| Some((label.to_owned(), identity.get(label)?.clone()));
        let first = ["onesignal_id", "external_id"].into_iter().filter_map(by);
        let aliases = person.aliases.iter().map(|(label, id)| (label.clone(), id.clone()));
        let earlier = first.chain(aliases).find_map(|name| self.by_name.get(&name).copied());
        let number = earlier.unwrap_or(self.added + 1);
        self.remove(number);
        self.added = self.added.max(number);
        for name in person.names() {
            self.gone.remove(&name);
            self.by_name.insert(name, number);
        }
        self.known.insert(number, person);
        while self.known.len() > max.max(1) {
            let Some(oldest) = self.known.first_key_value().map(|(number, _)| *number) else { break };
            self.remove(oldest);
        }
    }

    /// Takes the person with these names out, and remembers that they are gone.
    pub(super) fn forget(&mut self, names: Vec<Name>) {
        if let Some(number) = names.iter().find_map(|name| self.by_name.get(name).copied()) {
            self.remove(number);
        }
        for name in names {
            if self.gone.insert(name.clone()) {
                self.gone_ages.push_back(name);
            }
        }
        while self.gone_ages.len() > GONE_KEPT {
            let Some(oldest) = self.gone_ages.pop_front() else { break };
            self.gone.remove(&oldest);
        }
    }

    /// Names of deleted users.
    pub(super) fn gone(&self) -> impl Iterator<Item = &Name> {
        self.gone.iter()
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Person>> {
        let person = self.known.remove(&number)?;
        for name in person.names() {
            if self.by_name.get(&name) == Some(&number) {
                self.by_name.remove(&name);
            }
        }
        Some(person)
    }

    /// The person with this name.
    pub(super) fn find(&self, label: &str, id: &str) -> Option<&Arc<Person>> {
        self.known.get(self.by_name.get(&(label.to_owned(), id.to_owned()))?)
    }

    /// Whether the user was deleted and not created again.
    pub(super) fn is_gone(&self, label: &str, id: &str) -> bool {
        self.gone.contains(&(label.to_owned(), id.to_owned()))
    }

    /// All users, in order of creation.
    pub(super) fn all(&self) -> impl DoubleEndedIterator<Item = &Arc<Person>> {
        self.known.values()
    }

    /// Whether there are no explicit users.
    pub(super) fn is_empty(&self) -> bool {
        self.known.is_empty()
    }

    /// Number of enabled subscriptions, which determines the volume limit.
    pub(super) fn subscribed(&self) -> usize {
        self.all().map(|person| person.subscribed()).sum()
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
        if let Some(person) = self.find(label, id) {
            return person.reach(label, id, channel, also_disabled);
        }
        // An address that nobody has becomes a new subscription at OneSignal.
        let is_address = channel.address_label() == Some(label);
        let never = strict || self.is_gone(label, id);
        if (never && !is_address) || (label == "external_id" && BLOCKED_EXTERNAL_IDS.contains(&id)) {
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
        let it = person(
            r#"{"external_id":"u1","aliases":{"crm":"9"},"subscriptions":[
                {"type":"Email","token":"a@b.c"},{"type":"iOSPush","enabled":false}]}"#,
        );
        people.put(it, 10);
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
        people.put(person(r#"{"external_id":"u1","aliases":{"crm":"9"}}"#), 10);
        people.put(person(r#"{"external_id":"u1","subscriptions":[]}"#), 10);
        assert_eq!(people.all().count(), 1);
        assert_eq!(people.reach("external_id", "u1", Channel::Push, false, false), Reach::Unsubscribed);
        assert_eq!(people.reach("crm", "9", Channel::Push, false, true), Reach::Unknown, "the alias is gone");
    }

    #[test]
    fn the_deleted_are_not_made_up_again_until_somebody_makes_them_known() {
        let mut people = People::default();
        let ann = person(r#"{"external_id":"u1"}"#);
        people.put(ann.clone(), 10);
        people.forget(ann.names());
        assert_eq!(people.reach("external_id", "u1", Channel::Push, false, false), Reach::Unknown);
        people.put(ann, 10);
        assert!(reached(&people.reach("external_id", "u1", Channel::Push, false, false)));
    }

    #[test]
    fn the_oldest_people_make_room_for_the_newest() {
        let mut people = People::default();
        for n in 0..5 {
            people.put(person(&format!(r#"{{"external_id":"u{n}"}}"#)), 2);
        }
        let kept: Vec<_> = people.all().filter_map(|person| person.external_id.as_deref()).collect();
        assert_eq!(kept, ["u3", "u4"]);
        assert!(people.find("external_id", "u0").is_none());
    }

    #[test]
    fn somebody_reached_everywhere_keeps_their_own_choice_on_a_channel() {
        let mut people = People::default();
        let mut ann = Person::clone(&person(r#"{"external_id":"u1"}"#));
        ann.subscriptions_mut()
            .push(serde_json::from_str(r#"{"type":"Email","token":"a@b.c","enabled":false}"#).unwrap());
        people.put(Arc::new(ann), 10);
        assert!(reached(&people.reach("external_id", "u1", Channel::Push, false, true)));
        assert_eq!(people.reach("external_id", "u1", Channel::Email, false, true), Reach::Unsubscribed);
    }
}
