//! Checking a rule: its references, and its expressions against the schemas of its event types.

use serde_json::{Value, json};

use super::super::check::file_of;
use super::super::check::{CatalogProblem, Severity};
use super::super::manifest::RuleDocument;
use super::CheckContext;
use crate::domain::budget::Budget;
use crate::domain::digest::{COUNT, ITEMS};
use crate::domain::rule::{Action, Audience, Definition};
use crate::domain::snapshot::EventTypeEntry;
use crate::expressions::{Expression, ExpressionProblem, Kind};

/// What is wrong with a rule.
pub(super) fn check_rule(
    rule: &RuleDocument,
    around: &CheckContext<'_>,
    budget: &Budget,
) -> Vec<CatalogProblem> {
    let file = file_of("rule", &rule.key);
    let types: Vec<&EventTypeEntry> = around.covered(&rule.event_type).collect();
    let mut problems = Vec::new();
    if types.is_empty() && around.apps.is_some() {
        let near = around
            .event_types
            .keys()
            .min_by_key(|known| strsim::damerau_levenshtein(known, &rule.event_type));
        let mut problem = CatalogProblem::error(
            "unknown_event_type",
            &file,
            format!("there is no event type {}", rule.event_type),
        );
        problem.hint = near.map(|near| format!("did you mean `{near}`?"));
        problems.push(problem);
    }
    if let Action::Send { template, .. } = &rule.definition.action
        && around.apps.is_some()
        && !around.templates.contains(&template.as_str())
    {
        let near = around.templates.iter().min_by_key(|known| strsim::damerau_levenshtein(known, template));
        let mut problem =
            CatalogProblem::error("unknown_template", &file, format!("there is no template {template}"));
        problem.hint = near.map(|near| format!("did you mean `{near}`?"));
        problems.push(problem);
    }
    if let (Some(name), Some(apps)) = (&rule.app, around.apps)
        && !apps.iter().any(|app| app.is_called(name))
    {
        let known: Vec<&str> = apps.iter().map(|app| app.name.as_str()).collect();
        let problem = CatalogProblem::error("unknown_app", &file, format!("there is no app {name}"));
        problems.push(problem.hint(format!("known apps are {}", known.join(", "))));
    }
    problems.extend(check_expressions(&file, &rule.definition, &types, budget));
    if rule.definition.digest.is_some() {
        problems.extend(types.iter().flat_map(|entry| shadowed(&file, entry)));
    }
    problems
}

/// Values of an event type that a digest replaces.
fn shadowed(file: &str, entry: &EventTypeEntry) -> Vec<CatalogProblem> {
    let is_there = |name: &&str| entry.schema.pointer(&format!("/properties/{name}")).is_some();
    let problem = |name: &str| {
        let message = format!(
            "`data.{name}` of {} can't be used with a digest, where that name refers to the digest",
            entry.name.as_str()
        );
        let problem = CatalogProblem::error("shadowed_value", file, message);
        let problem = problem.hint(format!("read it as `{name}` of each of `data.items`"));
        CatalogProblem { severity: Severity::Warning, field: Some("digest".to_owned()), ..problem }
    };
    [ITEMS, COUNT].into_iter().filter(is_there).map(problem).collect()
}

/// Problems in a rule's expressions for these event types.
pub(super) fn check_expressions(
    file: &str,
    definition: &Definition,
    types: &[&EventTypeEntry],
    budget: &Budget,
) -> Vec<CatalogProblem> {
    let about = json!({
        "type": "object",
        "properties": {
            "id": {"type": "string"},
            "type": {"type": "string"},
            "time": {"type": "string", "format": "date-time"},
            "locale": {"type": ["string", "null"]},
        },
        "required": ["id", "type", "time", "locale"],
    });
    let mut problems = Vec::new();
    for (field, text, kind) in expressions(definition) {
        let expression = match Expression::parse(text, budget) {
            Ok(expression) => expression,
            Err(found) => {
                problems.push(CatalogProblem {
                    severity: Severity::Error,
                    field: Some(field),
                    hint: found.hint.clone(),
                    ..CatalogProblem::error(found.code, file, at(&found))
                });
                continue;
            }
        };
        if types.is_empty() {
            problems.extend(found_in(file, &field, &expression, (None, &about), (kind, budget)));
        }
        for entry in types {
            problems.extend(found_in(file, &field, &expression, (Some(entry), &about), (kind, budget)));
        }
    }
    problems.dedup();
    problems
}

