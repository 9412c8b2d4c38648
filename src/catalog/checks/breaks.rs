//! What a new schema would break: live templates and rules that are not part of the change.

use std::collections::BTreeSet;

use super::super::check::CatalogProblem;
use super::super::check::file_of;
use super::super::manifest::Document;
use super::CheckContext;
use super::check_context::{Leading, shape};
use super::copy::check_copy;
use super::rules::check_expressions;
use crate::domain::budget::Budget;
use crate::domain::event::covers;
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry};

/// Errors in live templates and rules caused by the document's event types.
pub(super) fn check_breaks(
    document: &Document,
    snapshot: &CatalogSnapshot,
    budget: &Budget,
) -> Vec<CatalogProblem> {
    let mut problems = Vec::new();
    let (before, after) = (CheckContext::present(snapshot), CheckContext::of(document, Some(snapshot)));
    for entry in &document.event_types {
        let Some(known) = before.event_types.get(entry.name.as_str()) else { continue };
        if known.schema == entry.schema && known.sensitive == entry.sensitive {
            continue;
        }
        problems.extend(broken_templates(document, snapshot, (&after, budget), (known, entry)));
        for rule in &snapshot.rules {
            let is_replaced = document.rules.iter().any(|r| r.key == rule.key);
            if is_replaced || !covers(&rule.event_type, &entry.name) {
                continue;
            }
            let file = file_of("rule", &rule.key);
            let check = |entry: &EventTypeEntry| check_expressions(&file, &rule.definition, &[entry], budget);
            problems.extend(new_errors(&check(known), check(entry), entry, &format!("rule {}", rule.key)));
        }
    }
    problems
}

fn broken_templates(
    document: &Document,
    snapshot: &CatalogSnapshot,
    (after, budget): (&CheckContext<'_>, &Budget),
    (known, entry): (&EventTypeEntry, &EventTypeEntry),
) -> Vec<CatalogProblem> {
    let mut problems = Vec::new();
    for template in &snapshot.templates {
        let is_replaced = document.templates.iter().any(|t| t.key == template.key);
        let live = snapshot.versions.iter().find(|v| Some(v.id) == template.live);
        let types = after.types_of(&template.key, template.event_type.as_deref());
        let Some(live) = live.filter(|_| !is_replaced && types.iter().any(|t| t.name == entry.name)) else {
            continue;
        };
        let what = format!("template {} version {}", template.key, live.number);
        for form in types.iter().filter(|t| t.name == entry.name) {
            let check = |entry: &EventTypeEntry| {
                let entry = Leading::of(entry, form.is_gathered);
                let copy = (&live.content, &live.partials);
                check_copy(&template.key, template.channel, copy.0, copy.1, (&[shape(&entry)], budget))
            };
            problems.extend(new_errors(&check(known), check(entry), entry, &what));
        }
    }
    problems
}

/// The errors in `after` that were not in `before`.
fn new_errors(
    before: &[CatalogProblem],
    after: Vec<CatalogProblem>,
    entry: &EventTypeEntry,
    what: &str,
) -> Vec<CatalogProblem> {
    let place = |p: &CatalogProblem| (p.code.clone(), p.locale.clone(), p.field.clone(), p.line, p.column);
    let known: BTreeSet<_> = before.iter().map(place).collect();
    after
        .into_iter()
        .filter(|problem| problem.is_error() && !known.contains(&place(problem)))
        .map(|problem| {
            let message = format!("the new schema breaks {what}: {} ({})", problem.message, problem.code);
            CatalogProblem {
                code: "would_break".to_owned(),
                message,
                hint: Some(
                    "keep the value in the schema, or first publish a template or rule that doesn't use it"
                        .to_owned(),
                ),
                file: file_of("event_type", entry.name.as_str()),
                line: None,
                column: None,
                ..problem
            }
        })
        .collect()
}
