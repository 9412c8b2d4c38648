//! The parts of a user: an alias, a tag, a property, a subscription. Each has a key and a value.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

use super::Subscription;

/// A property of a user at OneSignal, other than tags.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Property {
    /// The language, as OneSignal spells it: `de`, `zh-Hans`.
    Language,
    /// The time zone's IANA name.
    TimeZone,
    /// The country, as two letters.
    Country,
    /// Latitude and longitude in degrees.
    Location,
}

impl Property {
    /// Every property.
    pub const ALL: [Self; 4] = [Self::Language, Self::TimeZone, Self::Country, Self::Location];

    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Language => "language",
            Self::TimeZone => "time_zone",
            Self::Country => "country",
            Self::Location => "location",
        }
    }
}

/// The name of a part.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum PartKey {
    /// The alias under this label; its value is the id, or `null` to remove it.
    Alias(String),
    /// A property.
    Property(Property),
    /// The subscription with this keyed hash of its type and token.
    Subscription(String),
    /// The tag of this name; its value is a text, and the empty one removes it.
    Tag(String),
}

/// A text that names no part.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` names no part of a user")]
pub struct UnknownPart(pub String);

impl fmt::Display for PartKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Alias(label) => write!(f, "alias/{label}"),
            Self::Property(property) => write!(f, "property/{}", property.as_str()),
            Self::Subscription(hash) => write!(f, "subscription/{hash}"),
            Self::Tag(name) => write!(f, "tag/{name}"),
        }
    }
}

impl FromStr for PartKey {
    type Err = UnknownPart;

    fn from_str(text: &str) -> Result<Self, UnknownPart> {
        let unknown = || UnknownPart(text.to_owned());
        let (kind, name) = text.split_once('/').ok_or_else(unknown)?;
        match kind {
            "alias" => Ok(Self::Alias(name.to_owned())),
            "property" => {
                let property = Property::ALL.into_iter().find(|property| property.as_str() == name);
                property.map(Self::Property).ok_or_else(unknown)
            }
            "subscription" => Ok(Self::Subscription(name.to_owned())),
            "tag" => Ok(Self::Tag(name.to_owned())),
            _ => Err(unknown()),
        }
    }
}

/// Changes of a user that have not been confirmed: the newest value of each part.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Changes(pub BTreeMap<PartKey, Value>);

impl Changes {
    /// Adds newer changes: they replace older ones of the same part.
    pub fn merge(&mut self, newer: Self) {
        self.0.extend(newer.0);
    }

    /// The subscriptions in them.
    pub fn subscriptions(&self) -> impl Iterator<Item = Subscription> {
        let read = |(key, value): (&PartKey, &Value)| match key {
            PartKey::Subscription(_) => serde_json::from_value(value.clone()).ok(),
            PartKey::Alias(_) | PartKey::Property(_) | PartKey::Tag(_) => None,
        };
        self.0.iter().filter_map(read)
    }

    /// Whether nothing is to be written.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The changes as they are stored: one flat object.
    pub fn to_json(&self) -> Value {
        Value::Object(self.0.iter().map(|(key, value)| (key.to_string(), value.clone())).collect())
    }

    /// Reads what [`Changes::to_json`] wrote.
    ///
    /// # Errors
    /// [`UnknownPart`] if a name in it names no part.
    pub fn from_json(stored: Map<String, Value>) -> Result<Self, UnknownPart> {
        stored.into_iter().map(|(key, value)| Ok((key.parse()?, value))).collect::<Result<_, _>>().map(Self)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_part_is_read_as_it_was_written_whatever_its_name() {
        let keys = [
            PartKey::Alias("crm_id".into()),
            PartKey::Alias("a/b".into()),
            PartKey::Tag("tag/plan".into()),
            PartKey::Tag(String::new()),
            PartKey::Subscription("00ff".into()),
        ];
        let keys = keys.into_iter().chain(Property::ALL.map(PartKey::Property));
        let changes = Changes(keys.map(|key| (key, json!("x"))).collect());
        let Value::Object(stored) = changes.to_json() else { panic!("not an object") };
        assert_eq!(stored.len(), 9);
        assert_eq!(Changes::from_json(stored), Ok(changes));
    }

    #[test]
    fn the_newest_value_of_a_part_replaces_the_older_one() {
        let of = |plan: &str| Changes([(PartKey::Tag("plan".into()), json!(plan))].into());
        let mut changes = of("free");
        changes.merge(of("gold"));
        assert_eq!(changes, of("gold"));
    }
}
