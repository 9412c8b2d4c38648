//! Filters: which of an app's users a segment or a message targets.

use serde_json::Value;

use super::people::Person;
use crate::domain::clock::Timestamp;

const MAX: usize = 200;
const FIELDS: [&str; 13] = [
    "tag",
    "language",
    "country",
    "email",
    "first_session",
    "last_session",
    "session_count",
    "session_time",
    "amount_spent",
    "bought_sku",
    "app_version",
    "location",
    "device_type",
];
const RELATIONS: [&str; 10] = [
    ">",
    "<",
    "=",
    "!=",
    "exists",
    "not_exists",
    "time_elapsed_gt",
    "time_elapsed_lt",
    "in_array",
    "not_in_array",
];

/// Validates a list of filters.
pub(super) fn check(filters: &Value) -> Result<Vec<Value>, String> {
    let entries = filters.as_array().filter(|entries| (1..=MAX).contains(&entries.len()));
    let entries = entries.ok_or_else(|| format!("filters must be a list of 1 to {MAX} objects."))?;
    let mut expects_filter = true;
    for entry in entries {
        let Some(fields) = entry.as_object() else {
            return Err(format!("filters must be a list of 1 to {MAX} objects."));
        };
        if let Some(operator) = fields.get("operator") {
            if !matches!(operator.as_str(), Some("AND" | "OR")) || expects_filter {
                return Err("An operator is AND or OR, and stands between two filters.".to_owned());
            }
            expects_filter = true;
            continue;
        }
        expects_filter = false;
        check_filter(entry)?;
    }
    if expects_filter {
        return Err("An operator is AND or OR, and stands between two filters.".to_owned());
    }
    Ok(entries.clone())
}

fn check_filter(entry: &Value) -> Result<(), String> {
    let field = entry["field"].as_str().unwrap_or_default();
    if !FIELDS.contains(&field) {
        return Err(format!("Invalid filter field: {field}"));
    }
    if field == "tag" && entry["key"].as_str().is_none_or(str::is_empty) {
        return Err("A tag filter needs a key.".to_owned());
    }
    match entry.get("relation") {
        None => Ok(()),
        Some(relation) if RELATIONS.contains(&relation.as_str().unwrap_or_default()) => Ok(()),
        Some(relation) => Err(format!("Invalid filter relation: {relation}")),
    }
}

/// Whether the filters are for this person: all of them, or all on one side of an `OR`.
pub(super) fn matches(filters: &[Value], person: &Person, now: Timestamp) -> bool {
    let groups = filters.split(|entry| entry["operator"] == "OR");
    groups.into_iter().any(|group| {
        group.iter().filter(|entry| entry.get("operator").is_none()).all(|entry| holds(entry, person, now))
    })
}

fn holds(filter: &Value, person: &Person, now: Timestamp) -> bool {
    let field = filter["field"].as_str().unwrap_or_default();
    let relation = filter["relation"].as_str().unwrap_or("=");
    if matches!(field, "first_session" | "last_session") {
        let hours = person.created_at.map(|at| (now - at).num_hours());
        let wanted = number(&filter["hours_ago"]);
        return compare(hours.and_then(|hours| number(&hours.into())), relation, wanted);
    }
    let actual = actual(field, filter, person);
    let wanted = text(&filter["value"]);
    match relation {
        "exists" => actual.is_some(),
        "not_exists" => actual.is_none(),
        "=" => actual.is_some() && actual == wanted,
        "!=" => actual != wanted,
        "in_array" | "not_in_array" => {
            let listed = actual
                .is_some_and(|actual| wanted.unwrap_or_default().split(',').any(|one| one.trim() == actual));
            listed == (relation == "in_array")
        }
        "time_elapsed_gt" | "time_elapsed_lt" => {
            let seconds = actual.and_then(|text| text.parse::<i64>().ok()).map(|at| now.timestamp() - at);
            let relation = if relation == "time_elapsed_gt" { ">" } else { "<" };
            compare(seconds.and_then(|seconds| number(&seconds.into())), relation, number(&filter["value"]))
        }
        _ => compare(actual.and_then(|text| text.parse().ok()), relation, number(&filter["value"])),
    }
}

