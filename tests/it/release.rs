//! Held deliveries wait for a person, who may supply missing values.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

async fn held() -> (TestApp, String, Value) {
    let app = TestApp::start().await;
    app.apply(&[
        ("events/payment.failed/schema.json", r#"{"type": "object"}"#),
        ("templates/payment-failed-sms/template.toml", "channel = \"sms\""),
        ("templates/payment-failed-sms/sms.en.liquid", "{{ data.customer }}, invoice {{ data.invoice }}"),
    ])
    .await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    let id = accepted["deliveries"][0]["id"].as_str().expect("an id").to_owned();
    (app, id, accepted)
}

async fn release(app: &TestApp, id: &str, body: Value) -> (u16, Value) {
    app.call(Method::POST, &format!("/v1/deliveries/{id}/release"), Some(&app.key), Some(&body)).await
}

#[tokio::test]
async fn with_the_missing_value_given_it_goes_out() {
    let (app, id, _) = held().await;
    let (status, body) = release(&app, &id, json!({"values": {"customer": "Anna"}})).await;
    assert_eq!((status, &body["state"]), (200, &json!("queued")), "{body}");
    app.run_until_idle().await;
    assert_eq!(app.messages().await[0]["recipients"][0]["rendered"]["contents"], "Anna, invoice p-1");
    let sealed: Vec<u8> = app.sql("SELECT sealed FROM delivery_values").await;
    assert!(!String::from_utf8_lossy(&sealed).contains("Anna"));
}

#[tokio::test]
async fn with_another_version_it_goes_out_as_that_says() {
    let (app, id, _) = held().await;
    assert_eq!(release(&app, &id, json!({"version": 1})).await.0, 200);
    app.run_until_idle().await;
    let delivery = app.get(&format!("/v1/deliveries/{id}")).await;
    assert_eq!((&delivery["state"], &delivery["version"]), (&json!("accepted"), &json!(1)));
    assert!(
        app.messages().await[0]["recipients"][0]["rendered"]["contents"]
            .as_str()
            .unwrap()
            .starts_with("Shop:")
    );
}

#[tokio::test]
async fn what_would_be_held_again_is_not_released_and_says_why() {
    let (app, id, _) = held().await;
    let (status, problem) = release(&app, &id, json!({})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("still_held")));
    assert!(problem["detail"].as_str().unwrap().contains("`data.customer`"));
    assert_eq!(release(&app, &id, json!({"version": 9})).await.0, 422);
    assert_eq!(release(&app, &id, json!({"values": 7})).await.0, 422);
    assert_eq!(release(&app, &id, json!({"value": {}})).await.0, 400);
    assert_eq!(release(&app, "dlv_00000000000000000000000000", json!({})).await.0, 404);
}

#[tokio::test]
async fn what_is_not_held_is_not_released() {
    let (app, id, _) = held().await;
    let values = json!({"values": {"customer": "Anna"}});
    assert_eq!(release(&app, &id, values.clone()).await.0, 200);
    assert_eq!(release(&app, &id, values).await.1["code"], "not_held");
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn what_nobody_releases_expires() {
    let (app, id, _) = held().await;
    app.advance(std::time::Duration::from_hours(25)).await;
    app.run_until_idle().await;
    assert_eq!(app.get(&format!("/v1/deliveries/{id}")).await["state"], "expired");
}
