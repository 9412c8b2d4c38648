//! Encodes values for the context that they are printed in.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Write;

use serde_json::Value;

use super::contexts::State;
use crate::domain::template::{FieldKind, sets_direction};
use crate::templating::liquid::ast::Span;
use crate::templating::liquid::filters::escape_html;
use crate::templating::liquid::marked::{Kind, Marked};
use crate::templating::liquid::render::Escape;

/// The context of an output, which decides how it is encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// Nowhere yet: compared, or captured for a place that is known later.
    Raw,
    /// Text of several lines.
    Text,
    /// Text of one line.
    Line,
    /// The beginning of a link, which decides where it leads.
    LinkStart,
    /// Within a link.
    LinkPart,
    /// Between the tags of HTML.
    Markup,
    /// In a quoted attribute of HTML.
    Attribute,
    /// The beginning of a link in a quoted attribute.
    AttributeLinkStart,
    /// Within a link in a quoted attribute.
    AttributeLinkPart,
    /// In a `style` attribute.
    Style,
    /// Where no value is safe; plain words say why.
    Refused(&'static str),
}

impl Place {
    /// The place of a value in a field of this kind, if nothing more is known.
    pub fn in_field(kind: FieldKind) -> Self {
        match kind {
            FieldKind::Text => Self::Text,
            FieldKind::Line | FieldKind::Fixed => Self::Line,
            FieldKind::Link => Self::LinkPart,
            FieldKind::Html => Self::Markup,
        }
    }

    /// The place behind something that was put here.
    pub fn continued(self) -> Self {
        match self {
            Self::LinkStart => Self::LinkPart,
            Self::AttributeLinkStart => Self::AttributeLinkPart,
            other => other,
        }
    }

    /// Whether escaping for text isn't enough here.
    pub fn is_delicate(self) -> bool {
        match self {
            Self::LinkStart
            | Self::LinkPart
            | Self::AttributeLinkStart
            | Self::AttributeLinkPart
            | Self::Style
            | Self::Refused(_) => true,
            Self::Raw | Self::Text | Self::Line | Self::Markup | Self::Attribute => false,
        }
    }
}

/// The places of a field's outputs, by the byte at which the output begins.
#[derive(Debug, Clone, Default)]
pub struct Places(pub BTreeMap<usize, Place>);

impl Places {
    /// The place of the output at `span`.
    pub fn of(&self, span: Span) -> Place {
        self.0.get(&span.start).copied().unwrap_or(Place::Refused("the context of this output is unknown"))
    }
}

impl Escape for Places {
    fn is_encoded_later(&self, place: Span) -> bool {
        match self.of(place) {
            Place::Raw | Place::Text | Place::Line | Place::Markup => true,
            Place::LinkStart
            | Place::LinkPart
            | Place::Attribute
            | Place::AttributeLinkStart
            | Place::AttributeLinkPart
            | Place::Style
            | Place::Refused(_) => false,
        }
    }

    fn encode(&self, place: Span, text: &Marked) -> Result<String, &'static str> {
        encode(self.of(place), text)
    }
}

/// A text in parts, encoded for `place`: what is plain as a value, markup as its author wrote it.
///
/// # Errors
/// As [`make_safe`].
pub fn encode(place: Place, text: &Marked) -> Result<String, &'static str> {
    if place == Place::Markup && !text.is_plain() {
        return encode_markup(text);
    }
    let mut out = String::new();
    for (kind, part) in text.runs() {
        let place = if out.is_empty() { place } else { place.continued() };
        match (kind, place) {
            (_, Place::Refused(why)) => return Err(why),
            (Kind::Url, Place::LinkPart | Place::AttributeLinkPart) => out.push_str(part),
            (Kind::Plain | Kind::Url, place) => out.push_str(&make_safe(place, Cow::Borrowed(part))?),
            (Kind::Markup, Place::LinkStart | Place::AttributeLinkStart) if is_harmful_link(part) => {
                return Err(BAD_LINK);
            }
            (
                Kind::Markup,
                Place::Raw | Place::Text | Place::Line | Place::Markup | Place::LinkStart | Place::LinkPart,
            ) => {
                out.push_str(part);
            }
            // Its entities mean the same here, its quotes and tags would not.
            (
                Kind::Markup,
                Place::Attribute | Place::AttributeLinkStart | Place::AttributeLinkPart | Place::Style,
            ) => {
                let part = part.replace('"', "&quot;").replace('\'', "&#39;");
                out.push_str(&part.replace('<', "&lt;").replace('>', "&gt;"));
            }
        }
    }
    Ok(out)
}

/// Markup with values in it, each encoded for its context in the markup: filters may have moved it into an attribute.
fn encode_markup(text: &Marked) -> Result<String, &'static str> {
    let (mut out, mut at) = (String::new(), State::default());
    for (kind, part) in text.runs() {
        if kind == Kind::Markup {
            out.push_str(part);
            at.read_all(part);
            continue;
        }
        match (kind, at.place()) {
            (Kind::Url, Place::LinkPart | Place::AttributeLinkPart) => out.push_str(part),
            (_, place) => out.push_str(&make_safe(place, Cow::Borrowed(part))?),
        }
        at.pass_value();
    }
    if at.is_between_tags() { Ok(out) } else { Err("a filter cut its markup in the middle of a tag") }
}

