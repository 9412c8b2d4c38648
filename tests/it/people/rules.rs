//! Rules that tag users and track custom events: carried out, and visible on their event.

use serde_json::{Value, json};

use super::{calls, with_strict_onesignal};
use crate::support::app::{TestApp, order_shipped};

async fn put_rules(app: &TestApp) {
    let tag = json!({
        "event": "order.shipped", "description": "remember the last order",
        "tag": {"last_order": "data.order_id", "has_ordered": "true"},
    });
    app.put_rule("order-shipped-tag", &tag).await;
    let track = json!({
        "event": "order.shipped", "description": "start the Journey",
        "track": {"name": "order_shipped", "properties": {"order": "data.order_id"}},
    });
    app.put_rule("order-shipped-track", &track).await;
}

/// An event's actions: kind, state and detail.
async fn actions(app: &TestApp, accepted: &Value) -> Vec<(String, String, String)> {
    let shown = app.get(accepted["trace_url"].as_str().expect("as described")).await;
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut actions: Vec<_> = shown["actions"]
        .as_array()
        .unwrap_or_else(|| panic!("{shown}"))
        .iter()
        .map(|action| (text(&action["kind"]), text(&action["state"]), text(&action["detail"])))
        .collect();
    actions.sort();
    actions
}

#[tokio::test]
async fn a_tag_rule_tags_the_user_and_a_track_rule_feeds_the_journey() {
    let app = with_strict_onesignal().await;
    app.put_user("external_id/ann", &json!({})).await;
    app.run_for(8).await;
    put_rules(&app).await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    let planned = actions(&app, &accepted).await;
    assert!(planned.iter().all(|(_, state, _)| state == "planned"), "{planned:?}");
    app.run_for(3).await;
    let there = app.onesignal_user("external_id", "ann").await;
    assert_eq!(there["properties"]["tags"]["has_ordered"], "true", "{there}");
    let events = app.sandbox_call(reqwest::Method::GET, "/_sandbox/custom-events", None).await;
    assert_eq!(events["data"][0]["name"], "order_shipped", "{events}");
    assert_eq!(events["data"][0]["external_id"], "ann");
    let done = actions(&app, &accepted).await;
    assert_eq!(done.len(), 2);
    assert!(done.iter().all(|(_, state, _)| state == "done"), "{done:?}");
}

#[tokio::test]
async fn tags_for_someone_whom_onesignal_does_not_know_are_refused_with_the_reason() {
    let app = with_strict_onesignal().await;
    put_rules(&app).await;
    let accepted = app.accept(&order_shipped("o-1", "nobody")).await;
    app.run_for(3).await;
    let ended = actions(&app, &accepted).await;
    assert_eq!(ended[0].1, "refused", "{ended:?}");
    assert!(ended[0].2.starts_with("unknown_user"), "{ended:?}");
}

#[tokio::test]
async fn a_lost_reply_sends_a_custom_event_again_and_onesignal_has_it_once() {
    let app = with_strict_onesignal().await;
    put_rules(&app).await;
    app.fault(json!({"endpoint": "events", "kind": "reset_after", "probability": 1.0})).await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    app.run_for(2).await;
    app.clear_faults().await;
    app.run_for(10).await;
    let events = app.sandbox_call(reqwest::Method::GET, "/_sandbox/custom-events", None).await;
    assert_eq!(events["data"].as_array().unwrap().len(), 1, "{events}");
    assert!(calls(&app, "custom_events.create").await >= 2);
    let ended = actions(&app, &accepted).await;
    assert_eq!((ended[1].0.as_str(), ended[1].1.as_str()), ("track", "done"), "{ended:?}");
}

#[tokio::test]
async fn an_event_that_onesignal_does_not_confirm_within_three_hours_is_given_up() {
    let app = with_strict_onesignal().await;
    put_rules(&app).await;
    app.fault(json!({"endpoint": "events", "kind": "status", "status": 503, "probability": 1.0})).await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    app.run_until_idle().await;
    app.advance(std::time::Duration::from_secs(3 * 3600 + 1)).await;
    app.clear_faults().await;
    app.run_until_idle().await;
    let ended = actions(&app, &accepted).await;
    assert_eq!((ended[1].0.as_str(), ended[1].1.as_str()), ("track", "expired"), "{ended:?}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM custom_events").await, 0);
}

