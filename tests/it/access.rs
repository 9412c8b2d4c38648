//! Keys: what each may do, how they are created and revoked, and the answers without one.

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};

/// Every address that needs a key, with the scope that it needs and what is sent to it.
fn uses() -> Vec<(Method, &'static str, &'static str, Option<Value>)> {
    let unknown = "/v1/deliveries/dlv_00000000000000000000000000";
    vec![
        (Method::POST, "/v1/events", "events:write", Some(order_shipped("o-1", "u"))),
        (Method::POST, "/v1/events?dry_run=true", "events:write", Some(order_shipped("o-1", "u"))),
        (Method::POST, "/v1/events/batch", "events:write", Some(json!([order_shipped("o-2", "u")]))),
        (Method::GET, "/v1/events", "events:read", None),
        (Method::GET, "/v1/events/evt_00000000000000000000000000", "events:read", None),
        (Method::GET, "/v1/deliveries", "deliveries:read", None),
        (Method::GET, unknown, "deliveries:read", None),
        (
            Method::POST,
            "/v1/deliveries/dlv_00000000000000000000000000/release",
            "deliveries:write",
            Some(json!({})),
        ),
        (
            Method::POST,
            "/v1/deliveries/dlv_00000000000000000000000000/replay",
            "deliveries:write",
            Some(json!({"reason": "why"})),
        ),
        (Method::POST, "/v1/replays", "deliveries:write", Some(json!({"reason": "why"}))),
        (Method::GET, "/v1/replays", "deliveries:read", None),
        (Method::GET, "/v1/issues", "deliveries:read", None),
        (Method::GET, "/v1/outcomes", "deliveries:read", None),
        (Method::GET, "/v1/stats", "deliveries:read", None),
        (Method::GET, "/v1/stats/comparison?template=t&a=1&b=2", "deliveries:read", None),
        (Method::GET, "/v1/stats/check", "deliveries:read", None),
        (Method::POST, "/v1/stats/check", "deliveries:write", None),
        (Method::GET, "/v1/apps", "apps:read", None),
        (Method::GET, "/v1/apps/default", "apps:read", None),
        (Method::PUT, "/v1/apps/default", "apps:write", Some(json!({"name": "default"}))),
        (Method::GET, "/v1/gates", "apps:read", None),
        (Method::PUT, "/v1/gates/rule/nothing", "apps:write", Some(json!({"reason": "why"}))),
        (Method::DELETE, "/v1/gates/rule/nothing", "apps:write", None),
        (Method::POST, "/v1/catalog/plan", "catalog:read", Some(json!({"files": {}}))),
        (Method::POST, "/v1/catalog/apply", "catalog:write", Some(json!({"files": {}}))),
        (Method::POST, "/v1/keys", "keys:write", Some(json!({"source": "shop"}))),
        (Method::GET, "/v1/keys", "keys:write", None),
        (Method::DELETE, "/v1/keys/key_00000000000000000000000000", "keys:write", None),
        (Method::GET, "/v1/sources", "sources:read", None),
        (Method::GET, "/v1/sources/shop", "sources:read", None),
        (Method::POST, "/v1/sources/shop/test", "sources:read", Some(json!({"body": {}}))),
        (Method::PUT, "/v1/sources/shop", "sources:write", Some(json!({}))),
        (Method::POST, "/v1/sources/shop/secrets", "sources:write", Some(json!({}))),
        (Method::DELETE, "/v1/sources/shop/secrets/whs_00000000000000000000000000", "sources:write", None),
        (
            Method::POST,
            "/v1/sources/shop/bodies/bod_00000000000000000000000000/replay",
            "sources:write",
            None,
        ),
        (Method::GET, "/v1/sources/shop/bodies", "bodies:read", None),
    ]
    .into_iter()
    .chain(uses_of_users())
    .chain(uses_of_connectors())
    .collect()
}

