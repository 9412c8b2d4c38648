//! The written form of an event type.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::FormProblem;
use crate::domain::budget::Budget;
use crate::domain::event::EventTypeName;
use crate::domain::snapshot::EventTypeEntry;
use crate::schemas::Schema;

/// An event type. In files, schema and samples are separate JSON files next to `event.toml`.
#[derive(Debug, Clone, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields, default)]
pub struct EventTypeForm {
    /// Description.
    pub description: String,
    /// Owner.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// JSON pointers to sensitive values in `data`, which are encrypted, such as `/code`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitive: Vec<String>,
    /// When its messages expire, such as `10m`.
    #[serde(with = "humantime_serde", skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub time_to_live: Option<Duration>,
    /// JSON Schema (2020-12) of `data`.
    #[serde(skip_serializing_if = "Value::is_null")]
    #[schema(value_type = Object)]
    pub schema: Value,
    /// Examples of `data` by name.
    #[serde(skip_serializing_if = "Map::is_empty")]
    #[schema(value_type = Object)]
    pub samples: Map<String, Value>,
}

impl EventTypeForm {
    /// The form of an entry.
    pub fn of(entry: &EventTypeEntry) -> Self {
        Self {
            description: entry.description.clone(),
            owner: entry.owner.clone(),
            sensitive: entry.sensitive.clone(),
            time_to_live: entry.time_to_live,
            schema: entry.schema.clone(),
            samples: entry.samples.clone(),
        }
    }

    /// Parses the entry, with all problems. Its version is set by the store.
    pub fn read(self, name: &str, budget: &Budget) -> (Option<EventTypeEntry>, Vec<FormProblem>) {
        let mut problems = Vec::new();
        let name: Option<EventTypeName> = name.parse().ok();
        if name.is_none() {
            let message = "an event type must be words of letters, digits, `_` and `-`, joined by dots";
            problems.push(FormProblem::new("bad_name", "name", message).hint("such as order.shipped"));
        }
        for pointer in self.sensitive.iter().filter(|pointer| !pointer.starts_with('/')) {
            let message = format!("`{pointer}` is not a JSON pointer");
            problems.push(FormProblem::new("bad_pointer", "sensitive", message).hint("write it as `/code`"));
        }
        if let Some(life) = self.time_to_live.filter(|life| life.as_secs() == 0 || life.subsec_nanos() > 0) {
            let message = format!(
                "{} is not a valid time to live",
                humantime_serde::re::humantime::format_duration(life)
            );
            problems.push(
                FormProblem::new("bad_duration", "time_to_live", message)
                    .hint("use whole seconds, at least one, such as 10m"),
            );
        }
        let is_usable = self.check_schema(&mut problems, budget);
        let pointers = self.sensitive.iter().filter(|pointer| is_usable && pointer.starts_with('/'));
        for pointer in pointers {
            if let Err(known) = leads_somewhere(&self.schema, &self.schema, (pointer, MAX_DEPTH), budget) {
                let message = format!("the schema has no `{pointer}`: nothing would be encrypted");
                let near = known.iter().min_by_key(|name| strsim::damerau_levenshtein(name, last(pointer)));
                let hint = near
                    .map_or("use a field of the schema".to_owned(), |near| format!("did you mean `{near}`?"));
                problems.push(FormProblem::new("unknown_path", "sensitive", message).hint(hint));
            }
        }
        let entry = name.filter(|_| problems.is_empty()).map(|name| EventTypeEntry {
            name,
            version: 0,
            description: self.description,
            owner: self.owner,
            schema: self.schema,
            sensitive: self.sensitive,
            time_to_live: self.time_to_live,
            samples: self.samples,
        });
        (entry, problems)
    }

    /// Whether the schema is valid; collects problems of the schema and its samples.
    fn check_schema(&self, problems: &mut Vec<FormProblem>, budget: &Budget) -> bool {
        if let Some(reference) = remote_reference(&self.schema) {
            let message = format!("`{reference}` refers outside the schema");
            problems.push(
                FormProblem::new("remote_reference", "schema", message)
                    .hint("put it under `$defs` and refer to `#/$defs/…`"),
            );
            return false;
        }
        let schema = match Schema::new(&self.schema, budget) {
            Ok(schema) => schema,
            Err(error) => {
                let problem = FormProblem::new("bad_schema", "schema", error.to_string());
                problems.push(problem.hint(error.remedy()));
                return false;
            }
        };
        if never_takes_objects(&self.schema, &self.schema, MAX_DEPTH) {
            let message = "an event's `data` is an object, which this schema never accepts";
            problems
                .push(FormProblem::new("bad_schema", "schema", message).hint("write `\"type\": \"object\"`"));
            return false;
        }
        for (name, sample) in &self.samples {
            let checked = schema.check(sample, budget, |error| format!("{}: {error}", error.instance_path()));
            let message = match checked {
                Ok(None) => continue,
                Ok(Some(errors)) => {
                    let first = errors.shown.into_iter().next().unwrap_or_default();
                    format!("the sample `{name}` does not match the schema: {first}")
                }
                Err(spent) => format!("the sample `{name}` could not be validated: {spent}"),
            };
            problems.push(FormProblem::new("bad_sample", "samples", message));
        }
        true
    }
}

