//! Imports of users: their history, and one with its columns, progress, first rows and rejected rows.

use axum::extract::Path;
use maud::{Markup, html};
use serde_json::{Value, json};

use super::components::{chip, count, empty, number, when};
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View, done};
use crate::access::Use;
use crate::domain::clock::Timestamp;
use crate::domain::id::{ImportId, TypedId};
use crate::people::import::encoding::encoding_words;
use crate::store::imports::{Import, ImportState};

/// Imports on the page.
const LISTED: i64 = 100;
/// Rows that are shown of each kind.
const ROWS: i64 = 10;

pub(super) async fn list(view: View) -> Shown {
    let imports = view.console.store.list_imports(None, LISTED).await?;
    let now = view.now();
    let body = html! {
        h1 { "Imports" }
        p { "Users from CSV files. A file is checked as a whole before anything is written." }
        @if imports.is_empty() {
            (empty("No imports yet", &html! {
                p { "Import a file with  " code { "herald users import FILE.csv" } "; it shows what would change before it starts." }
            }))
        } @else {
            (table(&imports, now))
        }
    };
    let crumbs = [Crumb::to("Recipients", "/recipients"), Crumb::here("Imports")];
    view.page(Place::Recipients, &crumbs, body).await
}

fn table(imports: &[Import], now: Timestamp) -> Markup {
    html! {
        table.rows {
            thead { tr { th { "File" } th { "State" } th { "Result" } th { "Created" } } }
            tbody {
                @for import in imports {
                    tr {
                        td { a.whole href={ "/imports/" (ImportId::from_uuid(import.id)) } { (import.name) } div.sub { (import.author) } }
                        td { (chip(import.state.as_str())) }
                        td.why {
                            (count(import.counts.records, "row", "rows")) ", " (number(import.counts.rejected)) " rejected; "
                            (count(import.counts.sent, "user", "users")) " written"
                        }
                        td { (when(import.created_at, now)) }
                    }
                }
            }
        }
    }
}

pub(super) async fn page(view: View, Path(id): Path<String>) -> Shown {
    let import = find(&view, &id).await?;
    let apps = view.console.store.apps().await?;
    let app = apps.into_iter().find(|app| app.id == import.app).ok_or_else(|| unknown(&id))?;
    let (columns, preview) = view.console.people.preview(&import, &app, ROWS).await?;
    let rejected = view.console.store.import_rows(import.id, true, 0, ROWS).await?;
    let now = view.now();
    let body = html! {
        div.heading { h1 { (import.name) } (chip(import.state.as_str())) }
        @if !import.detail.is_empty() { p.problem { "▲ " (import.detail) "." } }
        (actions(&view, &import, &id))
        dl.facts { (facts(&import, &app.name, now)) }
        @if !columns.is_empty() {
            h2 { "Columns" }
            table.rows {
                thead { tr { th { "Header" } th { "Meaning" } } }
                tbody { @for (name, meaning) in &columns { tr { td { (name) } td { code { (meaning) } } } } }
            }
        }
        @if !preview.is_empty() {
            h2 { "Requests of the first rows" }
            p.soft { "As for new users. For a user whom OneSignal knows, only what changed is sent." }
            table.rows {
                thead { tr { th { "Row" } th { "Request" } } }
                tbody {
                    @for row in &preview {
                        tr { td { "line " (row.line) } td.below { code { (row.method) " " (row.path) " " (row.body) } } }
                    }
                }
            }
        }
        @if !rejected.is_empty() {
            h2 { "First rejected rows" }
            table.rows {
                thead { tr { th { "Cell" } th { "Reason" } th { "Row" } } }
                tbody {
                    @for row in &rejected {
                        @let said = |name: &str| row.problem.as_ref().and_then(|problem| problem[name].as_str()).unwrap_or_default().to_owned();
                        tr {
                            td { "line " (row.line) @if !said("column").is_empty() { ", " (said("column")) } }
                            td.why { (said("reason")) }
                            td.below { code { (row.raw) } }
                        }
                    }
                }
            }
            p.soft { "All of them: " code { "GET /v1/users/imports/" (id) "/rejected" } ". Correct that file and import it." }
        }
    };
    let crumbs =
        [Crumb::to("Recipients", "/recipients"), Crumb::to("Imports", "/imports"), Crumb::here(&import.name)];
    view.page(Place::Recipients, &crumbs, body).await
}

