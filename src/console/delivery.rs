//! One delivery: its story as a timeline, what it says, what OneSignal was asked and answered, and what can be done.

use axum::body::Body;
use axum::extract::Path;
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Value, json};

use super::event::{path_segment, pretty};
use super::failure::Failure;
use super::forms;
use super::page::Place;
use super::parts::{ago, chip, clock_time};
use super::view::{Crumb, Shown, View, done};
use crate::access::Use;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::id::{DeliveryId, TypedId, made_at};
use crate::pipeline::cancel::Unwanted;
use crate::pipeline::preview::{PreviewWish, Previewed};
use crate::pipeline::release::{Release, ReleaseError};
use crate::store::events::StoredEvent;
use crate::store::gates::NamedGate;
use crate::store::listing::{AttemptRow, DecisionRow, DeliveryRow};

/// Everything that its page shows.
struct Story {
    row: DeliveryRow,
    event: Option<StoredEvent>,
    decisions: Vec<DecisionRow>,
    attempts: Vec<AttemptRow>,
    gate: Option<NamedGate>,
    preview: Option<Previewed>,
}

async fn find(view: &View, id: &str) -> Result<DeliveryRow, Failure> {
    let unknown = || {
        Failure::NotFound(format!("There is no delivery {id}. Deliveries are kept for some time, then go."))
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
    Ok(Story { row, event, decisions, attempts, gate, preview })
}

/// What it says to its recipient, made again from the event.
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
        ol.timeline { (timeline(&story, now)) }
        (tabs(&story))
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
                    a href={ "/recipients/" (to.label.as_str()) "/" (path_segment(&to.id)) } { (to.id) }
                    @if to.label.as_str() != "external_id" { " (" (to.label.as_str()) ")" }
                },
                None => "an audience",
            }
            " by " (row.channel) @if let Some(locale) = &row.locale { ", " (locale) }
        }
        dt { "Because of" } dd { a href={ "/rules/" (path_segment(&row.rule.1)) } { (row.rule.1) } " in lane " (row.lane) }
        @if let Some(original) = row.replay_of {
            dt { "Made again from" } dd { a href={ "/deliveries/" (original) } { code { (original) } } }
        }
    }
}

fn timeline(story: &Story, now: Timestamp) -> Markup {
    let row = &story.row;
    let mut told: Vec<(Timestamp, Markup)> = vec![(
        row.created_at,
        html! { li { (clock_time(row.created_at)) span.what { "planned" } span.detail { "rule " (row.rule.1) " matched" } } },
    )];
    told.extend(
        story.decisions.iter().map(|decision| (made_at(decision.id.uuid()), timeline_entry(decision))),
    );
    for attempt in &story.attempts {
        told.push((attempt.started_at, call(attempt)));
        if let Some(at) = attempt.answered_at {
            told.push((at, answer(attempt, at)));
        }
    }
    told.sort_by_key(|(at, _)| *at);
    html! {
        @for (_, entry) in &told { (entry) }
        (what_next(story, now))
    }
}

/// A decision as a step of a timeline.
pub(super) fn timeline_entry(decision: &DecisionRow) -> Markup {
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
                @if attempt.is_replay == Some(true) { " (it had this one already)" }
            }
        }
    }
}

/// What it waits for, as long as it is open.
fn what_next(story: &Story, now: Timestamp) -> Markup {
    let row = &story.row;
    let text = match (row.state.as_str(), &story.gate, row.due_at) {
        ("held", ..) => format!("waits for a person; its time is over {}", ago(row.expires_at, now)),
        (_, Some(gate), _) => format!(
            "waits behind a closed gate ({}){}",
            gate.code,
            if gate.detail.is_empty() { String::new() } else { format!(": {}", gate.detail) }
        ),
        (_, None, _) if row.waits_for_turn => {
            "waits until the one before it with its ordering key is over".to_owned()
        }
        ("queued", None, Some(due_at)) if due_at > now => format!("goes out {}", ago(due_at, now)),
        ("queued", ..) => "waits for its turn".to_owned(),
        ("retrying", _, Some(due_at)) => format!("is tried again {}", ago(due_at.max(now), now)),
        ("sending", ..) => "is being sent".to_owned(),
        _ => return html! {},
    };
    html! { li.next { span.exact { "next" } span.what { (text) } } }
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
                            "Values to lay over the event's data, as JSON " span.soft { "(nothing: as it is)" }
                            textarea name="values" rows="4" spellcheck="false" placeholder="{\"name\": \"Anna\"}" {}
                        }
                        label { "Version " span.soft { "(nothing: the pinned one)" } input type="number" name="version" min="1"; }
                        button.primary { "Release this delivery" }
                    }
                }
            }
            @if row.state.is_open() && view.person.may(Use::CancelDelivery) {
                details.action {
                    summary.button { "Cancel …" }
                    form.stack method="post" action={ "/deliveries/" (row.id) "/cancel" } {
                        label { "Why, for its history" input type="text" name="why" required maxlength="300"; }
                        button.danger { "Cancel this delivery" }
                    }
                }
            }
            @if !row.state.is_open() && view.person.may(Use::ReplayDelivery) {
                a.button href={ "/trouble/replay?delivery=" (row.id) } { "Replay …" }
            }
            button.copy type="button" data-copies={ "herald why " (row.id) } { "Copy CLI" }
        }
    }
}

