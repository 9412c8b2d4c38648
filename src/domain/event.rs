//! Events and the people they are about.

use std::borrow::Cow;
use std::str::FromStr;

use serde_json::Value;

use super::clock::Timestamp;
use super::id::{EventId, KeyId, SourceId};
use super::visible::is_blank;

/// Replaces a sensitive value wherever `data` is shown.
pub const MASK: &str = "•••";

/// The name of an event type: words of letters, digits, `_` and `-` joined by dots, at most 128 characters.
/// Case-sensitive.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct EventTypeName(String);

impl EventTypeName {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Display for EventTypeName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for EventTypeName {
    type Err = NameError;
    fn from_str(name: &str) -> Result<Self, NameError> {
        let is_word = |word: &str| {
            !word.is_empty() && word.bytes().all(|b| b.is_ascii_alphanumeric() || b"_-".contains(&b))
        };
        if name.len() > 128 || !name.split('.').all(is_word) {
            return Err(NameError);
        }
        Ok(Self(name.to_owned()))
    }
}

/// A text that can't name an event type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an event type consists of words of letters, digits, `_` and `-` joined by dots, such as `order.shipped`, with at most 128 characters"
)]
pub struct NameError;

/// Whether `pattern` (`order.shipped`, or `order.*` for a family, or `*`) covers `name`.
pub fn covers(pattern: &str, name: &EventTypeName) -> bool {
    match pattern.strip_suffix('*') {
        Some(family) => name.as_str().starts_with(family),
        None => pattern == name.as_str(),
    }
}

/// Whether a text can be a pattern that [`covers`] some names.
pub fn is_pattern(text: &str) -> bool {
    let name = if text == "*" { "any" } else { text.strip_suffix(".*").unwrap_or(text) };
    name.parse::<EventTypeName>().is_ok()
}

/// The kind of id that names a recipient.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RecipientLabel {
    /// The service's own id of the person.
    ExternalId,
    /// OneSignal's id of the person.
    OnesignalId,
    /// One device or address.
    SubscriptionId,
    /// An email address.
    Email,
    /// A phone number in E.164.
    Phone,
    /// Any other alias label.
    Alias(String),
}

impl RecipientLabel {
    /// The label as it is written in an event.
    pub fn as_str(&self) -> &str {
        match self {
            Self::ExternalId => "external_id",
            Self::OnesignalId => "onesignal_id",
            Self::SubscriptionId => "subscription_id",
            Self::Email => "email",
            Self::Phone => "phone",
            Self::Alias(label) => label,
        }
    }

    /// Parses a label; anything that is not a known word is an alias label.
    pub fn from_label(label: &str) -> Self {
        match label {
            "external_id" => Self::ExternalId,
            "onesignal_id" => Self::OnesignalId,
            "subscription_id" => Self::SubscriptionId,
            "email" => Self::Email,
            "phone" => Self::Phone,
            other => Self::Alias(other.to_owned()),
        }
    }
}

/// One person or device: a label with one id.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Recipient {
    /// What kind of id it is.
    pub label: RecipientLabel,
    /// The id itself.
    pub id: String,
}

/// Ids that OneSignal rejects or that a broken producer sends instead of one.
const REFUSED_IDS: [&str; 9] =
    ["", "null", "NULL", "NA", "undefined", "0", "-1", "all", "00000000-0000-0000-0000-000000000000"];

impl Recipient {
    /// Checks a label and an id. An email address is kept in lower case, so that one mailbox is one recipient however its
    /// address is written.
    ///
    /// # Errors
    /// [`RecipientError`] says what is wrong with it; the producer has to fix it.
    pub fn parse(label: &str, id: &str) -> Result<Self, RecipientError> {
        if label.is_empty() || label.len() > 128 || label.chars().any(|c| c.is_control() || c.is_whitespace())
        {
            return Err(RecipientError::BadLabel);
        }
        if id.chars().count() > 255 || id.chars().any(char::is_control) || id.trim() != id {
            return Err(RecipientError::Malformed);
        }
        if REFUSED_IDS.contains(&id) || is_blank(id) {
            return Err(RecipientError::Refused(id.to_owned()));
        }
        let label = RecipientLabel::from_label(label);
        let fits = match &label {
            RecipientLabel::ExternalId | RecipientLabel::Alias(_) => true,
            RecipientLabel::OnesignalId | RecipientLabel::SubscriptionId => uuid::Uuid::try_parse(id).is_ok(),
            RecipientLabel::Email => is_email(id),
            RecipientLabel::Phone => is_phone(id),
        };
        if !fits {
            return Err(RecipientError::WrongForm(label));
        }
        let id = if label == RecipientLabel::Email { lower_address(id) } else { id.to_owned() };
        Ok(Self { label, id })
    }
}

