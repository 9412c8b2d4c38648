//! The OneSignal apps.

use maud::{Markup, html};

use super::super::components::number;
use super::super::page_context::{Shown, View};
use super::below;
use crate::access::Use;

pub(in super::super) async fn page(view: View) -> Shown {
    let apps = view.console.store.apps().await?;
    let body = html! {
        h1 { "Apps" }
        @if apps.is_empty() {
            div.empty {
                h2 { "No app yet" }
                p { "Messages go through a OneSignal app. Enter one with its App ID and key:" }
                pre { code { "herald apps add shop --id YOUR_APP_ID --default" } }
            }
        } @else {
            table.rows {
                thead { tr { th { "Name" } th { "App ID" } th { "OneSignal" } th.num { "Calls a second" } th.num { "Subscriptions" } th { "Alias labels" } th { "State" } } }
                tbody {
                    @for app in &apps {
                        tr {
                            td { strong { (app.name) } @if app.is_default { " " span.soft { "default" } } }
                            td { code { (app.id) } }
                            td { @if app.is_sandbox { "a sandbox, " } (app.base_url.host_str().unwrap_or("")) }
                            td.num { (number(i64::from(app.calls_per_second))) }
                            td.num { @match app.subscriptions { Some(count) => (number(i64::from(count))), None => span.soft { "not known" } } }
                            td { (labels(app.alias_labels.as_deref())) }
                            td { @match &app.paused { Some(why) => { span.chip.held { "◆ stopped" } " " (why) }, None => span.chip.good { "● sending" } } }
                        }
                    }
                }
            }
            p.soft { "Keys are sealed and never shown. Change an app with " code { "herald apps" } "." }
            @if view.person.may(Use::ChangeGate) { p { a href="/issues#switches" { "Stop or start an app" } } }
        }
    };
    below(&view, "Apps", body).await
}

fn labels(declared: Option<&[String]>) -> Markup {
    html! {
        @match declared {
            None => span.soft title="Every label is taken, also a misspelt one: declare them with `herald apps set`" { "not declared" },
            Some([]) => span.soft { "none" },
            Some(labels) => @for label in labels { code { (label) } " " },
        }
    }
}
