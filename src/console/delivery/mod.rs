//! A delivery: timeline, message, calls to OneSignal, and actions.

mod actions;
mod outcomes;
mod tabs;
mod timeline;

pub(super) use actions::{cancel, read_values, read_version, release};
pub(super) use outcomes::show as outcomes;
pub(super) use timeline::timeline_entry;

use axum::extract::Path;
use maud::{Markup, html};
use serde_json::json;

use super::event::path_segment;
use super::failure::Failure;

use super::components::chip;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use crate::access::Use;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::id::DeliveryId;
use crate::pipeline::operator::preview::{PreviewWish, Previewed};
use crate::store::delivery_reads::{AttemptRow, DecisionRow, DeliveryRow};
use crate::store::events::StoredEvent;
use crate::store::gates::NamedGate;
use crate::store::outcomes::OutcomeRow;

/// The data of the page.
struct Story {
    row: DeliveryRow,
    event: Option<StoredEvent>,
    decisions: Vec<DecisionRow>,
    attempts: Vec<AttemptRow>,
    gate: Option<NamedGate>,
    preview: Option<Previewed>,
    outcomes: Vec<OutcomeRow>,
}

async fn find(view: &View, id: &str) -> Result<DeliveryRow, Failure> {
    let unknown = || {
        Failure::NotFound(format!(
            "There is no delivery {id}. It may have been deleted after the retention period."
        ))
    };
    let parsed: DeliveryId = id.parse().map_err(|_| unknown())?;
    view.console.store.find_delivery(parsed).await?.ok_or_else(unknown)
}

async fn story(view: &View, id: &str) -> Result<Story, Failure> {
    let store = &view.console.store;
    let row = find(view, id).await?;
    let event = store.find_event(row.event).await?;
    let decisions = store.decisions_about(row.id).await?;
    let attempts = store.attempts_of(&row.batch.into_iter().collect::<Vec<_>>()).await?;
    let gate = if row.state == StateName::QUEUED { store.gate_before(&row).await? } else { None };
    let preview = match &event {
        Some(event) => preview(view, &row, event).await?,
        None => None,
    };
    let outcomes = store.outcomes_of_deliveries(&[row.id]).await?;
    Ok(Story { row, event, decisions, attempts, gate, preview, outcomes })
}

/// The message for its recipient, rendered again from the event.
async fn preview(view: &View, row: &DeliveryRow, stored: &StoredEvent) -> Result<Option<Previewed>, Failure> {
    let (Some((version, _)), Some(recipient)) = (row.version, row.recipient.clone()) else { return Ok(None) };
    let Some(version) = view.console.store.find_version(version).await? else { return Ok(None) };
    let wish = PreviewWish {
        version,
        locale: row.locale.as_deref(),
        data: &stored.event.data,
        recipient,
        user: json!({}),
    };
    Ok(Some(view.console.pipeline.preview(wish).await?))
}

pub(super) async fn page(view: View, Path(id): Path<String>) -> Shown {
    let story = story(&view, &id).await?;
    let row = &story.row;
    let now = view.now();
    let key =
        story.event.as_ref().map_or_else(|| row.event.to_string(), |event| event.event.event_key.clone());
    let event_href = format!("/events/{}", row.event);
    let body = html! {
        div.heading {
            h1 { (row.template) @if let Some((_, number)) = row.version { " v" (number) } }
            (chip(row.state.shown(row.due_at, now)))
        }
        (actions(&view, &story, now))
        dl.facts { (facts(row)) }
        h2 { "What happened" }
        ol.timeline { (timeline::steps(&story, now)) }
        (tabs::all(&story))
    };
    let name = format!("{} {}", row.channel, row.recipient.as_ref().map_or("audience", |to| to.id.as_str()));
    view.page(Place::Live, &[Crumb::to("Live", "/"), Crumb::to(&key, &event_href), Crumb::here(&name)], body)
        .await
}

fn facts(row: &DeliveryRow) -> Markup {
    html! {
        dt { "Id" } dd { code { (row.id) } }
        dt { "To" }
        dd {
            @match &row.recipient {
                Some(to) => {
                    a href={ "/recipients/" (path_segment(to.label.as_str())) "/" (path_segment(&to.id)) } { (to.id) }
                    @if to.label.as_str() != "external_id" { " (" (to.label.as_str()) ")" }
                },
                None => "a segment",
            }
            " by " (row.channel) @if let Some(locale) = &row.locale { ", " (locale) }
        }
        dt { "Rule" } dd { a href={ "/rules/" (path_segment(&row.rule.1)) } { (row.rule.1) } " in priority " (row.priority) }
        @if let Some(original) = row.replay_of {
            dt { "Replay of" } dd { a href={ "/deliveries/" (original) } { code { (original) } } }
        }
    }
}

fn actions(view: &View, story: &Story, now: Timestamp) -> Markup {
    let row = &story.row;
    let is_held = row.state == StateName::HELD;
    html! {
        div.actions {
            @if is_held && view.person.may(Use::ReleaseDelivery) {
                details.action open[row.expires_at > now] {
                    summary.button.primary { "Release …" }
                    form.stack method="post" action={ "/deliveries/" (row.id) "/release" } {
                        label {
                            "Values to add to the event's data, as JSON " span.soft { "(optional)" }
                            textarea name="values" rows="4" spellcheck="false" placeholder="{\"name\": \"Anna\"}" {}
                        }
                        label { "Template version " span.soft { "(default: the pinned one)" } input type="number" name="version" min="1"; }
                        button.primary { "Release this delivery" }
                    }
                }
            }
            @if row.state.is_open() && view.person.may(Use::CancelDelivery) {
                details.action {
                    summary.button { "Cancel …" }
                    form.stack method="post" action={ "/deliveries/" (row.id) "/cancel" } {
                        label { "Reason" input type="text" name="why" required maxlength="300"; }
                        button.danger { "Cancel this delivery" }
                    }
                }
            }
            @if !row.state.is_open() && view.person.may(Use::ReplayDelivery) {
                a.button href={ "/issues/replay?delivery=" (row.id) } { "Replay …" }
            }
            button.copy type="button" data-copies={ "herald why " (row.id) } { "Copy herald why command" }
        }
    }
}
