//! OneSignal's paths, each with its handler and its name for statistics and faults.

use std::sync::Arc;

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, Method};
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, delete, get, patch, post};

use super::Sandbox;
use super::faults::Family;
use super::refusal::Refusal;
use super::templates::Query as Parameters;
use super::users::By;

type This = State<Arc<Sandbox>>;
type Asked = Query<Parameters>;
type Routed = MethodRouter<Arc<Sandbox>>;

/// The routes of the simulated API.
pub(super) fn routes() -> Router<Arc<Sandbox>> {
    messages().merge(templates()).merge(users()).merge(subscriptions()).merge(the_rest())
}

/// Which faults may strike a call, and under which name it is counted: by the route that it takes.
pub(super) fn endpoint(method: &Method, route: &str) -> (Family, &'static str) {
    let rest = route.strip_prefix("/apps/{app}").unwrap_or(route);
    let (family, names) = NAMES
        .iter()
        .find(|(_, path, _)| *path == rest)
        .map_or((Family::All, ["", "", "", ""]), |(family, _, names)| (*family, *names));
    let name = match *method {
        Method::POST => names[0],
        Method::GET | Method::HEAD => names[1],
        Method::PATCH => names[2],
        Method::DELETE => names[3],
        _ => "",
    };
    (family, if name.is_empty() { "other" } else { name })
}

/// The names of each route's calls: post, get, patch, delete.
const NAMES: [(Family, &str, [&str; 4]); 22] = [
    (Family::Notifications, "/notifications", ["notifications.create", "notifications.list", "", ""]),
    (Family::Notifications, "/notifications/{id}", ["", "notifications.view", "", "notifications.cancel"]),
    (Family::Exports, "/notifications/{id}/history", ["notifications.history", "", "", ""]),
    (Family::Exports, "/notifications/{id}/export_events", ["exports.events", "", "", ""]),
    (Family::Users, "/notifications/{id}/unsubscribe", ["notifications.unsubscribe", "", "", ""]),
    (Family::Templates, "/templates", ["templates.create", "templates.list", "", ""]),
    (Family::Templates, "/templates/{id}", ["", "templates.view", "templates.update", "templates.delete"]),
    (Family::Templates, "/templates/{id}/copy_to_app", ["templates.copy", "", "", ""]),
    (Family::Exports, "/players/csv_export", ["exports.subscriptions", "", "", ""]),
    (Family::Users, "/users", ["users.create", "", "", ""]),
    (Family::Users, "/users/by/{label}/{id}", ["", "users.view", "users.update", "users.delete"]),
    (Family::Users, "/users/by/{label}/{id}/identity", ["", "aliases.view", "aliases.update", ""]),
    (Family::Users, "/users/by/{label}/{id}/identity/{gone}", ["", "", "", "aliases.delete"]),
    (Family::Users, "/users/by/{label}/{id}/subscriptions", ["subscriptions.create", "", "", ""]),
    (Family::Users, "/subscriptions/{id}", ["", "", "subscriptions.update", "subscriptions.delete"]),
    (Family::Users, "/subscriptions/{id}/user/identity", ["", "subscriptions.owner", "aliases.update", ""]),
    (Family::Users, "/subscriptions/{id}/owner", ["", "", "subscriptions.move", ""]),
    (Family::Users, "/subscriptions_by_token/{kind}/{token}", ["", "", "subscriptions.update", ""]),
    (Family::Events, "/custom_events", ["custom_events.create", "", "", ""]),
    (Family::Segments, "/segments", ["segments.create", "segments.list", "", ""]),
    (Family::Segments, "/segments/{id}", ["", "segments.view", "segments.update", "segments.delete"]),
    (Family::Exports, "/outcomes", ["", "outcomes.view", "", ""]),
];

