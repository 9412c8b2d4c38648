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
