//! What Herald has written about a person to OneSignal: pending, confirmed and refused parts, for each app.

use maud::{Markup, html};

use super::components::{chip, when};
use super::failure::Failure;
use super::page_context::View;
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::domain::event::Recipient;
use crate::people::{in_words, remedy};
use crate::store::users::{AppState, LastAnswer};

/// The section of a recipient's page; empty if nothing was ever written about the person.
pub(super) async fn section(view: &View, person: &Recipient) -> Result<Markup, Failure> {
    let store = &view.console.store;
    let Some(user) = store.find_user(person.label.as_str(), &person.id).await? else { return Ok(html! {}) };
    if user.apps.is_empty() {
        return Ok(html! {});
    }
    let apps = store.apps().await?;
    let now = view.now();
    Ok(html! {
        h2 { "At OneSignal" }
        @for state in &user.apps { (app_state(state, &apps, now)) }
    })
}

fn app_state(state: &AppState, apps: &[App], now: Timestamp) -> Markup {
    let app = apps.iter().find(|app| app.id == state.app);
    html! {
        dl.facts {
            dt { "App" } dd { @match app { Some(app) => { (app.name) }, None => { code { (state.app) } } } " " (chip(&state.label().replace('_', " "))) }
            @if let Some(pending) = &state.pending {
                dt { "Pending" }
                dd {
                    (in_words(pending.changes.0.keys().map(ToString::to_string).collect::<Vec<_>>().iter().map(String::as_str)))
                    div.sub {
                        "next call " (when(pending.due_at, now))
                        @if pending.attempts > 0 { ", " (pending.attempts) " failed so far" }
                    }
                }
            }
            @if let Some(last) = &state.last { (last_answer(last, now)) }
        }
    }
}

fn last_answer(last: &LastAnswer, now: Timestamp) -> Markup {
    html! {
        @if !last.confirmed.is_empty() {
            dt { "Confirmed" }
            dd {
                (in_words(last.confirmed.iter().map(String::as_str)))
                div.sub { "Herald does not store the values." }
            }
        }
        @for (part, reason) in &last.refused {
            dt { "Refused" }
            dd {
                (in_words([part.as_str()])) ": " (reason["detail"].as_str().unwrap_or_default())
                div.sub { (remedy(reason["code"].as_str().unwrap_or_default())) }
            }
        }
        dt { "Last answer" }
        dd {
            code { (last.answer) } " " (when(last.answered_at, now))
            @if !last.detail.is_empty() { div.sub { (last.detail) } }
        }
    }
}
