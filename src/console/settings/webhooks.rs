//! Received webhook calls, and rejected ones.

use maud::{Markup, html};

use super::super::components::{empty, number, when};
use super::super::page_context::{Shown, View};
use super::below;
use crate::domain::clock::Timestamp;
use crate::domain::rejection::Rejection;
use crate::store::rejections::RejectedCalls;
use crate::store::sources::Source;

/// A source with what its webhook received.
struct Received {
    source: Source,
    bodies: Vec<(String, i64, Timestamp)>,
    rejected: Vec<RejectedCalls>,
}

pub(in super::super) async fn page(view: View) -> Shown {
    let store = &view.console.store;
    let settings = store.source_settings().await?;
    let mut all = Vec::new();
    for source in store.sources().await? {
        let has_webhook = settings.get(&source.name).is_some_and(|said| said["webhook"].is_object());
        let rejected = store.rejected_calls(source.id).await?;
        if has_webhook || !rejected.is_empty() {
            let bodies = store.count_received(source.id).await?;
            all.push(Received { source, bodies, rejected });
        }
    }
    let now = view.now();
    let body = html! {
        h1 { "Webhooks" }
        @if all.is_empty() {
            (empty("No webhooks yet", &html! { p { "A source with a webhook accepts calls from a shop, a payment provider or a CRM: see docs/webhooks.md." } }))
        }
        @for received in &all { (one(received, now)) }
    };
    below(&view, "Webhooks", body).await
}

fn one(received: &Received, now: Timestamp) -> Markup {
    let name = &received.source.name;
    html! {
        h2 { (name) }
        p.soft { code { "/v1/hooks/" (name) } }
        @if received.bodies.is_empty() && received.rejected.is_empty() { p { "Nothing received yet." } }
        @if !received.bodies.is_empty() {
            table.rows {
                thead { tr { th { "Bodies" } th.num { "Kept" } th { "Last" } } }
                tbody {
                    @for (state, bodies, last_at) in &received.bodies {
                        tr { td { (state) } td.num { (number(*bodies)) } td { (when(*last_at, now)) } }
                    }
                }
            }
            p.soft { "See why with " code { "herald sources bodies " (name) " --state refused" } ", and reprocess one with  " code { "herald sources replay " (name) } "." }
        }
        @if !received.rejected.is_empty() {
            table.rows {
                thead { tr { th { "Rejected calls" } th.num { "Calls" } th { "First" } th { "Last" } } }
                tbody {
                    @for calls in &received.rejected {
                        tr {
                            td { strong { (calls.reason) } " " span.soft { (Rejection::words(&calls.reason)) } }
                            td.num { (number(i64::try_from(calls.calls).unwrap_or(i64::MAX))) }
                            td { (when(calls.first_at, now)) }
                            td { (when(calls.last_at, now)) }
                        }
                    }
                }
            }
        }
    }
}
