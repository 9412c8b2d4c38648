//! An event: data, decisions and deliveries.

use std::collections::{BTreeMap, HashMap};

use axum::extract::Path;
use maud::{Markup, html};

use super::components::{chip, clock_time, number, when};
use super::delivery::timeline_entry;
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use crate::domain::clock::Timestamp;
use crate::domain::event::Event;
use crate::domain::id::{EventId, made_at};
use crate::store::actions::StoredAction;
use crate::store::delivery_reads::{DecisionRow, DeliveryRow};

/// Maximum listed deliveries and recipients.
const SHOWN: usize = 100;
const PEOPLE: usize = 20;
const LISTED_ACTIONS: i64 = 100;

pub(super) async fn page(view: View, Path(id): Path<String>) -> Shown {
    let unknown = || {
        Failure::NotFound(format!(
            "There is no event {id}. It may have been deleted after the retention period."
        ))
    };
    let parsed: EventId = id.parse().map_err(|_| unknown())?;
    let stored = view.console.store.find_event(parsed).await?.ok_or_else(unknown)?;
    let (deliveries, decisions) = view.console.store.trace_of(parsed).await?;
    let actions = view.console.store.actions_of(parsed, LISTED_ACTIONS).await?;
    let sources = view.console.store.sources().await?;
    let event = &stored.event;
    let source = sources.into_iter().find(|source| source.id == event.source).map(|source| source.name);
    let now = view.now();
    let body = html! {
        div.heading {
            h1 { (event.event_type.as_str()) }
            span.soft { (when(event.received_at, now)) }
        }
        dl.facts { (facts(event, source.as_deref())) }
        h2 { "What happened" }
        ol.timeline {
            li {
                (clock_time(event.received_at))
                span.what { "received" }
                span.detail {
                    "from " (source.as_deref().unwrap_or("a deleted source"))
                    @if event.is_test { " with a test key" }
                }
            }
            @for decision in decisions.iter().filter(|decision| decision.delivery.is_none()) { (timeline_entry(decision)) }
        }
        h2 { "Deliveries" }
        @if deliveries.is_empty() {
            p.soft { "None. See the reasons above." }
        } @else {
            (table(&deliveries, &decisions, now))
        }
        @if !actions.is_empty() {
            h2 { "Tags and custom events" }
            (actions_table(&actions))
        }
        h2 { "Data" }
        p.soft { "As posted, without the values of sensitive fields." }
        pre.json tabindex="0" { code { (pretty(&event.data)) } }
        details {
            summary { "CLI" }
            pre { code { "herald why " (event.id) } }
        }
    };
    view.page(Place::Live, &[Crumb::to("Live", "/"), Crumb::here(&event.event_key)], body).await
}

/// What rules do to the event's recipients at OneSignal.
fn actions_table(actions: &[StoredAction]) -> Markup {
    html! {
        table.rows {
            thead { tr { th { "State" } th { "Rule" } th { "Recipient" } th { "What" } th { "Why" } } }
            tbody {
                @for action in actions {
                    tr {
                        td { (chip(&action.state)) }
                        td { (action.rule) }
                        td { a.whole href={ "/recipients/" (path_segment(&action.recipient.0)) "/" (path_segment(&action.recipient.1)) } { (action.recipient.1) } }
                        td { (action.kind) " " code { (action.body) } }
                        td.why { (action.detail) }
                    }
                }
            }
        }
    }
}

fn facts(event: &Event, source: Option<&str>) -> Markup {
    html! {
        dt { "Id" } dd { code { (event.id) } }
        dt { "Event ID" } dd { code { (event.event_key) } @if let Some(source) = source { ", source " (source) } }
        dt { "To" }
        dd {
            @if event.recipients.is_empty() { "the segments of its rules" }
            @for (place, person) in event.recipients.iter().take(PEOPLE).enumerate() {
                @if place > 0 { ", " }
                a href={ "/recipients/" (path_segment(person.label.as_str())) "/" (path_segment(&person.id)) } { (person.id) }
                @if person.label.as_str() != "external_id" { " (" (person.label.as_str()) ")" }
            }
            @if event.recipients.len() > PEOPLE { " and " (number(i64::try_from(event.recipients.len() - PEOPLE).unwrap_or(i64::MAX))) " others" }
        }
        @for (name, value) in [
            ("Locale", &event.locale),
            ("Cancellation key", &event.cancellation_key),
            ("Collapse key", &event.collapse_key),
            ("Ordering key", &event.ordering_key),
        ] {
            @if let Some(value) = value { dt { (name) } dd { code { (value) } } }
        }
    }
}

fn table(deliveries: &[DeliveryRow], decisions: &[DecisionRow], now: Timestamp) -> Markup {
    let last: HashMap<_, _> =
        decisions.iter().filter_map(|decision| Some((decision.delivery?, decision))).collect();
    // List failed deliveries first.
    let mut shown: Vec<&DeliveryRow> = deliveries.iter().collect();
    shown.sort_by_key(|delivery| delivery.state.as_str() == "accepted");
    html! {
        @if deliveries.len() > SHOWN { p { @for (state, count) in by_state(deliveries, now) { (chip(state)) " " (number(count)) " " } } }
        table.rows {
            thead { tr { th { "State" } th { "Channel" } th { "Template" } th { "To" } th.why { "Why" } } }
            tbody {
                @for delivery in shown.into_iter().take(SHOWN) {
                    @let last = last.get(&delivery.id);
                    tr {
                        td { (chip(delivery.state.shown(delivery.due_at, now))) }
                        td { a.whole href={ "/deliveries/" (delivery.id) } { (delivery.channel) } }
                        td { (delivery.template) @if let Some((_, number)) = delivery.version { " v" (number) } }
                        td { @if let Some(person) = &delivery.recipient { (person.id) } @else { "a segment" } }
                        td.why { @if let Some(last) = last { (last.detail) " " span.soft { (when(made_at(uuid(last)), now)) } } }
                    }
                }
            }
        }
        @if deliveries.len() > SHOWN { p.soft { "and " (number(i64::try_from(deliveries.len() - SHOWN).unwrap_or(i64::MAX))) " more; find them under Recipients." } }
    }
}

/// The number of deliveries by state.
fn by_state(deliveries: &[DeliveryRow], now: Timestamp) -> BTreeMap<&'static str, i64> {
    let mut counted = BTreeMap::new();
    for delivery in deliveries {
        *counted.entry(delivery.state.shown(delivery.due_at, now)).or_default() += 1;
    }
    counted
}

fn uuid(decision: &DecisionRow) -> uuid::Uuid {
    crate::domain::id::TypedId::uuid(decision.id)
}

/// Pretty-printed JSON.
pub(super) fn pretty(value: &serde_json::Value) -> String {
    serde_json::to_string_pretty(value).unwrap_or_default()
}

/// Encodes a text as a path segment.
pub(super) fn path_segment(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len()), |mut out, byte| {
        use std::fmt::Write;
        if byte.is_ascii_alphanumeric() || b"-_.~@:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string does not fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}
