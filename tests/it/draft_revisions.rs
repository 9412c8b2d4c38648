//! A draft's revision names one text for good, and what is published is what was checked.

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
