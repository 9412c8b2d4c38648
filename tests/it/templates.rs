//! A template's life between files: drafts and their revisions, publishing, approval, rollbacks, archiving.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, payment_failed};

const SMS: &str = "/v1/templates/payment-failed-sms";
const DRAFT: &str = "/v1/templates/payment-failed-sms/draft";
const PUBLISH: &str = "/v1/templates/payment-failed-sms/publish";
const APP: &str = "5a0d0000-0000-4000-8000-000000000001";

fn says(text: &str) -> Value {
    json!({"contents": {"en": {"contents": text}}})
}

/// Saves a draft over what was seen; returns its revision.
async fn save(app: &TestApp, key: &str, seen: Option<&str>, text: &str) -> String {
    let (status, etag, body) = app.call_seen((Method::PUT, DRAFT), key, seen, &says(text)).await;
    assert_eq!(status, 200, "{body}");
    etag
}

async fn publish(app: &TestApp, key: &str, revision: &str, request: Value) -> (u16, Value) {
    let (status, _, body) = app.call_seen((Method::POST, PUBLISH), key, Some(revision), &request).await;
    (status, body)
}

async fn roll_back(app: &TestApp, version: i32) -> (u16, Value) {
    let path = format!("{SMS}/rollback");
    app.call(Method::POST, &path, Some(&app.key), Some(&json!({"version": version, "note": "as before"})))
        .await
}

/// Changes what stands beside the copy.
async fn change(app: &TestApp, key: &str, about: Value) -> (u16, Value) {
    let seen = app.get(SMS).await["version"].to_string();
    let (status, _, body) = app.call_seen((Method::PATCH, SMS), key, Some(&seen), &about).await;
    (status, body)
}

/// What the next event says.
async fn said(app: &TestApp, id: &str) -> String {
    app.accept(&payment_failed(id, "u")).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    messages.last().expect("it is there")["recipients"][0]["rendered"]["contents"]
        .as_str()
        .expect("it is there")
        .to_owned()
}

/// The names of OneSignal's templates that are this template's.
async fn uploaded(app: &TestApp) -> Vec<String> {
    let list = app.sandbox_call(Method::GET, &format!("/templates?app_id={APP}"), None).await;
    let names = list["templates"]
        .as_array()
        .expect("it is there")
        .iter()
        .map(|t| t["name"].as_str().expect("it is there").to_owned());
    let mut names: Vec<String> =
        names.filter(|name| name.starts_with("herald/payment-failed-sms@")).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_template_goes_from_nothing_over_a_draft_with_errors_to_live() {
    let app = TestApp::start().await;
    let post = |path: &'static str, body: Value| {
        let (app, key) = (&app, &app.key);
        async move { app.call(Method::POST, path, Some(key), Some(&body)).await }
    };
    let new = json!({"key": "refund-sms", "channel": "sms", "event": "payment.failed"});
    let (status, made) = post("/v1/templates", new).await;
    assert_eq!((status, &made["live_version"], &made["has_draft"]), (201, &Value::Null, &json!(false)));
    let draft = "/v1/templates/refund-sms/draft";
    let broken = says("Refund for {{ data.invoic }}");
    let (status, first, body) = app.call_seen((Method::PUT, draft), &app.key, None, &broken).await;
    assert_eq!((status, first.as_str()), (200, "1"), "{body}");

    let (status, checked) = post("/v1/templates/refund-sms/check", json!({})).await;
    assert_eq!((status, &checked["ok"]), (200, &json!(false)));
    let problem = &checked["problems"][0];
    assert_eq!((&problem["code"], &problem["line"]), (&json!("unknown_path"), &json!(1)), "{checked:#}");
    assert!(problem["hint"].as_str().unwrap().contains("invoice"), "{problem}");
    let path = "/v1/templates/refund-sms/publish";
    let (status, _, refused) = app.call_seen((Method::POST, path), &app.key, Some("1"), &json!({})).await;
    assert_eq!((status, &refused["code"]), (422, &json!("invalid_catalog")));

    let sound = says("Refund for {{ data.invoice }}");
    let (_, second, _) = app.call_seen((Method::PUT, draft), &app.key, Some("1"), &sound).await;
    let note = json!({"note": "first copy"});
    let (status, _, live) = app.call_seen((Method::POST, path), &app.key, Some(&second), &note).await;
    assert_eq!((status, &live["version"]), (200, &json!(1)), "{live}");
    let now = app.get("/v1/templates/refund-sms").await;
    assert_eq!((&now["live_version"], &now["has_draft"]), (&json!(1), &json!(false)));
    let version = app.get("/v1/templates/refund-sms/versions/1").await;
    assert_eq!(
        (&version["author"], &version["note"], &version["is_live"]),
        (&json!("shop"), &json!("first copy"), &json!(true))
    );
}