fn found_in(
    file: &str,
    field: &str,
    expression: &Expression,
    (entry, about): (Option<&EventTypeEntry>, &Value),
    (kind, budget): (Kind, &Budget),
) -> Vec<CatalogProblem> {
    let schema = entry.map(|entry| &entry.schema);
    let found = expression.check(&[("data", schema), ("event", Some(about))], kind, budget);
    let mut problems: Vec<CatalogProblem> = found
        .into_iter()
        .map(|found| CatalogProblem {
            // A missing value makes the condition fail, which is recorded as a decision.
            severity: if found.code == "optional_path" { Severity::Warning } else { Severity::Error },
            field: Some(field.to_owned()),
            hint: found.hint.clone(),
            ..CatalogProblem::error(found.code, file, at(&found))
        })
        .collect();
    for pointer in entry.iter().flat_map(|entry| &entry.sensitive) {
        let secret = format!("data{}", pointer.replace('/', "."));
        let touches = |path: &String| {
            let below =
                |a: &str, b: &str| a == b || a.strip_prefix(b).is_some_and(|rest| rest.starts_with('.'));
            below(path, &secret) || below(&secret, path)
        };
        if expression.paths().iter().any(touches) {
            let source = expression.source();
            let message = match field {
                "digest" => format!(
                    "`{source}` would store a hash of the sensitive value `{secret}`, which can be guessed"
                ),
                // The result is stored as a decision: enough such rules would reveal the value.
                "when" => format!(
                    "the result of `{source}` would reveal something about the sensitive value `{secret}`"
                ),
                "at" => {
                    format!("`{source}` would store the sensitive value `{secret}` as the delivery's time")
                }
                _ => format!("`{source}` would send the sensitive value `{secret}`"),
            };
            let problem = CatalogProblem::error("sensitive_value", file, message);
            problems
                .push(CatalogProblem { field: Some(field.to_owned()), ..problem.hint("use other fields") });
        }
    }
    problems
}

/// Every expression of a rule, with its field and the required type.
fn expressions(definition: &Definition) -> Vec<(String, &str, Kind)> {
    let mut found = Vec::new();
    if let Some(text) = &definition.condition {
        found.push(("when".to_owned(), text.as_str(), Kind::Bool));
    }
    if let Some(text) = &definition.timing.at {
        found.push(("at".to_owned(), text.as_str(), Kind::Text));
    }
    if let Some(text) = definition.digest.as_ref().and_then(|digest| digest.key.as_deref()) {
        found.push(("digest".to_owned(), text, Kind::Any));
    }
    match &definition.action {
        Action::Send { audience: Audience::Filters(filters), .. } => {
            let texts = filters.iter().filter_map(|filter| filter.value_from.as_deref());
            found.extend(texts.map(|text| ("filters".to_owned(), text, Kind::Any)));
        }
        Action::Send { .. } => {}
        Action::Tag(tags) => {
            found.extend(tags.iter().map(|(name, text)| (format!("tag.{name}"), text.as_str(), Kind::Any)));
        }
        Action::Track { properties, .. } => {
            let named = properties.iter();
            found.extend(
                named.map(|(name, text)| (format!("track.properties.{name}"), text.as_str(), Kind::Any)),
            );
        }
        Action::Cancel(text) => found.push(("cancel".to_owned(), text.as_str(), Kind::Text)),
    }
    found
}

/// A finding with its position within the expression, not in the rule's file.
fn at(found: &ExpressionProblem) -> String {
    if found.line > 1 {
        return format!("{} (line {}, column {} of the expression)", found.message, found.line, found.column);
    }
    format!("{} (column {} of the expression)", found.message, found.column)
}
