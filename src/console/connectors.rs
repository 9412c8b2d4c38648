//! Connectors: a list with their states, and one with its lag, its last error and the rows that were set aside.

use axum::extract::{Path, Query};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::json;

use super::components::{chip, count, empty, number, span, when};
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View, done};
use crate::access::Use;
use crate::domain::clock::Timestamp;
use crate::domain::event::MASK;
use crate::people::connector::{is_stale, observed_words, place_of};
use crate::store::connector_rows::SetAsideRow;
use crate::store::connectors::{Connector, ConnectorState};

/// Rows that are shown.
const ROWS: i64 = 20;

pub(super) async fn list(view: View) -> Shown {
    let connectors = view.console.store.connectors().await?;
    let waiting = view.console.store.count_set_aside().await?;
    let now = view.now();
    let body = html! {
        h1 { "Connectors" }
        p { "Rows of other databases that become users or events." }
        @if connectors.is_empty() {
            (empty("No connectors yet", &html! {
                p { "Describe one in a file, and save it with  " code { "herald sync save FILE.toml" } "; it reads nothing before you start it." }
            }))
        } @else {
            table.rows {
                thead { tr { th { "Connector" } th { "State" } th { "Rows" } th { "Last poll" } } }
                tbody {
                    @for connector in &connectors {
                        tr {
                            td { a.whole href={ "/connectors/" (connector.name) } { (connector.name) div.sub { (place_of(connector)) } } }
                            td { (state(connector, now)) }
                            td.why {
                                (number(connector.counts.read)) " read, " (number(connector.counts.accepted)) " accepted"
                                @let aside = waiting.get(&connector.id).copied().unwrap_or_default();
                                @if aside > 0 { ", " (number(aside)) " set aside" }
                            }
                            td { (when(connector.polled_at, now)) }
                        }
                    }
                }
            }
        }
    };
    let crumbs = [Crumb::to("Recipients", "/recipients"), Crumb::here("Connectors")];
    view.page(Place::Recipients, &crumbs, body).await
}

/// The state, as far as a person has to know it: a running connector that is not polled is not running.
fn state(connector: &Connector, now: Timestamp) -> Markup {
    if is_stale(connector, now) { chip("stalled") } else { chip(connector.state.as_str()) }
}

pub(super) async fn page(view: View, Path(name): Path<String>) -> Shown {
    let connector = find(&view, &name).await?;
    let rows = view.console.store.list_set_aside(connector.id, "", ROWS).await?;
    let now = view.now();
    let body = html! {
        div.heading { h1 { (connector.name) } (state(&connector, now)) }
        @if !connector.detail.is_empty() { p.problem { "▲ " (connector.detail) "." } }
        @if !connector.last_error.is_empty() { p.problem { "▲ The source can’t be read: " (connector.last_error) "." } }
        (actions(&view, &connector))
        dl.facts { (facts(&connector, now)) }
        @if !rows.is_empty() { (set_aside(&rows, view.person.may(Use::ChangeUsers), now)) }
        h2 { "Definition" }
        pre { (serde_json::to_string_pretty(&connector.definition).unwrap_or_default()) }
    };
    let crumbs = [
        Crumb::to("Recipients", "/recipients"),
        Crumb::to("Connectors", "/connectors"),
        Crumb::here(&connector.name),
    ];
    view.page(Place::Recipients, &crumbs, body).await
}

fn facts(connector: &Connector, now: Timestamp) -> Markup {
    let counts = connector.counts;
    html! {
        dt { "Source" } dd { (place_of(connector)) }
        dt { "Saved by" } dd { (connector.author) " " (when(connector.updated_at, now)) }
        dt { "Last poll" }
        dd {
            (when(connector.polled_at, now))
            @if let Some(behind) = connector.observed["behind_seconds"].as_i64() {
                ", " (span(chrono::TimeDelta::seconds(behind))) " behind the source"
            }
        }
        @for note in observed_words(&connector.observed) { dt { "Note" } dd { (note) } }
        @if let Some(rows) = connector.known_rows { dt { "Rows of the source" } dd { (number(rows)) } }
        dt { "Rows" }
        dd {
            (count(counts.read, "row read", "rows read")) ": " (number(counts.accepted)) " accepted, "
            (number(counts.unchanged)) " unchanged, " (number(counts.repeated)) " repeated, " (number(counts.too_old)) " too old, "
            (number(counts.deleted)) " deleted, " (number(counts.set_aside)) " set aside, " (number(counts.superseded)) " superseded"
        }
    }
}

/// Rows that were set aside. Keys and reasons are personal data: who may not change users sees that there are rows.
fn set_aside(rows: &[SetAsideRow], shows_values: bool, now: Timestamp) -> Markup {
    html! {
        h2 { "Rows that were set aside" }
        p.soft { "They are tried again with what the source has for them then, and stop nobody else." }
        table.rows {
            thead { tr { th { "Row" } th { "Reason" } th { "Attempts" } th { "Next" } } }
            tbody {
                @for row in rows {
                    tr {
                        td { @if shows_values { (row.row_id) } @else { (MASK) } }
                        td.why {
                            @if !row.field.is_empty() { (row.field) ": " }
                            @if shows_values { (row.reason) } @else { (MASK) }
                        }
                        td { (row.attempts) }
                        td { (when(row.retry_at, now)) }
                    }
                }
            }
        }
    }
}

/// The buttons that fit the state.
fn actions(view: &View, connector: &Connector) -> Markup {
    let path = format!("/connectors/{}", connector.name);
    let is_query = connector.definition["query"].is_object();
    html! {
        @if view.person.may(Use::ChangeSource) {
            div.actions {
                @if connector.state == ConnectorState::Running {
                    form method="post" action={ (path) "/pause" } { button { "Pause" } }
                } @else {
                    form method="post" action={ (path) "/start" } data-asks="Start this connector? Its rows become users or events." { button.primary { "Start" } }
                    @if is_query {
                        form method="post" action={ (path) "/start?reread=true" } data-asks="Read all rows of the query again?" { button { "Read all rows again" } }
                    }
                }
            }
        }
    }
}

/// How a connector is started.
#[derive(Debug, Default, Deserialize)]
pub(super) struct StartQuery {
    #[serde(default)]
    reread: bool,
}

pub(super) async fn start(view: View, Path(name): Path<String>, Query(query): Query<StartQuery>) -> Shown {
    let connector = find(&view, &name).await?;
    view.console.connectors.start(&connector, query.reread).await?;
    let after = Some(json!({"reread": query.reread}));
    view.console.publisher.record_change(("connector", &name), "started", after, view.by("")).await?;
    Ok(done(&format!("/connectors/{name}"), "The connector runs."))
}

pub(super) async fn pause(view: View, Path(name): Path<String>) -> Shown {
    let connector = find(&view, &name).await?;
    view.console.connectors.pause(&connector).await?;
    view.console.publisher.record_change(("connector", &name), "paused", None, view.by("")).await?;
    Ok(done(&format!("/connectors/{name}"), "Paused."))
}

async fn find(view: &View, name: &str) -> Result<Connector, Failure> {
    let unknown = || Failure::NotFound(format!("There is no connector {name}."));
    view.console.store.find_connector(name).await?.ok_or_else(unknown)
}