/// An address in lower case: the domain entirely, the local part only in ASCII.
fn lower_address(address: &str) -> String {
    let Some((local, host)) = address.rsplit_once('@') else { return address.to_owned() };
    format!("{}@{}", local.to_ascii_lowercase(), host.to_lowercase())
}

fn is_email(text: &str) -> bool {
    let Some((local, host)) = text.rsplit_once('@') else { return false };
    !local.is_empty()
        && !text.chars().any(char::is_whitespace)
        && !local.contains('@')
        && host.split('.').count() > 1
        && host.split('.').all(|part| !part.is_empty())
}

fn is_phone(text: &str) -> bool {
    let digits = text.strip_prefix('+').unwrap_or_default();
    (7..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit()) && !digits.starts_with('0')
}

/// Why a recipient is invalid.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RecipientError {
    /// The label can't be one.
    #[error("a label is 1 to 128 characters without spaces")]
    BadLabel,
    /// Control characters, spaces around it or too long.
    #[error("an id has at most 255 characters, without control characters or surrounding spaces")]
    Malformed,
    /// One of the ids that OneSignal rejects.
    #[error("`{0}` is not accepted as an id: OneSignal would match no one or everyone with it")]
    Refused(String),
    /// Not a UUID, an email address or a phone number where one is required.
    #[error("{}", wrong_form(.0))]
    WrongForm(RecipientLabel),
}

fn wrong_form(label: &RecipientLabel) -> &'static str {
    match label {
        RecipientLabel::Email => "this is not an email address",
        RecipientLabel::Phone => "a phone number must be in E.164 format, such as +4915112345678",
        RecipientLabel::OnesignalId
        | RecipientLabel::SubscriptionId
        | RecipientLabel::ExternalId
        | RecipientLabel::Alias(_) => "this label requires a UUID",
    }
}

/// One event from a source, validated at the edge.
#[derive(Debug, Clone)]
pub struct Event {
    /// Herald's own id.
    pub id: EventId,
    /// Who posted it.
    pub source: SourceId,
    /// The API key that it was posted with.
    pub key: KeyId,
    /// The source's own id, unique within the source.
    pub event_key: String,
    /// Its type.
    pub event_type: EventTypeName,
    /// The people that it concerns; may be empty if a rule names its own audience.
    pub recipients: Vec<Recipient>,
    /// Its values, complete; the sensitive ones are removed when it is stored.
    pub data: Value,
    /// When it happened, according to the source.
    pub occurred_at: Option<Timestamp>,
    /// When Herald received it.
    pub received_at: Timestamp,
    /// The locale that the source requests.
    pub locale: Option<String>,
    /// Not before this time.
    pub send_after: Option<Timestamp>,
    /// Not after this time.
    pub expires_at: Option<Timestamp>,
    /// The key that a later cancellation can name.
    pub cancellation_key: Option<String>,
    /// A newer event with the same key replaces an older one that is still pending.
    pub collapse_key: Option<String>,
    /// Orders the events under one collapse key.
    pub sequence: Option<i64>,
    /// Events with the same key are sent in order, one at a time.
    pub ordering_key: Option<String>,
    /// The producer's W3C trace, passed on.
    pub traceparent: Option<String>,
    /// Posted with a test key: can use sandbox apps only.
    pub is_test: bool,
}

/// A source's key space: event ids, cancellation, collapse and ordering keys of test events are separate from those of
/// live events, so that a test key can neither take a live event's id nor cancel, replace or block a live delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeySpace {
    /// The source.
    pub source: SourceId,
    /// Whether they are the keys of test events.
    pub is_test: bool,
}

