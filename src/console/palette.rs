//! Command palette results: templates, rules, event types, IDs.

use axum::extract::Query;
use axum::response::IntoResponse;
use maud::html;
use serde::Deserialize;

use super::event::path_segment;
use super::page_context::{Shown, View};

/// Maximum results per kind.
const MAX: i64 = 6;

/// The search text.
#[derive(Debug, Default, Deserialize)]
pub(super) struct PaletteQuery {
    #[serde(default)]
    q: String,
}

pub(super) async fn find(view: View, Query(query): Query<PaletteQuery>) -> Shown {
    let text = query.q.trim().to_lowercase();
    let names = view.console.store.find_names(&text, MAX).await?;
    let found = html! {
        @for (kind, name) in &names {
            li role="option" { a tabindex="-1" href={ "/" (place_of(kind)) "/" (path_segment(name)) } { (name) span.soft { (kind) } } }
        }
        @if !text.is_empty() {
            li role="option" { a tabindex="-1" href={ "/?" (url::form_urlencoded::Serializer::new(String::new()).append_pair("q", query.q.trim()).finish()) } { "Search events for " (query.q.trim()) } }
            @if !text.contains(char::is_whitespace) {
                li role="option" { a tabindex="-1" href={ "/recipients?" (url::form_urlencoded::Serializer::new(String::new()).append_pair("q", query.q.trim()).finish()) } { "Recipient " (query.q.trim()) } }
            }
        }
    };
    Ok(found.into_response())
}

fn place_of(kind: &str) -> &'static str {
    match kind {
        "template" => "templates",
        "rule" => "rules",
        _ => "event-types",
    }
}
