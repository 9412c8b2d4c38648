//! Plans the next call for a user: only what changed, within OneSignal's limits, one call at a time.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::call::{Subscription, UserCall, UserFields};
use super::part::{Changes, PartKey, Property};
use super::{MAX_PROPERTIES_PER_CALL, MAX_SUBSCRIPTIONS};

/// What is known of a user at OneSignal.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// Their aliases in Herald: labels with ids.
    pub aliases: BTreeMap<String, String>,
    /// Labels of aliases that OneSignal has refused.
    pub refused_aliases: BTreeSet<String>,
    /// Parts whose value at OneSignal is the one in the changes.
    pub confirmed: BTreeSet<PartKey>,
    /// Tags that OneSignal is known to have, whatever their value.
    pub tags: BTreeSet<String>,
    /// Whether OneSignal has confirmed a write of this user.
    pub exists: bool,
    /// Whether a user that OneSignal does not know may be created.
    pub creates: bool,
    /// The maximum number of tags in one call that OneSignal is not known to have; `None`: any number.
    pub max_new_tags: Option<usize>,
}

/// The next call for a user.
#[derive(Debug, Clone, PartialEq)]
pub struct Planned {
    /// The call; `None`: nothing is left to write.
    pub call: Option<UserCall>,
    /// The parts that are confirmed once the call succeeds.
    pub covers: BTreeSet<PartKey>,
    /// Parts that are already as they should be.
    pub unchanged: BTreeSet<PartKey>,
}

/// Plans the next call. Parts that do not fit are left for the call after it.
///
/// New aliases, subscriptions, and everything about a user who may be created go into one upsert, so that a new person
/// never exists half. Properties of an existing user are an update. A removed alias is a call of its own, the last one.
pub fn next_call(changes: &Changes, known: &Known) -> Planned {
    let (unchanged, open): (BTreeSet<_>, Vec<_>) = split(changes, known);
    let mut planned = Planned { call: None, covers: BTreeSet::new(), unchanged };
    let Some(by) = name_of(known) else { return planned };
    let mut parts = Parts::collect(&open, known);
    if parts.covers.is_empty() {
        if let Some(label) = parts.removed_aliases.pop_first() {
            planned.covers = [PartKey::Alias(label.clone())].into();
            planned.call = Some(UserCall::RemoveAlias { by, label });
        }
        return planned;
    }
    let adds_identity = !parts.aliases.is_empty() || !parts.subscriptions.is_empty();
    planned.covers = std::mem::take(&mut parts.covers);
    let identity = parts.identity(known);
    planned.call = Some(if !identity.is_empty() && (adds_identity || known.creates && !known.exists) {
        UserCall::Upsert { identity, fields: parts.fields, subscriptions: parts.subscriptions }
    } else {
        UserCall::Update { by, fields: parts.fields }
    });
    planned
}

/// The alias that names the user in a call: the External ID if there is one.
fn name_of(known: &Known) -> Option<(String, String)> {
    let first = known.aliases.get_key_value("external_id").or_else(|| known.aliases.first_key_value());
    first.map(|(label, id)| (label.clone(), id.clone()))
}

/// Parts that are already as they should be, and the others.
fn split<'a>(changes: &'a Changes, known: &Known) -> (BTreeSet<PartKey>, Vec<(&'a PartKey, &'a Value)>) {
    let mut unchanged = BTreeSet::new();
    let mut open = Vec::new();
    for (key, value) in &changes.0 {
        if known.confirmed.contains(key) {
            unchanged.insert(key.clone());
        } else {
            open.push((key, value));
        }
    }
    (unchanged, open)
}

/// What one call carries.
#[derive(Default)]
struct Parts {
    aliases: BTreeMap<String, String>,
    removed_aliases: BTreeSet<String>,
    fields: UserFields,
    subscriptions: Vec<Subscription>,
    covers: BTreeSet<PartKey>,
}

