//! Whether two posts of one id have the same content, and if not, where they differ.

use serde::{Serialize, Serializer};
use serde_json::{Map, Number, Value};

use crate::domain::event::Event;
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::IngestError;
use crate::pipeline::ingest::group_commit::Reply;
use crate::pipeline::plan::redaction::MASK;

/// The maximum number of fields named in a response.
const MAX_FIELDS: usize = 5;

/// The content of an event, without its id.
#[derive(Debug, Clone, Default)]
pub struct Content {
    /// In a canonical form: `Z` and `+00:00`, `10` and `10.0`, `null` and an absent member, a single recipient and a
    /// list of one are equal.
    pub meaning: Vec<u8>,
    /// As it was posted, keys sorted: earlier versions made fingerprints of this form.
    pub as_posted: Vec<u8>,
}

impl Content {
    /// Content in a canonical form.
    pub fn of(bytes: Vec<u8>) -> Self {
        Self { meaning: bytes.clone(), as_posted: bytes }
    }
}

/// A value in canonical form: without members that are `null` and fractions that are zero.
#[derive(Debug, Clone, Copy)]
pub struct Plain<'a>(pub &'a Value);

impl Serialize for Plain<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(members) => {
                let present = members.iter().filter(|(_, member)| !member.is_null());
                serializer.collect_map(present.map(|(name, member)| (name, Plain(member))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Plain)),
            Value::Number(number) => whole(number).serialize(serializer),
            other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other.serialize(serializer),
        }
    }
}

/// The same value in canonical form: without members that are `null` and fractions that are zero.
#[must_use]
pub fn plain(value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let present = members.iter().filter(|(_, member)| !member.is_null());
            Value::Object(present.map(|(name, member)| (name.clone(), plain(member))).collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(plain).collect()),
        Value::Number(number) => Value::Number(whole(number)),
        other @ (Value::Null | Value::Bool(_) | Value::String(_)) => other.clone(),
    }
}

/// A number that is whole and that a float holds exactly, as an integer.
fn whole(number: &Number) -> Number {
    /// Up to here every integer can be represented as a 64-bit float.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    match number.as_f64() {
        Some(value) if number.is_f64() && value.fract() == 0.0 && value.abs() <= EXACT => {
            format!("{value:.0}").parse::<i64>().map_or_else(|_| number.clone(), Number::from)
        }
        _ => number.clone(),
    }
}

impl Pipeline {
    /// An answer that names the fields that differ from the first post's, if the content differs.
    pub(in crate::pipeline) async fn say_what_differs(&self, reply: Reply, new: &Event) -> Reply {
        let Err(IngestError::DifferentContent { event, .. }) = reply else { return reply };
        // If the fields can't be determined, the answer goes out without them.
        let first = self.store.find_event(event).await.ok().flatten();
        let fields = first.map_or_else(Vec::new, |first| differing(&first.event, new));
        Err(IngestError::DifferentContent { event, fields })
    }
}

/// Where two events differ; values that are not stored in clear are skipped.
fn differing(first: &Event, new: &Event) -> Vec<String> {
    let differ = [
        ("type", first.event_type != new.event_type),
        ("recipients", first.recipients != new.recipients),
        ("time", first.occurred_at != new.occurred_at),
        ("locale", first.locale != new.locale),
        ("send_after", first.send_after != new.send_after),
        ("expires_at", first.expires_at != new.expires_at),
        ("cancellation_key", first.cancellation_key != new.cancellation_key),
        ("collapse_key", first.collapse_key != new.collapse_key),
        ("sequence", first.sequence != new.sequence),
        ("ordering_key", first.ordering_key != new.ordering_key),
    ];
    let mut fields: Vec<String> =
        differ.into_iter().filter(|(_, differs)| *differs).map(|(name, _)| format!("/{name}")).collect();
    // The payload is pruned earlier than the rest.
    if !first.data.is_null() {
        compare("/data".to_owned(), &plain(&first.data), &plain(&new.data), &mut fields);
    }
    fields.truncate(MAX_FIELDS);
    fields
}

fn compare(place: String, first: &Value, new: &Value, found: &mut Vec<String>) {
    if found.len() >= MAX_FIELDS || first == new || first == MASK {
        return;
    }
    let step = |name: &str| format!("{place}/{}", name.replace('~', "~0").replace('/', "~1"));
    match (first, new) {
        (Value::Object(one), Value::Object(other)) => {
            let empty = Value::Null;
            let names: std::collections::BTreeSet<&String> = one.keys().chain(other.keys()).collect();
            let member = |of: &Map<String, Value>, name: &String| of.get(name).unwrap_or(&empty).clone();
            for name in names {
                compare(step(name), &member(one, name), &member(other, name), found);
            }
        }
        (Value::Array(one), Value::Array(other)) if one.len() == other.len() => {
            for (place, (one, other)) in one.iter().zip(other).enumerate() {
                compare(step(&place.to_string()), one, other, found);
            }
        }
        _ => found.push(place),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::pipeline::ingest::repeats::*;

    #[test]
    fn values_that_mean_the_same_have_one_form() {
        let one =
            json!({"a": 10.0, "b": null, "c": [null, -0.0, 1.5, {"d": null}], "e": 1e300, "f": u64::MAX});
        let other = json!({"a": 10, "c": [null, 0, 1.5, {}], "e": 1e300, "f": u64::MAX, "g": null});
        assert_eq!(plain(&one), plain(&other));
        let text = |value: &Value| serde_json::to_string(&Plain(value)).unwrap();
        assert_eq!(text(&one), plain(&one).to_string());
        assert_eq!(text(&one), text(&other));
        assert_ne!(
            plain(&json!({"a": 9_007_199_254_740_993_u64})),
            plain(&json!({"a": 9_007_199_254_740_992.0}))
        );
        assert_ne!(plain(&json!({"a": "10"})), plain(&json!({"a": 10})));
    }

    #[test]
    fn what_differs_is_named_and_what_is_masked_is_not() {
        let mut found = Vec::new();
        let first = json!({"a": 1, "b": {"c/d": [1, 2]}, "code": MASK, "gone": true});
        let new = json!({"a": 1, "b": {"c/d": [1, 3]}, "code": "123456", "more": {}});
        compare("/data".to_owned(), &first, &new, &mut found);
        assert_eq!(found, ["/data/b/c~1d/1", "/data/gone", "/data/more"]);
    }
}
