//! Facts that an event carries about its recipient are written first, so that a new customer's first message arrives.

use std::time::Duration;

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use super::{calls, with_strict_onesignal};
use crate::support::app::{TestApp, order_shipped};

fn order_of_new_customer(id: &str) -> Value {
    let mut event = order_shipped(id, "ann");
    event["recipient"] = json!({
        "external_id": "ann", "email": "ann@shop.example", "phone": "+4915112345678", "tags": {"plan": "gold"},
        "language": "de",
    });
    event
}

/// The states of an event's deliveries by channel.
async fn states(app: &TestApp, accepted: &Value) -> Vec<(String, String)> {
    let shown = app.get(accepted["trace_url"].as_str().expect("as described")).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let deliveries = shown["deliveries"].as_array().expect("as described").iter();
    deliveries.map(|delivery| (text(&delivery["channel"]), text(&delivery["state"]))).collect()
}

#[tokio::test]
async fn a_new_customer_s_first_email_arrives_because_their_address_is_written_first() {
    let app = with_strict_onesignal().await;
    let accepted = app.accept(&order_of_new_customer("o-1")).await;
    app.herald.pipeline.run_until_idle().await.expect("the database answers");
    assert!(app.messages().await.is_empty(), "the message waits for the address");
    let shown = app.get(accepted["trace_url"].as_str().unwrap()).await.to_string();
    assert!(shown.contains("waits_for_facts"), "and says so: {shown}");
    app.run_for(8).await;
    let there = app.onesignal_user("external_id", "ann").await;
    assert_eq!(there["properties"]["tags"], json!({"plan": "gold"}), "{there}");
    let states = states(&app, &accepted).await;
    assert!(states.contains(&("email".to_owned(), "accepted".to_owned())), "{states:?}");
    let messages = app.messages().await;
    assert!(messages.iter().any(|message| message["channel"] == "email"), "{messages:?}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM fact_waits").await, 0);
}

#[tokio::test]
async fn facts_that_onesignal_has_already_delay_nothing_and_make_no_call() {
    let app = with_strict_onesignal().await;
    app.accept(&order_of_new_customer("o-1")).await;
    app.run_for(8).await;
    let before = (calls(&app, "users.create").await, app.messages().await.len());
    app.accept(&order_of_new_customer("o-2")).await;
    app.herald.pipeline.run_until_idle().await.expect("the database answers");
    assert!(app.messages().await.len() > before.1, "sent at once");
    app.run_for(2).await;
    assert_eq!(calls(&app, "users.create").await, before.0);
}

#[tokio::test]
async fn a_message_does_not_wait_for_ever_for_facts_that_can_not_be_written() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "users", "kind": "status", "status": 503, "probability": 1.0})).await;
    app.accept(&order_of_new_customer("o-1")).await;
    app.run_for(5).await;
    assert!(app.messages().await.is_empty());
    app.advance(Duration::from_mins(5)).await;
    app.run_until_idle().await;
    assert!(!app.messages().await.is_empty());
}

#[tokio::test]
async fn refused_facts_do_not_hold_back_the_message() {
    let app = TestApp::start().await;
    let mut event = order_of_new_customer("o-1");
    // More tags than the free plan takes.
    event["recipient"]["tags"] = json!({"a": "1", "b": "2", "c": "3", "d": "4"});
    app.accept(&event).await;
    app.run_for(20).await;
    assert!(!app.messages().await.is_empty());
    let shown = app.get("/v1/users/external_id/ann").await;
    assert_eq!(shown["apps"][0]["refused"][0]["code"], "tag_limit", "{shown}");
}

#[tokio::test]
async fn the_language_that_an_event_names_is_the_language_of_its_message() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_of_new_customer("o-1")).await;
    let id = accepted["deliveries"][0]["id"].as_str().unwrap();
    let delivery = app.get(&format!("/v1/deliveries/{id}")).await;
    assert_eq!(delivery["locale"], "de", "{delivery}");
    assert_eq!(app.get("/v1/users/external_id/ann").await["language"], "de");
}