/// Keywords that refer to another schema.
const REFERENCES: [&str; 3] = ["$ref", "$dynamicRef", "$recursiveRef"];
/// How many references, combinations and members a pointer is resolved through.
const MAX_DEPTH: usize = 200;

fn last(pointer: &str) -> &str {
    pointer.rsplit('/').next().unwrap_or_default()
}

/// Whether the schema defines or allows the target of a pointer; if not, the names that it defines there.
fn leads_somewhere(
    root: &Value,
    schema: &Value,
    (pointer, levels): (&str, usize),
    budget: &Budget,
) -> Result<(), Vec<String>> {
    // An unresolvable part allows anything.
    if levels == 0 || budget.steps(1).is_err() {
        return Ok(());
    }
    let levels = levels - 1;
    let Some(rest) = pointer.strip_prefix('/') else { return Ok(()) };
    let (step, rest) = rest.split_once('/').map_or((rest, ""), |(step, _)| (step, &rest[step.len()..]));
    let step = step.replace("~1", "/").replace("~0", "~");
    if let Some(target) = schema["$ref"].as_str().and_then(|r| root.pointer(r.trim_start_matches('#'))) {
        return if target == schema {
            Ok(())
        } else {
            leads_somewhere(root, target, (pointer, levels), budget)
        };
    }
    let mut known: Vec<String> = Vec::new();
    if let Some(members) = schema["properties"].as_object() {
        if let Some(member) = members.get(&step) {
            return leads_somewhere(root, member, (rest, levels), budget);
        }
        known.extend(members.keys().cloned());
    }
    if schema["items"].is_object() && step.parse::<usize>().is_ok() {
        return leads_somewhere(root, &schema["items"], (rest, levels), budget);
    }
    let parts = ["allOf", "anyOf", "oneOf"].iter().filter_map(|word| schema[*word].as_array()).flatten();
    for part in parts {
        match leads_somewhere(root, part, (pointer, levels), budget) {
            Ok(()) => return Ok(()),
            Err(names) => known.extend(names),
        }
    }
    // A schema without properties allows anything.
    if known.is_empty() { Ok(()) } else { Err(known) }
}

/// Whether a schema definitely rejects every object.
fn never_takes_objects(root: &Value, schema: &Value, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return false };
    let never = |part: &Value| never_takes_objects(root, part, levels);
    let parts = |word: &str| schema[word].as_array().map(Vec::as_slice).unwrap_or_default();
    let is_other = |kind: &Value| kind.as_str().is_some_and(|kind| kind != "object");
    let reference = schema["$ref"].as_str().and_then(|target| root.pointer(target.strip_prefix('#')?));
    *schema == Value::Bool(false)
        || is_other(&schema["type"])
        || schema["type"].as_array().is_some_and(|kinds| kinds.iter().all(is_other))
        || reference.is_some_and(never)
        || parts("allOf").iter().any(never)
        || ["anyOf", "oneOf"].iter().any(|word| !parts(word).is_empty() && parts(word).iter().all(never))
}

/// A reference to something outside the schema.
fn remote_reference(schema: &Value) -> Option<&str> {
    match schema {
        Value::Object(members) => members.iter().find_map(|(name, value)| match value {
            Value::String(target) if REFERENCES.contains(&name.as_str()) && !target.starts_with('#') => {
                Some(target.as_str())
            }
            other => remote_reference(other),
        }),
        Value::Array(list) => list.iter().find_map(remote_reference),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn problem(schema: &Value) -> Option<(String, Option<String>)> {
        let form = EventTypeForm { schema: schema.clone(), ..EventTypeForm::default() };
        let (_, problems) = form.read("order.shipped", &Budget::default());
        problems.into_iter().next().map(|problem| (problem.message, problem.hint))
    }

    #[test]
    fn a_schema_that_takes_no_object_is_refused() {
        let other = json!({"$defs": {"a": {"type": "string"}}, "$ref": "#/$defs/a"});
        for never in [
            json!({"type": "array"}),
            json!({"type": ["string", "null"]}),
            json!({"allOf": [{"type": "object"}, {"type": "number"}]}),
            json!({"oneOf": [{"type": "array"}, false]}),
            other,
        ] {
            let (message, _) = problem(&never).unwrap();
            assert!(message.contains("never accepts"), "{never}: {message}");
        }
        for good in [
            json!({}),
            json!({"type": "object"}),
            json!({"type": ["object", "null"]}),
            json!({"anyOf": [{"type": "array"}, {"type": "object"}]}),
            json!({"properties": {"a": {"type": "array"}}}),
        ] {
            assert_eq!(problem(&good), None, "{good}");
        }
    }

    #[test]
    fn what_is_no_json_schema_is_reported_with_its_place() {
        let (message, _) = problem(&json!({"properties": {"total": {"type": "money"}}})).unwrap();
        assert!(message.contains("#/properties/total"), "{message}");
        let (message, _) = problem(&json!({"required": "a"})).unwrap();
        assert!(message.contains("#/required"), "{message}");
    }
}
