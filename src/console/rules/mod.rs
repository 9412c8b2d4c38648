//! Rules: list and form, with a test against past events.

mod form;
mod try_out;

pub(super) use form::{delete, new as new_page, page, save};
pub(super) use try_out::show as try_out;

use maud::html;

use super::components::empty;
use super::event::path_segment;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use crate::access::Use;
use crate::domain::rule::{Action, Rule};

pub(super) async fn list(view: View) -> Shown {
    let snapshot = view.console.store.snapshot().await?;
    let body = html! {
        div.heading {
            h1 { "Rules" }
            @if view.person.may(Use::ChangeCatalog) { a.button.right href="/rules/new" { "New rule" } }
        }
        @if snapshot.rules.is_empty() {
            (empty("No rules yet", &html! { p { "A rule sends a template when an event arrives and a condition is met. Without rules, events are stored and nothing is sent." } }))
        } @else {
            table.rows {
                thead { tr { th { "Rule" } th { "Trigger" } th { "Condition" } th { "Action" } th { "Priority" } th { "" } } }
                tbody {
                    @for rule in &snapshot.rules {
                        tr {
                            td { a.whole href={ "/rules/" (path_segment(&rule.key)) } { (rule.key) } @if !rule.definition.description.is_empty() { div.sub { (rule.definition.description) } } }
                            td { (rule.event_type) }
                            td { @if let Some(condition) = &rule.definition.condition { code { (condition) } } @else { span.soft { "always" } } }
                            td { (does(rule)) }
                            td { (rule.definition.priority.as_str()) }
                            td { @if rule.is_enabled { span.chip.good { "● enabled" } } @else { span.chip.off { "– disabled" } } }
                        }
                    }
                }
            }
        }
    };
    view.page(Place::Rules, &[Crumb::here("Rules")], body).await
}

/// A summary of a rule's action.
fn does(rule: &Rule) -> String {
    match &rule.definition.action {
        Action::Tag { .. } => "set tags".to_owned(),
        Action::Track { .. } => "trigger Journeys".to_owned(),
        Action::Cancel { .. } => "cancel pending".to_owned(),
        Action::Send { .. } => {
            rule.template().map_or_else(String::new, |template| format!("send {template}"))
        }
    }
}