#[tokio::test]
async fn an_app_whose_plan_has_no_custom_events_says_so_and_its_users_are_still_written() {
    let app = TestApp::start().await;
    put_rules(&app).await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    app.run_for(3).await;
    let ended = actions(&app, &accepted).await;
    assert_eq!(ended[0].1, "done", "{ended:?}");
    assert_eq!(ended[1].1, "refused", "{ended:?}");
    assert!(ended[1].2.contains("plan"), "{ended:?}");
}

#[tokio::test]
async fn an_address_is_no_user_to_tag_or_track() {
    let app = TestApp::start().await;
    put_rules(&app).await;
    let mut event = order_shipped("o-1", "ann");
    event["recipient"] = json!({"email": "ann@shop.example"});
    let accepted = app.accept(&event).await;
    let shown = app.get(accepted["trace_url"].as_str().unwrap()).await;
    let details: Vec<&str> = shown["decisions"]
        .as_array()
        .unwrap()
        .iter()
        .filter_map(|decision| decision["detail"].as_str())
        .collect();
    assert!(details.iter().any(|detail| detail.contains("not by `email`")), "{details:?}");
    assert!(actions(&app, &accepted).await.is_empty());
}

#[tokio::test]
async fn an_action_is_refused_if_one_of_its_own_tags_is_and_no_other_is_blamed() {
    // The free plan has room for two tags.
    let app = TestApp::start().await;
    put_rules(&app).await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    app.run_for(3).await;
    let tag = json!({"event": "order.shipped", "tag": {"third": "'x'"}});
    app.put_rule("order-shipped-third", &tag).await;
    let later = app.accept(&order_shipped("o-2", "ann")).await;
    app.run_for(10).await;
    let of_rule = async |accepted: &Value, rule: &str| {
        let shown = app.get(accepted["trace_url"].as_str().unwrap()).await;
        let actions = shown["actions"].as_array().unwrap().clone();
        actions.into_iter().find(|action| action["rule"] == rule).unwrap_or_else(|| panic!("{shown}"))
    };
    assert_eq!(of_rule(&accepted, "order-shipped-tag").await["state"], "done");
    assert_eq!(of_rule(&later, "order-shipped-tag").await["state"], "done", "its tags fit");
    let third = of_rule(&later, "order-shipped-third").await;
    assert_eq!(third["state"], "refused", "{third}");
    assert!(third["detail"].as_str().unwrap().starts_with("tag_limit"), "{third}");
}

#[tokio::test]
async fn custom_events_that_were_refused_together_are_tried_in_halves() {
    let app = with_strict_onesignal().await;
    put_rules(&app).await;
    app.fault(json!({"endpoint": "events", "kind": "status", "status": 400, "times": 1})).await;
    for n in 0..5 {
        app.accept(&order_shipped(&format!("o-{n}"), "ann")).await;
    }
    app.run_for(2).await;
    let events = app.sandbox_call(reqwest::Method::GET, "/_sandbox/custom-events", None).await;
    assert_eq!(events["data"].as_array().unwrap().len(), 5, "{events}");
    assert_eq!(calls(&app, "custom_events.create").await, 3);
}

#[tokio::test]
async fn a_custom_event_of_a_process_that_died_during_the_call_is_sent_by_another_and_counts_once() {
    let app = with_strict_onesignal().await;
    put_rules(&app).await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    let onesignal = herald::domain::app::AppId("5a0d0000-0000-4000-8000-000000000001".parse().unwrap());
    let now = herald::domain::clock::Clock::now(app.clock.as_ref());
    let until = now + chrono::TimeDelta::seconds(90);
    let claimed = app.herald.store.claim_custom_events(onesignal, 10, until, now).await.unwrap();
    // Its call arrives, and it is gone before the answer is recorded.
    let body = json!({"events": [{
        "name": claimed[0].event.name, "external_id": "ann", "idempotency_key": claimed[0].event.id,
        "properties": claimed[0].event.properties,
    }]});
    let path = "/apps/5a0d0000-0000-4000-8000-000000000001/custom_events";
    app.sandbox_call(reqwest::Method::POST, path, Some(body)).await;
    app.run_for(2).await;
    assert_eq!(actions(&app, &accepted).await[1].1, "planned");
    app.advance(std::time::Duration::from_secs(91)).await;
    app.run_for(2).await;
    assert_eq!(actions(&app, &accepted).await[1].1, "done");
    let events = app.sandbox_call(reqwest::Method::GET, "/_sandbox/custom-events", None).await;
    assert_eq!(events["data"].as_array().unwrap().len(), 1, "{events}");
}
