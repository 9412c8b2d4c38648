//! Infers a JSON Schema from real events, as a starting point.
//!
//! It describes what is common to all these events without guessing limits, so all of them match it.

mod shape;
mod texts;

use serde_json::{Value, json};

use super::publish::{ApplyError, Publisher};
use super::traffic::MAX_EVENTS;
use crate::domain::budget::Budget;
use crate::domain::event::EventTypeName;
use shape::Shape;
use texts::Formats;

/// A schema, and what it is based on.
#[derive(Debug, Clone, PartialEq, serde::Serialize, utoipa::ToSchema)]
pub struct Inferred {
    /// Number of events that were used.
    pub based_on: usize,
    /// JSON Schema (2020-12) of `data`.
    #[schema(value_type = Object)]
    pub schema: Value,
}

/// A schema that all of these `data` match, or as many of them as the budget allows. Masked values may be
/// anything.
pub fn infer<'d>(events: impl IntoIterator<Item = &'d Value>, budget: &Budget) -> Inferred {
    let formats = Formats::new();
    let (mut shape, mut based_on) = (Shape::default(), 0);
    for data in events {
        if shape.add(data, &formats, budget).is_err() {
            break;
        }
        based_on += 1;
    }
    let mut schema = json!({"$schema": "https://json-schema.org/draft/2020-12/schema"});
    if let (Some(schema), Value::Object(inferred)) = (schema.as_object_mut(), shape.schema("")) {
        schema.extend(inferred);
    }
    Inferred { based_on, schema }
}

