//! Strict JSON: rejects what Postgres can't store and what parsers interpret differently.

use std::fmt;

use serde::de::{DeserializeSeed, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use super::problem::{Code, FieldError, Problem};

/// How deep a document may be nested.
const MAX_DEPTH: usize = 32;

/// Parses a document: no duplicate keys, no NUL, no integers beyond 64 bits, no nesting deeper than 32.
///
/// # Errors
/// A problem with the place.
pub fn parse(bytes: &[u8]) -> Result<Value, Problem> {
    let bad = |place: String, detail: String| {
        Problem::fields(Code::BadJson, vec![FieldError::new(place, "bad_json", detail)])
    };
    let text = std::str::from_utf8(bytes).map_err(|error| {
        bad(format!("byte {}", error.valid_up_to()), "the body is not valid UTF-8".into())
    })?;
    let mut reader = serde_json::Deserializer::from_str(text);
    let value =
        Strict { depth: 0 }.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value)).map_err(
            |error| bad(format!("line {} column {}", error.line(), error.column()), words(&error)),
        )?;
    match oversized_integer(text) {
        Some(at) => Err(bad(place_of(text, at), "an integer is beyond 64 bits; send it as a string".into())),
        None => Ok(value),
    }
}

/// The line and the column of a byte, both from 1, as serde counts them.
fn place_of(text: &str, at: usize) -> String {
    let before = &text[..at];
    let line = 1 + before.matches('\n').count();
    let column = 1 + at - before.rfind('\n').map_or(0, |end| end + 1);
    format!("line {line} column {column}")
}

/// serde's words without the place, which stands beside them.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    let words = text.rsplit_once(" at line ").map_or(text.as_str(), |(words, _)| words);
    if words.starts_with("EOF") { "the body is empty or ends too early".into() } else { words.to_owned() }
}

/// The position of an integer that exceeds 64 bits, which serde would parse as a float.
fn oversized_integer(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => at = end_of_string(bytes, at),
            b'-' | b'0'..=b'9' => {
                let end = at
                    + bytes[at..]
                        .iter()
                        .take_while(|b| matches!(b, b'-' | b'+' | b'.' | b'e' | b'E' | b'0'..=b'9'))
                        .count();
                let number = &text[at..end];
                let is_integer = !number.contains(['.', 'e', 'E']);
                if is_integer && number.parse::<i64>().is_err() && number.parse::<u64>().is_err() {
                    return Some(at);
                }
                at = end;
            }
            _ => at += 1,
        }
    }
    None
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() && bytes[at] != b'"' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at + 1
}

#[derive(Clone, Copy)]
struct Strict {
    depth: usize,
}

impl Strict {
    fn deeper<E: serde::de::Error>(self) -> Result<Self, E> {
        if self.depth >= MAX_DEPTH {
            return Err(E::custom(format!("nesting is deeper than {MAX_DEPTH} levels")));
        }
        Ok(Self { depth: self.depth + 1 })
    }
}

fn without_nul<E: serde::de::Error>(text: String) -> Result<String, E> {
    if text.contains('\0') { Err(E::custom("a string contains a NUL character")) } else { Ok(text) }
}

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;
    fn deserialize<D: serde::Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
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
    fn visit_f64<E: serde::de::Error>(self, value: f64) -> Result<Value, E> {
        Number::from_f64(value).map(Value::Number).ok_or_else(|| E::custom("a number is out of range"))
    }
    fn visit_str<E: serde::de::Error>(self, value: &str) -> Result<Value, E> {
        self.visit_string(value.to_owned())
    }
    fn visit_string<E: serde::de::Error>(self, value: String) -> Result<Value, E> {
        without_nul(value).map(Value::String)
    }
    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(inner)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let inner = self.deeper()?;
        let mut members = Map::new();
        while let Some(name) = map.next_key::<String>()? {
            let name = without_nul(name)?;
            let value = map.next_value_seed(inner)?;
            if members.contains_key(&name) {
                return Err(A::Error::custom(format!("duplicate key `{name}` in an object")));
            }
            members.insert(name, value);
        }
        Ok(Value::Object(members))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(text: &[u8]) -> String {
        parse(text).unwrap_err().body().detail
    }

    #[test]
    fn what_two_readers_could_read_in_two_ways_is_refused() {
        assert!(refusal(br#"{"a":1,"a":2}"#).contains("duplicate key `a`"));
        assert!(refusal(br#"{"a":18446744073709551616}"#).contains("beyond 64 bits"));
        assert!(refusal(br#"{"a":"x\u0000y"}"#).contains("NUL"));
        assert!(refusal(br#"{"a":"x"} {}"#).contains("trailing"));
        assert!(refusal(b"{\"a\":\"\xff\"}").contains("UTF-8"));
        assert!(refusal(b"").contains("empty"));
        assert!(refusal(br#"{"a":1e999}"#).contains("out of range"));
    }

    #[test]
    fn depth_is_bounded_at_32() {
        let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(nested(32).as_bytes()).is_ok());
        assert!(refusal(nested(33).as_bytes()).contains("deeper than 32"));
        assert!(refusal(nested(100_000).as_bytes()).contains("deeper than 32"));
    }

    #[test]
    fn large_numbers_within_64_bits_and_digits_in_texts_are_kept() {
        let value = parse(br#"{"a":18446744073709551615,"b":-9223372036854775808,"c":"99999999999999999999\"1","d":1.5e300}"#);
        let value = value.unwrap();
        assert_eq!(value["a"].as_u64(), Some(u64::MAX));
        assert_eq!(value["b"].as_i64(), Some(i64::MIN));
    }
}
