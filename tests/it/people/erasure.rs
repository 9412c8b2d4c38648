//! Erasure: a person is gone here and at OneSignal, and nothing brings them back.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use super::{calls, with_strict_onesignal};
use crate::outcomes::{delivery_by, report};
use crate::support::app::{TestApp, order_shipped, payment_failed};

/// In every identifier and value of the person, and in nothing else.
const CANARY: &str = "canary";

/// A service whose people have CRM ids.
async fn start() -> TestApp {
    let app = with_strict_onesignal().await;
    app.declare_labels(&["crm_id"]).await;
    app
}

async fn erase(app: &TestApp, who: &str) -> Value {
    let (status, answer) = app.call(Method::DELETE, &format!("/v1/users/{who}"), Some(&app.key), None).await;
    assert_eq!(status, 202, "{answer}");
    answer
}

/// Runs until an erasure is done; returns its receipt.
async fn finish(app: &TestApp, erasure: &Value) -> Value {
    let path = format!("/v1/erasures/{}", erasure["id"].as_str().expect("an id"));
    for _ in 0..10 {
        app.run_until_idle().await;
        let receipt = app.get(&path).await;
        if receipt["state"] != "open" {
            return receipt;
        }
        app.advance(Duration::from_secs(61)).await;
    }
    panic!("the erasure is not done: {}", app.get(&path).await);
}

fn canary_user() -> Value {
    json!({
        "aliases": {"crm_id": "canary-77"},
        "subscriptions": [{"type": "email", "token": "canary@shop.example"}],
        "tags": {"nickname": "canary bird"},
        "language": "de",
    })
}

fn canary_event(id: &str) -> Value {
    let mut event = order_shipped(id, "canary-1");
    event["data"]["name"] = json!("canary bird");
    event
}

/// A person about whom there is something in every place.
async fn everywhere(app: &TestApp) {
    app.put_user("external_id/canary-1", &canary_user()).await;
    app.run_for(8).await;
    let first = app.accept(&canary_event("o-1")).await;
    app.run_until_idle().await;
    let message = app.message_of(delivery_by(&first, "order-shipped-email")).await;
    app.record(&[
        report("5a0d0000-0000-4000-8000-000000000101", "email.sent", &message, "canary-1"),
        report("5a0d0000-0000-4000-8000-000000000102", "email.clicked", &message, "canary-1"),
        report("5a0d0000-0000-4000-8000-000000000103", "email.sent", "unknown-message", "canary-1"),
    ])
    .await;
    let mut later = canary_event("o-2");
    later["send_after"] = json!("2026-11-24T18:00:00Z");
    later["cancellation_key"] = json!("canary-cart");
    app.accept(&later).await;
    // Somebody else is a recipient of the same event.
    let mut shared = canary_event("o-3");
    shared.as_object_mut().expect("an object").remove("recipient");
    shared["recipients"] = json!([{"external_id": "canary-1"}, {"external_id": "bob"}]);
    app.accept(&shared).await;
    app.run_until_idle().await;
}

#[tokio::test]
async fn an_erased_person_is_gone_at_onesignal_and_from_every_row_and_the_receipt_says_so() {
    let app = start().await;
    everywhere(&app).await;
    let path = "/v1/users/imports";
    let (_, import) = app.call(Method::POST, path, Some(&app.key), Some(&json!({"name": "crm.csv"}))).await;
    let url =
        format!("{}{path}/{}/content?offset=0&last=true", app.url, import["id"].as_str().expect("an id"));
    let rows = "external_id,email\ncanary-1,not an address\nbob,not an address\n";
    let request = reqwest::Client::new().put(url).bearer_auth(&app.key).header("content-type", "text/csv");
    assert_eq!(request.body(rows).send().await.expect("an answer").status(), 202);
    assert!(app.dump().await.contains(CANARY), "otherwise this test tests nothing");
    let messages = app.messages().await.len();
    let erasure = erase(&app, "external_id/canary-1").await;
    assert_eq!(erasure["state"], "open", "{erasure}");
    let receipt = finish(&app, &erasure).await;
    assert_eq!(receipt["state"], "done", "{receipt}");
    assert_eq!(receipt["apps"][0]["state"], "gone", "{receipt}");
    assert!(receipt["erased"]["pending_deliveries"].as_u64() >= Some(1), "{receipt}");
    assert!(receipt["erased"]["deliveries"].as_u64() >= Some(3), "{receipt}");
    assert!(receipt["erased"]["events"].as_u64() >= Some(3), "{receipt}");
    assert_eq!(receipt["erased"]["import_rows"], 1, "{receipt}");
    let gone = app.onesignal_user("external_id", "canary-1").await;
    assert!(gone.get("identity").is_none(), "{gone}");
    let dump = app.dump().await;
    let at = dump.find(CANARY).map(|at| &dump[at.saturating_sub(200)..(at + 100).min(dump.len())]);
    assert_eq!(at, None);
    assert!(dump.contains("bob"), "others stay");
    let counts = "SELECT sum(sent + clicked)::bigint FROM outcome_counts";
    assert_eq!(app.sql::<i64>(counts).await, 2, "and so do the counts");
    assert_eq!(app.herald.store.repair_outcome_counts().await.expect("compared"), 0);
    app.advance(Duration::from_hours(12)).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), messages, "the message for later was not sent");
}

