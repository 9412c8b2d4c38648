//! The tabs of a delivery: message, request and responses.

use maud::{Markup, html};
use serde_json::Value;

use super::super::devices;
use super::super::event::pretty;
use super::Story;

pub(super) fn all(story: &Story) -> Markup {
    let request = story.preview.as_ref().and_then(|shown| shown.request.as_ref());
    html! {
        div.tabs {
            details name="about" open {
                summary { "Message" }
                @match &story.preview {
                    Some(shown) => (devices::message(&story.row.channel, shown)),
                    None => p.soft { "It can't be shown: no version is pinned, it is sent to a segment, or its event was deleted." },
                }
            }
            details name="about" {
                summary { "Event data" }
                @match &story.event {
                    Some(event) => pre.json tabindex="0" { code { (pretty(&event.event.data)) } },
                    None => p.soft { "The event was deleted." },
                }
            }
            details name="about" {
                summary { "Request to OneSignal" }
                p.soft { "The body of Create message for this delivery only. It may be sent together with others in one call." }
                @match request {
                    Some(request) => {
                        pre.json tabindex="0" { code { (pretty(request)) } }
                        button.copy type="button" data-copies=(curl(request)) { "Copy as curl" }
                    },
                    None => p.soft { "None: it would be held." },
                }
            }
            details name="about" {
                summary { "Answer" }
                @if story.attempts.is_empty() { p.soft { "No calls to OneSignal yet." } }
                @else {
                    table.rows {
                        thead { tr { th { "Attempt" } th { "Response" } th { "HTTP" } th { "Message at OneSignal" } th { "Idempotency key" } } }
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
            (super::outcomes::tab(story))
        }
    }
}

fn curl(request: &Value) -> String {
    let body = pretty(request).replace('\'', "'\\''");
    format!(
        "curl -sS https://api.onesignal.com/notifications -H 'Authorization: Key YOUR_APP_API_KEY' -H 'Content-Type: application/json' -d '{body}'"
    )
}
