//! A recipient: all deliveries, and events without a delivery, newest first.

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;
use uuid::Uuid;

use super::components::{chip, empty, when};
use super::event::path_segment;
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use super::user_state;
use crate::domain::clock::Timestamp;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::{TypedId, made_at};
use crate::store::delivery_reads::{DecisionRow, DeliveryRow};
use crate::store::events::StoredEvent;

/// Rows of a page.
const PAGE: i64 = 50;

/// Query parameters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FindQuery {
    #[serde(default)]
    q: String,
}

pub(super) async fn find(view: View, Query(query): Query<FindQuery>) -> Shown {
    let text = query.q.trim();
    let found = if text.is_empty() { Vec::new() } else { people(&view, text).await? };
    if let [person] = found.as_slice() {
        return Ok(Redirect::to(&address(person)).into_response());
    }
    let body = html! {
        h1 { "Recipients" }
        p { "Everything that was planned, sent and decided for a recipient." }
        form.stack method="get" action="/recipients" {
            label { "External ID, email address, phone number or alias"
                input type="search" name="q" value=(text) required placeholder="user-42" autocomplete="off" spellcheck="false" autofocus;
            }
            p.soft { "If an ID is ambiguous, add the label:  " code { "crm_id=42" } "." }
            button.primary { "Show" }
        }
        p { a href="/imports" { "Imports of users" } " · " a href="/connectors" { "Connectors" } }
        @if !found.is_empty() {
            h2 { (found.len()) " recipients have the ID  " code { (text) } }
            ul.plain { @for person in &found { li { a href=(address(person)) { (label_words(&person.label)) } } } }
        }
    };
    view.page(Place::Recipients, &[Crumb::here("Recipients")], body).await
}

/// The recipients that a text may refer to: by exact ID, else by format.
async fn people(view: &View, text: &str) -> Result<Vec<Recipient>, Failure> {
    let parse = |label: &str, id: &str| {
        Recipient::parse(label, id).map_err(|error| Failure::Invalid(format!("{error}.")))
    };
    if let Some((label, id)) = text.split_once('=') {
        return Ok(vec![parse(label.trim(), id.trim())?]);
    }
    let known = view.console.store.people_with_id(text).await?;
    if !known.is_empty() {
        return Ok(known);
    }
    let label = if text.contains('@') {
        "email"
    } else if text.starts_with('+') {
        "phone"
    } else {
        "external_id"
    };
    Ok(vec![parse(label, text)?])
}

fn address(person: &Recipient) -> String {
    format!("/recipients/{}/{}", path_segment(person.label.as_str()), path_segment(&person.id))
}

/// Older ones.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StoryQuery {
    before: Option<Uuid>,
}

/// A row of a recipient's history.
enum Step {
    Planned(DeliveryRow, Option<String>),
    /// An event for which nothing was planned, and why.
    Nothing(StoredEvent, String),
}

impl Step {
    fn id(&self) -> Uuid {
        match self {
            Self::Planned(row, _) => row.id.uuid(),
            Self::Nothing(event, _) => event.event.id.uuid(),
        }
    }
}

/// The latest rows before an ID, and whether there are more.
async fn story(view: &View, names: &[Recipient], before: Uuid) -> Result<(Vec<Step>, bool), Failure> {
    let store = &view.console.store;
    let deliveries = store.deliveries_to(names, before, PAGE + 1).await?;
    let events = store.unanswered_events_of(names, before, PAGE + 1).await?;
    let mut words = store.last_words(&deliveries.iter().map(|row| row.id).collect::<Vec<_>>()).await?;
    let mut decided =
        store.decisions_about_events(&events.iter().map(|event| event.event.id).collect::<Vec<_>>()).await?;
    let planned = deliveries.into_iter().map(|row| {
        let why = words.remove(&row.id);
        Step::Planned(row, why)
    });
    let nothing = events.into_iter().map(|event| {
        let why = why_nothing(&decided.remove(&event.event.id).unwrap_or_default());
        Step::Nothing(event, why)
    });
    let mut steps: Vec<Step> = planned.chain(nothing).collect();
    steps.sort_by_key(|step| std::cmp::Reverse(step.id()));
    let page = usize::try_from(PAGE).unwrap_or(usize::MAX);
    let has_more = steps.len() > page;
    steps.truncate(page);
    Ok((steps, has_more))
}

