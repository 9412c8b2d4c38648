//! Sources and their API keys.

use axum::body::Body;
use axum::extract::Path;
use maud::html;
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::json;

use super::super::components::when;
use super::super::failure::Failure;
use super::super::forms;
use super::super::page_context::{Shown, View, done};
use super::below;
use crate::access::{KeyRequest, Scope};
use crate::catalog::is_source_name;
use crate::domain::id::KeyId;

pub(in super::super) async fn page(view: View) -> Shown {
    let keys = view.console.store.keys().await?;
    let now = view.now();
    let body = html! {
        h1 { "Sources and keys" }
        p.soft { "Each service that posts events has its own key, so that it can be revoked independently." }
        table.rows {
            thead { tr { th { "Source" } th { "Key" } th { "May" } th { "Made" } th { "" } } }
            tbody {
                @for key in &keys {
                    tr {
                        td { strong { (key.source) } }
                        td { code { (key.hint) } }
                        td { @if key.scopes.len() == Scope::ALL.len() { "everything" } @else { (key.scopes.join(", ")) } }
                        td { (when(key.created_at, now)) }
                        td {
                            @if let Some(at) = key.revoked_at { "revoked " (when(at, now)) }
                            @else {
                                form method="post" action={ "/settings/keys/" (key.id) "/revoke" } data-asks={ "Revoke the key " (key.hint) " of " (key.source) "? Requests with it are rejected within two seconds." } {
                                    button.danger { "Revoke" }
                                }
                            }
                        }
                    }
                }
            }
        }
        h2 { "New key" }
        form.stack method="post" action="/settings/keys" {
            label { "Source " span.soft { "(created if new)" } input type="text" name="source" required maxlength="64" placeholder="shop-backend" autocomplete="off"; }
            label { "Permissions"
                select name="scope" {
                    option value="events:write" { "post events" }
                    option value="read" { "post events and read their results" }
                    option value="all" { "everything" }
                }
            }
            label { input type="checkbox" name="is_test" value="yes"; " Test key: reaches sandbox apps only" }
            button.primary { "Create key" }
        }
    };
    below(&view, "Sources and keys", body).await
}

/// A key to create.
#[derive(Debug, Deserialize)]
pub(in super::super) struct KeyForm {
    source: String,
    scope: String,
    #[serde(default)]
    is_test: String,
}

pub(in super::super) async fn create(view: View, body: Body) -> Shown {
    let form: KeyForm = forms::read(body).await?;
    let source = form.source.trim();
    if !is_source_name(source) {
        return Err(Failure::Invalid(format!(
            "`{source}` is not a valid source name: use lower-case letters, digits, - and _."
        )));
    }
    let scopes = match form.scope.as_str() {
        "events:write" => vec![Scope::EventsWrite],
        "read" => vec![Scope::EventsWrite, Scope::EventsRead, Scope::DeliveriesRead],
        "all" => Scope::ALL.to_vec(),
        other => return Err(Failure::Invalid(format!("Unknown option `{other}`."))),
    };
    let request = KeyRequest::new(source, !form.is_test.is_empty(), scopes);
    let created = view.console.access.create_key(&request).await?;
    let after = json!({"source": source, "hint": created.hint});
    let id = created.id.to_string();
    view.console.publisher.record_change(("key", &id), "created", Some(after), view.by("")).await?;
    let body = html! {
        h1 { "Key for " (source) }
        p { "It is shown only once. Store it with the service's other secrets." }
        pre { code { (created.text.expose_secret()) } }
        div.actions {
            button.primary type="button" data-copies=(created.text.expose_secret()) { "Copy" }
            a.button href="/settings/keys" { "Back" }
        }
    };
    below(&view, "New key", body).await
}

pub(in super::super) async fn revoke(view: View, Path(id): Path<String>) -> Shown {
    let unknown = || Failure::NotFound("Key not found.".to_owned());
    let key: KeyId = id.parse().map_err(|_| unknown())?;
    if !view.console.access.revoke_key(key).await? {
        return Err(unknown());
    }
    view.console.publisher.record_change(("key", &id), "revoked", None, view.by("")).await?;
    Ok(done("/settings/keys", "Key revoked. All processes reject it within two seconds."))
}