/// The addresses below `/v1/users`.
fn uses_of_users() -> Vec<(Method, &'static str, &'static str, Option<Value>)> {
    vec![
        (Method::PUT, "/v1/users/external_id/ann", "users:write", Some(json!({}))),
        (Method::PATCH, "/v1/users/external_id/ann", "users:write", Some(json!({}))),
        (Method::GET, "/v1/users/external_id/ann", "users:read", None),
        (Method::GET, "/v1/users/external_id/ann/preferences", "users:read", None),
        (Method::GET, "/v1/users/external_id/ann/export", "users:export", None),
        (Method::DELETE, "/v1/users/external_id/ann", "users:erase", None),
        (Method::GET, "/v1/erasures", "users:read", None),
        (Method::GET, "/v1/erasures/ers_00000000000000000000000000", "users:read", None),
        (
            Method::POST,
            "/v1/erasures/ers_00000000000000000000000000/lift",
            "users:erase",
            Some(json!({"reason": "asked to come back"})),
        ),
        (Method::PUT, "/v1/users/external_id/ann/preferences", "users:write", Some(json!({"channels": {}}))),
        (Method::POST, "/v1/users/batch", "users:write", Some(json!([{"user": {"external_id": "ann"}}]))),
        (Method::GET, "/v1/users/imports", "users:read", None),
        (Method::POST, "/v1/users/imports", "users:write", Some(json!({"name": "crm.csv"}))),
        (Method::GET, "/v1/users/imports/imp_00000000000000000000000000", "users:read", None),
        (Method::GET, "/v1/users/imports/imp_00000000000000000000000000/rejected", "users:read", None),
        (Method::PUT, "/v1/users/imports/imp_00000000000000000000000000/content", "users:write", None),
        (Method::POST, "/v1/users/imports/imp_00000000000000000000000000/start", "users:write", None),
        (Method::POST, "/v1/users/imports/imp_00000000000000000000000000/cancel", "users:write", None),
    ]
}

/// The addresses below `/v1/connectors`.
fn uses_of_connectors() -> Vec<(Method, &'static str, &'static str, Option<Value>)> {
    vec![
        (Method::GET, "/v1/connectors", "sources:read", None),
        (Method::GET, "/v1/connectors/crm", "sources:read", None),
        (Method::PUT, "/v1/connectors/crm", "sources:write", Some(json!({}))),
        (Method::DELETE, "/v1/connectors/crm", "sources:write", None),
        (Method::POST, "/v1/connectors/crm/check", "sources:write", None),
        (Method::POST, "/v1/connectors/crm/start", "sources:write", None),
        (Method::POST, "/v1/connectors/crm/pause", "sources:write", None),
        (Method::GET, "/v1/connectors/crm/set-aside", "users:read", None),
    ]
}

/// What a source's mapping and secrets need besides: they make events.
const MAKES_EVENTS: &str = "sources:write";

#[tokio::test]
async fn each_use_takes_the_one_scope_that_it_needs_and_no_other() {
    let app = TestApp::start().await;
    let mut keys = Vec::new();
    for scope in Scope::ALL {
        let scopes =
            if scope.as_str() == MAKES_EVENTS { vec![scope, Scope::EventsWrite] } else { vec![scope] };
        keys.push((scope.as_str(), app.key_with(scopes).await));
    }
    for (method, path, needed, body) in uses() {
        for (scope, key) in &keys {
            let (status, problem) = app.call(method.clone(), path, Some(key), body.as_ref()).await;
            if *scope == needed || (*scope == MAKES_EVENTS && needed == "events:write") {
                assert!(
                    ![401, 403].contains(&status) && status < 500,
                    "{method} {path} with {scope}: {status} {problem}"
                );
            } else {
                assert_eq!(
                    (status, &problem["code"]),
                    (403, &json!("missing_scope")),
                    "{method} {path} with {scope}"
                );
            }
        }
    }
}

#[tokio::test]
async fn without_a_key_every_address_says_the_same_and_what_is_public_is_open() {
    let app = TestApp::start().await;
    let mut answers = std::collections::HashSet::new();
    for (method, path, _, body) in uses() {
        for key in [None, Some("hk_live_0000000000000000000000000000wrong")] {
            let (status, problem) = app.call(method.clone(), path, key, body.as_ref()).await;
            assert_eq!(status, 401, "{method} {path}");
            answers.insert((key.is_none(), problem.to_string()));
        }
    }
    assert_eq!(answers.len(), 2, "{answers:?}");
    for path in ["/healthz", "/readyz", "/openapi.json", "/docs", "/metrics"] {
        assert_eq!(app.call(Method::GET, path, None, None).await.0, 200, "{path}");
    }
}