impl Parts {
    fn collect(open: &[(&PartKey, &Value)], known: &Known) -> Self {
        let mut parts = Self::default();
        let mut properties = 0;
        let mut new_tags = 0;
        for (key, value) in open {
            let fits = match (key, value) {
                (PartKey::Alias(label), Value::String(id)) => {
                    parts.aliases.insert(label.clone(), id.clone());
                    true
                }
                (PartKey::Alias(label), _) => {
                    parts.removed_aliases.insert(label.clone());
                    false
                }
                (PartKey::Subscription(_), value) => parts.add_subscription(value),
                (PartKey::Property(property), value) => {
                    properties += 1;
                    parts.set_property(*property, value);
                    true
                }
                (PartKey::Tag(name), value) => {
                    let is_new = !known.tags.contains(name) && value.as_str() != Some("");
                    new_tags += usize::from(is_new);
                    properties += 1;
                    let fits = properties <= MAX_PROPERTIES_PER_CALL
                        && known.max_new_tags.is_none_or(|max| !is_new || new_tags <= max);
                    if fits {
                        parts.fields.tags.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
                    }
                    fits
                }
            };
            if fits {
                parts.covers.insert((*key).clone());
            }
        }
        parts
    }

    /// The aliases of an upsert: all that the person has, so that OneSignal finds the user by any that it knows, without
    /// those that it has refused; and the new ones.
    fn identity(&self, known: &Known) -> BTreeMap<String, String> {
        let kept = known.aliases.iter().filter(|(label, _)| !known.refused_aliases.contains(*label));
        let mut identity: BTreeMap<String, String> =
            kept.map(|(label, id)| (label.clone(), id.clone())).chain(self.aliases.clone()).collect();
        // OneSignal assigns it.
        identity.remove("onesignal_id");
        identity
    }

    fn add_subscription(&mut self, value: &Value) -> bool {
        let read = Subscription::deserialize_from(value);
        match read {
            Some(subscription) if self.subscriptions.len() < MAX_SUBSCRIPTIONS => {
                self.subscriptions.push(subscription);
                true
            }
            Some(_) | None => false,
        }
    }

    fn set_property(&mut self, property: Property, value: &Value) {
        let text = || value.as_str().map(str::to_owned);
        match property {
            Property::Language => self.fields.language = text(),
            Property::TimeZone => self.fields.time_zone = text(),
            Property::Country => self.fields.country = text(),
            Property::Location => {
                self.fields.location =
                    value.get(0).and_then(Value::as_f64).zip(value.get(1).and_then(Value::as_f64));
            }
        }
    }
}

