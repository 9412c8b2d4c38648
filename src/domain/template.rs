//! Templates and their immutable versions.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::channel::Channel;
use super::id::{TemplateId, TemplateVersionId};

/// The fields of one locale, by Herald's names for them (`contents`, `subject`, …), as the author wrote them.
pub type Fields = BTreeMap<String, String>;

/// How a version's copy reaches OneSignal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Uploaded as a OneSignal template; events carry their values in `custom_data`.
    #[default]
    Provider,
    /// Rendered by Herald and sent as contents.
    Inline,
}

/// Who chooses the language of a message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LanguageBy {
    /// Herald does, by event and person: each locale is a OneSignal template of its own.
    #[default]
    Herald,
    /// OneSignal does, by the language of each device: one template contains all of them. Push only.
    Onesignal,
}

impl LanguageBy {
    /// Whether Herald chooses.
    pub fn is_herald(&self) -> bool {
        *self == Self::Herald
    }
}

/// The editable part of a template, which a version keeps unchanged.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Content {
    /// How the copy reaches OneSignal.
    #[serde(default)]
    pub mode: Mode,
    /// Who chooses the language.
    #[serde(default, rename = "locale", skip_serializing_if = "LanguageBy::is_herald")]
    pub language_by: LanguageBy,
    /// The end of the fallback chain.
    #[serde(default = "english")]
    pub default_locale: String,
    /// The layout partial of an email's body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub layout: Option<String>,
    /// Static OneSignal fields, sent unchanged.
    #[serde(default)]
    pub options: Map<String, Value>,
    /// The copy by locale.
    #[serde(default)]
    pub contents: BTreeMap<String, Fields>,
}

fn english() -> String {
    "en".to_owned()
}

impl Default for Content {
    fn default() -> Self {
        Self {
            mode: Mode::default(),
            language_by: LanguageBy::default(),
            default_locale: english(),
            layout: None,
            options: Map::new(),
            contents: BTreeMap::new(),
        }
    }
}

/// What a field of a channel contains, which decides how event values are escaped in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FieldKind {
    /// Text of any number of lines.
    Text,
    /// Text of one line: line breaks in values become spaces.
    Line,
    /// A link or the address of an image.
    Link,
    /// HTML.
    Html,
    /// Sent unchanged; event values are not allowed in it.
    Fixed,
}

/// Whether a character embeds, overrides or isolates the direction of the text that follows.
pub fn sets_direction(c: char) -> bool {
    matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

/// One field that a channel has.
#[derive(Debug, Clone, Copy)]
pub struct FieldSpec {
    /// Herald's name, as in a template's file.
    pub name: &'static str,
    /// OneSignal's name in Create message and in templates.
    pub wire: &'static str,
    /// What it holds.
    pub kind: FieldKind,
    /// Whether OneSignal keeps it as a map of languages.
    pub by_language: bool,
    /// Whether OneSignal's Templates API can store it; the others are sent with each call.
    pub in_template: bool,
    /// Whether a message requires it.
    pub required: bool,
}

const fn field(name: &'static str, wire: &'static str, kind: FieldKind) -> FieldSpec {
    FieldSpec { name, wire, kind, by_language: false, in_template: false, required: false }
}

const PUSH: [FieldSpec; 8] = [
    FieldSpec {
        by_language: true,
        in_template: true,
        required: true,
        ..field("contents", "contents", FieldKind::Text)
    },
    FieldSpec { by_language: true, in_template: true, ..field("headings", "headings", FieldKind::Line) },
    FieldSpec { by_language: true, in_template: true, ..field("subtitle", "subtitle", FieldKind::Line) },
    field("url", "url", FieldKind::Link),
    field("big_picture", "big_picture", FieldKind::Link),
    field("chrome_web_image", "chrome_web_image", FieldKind::Link),
    field("large_icon", "large_icon", FieldKind::Link),
    field("small_icon", "small_icon", FieldKind::Fixed),
];
const EMAIL: [FieldSpec; 7] = [
    FieldSpec { in_template: true, required: true, ..field("subject", "email_subject", FieldKind::Line) },
    FieldSpec { in_template: true, required: true, ..field("body", "email_body", FieldKind::Html) },
    field("preheader", "email_preheader", FieldKind::Line),
    field("from_name", "email_from_name", FieldKind::Fixed),
    field("from_address", "email_from_address", FieldKind::Fixed),
    field("sender_domain", "email_sender_domain", FieldKind::Fixed),
    field("reply_to", "email_reply_to_address", FieldKind::Line),
];
const SMS: [FieldSpec; 2] = [
    FieldSpec {
        by_language: true,
        in_template: true,
        required: true,
        ..field("contents", "contents", FieldKind::Text)
    },
    field("from", "sms_from", FieldKind::Fixed),
];

/// The fields that `channel` has, the main one (the file's body) first for push and SMS.
pub fn fields_of(channel: Channel) -> &'static [FieldSpec] {
    match channel {
        Channel::Push => &PUSH,
        Channel::Email => &EMAIL,
        Channel::Sms => &SMS,
    }
}

