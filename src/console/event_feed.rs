//! Live: incoming events, with a chip for each delivery.

use axum::extract::Query;
use axum::response::{IntoResponse, Redirect};
use maud::{Markup, html};
use serde::Deserialize;

use super::components::{chip, count, empty, number, when};
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use super::search::Search;
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, EventId, TypedId};
use crate::store::event_summaries::EventOutcome;
use crate::store::events::StoredEvent;

/// Query parameters.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LiveQuery {
    /// The search text.
    #[serde(default)]
    q: String,
    /// Older than this event.
    before: Option<String>,
    /// The latest event shown before: newer ones fade in.
    newest: Option<String>,
}

/// An event with its deliveries.
struct Row {
    event: StoredEvent,
    outcome: EventOutcome,
}

pub(super) async fn page(view: View, Query(query): Query<LiveQuery>) -> Shown {
    let mut search = Search::read(&query.q, view.now());
    if let Some(target) = named(&view, &mut search).await? {
        return Ok(Redirect::to(&target).into_response());
    }
    let list = list(&view, &search, &query).await?;
    let is_first = query.before.is_none();
    let body = html! {
        div.heading {
            h1 { "Live" }
            @if is_first {
                button.toggle type="button" data-pauses="" aria-pressed="false" { "Pause" }
            }
        }
        (words(&search))
        @if is_first {
            div #rows data-live={ "/live/rows?" (address(&search.text(), None)) } { (list) }
        } @else {
            div #rows { (list) }
        }
    };
    view.page(Place::Live, &[Crumb::here("Live")], body).await
}

/// Only the rows, for automatic refreshes.
pub(super) async fn rows(view: View, Query(query): Query<LiveQuery>) -> Shown {
    let mut search = Search::read(&query.q, view.now());
    named(&view, &mut search).await?;
    Ok(list(&view, &search, &query).await?.into_response())
}

/// The redirect target for a search that is a Herald ID. A source's own event ID filters the list instead.
async fn named(view: &View, search: &mut Search) -> Result<Option<String>, Failure> {
    let Some(named) = search.named.clone() else { return Ok(None) };
    if named.parse::<EventId>().is_ok() {
        return Ok(Some(format!("/events/{named}")));
    }
    if named.parse::<DeliveryId>().is_ok() {
        return Ok(Some(format!("/deliveries/{named}")));
    }
    match view.console.store.find_by_key(&named).await?.as_slice() {
        [] => {
            search
                .problems
                .push(format!("no event has the ID `{named}`; to find a recipient, use to:{named}"));
            Ok(None)
        }
        [one] => Ok(Some(format!("/events/{one}"))),
        _ => {
            search.problems.push(format!("several sources posted `{named}`; newest first"));
            Ok(None)
        }
    }
}

fn words(search: &Search) -> Markup {
    html! {
        @if !search.words.is_empty() {
            ul.words aria-label="The search" {
                @for word in &search.words {
                    li {
                        code { (word) }
                        a href={ "/?" (address(&search.without(word), None)) } aria-label={ "Remove " (word) } { "×" }
                    }
                }
                li { a href="/" { "Clear" } }
            }
        }
        @for problem in &search.problems {
            p.problem role="alert" { "▲ " (problem) }
        }
    }
}

fn address(q: &str, before: Option<EventId>) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    if !q.is_empty() {
        query.append_pair("q", q);
    }
    if let Some(before) = before {
        query.append_pair("before", &before.to_string());
    }
    query.finish()
}

async fn list(view: &View, search: &Search, query: &LiveQuery) -> Result<Markup, Failure> {
    let mut filter = search.filter.clone();
    if let Some(before) = &query.before {
        let before: EventId = before.parse().map_err(|_| Failure::NotFound("Page not found.".to_owned()))?;
        filter.before = Some(before.uuid());
    }
    let newest: Option<EventId> = query.newest.as_deref().and_then(|text| text.parse().ok());
    let events = view.console.store.list_events(&filter).await?;
    let is_full = i64::try_from(events.len()).is_ok_and(|found| found >= filter.limit);
    let last = events.last().map(|row| row.event.id).filter(|_| is_full);
    let rows = with_outcomes(view, events).await?;
    let now = view.now();
    Ok(html! {
        @if rows.is_empty() {
            (nothing(view, search, query))
        } @else {
            table.rows data-newest=(rows.first().map(|row| row.event.event.id.to_string()).unwrap_or_default()) {
                thead { tr { th { "When" } th { "Event" } th { "To" } th { "Deliveries" } th.why { "Why" } } }
                tbody {
                    @for row in &rows {
                        (one(row, now, newest.is_some_and(|newest| row.event.event.id > newest)))
                    }
                }
            }
            @if let Some(last) = last {
                p.pages { a.button href={ "/?" (address(&search.text(), Some(last))) } rel="next" { "Older" } }
            }
        }
    })
}

fn nothing(view: &View, search: &Search, query: &LiveQuery) -> Markup {
    if query.before.is_some() {
        return empty(
            "No older events",
            &html! { p { a href={ "/?" (address(&search.text(), None)) } { "Back to the latest" } } },
        );
    }
    if !search.words.is_empty() {
        return empty(
            "No matching events",
            &html! { p { "Remove a filter or widen the time range:  " code { "since:7d" } "." } },
        );
    }
    let send =
        "herald events send --type TYPE --recipient external_id=user-42 --data '{\"name\": \"value\"}'";
    empty(
        "No events yet",
        &html! {
            p { "Events appear here as soon as a service posts one to  " code { "POST /v1/events" } ". Try it:" }
            pre { code { (send) } }
            @if view.person.may(crate::access::Use::ManageKeys) {
                p { "A service needs a key: " code { "herald keys create --source shop" } "." }
            }
        },
    )
}

async fn with_outcomes(view: &View, events: Vec<StoredEvent>) -> Result<Vec<Row>, Failure> {
    let ids: Vec<EventId> = events.iter().map(|row| row.event.id).collect();
    let mut outcomes = view.console.store.outcomes_of(&ids, view.now()).await?;
    let row =
        |event: StoredEvent| Row { outcome: outcomes.remove(&event.event.id).unwrap_or_default(), event };
    Ok(events.into_iter().map(row).collect())
}

fn one(row: &Row, now: Timestamp, is_new: bool) -> Markup {
    let event = &row.event.event;
    let href = format!("/events/{}", event.id);
    let EventOutcome { deliveries, has_more, why } = &row.outcome;
    html! {
        tr.new[is_new] {
            td { (when(event.received_at, now)) }
            td { a.whole #{ "e-" (event.id) } href=(href) { (event.event_type.as_str()) } div.sub { code { (event.event_key) } } }
            td { (people(event)) }
            td { div.chips {
                @for alike in deliveries {
                    span.delivery { span.channel { (alike.channel) @if alike.count > 1 { " " (number(alike.count)) "×" } } (chip(alike.state.shown(alike.due_at, now))) }
                }
                @if *has_more { span.more.soft { "and more" } }
                @if deliveries.is_empty() { (chip("skipped")) }
            } }
            td.why { @if let Some(why) = why { (why) } }
        }
    }
}

fn people(event: &crate::domain::event::Event) -> Markup {
    html! {
        @match event.recipients.as_slice() {
            [] => span.soft { "a segment" },
            [one] => (one.id),
            [first, rest @ ..] => { (first.id) span.soft { " and " (count(i64::try_from(rest.len()).unwrap_or(i64::MAX), "other", "others")) } },
        }
    }
}
