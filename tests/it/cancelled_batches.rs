//! Cancelling one of several deliveries that have been frozen into one call.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

fn keyed(user: &str) -> Value {
    let mut event = payment_failed(&format!("p-{user}"), user);
    event["cancellation_key"] = json!(user);
    event["send_after"] = json!("2026-11-24T10:00:30Z");
    event["expires_at"] = json!("2026-12-24T12:00:00Z");
    event
}

#[tokio::test]
async fn who_is_cancelled_while_the_batch_waits_for_another_try_gets_nothing() {
    let app = TestApp::start().await;
    let good = app.sandbox_url.clone();
    app.move_onesignal("http://127.0.0.1:1").await;
    let [stays, goes] = [app.accept(&keyed("anna")).await, app.accept(&keyed("berta")).await];
    app.advance(Duration::from_mins(1)).await;
    app.run_until_idle().await;
    let retrying = "SELECT count(*) FROM queue WHERE state = 'retrying'";
    assert_eq!(app.sql::<i64>(retrying).await, 2, "no connection was made");
    assert_eq!(app.sql::<i64>("SELECT count(DISTINCT batch_id) FROM queue").await, 1, "in one call");
    let (_, answer) =
        app.call(Method::POST, "/v1/cancellations", Some(&app.key), Some(&json!({"key": "berta"}))).await;
    assert_eq!(answer["cancelled"], 1, "{answer}");
    app.move_onesignal(&good).await;
    app.advance(Duration::from_mins(1)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&stays, "payment-failed-sms").await["state"], "accepted");
    let gone = app.delivery(&goes, "payment-failed-sms").await;
    assert_eq!(
        (&gone["state"], &gone["attempts"][0]["answer"]),
        (&json!("cancelled"), &json!("not_connected")),
        "its attempt is still reported: {gone}"
    );
    let messages = app.messages().await;
    let reached: Vec<&Value> = messages
        .iter()
        .flat_map(|message| message["recipients"].as_array().expect("recipients"))
        .map(|recipient| &recipient["external_id"])
        .collect();
    assert_eq!(reached, ["anna"], "who was cancelled is written to all the same");
}
