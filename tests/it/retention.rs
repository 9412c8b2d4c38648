//! Retention: secrets for an hour, payloads for a month, history for half a year. The clock is advanced, and the whole
//! database is searched.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};

const DAY: Duration = Duration::from_hours(24);

async fn everything(app: &TestApp) -> String {
    app.dump().await
}

async fn get(app: &TestApp, path: &str) -> (u16, Value) {
    app.call(Method::GET, path, Some(&app.key), None).await
}

#[tokio::test]
async fn what_an_event_said_goes_before_the_record_that_it_happened() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "user-42");
    event["data"]["name"] = json!("CANARY-NAME");
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    let path = format!("/v1/events/{}", accepted["id"].as_str().expect("an id"));
    app.advance(29 * DAY).await;
    assert!(everything(&app).await.contains("CANARY-NAME"), "for a month it can be replayed");
    app.advance(3 * DAY).await;
    assert!(!everything(&app).await.contains("CANARY-NAME"));
    let (status, story) = get(&app, &path).await;
    assert_eq!((status, &story["data"]), (200, &Value::Null), "that it happened is still known: {story}");
    assert_eq!(story["deliveries"][0]["state"], "accepted");
    app.advance(150 * DAY).await;
    assert_eq!(get(&app, &path).await.0, 404);
    assert!(!everything(&app).await.contains("user-42"), "nothing is left of the person");
}

#[tokio::test]
async fn a_replay_without_the_event_s_values_is_left_out_and_says_so() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("o-1", "user-42")).await;
    app.run_until_idle().await;
    let delivery = accepted["deliveries"][0]["id"].as_str().expect("an id");
    app.advance(33 * DAY).await;
    let path = format!("/v1/deliveries/{delivery}/replay");
    let wish = json!({"reason": "x", "may_duplicate": true, "even_if_expired": true});
    let (status, problem) = app.call(Method::POST, &path, Some(&app.key), Some(&wish)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("not_replayable")), "{problem}");
    assert!(problem["detail"].as_str().expect("words").contains("its event is no longer kept"), "{problem}");
}

#[tokio::test]
async fn a_code_is_gone_an_hour_after_it_has_served() {
    let app = TestApp::start().await;
    let event = json!({
        "id": "p-1", "type": "password.reset", "recipient": {"external_id": "user-42"}, "data": {"code": "480918"},
    });
    app.accept(&event).await;
    app.run_until_idle().await;
    let sealed = async || app.sql::<i64>("SELECT count(*) FROM event_secrets").await;
    assert_eq!(sealed().await, 1);
    app.advance(Duration::from_mins(61)).await;
    assert_eq!(sealed().await, 0);
}

#[tokio::test]
async fn the_values_of_an_open_delivery_stay_as_long_as_it_may_need_them() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "user-42");
    event["data"]["name"] = json!("CANARY-NAME");
    event["send_after"] = json!("2027-01-20T08:00:00Z");
    event["expires_at"] = json!("2027-01-25T08:00:00Z");
    let accepted = app.accept(&event).await;
    app.advance(40 * DAY).await;
    assert!(everything(&app).await.contains("CANARY-NAME"), "it is yet to be sent");
    app.advance(18 * DAY).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, "order-shipped-push").await["state"], "accepted");
}
