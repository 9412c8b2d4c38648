//! `herald templates`: what it prints and how it ends.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};
use crate::support::processes::run;

const KEY: &str = "payment-failed-sms";

/// Runs `herald templates …`; the exit code and everything that was printed.
async fn templates(app: &TestApp, arguments: &[&str]) -> (i32, String) {
    let all = [&["templates"], arguments].concat();
    let output = run(&all, &[("HERALD_URL", &app.url), ("HERALD_KEY", &app.key)]).await;
    let text = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it ended by itself"), String::from_utf8(text).expect("text"))
}

async fn draft(app: &TestApp, text: &str) {
    let path = format!("/v1/templates/{KEY}/draft");
    let seen = match app.call(Method::GET, &path, Some(&app.key), None).await {
        (200, draft) => Some(draft["revision"].to_string()),
        _ => None,
    };
    let body = json!({"contents": {"en": {"contents": text}}});
    let answer = app.call_seen((Method::PUT, &path), &app.key, seen.as_deref(), &body).await;
    assert_eq!(answer.0, 200, "{}", answer.2);
}

#[tokio::test]
async fn a_draft_is_checked_shown_tested_published_and_rolled_back() {
    let app = TestApp::start().await;
    let live = templates(&app, &["check", KEY]).await;
    assert!(
        live.0 == 0 && live.1.contains("it can be published"),
        "without a draft it is about what is live: {live:?}"
    );
    let none = templates(&app, &["check", KEY, "--version", "draft"]).await;
    assert!(none.0 == 1 && none.1.contains("has no draft"), "{none:?}");
    draft(&app, "Pay {{ data.invoic }}").await;
    let check = templates(&app, &["check", KEY]).await;
    assert!(check.0 == 2 && check.1.contains("did you mean `invoice`?"), "{check:?}");
    let publish = templates(&app, &["publish", KEY]).await;
    assert!(publish.0 == 1 && publish.1.contains("data.invoic"), "{publish:?}");

    draft(&app, "Pay {{ data.invoice }}").await;
    let check = templates(&app, &["check", KEY]).await;
    assert!(check.0 == 0 && check.1.contains("it can be published"), "{check:?}");
    let preview = templates(&app, &["preview", KEY, "--data", r#"{"invoice":"x-1"}"#]).await;
    assert!(preview.0 == 0 && preview.1.contains("contents: Pay x-1"), "{preview:?}");
    let refused = templates(&app, &["test-send", KEY, "--to", "external_id=tester"]).await;
    assert!(refused.0 == 1 && refused.1.contains("not on the list"), "{refused:?}");
    let listed = json!({"recipient": {"external_id": "tester"}});
    app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await;
    let sent = templates(&app, &["test-send", KEY, "--to", "external_id=tester"]).await;
    assert_eq!(sent.0, 0, "{sent:?}");
    let dry = templates(&app, &["publish", KEY, "--dry-run"]).await;
    assert_eq!(
        (dry.0, &app.get(&format!("/v1/templates/{KEY}")).await["live_version"]),
        (0, &json!(1)),
        "{dry:?}"
    );
    let publish = templates(&app, &["publish", KEY, "--note", "shorter"]).await;
    assert!(publish.0 == 0 && publish.1.contains("version 2 of payment-failed-sms is live"), "{publish:?}");
    let back = templates(&app, &["rollback", KEY, "--to", "1"]).await;
    assert!(back.0 == 0 && back.1.contains("version 3"), "{back:?}");
    let versions = templates(&app, &["versions", KEY]).await;
    assert!(versions.0 == 0 && versions.1.contains("shorter"), "{versions:?}");
    let list = templates(&app, &["list", "--json"]).await;
    let list: Value = serde_json::from_str(&list.1).expect("JSON");
    assert!(list.to_string().contains(KEY));
}

#[tokio::test]
async fn what_publishing_would_be_refused_for_ends_a_check_with_2() {
    let app = TestApp::start().await;
    app.apply(&[(
        "events/payment.failed/schema.json",
        r#"{"type": "object", "properties": {
        "invoice": {"type": "string", "pattern": "\\S"}, "amount": {"type": "string", "pattern": "\\S"},
        "pay_url": {"type": "string", "format": "uri"}, "name": {"type": "string"}},
        "required": ["invoice", "amount", "pay_url"]}"#,
    )])
    .await;
    app.accept(&payment_failed("p-1", "u")).await;
    app.apply(&[(
        "events/payment.failed/schema.json",
        r#"{"type": "object", "properties": {
        "invoice": {"type": "string", "pattern": "\\S"}, "amount": {"type": "string", "pattern": "\\S"},
        "pay_url": {"type": "string", "format": "uri"}, "name": {"type": "string", "pattern": "\\S"}},
        "required": ["invoice", "amount", "pay_url", "name"]}"#,
    )])
    .await;
    draft(&app, "Hi {{ data.name }}").await;
    let check = templates(&app, &["check", KEY]).await;
    assert!(check.0 == 2 && check.1.contains("--accept-held") && check.1.contains("data.name"), "{check:?}");
    assert_eq!(templates(&app, &["publish", KEY]).await.0, 1);
    assert_eq!(templates(&app, &["publish", KEY, "--accept-held"]).await.0, 0);
}