#[tokio::test]
async fn a_key_is_shown_once_and_kept_as_a_hash() {
    let app = TestApp::start().await;
    let wish = json!({"source": "billing", "scopes": ["events:write"], "allowed_types": ["payment.*"]});
    let (status, made) = app.call(Method::POST, "/v1/keys", Some(&app.key), Some(&wish)).await;
    assert_eq!(status, 201, "{made}");
    let key = made["key"].as_str().unwrap();
    assert!(key.starts_with("hk_live_") && key.len() >= 48, "256 bits of chance");
    let listed = app.get("/v1/keys").await;
    assert!(
        listed.as_array().unwrap().iter().any(|k| k["source"] == "billing")
            && !listed.to_string().contains(key)
    );
    let stored: String = app.sql("SELECT string_agg(k::text, ' ') FROM api_keys k").await;
    assert!(!stored.contains(&key[8..]));
    let event = order_shipped("o-1", "u");
    let (status, problem) = app.call(Method::POST, "/v1/events", Some(key), Some(&event)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("type_not_allowed")));
}

#[tokio::test]
async fn a_revoked_key_is_refused_at_once_by_who_revoked_it() {
    let app = TestApp::start().await;
    let (_, made) =
        app.call(Method::POST, "/v1/keys", Some(&app.key), Some(&json!({"source": "shop"}))).await;
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str());
    let post =
        async |id: &str| app.call(Method::POST, "/v1/events", key, Some(&order_shipped(id, "u"))).await.0;
    assert_eq!(post("o-1").await, 202);
    let path = format!("/v1/keys/{id}");
    assert_eq!(app.call(Method::DELETE, &path, Some(&app.key), None).await.0, 204);
    assert_eq!(post("o-2").await, 401);
    assert_eq!(
        app.call(Method::DELETE, &path, Some(&app.key), None).await.0,
        404,
        "there is nothing left to revoke"
    );
}

#[tokio::test]
async fn a_key_that_makes_no_sense_is_not_made() {
    let app = TestApp::start().await;
    for (wish, status) in [
        (json!({}), 422),
        (json!({"source": "shop", "colour": "red"}), 400),
        (json!({"source": "Not a name"}), 422),
        (json!({"source": "shop", "scopes": ["everything"]}), 422),
        (json!({"source": "shop", "allowed_types": ["order shipped", ""]}), 422),
    ] {
        let (got, problem) = app.call(Method::POST, "/v1/keys", Some(&app.key), Some(&wish)).await;
        assert_eq!(got, status, "{wish}: {problem}");
    }
}

#[tokio::test]
async fn two_sources_may_use_the_same_id() {
    let app = TestApp::start().await;
    let wish = json!({"source": "billing"});
    let (_, made) = app.call(Method::POST, "/v1/keys", Some(&app.key), Some(&wish)).await;
    let first = app.accept(&order_shipped("o-1", "u")).await;
    let (status, second) =
        app.call(Method::POST, "/v1/events", made["key"].as_str(), Some(&order_shipped("o-1", "u"))).await;
    assert_eq!((status, &second["duplicate"]), (202, &json!(false)));
    assert_ne!(first["id"], second["id"]);
}

#[tokio::test]
async fn every_response_has_its_request_id_and_restricts_browsers() {
    let app = TestApp::start().await;
    for path in ["/v1/events", "/nothing", "/healthz"] {
        let answer = app.get_raw(path).await;
        let headers = answer.headers();
        assert!(headers["x-request-id"].to_str().unwrap().starts_with("req_"), "{path}");
        assert_eq!(
            (&headers["cache-control"], &headers["x-content-type-options"]),
            (&"no-store".parse().unwrap(), &"nosniff".parse().unwrap())
        );
        assert!(headers["content-security-policy"].to_str().unwrap().starts_with("default-src 'none'"));
        assert!(!headers.contains_key("access-control-allow-origin"));
    }
    let json = ("content-type", "application/json");
    for (given, is_kept) in [("abc-1.2_3", true), ("two words", false), (&"x".repeat(65), false)] {
        let answer = app.post_raw("/v1/events", &[json, ("x-request-id", given)], "{").await;
        assert_eq!(answer.headers()["x-request-id"] == given, is_kept, "{given}");
    }
}

#[tokio::test]
async fn readiness_knows_when_the_process_stops_and_when_the_database_is_gone() {
    let app = TestApp::start().await;
    let ready = async || app.call(Method::GET, "/readyz", None, None).await;
    assert_eq!(ready().await.0, 200);
    app.execute("DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)")
        .await;
    assert_eq!(
        ready().await,
        (503, json!({"ready": false, "reason": "the schema is outdated: run `herald migrate`"}))
    );
    app.herald.store.close().await;
    assert_eq!(ready().await.1["reason"], "the database is unreachable");
    assert_eq!(app.call(Method::GET, "/healthz", None, None).await.0, 200, "it is alive all the same");
    app.herald.api.stop_being_ready();
    assert_eq!(ready().await.1["reason"], "the process is shutting down");
}