impl Subscription {
    fn deserialize_from(value: &Value) -> Option<Self> {
        serde::Deserialize::deserialize(value).ok()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn changes(parts: &[(&str, Value)]) -> Changes {
        Changes(parts.iter().map(|(key, value)| (key.parse().unwrap(), value.clone())).collect())
    }

    fn known() -> Known {
        Known {
            aliases: [("crm_id".to_owned(), "77".to_owned()), ("external_id".to_owned(), "u1".to_owned())]
                .into(),
            creates: true,
            ..Known::default()
        }
    }

    #[test]
    fn a_new_person_is_one_upsert_with_all_aliases_tags_and_subscriptions() {
        let email = json!({"type": "Email", "token": "ann@shop.example"});
        let wanted = changes(&[
            ("alias/external_id", json!("u1")),
            ("alias/crm_id", json!("77")),
            ("tag/plan", json!("gold")),
            ("property/language", json!("de")),
            ("subscription/ab", email),
        ]);
        let planned = next_call(&wanted, &known());
        let Some(UserCall::Upsert { identity, fields, subscriptions }) = planned.call else { panic!() };
        assert_eq!(identity, known().aliases);
        assert_eq!((fields.tags["plan"].as_str(), fields.language.as_deref()), ("gold", Some("de")));
        assert_eq!(subscriptions[0].token, "ann@shop.example");
        assert_eq!(planned.covers.len(), 5);
    }

    #[test]
    fn only_what_changed_is_written_and_nothing_if_nothing_did() {
        let wanted = changes(&[("tag/plan", json!("gold")), ("tag/city", json!("Bonn"))]);
        let confirmed = |keys: &[&str]| keys.iter().map(|key| key.parse().unwrap()).collect();
        let mut known = Known { exists: true, confirmed: confirmed(&["tag/plan"]), ..known() };
        let planned = next_call(&wanted, &known);
        let Some(UserCall::Update { by, fields }) = planned.call else { panic!() };
        assert_eq!(by, ("external_id".to_owned(), "u1".to_owned()));
        assert_eq!(fields.tags.into_iter().collect::<Vec<_>>(), [("city".to_owned(), "Bonn".to_owned())]);
        known.confirmed = confirmed(&["tag/plan", "tag/city"]);
        assert_eq!(next_call(&wanted, &known).call, None);
    }

    #[test]
    fn what_does_not_fit_into_one_call_is_left_for_the_next() {
        let tags: Vec<(String, Value)> = (0..150).map(|n| (format!("tag/t{n:03}"), json!("x"))).collect();
        let tags: Vec<(&str, Value)> =
            tags.iter().map(|(key, value)| (key.as_str(), value.clone())).collect();
        let planned = next_call(&changes(&tags), &Known { exists: true, ..known() });
        assert_eq!(planned.covers.len(), MAX_PROPERTIES_PER_CALL);
        let few = Known { exists: true, max_new_tags: Some(3), tags: ["t149".to_owned()].into(), ..known() };
        let planned = next_call(&changes(&tags[140..]), &few);
        assert_eq!(planned.covers.len(), 4, "three new tags and the one that OneSignal has");
    }

    #[test]
    fn an_alias_is_removed_in_a_call_of_its_own_after_everything_else() {
        let wanted = changes(&[("alias/crm_id", Value::Null), ("tag/plan", json!("gold"))]);
        let known = Known { exists: true, ..known() };
        let first = next_call(&wanted, &known);
        assert!(matches!(first.call, Some(UserCall::Update { .. })), "{first:?}");
        let rest = next_call(&changes(&[("alias/crm_id", Value::Null)]), &known);
        assert!(matches!(rest.call, Some(UserCall::RemoveAlias { label, .. }) if label == "crm_id"));
    }

    #[test]
    fn a_known_person_who_gets_an_alias_is_named_by_the_others_and_never_by_a_refused_one() {
        let known = Known { exists: true, refused_aliases: ["loyalty".to_owned()].into(), ..known() };
        let known = Known {
            aliases: known.aliases.into_iter().chain([("loyalty".to_owned(), "9".to_owned())]).collect(),
            ..known
        };
        let planned = next_call(&changes(&[("alias/external_id", json!("u1"))]), &known);
        let Some(UserCall::Upsert { identity, .. }) = planned.call else { panic!() };
        let expected: BTreeMap<String, String> =
            [("crm_id".to_owned(), "77".to_owned()), ("external_id".to_owned(), "u1".to_owned())].into();
        assert_eq!(identity, expected);
    }

    #[test]
    fn someone_who_is_known_by_onesignals_id_alone_is_never_created() {
        let aliases = [("onesignal_id".to_owned(), "5a0d".to_owned())].into();
        let known = Known { aliases, creates: true, ..Known::default() };
        let planned = next_call(&changes(&[("tag/plan", json!("gold"))]), &known);
        assert!(matches!(planned.call, Some(UserCall::Update { .. })), "{planned:?}");
    }

    #[test]
    fn tags_of_a_user_who_may_not_be_created_are_an_update() {
        let known = Known { creates: false, ..known() };
        let planned = next_call(&changes(&[("tag/plan", json!("gold"))]), &known);
        assert!(matches!(planned.call, Some(UserCall::Update { .. })));
    }
}
