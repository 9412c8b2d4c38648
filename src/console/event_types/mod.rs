//! Event types: list, page with code examples, schema editor.

mod examples;
mod form;

pub(super) use form::{delete, new as new_page, save};

use axum::extract::Path;
use maud::html;

use super::components::empty;
use super::event::{path_segment, pretty};
use super::failure::Failure;
use super::layout::Place;
use super::page_context::{Crumb, Shown, View};
use crate::access::Use;
use crate::domain::event::covers;

pub(super) async fn list(view: View) -> Shown {
    let snapshot = view.console.store.snapshot().await?;
    let body = html! {
        div.heading {
            h1 { "Event types" }
            @if view.person.may(Use::ChangeCatalog) { a.button.right href="/event-types/new" { "New event type" } }
        }
        @if snapshot.event_types.is_empty() {
            (empty("No event types yet", &html! { p { "An event type names something that happens, such as  " code { "order.shipped" } ", and defines its data. Events of unknown types are rejected." } }))
        } @else {
            table.rows {
                thead { tr { th { "Name" } th { "Description" } th.num { "Rules" } th { "Owner" } } }
                tbody {
                    @for entry in &snapshot.event_types {
                        tr {
                            td { a.whole href={ "/event-types/" (path_segment(entry.name.as_str())) } { (entry.name.as_str()) } }
                            td { (entry.description) }
                            td.num { (snapshot.rules.iter().filter(|rule| covers(&rule.event_type, &entry.name)).count()) }
                            td { (entry.owner.as_deref().unwrap_or("")) }
                        }
                    }
                }
            }
        }
    };
    view.page(Place::EventTypes, &[Crumb::here("Event types")], body).await
}

pub(super) async fn page(view: View, Path(name): Path<String>) -> Shown {
    let snapshot = view.console.store.snapshot().await?;
    let entry = snapshot.event_types.iter().find(|entry| entry.name.as_str() == name);
    let entry = entry.ok_or_else(|| Failure::NotFound(format!("There is no event type {name}.")))?;
    let base = view.console.public_url.as_ref().map_or_else(
        || "http://127.0.0.1:8080".to_owned(),
        |url| url.as_str().trim_end_matches('/').to_owned(),
    );
    let sample = entry.samples.values().next().cloned().unwrap_or_else(|| serde_json::json!({}));
    let body = html! {
        div.heading { h1 { (name) } @if let Some(owner) = &entry.owner { span.soft { "owner: " (owner) } } }
        @if !entry.description.is_empty() { p { (entry.description) } }
        h2 { "Fields" }
        (examples::schema_table(&entry.schema, &entry.sensitive))
        h2 { "Send this event" }
        (examples::code(&base, &name, &sample))
        h2 { "Rules" }
        ul {
            @for rule in snapshot.rules.iter().filter(|rule| covers(&rule.event_type, &entry.name)) {
                li { a href={ "/rules/" (path_segment(&rule.key)) } { (rule.key) } @if let Some(template) = rule.template() { " sends " a href={ "/templates/" (path_segment(template)) } { (template) } } }
            }
        }
        @for (name, sample) in &entry.samples { details { summary { "Sample " (name) } pre { code { (pretty(sample)) } } } }
        @if view.person.may(Use::ChangeCatalog) { details { summary.button { "Change …" } (form::sheet(Some(entry))) } }
    };
    view.page(Place::EventTypes, &[Crumb::to("Event types", "/event-types"), Crumb::here(&name)], body).await
}