#[tokio::test]
async fn bad_facts_are_named_and_a_repeat_with_other_facts_is_another_event() {
    let app = TestApp::start().await;
    let mut event = order_of_new_customer("o-1");
    event["recipient"]["email"] = json!("ann");
    event["recipient"]["tags"] = json!({"user": "x"});
    let (status, problem) = app.post(&event).await;
    assert_eq!(status, 422, "{problem}");
    let pointers: Vec<&str> = problem["errors"]
        .as_array()
        .unwrap()
        .iter()
        .map(|error| error["pointer"].as_str().unwrap())
        .collect();
    assert_eq!(pointers, ["/recipient/email", "/recipient/tags/user"]);
    app.accept(&order_of_new_customer("o-1")).await;
    assert_eq!(app.accept(&order_of_new_customer("o-1")).await["duplicate"], true);
    let mut other = order_of_new_customer("o-1");
    other["recipient"]["tags"]["plan"] = json!("silver");
    assert_eq!(app.post(&other).await.0, 409);
}

#[tokio::test]
async fn facts_need_the_scope_that_changes_users() {
    let app = TestApp::start().await;
    let producer = app.key_with(vec![Scope::EventsWrite]).await;
    let event = order_of_new_customer("o-1");
    let (status, problem) = app.call(Method::POST, "/v1/events", Some(&producer), Some(&event)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("missing_scope")), "{problem}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM users").await, 0);
    let plain = order_shipped("o-1", "ann");
    assert_eq!(app.call(Method::POST, "/v1/events", Some(&producer), Some(&plain)).await.0, 202);
}

#[tokio::test]
async fn facts_of_a_test_event_decide_about_no_other_message() {
    let app = TestApp::start().await;
    let key = app.test_key().await;
    let event = order_of_new_customer("o-1");
    let (status, answer) = app.call(Method::POST, "/v1/events", Some(&key), Some(&event)).await;
    assert_eq!(status, 202, "{answer}");
    let id = answer["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(
        app.get(&format!("/v1/deliveries/{id}")).await["locale"],
        "de",
        "its own message is in German"
    );
    assert_eq!(app.get("/v1/users/external_id/ann").await["language"], Value::Null);
}

/// Two events with the same facts within a second are common: the second one's message must not wait for a write that
/// nobody makes.
#[tokio::test]
async fn the_same_facts_that_come_during_the_call_release_their_message_too() {
    let app = with_strict_onesignal().await;
    app.accept(&order_of_new_customer("o-1")).await;
    let onesignal = herald::domain::app::AppId("5a0d0000-0000-4000-8000-000000000001".parse().unwrap());
    let now = herald::domain::clock::Clock::now(app.clock.as_ref());
    let store = &app.herald.store;
    let claims =
        store.claim_user_writes(onesignal, 10, now + chrono::TimeDelta::seconds(90), now).await.unwrap();
    let [claim] = claims.as_slice() else { panic!("{claims:?}") };
    app.accept(&order_of_new_customer("o-2")).await;
    let written = herald::store::user_writes::WriteResult {
        user_id: claim.user,
        epoch: claim.epoch,
        version: claim.version,
        settled: claim.changes.to_json(),
        is_settled: true,
        due_at: now,
        attempts: 0,
        max_new_tags: None,
        is_in_doubt: false,
        is_called: true,
        confirm: json!({}),
        forgets: false,
        refuse: json!({}),
        onesignal_id: None,
        does_exist: true,
        next_at: now,
        holds_until: None,
        answer: "done",
        detail: String::new(),
    };
    store.record_user_writes(onesignal, &[written], now).await.unwrap();
    assert_eq!(
        app.sql::<i64>("SELECT count(DISTINCT user_id) FROM fact_waits").await,
        1,
        "the second event's"
    );
    app.run_for(3).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM fact_waits").await, 0);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM user_writes").await, 0);
}

#[tokio::test]
async fn a_message_that_expires_soon_is_sent_without_its_facts_rather_than_not_at_all() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "users", "kind": "status", "status": 503, "probability": 1.0})).await;
    let mut event = order_of_new_customer("o-1");
    event["expires_at"] = json!("2026-11-24T10:02:00Z");
    app.accept(&event).await;
    app.run_for(100).await;
    assert!(!app.messages().await.is_empty());
}
