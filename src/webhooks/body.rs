//! Parses a webhook's bytes. The raw bytes are stored, so that a body can be reprocessed after the source's settings or
//! Herald are fixed.
//!
//! Senders can't be made to produce better JSON, so ambiguous parts are no reason to reject the whole body. They are
//! recorded with their position, and matter only if a mapping reads them:
//!
//! - duplicate keys in an object (the last one is used, and recorded), and values nested deeper than [`MAX_DEPTH`]
//!   (omitted, and recorded);
//! - unpaired surrogates, NUL and invalid UTF-8, which can't be stored, become U+FFFD;
//! - a number beyond 64 bits becomes a string of its digits.

use std::cell::RefCell;
use std::fmt;

use serde::de::{DeserializeSeed, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::Headers;
use super::signature::is_form;
use crate::expressions::Expression;

/// Maximum nesting depth of a body.
pub const MAX_DEPTH: usize = 64;
/// Maximum recorded positions; with more, the whole body is ambiguous.
const MAX_DOUBTS: usize = 100;

/// A body in the form for mappings.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Body {
    /// The parsed value.
    pub value: Value,
    doubts: Vec<Doubt>,
}

/// A position with an ambiguous value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Doubt {
    /// The path below `body`.
    pub path: Vec<String>,
    /// What is wrong, without the value.
    pub what: &'static str,
}

impl Body {
    /// Parses a body: JSON or a form, according to its content type. A form with only `payload` is parsed as its JSON.
    ///
    /// # Errors
    /// Why it can't be parsed, without any value.
    pub fn read(bytes: &[u8], headers: &Headers) -> Result<Self, String> {
        let json = || Self::of_json(&String::from_utf8_lossy(bytes));
        if !headers.get("content-type").is_some_and(|kind| is_form(kind)) {
            return json();
        }
        // Some senders use this content type for everything.
        let looks_like_json = bytes.trim_ascii_start().first().is_some_and(|byte| b"{[".contains(byte));
        let read = if looks_like_json { json().ok() } else { None };
        Ok(read.unwrap_or_else(|| Self::of_form(bytes)))
    }

    fn of_json(text: &str) -> Result<Self, String> {
        let text = repaired(text.trim_start_matches('\u{feff}'));
        if text.trim().is_empty() {
            return Err("the body is empty".to_owned());
        }
        let doubts = RefCell::default();
        let mut reader = serde_json::Deserializer::from_str(&text);
        let seed = Lenient { doubts: &doubts, place: ROOT };
        let read = seed.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
        let value = read.map_err(|error| {
            format!("the body is not JSON (line {}, column {})", error.line(), error.column())
        })?;
        Ok(Self { value, doubts: doubts.into_inner() })
    }

    fn of_form(bytes: &[u8]) -> Self {
        let mut fields = Map::new();
        for (name, value) in url::form_urlencoded::parse(bytes) {
            let (name, value) = (held(&name), Value::String(held(&value)));
            match fields.get_mut(&name) {
                None => drop(fields.insert(name, value)),
                Some(Value::Array(values)) => values.push(value),
                Some(first) => *first = Value::Array(vec![first.take(), value]),
            }
        }
        let payload = fields.get("payload").and_then(Value::as_str).filter(|_| fields.len() == 1);
        let inner = payload.and_then(|text| Self::of_json(text).ok()).filter(|body| body.value.is_object());
        inner.unwrap_or_else(|| Self { value: Value::Object(fields), doubts: Vec::new() })
    }

    /// The first ambiguous position that an expression reads.
    pub(super) fn doubt_in(&self, expression: &Expression) -> Option<&Doubt> {
        let read = expression.first_read(self.doubts.iter().map(|doubt| doubt.path.as_slice()))?;
        self.doubts.iter().find(|doubt| doubt.path == read)
    }
}

impl From<Value> for Body {
    fn from(value: Value) -> Self {
        Self { value, doubts: Vec::new() }
    }
}

