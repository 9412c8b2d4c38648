//! Preconditions of a change: no remaining references to deleted entries, and required approvals.

use super::app_files;
use super::author::Rights;
use super::changes::Change;
use super::check::CatalogProblem;
use super::check::file_of;
use super::manifest::{Document, RuleDocument};
use crate::domain::channel::Channel;
use crate::domain::event::covers;
use crate::domain::snapshot::{CatalogSnapshot, EventTypeEntry};

/// Templates that require approval: files can't publish them.
pub(super) fn unapproved(changes: &[Change], snapshot: &CatalogSnapshot) -> Vec<CatalogProblem> {
    let guarded = |c: &&Change| {
        let known = snapshot.templates.iter().find(|t| t.key == c.name);
        c.kind == "template" && c.after.is_some() && known.is_some_and(|t| t.needs_approval)
    };
    let problem = |change: &Change| {
        let message = format!("{} requires approval by a second person before it goes live", change.name);
        CatalogProblem::error("needs_approval", &file_of("template", &change.name), message)
            .hint("save it as a draft, have it approved, and publish it")
    };
    changes.iter().filter(guarded).map(problem).collect()
}

/// Rules with delivery timing for SMS, which OneSignal does not support.
pub(super) fn untimely(document: &Document, snapshot: &CatalogSnapshot) -> Vec<CatalogProblem> {
    let channel_of = |key: &str| {
        let new = document.templates.iter().find(|t| t.key == key).map(|t| t.channel);
        new.or_else(|| snapshot.templates.iter().find(|t| t.key == key).map(|t| t.channel))
    };
    let is_untimely = |rule: &&RuleDocument| {
        let channel = rule.definition.template().and_then(channel_of);
        rule.definition.timing.provider.is_some() && channel == Some(Channel::Sms)
    };
    let problem = |rule: &RuleDocument| CatalogProblem {
        field: Some("deliver".to_owned()),
        ..CatalogProblem::error(
            "bad_deliver",
            &file_of("rule", &rule.key),
            "OneSignal does not support delivery timing for SMS",
        )
        .hint("use a window with recipient_zone instead")
    };
    document.rules.iter().filter(is_untimely).map(problem).collect()
}

/// Entries that would be deleted although something refers to them.
pub(super) fn still_used(
    changes: &[Change],
    document: &Document,
    snapshot: &CatalogSnapshot,
) -> Vec<CatalogProblem> {
    let goes = |kind: &str, name: &str| {
        changes.iter().any(|c| c.after.is_none() && c.kind == kind && c.name == name)
    };
    let mut problems = Vec::new();
    let mut say = |kind: &str, name: &str, user: String| {
        let message = format!("{name} can't be removed: {user} uses it");
        problems.push(
            CatalogProblem::error("in_use", &file_of(kind, name), message)
                .hint(format!("change or delete {user} first")),
        );
    };
    let stays = |name: &str| !goes("event_type", name);
    // A family is valid as long as it covers at least one type.
    let is_last = |pattern: &str, name: &str| {
        let of_pattern = |entry: &&EventTypeEntry| covers(pattern, &entry.name);
        let mut covered = snapshot.event_types.iter().chain(&document.event_types).filter(of_pattern);
        let is_covered = snapshot.event_types.iter().filter(of_pattern).any(|e| e.name.as_str() == name);
        is_covered && covered.all(|entry| !stays(entry.name.as_str()))
    };
    let replaced = |key: &str| document.rules.iter().find(|r| r.key == key);
    for rule in snapshot.rules.iter().filter(|rule| !goes("rule", &rule.key)) {
        let (event_type, template) = match replaced(&rule.key) {
            Some(new) => (new.event_type.as_str(), new.definition.template()),
            None => (rule.event_type.as_str(), rule.template()),
        };
        let covered = changes.iter().filter(|c| c.after.is_none() && c.kind == "event_type");
        for gone in covered.filter(|c| is_last(event_type, &c.name)) {
            say("event_type", &gone.name, format!("rule {}", rule.key));
        }
        if let Some(template) = template.filter(|template| goes("template", template)) {
            say("template", template, format!("rule {}", rule.key));
        }
    }
    for template in snapshot.templates.iter().filter(|t| !t.is_archived && !goes("template", &t.key)) {
        let new = document.templates.iter().find(|t| t.key == template.key);
        let named = new.map_or(template.event_type.as_deref(), |new| new.about.event_type.as_deref());
        if let Some(named) = named.filter(|named| goes("event_type", named)) {
            say("event_type", named, format!("template {}", template.key));
        }
    }
    let users = |key: &str| {
        snapshot.templates.iter().filter(|t| !goes("template", &t.key)).find(|t| {
            let live = snapshot.versions.iter().find(|v| Some(v.id) == t.live);
            live.is_some_and(|live| live.partials.contains_key(key))
        })
    };
    for partial in changes.iter().filter(|c| c.after.is_none() && c.kind == "partial") {
        if let Some(template) = users(&partial.name) {
            say("partial", &partial.name, format!("template {}", template.key));
        }
    }
    problems
}