#[tokio::test]
async fn nothing_brings_an_erased_person_back() {
    let app = start().await;
    app.put_user("external_id/canary-1", &canary_user()).await;
    app.run_for(8).await;
    finish(&app, &erase(&app, "external_id/canary-1").await).await;
    let before = (calls(&app, "users.create").await, app.messages().await.len());
    // An event to each of their identifiers, in spellings of the same address.
    for (n, recipient) in [
        json!({"external_id": "canary-1"}),
        json!({"crm_id": "canary-77"}),
        json!({"email": "Canary@SHOP.example"}),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = canary_event(&format!("back-{n}"));
        event["recipient"] = recipient;
        let accepted = app.accept(&event).await;
        assert!(accepted.to_string().contains("erased"), "{accepted}");
    }
    // Their address in a write about somebody else, and in an event's facts.
    let user = json!({"subscriptions": [{"type": "email", "token": "CANARY@shop.example"}]});
    for path in ["/v1/users/external_id/canary-1", "/v1/users/crm_id/canary-77", "/v1/users/external_id/bob"]
    {
        let (status, problem) = app.call(Method::PUT, path, Some(&app.key), Some(&user)).await;
        assert_eq!((status, &problem["code"]), (409, &json!("erased")), "{path}: {problem}");
    }
    let opt_in = json!({"channels": {"email": true}});
    let path = "/v1/users/external_id/canary-1/preferences";
    let (status, problem) = app.call(Method::PUT, path, Some(&app.key), Some(&opt_in)).await;
    assert_eq!((status, &problem["code"]), (409, &json!("erased")), "{problem}");
    let mut facts = payment_failed("facts", "bob");
    facts["recipient"] = json!({"external_id": "bob", "email": "canary@shop.example"});
    app.accept(&facts).await;
    app.run_for(8).await;
    assert_eq!(calls(&app, "users.create").await, before.0, "nothing was written about them");
    let messages = app.messages().await;
    assert!(!json!(messages).to_string().contains(CANARY), "{messages:?}");
    assert!(!app.dump().await.contains(CANARY), "nor is what came later kept");
    let (_, problem) = app.call(Method::GET, "/v1/users/external_id/canary-1", Some(&app.key), None).await;
    assert!(problem["detail"].as_str().unwrap_or_default().contains("was erased"), "{problem}");
}

#[tokio::test]
async fn after_a_restore_the_record_erases_the_person_again_before_anything_is_sent() {
    let file = std::env::temp_dir().join(format!("herald-erasures-{}.jsonl", std::process::id()));
    let _ = std::fs::remove_file(&file);
    let settings = || vec![("HERALD_PEOPLE__ERASURE_RECORD", file.display().to_string())];
    let app = start().await;
    let first = app.replica_with(settings()).await;
    everywhere(&first).await;
    let erasure = erase(&first, "external_id/canary-1").await;
    assert_eq!(erasure["recorded"], true, "before the answer: {erasure}");
    let recorded = std::fs::read_to_string(&file).expect("the record");
    assert!(
        recorded.contains(erasure["id"].as_str().expect("an id")) && !recorded.contains(CANARY),
        "{recorded}"
    );
    finish(&first, &erasure).await;
    // As a backup from before has it: the person is there, and neither the erasure nor its key.
    first.execute("TRUNCATE erased_identifiers, erasures, erasure_key").await;
    let old = app.replica_of_seed(Vec::new(), 10).await;
    old.put_user("external_id/canary-1", &canary_user()).await;
    old.run_for(8).await;
    old.accept(&canary_event("restored")).await;
    old.execute("TRUNCATE erased_identifiers, erasures, erasure_key CASCADE").await;
    let restored = first.replica_of_seed(settings(), 11).await;
    let messages = restored.messages().await.len();
    let accepted = restored.accept(&canary_event("after")).await;
    assert!(accepted.to_string().contains("erased"), "{accepted}");
    let receipt = finish(&restored, &erasure).await;
    assert_eq!(receipt["state"], "done", "{receipt}");
    assert_eq!(restored.messages().await.len(), messages);
    assert!(!restored.dump().await.contains(CANARY));
    let gone = restored.onesignal_user("external_id", "canary-1").await;
    assert!(gone.get("identity").is_none(), "{gone}");
    let _ = std::fs::remove_file(&file);
}

