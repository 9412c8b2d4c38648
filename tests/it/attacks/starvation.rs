//! One caller that takes what everyone needs: commits, connections to the database, slots for calls.

use std::sync::Arc;
use std::time::Duration;

use herald::access::Role;
use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::console::visitor::Visitor;
use crate::support::app::{TestApp, Wanted, order_shipped};

/// A connection of the attacker's, with a transaction open on it.
async fn transaction(app: &TestApp, statement: &'static str) -> PgConnection {
    let mut connection = PgConnection::connect(&app.database).await.expect("connected");
    sqlx::query("BEGIN").execute(&mut connection).await.expect("begun");
    sqlx::query(statement).execute(&mut connection).await.expect(statement);
    connection
}

/// Waits until so many of Herald's statements wait for a lock.
async fn until_blocked(app: &TestApp, count: i64) {
    let counted = "SELECT count(*) FROM pg_stat_activity
        WHERE datname = current_database() AND wait_event_type = 'Lock' AND application_name LIKE 'herald %'";
    let waiting = async { while app.sql::<i64>(counted).await < count {} };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("statements wait for the lock");
}

fn password_reset(id: &str) -> Value {
    json!({
        "id": id, "type": "password.reset", "recipient": {"external_id": "user-42"},
        "data": {"code": "480918"},
    })
}

#[tokio::test]
async fn pages_that_hang_leave_the_workers_and_health_checks_their_connections() {
    let app = Arc::new(TestApp::start().await);
    let viewer = Arc::new(Visitor::with_role(&app, Role::Viewer).await);
    // Every page of the audit log now waits for the database, and holds a connection.
    let lock = transaction(&app, "LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE").await;
    let mut pages = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let viewer = Arc::clone(&viewer);
        pages.spawn(async move { viewer.get("/settings/audit").await.status.as_u16() });
    }
    until_blocked(&app, 6).await;
    assert_eq!(app.call(Method::GET, "/readyz", None, None).await.0, 200);
    let accepted = app.accept(&order_shipped("o-1", "user-42")).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, "order-shipped-push").await["state"], "accepted");
    let statuses = pages.join_all().await;
    assert!(statuses.iter().all(|status| *status == 503), "{statuses:?}");
    drop(lock);
    assert_eq!(viewer.get("/settings/audit").await.status, 200);
}

#[tokio::test]
async fn reads_of_the_api_that_hang_leave_events_their_connections() {
    let app = Arc::new(TestApp::start().await);
    let lock = transaction(&app, "LOCK TABLE audit_log IN ACCESS EXCLUSIVE MODE").await;
    let mut reads = tokio::task::JoinSet::new();
    for _ in 0..40 {
        let app = Arc::clone(&app);
        reads.spawn(async move { app.call(Method::GET, "/v1/audit", Some(&app.key), None).await.0 });
    }
    until_blocked(&app, 8).await;
    assert_eq!(app.call(Method::GET, "/readyz", None, None).await.0, 200);
    let (status, _) = app.post(&order_shipped("o-1", "user-42")).await;
    assert_eq!(status, 202);
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
    drop(lock);
    reads.join_all().await;
}

#[tokio::test]
async fn an_urgent_event_is_committed_while_groups_of_others_wait() {
    let settings = vec![
        ("HERALD_INGEST__LOCK_TIMEOUT", "60s".to_owned()),
        ("HERALD_INGEST__STATEMENT_TIMEOUT", "60s".to_owned()),
    ];
    let app = Arc::new(TestApp::start_with(Wanted { settings, ..Wanted::default() }).await);
    let throttle = json!({"max": 1, "within": "1h"});
    let rule = json!({"event": "order.shipped", "template": "order-shipped-push", "throttle": throttle});
    app.put_rule("order-shipped-push", &rule).await;
    // The throttles of orders can't be written: each committer of ordinary events waits with its group.
    let lock = transaction(&app, "LOCK TABLE throttle_counters IN ACCESS EXCLUSIVE MODE").await;
    let mut ordinary = tokio::task::JoinSet::new();
    for n in 0..2_i64 {
        let post = {
            let app = Arc::clone(&app);
            async move { app.post(&order_shipped(&format!("o-{n}"), "user-42")).await.0 }
        };
        ordinary.spawn(post);
        until_blocked(&app, n + 1).await;
    }
    let urgent = password_reset("p-1");
    let posted = tokio::time::timeout(Duration::from_secs(20), app.post(&urgent)).await;
    let (status, body) = posted.expect("it does not wait for the others");
    assert_eq!(status, 202, "{body}");
    drop(lock);
    assert!(ordinary.join_all().await.iter().all(|status| *status == 202));
}
