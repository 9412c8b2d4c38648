//! The audit log: who, when, what, before and after; no one takes a line out of it.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::Connection;

use crate::support::app::TestApp;

async fn entries(app: &TestApp, query: &str) -> Vec<Value> {
    app.get(&format!("/v1/audit?{query}")).await["data"].as_array().expect("it is there").clone()
}

/// One change of every kind, a second apart.
async fn change_everything(app: &TestApp, anna: &str) {
    let call = |method: Method, path: &'static str, seen: Option<&'static str>, body: Value| async move {
        app.advance(Duration::from_secs(1)).await;
        let (status, _, answer) = app.call_seen((method, path), anna, seen, &body).await;
        assert!((200..300).contains(&status), "{path}: {answer}");
    };
    let event = "/v1/event-types/parcel.lost";
    call(
        Method::PUT,
        "/v1/event-types/parcel.lost?note=new%20carrier",
        None,
        json!({"schema": {"type": "object"}}),
    )
    .await;
    call(Method::PUT, event, Some("1"), json!({"schema": {"type": "object"}, "owner": "logistics"})).await;
    call(Method::PUT, "/v1/partials/footer", None, json!({"body": "Your shop"})).await;
    call(Method::PUT, "/v1/rules/lost", None, json!({"event": "parcel.lost", "tag": {"lost": "'yes'"}}))
        .await;
    call(Method::DELETE, "/v1/rules/lost", Some("1"), json!({})).await;
    call(Method::DELETE, event, Some("2"), json!({})).await;
    call(Method::POST, "/v1/templates", None, json!({"key": "lost-sms", "channel": "sms"})).await;
    call(Method::PATCH, "/v1/templates/lost-sms", Some("1"), json!({"owner": "logistics", "note": "theirs"}))
        .await;
    call(
        Method::PUT,
        "/v1/templates/lost-sms/draft",
        None,
        json!({"contents": {"en": {"contents": "Lost"}}}),
    )
    .await;
    call(Method::DELETE, "/v1/templates/lost-sms/draft", Some("1"), json!({})).await;
    call(Method::PATCH, "/v1/templates/lost-sms", Some("2"), json!({"archived": true})).await;
    call(
        Method::POST,
        "/v1/test-recipients",
        None,
        json!({"recipient": {"external_id": "tester"}, "note": "Anna's phone"}),
    )
    .await;
    call(Method::DELETE, "/v1/test-recipients/external_id/tester", None, json!({})).await;
}

#[tokio::test]
async fn every_change_says_who_when_what_and_why() {
    let app = TestApp::start().await;
    let anna = app.key_of("anna").await;
    change_everything(&app, &anna).await;
    let all = entries(&app, "limit=100").await;
    let hers: Vec<String> = all
        .iter()
        .rev()
        .filter(|entry| entry["actor"] == "anna")
        .map(|e| {
            format!(
                "{} {} {}",
                e["action"].as_str().unwrap(),
                e["kind"].as_str().unwrap(),
                e["subject"].as_str().unwrap()
            )
        })
        .collect();
    assert_eq!(
        hers,
        [
            "created event_type parcel.lost",
            "changed event_type parcel.lost",
            "created partial footer",
            "created rule lost",
            "deleted rule lost",
            "deleted event_type parcel.lost",
            "created template lost-sms",
            "changed template lost-sms",
            "draft_saved template lost-sms",
            "draft_discarded template lost-sms",
            "archived template lost-sms",
            "created test_recipient external_id tester",
            "deleted test_recipient external_id tester",
        ]
    );
    let changed = &entries(&app, "kind=event_type&subject=parcel.lost").await[1];
    assert_eq!(
        (&changed["before"]["owner"], &changed["after"]["owner"]),
        (&Value::Null, &json!("logistics"))
    );
    assert_eq!(changed["at"], "2026-11-24T10:00:02Z");
    let first = &entries(&app, "kind=event_type&subject=parcel.lost").await[2];
    assert_eq!((&first["note"], &first["before"]), (&json!("new carrier"), &Value::Null));
    let gone = &entries(&app, "kind=rule&subject=lost").await[0];
    assert_eq!((&gone["before"]["event"], &gone["after"]), (&json!("parcel.lost"), &Value::Null));
}

#[tokio::test]
async fn what_was_not_changed_is_not_recorded() {
    let app = TestApp::start().await;
    let before = app.sql::<i64>("SELECT count(*) FROM audit_log").await;
    let rule = json!({"event": "payment.failed", "template": "payment-failed-sms", "expires_in": "24h"});
    let path = (Method::PUT, "/v1/rules/payment-failed-sms");
    assert_eq!(app.call_seen(path, &app.key, Some("1"), &rule).await.0, 200);
    let broken = json!({"event": "payment.failed", "template": "nothing"});
    let path = (Method::PUT, "/v1/rules/payment-failed-sms");
    assert_eq!(app.call_seen(path, &app.key, Some("1"), &broken).await.0, 422);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM audit_log").await, before);
}

#[tokio::test]
async fn the_record_is_read_page_by_page_without_a_gap() {
    let app = TestApp::start().await;
    let all = entries(&app, "limit=100").await;
    let (mut read, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = app.get(&format!("/v1/audit?limit=4{cursor}")).await;
        read.extend(page["data"].as_array().unwrap().clone());
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => break,
        }
    }
    assert_eq!(read, all);
}

#[tokio::test]
async fn nobody_changes_the_record_by_sql() {
    let app = TestApp::start().await;
    let before = app.sql::<i64>("SELECT count(*) FROM audit_log").await;
    let mut connection = sqlx::PgConnection::connect(&app.database).await.expect("connected");
    for query in ["UPDATE audit_log SET actor = 'nobody'", "DELETE FROM audit_log", "TRUNCATE audit_log"] {
        let error = sqlx::query(query).execute(&mut connection).await.expect_err(query).to_string();
        assert!(error.contains("never changed"), "{query}: {error}");
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM audit_log").await, before);
}
