//! Whether a rule's event types provide the values that its live template needs.

use super::super::check::{CatalogProblem, file_of};
use super::super::manifest::Document;
use super::CheckContext;
use super::check_context::{Leading, shape};
use super::copy::check_copy;
use crate::domain::budget::Budget;
use crate::domain::snapshot::CatalogSnapshot;

/// Errors of live templates with the event types of the document's rules. The document's own templates are checked
/// with their content.
pub(super) fn check_fit(
    document: &Document,
    snapshot: &CatalogSnapshot,
    around: &CheckContext<'_>,
    budget: &Budget,
) -> Vec<CatalogProblem> {
    let mut problems = Vec::new();
    for rule in &document.rules {
        let Some(key) = rule.definition.template() else { continue };
        let is_replaced = document.templates.iter().any(|template| template.key == key);
        let template = snapshot.templates.iter().find(|template| template.key == key);
        let live = template.and_then(|t| snapshot.versions.iter().find(|v| Some(v.id) == t.live));
        let Some(live) = live.filter(|_| !is_replaced) else { continue };
        for entry in around.covered(&rule.event_type) {
            let entry = Leading::of(entry, rule.definition.digest.is_some());
            let shapes = [shape(&entry)];
            let found = check_copy(key, live.channel, &live.content, &live.partials, (&shapes, budget));
            let hint = "send another template, or first publish a version that doesn't use it";
            problems.extend(found.into_iter().filter(CatalogProblem::is_error).map(|found| CatalogProblem {
                code: "template_does_not_fit".to_owned(),
                file: file_of("rule", &rule.key),
                message: format!(
                    "template {key} version {} is not compatible: {}",
                    live.number, found.message
                ),
                hint: Some(hint.to_owned()),
                line: None,
                column: None,
                ..found
            }));
        }
    }
    problems
}
