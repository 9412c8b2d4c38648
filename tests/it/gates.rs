//! Manual gates: an app, a rule or a version stopped by a person, and its pending deliveries.

use std::time::Duration;

use herald::domain::app::AppId;
use herald::domain::gate::{Gate, GateSubject};
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped, payment_failed, start_of_time};

async fn close(app: &TestApp, gate: &str) -> Value {
    let body = json!({"reason": "the copy is wrong"});
    let (status, gates) =
        app.call(Method::PUT, &format!("/v1/gates/{gate}"), Some(&app.key), Some(&body)).await;
    assert_eq!(status, 200, "{gates}");
    gates
}

async fn open(app: &TestApp, gate: &str) {
    let (status, problem) =
        app.call(Method::DELETE, &format!("/v1/gates/{gate}"), Some(&app.key), None).await;
    assert_eq!(status, 204, "{problem}");
}

async fn settle(app: &TestApp) {
    app.advance(Duration::from_secs(61)).await;
    app.run_until_idle().await;
}

#[tokio::test]
async fn what_a_stopped_rule_sends_waits_and_the_others_go_on() {
    for gate in ["rule/payment-failed-sms", "template_version/payment-failed-sms@1"] {
        let app = TestApp::start().await;
        let gates = close(&app, gate).await;
        assert_eq!((&gates[0]["code"], &gates[0]["closed_until"]), (&json!("paused"), &Value::Null));
        assert!(gates[0]["detail"].as_str().unwrap().contains("the copy is wrong"));
        app.run_until_idle().await;
        let stopped = app.accept(&payment_failed("p-1", "u")).await;
        let other = app.accept(&order_shipped("o-1", "u")).await;
        app.run_until_idle().await;
        settle(&app).await;
        let waiting = app.delivery(&stopped, "payment-failed-sms").await;
        assert_eq!(waiting["gate"]["code"], "paused", "it says what it waits for: {waiting}");
        assert_eq!(app.delivery(&other, "order-shipped-push").await["state"], "accepted");
        open(&app, gate).await;
        settle(&app).await;
        assert_eq!(app.delivery(&stopped, "payment-failed-sms").await["state"], "accepted", "{gate}");
        assert_eq!(app.get("/v1/gates").await, json!([]));
    }
}

#[tokio::test]
async fn everything_can_be_stopped_at_once_and_nothing_is_lost() {
    let app = TestApp::start().await;
    let gates = close(&app, "app/all").await;
    assert_eq!((&gates[0]["scope"], &gates[0]["subject"]), (&json!("app"), &json!("default")));
    for n in 0..10 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
    }
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 0);
    open(&app, "app/all").await;
    settle(&app).await;
    let reached: usize = app.messages().await.iter().map(|m| m["recipients"].as_array().unwrap().len()).sum();
    assert_eq!(reached, 10);
}

#[tokio::test]
async fn what_waited_in_memory_when_the_switch_was_thrown_is_not_sent() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["send_after"] = json!("2026-11-24T10:01:00Z");
    let accepted = app.accept(&event).await;
    close(&app, "rule/payment-failed-sms").await;
    settle(&app).await;
    assert_eq!(app.delivery(&accepted, "payment-failed-sms").await["gate"]["code"], "paused");
    assert_eq!(app.messages().await.len(), 0);
}

#[tokio::test]
async fn a_person_s_stop_is_not_lifted_by_a_call_that_was_under_way() {
    let app = TestApp::start().await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(accepted["deliveries"][0]["state"], "sending");
    close(&app, "template_version/payment-failed-sms@1").await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
    assert_eq!(app.get("/v1/gates").await.as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn the_record_of_changes_says_who_threw_a_switch_and_why() {
    let app = TestApp::start().await;
    close(&app, "rule/payment-failed-sms").await;
    open(&app, "rule/payment-failed-sms").await;
    let log = app.get("/v1/audit?kind=gate").await;
    let actions: Vec<&str> =
        log["data"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["opened", "closed"], "{log}");
}

#[tokio::test]
async fn what_is_not_there_can_t_be_stopped() {
    let app = TestApp::start().await;
    for gate in ["rule/nothing", "app/nothing", "template_version/payment-failed-sms@9", "weather/rain"] {
        let body = json!({"reason": "x"});
        let (status, problem) =
            app.call(Method::PUT, &format!("/v1/gates/{gate}"), Some(&app.key), Some(&body)).await;
        assert_eq!(status, 404, "{gate}: {problem}");
    }
    let body = json!({"reason": " "});
    let (status, problem) = app.call(Method::PUT, "/v1/gates/app/all", Some(&app.key), Some(&body)).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/reason")));
}

#[tokio::test]
async fn a_gate_that_closes_for_another_reason_begins_with_the_shortest_time() {
    let app = TestApp::start().await;
    let (store, now) = (&app.herald.store, start_of_time());
    let subject = GateSubject::App(AppId("5a0d0000-0000-4000-8000-000000000001".parse().expect("an id")));
    let gate =
        |code: &str, closed_until| Gate { subject, code: code.into(), detail: "a test".into(), closed_until };
    let (minute, ten) = (Duration::from_mins(1), Duration::from_mins(10));
    // Several calls are rate limited at once.
    for _ in 0..2 {
        store.close_until(&gate("rate_limited", now + minute), now).await.expect("closed");
    }
    let then = now + minute * 2;
    store.close_doubling(&gate("breaker_open", then), minute, ten, then).await.expect("closed");
    let then = then + minute * 2;
    let until = store.close_doubling(&gate("key_refused", then), minute, ten, then).await.expect("closed");
    assert_eq!(until, then + minute);
    let then = until + minute;
    let until = store.close_doubling(&gate("key_refused", then), minute, ten, then).await.expect("closed");
    assert_eq!(until, then + minute * 2, "it doubles while the reason stays the same");
}