fn messages() -> Router<Arc<Sandbox>> {
    let all: Routed = post(async |State(sandbox): This, headers: HeaderMap, body: Bytes| {
        sandbox.create_message(&headers, &body)
    })
    .get(async |State(sandbox): This, headers: HeaderMap, Query(query): Asked| {
        sandbox.list_messages(&headers, &query)
    });
    let one: Routed =
        get(async |State(sandbox): This, Path(id): Path<String>, headers: HeaderMap, Query(query): Asked| {
            sandbox.view_message(&headers, &query, &id)
        })
        .delete(
            async |State(sandbox): This, Path(id): Path<String>, headers: HeaderMap, Query(query): Asked| {
                sandbox.cancel_message(&headers, &query, &id)
            },
        );
    let history: Routed =
        post(async |State(sandbox): This, Path(id): Path<String>, headers: HeaderMap, body: Bytes| {
            sandbox.export_history(&headers, &id, &body)
        });
    let export: Routed = post(
        async |State(sandbox): This, Path(id): Path<String>, headers: HeaderMap, Query(query): Asked| {
            sandbox.export_events(&headers, &query, &id)
        },
    );
    let unsubscribe: Routed =
        post(async |State(sandbox): This, Path((app, id)): Path<(String, String)>, Query(query): Asked| {
            sandbox.unsubscribe(&app, &id, &query)
        });
    Router::new()
        .route("/notifications", all)
        .route("/notifications/{id}", one)
        .route("/notifications/{id}/history", history)
        .route("/notifications/{id}/export_events", export)
        .route("/apps/{app}/notifications/{id}/unsubscribe", unsubscribe)
}

fn templates() -> Router<Arc<Sandbox>> {
    let all: Routed = post(async |State(sandbox): This, headers: HeaderMap, body: Bytes| {
        sandbox.create_template(&headers, &body)
    })
    .get(async |State(sandbox): This, headers: HeaderMap, Query(query): Asked| {
        sandbox.list_templates(&headers, &query)
    });
    let one: Routed =
        get(async |State(sandbox): This, Path(id): Path<String>, headers: HeaderMap, Query(query): Asked| {
            sandbox.view_template(&headers, &query, &id)
        })
        .delete(
            async |State(sandbox): This, Path(id): Path<String>, headers: HeaderMap, Query(query): Asked| {
                sandbox.delete_template(&headers, &query, &id)
            },
        )
        .patch(
            async |State(sandbox): This,
                   Path(id): Path<String>,
                   headers: HeaderMap,
                   Query(query): Asked,
                   body: Bytes| sandbox.update_template(&headers, &query, &id, &body),
        );
    let copy: Routed = post(
        async |State(sandbox): This,
               Path(id): Path<String>,
               headers: HeaderMap,
               Query(query): Asked,
               body: Bytes| sandbox.copy_template(&headers, &query, &id, &body),
    );
    Router::new()
        .route("/templates", all)
        .route("/templates/{id}", one)
        .route("/templates/{id}/copy_to_app", copy)
}

/// A path of a user: the app, the alias label, the id.
type UserPath = Path<(String, String, String)>;

fn users() -> Router<Arc<Sandbox>> {
    let all: Routed =
        post(async |State(sandbox): This, Path(app): Path<String>, headers: HeaderMap, body: Bytes| {
            sandbox.upsert_user(&headers, &app, &body)
        });
    let one: Routed =
        get(async |State(sandbox): This, Path((app, label, id)): UserPath, headers: HeaderMap| {
            sandbox.view_user(&headers, &app, By::Alias { label: &label, id: &id })
        })
        .delete(async |State(sandbox): This, Path((app, label, id)): UserPath, headers: HeaderMap| {
            sandbox.delete_user(&headers, &app, By::Alias { label: &label, id: &id })
        })
        .patch(
            async |State(sandbox): This,
                   Path((app, label, id)): UserPath,
                   headers: HeaderMap,
                   body: Bytes| {
                sandbox.update_user(&headers, &app, By::Alias { label: &label, id: &id }, &body)
            },
        );
    let identity: Routed =
        get(async |State(sandbox): This, Path((app, label, id)): UserPath, headers: HeaderMap| {
            sandbox.view_identity(&headers, &app, By::Alias { label: &label, id: &id })
        })
        .patch(
            async |State(sandbox): This,
                   Path((app, label, id)): UserPath,
                   headers: HeaderMap,
                   body: Bytes| {
                sandbox.update_identity(&headers, &app, By::Alias { label: &label, id: &id }, &body)
            },
        );
    let alias: Routed = delete(
        async |State(sandbox): This,
               Path((app, label, id, gone)): Path<(String, String, String, String)>,
               headers: HeaderMap| {
            sandbox.delete_alias(&headers, &app, By::Alias { label: &label, id: &id }, &gone)
        },
    );
    let more: Routed = post(
        async |State(sandbox): This, Path((app, label, id)): UserPath, headers: HeaderMap, body: Bytes| {
            sandbox.create_subscription(&headers, &app, By::Alias { label: &label, id: &id }, &body)
        },
    );
    Router::new()
        .route("/apps/{app}/users", all)
        .route("/apps/{app}/users/by/{label}/{id}", one)
        .route("/apps/{app}/users/by/{label}/{id}/identity", identity)
        .route("/apps/{app}/users/by/{label}/{id}/identity/{gone}", alias)
        .route("/apps/{app}/users/by/{label}/{id}/subscriptions", more)
}

