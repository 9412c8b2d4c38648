//! Reports are joined to deliveries, whenever they come and in whatever order.

use std::time::Duration;

use rand::SeedableRng;
use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use serde_json::{Value, json};

use super::{delivery_by, kinds_of, report};
use crate::support::app::{STREAM_SECRET, TestApp, order_shipped};

/// A push that was sent: its delivery, and OneSignal's id of the message.
async fn pushed(app: &TestApp, id: &str, user: &str) -> (String, String) {
    let accepted = app.accept(&order_shipped(id, user)).await;
    app.run_until_idle().await;
    let delivery = delivery_by(&accepted, "order-shipped-push").to_owned();
    let message = app.message_of(&delivery).await;
    (delivery, message)
}

async fn counts(app: &TestApp) -> Value {
    let row =
        "SELECT jsonb_build_object('accepted', sum(accepted), 'reported', sum(reported), 'sent', sum(sent),
            'delivered', sum(delivered), 'failed', sum(failed), 'devices', sum(devices),
            'devices_delivered', sum(devices_delivered), 'clicked', sum(clicked), 'bounced', sum(bounced))
        FROM outcome_counts
        WHERE rule_key = 'order-shipped-push'";
    app.sql(row).await
}

#[tokio::test]
async fn a_report_that_is_earlier_than_the_answer_waits_for_it_and_is_joined() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    let delivery = delivery_by(&accepted, "order-shipped-push");
    // The message is known to OneSignal once the call was made; here the answer is recorded later.
    app.run_until_idle().await;
    let message = app.message_of(delivery).await;
    app.execute("CREATE TABLE hidden AS SELECT * FROM provider_messages").await;
    app.execute("DELETE FROM provider_messages").await;
    app.record(&[
        report("e-1", "push.sent", &message, "ann"),
        report("e-2", "push.received", &message, "ann"),
    ])
    .await;
    assert_eq!(app.counted("parked").await, 2);
    assert!(kinds_of(&app, delivery).await.is_empty());
    app.execute("INSERT INTO provider_messages (id, batch_id, accepted_at, due_at) SELECT id, batch_id, accepted_at, accepted_at FROM hidden")
        .await;
    app.execute("UPDATE outcome_counts SET accepted = 0").await;
    app.run_until_idle().await;
    assert_eq!(kinds_of(&app, delivery).await, ["sent", "delivered"]);
    let left: i64 = app.sql("SELECT count(*) FROM outcome_reports").await;
    assert_eq!((left, app.counted("joined").await, app.counted("foreign").await), (0, 2, 0));
}

#[tokio::test]
async fn a_report_of_an_unknown_message_is_foreign_after_a_quarter_of_an_hour() {
    let app = TestApp::start().await;
    app.record(&[
        report("e-1", "push.sent", "someone-else-s", "ann"),
        report("e-2", "iam.impression", "", "ann"),
    ])
    .await;
    assert_eq!(
        (app.counted("parked").await, app.counted("foreign").await),
        (1, 1),
        "without a message it is foreign"
    );
    app.advance(Duration::from_mins(14)).await;
    app.run_until_idle().await;
    assert_eq!(app.counted("foreign").await, 1);
    app.advance(Duration::from_mins(1)).await;
    app.run_until_idle().await;
    let left: i64 = app.sql("SELECT count(*) FROM outcome_reports").await;
    assert_eq!((app.counted("foreign").await, left), (2, 0));
    assert_eq!(counts(&app).await["reported"], Value::Null, "it is counted nowhere else");
}

#[tokio::test]
async fn three_devices_of_one_person_are_one_delivered_person() {
    let app = TestApp::start().await;
    let (delivery, message) = pushed(&app, "o-1", "ann").await;
    let mut reports = Vec::new();
    for (n, kind) in ["push.received", "push.failed", "push.failed"].into_iter().enumerate() {
        let mut one = report(&format!("e-{n}"), kind, &message, "ann");
        one["subscription_id"] = json!(format!("device-{n}"));
        one["failure_reason"] = json!(if n > 0 { "BadDeviceToken" } else { "" });
        reports.push(one);
    }
    app.record(&reports).await;
    let counted = counts(&app).await;
    let wanted = json!({
        "accepted": 1, "reported": 1, "sent": 1, "delivered": 1, "failed": 0, "devices": 3, "devices_delivered": 1,
        "clicked": 0, "bounced": 0,
    });
    assert_eq!(counted, wanted);
    let trace = app.get(&format!("/v1/deliveries/{delivery}")).await;
    assert_eq!(trace["outcome"]["status"], "delivered");
    let failed =
        trace["outcomes"].as_array().expect("outcomes").iter().filter(|o| o["reason"] == "BadDeviceToken");
    assert_eq!(failed.count(), 2, "{trace}");
}

