//! The routes and their OpenAPI description, from the same table. `/docs` renders it without scripts or third-party
//! hosts.

use std::sync::Arc;

use axum::Router;
use axum::http::header;
use axum::response::{Html, IntoResponse};
use axum::routing::get;
use maud::{DOCTYPE, Markup, html};
use utoipa::OpenApi;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{
    Api, apps, audit, cancellations, catalog, catalog_entries, common_responses, connectors, deliveries,
    erasures, event_reads, events, gates, health, imports, infer, issues, keys, onesignal_events,
    outcome_feed, preferences, replays, sources, stats, templates, uploads, user_export, users,
    webhook_deliveries, webhooks,
};

#[derive(OpenApi)]
#[openapi(
    info(title = "Herald", description = "Domain events in, OneSignal messages out."),
    security(("key" = [])),
    modifiers(&BearerKey)
)]
struct Description;

struct BearerKey;

impl utoipa::Modify for BearerKey {
    fn modify(&self, openapi: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("`hk_live_…` or `hk_test_…`"))
            .build();
        openapi.components.get_or_insert_default().add_security_scheme("key", SecurityScheme::Http(scheme));
    }
}

/// Every route of the API.
pub(super) fn routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::with_openapi(Description::openapi()).merge(traffic_routes()).merge(catalog_routes())
}

/// Routes for events, deliveries, sources, keys and apps.
fn traffic_routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(events::post_event, event_reads::list_events))
        .routes(routes!(events::post_batch))
        .routes(routes!(event_reads::get_event))
        .routes(routes!(deliveries::list_deliveries))
        .routes(routes!(deliveries::get_delivery))
        .routes(routes!(deliveries::release_delivery))
        .routes(routes!(cancellations::cancel_waiting))
        .routes(routes!(cancellations::cancel_event))
        .routes(routes!(cancellations::cancel_delivery))
        .routes(routes!(apps::list_apps))
        .routes(routes!(apps::get_app, apps::put_app))
        .routes(routes!(gates::list_gates))
        .routes(routes!(gates::close_gate, gates::open_gate))
        .routes(routes!(issues::list_issues))
        .routes(routes!(replays::create_replay, replays::list_replays))
        .routes(routes!(replays::replay_delivery))
        .routes(routes!(keys::create_key, keys::list_keys))
        .routes(routes!(keys::revoke_key))
        .routes(routes!(webhooks::receive))
        .routes(routes!(onesignal_events::receive_event))
        .routes(routes!(outcome_feed::read_outcomes))
        .routes(routes!(stats::get_stats))
        .routes(routes!(stats::get_comparison))
        .routes(routes!(stats::check_stats, stats::repair_stats))
        .routes(routes!(sources::list_sources))
        .routes(routes!(sources::get_source, sources::put_source))
        .routes(routes!(sources::create_secret))
        .routes(routes!(sources::revoke_secret))
        .routes(routes!(webhook_deliveries::list_bodies))
        .routes(routes!(webhook_deliveries::replay_body))
        .routes(routes!(webhook_deliveries::test_source))
        .routes(routes!(users::put_user, users::patch_user, users::get_user, erasures::erase_user))
        .routes(routes!(user_export::export_user))
        .routes(routes!(erasures::list_erasures))
        .routes(routes!(erasures::get_erasure))
        .routes(routes!(erasures::lift_erasure))
        .routes(routes!(users::post_users))
        .routes(routes!(preferences::get_preferences, preferences::put_preferences))
        .routes(routes!(imports::create_import, imports::list_imports))
        .routes(routes!(imports::get_import))
        .routes(routes!(imports::put_part))
        .routes(routes!(imports::start_import))
        .routes(routes!(imports::cancel_import))
        .routes(routes!(imports::get_rejected))
        .routes(routes!(connectors::list_connectors))
        .routes(routes!(connectors::get_connector, connectors::put_connector, connectors::delete_connector))
        .routes(routes!(connectors::check_connector))
        .routes(routes!(connectors::start_connector))
        .routes(routes!(connectors::pause_connector))
        .routes(routes!(connectors::list_set_aside))
        .routes(routes!(health::healthz))
        .routes(routes!(health::readyz))
        .routes(routes!(health::metrics))
}