/// No producer's key starts with it.
const TEST_PREFIX: &str = "\0test\0";

impl KeySpace {
    /// The key, made distinct from the same key in the other space of the same source.
    pub fn name<'a>(&self, key: &'a str) -> Cow<'a, str> {
        key_name(key, self.is_test)
    }
}

/// A key, made distinct from the same key in the other space of its source: that of tests, or of live events.
pub fn key_name(key: &str, is_test: bool) -> Cow<'_, str> {
    if is_test { Cow::Owned(format!("{TEST_PREFIX}{key}")) } else { Cow::Borrowed(key) }
}

impl Event {
    /// The key space of this event.
    pub fn key_space(&self) -> KeySpace {
        KeySpace { source: self.source, is_test: self.is_test }
    }

    /// The event's key, unique among all events of its source.
    pub fn own_name(&self) -> Cow<'_, str> {
        self.key_space().name(&self.event_key)
    }
}

/// The events that a caller may see, with their deliveries.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VisibleEvents {
    /// Those of these sources; `None`: all.
    pub sources: Option<Vec<SourceId>>,
    /// Only those that were posted with a test key.
    pub tests_only: bool,
}

impl VisibleEvents {
    /// Whether every event is visible.
    pub fn is_everything(&self) -> bool {
        self.sources.is_none() && !self.tests_only
    }

    /// Whether an event of this source is visible, posted with a test key or not.
    pub fn has(&self, source: SourceId, is_test: bool) -> bool {
        (is_test || !self.tests_only) && self.sources.as_ref().is_none_or(|sources| sources.contains(&source))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn recipients_that_onesignal_refuses_are_refused_here() {
        for id in REFUSED_IDS.into_iter().chain(["\u{200b}", "\u{2060}\u{200b}"]) {
            assert!(Recipient::parse("external_id", id).is_err(), "{id:?}");
        }
        assert!(Recipient::parse("external_id", "user-42").is_ok());
        assert!(Recipient::parse("external_id", " user-42").is_err());
        assert!(Recipient::parse("external_id", "a\nb").is_err());
    }

    #[test]
    fn addresses_and_uuids_are_checked_for_their_form() {
        assert!(Recipient::parse("email", "ann@shop.example").is_ok());
        assert!(Recipient::parse("email", "ann@shop").is_err());
        assert!(Recipient::parse("phone", "+4915112345678").is_ok());
        assert!(Recipient::parse("phone", "015112345678").is_err());
        assert!(Recipient::parse("subscription_id", "user-42").is_err());
        assert!(Recipient::parse("crm_id", "77").is_ok());
    }

    #[test]
    fn one_mailbox_is_one_recipient_however_its_address_is_written() {
        let parsed = |address| Recipient::parse("email", address).unwrap().id;
        for address in ["Ann@Example.com", "ann@example.com", "ann@EXAMPLE.com", "ANN@example.COM"] {
            assert_eq!(parsed(address), "ann@example.com");
        }
        assert_eq!(
            parsed("Änn@BÜCHER.example"),
            "Änn@bücher.example",
            "letters beyond ASCII may be others in a mailbox"
        );
        assert_eq!(Recipient::parse("external_id", "Ann").unwrap().id, "Ann", "ids keep their case");
    }

    #[test]
    fn event_type_names_are_words_joined_by_dots() {
        for good in
            ["order.shipped", "Microsoft.Storage.BlobCreated", "com.github.pull_request.opened", "a.b-c"]
        {
            assert!(good.parse::<EventTypeName>().is_ok(), "{good}");
        }
        for bad in ["", "order..shipped", "order.", "order shipped", "order/shipped", "größe"] {
            assert!(bad.parse::<EventTypeName>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_pattern_is_a_name_a_family_or_everything() {
        assert!(["order.shipped", "order.*", "*"].into_iter().all(is_pattern));
        assert!(!["", "order*", "*.shipped", "Order *", ".*"].into_iter().any(is_pattern));
    }

    #[test]
    fn a_family_covers_its_members_only() {
        let name = "order.shipped".parse().unwrap();
        assert!(covers("order.shipped", &name) && covers("order.*", &name) && covers("*", &name));
        assert!(!covers("orders.*", &name) && !covers("order", &name));
    }
}
