//! Values that became sensitive after events had been stored, and events that a key may not read.

use reqwest::Method;
use serde_json::json;

use herald::access::Scope;

use crate::support::app::{TestApp, payment_failed};

const SMS: &str = "/v1/templates/payment-failed-sms";

#[tokio::test]
async fn what_became_sensitive_later_is_masked_in_traffic_and_previews() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["data"]["amount"] = json!("4711 EUR");
    let id = app.accept(&event).await["id"].clone();
    let mut entry = app.get("/v1/event-types/payment.failed").await;
    let version = entry["version"].to_string();
    for beside in ["name", "version", "used_by"] {
        entry.as_object_mut().unwrap().remove(beside);
    }
    entry["sensitive"] = json!(["/amount"]);
    let path = "/v1/event-types/payment.failed";
    let (status, _, body) = app.call_seen((Method::PUT, path), &app.key, Some(&version), &entry).await;
    assert_eq!(status, 200, "{body}");
    let content = json!({"contents": {"en": {"contents": "Pay {{ data.amount }}"}}});
    for (what, more) in [("check", json!({})), ("preview", json!({"event": id}))] {
        let mut request = more;
        request["content"] = content.clone();
        let (status, answer) =
            app.call(Method::POST, &format!("{SMS}/{what}"), Some(&app.key), Some(&request)).await;
        assert_eq!(status, 200, "{answer}");
        assert!(answer.to_string().contains("Pay "), "{what}: {answer}");
        assert!(!answer.to_string().contains("4711"), "{what}: {answer}");
    }
}

#[tokio::test]
async fn a_preview_of_a_past_event_is_for_those_who_may_read_events() {
    let app = TestApp::start().await;
    let id = app.accept(&payment_failed("p-1", "u")).await["id"].clone();
    let key = app.key_with(vec![Scope::CatalogRead]).await;
    let preview = |request| {
        let (app, key) = (&app, &key);
        async move { app.call(Method::POST, &format!("{SMS}/preview"), Some(key), Some(&request)).await.0 }
    };
    assert_eq!(preview(json!({"version": "live"})).await, 200);
    assert_eq!(preview(json!({"version": "live", "event": id})).await, 403);
}