/// Routes for the catalog and the audit log.
fn catalog_routes() -> OpenApiRouter<Arc<Api>> {
    OpenApiRouter::new()
        .routes(routes!(catalog::pull_catalog))
        .routes(routes!(catalog_entries::list_event_types))
        .routes(routes!(
            catalog_entries::get_event_type,
            catalog_entries::put_event_type,
            catalog_entries::delete_event_type
        ))
        .routes(routes!(catalog_entries::list_partials))
        .routes(routes!(
            catalog_entries::get_partial,
            catalog_entries::put_partial,
            catalog_entries::delete_partial
        ))
        .routes(routes!(catalog_entries::list_rules))
        .routes(routes!(catalog_entries::get_rule, catalog_entries::put_rule, catalog_entries::delete_rule))
        .routes(routes!(templates::list_templates, templates::create_template))
        .routes(routes!(templates::get_template, templates::change_template))
        .routes(routes!(
            templates::drafts::get_draft,
            templates::drafts::put_draft,
            templates::drafts::delete_draft
        ))
        .routes(routes!(templates::drafts::list_versions))
        .routes(routes!(templates::drafts::get_version))
        .routes(routes!(templates::drafts::diff_versions))
        .routes(routes!(templates::actions::check_template))
        .routes(routes!(templates::actions::preview_template))
        .routes(routes!(templates::actions::approve_draft))
        .routes(routes!(templates::actions::publish_draft))
        .routes(routes!(templates::actions::roll_back))
        .routes(routes!(templates::actions::test_send))
        .routes(routes!(infer::infer_schema))
        .routes(routes!(uploads::list_uploads))
        .routes(routes!(uploads::check_drift))
        .routes(routes!(uploads::import_templates))
        .routes(routes!(audit::list_audit))
        .routes(routes!(audit::list_test_recipients, audit::add_test_recipient))
        .routes(routes!(audit::remove_test_recipient))
        .routes(routes!(catalog::plan_catalog))
        .routes(routes!(catalog::apply_catalog))
}

/// The OpenAPI document.
pub fn document() -> utoipa::openapi::OpenApi {
    let mut document = routes().into_openapi();
    common_responses::complete(&mut document);
    document
}

/// The pages that render it.
pub(super) fn pages() -> Router<Arc<Api>> {
    Router::new()
        .route("/openapi.json", get(|| async { axum::Json(document()) }))
        .route(
            "/docs",
            get(|| async { Html(page(&serde_json::to_value(document()).unwrap_or_default()).into_string()) }),
        )
        .route(
            "/docs/style.css",
            get(|| async { ([(header::CONTENT_TYPE, "text/css")], STYLE).into_response() }),
        )
}

const STYLE: &str = include_str!("docs.css");

fn page(document: &serde_json::Value) -> Markup {
    let paths = document["paths"].as_object().into_iter().flatten();
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { "Herald HTTP API" }
                link rel="stylesheet" href="/docs/style.css";
            }
            body {
                main {
                    h1 { "Herald HTTP API" }
                    p { "Send " code { "Authorization: Bearer hk_…" } " with every request except health checks. Machine-readable: " a href="/openapi.json" { "/openapi.json" } "." }
                    @for (path, methods) in paths {
                        @for (method, operation) in methods.as_object().into_iter().flatten() {
                            (operation_section(path, method, operation))
                        }
                    }
                }
            }
        }
    }
}

/// A text of the description, with backticks rendered as code.
fn words(value: &serde_json::Value) -> Markup {
    let parts = value.as_str().unwrap_or_default().split('`').enumerate();
    html! {
        @for (place, part) in parts {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn operation_section(path: &str, method: &str, operation: &serde_json::Value) -> Markup {
    let text = |value: &serde_json::Value| value.as_str().unwrap_or_default().to_owned();
    html! {
        section {
            h2 { code { (method.to_uppercase()) " " (path) } }
            p { (words(&operation["summary"])) }
            @if let Some(parameters) = operation["parameters"].as_array() {
                table {
                    caption { "Parameters" }
                    @for parameter in parameters {
                        tr { td { code { (text(&parameter["name"])) } } td { (words(&parameter["description"])) } }
                    }
                }
            }
            table {
                caption { "Answers" }
                @for (status, answer) in operation["responses"].as_object().into_iter().flatten() {
                    tr { td { code { (status) } } td { (words(&answer["description"])) } }
                }
            }
        }
    }
}