/// Actions of a change for which its author lacks a right.
pub(super) fn forbidden(
    changes: &[Change],
    (document, snapshot): (&Document, &CatalogSnapshot),
    rights: Rights,
) -> Vec<CatalogProblem> {
    let mut problems = Vec::new();
    if !rights.change_sources {
        problems.extend(changes.iter().filter(|c| c.kind == "source").map(changes_source));
    }
    if !rights.change_apps {
        problems.extend(changes.iter().filter(|c| c.kind == "app").map(app_files::not_permitted));
    }
    if !rights.unmask_values {
        let changed = changes.iter().filter(|c| c.kind == "event_type");
        problems.extend(changed.filter_map(|change| unmasks(change, document, snapshot)));
    }
    if !rights.lift_approval {
        let is_changed =
            |rule: &&RuleDocument| changes.iter().any(|c| c.kind == "rule" && c.name == rule.key);
        let changed = document.rules.iter().filter(is_changed);
        problems.extend(changed.filter_map(|rule| evades_approval(rule, document, snapshot)));
    }
    problems
}

fn changes_source(change: &Change) -> CatalogProblem {
    let message = format!("this key is not allowed to change source {}", change.name);
    CatalogProblem::error("needs_permission", &file_of("source", &change.name), message)
        .hint("use a key with `sources:write` and `events:write` that may post every event type")
}

/// An event type with a value that is no longer sensitive: later events would store and show it. This includes
/// deleting a type, since it could be created again without the marks.
fn unmasks(change: &Change, document: &Document, snapshot: &CatalogSnapshot) -> Option<CatalogProblem> {
    let before = snapshot.event_types.iter().find(|entry| entry.name.as_str() == change.name)?;
    let after = document.event_types.iter().find(|entry| entry.name.as_str() == change.name);
    let is_kept = |pointer: &&String| {
        let covers = |mark: &String| {
            pointer.strip_prefix(mark.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        after.is_some_and(|after| after.sensitive.iter().any(covers))
    };
    let lost: Vec<&str> =
        before.sensitive.iter().filter(|pointer| !is_kept(pointer)).map(String::as_str).collect();
    let first = lost.first()?;
    let message = format!("{} would no longer treat {first} as sensitive", change.name);
    let problem = CatalogProblem::error("needs_permission", &file_of("event_type", &change.name), message);
    Some(problem.hint("an admin, or a key with `keys:write`, can remove a field from `sensitive`"))
}

/// A rule that sends a template without approval for events whose messages require approval.
fn evades_approval(
    rule: &RuleDocument,
    document: &Document,
    snapshot: &CatalogSnapshot,
) -> Option<CatalogProblem> {
    let template = rule.definition.template()?;
    let needs_approval = |key: &str| {
        let new = document.templates.iter().find(|t| t.key == key).map(|t| t.about.needs_approval);
        let known = snapshot.templates.iter().find(|t| t.key == key).map(|t| t.needs_approval);
        known.or(new).unwrap_or_default()
    };
    if needs_approval(template) {
        return None;
    }
    let overlaps = |other: &str| {
        let is_within = |pattern: &str, name: &str| {
            pattern == name || pattern.strip_suffix('*').is_some_and(|family| name.starts_with(family))
        };
        is_within(other, &rule.event_type) || is_within(&rule.event_type, other)
    };
    let guarded = snapshot.rules.iter().find(|known| {
        let is_guarded = known.template().is_some_and(needs_approval);
        is_guarded && (known.key == rule.key || overlaps(&known.event_type))
    })?;
    let message = format!(
        "rule {} would send {template}, which requires no approval, for events whose messages require approval ({})",
        rule.key,
        guarded.template().unwrap_or_default()
    );
    let problem = CatalogProblem::error("needs_approval", &file_of("rule", &rule.key), message);
    Some(problem.hint("require approval for that template as well, or ask an admin to change the rule"))
}
