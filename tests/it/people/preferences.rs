//! Preferences: an opt-out holds at once, for pending deliveries too, and for people who were unknown.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

async fn put(app: &TestApp, who: &str, channels: Value) -> Value {
    let path = format!("/v1/users/{who}/preferences");
    let body = json!({ "channels": channels });
    let (status, answer) = app.call(Method::PUT, &path, Some(&app.key), Some(&body)).await;
    assert_eq!(status, 200, "{answer}");
    answer
}

#[tokio::test]
async fn an_opt_out_stops_new_and_pending_messages_of_its_channel_until_it_is_taken_back() {
    let app = TestApp::start().await;
    let mut later = payment_failed("p-1", "ann");
    later["send_after"] = json!("2026-11-24T10:01:00Z");
    let pending = app.accept(&later).await;
    let answer = put(&app, "external_id/ann", json!({"sms": false})).await;
    assert_eq!(answer["channels"], json!({"push": true, "email": true, "sms": false}));
    let refused = app.accept(&payment_failed("p-2", "ann")).await;
    assert_eq!(app.delivery(&refused, "payment-failed-sms").await["state"], "skipped");
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&pending, "payment-failed-sms").await["state"], "skipped");
    assert!(app.messages().await.is_empty());
    put(&app, "external_id/ann", json!({"sms": true})).await;
    app.accept(&payment_failed("p-3", "ann")).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn an_import_of_the_same_person_does_not_take_an_opt_out_back() {
    let app = TestApp::start().await;
    put(&app, "external_id/ann", json!({"email": false})).await;
    let ann = json!({"subscriptions": [{"type": "email", "token": "ann@shop.example"}]});
    app.put_user("external_id/ann", &ann).await;
    app.run_for(6).await;
    let path = "/v1/users/external_id/ann/preferences";
    assert_eq!(app.get(path).await["channels"]["email"], false);
    assert_eq!(app.get("/v1/users/external_id/ann").await["opted_out"], json!(["email"]));
}

#[tokio::test]
async fn an_unknown_channel_is_named_and_an_address_can_be_opted_out_too() {
    let app = TestApp::start().await;
    let path = "/v1/users/external_id/ann/preferences";
    let body = json!({"channels": {"fax": false}});
    let (status, problem) = app.call(Method::PUT, path, Some(&app.key), Some(&body)).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/channels/fax")), "{problem}");
    put(&app, "email/Ann@Shop.example", json!({"email": false})).await;
    assert_eq!(app.get("/v1/users/email/ann@shop.example/preferences").await["channels"]["email"], false);
}
