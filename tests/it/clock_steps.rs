//! The database's clock is set back: nothing waits for it to catch up.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, payment_failed};

const RULE: &str = "payment-failed-sms";
const HOUR: Duration = Duration::from_hours(1);

/// Sets the clock back by an hour, as a running process meets it.
async fn set_back(apps: &[&TestApp]) {
    for app in apps {
        app.herald.pipeline.watch_database().await.expect("the database answers");
        app.clock.set_back(HOUR);
    }
    for app in apps {
        app.herald.pipeline.watch_database().await.expect("the database answers");
    }
}

async fn gate(app: &TestApp, method: Method) {
    let reason = (method == Method::PUT).then(|| json!({"reason": "a test"}));
    let (status, _) =
        app.call(method, &format!("/v1/gates/rule/{RULE}"), Some(&app.key), reason.as_ref()).await;
    assert!((200..300).contains(&status), "{status}");
}

#[tokio::test]
async fn what_was_due_before_is_sent_at_once() {
    let app = TestApp::start().await;
    app.accept(&payment_failed("p-0", "u")).await;
    gate(&app, Method::PUT).await;
    let waiting = app.accept(&payment_failed("p-1", "u")).await;
    gate(&app, Method::DELETE).await;
    set_back(&[&app]).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&waiting, RULE).await["state"], "accepted");
    let new = app.accept(&payment_failed("p-2", "u")).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&new, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn what_is_planned_for_a_time_waits_for_that_time() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["send_after"] = json!("2026-11-24T10:00:10Z");
    let planned = app.accept(&event).await;
    app.clock.advance(Duration::from_secs(9));
    set_back(&[&app]).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 0);
    assert_eq!(app.delivery(&planned, RULE).await["due_at"], "2026-11-24T10:00:10Z");
}

#[tokio::test]
async fn a_retry_and_a_closed_gate_come_as_soon_as_they_would_have() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 401, "probability": 1.0}))
        .await;
    let waiting = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    set_back(&[&app]).await;
    for _ in 0..3 {
        app.advance(Duration::from_mins(1)).await;
        app.run_until_idle().await;
    }
    assert_eq!(app.delivery(&waiting, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn what_a_process_held_that_died_is_taken_over_within_its_lease() {
    let app = TestApp::start().await;
    let dead = app.replica().await;
    let held = dead.accept(&payment_failed("p-1", "u")).await;
    set_back(&[&app, &dead]).await;
    for _ in 0..3 {
        app.advance(Duration::from_mins(3)).await;
        app.run_until_idle().await;
    }
    assert_eq!(app.delivery(&held, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn the_step_is_noted_once() {
    let app = TestApp::start().await;
    set_back(&[&app]).await;
    app.clock.advance(Duration::from_secs(5));
    app.herald.pipeline.watch_database().await.expect("the database answers");
    let step = app.herald.store.database_watch().await.expect("the database answers").step.expect("a step");
    assert_eq!((step.back, step.at.to_rfc3339().as_str()), (HOUR, "2026-11-24T09:00:00+00:00"));
}

#[tokio::test]
async fn what_waits_behind_its_predecessor_is_due_when_its_turn_comes() {
    let app = TestApp::start().await;
    gate(&app, Method::PUT).await;
    let mut waiting = Vec::new();
    for id in ["p-1", "p-2"] {
        let mut event = payment_failed(id, "u");
        event["ordering_key"] = json!("invoice-1");
        waiting.push(app.accept(&event).await);
    }
    gate(&app, Method::DELETE).await;
    set_back(&[&app]).await;
    app.run_for(3).await;
    for accepted in &waiting {
        assert_eq!(app.delivery(accepted, RULE).await["state"], "accepted");
    }
}

#[tokio::test]
async fn what_is_stored_after_the_repair_by_the_time_from_before_is_sent_too() {
    let app = TestApp::start().await;
    gate(&app, Method::PUT).await;
    let waiting = app.accept(&payment_failed("p-1", "u")).await;
    set_back(&[&app]).await;
    // As a process stores it that was suspended in the middle of a commit.
    app.execute("UPDATE queue q SET due_at = d.created_at FROM deliveries d WHERE d.id = q.delivery_id")
        .await;
    gate(&app, Method::DELETE).await;
    app.herald.pipeline.watch_database().await.expect("the database answers");
    app.run_until_idle().await;
    assert_eq!(app.delivery(&waiting, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn a_message_that_waits_for_its_recipient_s_facts_is_sent_once_they_are_written() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["recipient"] = json!({"external_id": "u", "tags": {"plan": "gold"}, "phone": "+4915112345678"});
    let waiting = app.accept(&event).await;
    set_back(&[&app]).await;
    app.run_for(10).await;
    let shown = app.delivery(&waiting, RULE).await;
    assert_eq!(shown["state"], "accepted", "{shown}");
}

#[tokio::test]
async fn of_two_processes_that_find_the_step_at_once_one_brings_a_retry_forward() {
    let app = TestApp::start().await;
    let other = app.replica().await;
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 1.0}))
        .await;
    let waiting = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    let due = |shown: serde_json::Value| shown["due_at"].as_str().unwrap_or_default().to_owned();
    let before = due(app.delivery(&waiting, RULE).await);
    for one in [&app, &other] {
        one.herald.pipeline.watch_database().await.expect("the database answers");
        one.clock.set_back(HOUR);
    }
    let (one, two) =
        tokio::join!(app.herald.pipeline.watch_database(), other.herald.pipeline.watch_database());
    one.expect("the database answers");
    two.expect("the database answers");
    let after = due(app.delivery(&waiting, RULE).await);
    let seconds = |text: &str| text.parse::<chrono::DateTime<chrono::Utc>>().expect("a time").timestamp();
    assert_eq!(seconds(&before) - seconds(&after), 3_600, "an hour, once: {before} {after}");
}
