//! The audit log, which is append-only.

use axum::extract::Query;
use maud::html;
use serde::Deserialize;
use uuid::Uuid;

use super::super::components::{empty, when};
use super::super::event::pretty;
use super::super::page_context::{Shown, View};
use super::below;

/// Changes of a page.
const PAGE: i64 = 100;

/// Filters of the audit log.
#[derive(Debug, Default, Deserialize)]
pub(in super::super) struct AuditQuery {
    kind: Option<String>,
    subject: Option<String>,
    before: Option<Uuid>,
}

pub(in super::super) async fn page(view: View, Query(query): Query<AuditQuery>) -> Shown {
    let narrowed = (query.kind.as_deref(), query.subject.as_deref());
    let entries = view.console.store.audit(narrowed, query.before, PAGE).await?;
    let now = view.now();
    let last = entries.last().filter(|_| entries.len() >= usize::try_from(PAGE).unwrap_or(usize::MAX));
    let older = last.map(|last| {
        let mut address = url::form_urlencoded::Serializer::new(String::new());
        for (name, value) in [("kind", narrowed.0), ("subject", narrowed.1)] {
            if let Some(value) = value {
                address.append_pair(name, value);
            }
        }
        address.append_pair("before", &last.id.to_string());
        format!("/settings/audit?{}", address.finish())
    });
    let body = html! {
        h1 { "Audit log" }
        @if let Some(subject) = &query.subject { ul.words { li { code { (subject) } a href="/settings/audit" aria-label="Show all" { "×" } } } }
        @if entries.is_empty() {
            (empty("No changes yet", &html! { p { "Every change to templates, rules, keys, gates and the team is recorded here, with author and reason." } }))
        } @else {
            table.rows {
                thead { tr { th { "When" } th { "Who" } th { "What" } th { "Why" } } }
                tbody {
                    @for entry in &entries {
                        tr {
                            td { (when(entry.at, now)) }
                            td { (entry.actor) }
                            td {
                                (entry.action.replace('_', " ")) " " (entry.kind.replace('_', " ")) " " strong { (entry.subject) }
                                @if entry.before.is_some() || entry.after.is_some() {
                                    details {
                                        summary.soft { "before and after" }
                                        @if let Some(before) = &entry.before { p.soft { "Before" } pre { code { (pretty(before)) } } }
                                        @if let Some(after) = &entry.after { p.soft { "After" } pre { code { (pretty(after)) } } }
                                    }
                                }
                            }
                            td { (entry.note) }
                        }
                    }
                }
            }
            @if let Some(older) = older { p.pages { a.button rel="next" href=(older) { "Older" } } }
        }
    };
    below(&view, "Audit log", body).await
}