#[tokio::test]
async fn the_next_event_says_what_was_published_and_onesignal_has_it() {
    let app = TestApp::start().await;
    let revision = save(&app, &app.key, None, "Invoice {{ data.invoice }} is open").await;
    assert!(said(&app, "p-1").await.starts_with("Shop:"), "a draft is not live");
    app.advance(Duration::from_secs(1)).await;
    let (status, live) = publish(&app, &app.key, &revision, json!({"note": "shorter"})).await;
    assert_eq!((status, &live["version"]), (200, &json!(2)), "{live}");
    assert_eq!(said(&app, "p-2").await, "Invoice p-2 is open");
    assert_eq!(uploaded(&app).await, ["herald/payment-failed-sms@1/en", "herald/payment-failed-sms@2/en"]);
    let audit = app.get("/v1/audit?kind=template&subject=payment-failed-sms").await;
    let last = &audit["data"][0];
    assert_eq!(
        (
            &last["action"],
            &last["actor"],
            &last["note"],
            &last["before"]["version"],
            &last["after"]["version"]
        ),
        (&json!("published"), &json!("shop"), &json!("shorter"), &json!(1), &json!(2))
    );
}

#[tokio::test]
async fn who_saves_over_another_persons_draft_is_shown_theirs() {
    let app = TestApp::start().await;
    let other = app.key_of("anna").await;
    let seen = save(&app, &app.key, None, "mine {{ data.invoice }}").await;
    save(&app, &other, Some(&seen), "hers {{ data.invoice }}").await;
    let stale = app.call_seen((Method::PUT, DRAFT), &app.key, Some(&seen), &says("mine again")).await;
    assert_eq!((stale.0, &stale.2["theirs"]["author"]), (412, &json!("anna")), "{}", stale.2);
    let theirs = &stale.2["theirs"]["content"]["contents"]["en"]["contents"];
    assert_eq!(theirs, "hers {{ data.invoice }}");
    let blind = app.call_seen((Method::PUT, DRAFT), &app.key, None, &says("blind")).await;
    assert_eq!((blind.0, &blind.2["code"]), (428, &json!("match_required")), "{}", blind.2);
    assert_eq!(publish(&app, &app.key, &seen, json!({})).await.0, 412, "an old revision is not published");
    assert_eq!(app.get(SMS).await["live_version"], 1);
}

#[tokio::test]
async fn of_two_concurrent_saves_one_is_rejected() {
    let app = TestApp::start().await;
    let seen = save(&app, &app.key, None, "first").await;
    let put = |text: &'static str| {
        let (app, seen) = (&app, seen.as_str());
        async move { app.call_seen((Method::PUT, DRAFT), &app.key, Some(seen), &says(text)).await.0 }
    };
    let mut answers: Vec<u16> =
        <[u16; 4]>::from(tokio::join!(put("a"), put("b"), put("c"), put("d"))).to_vec();
    answers.sort_unstable();
    assert_eq!(answers, [200, 412, 412, 412]);
}

