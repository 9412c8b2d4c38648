//! What a condition says to past events: how many it would have matched, and which.

use axum::body::Body;
use axum::response::IntoResponse;
use maud::{Markup, html};
use serde_json::json;

use super::super::failure::Failure;
use super::super::parts::number;
use super::super::templates::Sent;
use super::super::view::{Shown, View};
use crate::domain::event::covers;
use crate::domain::id::{TypedId, made_at};
use crate::expressions::Expression;

/// Past events that are looked at.
const EVENTS: i64 = 500;
/// Events that are shown.
const SHOWN: usize = 5;

pub(in super::super) async fn show(view: View, body: Body) -> Shown {
    let sent = Sent::read(body).await?;
    let markup = match tried(&view, sent.text("event").trim(), sent.text("when").trim()).await {
        Ok(markup) => markup,
        Err(Failure::Invalid(why)) => html! { p.problem role="alert" { "▲ " (why) } },
        Err(other) => return Err(other),
    };
    Ok(markup.into_response())
}

async fn tried(view: &View, pattern: &str, when: &str) -> Result<Markup, Failure> {
    let snapshot = view.console.store.snapshot().await?;
    let types: Vec<String> = snapshot
        .event_types
        .iter()
        .filter(|entry| covers(pattern, &entry.name))
        .map(|entry| entry.name.to_string())
        .collect();
    if types.is_empty() {
        return Err(Failure::Invalid(format!("No event type is called `{pattern}`.")));
    }
    let condition = match when {
        "" => None,
        text => Some(
            Expression::parse(text).map_err(|problem| Failure::Invalid(format!("{}.", problem.message)))?,
        ),
    };
    let events = view.console.store.last_events(&types, EVENTS).await?;
    let (mut matched, mut failed, mut example) = (Vec::new(), 0_i64, None);
    for event in &events {
        let about = json!({
            "id": event.event_key, "type": event.event_type, "locale": event.locale,
            "time": made_at(event.id.uuid()).to_rfc3339(),
        });
        match condition.as_ref().map(|one| one.holds(&[("data", &event.data), ("event", &about)])) {
            None | Some(Ok(true)) => matched.push(event),
            Some(Ok(false)) => {}
            Some(Err(error)) => {
                failed += 1;
                example.get_or_insert_with(|| error.to_string());
            }
        }
    }
    let total = i64::try_from(events.len()).unwrap_or(i64::MAX);
    Ok(html! {
        p.notice role="status" {
            @if total == 0 { "No event of this type has come yet." }
            @else { "It would have matched " strong { (number(i64::try_from(matched.len()).unwrap_or(i64::MAX))) } " of the last " (number(total)) "." }
        }
        @if let Some(example) = example { p.warning { "▲ For " (number(failed)) " it could not be worked out, so it does not hold: " (example) } }
        ul { @for event in matched.iter().take(SHOWN) { li { a href={ "/events/" (event.id) } { (event.event_key) } } } }
    })
}
