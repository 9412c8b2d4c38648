//! Partials and layouts: what is live keeps the text that it was published with.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

const FOOTER: &str = "/v1/partials/footer";
const SMS: &str = "/v1/templates/payment-failed-sms";

async fn with_footer() -> TestApp {
    let app = TestApp::start().await;
    app.apply(&[
        ("partials/footer.liquid", "Your shop"),
        ("templates/payment-failed-sms/template.toml", "channel = \"sms\""),
        ("templates/payment-failed-sms/sms.en.liquid", "Pay {{ data.invoice }}. {% include 'footer' %}"),
    ])
    .await;
    app
}

async fn put(app: &TestApp, seen: Option<&str>, body: &str) -> (u16, Value) {
    let answer = app.call_seen((Method::PUT, FOOTER), &app.key, seen, &json!({"body": body})).await;
    (answer.0, answer.2)
}

async fn said(app: &TestApp, id: &str) -> Value {
    app.accept(&payment_failed(id, "u")).await;
    app.run_until_idle().await;
    app.messages().await.last().expect("it is there")["recipients"][0]["rendered"]["contents"].clone()
}

/// Saves the live copy as a draft and publishes it.
async fn publish_again(app: &TestApp) -> (u16, Value) {
    let content = json!({"contents": {"en": {"contents": "Pay {{ data.invoice }}. {% include 'footer' %}"}}});
    let draft = format!("{SMS}/draft");
    let (_, revision, _) = app.call_seen((Method::PUT, &draft), &app.key, None, &content).await;
    let publish = format!("{SMS}/publish");
    let answer = app.call_seen((Method::POST, &publish), &app.key, Some(&revision), &json!({})).await;
    (answer.0, answer.2)
}

#[tokio::test]
async fn a_changed_partial_goes_live_when_its_template_is_published_again() {
    let app = with_footer().await;
    assert_eq!(said(&app, "p-1").await, "Pay p-1. Your shop");
    assert_eq!(put(&app, Some("1"), "Another shop").await.0, 200);
    assert_eq!(said(&app, "p-2").await, "Pay p-2. Your shop");
    assert_eq!(app.get(SMS).await["partials_changed"], true);
    let (status, live) = publish_again(&app).await;
    assert_eq!((status, &live["version"]), (200, &json!(3)), "{live}");
    assert_eq!(said(&app, "p-3").await, "Pay p-3. Another shop");
    assert_eq!(app.get(SMS).await["partials_changed"], false);
}

#[tokio::test]
async fn a_partial_that_is_used_can_t_go() {
    let app = with_footer().await;
    assert_eq!(app.get(FOOTER).await["used_by"]["templates"], json!(["payment-failed-sms"]));
    let (status, _, refused) = app.call_seen((Method::DELETE, FOOTER), &app.key, Some("1"), &json!({})).await;
    assert_eq!((status, &refused["problems"][0]["code"]), (422, &json!("in_use")));
    assert!(refused["detail"].as_str().unwrap().contains("payment-failed-sms"), "{refused}");
    let spare = json!({"body": "spare"});
    let path = "/v1/partials/spare";
    assert_eq!(app.call_seen((Method::PUT, path), &app.key, None, &spare).await.0, 200);
    assert_eq!(app.call_seen((Method::DELETE, path), &app.key, None, &json!({})).await.0, 428);
    let dry = "/v1/partials/spare?dry_run=true";
    assert_eq!(app.call_seen((Method::DELETE, dry), &app.key, Some("1"), &json!({})).await.0, 200);
    assert_eq!(app.get(path).await["body"], "spare", "a dry run deletes nothing");
    assert_eq!(app.call_seen((Method::DELETE, path), &app.key, Some("1"), &json!({})).await.0, 200);
    assert_eq!(app.call(Method::GET, path, Some(&app.key), None).await.0, 404);
}

#[tokio::test]
async fn a_draft_whose_partial_is_gone_is_not_published() {
    let app = TestApp::start().await;
    app.apply(&[("partials/footer.liquid", "Your shop")]).await;
    let content = json!({"contents": {"en": {"contents": "Pay. {% include 'footer' %}"}}});
    let draft = format!("{SMS}/draft");
    let (_, revision, _) = app.call_seen((Method::PUT, &draft), &app.key, None, &content).await;
    assert_eq!(app.call_seen((Method::DELETE, FOOTER), &app.key, Some("1"), &json!({})).await.0, 200);
    let publish = format!("{SMS}/publish");
    let answer = app.call_seen((Method::POST, &publish), &app.key, Some(&revision), &json!({})).await;
    assert_eq!(answer.0, 422, "{}", answer.2);
    assert!(answer.2["detail"].as_str().unwrap().contains("footer"), "{}", answer.2);
    assert_eq!(app.get(SMS).await["live_version"], 1);
}

#[tokio::test]
async fn a_partial_with_an_error_is_refused_with_its_place() {
    let app = with_footer().await;
    let (status, problem) = put(&app, Some("1"), "fine\n{{ broken").await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("liquid_syntax")), "{problem}");
    assert_eq!(problem["problems"][0]["line"], 2);
    assert_eq!(app.get(FOOTER).await["version"], 1);
}

#[tokio::test]
async fn an_email_stands_in_its_layout() {
    let app = TestApp::start().await;
    app.apply(&[
        ("partials/frame.liquid", "<html><body>{{ content }}<p>Shop Ltd</p></body></html>"),
        ("templates/password-reset-email/template.toml", "channel = \"email\"\nlayout = \"frame\""),
        (
            "templates/password-reset-email/email.en.liquid",
            "+++\nsubject = \"Your code\"\n+++\n<p>Code: {{ data.code }}</p>",
        ),
    ])
    .await;
    let event = json!({"id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {"code": "314159"}});
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    let body = messages[0]["recipients"][0]["rendered"].to_string();
    assert!(body.contains("Code: 314159") && body.contains("Shop Ltd"), "{body}");
}