impl Publisher {
    /// A schema that the last `last` events of a type match.
    ///
    /// # Errors
    /// [`ApplyError::Store`] if the database is unavailable, [`ApplyError::Compute`] if it can't be computed now.
    pub async fn infer(&self, event_type: &EventTypeName, last: u32) -> Result<Inferred, ApplyError> {
        let types = [event_type.as_str().to_owned()];
        let events = self.store.last_events(&types, last.clamp(1, MAX_EVENTS).into()).await?;
        Ok(self.compute(move |budget| infer(events.iter().map(|event| &event.data), budget)).await?)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::domain::event::MASK;

    fn of(events: &[Value]) -> Value {
        let mut schema = infer(events, &Budget::default()).schema;
        schema.as_object_mut().unwrap().remove("$schema");
        schema
    }

    fn member(values: &[Value]) -> Value {
        let events: Vec<Value> = values.iter().map(|value| json!({ "x": value })).collect();
        of(&events)["properties"]["x"].clone()
    }

    #[test]
    fn what_all_events_have_is_required_and_what_some_have_is_not() {
        let schema = of(&[json!({"a": 1, "b": "x"}), json!({"a": 2.5}), json!({"a": 3})]);
        let wanted = json!({
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "string", "pattern": "\\S"}},
            "required": ["a"],
        });
        assert_eq!(schema, wanted);
    }

    #[test]
    fn types_are_those_that_were_seen() {
        assert_eq!(member(&[json!(1), json!(-2)]), json!({"type": "integer"}));
        assert_eq!(member(&[json!(1), json!(null)]), json!({"type": ["integer", "null"]}));
        assert_eq!(
            member(&[json!(true), json!("x")]),
            json!({"type": ["boolean", "string"], "pattern": "\\S"})
        );
        assert_eq!(
            member(&[json!([]), json!([1, "x"])]),
            json!({"type": "array", "items": {"type": ["integer", "string"], "pattern": "\\S"}})
        );
        assert_eq!(member(&[json!([])]), json!({"type": "array"}));
    }

    #[test]
    fn a_text_that_was_blank_once_may_be_blank() {
        assert_eq!(member(&[json!("x"), json!(" ")]), json!({"type": "string"}));
    }

    #[test]
    fn formats_are_those_that_every_text_had() {
        for (format, values) in [
            ("date", ["2026-11-25", "2024-02-29"]),
            ("date-time", ["2026-11-25T10:00:00Z", "2026-11-25T10:00:00.5+01:00"]),
            ("uri", ["https://shop.example/a?b=c", "http://x.io"]),
            ("email", ["ann@shop.example", "b.c@x.io"]),
            ("uuid", ["5a0d0000-0000-4000-8000-000000000001", "5A0D0000-0000-4000-8000-000000000001"]),
        ] {
            let wanted = json!({"type": "string", "format": format});
            assert_eq!(member(&[json!(values[0]), json!(values[1])]), wanted);
            let broken = member(&[json!(values[0]), json!("something")]);
            assert_eq!(broken, json!({"type": "string", "pattern": "\\S"}), "{format}");
        }
    }

    #[test]
    fn a_few_words_that_come_again_and_again_are_listed_unless_they_may_be_secret() {
        let events = |key: &str, words: usize, count: usize| -> Vec<Value> {
            (0..count).map(|n| json!({key: format!("w{}", n % words)})).collect()
        };
        let found = |key: &str, words: usize, count: usize| {
            of(&events(key, words, count))["properties"][key].get("enum").cloned()
        };
        assert_eq!(found("state", 3, 50), Some(json!(["w0", "w1", "w2"])));
        assert_eq!(found("state", 8, 50).and_then(|e| e.as_array().map(Vec::len)), Some(8));
        assert_eq!(found("state", 9, 90), None);
        assert_eq!(found("state", 3, 49), None);
        for key in ["code", "resetToken", "api_key", "userEmail", "phone", "first_name", "customer_id", "pin"]
        {
            assert_eq!(found(key, 3, 60), None, "{key}");
        }
    }

    #[test]
    fn a_listed_word_may_be_nothing_where_it_was() {
        let events: Vec<Value> = (0..60)
            .map(|n| if n == 7 { json!({"state": null}) } else { json!({"state": "packed"}) })
            .collect();
        let wanted = json!({"type": ["null", "string"], "enum": [null, "packed"]});
        assert_eq!(of(&events)["properties"]["state"], wanted);
    }

    #[test]
    fn what_was_masked_may_be_anything() {
        assert_eq!(member(&[json!(MASK), json!(MASK)]), json!({}));
    }

    #[test]
    fn an_object_with_ever_new_keys_is_a_dictionary() {
        let events: Vec<Value> =
            (0..60).map(|n| json!({"prices": {format!("sku{n}"): n, format!("sku{}", n + 1): 2}})).collect();
        let wanted = json!({"type": "object", "additionalProperties": {"type": "integer"}});
        assert_eq!(of(&events)["properties"]["prices"], wanted);
    }

    #[test]
    fn without_events_nothing_is_said() {
        assert_eq!((infer([], &Budget::default()).based_on, of(&[])), (0, json!({})));
    }

    fn value() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            any::<u64>().prop_map(Value::from),
            (-1e9..1e9_f64).prop_map(Value::from),
            Just(json!(1.0)),
            "( |a|x){0,2}".prop_map(Value::from),
            prop_oneof![
                Just("2026-11-25"),
                Just("2026-02-30"),
                Just("2026-11-25T10:00:00Z"),
                Just("https://x.io/ü"),
                Just("http://"),
                Just("a@b"),
                Just("a@b.io"),
                Just(MASK),
                Just("5a0d0000-0000-4000-8000-000000000001"),
            ]
            .prop_map(Value::from),
        ];
        leaf.prop_recursive(3, 24, 4, |inner| {
            prop_oneof![
                proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                proptest::collection::btree_map("(a|b|c|code|state)", inner, 0..4)
                    .prop_map(|members| Value::Object(members.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn every_event_fits_the_schema_that_was_made_of_it(
            events in proptest::collection::vec(value(), 1..8),
            times in prop_oneof![Just(1_usize), Just(60)],
        ) {
            let all: Vec<&Value> = std::iter::repeat_n(&events, times).flatten().collect();
            let schema = infer(all, &Budget::default()).schema;
            let validator = jsonschema::options().should_validate_formats(true).build(&schema).expect("a schema");
            for event in &events {
                prop_assert!(validator.is_valid(event), "{event}\n{schema}");
            }
        }
    }
}
