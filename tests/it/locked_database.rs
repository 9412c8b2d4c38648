//! A database that rejects or blocks writes: callers get an error at once.

use std::time::{Duration, Instant};

use reqwest::Method;
use serde_json::json;
use sqlx::Connection;

use crate::support::app::{TestApp, Wanted, payment_failed};

#[tokio::test]
async fn a_database_that_rejects_writes_is_not_ready() {
    let app = TestApp::start().await;
    app.execute(
        "DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET default_transaction_read_only = on', current_database());
            PERFORM pg_terminate_backend(pid) FROM pg_stat_activity
            WHERE datname = current_database() AND pid <> pg_backend_pid();
         END $$",
    )
    .await;
    let mut reason = json!(null);
    for _ in 0..5 {
        let response = app.get_raw("/readyz").await;
        assert_eq!(response.status(), 503);
        let body: serde_json::Value = response.json().await.expect("JSON");
        reason = body["reason"].clone();
        if reason == "the database is read-only" {
            break;
        }
    }
    assert_eq!(reason, "the database is read-only");
    assert_eq!(app.post(&payment_failed("p-1", "u")).await.0, 503);
}

#[tokio::test]
async fn while_a_table_is_locked_events_are_refused_soon_and_taken_again_afterwards() {
    let app = TestApp::start().await;
    let mut other = sqlx::PgConnection::connect(&app.database).await.expect("connected");
    let mut lock = other.begin().await.expect("begun");
    sqlx::query("LOCK TABLE queue IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.expect("locked");
    let began = Instant::now();
    let events: Vec<_> = (0..60).map(|n| payment_failed(&format!("p-{n}"), "u")).collect();
    let answers = futures_util::future::join_all(events.iter().map(|event| app.post(event))).await;
    assert!(answers.iter().all(|(status, _)| *status == 503), "{answers:?}");
    // Each event's part of a group used to wait half a second: half a minute in all.
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
    lock.rollback().await.expect("rolled back");
    assert_eq!(app.post(&payment_failed("p-0", "u")).await.0, 202);
}

#[tokio::test]
async fn a_request_that_takes_longer_than_its_limit_is_answered_and_ended() {
    let settings = vec![("HERALD_HTTP__REQUEST_TIMEOUT", "300ms".to_owned())];
    let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
    let mut other = sqlx::PgConnection::connect(&app.database).await.expect("connected");
    let mut lock = other.begin().await.expect("begun");
    sqlx::query("LOCK TABLE events IN ACCESS EXCLUSIVE MODE").execute(&mut *lock).await.expect("locked");
    // A statement that waits for the lock would fail after two seconds, for another reason.
    let (status, answer) = app.call(Method::GET, "/v1/events", Some(&app.key), None).await;
    assert_eq!((status, answer["code"].as_str()), (503, Some("unavailable")), "{answer}");
    let detail = answer["detail"].as_str().unwrap_or_default();
    assert!(detail.starts_with("the request took too long"), "{answer}");
    lock.rollback().await.expect("rolled back");
    assert_eq!(app.call(Method::GET, "/v1/events", Some(&app.key), None).await.0, 200);
}