fn tabs(story: &Story) -> Markup {
    let request = story.preview.as_ref().and_then(|shown| shown.request.as_ref());
    html! {
        div.tabs {
            details name="about" open {
                summary { "Message" }
                @match &story.preview {
                    Some(shown) => (super::devices::message(&story.row.channel, shown)),
                    None => p.soft { "It can't be shown: it has no version pinned, or it goes to an audience, or its event is gone." },
                }
            }
            details name="about" {
                summary { "Event data" }
                @match &story.event {
                    Some(event) => pre.json tabindex="0" { code { (pretty(&event.event.data)) } },
                    None => p.soft { "The event is gone." },
                }
            }
            details name="about" {
                summary { "Request to OneSignal" }
                p.soft { "The body of Create message for this delivery alone. It may travel with others in one call." }
                @match request {
                    Some(request) => {
                        pre.json tabindex="0" { code { (pretty(request)) } }
                        button.copy type="button" data-copies=(curl(request)) { "Copy as curl" }
                    },
                    None => p.soft { "There is none: it would be held." },
                }
            }
            details name="about" {
                summary { "Answer" }
                @if story.attempts.is_empty() { p.soft { "OneSignal has not been asked yet." } }
                @else {
                    table.rows {
                        thead { tr { th { "Try" } th { "Answer" } th { "HTTP" } th { "Message at OneSignal" } th { "Idempotency key" } } }
                        tbody {
                            @for attempt in &story.attempts {
                                tr {
                                    td { (attempt.n) }
                                    td { (attempt.answer.as_deref().unwrap_or("none yet")) }
                                    td { @if let Some(status) = attempt.status { (status) } }
                                    td { code { (attempt.provider_message_id.as_deref().unwrap_or("–")) } }
                                    td { code { (attempt.idempotency_key) } }
                                }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn curl(request: &Value) -> String {
    let body = pretty(request).replace('\'', "'\\''");
    format!(
        "curl -sS https://api.onesignal.com/notifications -H 'Authorization: Key YOUR_APP_API_KEY' -H 'Content-Type: application/json' -d '{body}'"
    )
}

/// Values that a person lays over an event's data.
pub(super) fn read_values(text: &str) -> Result<Option<Value>, Failure> {
    if text.trim().is_empty() {
        return Ok(None);
    }
    let values = serde_json::from_str::<Value>(text).ok().filter(Value::is_object);
    let wrong =
        || Failure::Invalid("The values are no JSON object, such as {\"name\": \"Anna\"}.".to_owned());
    values.ok_or_else(wrong).map(Some)
}

/// The number of a version, if one is given.
pub(super) fn read_version(text: &str) -> Result<Option<i32>, Failure> {
    match text.trim() {
        "" => Ok(None),
        text => text.parse().map(Some).map_err(|_| Failure::Invalid("A version is a number.".to_owned())),
    }
}

/// How to release.
#[derive(Debug, Deserialize)]
pub(super) struct ReleaseForm {
    #[serde(default)]
    values: String,
    #[serde(default)]
    version: String,
}

pub(super) async fn release(view: View, Path(id): Path<String>, body: Body) -> Shown {
    let form: ReleaseForm = forms::read(body).await?;
    let row = find(&view, &id).await?;
    let (values, version) = (read_values(&form.values)?, read_version(&form.version)?);
    let release = Release { version, values };
    match view.console.pipeline.release(row.id, release, view.person.id.uuid()).await {
        Ok(()) => Ok(done(&format!("/deliveries/{id}"), "Released: it goes out now.")),
        Err(ReleaseError::Store(error)) => Err(error.into()),
        Err(error @ (ReleaseError::NotHeld(_) | ReleaseError::Expired)) => {
            Err(Failure::Conflict(super::doors::sentence(&error)))
        }
        Err(error) => Err(Failure::Invalid(super::doors::sentence(&error))),
    }
}

/// Why to cancel.
#[derive(Debug, Deserialize)]
pub(super) struct CancelForm {
    why: String,
}

pub(super) async fn cancel(view: View, Path(id): Path<String>, body: Body) -> Shown {
    let form: CancelForm = forms::read(body).await?;
    let row = find(&view, &id).await?;
    let why = format!("{}: {}", view.person.email, form.why.trim().chars().take(300).collect::<String>());
    let told = view.console.pipeline.cancel(Unwanted::Deliveries(&[row.id]), &why, false).await?;
    let said = match told.first().map(|one| one.outcome) {
        Some(outcome) if outcome.is_too_late() => "Too late: OneSignal has it, or may have it.",
        Some(crate::pipeline::cancel::Outcome::Withdrawing) => "OneSignal is asked to give it back.",
        Some(crate::pipeline::cancel::Outcome::Over) | None => {
            "It was over before: there was nothing to cancel."
        }
        Some(_) => "Cancelled: it is not sent.",
    };
    Ok(done(&format!("/deliveries/{id}"), said))
}