/// The user's value, as text.
fn actual(field: &str, filter: &Value, person: &Person) -> Option<String> {
    match field {
        "tag" => person.tags.get(filter["key"].as_str()?).and_then(text),
        "language" => person.language.clone(),
        "country" => person.country.clone(),
        "email" => {
            let email = person.subscription(super::message::Channel::Email, true)?;
            email.token.clone()
        }
        "app_version" | "device_type" => {
            person.own_subscriptions().iter().find_map(|own| own.device.get(field)).and_then(text)
        }
        _ => person.properties.get(field).and_then(text),
    }
}

fn text(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        Value::Bool(flag) => Some(flag.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

fn number(value: &Value) -> Option<f64> {
    value.as_f64().or_else(|| value.as_str().and_then(|text| text.parse().ok()))
}

fn compare(actual: Option<f64>, relation: &str, wanted: Option<f64>) -> bool {
    let (Some(actual), Some(wanted)) = (actual, wanted) else { return false };
    match relation {
        ">" => actual > wanted,
        "<" => actual < wanted,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn ann() -> Person {
        let tags = json!({"plan": "gold", "orders": "7"}).as_object().cloned().unwrap();
        Person {
            tags,
            language: Some("de".to_owned()),
            created_at: Some("2026-03-01T12:00:00Z".parse().unwrap()),
            ..Person::default()
        }
    }

    fn is_for_ann(filters: &Value) -> bool {
        let now = "2026-03-03T12:00:00Z".parse().unwrap();
        matches(&check(filters).unwrap(), &ann(), now)
    }

    #[test]
    fn filters_look_at_tags_properties_and_time() {
        for (filters, expected) in [
            (json!([{"field": "tag", "key": "plan", "relation": "=", "value": "gold"}]), true),
            (json!([{"field": "tag", "key": "plan", "relation": "!=", "value": "gold"}]), false),
            (json!([{"field": "tag", "key": "orders", "relation": ">", "value": "6"}]), true),
            (json!([{"field": "tag", "key": "vip", "relation": "exists"}]), false),
            (json!([{"field": "tag", "key": "vip", "relation": "not_exists"}]), true),
            (json!([{"field": "tag", "key": "plan", "relation": "in_array", "value": "gold, silver"}]), true),
            (json!([{"field": "language", "relation": "=", "value": "de"}]), true),
            (json!([{"field": "first_session", "relation": ">", "hours_ago": "47"}]), true),
            (json!([{"field": "first_session", "relation": ">", "hours_ago": "49"}]), false),
        ] {
            assert_eq!(is_for_ann(&filters), expected, "{filters}");
        }
    }

    #[test]
    fn and_binds_closer_than_or() {
        let tag =
            |key: &str, value: &str| json!({"field": "tag", "key": key, "relation": "=", "value": value});
        let or = json!({"operator": "OR"});
        let and = json!({"operator": "AND"});
        assert!(is_for_ann(&json!([tag("plan", "tin"), or, tag("plan", "gold"), and, tag("orders", "7")])));
        assert!(!is_for_ann(&json!([tag("plan", "tin"), or, tag("plan", "gold"), tag("orders", "8")])));
    }

    #[test]
    fn what_is_no_filter_is_refused() {
        for wrong in [
            json!([]),
            json!({}),
            json!([{"field": "shoe_size"}]),
            json!([{"field": "tag", "relation": "="}]),
            json!([{"field": "tag", "key": "k", "relation": "~"}]),
            json!([{"operator": "OR"}]),
            json!([{"field": "language", "value": "de"}, {"operator": "XOR"}, {"field": "language", "value": "en"}]),
            json!([{"field": "language", "value": "de"}, {"operator": "OR"}]),
        ] {
            assert!(check(&wrong).is_err(), "{wrong}");
        }
    }
}
