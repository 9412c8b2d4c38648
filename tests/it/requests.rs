//! Unknown parts of requests, and concurrent changes.

use reqwest::Method;
use serde_json::json;

use crate::support::app::TestApp;

#[tokio::test]
async fn a_dry_run_where_there_is_none_does_nothing_and_says_so() {
    let app = TestApp::start().await;
    let path = "/v1/templates/order-shipped-push/rollback?dry_run=true";
    let (status, problem) = app.call(Method::POST, path, Some(&app.key), Some(&json!({"version": 1}))).await;
    assert_eq!((status, &problem["code"]), (400, &json!("bad_parameter")));
    assert_eq!(problem["errors"][0]["pointer"], "dry_run");
    let template = app.get("/v1/templates/order-shipped-push").await;
    assert_eq!(template["live_version"], 1, "nothing was rolled back");
    let (status, problem) = app.call(Method::GET, "/v1/audit?actor=me", Some(&app.key), None).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("actor")), "{problem}");
}

#[tokio::test]
async fn a_field_that_is_wrong_deep_in_a_draft_is_pointed_at() {
    let app = TestApp::start().await;
    let path = "/v1/templates/order-shipped-push/draft";
    let body = json!({"contents": {"en": {"contents": 5}}});
    let (status, problem) = app.call(Method::PUT, path, Some(&app.key), Some(&body)).await;
    assert_eq!(
        (status, &problem["errors"][0]["pointer"]),
        (422, &json!("/contents/en/contents")),
        "{problem}"
    );
    let body = json!({"contens": {}});
    let (status, problem) = app.call(Method::PUT, path, Some(&app.key), Some(&body)).await;
    assert_eq!(
        (status, &problem["errors"][0]["hint"]),
        (400, &json!("did you mean `contents`?")),
        "{problem}"
    );
}

#[tokio::test]
async fn two_people_do_not_overwrite_each_others_source() {
    let app = TestApp::start().await;
    let path = (Method::PUT, "/v1/sources/webshop");
    let settings = |locale: &str| json!({"default_locale": locale});
    assert_eq!(app.call_seen(path.clone(), &app.key, None, &settings("de")).await.0, 200);
    assert_eq!(app.call_seen(path.clone(), &app.key, None, &settings("fr")).await.0, 428);
    assert_eq!(app.call_seen(path.clone(), &app.key, Some("1"), &settings("fr")).await.0, 200);
    assert_eq!(app.call_seen(path, &app.key, Some("1"), &settings("it")).await.0, 412);
    assert_eq!(app.get("/v1/sources/webshop").await["default_locale"], "fr");
}

#[tokio::test]
async fn who_writes_copy_does_not_decide_that_nobody_has_to_look_at_it() {
    let app = TestApp::start().await;
    let path = (Method::PATCH, "/v1/templates/order-shipped-push");
    let version = app.get(path.1).await["version"].to_string();
    let on = app.call_seen(path.clone(), &app.key, Some(&version), &json!({"needs_approval": true})).await;
    assert_eq!(on.0, 200, "{}", on.2);
    let keys = json!({"source": "writers", "test": true, "scopes": ["catalog:read", "catalog:write"]});
    let (_, made) = app.call(Method::POST, "/v1/keys", Some(&app.key), Some(&keys)).await;
    let writer = made["key"].as_str().expect("a key");
    let version = app.get(path.1).await["version"].to_string();
    let off = json!({"needs_approval": false});
    let refused = app.call_seen(path.clone(), writer, Some(&version), &off).await;
    assert_eq!((refused.0, &refused.2["code"]), (403, &json!("missing_scope")), "{}", refused.2);
    assert_eq!(app.call_seen(path, &app.key, Some(&version), &off).await.0, 200);
}
