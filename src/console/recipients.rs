//! One person's story: everything that was planned for them, newest first.

use axum::extract::{Path, Query};
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::event::path_segment;
use super::failure::Failure;
use super::page::Place;
use super::parts::{chip, empty, when};
use super::view::{Crumb, Shown, View};
use crate::domain::clock::Timestamp;
use crate::domain::event::Recipient;
use crate::domain::id::{DeliveryId, TypedId};
use crate::store::listing::{DeliveryRow, ListFilter};

/// Rows of a page.
const PAGE: i64 = 50;

/// Whom to look for.
#[derive(Debug, Default, Deserialize)]
pub(super) struct FindQuery {
    #[serde(default)]
    q: String,
}

pub(super) async fn find(view: View, Query(query): Query<FindQuery>) -> Shown {
    let text = query.q.trim();
    if !text.is_empty() {
        let (label, id) = text.split_once('=').unwrap_or(("external_id", text));
        let person = Recipient::parse(label, id).map_err(|error| Failure::Invalid(format!("{error}.")))?;
        return Ok(Redirect::to(&address(&person)).into_response());
    }
    let body = html! {
        h1 { "Recipients" }
        p { "Everything that was planned, sent and decided for one person." }
        form.stack method="get" action="/recipients" {
            label { "External id, or an alias as " code { "label=id" }
                input type="search" name="q" required placeholder="user-42" autocomplete="off" spellcheck="false" autofocus;
            }
            button.primary { "Show" }
        }
    };
    view.page(Place::Recipients, &[Crumb::here("Recipients")], body).await
}

fn address(person: &Recipient) -> String {
    format!("/recipients/{}/{}", path_segment(person.label.as_str()), path_segment(&person.id))
}

/// Older ones.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StoryQuery {
    before: Option<String>,
}

pub(super) async fn page(
    view: View,
    Path((label, id)): Path<(String, String)>,
    Query(query): Query<StoryQuery>,
) -> Shown {
    let person = Recipient::parse(&label, &id).map_err(|error| Failure::NotFound(format!("{error}.")))?;
    let before = match &query.before {
        Some(text) => {
            let id: DeliveryId =
                text.parse().map_err(|_| Failure::NotFound("There is no such page.".to_owned()))?;
            Some(id.uuid())
        }
        None => None,
    };
    let filter = ListFilter { recipient: Some(person.clone()), before, limit: PAGE, ..ListFilter::default() };
    let rows = view.console.store.list_deliveries(&filter).await?;
    let facts = view.console.store.facts(std::slice::from_ref(&person)).await?;
    let now = view.now();
    let last =
        rows.last().map(|row| row.id).filter(|_| i64::try_from(rows.len()).is_ok_and(|found| found >= PAGE));
    let body = html! {
        div.heading { h1 { (person.id) } span.soft { (label_words(person.label.as_str())) } }
        @if let Some(known) = facts.of(&person) {
            dl.facts {
                @if known.is_erased { dt { "Erased" } dd { "This person asked to be forgotten: nothing is sent." } }
                @if !known.opted_out.is_empty() {
                    dt { "Opted out of" }
                    dd { @for (place, channel) in known.opted_out.iter().enumerate() { @if place > 0 { ", " } (channel.as_str()) } }
                }
            }
        }
        @if rows.is_empty() {
            (empty("Nothing was planned for this person", &html! {
                p { "Either no event named them, or that is longer ago than deliveries are kept." }
                p { "Ids are told apart by capitals and blanks: look at how the service posts them." }
            }))
        } @else {
            (table(&rows, now))
        }
        @if let Some(last) = last {
            p.pages { a.button rel="next" href={ (address(&person)) "?before=" (last) } { "Older" } }
        }
    };
    view.page(Place::Recipients, &[Crumb::to("Recipients", "/recipients"), Crumb::here(&person.id)], body)
        .await
}

fn label_words(label: &str) -> String {
    if label == "external_id" { "external id".to_owned() } else { format!("alias {label}") }
}

fn table(rows: &[DeliveryRow], now: Timestamp) -> Markup {
    html! {
        table.rows {
            thead { tr { th { "When" } th { "State" } th { "Channel" } th { "Template" } th { "Rule" } } }
            tbody {
                @for row in rows {
                    tr {
                        td { (when(row.created_at, now)) }
                        td { (chip(row.state.shown(row.due_at, now))) }
                        td { a.whole href={ "/deliveries/" (row.id) } { (row.channel) } }
                        td { (row.template) @if let Some((_, number)) = row.version { " v" (number) } }
                        td { (row.rule.1) }
                    }
                }
            }
        }
    }
}
