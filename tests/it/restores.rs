//! The database is restored from a backup, and sources post again what was lost.

use std::collections::BTreeMap;
use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, payment_failed, start_of_time};
use crate::support::database::{self, Database};

/// The service on a database, with the sandbox of another one.
async fn on(database: &Database, sandbox: &TestApp) -> TestApp {
    let app = TestApp::start_with(Wanted {
        database: Some(database.clone()),
        sandbox_url: Some(sandbox.sandbox_url.clone()),
        without_catalog: true,
        seed: 3,
        ..Wanted::default()
    })
    .await;
    app.herald.pipeline.watch_database().await.expect("the database answers");
    app
}

async fn post(app: &TestApp, events: &[Value]) {
    let body = json!(events);
    let (status, body) = app.call(Method::POST, "/v1/events/batch", Some(&app.key), Some(&body)).await;
    assert_eq!((status, &body["accepted"]), (202, &json!(events.len())), "{body}");
    app.run_until_idle().await;
}

/// How many messages each recipient got.
async fn received(sandbox: &TestApp) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for message in sandbox.messages().await {
        for recipient in message["recipients"].as_array().expect("recipients") {
            *counts.entry(recipient["external_id"].as_str().expect("an id").to_owned()).or_default() += 1;
        }
    }
    counts
}

#[tokio::test]
async fn only_what_had_shared_a_call_can_arrive_twice_after_a_restore() {
    let sandbox = TestApp::start().await;
    sandbox.herald.pipeline.watch_database().await.expect("the database answers");
    let event = |n: usize| payment_failed(&format!("p-{n}"), &format!("user-{n}"));
    // These wait in the backup, and are sent in sequence before it is needed.
    for n in 20..23 {
        let mut waiting = event(n);
        waiting["send_after"] = json!(format!("2026-11-24T10:00:{n}Z"));
        sandbox.accept(&waiting).await;
    }
    sandbox.herald.store.close().await;
    let backup = database::copy_of(&sandbox.database).await;

    let lost = on(&sandbox.database, &sandbox).await;
    lost.advance(Duration::from_secs(19)).await;
    for _ in 20..23 {
        lost.advance(Duration::from_secs(1)).await;
        lost.run_until_idle().await;
    }
    let events: Vec<Value> = (0..12).map(event).collect();
    for alone in &events[..8] {
        post(&lost, std::slice::from_ref(alone)).await;
    }
    post(&lost, &events[8..]).await;
    let shared = lost.herald.store.check_consistency(start_of_time()).await.expect("the consistency check");
    let shared = shared.iter().find(|line| line.name.contains("shared a call")).map_or(0, |line| line.count);
    assert_eq!(shared, 4, "the consistency check counts what could arrive twice");
    drop(lost);

    let restored = on(&backup, &sandbox).await;
    restored.advance(Duration::from_mins(1)).await;
    post(&restored, &events).await;
    let counts = received(&restored).await;
    let twice: Vec<&String> = counts.iter().filter(|(_, count)| **count > 1).map(|(who, _)| who).collect();
    assert_eq!(counts.len(), 15);
    assert_eq!(twice, ["user-10", "user-11", "user-8", "user-9"]);
}

#[tokio::test]
async fn deliveries_share_calls_again_once_the_window_is_over_or_a_person_ends_it() {
    let sandbox = TestApp::start().await;
    sandbox.herald.pipeline.watch_database().await.expect("the database answers");
    sandbox.herald.store.close().await;
    let restored = on(&database::copy_of(&sandbox.database).await, &sandbox).await;
    let pipeline = &restored.herald.pipeline;
    let calls = async || restored.stats().await["messages"].as_u64().expect("a count");
    let events = |name: &str| -> Vec<Value> {
        (0..4).map(|n| payment_failed(&format!("{name}-{n}"), &format!("user-{n}"))).collect()
    };
    post(&restored, &events("a")).await;
    assert_eq!(calls().await, 4, "each alone");
    let now =
        restored.herald.store.database_watch().await.expect("it answers").restore.expect("a restore").at;
    assert!(restored.herald.store.end_sending_alone(now).await.expect("the database answers"));
    pipeline.watch_database().await.expect("the database answers");
    post(&restored, &events("b")).await;
    assert_eq!(calls().await, 5, "together");
}
