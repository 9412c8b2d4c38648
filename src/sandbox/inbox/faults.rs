//! The page of faults.

use std::sync::Arc;

use axum::extract::{Form, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Redirect, Response};
use axum::{Router, routing};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::Sandbox;
use super::super::faults::{Armed, Family, Fault, Kind};
use super::{framed, page};

pub(super) fn routes() -> Router<Arc<Sandbox>> {
    Router::new().route("/faults", routing::get(show).post(add)).route("/faults/clear", routing::post(clear))
}

async fn show(State(sandbox): State<Arc<Sandbox>>) -> Response {
    framed(&page::frame("Faults", &view(sandbox.faults.lock().armed(), None)))
}

/// The form's fields; empty ones are omitted.
type Fields = Form<Vec<(String, String)>>;

async fn add(State(sandbox): State<Arc<Sandbox>>, Form(fields): Fields) -> Response {
    let set = read(&fields).map(|fault| sandbox.faults.lock().set(fault));
    match set {
        Ok(_) => Redirect::to("/faults").into_response(),
        Err(why) => {
            let body = view(sandbox.faults.lock().armed(), Some(&why));
            (StatusCode::UNPROCESSABLE_ENTITY, framed(&page::frame("Faults", &body))).into_response()
        }
    }
}

#[derive(Deserialize)]
struct Which {
    id: Option<u64>,
}

async fn clear(State(sandbox): State<Arc<Sandbox>>, Form(which): Form<Which>) -> Redirect {
    sandbox.faults.lock().clear(which.id);
    Redirect::to("/faults")
}

/// Reads the form into a fault, through the same check as the control API.
fn read(fields: &[(String, String)]) -> Result<Fault, String> {
    let said = fields.iter().filter(|(_, text)| !text.trim().is_empty());
    let values = said.map(|(name, text)| {
        let text = text.trim();
        let is_word = matches!(name.as_str(), "kind" | "endpoint");
        let value =
            if is_word { json!(text) } else { serde_json::from_str(text).unwrap_or_else(|_| json!(text)) };
        (name.clone(), value)
    });
    let object: Map<String, Value> = values.collect();
    let fault: Fault = serde_json::from_value(Value::Object(object)).map_err(|error| error.to_string())?;
    fault.check().map(|()| fault)
}

fn view(armed: &[Armed], wrong: Option<&str>) -> Markup {
    html! {
        h2 { "Active faults" }
        p.what { "Simulate OneSignal failures to test your service." }
        @if armed.is_empty() {
            p.none { "No active faults: every call is answered normally." }
        } @else {
            ul.faults { @for fault in armed { (one(fault)) } }
            @if armed.len() > 1 {
                form method="post" action="/faults/clear" { button { "Clear all " (armed.len()) } }
            }
        }
        h2 { "Add a fault" }
        @if let Some(wrong) = wrong { p.warning role="alert" { (wrong) } }
        (form())
    }
}

fn one(armed: &Armed) -> Markup {
    let fault = &armed.fault;
    html! {
        li {
            p {
                b { (fault.kind.name()) } " on " (fault.endpoint.name())
                @if fault.probability < 1.0 { ", " (fault.probability * 100.0) " % of calls (seed " (fault.seed) ")" }
                @if let Some(status) = fault.status { ", status " (status) }
                @if let Some(delay) = fault.delay_ms { ", " (delay) " ms" }
                @if let Some(limit) = fault.limit_per_second { ", above " (limit) " per second" }
                @if let Some(times) = fault.times { ", at most " (times) " times" }
            }
            p.to { (fault.kind.about()) "; triggered " (armed.strikes) "/" (armed.calls) }
            form method="post" action="/faults/clear" {
                input type="hidden" name="id" value=(armed.id);
                button { "Clear" }
            }
        }
    }
}

fn form() -> Markup {
    let numbers = [
        ("probability", "Probability, 0 to 1", "1"),
        ("seed", "Seed", "0"),
        ("times", "Max occurrences", ""),
        ("status", "Status (for status and html)", ""),
        ("delay_ms", "Milliseconds (for delay)", ""),
        ("limit_per_second", "Calls per second (for rate_limit)", ""),
        ("retry_after", "Retry-After, seconds", ""),
    ];
    html! {
        form.fields method="post" action="/faults" {
            label { "Fault"
                select name="kind" {
                    @for kind in Kind::ALL { option value=(kind.name()) { (kind.name()) ": " (kind.about()) } }
                }
            }
            label { "Endpoint"
                select name="endpoint" { @for family in Family::ALL { option { (family.name()) } } }
            }
            @for (name, label, usual) in numbers {
                label { (label) input name=(name) value=(usual) inputmode="decimal" autocomplete="off"; }
            }
            button.main { "Add fault" }
        }
    }
}