#[tokio::test]
async fn an_erasure_whose_record_can_not_be_written_waits_and_deletes_nothing_at_onesignal() {
    let folder = std::env::temp_dir().join(format!("herald-record-{}", std::process::id()));
    let file = folder.join("erasures.jsonl");
    std::fs::create_dir_all(&folder).expect("a folder");
    let app = start().await;
    let app = app.replica_with(vec![("HERALD_PEOPLE__ERASURE_RECORD", file.display().to_string())]).await;
    app.put_user("external_id/ann", &super::ann()).await;
    app.run_for(8).await;
    std::fs::remove_dir_all(&folder).expect("removed");
    let erasure = erase(&app, "external_id/ann").await;
    assert_eq!(erasure["recorded"], false, "{erasure}");
    app.run_for(3).await;
    assert_eq!(calls(&app, "users.delete").await, 0);
    std::fs::create_dir_all(&folder).expect("a folder");
    assert_eq!(finish(&app, &erasure).await["state"], "done");
    let _ = std::fs::remove_dir_all(&folder);
}

#[tokio::test]
async fn an_erasure_goes_on_after_errors_and_in_another_process() {
    let app = start().await;
    app.put_user("external_id/ann", &super::ann()).await;
    app.run_for(8).await;
    app.fault(json!({"endpoint": "users", "kind": "status", "status": 503, "probability": 1.0, "times": 2}))
        .await;
    let erasure = erase(&app, "external_id/ann").await;
    app.run_until_idle().await;
    let path = format!("/v1/erasures/{}", erasure["id"].as_str().expect("an id"));
    let shown = app.get(&path).await;
    assert!(shown["apps"][0]["last_answer"].as_str().unwrap_or_default().contains("503"), "{shown}");
    // As if its process had been killed in the middle of the work.
    app.execute("UPDATE erasures SET due_at = due_at + interval '30 minutes'").await;
    let other = app.replica().await;
    other.advance(Duration::from_mins(31)).await;
    app.advance(Duration::from_mins(31)).await;
    assert_eq!(finish(&other, &erasure).await["state"], "done");
}

#[tokio::test]
async fn a_lifted_erasure_lets_the_person_come_back_and_only_one_that_is_done_can_be_lifted() {
    let app = start().await;
    app.put_user("external_id/ann", &super::ann()).await;
    app.run_for(8).await;
    let erasure = erase(&app, "external_id/ann").await;
    assert_eq!(erase(&app, "external_id/ann").await["id"], erasure["id"], "an open one is not repeated");
    let path = format!("/v1/erasures/{}/lift", erasure["id"].as_str().expect("an id"));
    let reason = json!({"reason": "ticket 42"});
    let (status, problem) = app.call(Method::POST, &path, Some(&app.key), Some(&reason)).await;
    assert_eq!(status, 409, "{problem}");
    finish(&app, &erasure).await;
    let (status, problem) =
        app.call(Method::POST, &path, Some(&app.key), Some(&json!({"reason": " "}))).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/reason")), "{problem}");
    let (status, lifted) = app.call(Method::POST, &path, Some(&app.key), Some(&reason)).await;
    assert_eq!((status, &lifted["state"]), (200, &json!("lifted")), "{lifted}");
    app.put_user("external_id/ann", &super::ann()).await;
    app.run_for(8).await;
    let back = app.onesignal_user("external_id", "ann").await;
    assert_eq!(back["properties"]["tags"]["plan"], "gold", "{back}");
    let audit = app.get("/v1/audit").await.to_string();
    assert!(audit.contains("lifted") && audit.contains("ticket 42"), "{audit}");
}

#[tokio::test]
async fn an_export_has_everything_about_a_person_and_nothing_about_others() {
    let app = start().await;
    everywhere(&app).await;
    let response = app.get_raw("/v1/users/external_id/canary-1/export").await;
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let text = response.text().await.expect("a body");
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let of = |kind: &str| lines.iter().filter(|line| line["kind"] == kind).count();
    assert_eq!((of("user"), of("end")), (1, 1), "{text}");
    assert_eq!(lines[0]["user"]["aliases"]["crm_id"], "canary-77");
    assert!(of("delivery") >= 3 && of("event") == 3, "{text}");
    assert!(text.contains("canary bird"), "the events' data is part of it");
    let theirs = lines.iter().filter(|line| line["kind"] == "delivery");
    for delivery in theirs {
        assert_eq!(delivery["delivery"]["recipient"], json!({"external_id": "canary-1"}), "{delivery}");
    }
    let nobody = app.get_raw("/v1/users/external_id/nobody/export").await.text().await.expect("a body");
    assert_eq!(nobody, "{\"kind\":\"user\",\"user\":null}\n{\"kind\":\"end\"}\n");
}