#[tokio::test]
async fn copy_that_needs_approval_goes_live_with_a_second_person_only() {
    let app = TestApp::start().await;
    let other = app.key_of("anna").await;
    assert_eq!(change(&app, &app.key, json!({"needs_approval": true})).await.0, 200);
    let approve = |key: &str, revision: &str| {
        let (app, key, revision) = (&app, key.to_owned(), revision.to_owned());
        async move {
            let path = format!("{SMS}/approve");
            let answer = app.call_seen((Method::POST, &path), &key, Some(&revision), &json!({})).await;
            (answer.0, answer.2)
        }
    };
    let first = save(&app, &app.key, None, "Pay {{ data.invoice }}").await;
    let (status, refused) = publish(&app, &app.key, &first, json!({})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("needs_approval")));
    let (status, own) = approve(&app.key, &first).await;
    assert_eq!((status, &own["code"]), (409, &json!("needs_approval")), "{own}");
    assert_eq!(approve(&other, &first).await.0, 204);
    let second = save(&app, &app.key, Some(&first), "Pay {{ data.invoice }} now").await;
    let (status, refused) = publish(&app, &app.key, &second, json!({})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("needs_approval")), "a save takes the approval away");
    assert_eq!(approve(&other, &first).await.0, 412, "what was not read is not approved");
    assert_eq!(approve(&other, &second).await.0, 204);
    let (status, live) = publish(&app, &app.key, &second, json!({})).await;
    assert_eq!((status, &live["version"]), (200, &json!(2)), "{live}");
    assert_eq!(app.get(&format!("{SMS}/versions/2")).await["approved_by"], "anna");
}

#[tokio::test]
async fn neither_files_nor_a_test_send_nor_a_canary_go_round_an_approval() {
    let app = TestApp::start().await;
    assert_eq!(change(&app, &app.key, json!({"needs_approval": true})).await.0, 200);
    let files = json!({"files": {
        "templates/payment-failed-sms/template.toml": "channel = \"sms\"",
        "templates/payment-failed-sms/sms.en.liquid": "Sneaked in: {{ data.invoice }}",
    }});
    let (status, problem) = app.call(Method::POST, "/v1/catalog/apply", Some(&app.key), Some(&files)).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("needs_approval")));

    save(&app, &app.key, None, "Sneaked in: {{ data.invoice }}").await;
    let listed = json!({"recipient": {"external_id": "tester"}});
    assert_eq!(app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await.0, 204);
    let path = format!("{SMS}/test-send");
    let (status, sent) = app.call(Method::POST, &path, Some(&app.key), Some(&listed)).await;
    assert_eq!((status, &sent["version"]), (202, &json!(2)), "{sent}");
    let (status, problem) = roll_back(&app, 2).await;
    assert_eq!((status, &problem["code"]), (409, &json!("needs_approval")), "{problem}");
    let rule = json!({"event": "payment.failed", "template": "payment-failed-sms", "canary": {"version": 2, "percent": 100}});
    let path = "/v1/rules/payment-failed-sms";
    let (status, _, problem) = app.call_seen((Method::PUT, path), &app.key, Some("1"), &rule).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("needs_approval")), "{problem}");
    assert!(said(&app, "p-1").await.starts_with("Shop:"));
}

