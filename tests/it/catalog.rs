//! The catalog as files: applied as a whole or not at all, and live only once OneSignal has it.

use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, Wanted, payment_failed};

async fn apply(app: &TestApp, path: &str, files: serde_json::Value) -> (u16, serde_json::Value) {
    app.call(Method::POST, path, Some(&app.key), Some(&json!({"files": files}))).await
}

#[tokio::test]
async fn the_same_files_again_change_nothing() {
    let app = TestApp::start().await;
    let files = json!(herald::catalog::sample::files());
    let (status, body) = apply(&app, "/v1/catalog/apply", files).await;
    assert_eq!((status, &body["changes"]), (200, &json!([])));
}

#[tokio::test]
async fn a_plan_says_what_would_change_and_changes_nothing() {
    let app = TestApp::start().await;
    let files = json!({"events/parcel.lost/schema.json": "{}"});
    for path in ["/v1/catalog/plan", "/v1/catalog/apply?dry_run=true"] {
        let (status, body) = apply(&app, path, files.clone()).await;
        assert_eq!((status, &body["changes"][0]["name"]), (200, &json!("parcel.lost")));
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM event_types WHERE name = 'parcel.lost'").await, 0);
}

#[tokio::test]
async fn everything_that_is_wrong_is_said_at_once_with_its_place() {
    let app = TestApp::start().await;
    let files = json!({
        "events/Bad Name/schema.json": "{}",
        "events/a.b/schema.json": "{\"type\": 7}",
        "templates/x/template.toml": "channel = \"push\"\n[options]\nfilters = []",
        "templates/x/push.en.liquid": "+++\nheadings = \"Hi\"\n+++\nHi {{ data.name | upcas }}",
        "templates/y/push.en.liquid": "orphan",
        "rules/r.toml": "event = \"nothing.known\"\ntemplate = \"x\"\ncolour = \"red\"",
        "notes.txt": "?",
    });
    let (status, problem) = apply(&app, "/v1/catalog/apply", files).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_catalog")));
    let found = problem["problems"].as_array().unwrap();
    for (code, file) in [
        ("bad_name", "events/Bad Name/schema.json"),
        ("bad_schema", "events/a.b/schema.json"),
        ("reserved_option", "templates/x/template.toml"),
        ("liquid_syntax", "templates/x/push.en.liquid"),
        ("no_template", "templates/y/push.en.liquid"),
        ("bad_toml", "rules/r.toml"),
        ("unknown_file", "notes.txt"),
    ] {
        assert!(
            found.iter().any(|p| p["code"] == code && p["file"] == file),
            "{code} in {file}: {problem:#}"
        );
    }
    let syntax = found.iter().find(|p| p["code"] == "liquid_syntax").unwrap();
    assert_eq!((&syntax["line"], syntax["message"].as_str().unwrap().contains("upcase")), (&json!(4), true));
}

#[tokio::test]
async fn when_onesignal_does_not_take_a_template_the_old_version_stays_live() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "templates", "kind": "status", "status": 400, "probability": 1.0})).await;
    let files = json!({
        "templates/payment-failed-sms/template.toml": "channel = \"sms\"",
        "templates/payment-failed-sms/sms.en.liquid": "New copy for {{ data.invoice }}",
    });
    let (status, problem) = apply(&app, "/v1/catalog/apply", files.clone()).await;
    assert_eq!((status, &problem["code"]), (502, &json!("upload_failed")));
    assert_eq!(app.accept(&payment_failed("p-1", "u")).await["deliveries"][0]["version"], 1);
    app.clear_faults().await;
    assert_eq!(apply(&app, "/v1/catalog/apply", files).await.0, 200);
    assert_eq!(app.accept(&payment_failed("p-2", "u")).await["deliveries"][0]["version"], 2);
}

#[tokio::test]
async fn after_a_lost_reply_a_template_is_found_by_name_and_not_made_twice() {
    let app = TestApp::start_with(Wanted { without_catalog: true, ..Wanted::default() }).await;
    app.fault(json!({"endpoint": "templates", "kind": "reset_after", "probability": 1.0, "times": 1})).await;
    app.apply(&[
        ("templates/x/template.toml", "channel = \"push\""),
        ("templates/x/push.en.liquid", "Hi {{ data.name }}"),
    ])
    .await;
    let list =
        app.sandbox_call(Method::GET, "/templates?app_id=5a0d0000-0000-4000-8000-000000000001", None).await;
    assert_eq!((&list["total_count"], &list["templates"][0]["name"]), (&json!(1), &json!("herald/x@1/en")));
}

#[tokio::test]
async fn deliveries_keep_the_version_that_they_were_planned_with() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["send_after"] = json!("2026-11-24T11:00:00Z");
    app.accept(&event).await;
    app.apply(&[
        ("templates/payment-failed-sms/template.toml", "channel = \"sms\""),
        ("templates/payment-failed-sms/sms.en.liquid", "New copy for {{ data.invoice }}"),
    ])
    .await;
    app.advance(std::time::Duration::from_secs(3601)).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert!(
        messages[0]["recipients"][0]["rendered"]["contents"].as_str().unwrap().starts_with("Shop:"),
        "{messages:?}"
    );
}
