//! The feed: every outcome once, in the order of commits, by page and as server-sent events.

use std::collections::BTreeSet;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{delivery_by, report};
use crate::support::app::{STREAM_SECRET, TestApp, Wanted, order_shipped};
use crate::support::processes::run;

async fn message(app: &TestApp, id: &str, user: &str) -> String {
    let accepted = app.accept(&order_shipped(id, user)).await;
    app.run_until_idle().await;
    app.message_of(delivery_by(&accepted, "order-shipped-push")).await
}

fn numbers(page: &Value) -> Vec<i64> {
    let data = page["data"].as_array().expect("outcomes").iter();
    data.map(|outcome| outcome["cursor"].as_str().and_then(|cursor| cursor.parse().ok()).expect("a number"))
        .collect()
}

/// Events of a stream until one contains `words`.
async fn read_until(stream: &mut reqwest::Response, words: &str) -> String {
    let mut text = String::new();
    while !text.contains(words) {
        let chunk = tokio::time::timeout(Duration::from_secs(20), stream.chunk()).await;
        let chunk = chunk.unwrap_or_else(|_| panic!("never `{words}`: {text}")).expect("a chunk");
        text.push_str(&String::from_utf8_lossy(&chunk.expect("the stream goes on")));
    }
    text
}

async fn open(app: &TestApp, query: &str, last: Option<&str>) -> reqwest::Response {
    let mut request = reqwest::Client::new().get(format!("{}/v1/outcomes{query}", app.url));
    request = request.bearer_auth(&app.key).header("accept", "text/event-stream");
    if let Some(last) = last {
        request = request.header("last-event-id", last);
    }
    request.send().await.expect("an answer")
}

#[tokio::test]
async fn the_order_system_learns_of_each_outcome_once_and_can_continue_anywhere() {
    let app = TestApp::start().await;
    let message = message(&app, "order-1001", "ann").await;
    assert_eq!(app.get("/v1/outcomes").await, json!({"data": [], "next_cursor": "0"}));
    let mut failed = report("e-2", "push.failed", &message, "ann");
    failed["failure_reason"] = json!("token of ann@shop.example is gone");
    app.record(&[
        report("e-1", "push.sent", &message, "ann"),
        failed,
        report("e-1", "push.sent", &message, "ann"),
    ])
    .await;
    app.record(&[report("e-3", "push.sent", &message, "ann")]).await;
    let page = app.get("/v1/outcomes").await;
    assert_eq!(
        (numbers(&page), &page["next_cursor"]),
        (vec![1, 2], &json!("2")),
        "a known fact is not news: {page}"
    );
    let second = &page["data"][1];
    for (field, wanted) in [
        ("kind", json!("failed")),
        ("event_key", json!("order-1001")),
        ("event_type", json!("order.shipped")),
        ("recipient", json!({"external_id": "ann"})),
        ("device", json!("iOS")),
        ("reason", json!("token of … is gone")),
    ] {
        assert_eq!(second[field], wanted, "{field}");
    }
    assert_eq!(numbers(&app.get("/v1/outcomes?after=1").await), [2]);
    assert_eq!(numbers(&app.get("/v1/outcomes?limit=1").await), [1]);
    for wrong in ["after=x", "after=-1", "after=99", "limit=0"] {
        let (status, _) = app.call(Method::GET, &format!("/v1/outcomes?{wrong}"), Some(&app.key), None).await;
        assert_eq!(status, 400, "{wrong}");
    }
    app.advance(Duration::from_hours(31 * 24)).await;
    app.herald.api.archive.maintain().await.expect("maintained");
    let (status, problem) = app.call(Method::GET, "/v1/outcomes?after=1", Some(&app.key), None).await;
    assert_eq!((status, &problem["code"]), (410, &json!("cursor_gone")));
    assert!(problem["detail"].as_str().expect("a detail").ends_with("continue after 2"), "{problem}");
    assert_eq!(open(&app, "", Some("1")).await.status(), 410);
    assert_eq!(app.get("/v1/outcomes?after=2").await["data"], json!([]));
}

