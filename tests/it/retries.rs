//! The retry table, row by row: OneSignal's answers and what follows from them.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

const RULE: &str = "payment-failed-sms";

async fn fail(app: &TestApp, fault: Value) -> Value {
    app.fault(fault).await;
    let accepted = app.accept(&payment_failed("p-1", "user-42")).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    accepted
}

fn status(status: u16) -> Value {
    json!({"endpoint": "notifications", "kind": "status", "status": status, "probability": 1.0})
}

/// The distinct keys of a delivery's attempts, and how many attempts there were.
fn keys(delivery: &Value) -> (usize, usize) {
    let attempts = delivery["attempts"].as_array().expect("attempts");
    let keys: std::collections::HashSet<&str> =
        attempts.iter().map(|a| a["idempotency_key"].as_str().expect("a key")).collect();
    (keys.len(), attempts.len())
}

#[tokio::test]
async fn what_may_have_been_sent_is_tried_again_under_the_same_key_once_onesignal_has_given_up_on_it() {
    for fault in [
        status(500),
        status(503),
        status(408),
        json!({"endpoint": "notifications", "kind": "truncate", "probability": 1.0}),
        json!({"endpoint": "notifications", "kind": "html", "probability": 1.0}),
        json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0}),
    ] {
        let app = TestApp::start().await;
        let accepted = fail(&app, fault.clone()).await;
        let delivery = app.delivery(&accepted, RULE).await;
        assert_eq!(delivery["state"], "retrying", "{fault}: {delivery}");
        app.advance(Duration::from_secs(99)).await;
        app.run_until_idle().await;
        assert_eq!(
            app.delivery(&accepted, RULE).await["attempts"].as_array().unwrap().len(),
            1,
            "{fault}: too early"
        );
        app.advance(Duration::from_secs(2)).await;
        app.run_until_idle().await;
        let delivery = app.delivery(&accepted, RULE).await;
        assert_eq!(
            (&delivery["state"], keys(&delivery)),
            (&json!("accepted"), (1, 2)),
            "{fault}: {delivery}"
        );
        assert_eq!(app.messages().await.len(), 1, "{fault}: one effect");
    }
}

#[tokio::test]
async fn a_lost_reply_is_replayed_and_nobody_gets_a_second_message() {
    let app = TestApp::start().await;
    let accepted =
        fail(&app, json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0})).await;
    app.advance(Duration::from_secs(101)).await;
    app.run_until_idle().await;
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!(delivery["attempts"][1]["replayed"], true);
    assert_eq!(app.stats().await["idempotent_replays"], 1);
}