fn why_nothing(decisions: &[DecisionRow]) -> String {
    let reported: Vec<String> = decisions
        .iter()
        .map(|decision| match &decision.rule {
            Some(rule) => format!("{rule}: {}", decision.detail),
            None => decision.detail.clone(),
        })
        .collect();
    if reported.is_empty() { "no matching rule".to_owned() } else { reported.join("; ") }
}

pub(super) async fn page(
    view: View,
    Path((label, id)): Path<(String, String)>,
    Query(query): Query<StoryQuery>,
) -> Shown {
    let person = Recipient::parse(&label, &id).map_err(|error| Failure::NotFound(format!("{error}.")))?;
    let names = view.console.store.names_of(&person).await?;
    let (steps, has_more) = story(&view, &names, query.before.unwrap_or(Uuid::max())).await?;
    let facts = facts(&view, &person, &names).await?;
    let at_onesignal = user_state::section(&view, &person).await?;
    let now = view.now();
    let body = html! {
        div.heading { h1 { (person.id) } span.soft { (label_words(&person.label)) } }
        (facts)
        (at_onesignal)
        @if steps.is_empty() {
            (empty("No messages for this recipient", &html! {
                p { "No event had this recipient within the retention period." }
                p { "IDs are case-sensitive, and spaces count: check how the service posts them." }
            }))
        } @else {
            (table(&steps, now))
        }
        @if let Some(last) = steps.last().filter(|_| has_more) {
            p.pages { a.button rel="next" href={ (address(&person)) "?before=" (last.id()) } { "Older" } }
        }
    };
    view.page(Place::Recipients, &[Crumb::to("Recipients", "/recipients"), Crumb::here(&person.id)], body)
        .await
}

/// A recipient's profile.
async fn facts(view: &View, person: &Recipient, names: &[Recipient]) -> Result<Markup, Failure> {
    let facts = view.console.store.facts(std::slice::from_ref(person)).await?;
    let Some(known) = facts.of(person) else { return Ok(html! {}) };
    Ok(html! {
        dl.facts {
            @if known.is_erased { dt { "Erased" } dd { "This person asked for erasure: nothing is sent." } }
            @if !known.opted_out.is_empty() {
                dt { "Opted out of" }
                dd { @for (place, (channel, reason)) in known.opted_out.iter().enumerate() { @if place > 0 { ", " } (channel.as_str()) " (" (reason.as_str()) ")" } }
            }
            @if names.len() > 1 {
                dt { "Also known as" }
                dd { @for (place, name) in names.iter().skip(1).enumerate() { @if place > 0 { ", " } a href=(address(name)) { (name.id) } " (" (label_words(&name.label)) ")" } }
            }
            @if let Some(locale) = &known.locale { dt { "Reads" } dd { (locale) } }
            @if let Some(zone) = &known.time_zone { dt { "Time zone" } dd { (zone) } }
        }
    })
}

fn label_words(label: &RecipientLabel) -> String {
    match label {
        RecipientLabel::ExternalId => "external ID".to_owned(),
        RecipientLabel::OnesignalId => "OneSignal ID".to_owned(),
        RecipientLabel::SubscriptionId => "subscription".to_owned(),
        RecipientLabel::Email => "email address".to_owned(),
        RecipientLabel::Phone => "phone number".to_owned(),
        RecipientLabel::Alias(label) => format!("alias {label}"),
    }
}

fn table(steps: &[Step], now: Timestamp) -> Markup {
    html! {
        table.rows {
            thead { tr { th { "When" } th { "State" } th { "What" } th { "Template or event" } th { "Why" } } }
            tbody {
                @for step in steps {
                    tr {
                        td { (when(made_at(step.id()), now)) }
                        @match step {
                            Step::Planned(row, why) => {
                                td { (chip(row.state.shown(row.due_at, now))) }
                                td { a.whole href={ "/deliveries/" (row.id) } { (row.channel) } }
                                td { (row.template) @if let Some((_, number)) = row.version { " v" (number) } div.sub { "rule " (row.rule.1) } }
                                td.why { @if let Some(why) = why { (why) } }
                            },
                            Step::Nothing(event, why) => {
                                td { span.chip.off { "– not sent" } }
                                td { a.whole href={ "/events/" (event.event.id) } { "event" } }
                                td { (event.event.event_type.as_str()) div.sub { (event.event.event_key) } }
                                td.why { (why) }
                            },
                        }
                    }
                }
            }
        }
    }
}
