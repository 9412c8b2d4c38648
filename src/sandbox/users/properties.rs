//! The properties of a user, their tags among them.

use axum::http::StatusCode;
use serde_json::{Value, json};

use super::super::json::Object;
use super::super::people::Person;
use super::super::refusal::Refusal;

/// Maximum properties and tags changed in one request.
const MAX_CHANGES: usize = 100;
/// Reserved names in Liquid.
const RESERVED_TAGS: [&str; 11] = [
    "message",
    "notification",
    "subscription",
    "user",
    "template",
    "app",
    "org",
    "dynamic_content",
    "data_feed",
    "journey",
    "custom_data",
];
const TEXTS: [&str; 4] = ["language", "timezone_id", "country", "ip"];
const NUMBERS: [&str; 5] = ["lat", "long", "amount_spent", "first_active", "last_active"];

/// Applies `properties` of a request, all or nothing.
pub(super) fn change(person: &mut Person, wanted: &Value, max_tags: Option<usize>) -> Result<(), Refusal> {
    let wanted = wanted.as_object().ok_or_else(|| refused("properties must be an object"))?;
    let tags = match wanted.get("tags") {
        None | Some(Value::Null) => None,
        Some(tags) => Some(tags.as_object().ok_or_else(|| refused("tags must be an object"))?),
    };
    let changes = wanted.len() + tags.map_or(0, Object::len);
    if changes > MAX_CHANGES {
        return Err(refused(&format!("A request can change {MAX_CHANGES} properties at most")));
    }
    let mut changed = person.clone();
    if let Some(tags) = tags {
        change_tags(&mut changed.tags, tags, max_tags)?;
    }
    for (name, value) in wanted.iter().filter(|(name, _)| *name != "tags") {
        set(&mut changed, name, value)?;
    }
    *person = changed;
    Ok(())
}

/// Adds `deltas`: sessions and purchases.
pub(super) fn add_deltas(person: &mut Person, deltas: &Value) -> Result<(), Refusal> {
    let deltas = deltas.as_object().ok_or_else(|| refused("deltas must be an object"))?;
    for name in ["session_time", "session_count"] {
        let Some(more) = deltas.get(name) else { continue };
        let more = more.as_i64().ok_or_else(|| refused(&format!("{name} must be a whole number")))?;
        let sum = person.properties.get(name).and_then(Value::as_i64).unwrap_or_default() + more;
        person.properties.insert(name.to_owned(), json!(sum));
    }
    let spent = deltas.get("purchases").and_then(Value::as_array).into_iter().flatten();
    let spent: f64 = spent.filter_map(|purchase| purchase["amount"].as_str()?.parse::<f64>().ok()).sum();
    if spent != 0.0 {
        let sum = person.properties.get("amount_spent").and_then(Value::as_f64).unwrap_or_default() + spent;
        person.properties.insert("amount_spent".to_owned(), json!(sum));
    }
    Ok(())
}

/// The properties as the API shows them.
pub(super) fn view(person: &Person) -> Value {
    let mut shown = person.properties.clone();
    let texts =
        [("language", &person.language), ("timezone_id", &person.timezone_id), ("country", &person.country)];
    for (name, value) in texts {
        if let Some(value) = value {
            shown.insert(name.to_owned(), json!(value));
        }
    }
    shown.insert("tags".to_owned(), Value::Object(person.tags.clone()));
    if let Some(at) = person.created_at {
        shown.entry("first_active").or_insert_with(|| json!(at.timestamp()));
        shown.entry("last_active").or_insert_with(|| json!(at.timestamp()));
    }
    Value::Object(shown)
}

/// Sets tags, removes those with an empty value, and rejects the whole change above the plan's limit.
fn change_tags(tags: &mut Object, wanted: &Object, max: Option<usize>) -> Result<(), Refusal> {
    let mut adds = false;
    for (key, value) in wanted {
        if RESERVED_TAGS.contains(&key.as_str()) {
            return Err(refused(&format!("The tag key {key} is reserved")));
        }
        let text = match value {
            Value::String(text) => text.clone(),
            Value::Null => String::new(),
            Value::Number(_) | Value::Bool(_) | Value::Array(_) | Value::Object(_) => {
                return Err(refused(&format!("The tag {key} must be a text")));
            }
        };
        if text.is_empty() {
            tags.remove(key);
        } else {
            adds |= tags.insert(key.clone(), Value::String(text)).is_none();
        }
    }
    if adds && max.is_some_and(|max| tags.len() > max) {
        return Err(Refusal::coded(
            StatusCode::CONFLICT,
            "entitlements-tag-limit",
            "The tags for this user exceed the limit for this organization's plan.",
        ));
    }
    Ok(())
}

fn set(person: &mut Person, name: &str, value: &Value) -> Result<(), Refusal> {
    if TEXTS.contains(&name) {
        let text = value.as_str().map(str::to_owned);
        if text.is_none() && !value.is_null() {
            return Err(refused(&format!("{name} must be a text")));
        }
        match name {
            "language" => person.language = text,
            "timezone_id" => person.timezone_id = text,
            "country" => person.country = text,
            _ => {
                person.properties.insert(name.to_owned(), value.clone());
            }
        }
        return Ok(());
    }
    if NUMBERS.contains(&name) && !value.is_number() && !value.is_null() {
        return Err(refused(&format!("{name} must be a number")));
    }
    if !NUMBERS.contains(&name) && name != "purchases" {
        return Err(refused(&format!("{name} is no property of a user")));
    }
    person.properties.insert(name.to_owned(), value.clone());
    Ok(())
}

fn refused(title: &str) -> Refusal {
    Refusal::coded(StatusCode::BAD_REQUEST, "user-1", title)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tags(pairs: &[(&str, &str)]) -> Object {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect()
    }

    #[test]
    fn at_the_limit_known_tags_change_and_new_ones_refuse_the_whole_update() {
        let mut own = tags(&[("a", "1"), ("b", "2")]);
        assert!(change_tags(&mut own, &tags(&[("a", "9")]), Some(2)).is_ok());
        assert!(change_tags(&mut own.clone(), &tags(&[("a", "0"), ("c", "3")]), Some(2)).is_err());
        assert!(change_tags(&mut own, &tags(&[("a", ""), ("c", "3")]), Some(2)).is_ok(), "one made room");
        assert_eq!(own, tags(&[("b", "2"), ("c", "3")]));
    }

    #[test]
    fn a_refused_change_leaves_the_person_as_they_were() {
        let mut person = Person { tags: tags(&[("a", "1")]), ..Person::default() };
        let before = person.clone();
        let wanted = json!({"language": "de", "tags": {"b": "2", "user": "x"}});
        assert!(change(&mut person, &wanted, None).is_err());
        assert_eq!(person, before);
    }
}