#[tokio::test]
async fn without_a_connection_nothing_was_sent_and_it_is_tried_again() {
    let app = TestApp::start().await;
    let good = app.sandbox_url.clone();
    app.execute("UPDATE apps SET base_url = 'http://127.0.0.1:1/'").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let accepted = app.accept(&payment_failed("p-1", "user-42")).await;
    app.run_until_idle().await;
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!(
        (&delivery["state"], &delivery["attempts"][0]["answer"]),
        (&json!("retrying"), &json!("not_connected"))
    );
    let mut connection = <sqlx::PgConnection as sqlx::Connection>::connect(&app.database).await.unwrap();
    sqlx::query("UPDATE apps SET base_url = $1")
        .bind(format!("{good}/"))
        .execute(&mut connection)
        .await
        .unwrap();
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    app.advance(Duration::from_secs(6)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn after_a_429_the_whole_app_rests_as_long_as_onesignal_asks() {
    let app = TestApp::start().await;
    let limited = json!({"endpoint": "notifications", "kind": "status", "status": 429, "probability": 1.0, "retry_after": 30});
    let accepted = fail(&app, limited).await;
    let calls = || async { app.stats().await["calls"]["notifications"].clone() };
    let before = calls().await;
    let other = app.accept(&payment_failed("p-2", "user-7")).await;
    app.advance(Duration::from_secs(29)).await;
    app.run_until_idle().await;
    assert_eq!(calls().await, before, "no call during the pause");
    app.advance(Duration::from_secs(5)).await;
    app.run_until_idle().await;
    for accepted in [&accepted, &other] {
        assert_eq!(app.delivery(accepted, RULE).await["state"], "accepted");
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM gates").await, 0, "the gate is open again");
}

#[tokio::test]
async fn a_refused_key_closes_the_app_and_costs_no_try() {
    for code in [401, 403] {
        let app = TestApp::start().await;
        let accepted = fail(&app, status(code)).await;
        let delivery = app.delivery(&accepted, RULE).await;
        assert_eq!(
            (&delivery["state"], &delivery["decisions"][0]["code"]),
            (&json!("queued"), &json!("gated")),
            "it rests behind the gate"
        );
        assert_eq!(app.sql::<i16>("SELECT attempts FROM queue").await, 0);
        app.advance(Duration::from_secs(61)).await;
        app.run_until_idle().await;
        assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
        assert_eq!(app.messages().await.len(), 1);
    }
}

#[tokio::test]
async fn a_template_that_onesignal_has_lost_is_uploaded_again() {
    let app = TestApp::start().await;
    let id: String = app
        .sql(
            "SELECT u.provider_template_id FROM template_uploads u
             JOIN template_versions v ON v.id = u.version_id JOIN templates t ON t.id = v.template_id
             WHERE t.key = 'payment-failed-sms'",
        )
        .await;
    let path = format!("/templates/{id}?app_id=5a0d0000-0000-4000-8000-000000000001");
    app.sandbox_call(Method::DELETE, &path, None).await;
    let accepted = app.accept(&payment_failed("p-1", "user-42")).await;
    app.run_until_idle().await;
    app.advance(Duration::from_secs(6)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
    assert_eq!(app.messages().await[0]["recipients"][0]["blanks"], json!([]));
}

#[tokio::test]
async fn a_refused_batch_is_taken_apart_until_the_bad_one_stands_alone() {
    let app = TestApp::start().await;
    app.fault(status(400)).await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..4).map(|n| json!({"external_id": format!("u{n}")})).collect();
    app.accept(&event).await;
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'rejected'").await, 4);
    let sizes: Vec<i32> = app.sql("SELECT array_agg(cardinality(members) ORDER BY id) FROM batches").await;
    assert_eq!(sizes.iter().filter(|size| **size == 1).count(), 4, "{sizes:?}");
    assert_eq!(sizes.iter().filter(|size| **size == 4).count(), 1, "{sizes:?}");
}

#[tokio::test]
async fn nobody_subscribed_is_checked_once_more_and_then_unreachable() {
    let app = TestApp::start().await;
    let person = json!({"external_id": "user-42", "subscriptions": []});
    app.sandbox_call(Method::POST, "/_sandbox/users", Some(person)).await;
    let accepted = app.accept(&payment_failed("p-1", "user-42")).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "scheduled", "one recheck, half a minute later");
    app.advance(Duration::from_secs(31)).await;
    app.run_until_idle().await;
    let delivery = app.delivery(&accepted, RULE).await;
    assert_eq!(delivery["state"], "unreachable");
    let codes: Vec<&Value> = delivery["decisions"].as_array().unwrap().iter().map(|d| &d["code"]).collect();
    assert_eq!(codes, [&json!("retried"), &json!("unreachable")]);
}

#[tokio::test]
async fn those_without_a_subscription_are_unreachable_and_the_others_accepted() {
    let app = TestApp::start().await;
    let person = json!({"external_id": "u1", "subscriptions": [{"type": "SMS", "token": "+4915112345678", "enabled": false}]});
    app.sandbox_call(Method::POST, "/_sandbox/users", Some(person)).await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..3).map(|n| json!({"external_id": format!("u{n}")})).collect();
    app.accept(&event).await;
    app.run_until_idle().await;
    assert_eq!(
        app.sql::<String>("SELECT recipient_id FROM deliveries WHERE state = 'unreachable'").await,
        "u1"
    );
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 2);
}

#[tokio::test]
async fn what_is_doubtful_for_twenty_five_days_ends_unknown_and_is_not_sent_again() {
    let app = TestApp::start().await;
    app.fault(status(500)).await;
    let mut event = payment_failed("p-1", "user-42");
    event["expires_at"] = json!("2027-02-01T00:00:00Z");
    let rule = "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\nexpires_in = \"60d\"\n";
    app.apply(&[("rules/payment-failed-sms.toml", rule)]).await;
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    app.fault(status(500)).await;
    app.advance(Duration::from_hours(624)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "unknown");
}

#[tokio::test]
async fn a_batch_that_can_t_be_made_the_same_again_is_not_sent() {
    let app = TestApp::start().await;
    let accepted = fail(&app, status(500)).await;
    app.execute("UPDATE event_payloads SET data = '{\"invoice\":\"other\",\"amount\":\"2 EUR\",\"pay_url\":\"https://shop.example/pay\"}'")
        .await;
    app.advance(Duration::from_secs(101)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "unknown");
    assert!(app.messages().await.is_empty());
}
