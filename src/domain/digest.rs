//! The data of a digest: the last event's values, with `items` and `count`. Pure.

use serde_json::{Map, Value, json};

use super::snapshot::EventTypeEntry;

/// The name of the list of all events' values.
pub const ITEMS: &str = "items";
/// The name of their number.
pub const COUNT: &str = "count";

/// The values of the last event, with those of all of `items` in order and how many there were in all.
pub fn gathered(items: Vec<Value>, count: usize) -> Value {
    let mut data = items.last().cloned().unwrap_or_else(|| json!({}));
    if let Value::Object(members) = &mut data {
        members.insert(ITEMS.to_owned(), Value::Array(items));
        members.insert(COUNT.to_owned(), json!(count));
    }
    data
}

/// An event type as copy sees it if its events are collected into digests.
pub fn gathered_entry(entry: &EventTypeEntry) -> EventTypeEntry {
    let below = |pointer: &String| format!("/{ITEMS}/0{pointer}");
    let mut sensitive = entry.sensitive.clone();
    sensitive.extend(entry.sensitive.iter().map(below));
    let sample = |(name, sample): (&String, &Value)| (name.clone(), gathered(vec![sample.clone()], 1));
    EventTypeEntry {
        schema: gathered_schema(&entry.schema),
        sensitive,
        samples: entry.samples.iter().map(sample).collect(),
        ..entry.clone()
    }
}

fn gathered_schema(schema: &Value) -> Value {
    let Value::Object(members) = schema else { return schema.clone() };
    let mut item = members.clone();
    // References in it point to the definitions of the whole.
    for name in ["$id", "$schema", "$defs"] {
        item.remove(name);
    }
    let mut whole = members.clone();
    let properties = whole.entry("properties").or_insert_with(|| json!({}));
    if let Value::Object(properties) = properties {
        properties
            .insert(ITEMS.to_owned(), json!({"type": "array", "items": Value::Object(item), "minItems": 1}));
        properties.insert(COUNT.to_owned(), json!({"type": "integer", "minimum": 1}));
    }
    require(&mut whole);
    Value::Object(whole)
}

fn require(schema: &mut Map<String, Value>) {
    let required = schema.entry("required").or_insert_with(|| json!([]));
    if let Value::Array(names) = required {
        for name in [ITEMS, COUNT] {
            if !names.iter().any(|known| known == name) {
                names.push(json!(name));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_has_the_last_event_s_values_and_all_of_them_in_order() {
        let items = vec![json!({"order_id": "1", "gift": true}), json!({"order_id": "2"})];
        let data = gathered(items.clone(), 7);
        assert_eq!(data, json!({"order_id": "2", "items": items, "count": 7}));
    }

    #[test]
    fn the_schema_of_a_gathered_event_promises_items_and_their_number() {
        let schema = json!({"type": "object", "required": ["order_id"], "additionalProperties": false,
            "properties": {"order_id": {"type": "string"}}});
        let whole = gathered_schema(&schema);
        assert_eq!(whole["required"], json!(["order_id", "items", "count"]));
        assert_eq!(
            whole["properties"]["items"]["items"]["properties"]["order_id"],
            json!({"type": "string"})
        );
    }
}
