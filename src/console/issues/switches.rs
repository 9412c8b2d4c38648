//! Pausing everything, an app, a rule or a version, with author and reason.

use axum::body::Body;
use maud::{Markup, html};
use serde::Deserialize;

use super::super::components::when;
use super::super::failure::Failure;
use super::super::forms;
use super::super::page_context::{Shown, View, done};
use crate::access::Use;
use crate::domain::clock::Timestamp;
use crate::store::gates::NamedGate;

/// The paused subjects, and a form to pause more.
pub(super) fn list(view: &View, gates: &[NamedGate], now: Timestamp) -> Markup {
    let may = view.person.may(Use::ChangeGate);
    html! {
        @if gates.is_empty() {
            p.soft { "Nothing is paused." }
        } @else {
            table.rows {
                thead { tr { th { "Stopped" } th { "Why" } th { "Since" } th { "Until" } th { "" } } }
                tbody {
                    @for gate in gates {
                        tr {
                            td { strong { (gate.scope.replace('_', " ")) " " (gate.name) } }
                            td { (gate.detail) @if gate.detail.is_empty() { (gate.code.replace('_', " ")) } }
                            td { (when(gate.closed_at, now)) }
                            td { @if is_for_good(gate, now) { "until resumed" } @else { (when(gate.closed_until, now)) } }
                            td {
                                @if may {
                                    form method="post" action="/issues/switches/open" data-asks={ "Resume " (gate.scope) " " (gate.name) "? Queued messages will be sent." } {
                                        input type="hidden" name="scope" value=(gate.scope);
                                        input type="hidden" name="name" value=(gate.name);
                                        button { "Open" }
                                    }
                                }
                            }
                        }
                    }
                }
            }
        }
        @if may {
            details.action {
                summary.button.danger { "Pause sending…" }
                form.stack method="post" action="/issues/switches/close" {
                    label { "What"
                        select name="what" {
                            option value="app all" { "Everything: all apps" }
                            option value="app" { "One app" }
                            option value="rule" { "One rule" }
                            option value="template_version" { "One version of a template" }
                        }
                    }
                    label { "Name " span.soft { "(app name, rule key, or template@version)" } input type="text" name="name" maxlength="200"; }
                    label { "Reason" input type="text" name="reason" required maxlength="300"; }
                    p.soft { "Events are still accepted and queued. Calls in progress are not aborted." }
                    button.danger { "Pause" }
                }
            }
        }
    }
}

fn is_for_good(gate: &NamedGate, now: Timestamp) -> bool {
    gate.closed_until - now > chrono::TimeDelta::days(365)
}

/// What to pause.
#[derive(Debug, Deserialize)]
pub(in super::super) struct CloseForm {
    what: String,
    #[serde(default)]
    name: String,
    reason: String,
}

pub(in super::super) async fn close(view: View, body: Body) -> Shown {
    let form: CloseForm = forms::read(body).await?;
    let (scope, name) = match form.what.as_str() {
        "app all" => ("app", "all"),
        scope => (scope, form.name.trim()),
    };
    let reason = form.reason.trim();
    if reason.is_empty() || name.is_empty() {
        return Err(Failure::Invalid("Select what to pause, and enter a reason.".to_owned()));
    }
    if !view.console.publisher.close_gate(scope, name, view.by(reason)).await? {
        return Err(Failure::NotFound(format!("There is no {} {name}.", scope.replace('_', " "))));
    }
    view.console.pipeline.wake();
    Ok(done("/issues#switches", &format!("{} {name} is paused.", scope.replace('_', " "))))
}

/// What to resume.
#[derive(Debug, Deserialize)]
pub(in super::super) struct OpenForm {
    scope: String,
    name: String,
}

pub(in super::super) async fn open(view: View, body: Body) -> Shown {
    let form: OpenForm = forms::read(body).await?;
    if !view.console.publisher.open_gate(&form.scope, &form.name, view.by("")).await? {
        return Err(Failure::NotFound(format!(
            "There is no {} {}.",
            form.scope.replace('_', " "),
            form.name
        )));
    }
    view.console.pipeline.wake();
    Ok(done("/issues#switches", &format!("{} {} is resumed.", form.scope.replace('_', " "), form.name)))
}
