//! Sensitive values where they must not be: beside their events, in answers, in hashes.

use serde_json::{Value, json};

use crate::support::app::TestApp;
use crate::support::database::SECRET_KEY;

const CODE: &str = "480918";

fn password_reset(id: &str, code: &str) -> Value {
    json!({"id": id, "type": "password.reset", "recipient": {"external_id": "user-42"}, "data": {"code": code}})
}

/// What the database has of the call that this Herald makes for an event with this code.
async fn fingerprint(app: &TestApp, id: &str, code: &str) -> Vec<u8> {
    app.accept(&password_reset(id, code)).await;
    app.run_until_idle().await;
    app.sql("SELECT body_fingerprint FROM batches ORDER BY id DESC LIMIT 1").await
}

#[tokio::test]
async fn what_is_kept_of_a_call_does_not_let_its_code_be_tried_out() {
    let app = TestApp::start().await;
    let kept = fingerprint(&app, "p-1", CODE).await;
    assert_eq!(kept, fingerprint(&app, "p-2", CODE).await, "the same content has the same fingerprint");
    assert_ne!(kept, fingerprint(&app, "p-3", "480919").await);
    // It hangs on the secret key: who has a dump alone can't compute it for each of a million codes.
    let settings = vec![
        ("HERALD_SECRET_KEY", "another secret key for tests and nothing else".to_owned()),
        ("HERALD_PREVIOUS_SECRET_KEYS", SECRET_KEY.to_owned()),
    ];
    let other = app.replica_with(settings).await;
    assert_ne!(kept, fingerprint(&other, "p-4", CODE).await);
}

#[tokio::test]
async fn a_code_that_onesignal_quotes_is_not_kept() {
    let app = TestApp::start().await;
    for (n, body) in [
        json!({"errors": [format!("invalid custom_data {{\"a\":\"{CODE}\"}}")]}),
        json!({"errors": [{"title": format!("bad value {CODE}")}]}),
        json!({"errors": {"custom_data": [format!("code={CODE}")]}}),
        json!(format!("<p>{CODE}</p>")),
    ]
    .into_iter()
    .enumerate()
    {
        let fault =
            json!({"endpoint": "notifications", "kind": "status", "status": 400, "body": body, "times": 1});
        app.fault(fault).await;
        let accepted = app.accept(&password_reset(&format!("p-{n}"), CODE)).await;
        app.run_until_idle().await;
        app.clear_faults().await;
        let story = app.delivery(&accepted, "password-reset-email").await;
        assert_eq!(story["state"], "rejected", "{story}");
        assert!(!story.to_string().contains(CODE), "{story}");
    }
    assert!(!app.dump().await.contains(CODE));
}

#[tokio::test]
async fn what_onesignal_says_of_a_message_without_secrets_is_kept_as_it_is() {
    let app = TestApp::start().await;
    let words = "Message Notifications must have English language content";
    app.fault(
        json!({"endpoint": "notifications", "kind": "status", "status": 400, "body": {"errors": [words]}}),
    )
    .await;
    let accepted = app.accept(&crate::support::app::order_shipped("o-1", "user-42")).await;
    app.run_until_idle().await;
    let story = app.delivery(&accepted, "order-shipped-push").await;
    assert!(story["decisions"].to_string().contains(words), "{story}");
}