fn facts(import: &Import, app: &str, now: Timestamp) -> Markup {
    let format = import.format.clone().unwrap_or_default();
    let text = |name: &str| format[name].as_str().unwrap_or_default().to_owned();
    let counts = import.counts;
    html! {
        dt { "App" } dd { (app) }
        dt { "From" } dd { (import.author) " " (when(import.created_at, now)) }
        @if import.format.is_some() { dt { "Format" } dd { (encoding_words(&text("encoding"))) ", delimiter " code { (text("delimiter").replace('\t', "tab")) } } }
        dt { "Rows" } dd { (number(counts.records)) ", " (number(counts.rejected)) " rejected, " (number(counts.conflicts)) " in conflict" }
        dt { "Users" }
        dd {
            (number(counts.changed)) " to write, " (number(counts.new_users)) " of them new; " (number(counts.unchanged)) " unchanged"
            @if counts.removed_tags > 0 { "; " (number(counts.removed_tags)) " tags are removed" }
        }
        @if import.started_at.is_some() {
            dt { "Written" }
            dd { (number(counts.sent)) " of " (number(counts.changed)) @if counts.refused > 0 { ", " (number(counts.refused)) " refused in part" } }
        }
        @if let Some(at) = import.finished_at { dt { "Ended" } dd { (when(at, now)) } }
    }
}

/// The buttons that fit the state.
fn actions(view: &View, import: &Import, id: &str) -> Markup {
    let may = view.person.may(Use::ChangeUsers);
    let is_open = !matches!(import.state, ImportState::Done | ImportState::Cancelled);
    html! {
        @if may && is_open {
            div.actions {
                @if import.state == ImportState::Ready {
                    form method="post" action={ "/imports/" (id) "/start" } data-asks={ "Write " (count(import.counts.changed, "user", "users")) " to OneSignal? An import can’t be undone." } {
                        button.primary { "Write " (count(import.counts.changed, "user", "users")) }
                    }
                }
                form method="post" action={ "/imports/" (id) "/cancel" } data-asks="Cancel this import? Users who were accepted before are written nevertheless." { button { "Cancel import" } }
            }
        }
    }
}

pub(super) async fn start(view: View, Path(id): Path<String>) -> Shown {
    let import = find(&view, &id).await?;
    match view.console.people.start_import(import.id).await? {
        Some(ImportState::Running | ImportState::Done) => {
            record(&view, &id, "started", &import).await?;
            Ok(done(&format!("/imports/{id}"), "The import runs."))
        }
        state => {
            let state = state.map_or("gone", ImportState::as_str);
            Err(Failure::Conflict(format!("The import is {state}; only one that is ready can be started.")))
        }
    }
}

pub(super) async fn cancel(view: View, Path(id): Path<String>) -> Shown {
    let import = find(&view, &id).await?;
    view.console.people.cancel_import(import.id).await?;
    record(&view, &id, "cancelled", &import).await?;
    Ok(done(&format!("/imports/{id}"), "Cancelled. Users who were accepted before are written nevertheless."))
}

async fn record(view: &View, id: &str, what: &str, import: &Import) -> Result<(), Failure> {
    let after: Value = json!({"file": import.name, "rows": import.counts.records});
    Ok(view.console.publisher.record_change(("import", id), what, Some(after), view.by("")).await?)
}

async fn find(view: &View, id: &str) -> Result<Import, Failure> {
    let parsed: ImportId = id.parse().map_err(|_| unknown(id))?;
    view.console.store.find_import(parsed.uuid()).await?.ok_or_else(|| unknown(id))
}

fn unknown(id: &str) -> Failure {
    Failure::NotFound(format!("There is no import {id}. Imports are deleted after the retention period."))
}
