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
                h2 { "No apps yet" }
                p { "Messages are sent through a OneSignal app. Add one with its App ID and key:" }
                pre { code { "herald apps add shop --id YOUR_APP_ID --default" } }
            }
        } @else {
            table.rows {
                thead { tr { th { "Name" } th { "App ID" } th { "OneSignal" } th.num { "Calls per second" } th.num { "Subscriptions" } th { "Alias labels" } th { "State" } } }
                tbody {
                    @for app in &apps {
                        tr {
                            td { strong { (app.name) } @if app.is_default { " " span.soft { "default" } } }
                            td { code { (app.id) } }
                            td { @if app.is_sandbox { "sandbox, " } (app.base_url.host_str().unwrap_or("")) }
                            td.num { (number(i64::from(app.calls_per_second))) }
                            td.num { @match app.subscriptions { Some(count) => (number(i64::from(count))), None => span.soft { "unknown" } } }
                            td { (labels(app.alias_labels.as_deref())) }
                            td { @match &app.paused { Some(why) => { span.chip.held { "◆ paused" } " " (why) }, None => span.chip.good { "● sending" } } }
                        }
                    }
                }
            }
            p.soft { "Keys are encrypted and never shown. Change an app with  " code { "herald apps" } "." }
            @if view.person.may(Use::ChangeGate) { p { a href="/issues#switches" { "Pause or resume an app" } } }
        }
    };
    below(&view, "Apps", body).await
}

fn labels(declared: Option<&[String]>) -> Markup {
    html! {
        @match declared {
            None => span.soft title="Every label is accepted, even a misspelt one: declare them with `herald apps set`" { "not declared" },
            Some([]) => span.soft { "none" },
            Some(labels) => @for label in labels { code { (label) } " " },
        }
    }
}
