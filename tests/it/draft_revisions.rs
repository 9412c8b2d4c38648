//! A draft's revision always names the same text, and what is published is what was checked.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::TestApp;

const SMS: &str = "/v1/templates/payment-failed-sms";

fn says(text: &str) -> Value {
    json!({"contents": {"en": {"contents": text}}})
}

#[tokio::test]
async fn a_draft_begun_anew_is_never_taken_for_the_one_that_was_thrown_away() {
    let app = TestApp::start().await;
    let other = app.key_of("anna").await;
    let draft = format!("{SMS}/draft");
    let (_, read, _) =
        app.call_seen((Method::PUT, &draft), &app.key, None, &says("Pay {{ data.invoice }}")).await;
    let (status, ..) = app.call_seen((Method::DELETE, &draft), &app.key, Some(&read), &json!({})).await;
    assert_eq!(status, 204);
    let sly = says("Pay my own account {{ data.invoice }}");
    let (status, anew, _) = app.call_seen((Method::PUT, &draft), &app.key, None, &sly).await;
    assert_eq!(status, 200);
    assert_ne!(read, anew);
    let approve = format!("{SMS}/approve");
    let (status, ..) = app.call_seen((Method::POST, &approve), &other, Some(&read), &json!({})).await;
    assert_eq!(status, 412, "she has never seen this text");
    let (status, ..) = app.call_seen((Method::POST, &approve), &other, Some(&anew), &json!({})).await;
    assert_eq!(status, 204);
}

#[tokio::test]
async fn changes_during_an_upload_of_a_draft_are_checked_before_it_goes_live() {
    let app = TestApp::start().await;
    let draft = format!("{SMS}/draft");
    let (_, seen, _) =
        app.call_seen((Method::PUT, &draft), &app.key, None, &says("Pay {{ data.invoice }}")).await;
    app.fault(json!({"endpoint": "templates", "kind": "delay", "delay_ms": 1500, "probability": 1.0})).await;
    let publish = format!("{SMS}/publish");
    let guard = async {
        // The version is stored before it is uploaded.
        while app.sql::<i64>("SELECT count(*) FROM template_uploads WHERE leased_until IS NOT NULL").await
            == 0
        {
            tokio::task::yield_now().await;
        }
        let about = json!({"needs_approval": true});
        let version = app.get(SMS).await["version"].to_string();
        app.call_seen((Method::PATCH, SMS), &app.key, Some(&version), &about).await.0
    };
    let body = json!({});
    let (published, guarded) =
        tokio::join!(app.call_seen((Method::POST, &publish), &app.key, Some(&seen), &body), guard);
    assert_eq!(guarded, 200);
    assert_eq!((published.0, &published.2["code"]), (409, &json!("needs_approval")), "{}", published.2);
    assert_eq!(app.get(SMS).await["live_version"], 1);
}

#[tokio::test]
async fn a_version_that_was_tested_first_names_who_published_it_and_why() {
    let app = TestApp::start().await;
    let tester = app.key_of("anna").await;
    let draft = format!("{SMS}/draft");
    let (_, seen, _) =
        app.call_seen((Method::PUT, &draft), &app.key, None, &says("Pay {{ data.invoice }}")).await;
    let listed = json!({"recipient": {"external_id": "u"}});
    app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await;
    let data = json!({"invoice": "1", "amount": "2 EUR", "pay_url": "https://shop.example/pay"});
    let test = json!({"data": data, "recipient": {"external_id": "u"}});
    let (status, sent) =
        app.call(Method::POST, &format!("{SMS}/test-send"), Some(&tester), Some(&test)).await;
    assert_eq!((status, &sent["version"]), (202, &json!(2)), "{sent}");
    let (publish, note) = (format!("{SMS}/publish"), json!({"note": "shorter"}));
    let (status, _, live) = app.call_seen((Method::POST, &publish), &app.key, Some(&seen), &note).await;
    assert_eq!((status, &live["version"]), (200, &json!(2)), "{live}");
    let version = app.get(&format!("{SMS}/versions/2")).await;
    assert_eq!((&version["author"], &version["note"]), (&json!("shop"), &json!("shorter")));
    // A later test of what is live changes nothing of that.
    let test = json!({"data": data, "recipient": {"external_id": "u"}, "version": "live"});
    app.call(Method::POST, &format!("{SMS}/test-send"), Some(&tester), Some(&test)).await;
    assert_eq!(app.get(&format!("{SMS}/versions/2")).await, version);
}

#[tokio::test]
async fn a_test_of_a_stored_version_sends_that_one_and_stores_no_other() {
    let app = TestApp::start().await;
    let draft = format!("{SMS}/draft");
    app.call_seen((Method::PUT, &draft), &app.key, None, &says("Pay {{ data.invoice }}")).await;
    let listed = json!({"recipient": {"external_id": "u"}});
    app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await;
    let data = json!({"invoice": "1", "amount": "2 EUR", "pay_url": "https://shop.example/pay"});
    for (which, number) in [("draft", 2), ("live", 1), ("1", 1), ("2", 2)] {
        let test = json!({"data": data, "recipient": {"external_id": "u"}, "version": which});
        let (status, sent) =
            app.call(Method::POST, &format!("{SMS}/test-send"), Some(&app.key), Some(&test)).await;
        assert_eq!((status, &sent["version"]), (202, &json!(number)), "{which}: {sent}");
    }
    let versions = app.get(&format!("{SMS}/versions")).await;
    assert_eq!(versions["data"].as_array().expect("versions").len(), 2, "{versions}");
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 4);
}

#[tokio::test]
async fn many_who_enter_templates_at_once_do_not_wait_for_each_others_connections() {
    let app = TestApp::start().await;
    let answers = futures_util::future::join_all((0..30).map(|n| {
        let app = &app;
        async move {
            let new = json!({"key": format!("sms-{n}"), "channel": "sms"});
            app.call(Method::POST, "/v1/templates", Some(&app.key), Some(&new)).await.0
        }
    }))
    .await;
    assert_eq!(answers, [201; 30]);
}
