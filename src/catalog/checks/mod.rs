//! Checking a document: the same checks for files, drafts and single entries.

mod breaks;
mod check_context;
mod copy;
mod fit;
mod rules;

use std::collections::{BTreeMap, BTreeSet};

use super::app_files;
use super::check::CatalogProblem;
use super::check::file_of;
use super::manifest::Document;
use super::source_files;
use crate::domain::budget::{Budget, Spent};
use crate::domain::snapshot::CatalogSnapshot;

pub(super) use check_context::{CheckContext, Leading, shape};
pub(super) use copy::check_copy;

/// All errors and warnings of a document. Without a snapshot, external references are not checked.
pub(super) fn check_document(
    document: &Document,
    snapshot: Option<&CatalogSnapshot>,
    budget: &Budget,
) -> Vec<CatalogProblem> {
    let around = CheckContext::of(document, snapshot);
    let mut problems = Vec::new();
    for template in &document.templates {
        problems.extend(copy::check_template(template, &document.lines_above, &around, budget));
    }
    for partial in &document.partials {
        problems.extend(copy::check_partial(partial, &around.partials, budget));
    }
    for rule in &document.rules {
        problems.extend(rules::check_rule(rule, &around, budget));
    }
    if let Some(snapshot) = snapshot {
        let types = around.event_types.keys().copied().collect();
        problems.extend(source_files::loose_ends(&document.sources, &types));
        problems.extend(app_files::loose_ends(&document.apps, &snapshot.apps));
        problems.extend(changed_channels(document, snapshot));
        problems.extend(same_names(document, snapshot));
        problems.extend(fit::check_fit(document, snapshot, &around, budget));
        problems.extend(breaks::check_breaks(document, snapshot, budget));
    }
    problems.extend(budget.spent().map(too_complex));
    problems
}

/// The problem for a catalog that exceeds the budget for checks.
pub(super) fn too_complex(spent: Spent) -> CatalogProblem {
    let problem =
        CatalogProblem::error("too_complex", "", format!("the check could not be completed: {spent}"));
    problem.hint("make a smaller change, or use fewer variables, branches, references and steps")
}

/// Event types whose names differ only in case: their folders would collide on many systems.
fn same_names(document: &Document, snapshot: &CatalogSnapshot) -> Vec<CatalogProblem> {
    let all = snapshot.event_types.iter().chain(&document.event_types).map(|entry| entry.name.as_str());
    let mut known: BTreeMap<String, BTreeSet<&str>> = BTreeMap::new();
    for name in all {
        known.entry(name.to_ascii_lowercase()).or_default().insert(name);
    }
    let problem = |name: &str| {
        let other = known.get(&name.to_ascii_lowercase())?.iter().find(|other| **other != name)?;
        let message = format!("{name} and {other} differ only in case");
        let problem = CatalogProblem::error("same_name", &file_of("event_type", name), message);
        Some(problem.hint("use the existing name, or a different one"))
    };
    document.event_types.iter().filter_map(|entry| problem(entry.name.as_str())).collect()
}

fn changed_channels(document: &Document, snapshot: &CatalogSnapshot) -> Vec<CatalogProblem> {
    let mut problems = Vec::new();
    for template in &document.templates {
        let known = snapshot.templates.iter().find(|t| t.key == template.key);
        if let Some(known) = known.filter(|known| known.channel != template.channel) {
            let message =
                format!("{} is a template for {}; its channel can't change", template.key, known.channel);
            let problem =
                CatalogProblem::error("channel_changed", &file_of("template", &template.key), message);
            problems.push(problem.hint("use another key"));
        }
    }
    problems
}

/// Whether a text is a valid key of a template, a partial or a rule.
pub(super) fn is_key(key: &str) -> bool {
    key.len() <= 100
        && key.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || "._-".contains(c))
}
