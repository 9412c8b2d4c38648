//! Quiet hours and send windows apply whenever a delivery is sent, not only when it is planned.
//!
//! Every test begins at 11:00 in Berlin (10:00 UTC).

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

const RULE: &str = "payment-failed-sms";
const HOUR: Duration = Duration::from_hours(1);

/// The usual service, with these members on top of the rule for failed payments.
async fn with(members: Value) -> TestApp {
    let app = TestApp::start().await;
    let mut rule = json!({"event": "payment.failed", "template": RULE, "zone": "Europe/Berlin"});
    rule.as_object_mut().expect("an object").extend(members.as_object().expect("an object").clone());
    app.put_rule(RULE, &rule).await;
    app
}

async fn gate(app: &TestApp, method: Method) {
    let reason = (method == Method::PUT).then(|| json!({"reason": "a test"}));
    let (status, _) =
        app.call(method, &format!("/v1/gates/rule/{RULE}"), Some(&app.key), reason.as_ref()).await;
    assert!((200..300).contains(&status), "{status}");
    app.run_until_idle().await;
}

async fn pass(app: &TestApp, time: Duration) {
    app.advance(time).await;
    app.run_until_idle().await;
}

#[tokio::test]
async fn a_gate_that_opens_at_night_lets_nothing_out_before_the_morning() {
    let app = with(json!({"quiet": {"from": "20:00", "until": "08:00"}})).await;
    gate(&app, Method::PUT).await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    pass(&app, HOUR * 11).await;
    gate(&app, Method::DELETE).await;
    pass(&app, Duration::from_mins(2)).await;
    assert_eq!(app.messages().await.len(), 0, "it is 22:02 in Berlin");
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!(
        (&delivery["state"], &delivery["due_at"]),
        (&json!("scheduled"), &json!("2026-11-25T07:00:00Z"))
    );
    assert_eq!(
        delivery["decisions"].as_array().expect("a list").last().expect("one")["code"],
        "outside_hours"
    );
    pass(&app, HOUR * 10).await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted", "it is 08:02 in Berlin");
}

#[tokio::test]
async fn a_rule_that_is_deleted_keeps_its_hours_for_what_it_has_planned() {
    let app = with(json!({"quiet": {"from": "20:00", "until": "08:00"}})).await;
    let path = "/v1/gates/app/default";
    let (status, answer) =
        app.call(Method::PUT, path, Some(&app.key), Some(&json!({"reason": "a test"}))).await;
    assert!((200..300).contains(&status), "{answer}");
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    let rule = format!("/v1/rules/{RULE}");
    let (_, seen, _) = app.call_seen((Method::GET, &rule), &app.key, None, &Value::Null).await;
    let (status, _, answer) =
        app.call_seen((Method::DELETE, &rule), &app.key, Some(&seen), &Value::Null).await;
    assert!((200..300).contains(&status), "{answer}");
    pass(&app, HOUR * 11).await;
    let (status, answer) = app.call(Method::DELETE, path, Some(&app.key), None).await;
    assert!((200..300).contains(&status), "{answer}");
    pass(&app, Duration::from_mins(2)).await;
    assert_eq!(app.messages().await.len(), 0, "it is 22:02 in Berlin");
    assert_eq!(app.delivery(&accepted, RULE).await["due_at"], "2026-11-25T07:00:00Z");
}

#[tokio::test]
async fn a_retry_keeps_the_quiet_hours_and_its_key() {
    let app = with(json!({"quiet": {"from": "11:01", "until": "14:00"}})).await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 1.0}))
        .await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    pass(&app, Duration::from_mins(10)).await;
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!(
        (&delivery["state"], &delivery["due_at"]),
        (&json!("retrying"), &json!("2026-11-24T13:00:00Z"))
    );
    pass(&app, HOUR * 3).await;
    let delivery = app.delivery(&accepted, RULE).await;
    let attempts = delivery["attempts"].as_array().expect("attempts");
    assert_eq!((&delivery["state"], attempts.len()), (&json!("accepted"), 2), "{delivery}");
    assert_eq!(attempts[0]["idempotency_key"], attempts[1]["idempotency_key"]);
}

#[tokio::test]
async fn what_was_queued_before_an_outage_waits_for_its_window_and_ends_with_it() {
    let app = with(json!({"window": {"from": "09:00", "until": "18:00"}, "expires_in": "12h"})).await;
    gate(&app, Method::PUT).await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    pass(&app, HOUR * 8).await;
    gate(&app, Method::DELETE).await;
    pass(&app, Duration::from_mins(2)).await;
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!(delivery["state"], "expired", "the next window opens after it expires: {delivery}");
    assert_eq!(delivery["decisions"].as_array().expect("a list").last().expect("one")["code"], "no_time");
}

#[tokio::test]
async fn an_urgent_delivery_that_is_late_is_sent_at_once() {
    let app =
        with(json!({"quiet": {"from": "20:00", "until": "08:00"}, "priority": "urgent", "expires_in": "2d"}))
            .await;
    gate(&app, Method::PUT).await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    pass(&app, HOUR * 11).await;
    gate(&app, Method::DELETE).await;
    pass(&app, Duration::from_mins(2)).await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
}