#[tokio::test]
async fn a_stream_follows_live_and_continues_after_the_last_id_when_it_was_cut() {
    let app = TestApp::start().await;
    let message = message(&app, "o-1", "ann").await;
    app.record(&[report("e-1", "push.sent", &message, "ann")]).await;
    let mut stream = open(&app, "", None).await;
    assert_eq!(stream.headers()["content-type"], "text/event-stream");
    read_until(&mut stream, "id: 1\nevent: outcome\ndata: ").await;
    app.record(&[report("e-2", "push.received", &message, "ann")]).await;
    read_until(&mut stream, "id: 2\n").await;
    drop(stream);
    app.record(&[report("e-3", "push.clicked", &message, "ann")]).await;
    let mut stream = open(&app, "?after=latest", Some("2")).await;
    let text = read_until(&mut stream, "id: 3\n").await;
    assert!(!text.contains("id: 2\n"), "{text}");
    let tail = run(
        &["events", "tail", "--after", "1", "--count", "2"],
        &[("HERALD_URL", &app.url), ("HERALD_KEY", &app.key)],
    )
    .await;
    let text = String::from_utf8_lossy(&tail.stdout).into_owned();
    assert_eq!(text.lines().count(), 2, "{tail:?}");
    assert!(text.contains("clicked") && text.contains("to ann on iOS, event o-1"), "{text}");
}

#[tokio::test]
async fn readers_miss_nothing_while_several_processes_record() {
    let app = TestApp::start().await;
    let third = Wanted {
        database: Some(app.database.clone()),
        sandbox_url: Some(app.sandbox_url.clone()),
        without_catalog: true,
        seed: 10,
        ..Wanted::default()
    };
    let others = [app.replica().await, TestApp::start_with(third).await];
    let mut messages = Vec::new();
    for n in 0..8 {
        messages.push(message(&app, &format!("o-{n}"), &format!("user-{n}")).await);
    }
    let wanted = i64::try_from(messages.len() * 12).expect("a count");
    let processes = [&app, &others[0], &others[1]];
    let write = async {
        for round in 0..12 {
            let posts = messages.iter().enumerate().map(|(n, message)| {
                let mut one = report(&format!("e-{round}-{n}"), "push.sent", message, &format!("user-{n}"));
                one["subscription_id"] = json!(format!("device-{round}"));
                processes[(round + n) % 3].post_report(STREAM_SECRET, one.to_string())
            });
            futures_util::future::join_all(posts).await;
            let rounds = processes.iter().map(|process| process.herald.api.archive.run_until_idle());
            for recorded in futures_util::future::join_all(rounds).await {
                recorded.expect("the database answers");
            }
        }
        app.herald.api.archive.run_until_idle().await.expect("the database answers");
    };
    let read = async |process: &TestApp| {
        let (mut seen, mut cursor) = (Vec::new(), "0".to_owned());
        while seen.len() < usize::try_from(wanted).expect("a count") {
            let page = process.get(&format!("/v1/outcomes?after={cursor}&limit=7")).await;
            seen.extend(numbers(&page));
            page["next_cursor"].as_str().expect("a cursor").clone_into(&mut cursor);
        }
        seen
    };
    let all = async { tokio::join!(write, read(&app), read(&others[0]), read(&others[1])) };
    let ((), first, second, third) =
        tokio::time::timeout(Duration::from_mins(2), all).await.expect("in time");
    for seen in [first, second, third] {
        assert!(seen.is_sorted(), "{seen:?}");
        assert_eq!(seen.into_iter().collect::<BTreeSet<_>>(), (1..=wanted).collect());
    }
    let stored: i64 = app.sql("SELECT count(*) FROM outcomes").await;
    assert_eq!(stored, wanted);
}