/// Replaces characters that Postgres can't store.
fn held(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

/// JSON text with unpaired surrogates and NUL replaced by U+FFFD, and numbers beyond 64 bits as strings.
fn repaired(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut made = String::with_capacity(text.len());
    let (mut at, mut kept) = (0, 0);
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                let end = end_of_string(bytes, at);
                made.push_str(&text[kept..at]);
                repair_string(&text[at..end], &mut made);
                (at, kept) = (end, end);
            }
            b'-' | b'0'..=b'9' => {
                let is_part = |byte: &&u8| matches!(byte, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9');
                let end = at + bytes[at..].iter().take_while(is_part).count();
                if is_beyond_64_bits(&text[at..end]) {
                    made.push_str(&text[kept..at]);
                    made.push('"');
                    made.push_str(&text[at..end]);
                    made.push('"');
                    kept = end;
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    made.push_str(&text[kept..]);
    made
}

/// The end of the string that starts at `start`, after its closing quote.
fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    // A trailing backslash may precede a multi-byte character: that is invalid JSON, and not a char boundary.
    let mut end = (at + 1).min(bytes.len());
    while end < bytes.len() && (bytes[end] & 0xc0) == 0x80 {
        end += 1;
    }
    end
}

/// Whether a number is valid JSON but exceeds 64 bits.
fn is_beyond_64_bits(number: &str) -> bool {
    let is_whole = !number.contains(['.', 'e', 'E']);
    let digits = number.strip_prefix('-').unwrap_or(number);
    let is_number = digits.starts_with(|c: char| c.is_ascii_digit())
        && !(digits.len() > 1 && digits.starts_with('0') && is_whole);
    match number.parse::<f64>() {
        Ok(value) if is_number && is_whole => {
            number.parse::<i64>().is_err() && number.parse::<u64>().is_err() && !value.is_nan()
        }
        Ok(value) if is_number => value.is_infinite(),
        _ => false,
    }
}

/// Writes a JSON string with invalid escapes fixed.
fn repair_string(text: &str, made: &mut String) {
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        made.push_str(&rest[..at]);
        rest = &rest[at..];
        let taken = match unit(rest) {
            Some(0xd800..=0xdbff) if matches!(rest.get(6..).and_then(unit), Some(0xdc00..=0xdfff)) => {
                made.push_str(&rest[..12]);
                12
            }
            Some(0 | 0xd800..=0xdfff) => {
                made.push('\u{fffd}');
                6
            }
            _ => {
                // An escape is a backslash and one more character.
                let length = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
                made.push_str(&rest[..length]);
                length
            }
        };
        rest = &rest[taken..];
    }
    made.push_str(rest);
}

/// The code unit of `\uXXXX`.
fn unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    let is_hex = digits.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| u16::from_str_radix(digits, 16).ok()).flatten()
}

/// Deserializes any JSON, and records ambiguous positions.
#[derive(Clone, Copy)]
struct Lenient<'a> {
    doubts: &'a RefCell<Vec<Doubt>>,
    place: Place<'a>,
}

/// A position in the body, as a step below its parent.
#[derive(Clone, Copy)]
struct Place<'a> {
    above: Option<&'a Place<'a>>,
    step: Step<'a>,
    depth: usize,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Member(&'a str),
    Entry(usize),
}

/// The root.
const ROOT: Place<'static> = Place { above: None, step: Step::Member("body"), depth: 0 };

impl Place<'_> {
    fn path(&self) -> Vec<String> {
        let mut path = self.above.map_or_else(Vec::new, Place::path);
        path.push(match self.step {
            Step::Member(name) => name.to_owned(),
            Step::Entry(at) => at.to_string(),
        });
        path
    }
}

impl<'a> Lenient<'a> {
    fn below(&'a self, step: Step<'a>) -> Self {
        Self { place: Place { above: Some(&self.place), step, depth: self.place.depth + 1 }, ..*self }
    }

