//! An event type's form.

use axum::body::Body;
use axum::extract::Path;
use maud::{Markup, html};
use serde_json::{Map, Value, json};

use super::super::event::{path_segment, pretty};
use super::super::failure::Failure;
use super::super::layout::Place;
use super::super::page_context::{Crumb, Shown, View, done};
use super::super::templates::Sent;
use crate::catalog::entries::Entry;
use crate::catalog::forms::EventTypeForm;
use crate::domain::snapshot::EventTypeEntry;

/// The initial schema.
fn first_schema() -> Value {
    json!({
        "type": "object",
        "required": ["order_id"],
        "properties": {"order_id": {"type": "string"}, "name": {"type": "string"}},
    })
}

pub(super) fn sheet(entry: Option<&EventTypeEntry>) -> Markup {
    let action = entry.map_or_else(
        || "/event-types".to_owned(),
        |entry| format!("/event-types/{}", path_segment(entry.name.as_str())),
    );
    let form = entry.map(EventTypeForm::of).unwrap_or_default();
    let schema = if form.schema.is_null() { first_schema() } else { form.schema.clone() };
    let samples =
        if form.samples.is_empty() { "{}".to_owned() } else { pretty(&Value::Object(form.samples.clone())) };
    let life = serde_json::to_value(&form)
        .ok()
        .and_then(|form| form["time_to_live"].as_str().map(str::to_owned))
        .unwrap_or_default();
    html! {
        form.stack method="post" action=(action) {
            input type="hidden" name="revision" value=(entry.map_or(0, |entry| entry.version));
            @if entry.is_none() { label { "Name " span.soft { "(words joined by dots; can't be changed later)" } input type="text" name="name" required maxlength="100" placeholder="order.shipped" autocomplete="off" spellcheck="false"; } }
            label { "Description" input type="text" name="description" value=(form.description) maxlength="300"; }
            label { "Owner" input type="text" name="owner" value=(form.owner.as_deref().unwrap_or("")) maxlength="100"; }
            label { "Messages expire after " span.soft { "(such as 10m; default: three days)" } input type="text" name="time_to_live" value=(life) maxlength="30"; }
            label { "Schema of its data " span.soft { "(JSON Schema)" } textarea name="schema" rows="14" spellcheck="false" { "\n" (pretty(&schema)) } }
            label { "Sensitive fields " span.soft { "(JSON pointers such as /code, one per line)" } textarea name="sensitive" rows="2" spellcheck="false" { "\n" (form.sensitive.join("\n")) } }
            label { "Samples " span.soft { "(by name)" } textarea name="samples" rows="8" spellcheck="false" { "\n" (samples) } }
            button.primary { "Save" }
        }
        @if let Some(entry) = entry {
            form method="post" action={ (action) "/delete" } data-asks={ "Delete the event type " (entry.name.as_str()) "? Events of this type will be rejected." } {
                input type="hidden" name="revision" value=(entry.version);
                button.link { "Delete this event type" }
            }
        }
    }
}

pub(in super::super) async fn new(view: View) -> Shown {
    let body = html! { h1 { "New event type" } (sheet(None)) };
    view.page(
        Place::EventTypes,
        &[Crumb::to("Event types", "/event-types"), Crumb::here("New event type")],
        body,
    )
    .await
}

fn read(sent: &Sent) -> Result<EventTypeForm, Failure> {
    let json_of = |name: &str, what: &str| -> Result<Value, Failure> {
        serde_json::from_str(sent.text(name)).map_err(|error| {
            Failure::Invalid(format!("The {what} is not valid JSON: {error}. Go back to correct it."))
        })
    };
    let mut form = Map::new();
    form.insert("description".into(), json!(sent.text("description").trim()));
    for name in ["owner", "time_to_live"] {
        let value = sent.text(name).trim();
        if !value.is_empty() {
            form.insert(name.into(), json!(value));
        }
    }
    let sensitive: Vec<&str> =
        sent.text("sensitive").lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    form.insert("sensitive".into(), json!(sensitive));
    form.insert("schema".into(), json_of("schema", "schema")?);
    form.insert("samples".into(), json_of("samples", "samples")?);
    serde_json::from_value(Value::Object(form))
        .map_err(|error| Failure::Invalid(format!("Invalid event type: {error}.")))
}

pub(in super::super) async fn save(view: View, name: Option<Path<String>>, body: Body) -> Shown {
    let sent = Sent::read(body).await?;
    let name = name.map_or_else(|| sent.text("name").trim().to_owned(), |Path(name)| name);
    let form = read(&sent)?;
    view.console
        .publisher
        .put_entry(&name, Entry::EventType(form), (sent.revision()?, false), view.by(""))
        .await?;
    Ok(done(&format!("/event-types/{}", path_segment(&name)), "Saved."))
}

pub(in super::super) async fn delete(view: View, Path(name): Path<String>, body: Body) -> Shown {
    let sent = Sent::read(body).await?;
    view.console
        .publisher
        .delete_entry(("event_type", &name), (sent.revision()?, false), view.by(""))
        .await?;
    Ok(done("/event-types", &format!("Event type {name} deleted.")))
}