#[tokio::test]
async fn a_roll_back_is_a_new_version_that_names_the_old() {
    let app = TestApp::start().await;
    let revision = save(&app, &app.key, None, "Second {{ data.invoice }}").await;
    publish(&app, &app.key, &revision, json!({})).await;
    let (status, back) = roll_back(&app, 1).await;
    assert_eq!((status, &back["version"]), (200, &json!(3)), "{back}");
    let record = app.get(&format!("{SMS}/versions/3")).await;
    assert_eq!((&record["restores"], &record["note"]), (&json!(1), &json!("as before")));
    assert!(said(&app, "p-1").await.starts_with("Shop:"));
    let (status, none) = roll_back(&app, 9).await;
    assert_eq!((status, none["detail"].as_str().unwrap().contains("version 9")), (404, true), "{none}");
    let page = app.get(&format!("{SMS}/versions?limit=2")).await;
    let numbers = |page: &Value| {
        page["data"].as_array().unwrap().iter().map(|v| v["number"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(numbers(&page), [json!(3), json!(2)]);
    let rest =
        app.get(&format!("{SMS}/versions?limit=2&cursor={}", page["next_cursor"].as_str().unwrap())).await;
    assert_eq!((numbers(&rest), &rest["next_cursor"]), (vec![json!(1)], &Value::Null));
    let (status, wrong) =
        app.call(Method::GET, &format!("{SMS}/versions/latest"), Some(&app.key), None).await;
    assert_eq!((status, wrong["code"].is_string()), (404, true), "{wrong}");
}

#[tokio::test]
async fn a_template_that_a_rule_sends_is_not_put_away_and_one_that_is_says_so() {
    let app = TestApp::start().await;
    assert_eq!(app.get(SMS).await["used_by"]["rules"], json!(["payment-failed-sms"]));
    let (status, refused) = change(&app, &app.key, json!({"archived": true})).await;
    assert_eq!((status, &refused["code"]), (409, &json!("in_use")));
    assert!(refused["detail"].as_str().unwrap().contains("payment-failed-sms"), "{refused}");
    let gone = app
        .call_seen((Method::DELETE, "/v1/rules/payment-failed-sms"), &app.key, Some("1"), &json!({}))
        .await;
    assert_eq!(gone.0, 200, "{}", gone.2);
    let (status, away) = change(&app, &app.key, json!({"archived": true})).await;
    assert_eq!((status, &away["archived"]), (200, &json!(true)), "{away}");
    let (status, _, refused) = app.call_seen((Method::PUT, DRAFT), &app.key, None, &says("late")).await;
    assert_eq!((status, &refused["code"]), (409, &json!("archived")), "{refused}");
    let rule = json!({"event": "payment.failed", "template": "payment-failed-sms"});
    let (status, _, refused) = app.call_seen((Method::PUT, "/v1/rules/again"), &app.key, None, &rule).await;
    assert_eq!((status, &refused["problems"][0]["code"]), (422, &json!("unknown_template")), "{refused}");
    let (status, back) = change(&app, &app.key, json!({"archived": false})).await;
    assert_eq!((status, &back["archived"]), (200, &json!(false)));
}

#[tokio::test]
async fn a_rule_that_still_sends_what_was_put_away_leaves_a_decision() {
    let app = TestApp::start().await;
    app.execute("UPDATE templates SET archived_at = '2026-11-24Z' WHERE key = 'payment-failed-sms'").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(
        (&accepted["deliveries"], &accepted["decisions"][0]["code"]),
        (&json!([]), &json!("archived")),
        "{accepted}"
    );
}

#[tokio::test]
async fn when_onesignal_refuses_the_old_version_stays_live_and_the_draft_is_kept() {
    let app = TestApp::start().await;
    let revision = save(&app, &app.key, None, "New {{ data.invoice }}").await;
    app.fault(json!({"endpoint": "templates", "kind": "status", "status": 400, "probability": 1.0})).await;
    let (status, problem) = publish(&app, &app.key, &revision, json!({})).await;
    assert_eq!((status, &problem["code"]), (502, &json!("upload_failed")));
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.contains("herald/payment-failed-sms@2/en") && detail.contains("400"), "{detail}");
    assert_eq!(app.get(DRAFT).await["revision"].to_string(), revision);
    assert!(said(&app, "p-1").await.starts_with("Shop:"));
    app.clear_faults().await;
    let (status, live) = publish(&app, &app.key, &revision, json!({})).await;
    assert_eq!((status, &live["version"]), (200, &json!(2)), "{live}");
    assert_eq!(said(&app, "p-2").await, "New p-2");
}

#[tokio::test]
async fn what_was_uploaded_before_a_crash_is_neither_stored_nor_uploaded_again() {
    let app = TestApp::start().await;
    let listed = json!({"recipient": {"external_id": "tester"}});
    app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await;
    let revision = save(&app, &app.key, None, "New {{ data.invoice }}").await;
    // A test send stores and uploads the version as publishing does, and stops before it is live.
    let path = format!("{SMS}/test-send");
    assert_eq!(app.call(Method::POST, &path, Some(&app.key), Some(&listed)).await.0, 202);
    let both = ["herald/payment-failed-sms@1/en", "herald/payment-failed-sms@2/en"];
    assert_eq!(
        (uploaded(&app).await, app.get(SMS).await["live_version"].clone()),
        (both.map(String::from).to_vec(), json!(1))
    );
    assert_eq!(publish(&app, &app.key, &revision, json!({})).await.1["version"], 2);
    assert_eq!(uploaded(&app).await, both);
}

#[tokio::test]
async fn a_dry_run_of_publishing_is_refused_as_publishing_is_and_changes_nothing() {
    let app = TestApp::start().await;
    let path = format!("{PUBLISH}?dry_run=true");
    let dry = |revision: String| {
        let (app, path) = (&app, path.as_str());
        async move {
            let answer = app.call_seen((Method::POST, path), &app.key, Some(&revision), &json!({})).await;
            (answer.0, answer.2)
        }
    };
    let broken = save(&app, &app.key, None, "{{ data.nothing }}").await;
    assert_eq!(dry(broken.clone()).await.0, 422);
    let sound = save(&app, &app.key, Some(&broken), "Sound {{ data.invoice }}").await;
    assert_eq!(dry(broken).await.0, 412);
    let (status, answer) = dry(sound).await;
    assert_eq!((status, &answer["version"]), (200, &json!(2)), "{answer}");
    assert_eq!((uploaded(&app).await.len(), app.get(SMS).await["live_version"].clone()), (1, json!(1)));
    assert_eq!(app.get(&format!("{SMS}/versions")).await["data"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_difference_names_the_field_and_the_lines() {
    let app = TestApp::start().await;
    save(&app, &app.key, None, "New {{ data.invoice }}").await;
    let diff = app.get(&format!("{SMS}/diff")).await;
    let text = diff.to_string();
    assert_eq!(diff.as_array().unwrap().len(), 1, "{diff:#}");
    assert!(text.contains("New {{ data.invoice }}") && text.contains("could not charge"), "{diff:#}");
    assert_eq!(app.get(&format!("{SMS}/diff?from=1&to=live")).await, json!([]));
    let (status, wrong) = app.call(Method::GET, &format!("{SMS}/diff?from=x"), Some(&app.key), None).await;
    assert_eq!((status, &wrong["code"]), (400, &json!("bad_parameter")), "{wrong}");
}

#[tokio::test]
async fn a_wrong_key_or_a_key_twice_is_refused_in_words() {
    let app = TestApp::start().await;
    let create = |key: &'static str| {
        let app = &app;
        async move {
            let body = json!({"key": key, "channel": "sms"});
            app.call(Method::POST, "/v1/templates", Some(&app.key), Some(&body)).await
        }
    };
    let (status, problem) = create("payment-failed-sms").await;
    assert_eq!((status, &problem["code"]), (409, &json!("exists")));
    let (status, problem) = create("Not A Key").await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_fields")), "{problem}");
    let (status, problem) = change(&app, &app.key, json!({"event": "no.such.type"})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_fields")), "{problem}");
    let unknown = json!({"key": "x", "channel": "sms", "colour": "red"});
    let (status, problem) = app.call(Method::POST, "/v1/templates", Some(&app.key), Some(&unknown)).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("/colour")), "{problem}");
}