    fn doubt(&self, what: &'static str) {
        let mut doubts = self.doubts.borrow_mut();
        match doubts.len() {
            MAX_DOUBTS => doubts.push(Doubt { path: ROOT.path(), what: "has too many ambiguous values" }),
            more if more > MAX_DOUBTS => {}
            _ => doubts.push(Doubt { path: self.place.path(), what }),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Lenient<'_> {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        if self.place.depth > MAX_DEPTH {
            // Skips it without descending.
            deserializer.deserialize_ignored_any(IgnoredAny)?;
            self.doubt("is nested too deeply");
            return Ok(Value::Null);
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Lenient<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }
    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }
    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Bool(value))
    }
    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Number(value.into()))
    }
    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }
    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::String(value.to_owned()))
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self.below(Step::Entry(items.len())))? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let inner = self.below(Step::Member(&name));
            let value = map.next_value_seed(inner)?;
            if members.contains_key(&name) {
                inner.doubt("is a duplicate key in an object");
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    fn read(text: &str) -> Body {
        Body::read(text.as_bytes(), &Headers::new()).unwrap()
    }

    #[test]
    fn what_no_text_and_no_number_can_hold_is_read_as_well_as_can_be() {
        for (text, wanted) in [
            (
                r#"{"a":"x\ud83d y","b":"\udc00","c":"\ud83d\ude00","d":"\\ud800"}"#,
                json!({"a": "x\u{fffd} y", "b": "\u{fffd}", "c": "😀", "d": "\\ud800"}),
            ),
            (r#"{"a":"x\u0000y","\u0000":1}"#, json!({"a": "x\u{fffd}y", "\u{fffd}": 1})),
            ("\u{feff}{\"a\":\"\u{feff}\"}", json!({"a": "\u{feff}"})),
            (
                r#"{"a":18446744073709551616,"b":-9223372036854775809,"c":1e999,"d":18446744073709551615}"#,
                json!({"a": "18446744073709551616", "b": "-9223372036854775809", "c": "1e999", "d": u64::MAX}),
            ),
            (r#"[1.5,1e3,"18446744073709551616"]"#, json!([1.5, 1000.0, "18446744073709551616"])),
        ] {
            let body = read(text);
            assert_eq!((&body.value, body.doubts.len()), (&wanted, 0), "{text}");
        }
        let bytes = Body::read(b"{\"a\":\"x\xff\"}", &Headers::new()).unwrap();
        assert_eq!(bytes.value, json!({"a": "x\u{fffd}"}));
    }

    #[test]
    fn what_is_in_doubt_is_noted_with_its_place() {
        let body = read(r#"{"a":[{"b":1,"b":2}],"c":3}"#);
        assert_eq!(body.value, json!({"a": [{"b": 2}], "c": 3}));
        let places: Vec<String> = body.doubts.iter().map(|doubt| doubt.path.join(".")).collect();
        assert_eq!(places, ["body.a.0.b"]);
        let nested = |depth: usize| format!("{{\"a\":{}1{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(read(&nested(40)).doubts.is_empty());
        assert_eq!(read(&nested(100_000)).doubts.len(), 1);
        let twice = format!("{{{}\"z\":1}}", r#""a":1,"#.repeat(1_000));
        assert_eq!(read(&twice).doubts.last().unwrap().path, ["body"]);
    }

    #[test]
    fn what_is_no_json_says_where_and_quotes_nothing() {
        for (text, wanted) in [
            ("", "the body is empty"),
            ("hunter2", "the body is not JSON (line 1, column 1)"),
            ("{\"a\":\n hunter2}", "the body is not JSON (line 2, column 2)"),
            ("{\"a\":1", "the body is not JSON (line 1, column 6)"),
            ("{\"a\":\"hunter2\\", "the body is not JSON (line 1, column 14)"),
            ("{} {}", "the body is not JSON (line 1, column 4)"),
            ("[01]", "the body is not JSON (line 1, column 3)"),
        ] {
            assert_eq!(Body::read(text.as_bytes(), &Headers::new()).unwrap_err(), wanted, "{text}");
        }
    }

    /// Pieces of JSON, good and bad.
    const PIECES: &str = r#"{ } [ ] : , "a" "\u "\ud800 \udc00 \u0000 \" " 1 - 1e999 18446744073709551616 0 . e true null é 😀 \"#;

    proptest! {
        #[test]
        fn any_text_is_read_or_refused(
            text in prop_oneof![
                any::<String>(),
                prop::collection::vec(prop::sample::select(PIECES.split(' ').collect::<Vec<_>>()), 0..40)
                    .prop_map(|pieces| pieces.concat()),
            ]
        ) {
            let read = Body::read(text.as_bytes(), &Headers::new());
            if let Ok(value) = serde_json::from_str::<Value>(&text)
                && !text.contains("\\u0000")
                && !text.contains('\u{feff}')
            {
                let read = read.unwrap();
                let is_same = read.value == value || text.contains("18446744073709551616");
                prop_assert!(is_same || !read.doubts.is_empty(), "{text}: {:?}", read.value);
            }
        }
    }

    #[test]
    fn a_form_is_an_object_and_a_payload_in_it_is_the_body() {
        let headers = Headers::from([(
            "content-type".to_owned(),
            "Application/x-www-form-urlencoded; charset=utf-8".to_owned(),
        )]);
        let read = |text: &str| Body::read(text.as_bytes(), &headers).unwrap().value;
        assert_eq!(read("a=1&b=x%20y+z&a=2&c="), json!({"a": ["1", "2"], "b": "x y z", "c": ""}));
        assert_eq!(read("payload=%7B%22action%22%3A%22opened%22%7D"), json!({"action": "opened"}));
        assert_eq!(read("payload=text"), json!({"payload": "text"}));
        assert_eq!(read(r#"{"a": "b=c"}"#), json!({"a": "b=c"}));
        assert_eq!(read("payload=%7B%7D&more=1"), json!({"payload": "{}", "more": "1"}));
    }
}
