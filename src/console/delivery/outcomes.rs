//! Engagement of a delivery's message, requested from OneSignal on demand.

use axum::extract::Path;
use maud::{Markup, html};

use super::super::components::count;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View};
use super::super::stats::{why_none, words_of};
use super::{Story, find};
use crate::domain::answer::{MessageStats, ProviderMessageId};
use crate::domain::app::AppId;
use crate::domain::id::DeliveryId;
use crate::store::delivery_reads::AttemptRow;

/// The attempt that OneSignal accepted.
fn taken(attempts: &[AttemptRow]) -> Option<(&AttemptRow, ProviderMessageId)> {
    attempts
        .iter()
        .find_map(|attempt| Some((attempt, ProviderMessageId(attempt.provider_message_id.clone()?))))
}

/// The tab, which loads when it is opened.
pub(super) fn tab(story: &Story) -> Markup {
    let href = address(story.row.id);
    html! {
        details name="about" {
            summary { "Outcomes" }
            @if taken(&story.attempts).is_some() {
                div hx-get=(href) hx-trigger="toggle from:closest details once" {
                    p { a href=(href) { "Load statistics from OneSignal" } }
                }
            } @else {
                p.soft { "There is no message at OneSignal, so there are no statistics." }
            }
        }
    }
}

fn address(id: DeliveryId) -> String {
    format!("/deliveries/{id}/outcomes")
}

pub(in super::super) async fn show(view: View, Path(id): Path<String>) -> Shown {
    let row = find(&view, &id).await?;
    let attempts = view.console.store.attempts_of(&row.batch.into_iter().collect::<Vec<_>>()).await?;
    let part = if let Some((attempt, message)) = taken(&attempts) {
        ask(&view, row.app, message, i64::from(attempt.members)).await
    } else {
        html! { p.soft { "There is no message at OneSignal, so there are no statistics." } }
    };
    let href = format!("/deliveries/{id}");
    let crumbs = [Crumb::to("Live", "/"), Crumb::to("Delivery", &href), Crumb::here("Outcomes")];
    view.part(Place::Live, &crumbs, part).await
}

async fn ask(view: &View, app: AppId, message: ProviderMessageId, members: i64) -> Markup {
    let asked = view.console.pipeline.message_stats(&[(app, message)]).await;
    match asked.map(|mut found| found.pop().flatten()) {
        Ok(Some(figures)) => counted(&figures, members),
        Ok(None) => {
            html! { p.soft { "OneSignal no longer has this message: it keeps them for 30 days." } }
        }
        Err(error) => html! { p.problem { "▲ " (why_none(&error)) } },
    }
}

fn counted(figures: &MessageStats, members: i64) -> Markup {
    html! {
        p.soft {
            "Current counts from OneSignal, by subscription"
            @if members > 1 { "; the message went to " (count(members, "person", "people")) " in one call, and is counted as a whole" }
            "."
        }
        dl.facts { @for (name, value) in words_of(figures) { dt { (name) } dd { (value) } } }
    }
}
