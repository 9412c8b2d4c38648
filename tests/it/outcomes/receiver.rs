//! The receiver: who may report, and that everything is stored, once.

use std::time::Duration;

use serde_json::json;

use super::{delivery_by, kinds_of, report};
use crate::support::app::{STREAM_SECRET, TestApp, Wanted, order_shipped};

#[tokio::test]
async fn only_the_secret_and_the_one_before_it_are_accepted() {
    let old = "the-secret-before-it-was-changed-0123";
    let settings = vec![("HERALD_EVENT_STREAMS__PREVIOUS_SECRET", old.to_owned())];
    let app = TestApp::start_with(Wanted { settings, without_catalog: true, ..Wanted::default() }).await;
    let body = report("e-1", "push.sent", "m-1", "ann").to_string();
    for (secret, status) in [
        (STREAM_SECRET, 204),
        (old, 204),
        ("", 401),
        ("wrong", 401),
        (app.key.as_str(), 401),
        (&STREAM_SECRET[1..], 401),
    ] {
        assert_eq!(app.post_report(secret, body.clone()).await.status(), status, "{secret}");
    }
    let without = reqwest::Client::new().post(format!("{}/v1/onesignal/events", app.url)).body(body);
    assert_eq!(without.send().await.expect("an answer").status(), 401);
    assert_eq!((app.counted("received").await, app.counted("repeated").await), (2, 1));
}

#[tokio::test]
async fn whatever_is_in_a_body_is_answered_with_success_stored_sealed_and_counted() {
    let app = TestApp::start_with(Wanted { without_catalog: true, ..Wanted::default() }).await;
    for body in [
        "",
        "not json, ann@shop.example",
        "[]",
        "{\"kind\": 7",
        "{\"event_id\":\"e\",\"kind\":\"message.push.sent\",\"x\":\"\"",
    ] {
        assert_eq!(app.post_report(STREAM_SECRET, body).await.status(), 204, "{body}");
    }
    assert_eq!(app.post_report(STREAM_SECRET, vec![b'x'; 300_000]).await.status(), 204);
    app.record(&[]).await;
    assert_eq!((app.counted("received").await, app.counted("malformed").await), (6, 6));
    assert!(!app.dump().await.contains("ann@shop.example"), "bodies are sealed");
    let kept = app.herald.store.malformed_reports(10).await.expect("bodies");
    assert!(kept.iter().any(|kept| kept.body.contains("ann@shop.example")), "{kept:?}");
    app.advance(Duration::from_hours(31 * 24)).await;
    app.herald.api.archive.maintain().await.expect("maintained");
    assert!(
        app.herald.store.malformed_reports(10).await.expect("bodies").is_empty(),
        "they are kept for a month"
    );
}

#[tokio::test]
async fn an_event_is_counted_once_though_it_comes_again_after_midnight_and_29_days_later() {
    let app = TestApp::start().await;
    app.advance(Duration::from_secs(14 * 3_600 - 2)).await;
    let accepted = app.accept(&order_shipped("o-1", "ann")).await;
    app.run_until_idle().await;
    let delivery = delivery_by(&accepted, "order-shipped-push");
    let message = app.message_of(delivery).await;
    let sent = report("e-1", "push.sent", &message, "ann");
    app.record(std::slice::from_ref(&sent)).await;
    for wait in [2, 29 * 24 * 3_600] {
        app.advance(Duration::from_secs(wait)).await;
        app.herald.api.archive.maintain().await.expect("maintained");
        app.record(&[sent.clone(), sent.clone()]).await;
    }
    assert_eq!((app.counted("received").await, app.counted("repeated").await), (5, 4));
    assert_eq!(kinds_of(&app, delivery).await, ["sent"]);
    let counted: i64 = app.sql("SELECT sum(sent)::bigint FROM outcome_counts").await;
    assert_eq!(counted, 1);
}

#[tokio::test]
async fn a_call_that_can_not_be_stored_is_to_be_repeated() {
    let app = TestApp::start_with(Wanted { without_catalog: true, ..Wanted::default() }).await;
    app.herald.store.close().await;
    let answer = app.post_report(STREAM_SECRET, report("e-1", "push.sent", "m", "ann").to_string()).await;
    assert_eq!(answer.status(), 503);
    assert_eq!(answer.headers()["retry-after"], "1");
}

#[tokio::test]
async fn hundreds_of_calls_at_once_are_stored_in_few_commits_and_two_processes_store_none_twice() {
    let app = TestApp::start_with(Wanted { without_catalog: true, ..Wanted::default() }).await;
    let other = app.replica().await;
    let http = reqwest::Client::new();
    let calls = (0..400).map(|n| {
        let url = if n % 2 == 0 { &app.url } else { &other.url };
        let body = report(&format!("e-{}", n / 4), "push.sent", "m", "ann").to_string();
        http.post(format!("{url}/v1/onesignal/events")).bearer_auth(STREAM_SECRET).body(body).send()
    });
    for answer in futures_util::future::join_all(calls).await {
        assert_eq!(answer.expect("an answer").status(), 204);
    }
    let stored: i64 = app.sql("SELECT count(*) FROM outcome_reports").await;
    assert_eq!((stored, app.counted("received").await, app.counted("repeated").await), (100, 400, 300));
    let answer = app.post_report(STREAM_SECRET, json!({"kind": "message.push.sent"}).to_string()).await;
    assert_eq!(answer.status(), 204, "without an id it is known by its content");
}