/// The field that a template file's body is: the main text.
pub fn main_field(channel: Channel) -> &'static str {
    match channel {
        Channel::Push | Channel::Sms => "contents",
        Channel::Email => "body",
    }
}

/// A template: message copy for one channel, with a version that is live or none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    /// Its id.
    pub id: TemplateId,
    /// The name that rules use.
    pub key: String,
    /// Where its messages appear.
    pub channel: Channel,
    /// Raised by every change of this entry: its `ETag`.
    pub version: i32,
    /// Its purpose.
    pub description: String,
    /// Its owner.
    pub owner: Option<String>,
    /// The event type that it is written for, besides those of the rules that send it.
    pub event_type: Option<String>,
    /// Whether a second person has to approve a draft before it goes live.
    pub needs_approval: bool,
    /// Whether it is archived: nothing new is sent with it.
    pub is_archived: bool,
    /// The version that new deliveries use.
    pub live: Option<TemplateVersionId>,
}

/// One immutable, numbered version.
#[derive(Debug, Clone, PartialEq)]
pub struct TemplateVersion {
    /// Its id.
    pub id: TemplateVersionId,
    /// The template's key.
    pub template: String,
    /// From 1.
    pub number: i32,
    /// Where its messages appear.
    pub channel: Channel,
    /// Its content.
    pub content: Content,
    /// The partials that it was built with, by key: later changes of a partial do not affect it.
    pub partials: BTreeMap<String, String>,
}

/// A text without a byte order mark, and with `
/// ` as line ends.
pub fn plain_lines(text: &str) -> String {
    text.strip_prefix('\u{feff}').unwrap_or(text).replace("\r\n", "\n")
}

impl Content {
    /// The same with [`plain_lines`] in every field.
    #[must_use]
    pub fn with_plain_lines(mut self) -> Self {
        for text in self.contents.values_mut().flat_map(BTreeMap::values_mut) {
            *text = plain_lines(text);
        }
        self
    }

    /// The locale for a request: `de-AT`, else `de`, else the default. Where OneSignal chooses, the default one stands
    /// for all of them.
    pub fn choose_locale(&self, wish: Option<&str>) -> &str {
        if self.language_by == LanguageBy::Onesignal {
            return &self.default_locale;
        }
        let mut wish = wish.unwrap_or_default();
        loop {
            if let Some((locale, _)) =
                self.contents.iter().find(|(locale, _)| locale.eq_ignore_ascii_case(wish))
            {
                return locale;
            }
            match wish.rsplit_once(['-', '_']) {
                Some((wider, _)) => wish = wider,
                None => return &self.default_locale,
            }
        }
    }
}

impl TemplateVersion {
    /// The locale for a request: `de-AT`, else `de`, else the default.
    pub fn choose_locale(&self, wish: Option<&str>) -> &str {
        self.content.choose_locale(wish)
    }

    /// The name under which OneSignal keeps one locale of this version.
    pub fn upload_name(&self, locale: &str) -> String {
        format!("herald/{}@{}/{locale}", self.template, self.number)
    }
}

/// Whether a text looks like a BCP 47 locale: `de`, `de-AT`, `zh-Hant-TW`.
pub fn is_locale(text: &str) -> bool {
    let mut parts = text.split('-');
    let language = parts.next().unwrap_or_default();
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_alphabetic())
        && parts.all(|part| (2..=8).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_alphanumeric()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::TypedId;

    #[test]
    fn line_ends_and_marks_of_other_systems_are_no_part_of_copy() {
        let fields = Fields::from([("contents".to_owned(), "\u{feff}Hi,\r\nAnn".to_owned())]);
        let content = Content { contents: [("en".to_owned(), fields)].into(), ..Content::default() };
        assert_eq!(content.with_plain_lines().contents["en"]["contents"], "Hi,\nAnn");
    }

    #[test]
    fn a_missing_locale_falls_back_to_the_language_and_then_to_the_default() {
        let contents = ["en", "de", "pt-BR"].map(|locale| (locale.to_owned(), Fields::new()));
        let version = TemplateVersion {
            id: TemplateVersionId::from_uuid(uuid::Uuid::nil()),
            template: "order-shipped-push".into(),
            number: 3,
            channel: Channel::Push,
            content: Content { contents: contents.into(), ..Content::default() },
            partials: BTreeMap::new(),
        };
        assert_eq!(version.choose_locale(Some("de-AT")), "de");
        assert_eq!(version.choose_locale(Some("pt-br")), "pt-BR");
        assert_eq!(version.choose_locale(Some("fr")), "en");
        assert_eq!(version.choose_locale(None), "en");
        assert_eq!(version.upload_name("de"), "herald/order-shipped-push@3/de");
    }
}