#[tokio::test]
async fn each_person_of_a_shared_call_gets_their_own_outcomes() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "ann");
    event.as_object_mut().expect("an event").remove("recipient");
    event["recipients"] = json!([{"external_id": "ann"}, {"external_id": "ben"}, {"external_id": "cleo"}]);
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    let deliveries = accepted["deliveries"].as_array().expect("deliveries");
    let pushes: Vec<&str> = deliveries
        .iter()
        .filter(|delivery| delivery["rule"] == "order-shipped-push")
        .map(|delivery| delivery["id"].as_str().expect("an id"))
        .collect();
    let message = app.message_of(pushes[0]).await;
    assert_eq!(message, app.message_of(pushes[2]).await, "one call for all");
    app.record(&[
        report("e-1", "push.sent", &message, "ann"),
        report("e-2", "push.failed", &message, "ben"),
        report("e-3", "push.sent", &message, "nobody-of-them"),
    ])
    .await;
    let mut kinds = Vec::new();
    for push in pushes {
        kinds.push(kinds_of(&app, push).await.join(" "));
    }
    kinds.sort();
    assert_eq!(kinds, ["", "failed", "sent"]);
    assert_eq!((app.counted("joined").await, app.counted("unattributed").await), (2, 1));
    let counted = counts(&app).await;
    assert_eq!((&counted["accepted"], &counted["reported"]), (&json!(3), &json!(2)));
}

#[tokio::test]
async fn any_order_any_grouping_and_any_repetition_give_the_same_rows_and_counts() {
    let app = TestApp::start().await;
    let mut random = StdRng::seed_from_u64(7);
    let mut seen = std::collections::BTreeSet::new();
    for round in 0..12 {
        let (delivery, message) = pushed(&app, &format!("o-{round}"), &format!("user-{round}")).await;
        let mut reports: Vec<Value> = Vec::new();
        for (n, (kind, device, seconds)) in [
            ("push.sent", "a", 0),
            ("push.failed", "a", 1),
            ("push.sent", "b", 0),
            ("push.received", "b", 2),
            ("push.clicked", "b", 5),
            ("push.clicked", "b", 90),
            ("push.teleported", "b", 7),
            ("push.unsubscribed", "b", 95),
        ]
        .into_iter()
        .enumerate()
        {
            let mut one = report(&format!("e-{round}-{n}"), kind, &message, &format!("user-{round}"));
            one["subscription_id"] = json!(device);
            one["ts"] = json!(1_795_514_400 + seconds);
            reports.push(one);
        }
        reports.extend(reports.clone());
        reports.shuffle(&mut random);
        for part in reports.chunks(1 + round % 5) {
            app.record(part).await;
        }
        let trace = app.get(&format!("/v1/deliveries/{delivery}")).await;
        let text = json!([trace["outcome"], trace["outcomes"]]).to_string();
        seen.insert(text.replace(&delivery, "dlv"));
    }
    assert_eq!(seen.len(), 1, "{seen:#?}");
    assert!(
        seen.first().expect("one").contains("message.push.teleported"),
        "unknown kinds are kept: {seen:?}"
    );
    let counted = counts(&app).await;
    assert_eq!(
        (&counted["delivered"], &counted["clicked"], &counted["devices"]),
        (&json!(12), &json!(12), &json!(24))
    );
}

#[tokio::test]
async fn a_reason_that_breaks_the_json_is_read_and_shown() {
    let app = TestApp::start().await;
    let (delivery, message) = pushed(&app, "o-1", "ann").await;
    let whole = report("e-1", "push.failed", &message, "ann").to_string();
    let body = whole.replace("\"failure_reason\":\"\"", "\"failure_reason\":\"said \"no\" to \\ and\nleft\"");
    // The reason is the last field of the configured body.
    let body = format!(
        "{},{}",
        body.replace(",\"failure_reason\":\"said \"no\" to \\ and\nleft\"", "").trim_end_matches('}'),
        "\"failure_reason\":\"said \"no\" to \\ and\nleft\"}"
    );
    assert_eq!(app.post_report(STREAM_SECRET, body).await.status(), 204);
    app.run_until_idle().await;
    let trace = app.get(&format!("/v1/deliveries/{delivery}")).await;
    assert_eq!(trace["outcomes"][0]["reason"], "said \"no\" to \\ and left", "{trace}");
    assert_eq!(app.counted("malformed").await, 1);
}