/// A path of a thing of an app.
type OwnPath = Path<(String, String)>;

fn subscriptions() -> Router<Arc<Sandbox>> {
    let one: Routed =
        patch(async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap, body: Bytes| {
            sandbox.update_subscription(&headers, &app, By::Subscription(&id), &body)
        })
        .delete(async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap| {
            sandbox.delete_subscription(&headers, &app, By::Subscription(&id))
        });
    let identity: Routed = get(async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap| {
        sandbox.view_identity(&headers, &app, By::Subscription(&id))
    })
    .patch(async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap, body: Bytes| {
        sandbox.update_identity(&headers, &app, By::Subscription(&id), &body)
    });
    let owner: Routed =
        patch(async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap, body: Bytes| {
            sandbox.move_subscription(&headers, &app, By::Subscription(&id), &body)
        });
    let by_token: Routed = patch(
        async |State(sandbox): This, Path((app, kind, token)): UserPath, headers: HeaderMap, body: Bytes| {
            sandbox.update_subscription(&headers, &app, By::Token { kind: &kind, token: &token }, &body)
        },
    );
    Router::new()
        .route("/apps/{app}/subscriptions/{id}", one)
        .route("/apps/{app}/subscriptions/{id}/user/identity", identity)
        .route("/apps/{app}/subscriptions/{id}/owner", owner)
        .route("/apps/{app}/subscriptions_by_token/{kind}/{token}", by_token)
}

/// Segments, custom events, outcomes, and the export of subscriptions.
fn the_rest() -> Router<Arc<Sandbox>> {
    let segments: Routed =
        post(async |State(sandbox): This, Path(app): Path<String>, headers: HeaderMap, body: Bytes| {
            sandbox.create_segment(&headers, &app, &body)
        })
        .get(
            async |State(sandbox): This, Path(app): Path<String>, headers: HeaderMap, Query(query): Asked| {
                sandbox.list_segments(&headers, &app, &query)
            },
        );
    let segment: Routed = get(
        async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap, Query(query): Asked| {
            sandbox.view_segment(&headers, &app, &id, &query)
        },
    )
    .patch(async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap, body: Bytes| {
        sandbox.update_segment(&headers, &app, &id, &body)
    })
    .delete(async |State(sandbox): This, Path((app, id)): OwnPath, headers: HeaderMap| {
        sandbox.delete_segment(&headers, &app, &id)
    });
    let events: Routed =
        post(async |State(sandbox): This, Path(app): Path<String>, headers: HeaderMap, body: Bytes| {
            sandbox.take_custom_events(&headers, &app, &body)
        });
    let outcomes: Routed = get(
        async |State(sandbox): This, Path(app): Path<String>, headers: HeaderMap, Query(query): Asked| {
            sandbox.view_outcomes(&headers, &app, &query)
        },
    );
    let players: Routed = post(export_subscriptions);
    Router::new()
        .route("/apps/{app}/segments", segments)
        .route("/apps/{app}/segments/{id}", segment)
        .route("/apps/{app}/custom_events", events)
        .route("/apps/{app}/outcomes", outcomes)
        .route("/players/csv_export", players)
}

/// An export reads all users, which takes a while; other calls must not wait for it.
async fn export_subscriptions(
    State(sandbox): This,
    headers: HeaderMap,
    Query(query): Asked,
    body: Bytes,
) -> Response {
    let export = move || sandbox.export_subscriptions(&headers, &query, &body);
    match tokio::task::spawn_blocking(export).await {
        Ok(answer) => answer.into_response(),
        Err(error) => Refusal::broken(&error).into_response(),
    }
}
