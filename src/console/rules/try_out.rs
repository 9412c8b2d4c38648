//! Testing a condition against past events.

use axum::body::Body;
use axum::response::IntoResponse;
use maud::{Markup, html};
use serde_json::json;

use super::super::components::number;
use super::super::failure::Failure;
use super::super::page_context::{Shown, View};
use super::super::templates::Sent;
use crate::compute::Purpose;
use crate::domain::budget::Budget;
use crate::domain::event::covers;
use crate::domain::id::{EventId, TypedId, made_at};
use crate::expressions::Expression;
use crate::store::traffic::PastEvent;

/// Number of past events.
const EVENTS: i64 = 500;
/// Number of events shown.
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
        return Err(Failure::Invalid(format!("There is no event type `{pattern}`.")));
    }
    let events = view.console.store.last_events(&types, EVENTS).await?;
    let when = when.to_owned();
    let found =
        view.console.compute.run(Purpose::People, move |budget| try_on(&when, &events, budget)).await?;
    let Found { total, matched, failed, example } = found.map_err(Failure::Invalid)?;
    Ok(html! {
        p.notice role="status" {
            @if total == 0 { "There are no events of this type yet." }
            @else { "Matches " strong { (figure(matched.len())) } " of the last " (figure(total)) " events." }
        }
        @if let Some(example) = example { p.warning { "▲ For " (figure(failed)) " it could not be evaluated and counts as not met: " (example) } }
        ul { @for (id, key) in matched.iter().take(SHOWN) { li { a href={ "/events/" (id) } { (key) } } } }
    })
}

/// The result of a test.
struct Found {
    total: usize,
    matched: Vec<(EventId, String)>,
    failed: usize,
    /// An example error.
    example: Option<String>,
}

/// Tests a condition against past events; no condition matches all.
///
/// # Errors
/// The errors of the condition, or that it exceeds the budget.
fn try_on(when: &str, events: &[PastEvent], budget: &Budget) -> Result<Found, String> {
    let parse = |text| Expression::parse(text, budget).map_err(|problem| format!("{}.", problem.message));
    let condition = if when.is_empty() { None } else { Some(parse(when)?) };
    let mut found = Found { total: events.len(), matched: Vec::new(), failed: 0, example: None };
    for event in events {
        let about = json!({
            "id": event.event_key, "type": event.event_type, "locale": event.locale,
            "time": made_at(event.id.uuid()).to_rfc3339(),
        });
        let globals = [("data", &event.data), ("event", &about)];
        match condition.as_ref().map(|one| one.holds(&globals, budget)) {
            None | Some(Ok(true)) => found.matched.push((event.id, event.event_key.clone())),
            Some(Ok(false)) => {}
            Some(Err(error)) => {
                found.failed += 1;
                found.example.get_or_insert_with(|| error.to_string());
            }
        }
        if let Some(spent) = budget.spent() {
            return Err(format!("It can't be tested against this many events: {spent}."));
        }
    }
    Ok(found)
}

fn figure(count: usize) -> String {
    number(i64::try_from(count).unwrap_or(i64::MAX))
}
