//! From an event to its outcome: Herald sends, the sandbox delivers and reports, and every view shows it.

use std::time::Duration;

use herald::access::Role;
use reqwest::Method;
use serde_json::{Value, json};

use super::{delivery_by, kinds_of};
use crate::attacks::logs::captured;
use crate::console::visitor::Visitor;
use crate::support::app::{TestApp, order_shipped};

/// Has a recipient do something with a message.
async fn act(app: &TestApp, message: &str, person: &str, deed: &str, details: Option<Value>) {
    let path = format!("/_sandbox/messages/{message}/recipients/{person}/{deed}");
    app.sandbox_call(Method::POST, &path, details).await;
}

#[tokio::test]
async fn what_the_sandbox_reports_is_in_the_delivery_the_event_and_the_console() {
    let app = TestApp::start().await;
    app.connect_streams().await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    app.run_until_idle().await;
    let (push, email) =
        (delivery_by(&accepted, "order-shipped-push"), delivery_by(&accepted, "order-shipped-email"));
    let (pushed, mailed) = (app.message_of(push).await, app.message_of(email).await);
    app.wait_for_reports(4).await;
    act(&app, &pushed, "ann", "click", None).await;
    let reason = json!({"reason": "550 \"ann@shop.example\" is\nunknown \\ here"});
    act(&app, &mailed, "ann", "bounce", Some(reason)).await;
    app.wait_for_reports(6).await;
    assert_eq!(kinds_of(&app, push).await, ["sent", "delivered", "clicked"]);
    assert_eq!(kinds_of(&app, email).await, ["sent", "delivered", "bounced"]);
    let trace = app.get(&format!("/v1/deliveries/{email}")).await;
    assert_eq!(trace["outcome"]["status"], "bounced");
    let bounced = &trace["outcomes"][2];
    assert_eq!(
        (&bounced["device"], &bounced["reason"]),
        (&json!("Email"), &json!("550 … is unknown \\ here"))
    );
    assert_eq!(
        app.counted("malformed").await,
        1,
        "OneSignal's quoting is not known, so the sandbox does not quote"
    );
    let event = app.get(&format!("/v1/events/{}", accepted["id"].as_str().expect("an id"))).await;
    assert_eq!(event["outcomes"].as_array().map(Vec::len), Some(6), "{event}");
    let page = Visitor::with_role(&app, Role::Viewer).await.get(&format!("/deliveries/{email}")).await;
    assert!(page.text.contains("bounced") && page.text.contains("550 … is unknown"), "{}", page.text);
    let streams = app.sandbox_call(Method::GET, "/_sandbox/event-streams", None).await;
    assert_eq!((&streams["data"][0]["failed"], &streams["data"][0]["disabled"]), (&json!(0), &json!(false)));
}

#[tokio::test]
async fn a_stream_that_was_disabled_is_noticed_within_20_minutes_and_so_is_its_return() {
    let (log, _guard) = captured();
    let app = TestApp::start().await;
    let mut messages = Vec::new();
    for n in 0..12 {
        let accepted = app.accept(&order_shipped(&format!("o-{n}"), "ann")).await;
        app.run_until_idle().await;
        messages.push(app.message_of(delivery_by(&accepted, "order-shipped-push")).await);
        messages.push(app.message_of(delivery_by(&accepted, "order-shipped-email")).await);
    }
    let look = async || {
        app.herald.api.archive.maintain().await.expect("maintained");
        app.get("/v1/stats").await["stream"].clone()
    };
    assert_eq!(look().await["state"], "no_data");
    app.advance(Duration::from_mins(16)).await;
    assert_eq!(look().await, json!({"state": "silent", "messages": 24, "reported": 0}));
    assert!(log.text().contains("OneSignal reported outcomes of 0 of 24 recent messages"), "{}", log.text());
    let page = Visitor::with_role(&app, Role::Viewer).await.get("/outcomes").await;
    assert!(page.text.contains("Event Streams is silent"), "{}", page.text);
    let late: Vec<Value> = messages
        .iter()
        .enumerate()
        .map(|(n, message)| super::report(&format!("e-{n}"), "push.sent", message, "ann"))
        .collect();
    app.record(&late).await;
    app.advance(Duration::from_mins(1)).await;
    assert_eq!(look().await["state"], "ok");
    assert!(log.text().contains("reports again"), "{}", log.text());
}

#[tokio::test]
async fn a_device_that_can_t_confirm_says_so_instead_of_undelivered() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    app.run_until_idle().await;
    let push = delivery_by(&accepted, "order-shipped-push");
    let mut sent = super::report("e-1", "push.sent", &app.message_of(push).await, "ann");
    sent["device"] = json!("Safari");
    app.record(&[sent]).await;
    let trace = app.get(&format!("/v1/deliveries/{push}")).await;
    let wanted = json!({"status": "sent", "note": "delivery is not measurable on this device type"});
    assert_eq!(trace["outcome"], wanted);
    let page = Visitor::with_role(&app, Role::Viewer).await.get(&format!("/deliveries/{push}")).await;
    assert!(page.text.contains("not measurable on this device type"), "{}", page.text);
    let measurable: i64 = app.sql("SELECT sum(measurable)::bigint FROM outcome_counts").await;
    assert_eq!(measurable, 0, "it is not in the denominator of the delivered rate");
}
