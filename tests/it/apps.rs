//! OneSignal apps by API: entered, changed, never shown with their keys.

use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, payment_failed};

const NEW: &str = "/v1/apps/11111111-1111-4111-8111-111111111111";

#[tokio::test]
async fn an_app_is_entered_and_changed_by_who_has_seen_it_and_its_key_is_never_shown() {
    let app = TestApp::start().await;
    let said = json!({"name": "second", "api_key": "os_v2_app_secret_1", "subscriptions": 1200});
    let (status, etag, body) = app.call_seen((Method::PUT, NEW), &app.key, None, &said).await;
    assert_eq!((status, etag.as_str()), (200, "1"), "{body}");
    assert_eq!((&body["subscriptions"], &body["calls_per_second"]), (&json!(1200), &json!(150)));
    assert_eq!(
        (&body["is_sandbox"], &body["base_url"]),
        (&json!(false), &json!("https://api.onesignal.com/"))
    );
    let changed = json!({"name": "second", "calls_per_second": 6000});
    let (status, _, problem) = app.call_seen((Method::PUT, NEW), &app.key, None, &changed).await;
    assert_eq!(status, 428, "{problem}");
    let (status, etag, body) = app.call_seen((Method::PUT, NEW), &app.key, Some("1"), &changed).await;
    assert_eq!((status, etag.as_str(), &body["calls_per_second"]), (200, "2", &json!(6000)));
    let (status, _, problem) = app.call_seen((Method::PUT, NEW), &app.key, Some("1"), &changed).await;
    assert_eq!(status, 412, "{problem}");
    let shown = format!("{} {}", app.get("/v1/apps").await, app.get("/v1/audit?kind=app").await);
    assert!(!shown.contains("secret_1") && shown.contains("second"), "{shown}");
    assert!(!app.dump().await.contains("os_v2_app_secret_1"));
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_with_a_pointer() {
    let app = TestApp::start().await;
    for (body, pointer) in [
        (json!({"name": "x"}), "/api_key"),
        (json!({"name": "", "api_key": "k"}), "/name"),
        (json!({"name": "default", "api_key": "k"}), "/name"),
        (json!({"name": "x", "api_key": "k k"}), "/api_key"),
        (json!({"name": "x", "api_key": "k", "base_url": "file:///etc"}), "/base_url"),
        (json!({"name": "x", "api_key": "k", "calls_per_second": 0}), "/calls_per_second"),
        (json!({"name": "x", "api_key": "k", "subscriptions": 0}), "/subscriptions"),
    ] {
        let (status, problem) = app.call(Method::PUT, NEW, Some(&app.key), Some(&body)).await;
        assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!(pointer)), "{body}: {problem}");
    }
    let body = json!({"name": "x", "api_key": "k"});
    let (status, problem) = app.call(Method::PUT, "/v1/apps/shop", Some(&app.key), Some(&body)).await;
    assert_eq!(status, 422, "{problem}");
    let test_key = app.test_key().await;
    let (status, problem) = app.call(Method::PUT, NEW, Some(&test_key), Some(&body)).await;
    assert_eq!(status, 422, "a test key enters no real app: {problem}");
}

#[tokio::test]
async fn a_new_key_lets_an_app_go_on_that_the_old_one_had_stopped() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 401, "probability": 1.0}))
        .await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    assert_eq!(app.get("/v1/gates").await[0]["code"], "key_refused");
    app.clear_faults().await;
    let path = "/v1/apps/5a0d0000-0000-4000-8000-000000000001";
    let etag = app.get_raw(path).await.headers()["etag"].to_str().unwrap().trim_matches('"').to_owned();
    let said = json!({"name": "default", "api_key": "os_v2_app_sandbox", "is_default": true});
    let (status, _, body) = app.call_seen((Method::PUT, path), &app.key, Some(&etag), &said).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(app.get("/v1/gates").await, json!([]));
    app.advance(std::time::Duration::from_secs(1)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, "payment-failed-sms").await["state"], "accepted");
}
