//! A newer event with the same collapse key replaces an older pending one; an older one that arrives late is
//! skipped.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

const RULE: &str = "payment-failed-sms";

fn keyed(id: &str, sequence: Option<i64>) -> Value {
    let mut event = payment_failed(id, "u");
    event["collapse_key"] = json!("order:1");
    if let Some(sequence) = sequence {
        event["sequence"] = json!(sequence);
    }
    event
}

fn later(id: &str, sequence: Option<i64>) -> Value {
    let mut event = keyed(id, sequence);
    event["send_after"] = json!("2026-11-24T10:01:00Z");
    event
}

async fn state(app: &TestApp, accepted: &Value) -> (String, String) {
    let delivery = app.delivery(accepted, RULE).await;
    let code = delivery["decisions"][0]["code"].as_str().unwrap_or("-").to_owned();
    (delivery["state"].as_str().expect("a state").to_owned(), code)
}

fn is(state: &str, code: &str) -> (String, String) {
    (state.to_owned(), code.to_owned())
}

#[tokio::test]
async fn a_newer_event_replaces_the_one_that_waits() {
    let app = TestApp::start().await;
    let old = app.accept(&later("p-1", Some(1))).await;
    let new = app.accept(&later("p-2", Some(2))).await;
    assert_eq!(state(&app, &old).await, is("skipped", "superseded"));
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert_eq!(state(&app, &new).await, is("accepted", "-"));
    assert_eq!(app.messages().await.len(), 1);
    let decision = &app.delivery(&old, RULE).await["decisions"][0];
    assert_eq!(decision["facts"]["event"], new["id"], "{decision}");
}

#[tokio::test]
async fn an_older_event_that_comes_late_is_skipped_even_when_the_newer_one_has_been_sent() {
    let app = TestApp::start().await;
    let new = app.accept(&keyed("p-2", Some(2))).await;
    app.run_until_idle().await;
    let old = app.accept(&keyed("p-1", Some(1))).await;
    app.run_until_idle().await;
    assert_eq!(old["deliveries"][0]["state"], "skipped");
    assert_eq!(state(&app, &old).await, is("skipped", "superseded"));
    assert_eq!(state(&app, &new).await, is("accepted", "-"));
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn without_sequences_the_order_of_arrival_counts() {
    let app = TestApp::start().await;
    let first = app.accept(&later("p-1", None)).await;
    let second = app.accept(&later("p-2", None)).await;
    assert_eq!(state(&app, &first).await, is("skipped", "superseded"));
    assert_eq!(state(&app, &second).await.0, "scheduled");
}

#[tokio::test]
async fn other_people_other_keys_and_other_sources_are_left_alone() {
    let app = TestApp::start().await;
    app.accept(&later("p-1", Some(1))).await;
    let mut other_person = later("p-2", Some(2));
    other_person["recipient"] = json!({"external_id": "somebody else"});
    app.accept(&other_person).await;
    let mut other_key = later("p-3", Some(3));
    other_key["collapse_key"] = json!("order:2");
    app.accept(&other_key).await;
    let stranger = app.key_of("warehouse").await;
    let posted =
        app.call(reqwest::Method::POST, "/v1/events", Some(&stranger), Some(&later("p-4", Some(4)))).await;
    assert_eq!(posted.0, 202, "{}", posted.1);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM queue").await, 4);
}

#[tokio::test]
async fn within_one_batch_only_the_newest_goes_out_wherever_it_stands() {
    let app = TestApp::start().await;
    let batch: Vec<Value> = [3, 5, 1, 4, 2].into_iter().map(|n| keyed(&format!("p-{n}"), Some(n))).collect();
    let path = "/v1/events/batch";
    let (status, body) = app.call(reqwest::Method::POST, path, Some(&app.key), Some(&json!(batch))).await;
    assert_eq!((status, &body["accepted"]), (202, &json!(5)), "{body}");
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert_eq!(messages.len(), 1, "{messages:?}");
    assert!(messages[0]["recipients"][0]["rendered"].to_string().contains("p-5"), "{}", messages[0]);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM decisions WHERE code = 'superseded'").await, 4);
}

#[tokio::test]
async fn what_may_have_been_sent_is_not_replaced() {
    let app = TestApp::start().await;
    app.fault(
        json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 1.0, "times": 1}),
    )
    .await;
    let old = app.accept(&keyed("p-1", Some(1))).await;
    app.run_until_idle().await;
    app.accept(&keyed("p-2", Some(2))).await;
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert_eq!(state(&app, &old).await.0, "accepted", "its call may have gone through, so it is settled");
    assert_eq!(app.messages().await.len(), 2);
}

#[tokio::test]
async fn who_replaces_one_that_waits_takes_its_place_in_the_throttle_too() {
    let app = TestApp::start().await;
    let rule = json!({"event": "payment.failed", "template": RULE, "throttle": {"max": 1, "within": "1h"}});
    app.put_rule(RULE, &rule).await;
    let old = app.accept(&later("p-1", Some(1))).await;
    let new = app.accept(&later("p-2", Some(2))).await;
    assert_eq!(state(&app, &old).await, is("skipped", "superseded"));
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert_eq!(state(&app, &new).await, is("accepted", "-"));
}

#[tokio::test]
async fn what_is_remembered_is_forgotten_after_thirty_days() {
    let app = TestApp::start().await;
    app.accept(&keyed("p-2", Some(2))).await;
    app.run_until_idle().await;
    app.advance(Duration::from_hours(29 * 24)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM collapse_heads").await, 1);
    app.advance(Duration::from_hours(2 * 24)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM collapse_heads").await, 0);
}

/// F13: shuffled events of 20 keys, posted at once to two replicas; the newest wins, and nothing older goes out after
/// something newer.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f13_shuffled_events_on_two_replicas_leave_the_newest() {
    let app = TestApp::start().await;
    let twin = app.replica().await;
    let event = |key: u64, sequence: u64| {
        let mut event = payment_failed(&format!("k{key}-s{sequence}"), "u");
        event["collapse_key"] = json!(format!("key-{key}"));
        event["sequence"] = json!(sequence);
        event["send_after"] = json!("2026-11-24T10:01:00Z");
        event
    };
    // A fixed shuffle: 7 is coprime to 10, and the two replicas get alternate ones.
    let post = |to: &TestApp, odd: u64| {
        let (url, key, client) = (format!("{}/v1/events", to.url), to.key.clone(), reqwest::Client::new());
        let events: Vec<Value> = (0..20_u64)
            .flat_map(|k| (0..10_u64).map(move |n| (k, n * 7 % 10)))
            .filter(|(_, sequence)| sequence % 2 == odd)
            .map(|(k, sequence)| event(k, sequence))
            .collect();
        async move {
            let posts = events.iter().map(|event| client.post(&url).bearer_auth(&key).json(event).send());
            for answer in futures_util::future::join_all(posts).await {
                assert_eq!(answer.expect("an answer").status().as_u16(), 202);
            }
        }
    };
    tokio::join!(post(&app, 0), post(&twin, 1));
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    let newest: i64 = app
        .sql("SELECT count(*) FROM deliveries d JOIN events e ON e.id = d.event_id WHERE d.state = 'accepted' AND e.sequence = 9")
        .await;
    let accepted: i64 = app.sql("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await;
    let skipped: i64 = app.sql("SELECT count(*) FROM decisions WHERE code = 'superseded'").await;
    assert_eq!((newest, accepted, skipped), (20, 20, 180));
}
