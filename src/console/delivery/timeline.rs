//! A delivery's timeline.

use maud::{Markup, html};
use serde_json::Value;

use super::super::components::{ago, clock_time};
use super::super::event::pretty;
use super::Story;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TypedId, made_at};
use crate::domain::outcome::Facts;
use crate::store::delivery_reads::{AttemptRow, DecisionRow};
use crate::store::outcomes::OutcomeRow;

pub(super) fn steps(story: &Story, now: Timestamp) -> Markup {
    let row = &story.row;
    let mut entries: Vec<(Timestamp, Markup)> = vec![(
        row.created_at,
        html! { li { (clock_time(row.created_at)) span.what { "planned" } span.detail { "rule " (row.rule.1) " matched" } } },
    )];
    entries.extend(
        story.decisions.iter().map(|decision| (made_at(decision.id.uuid()), timeline_entry(decision))),
    );
    for attempt in &story.attempts {
        entries.push((attempt.started_at, call(attempt)));
        if let Some(at) = attempt.answered_at {
            entries.push((at, answer(attempt, at)));
        }
    }
    entries.extend(story.outcomes.iter().map(|outcome| (outcome.fact.first_at, reported(outcome))));
    entries.sort_by_key(|(at, _)| *at);
    html! {
        @for (_, entry) in &entries { (entry) }
        (unmeasurable(story))
        (what_next(story, now))
    }
}

/// A decision as a step of a timeline.
pub(in super::super) fn timeline_entry(decision: &DecisionRow) -> Markup {
    let facts = decision.facts.as_object().filter(|facts| !facts.is_empty());
    html! {
        li {
            (clock_time(made_at(decision.id.uuid())))
            span.what { (decision.code.replace('_', " ")) }
            span.detail {
                (decision.detail)
                @if let Some(rule) = &decision.rule { " " span.soft { "(rule " (rule) ")" } }
                @if let Some(facts) = facts {
                    details { summary { "values" } pre { code { (pretty(&Value::Object(facts.clone()))) } } }
                }
            }
        }
    }
}

fn call(attempt: &AttemptRow) -> Markup {
    html! {
        li {
            (clock_time(attempt.started_at))
            span.what { "sent to OneSignal" }
            span.detail {
                "try " (attempt.n)
                @if attempt.members > 1 { ", in one call with " (attempt.members - 1) " more" }
            }
        }
    }
}

fn answer(attempt: &AttemptRow, at: Timestamp) -> Markup {
    html! {
        li {
            (clock_time(at))
            span.what { (attempt.answer.as_deref().unwrap_or("answered").replace('_', " ")) }
            span.detail {
                @if let Some(status) = attempt.status { "HTTP " (status) " " }
                @if let Some(id) = &attempt.provider_message_id { "message " code { (id) } }
                @if attempt.is_replay == Some(true) { " (duplicate of an earlier call)" }
            }
        }
    }
}

/// What a device or mailbox reported.
fn reported(outcome: &OutcomeRow) -> Markup {
    let OutcomeRow { kind, fact, person, .. } = outcome;
    html! {
        li {
            (clock_time(fact.first_at))
            span.what { (kind.as_str().replace('_', " ")) }
            span.detail {
                @if !fact.device.is_empty() { "on " (fact.device) " " }
                @if !person.is_empty() { "by " (person) " " }
                @if fact.last_at > fact.first_at { "last " (clock_time(fact.last_at)) " " }
                (fact.reason)
            }
        }
    }
}

/// Why nothing confirms the delivery, if no device of the recipient can.
fn unmeasurable(story: &Story) -> Markup {
    let facts: Facts = story
        .outcomes
        .iter()
        .map(|row| ((row.subscription.clone(), row.kind.clone()), row.fact.clone()))
        .collect();
    html! {
        @if facts.is_unmeasurable() {
            li.next { span.exact { "note" } span.what { "delivery is not measurable on this device type" } }
        }
    }
}

/// What an open delivery is waiting for.
fn what_next(story: &Story, now: Timestamp) -> Markup {
    let row = &story.row;
    let text = match (row.state.as_str(), &story.gate, row.due_at) {
        ("held", ..) => format!("waiting for release; expires {}", ago(row.expires_at, now)),
        (_, Some(gate), _) => format!(
            "waiting: gate closed ({}){}",
            gate.code,
            if gate.detail.is_empty() { String::new() } else { format!(": {}", gate.detail) }
        ),
        (_, None, _) if row.waits_for_turn => {
            "waiting for earlier deliveries with the same ordering key".to_owned()
        }
        ("queued", None, Some(due_at)) if due_at > now => format!("will be sent {}", ago(due_at, now)),
        ("queued", ..) => "queued".to_owned(),
        ("retrying", _, Some(due_at)) => format!("retrying {}", ago(due_at.max(now), now)),
        ("sending", ..) => "sending".to_owned(),
        _ => return html! {},
    };
    html! { li.next { span.exact { "next" } span.what { (text) } } }
}