/// Whether a link that begins so runs something.
fn is_harmful_link(text: &str) -> bool {
    let scheme = text.split_once(':').map(|(scheme, _)| scheme.trim().to_ascii_lowercase());
    scheme.is_some_and(|scheme| matches!(scheme.as_str(), "javascript" | "data" | "vbscript" | "file"))
}

/// The text, safe for `place`.
///
/// # Errors
/// Plain words if it can't be made safe: a link to nowhere good, or a place where nothing is safe.
pub fn make_safe(place: Place, text: Cow<'_, str>) -> Result<Cow<'_, str>, &'static str> {
    Ok(match place {
        Place::Raw => text,
        Place::Text => drop_controls(text),
        Place::Line => drop_directions(replace_controls(text, |_| Some(' '))),
        Place::LinkStart => check_link(text)?,
        // Percent-encoded text has no character that means anything in HTML, so one way does for both.
        Place::LinkPart | Place::AttributeLinkPart => percent_encode(text),
        Place::Markup | Place::Attribute => escape_html(&drop_controls(text)).into(),
        Place::AttributeLinkStart => escape_html(&check_link(text)?).into(),
        Place::Style if text.chars().all(|c| c.is_ascii_alphanumeric() || " #.%-".contains(c)) => text,
        Place::Style => {
            return Err(
                "in a `style` attribute a value may contain only letters, digits, spaces and # . % -",
            );
        }
        Place::Refused(why) => return Err(why),
    })
}

/// The strings within `value`, safe for `place`.
///
/// # Errors
/// As [`make_safe`].
pub fn make_value_safe(place: Place, value: Value) -> Result<Value, &'static str> {
    Ok(match value {
        Value::String(text) => Value::String(make_safe(place, Cow::Owned(text))?.into_owned()),
        Value::Array(list) => {
            list.into_iter().map(|item| make_value_safe(place, item)).collect::<Result<_, _>>()?
        }
        Value::Object(members) => {
            let safe = members.into_iter().map(|(key, member)| Ok((key, make_value_safe(place, member)?)));
            Value::Object(safe.collect::<Result<_, &'static str>>()?)
        }
        other @ (Value::Null | Value::Bool(_) | Value::Number(_)) => other,
    })
}

fn replace_controls(text: Cow<'_, str>, with: impl Fn(char) -> Option<char>) -> Cow<'_, str> {
    if text.chars().any(is_control) {
        // A Windows line end is one line break.
        let text = text.replace("\r\n", "\n");
        return text.chars().filter_map(|c| if is_control(c) { with(c) } else { Some(c) }).collect();
    }
    text
}

fn drop_controls(text: Cow<'_, str>) -> Cow<'_, str> {
    replace_controls(text, |c| match c {
        '\n' | '\t' => Some(c),
        '\u{2028}' | '\u{2029}' => Some('\n'),
        _ => None,
    })
}

/// Without the characters that set or override the direction of what follows: in a title they make it read as something else.
fn drop_directions(text: Cow<'_, str>) -> Cow<'_, str> {
    if text.chars().any(sets_direction) {
        return text.chars().filter(|c| !sets_direction(*c)).collect();
    }
    text
}

/// Control characters, with the two line separators of Unicode.
fn is_control(c: char) -> bool {
    c.is_control() || matches!(c, '\u{2028}' | '\u{2029}')
}

fn percent_encode(text: Cow<'_, str>) -> Cow<'_, str> {
    let unreserved = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    if text.bytes().all(unreserved) {
        return text;
    }
    let mut out = String::with_capacity(text.len() * 2);
    for byte in text.bytes() {
        if unreserved(byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").unwrap_or_default();
        }
    }
    out.into()
}

const BAD_LINK: &str = "a value at the start of a link must begin with http://, https://, mailto: or tel:";

/// A whole link, or its beginning, from a value: only schemes that lead to a page, a mailbox or a phone.
fn check_link(text: Cow<'_, str>) -> Result<Cow<'_, str>, &'static str> {
    let (scheme, rest) = text.split_once(':').ok_or(BAD_LINK)?;
    let known =
        ["http", "https", "mailto", "tel"].into_iter().find(|known| scheme.eq_ignore_ascii_case(known));
    let web = known.ok_or(BAD_LINK)?.starts_with("http");
    let host =
        rest.strip_prefix("//").filter(|host| !host.is_empty() && !host.starts_with(['/', '?', '#', '\\']));
    if web && host.is_none() {
        return Err(BAD_LINK);
    }
    if text.chars().any(|c| c.is_whitespace() || is_control(c) || "<>\"\\^`{|}".contains(c)) {
        return Err("a value at the start of a link contains characters that are not allowed in links");
    }
    Ok(text)
}

/// The text, written so that a Liquid pass prints it as it is.
///
/// A brace is written as an output where it could open something, together with what follows it, or with what is
/// put after it: at the end of the text.
pub fn literal(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        if c == '{' && matches!(chars.peek(), None | Some('{' | '%')) {
            out.push_str("{{ \"{\" }}");
        } else {
            out.push(c);
        }
    }
    out
}
