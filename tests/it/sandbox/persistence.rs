//! The data file: what survives a restart, a crash and a second sandbox.

use std::io::Write;
use std::path::Path;

use herald::sandbox::{ReceivedMessage, Sandbox, SandboxError, SandboxOptions};
use serde_json::json;

use super::support::{APP, Served, push, unlimited};

const KEY_A: &str = "0190a5b0-0000-7000-8000-00000000000a";

fn kept_in(folder: &Path) -> SandboxOptions {
    SandboxOptions { data_file: Some(folder.join("sandbox.jsonl")), ..unlimited() }
}

#[tokio::test]
async fn messages_keys_templates_people_and_the_clock_survive_two_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::with(kept_in(folder.path())).await;
    served
        .post("/_sandbox/users", &json!({"external_id": "ann", "language": "de", "subscriptions": []}))
        .await;
    served.post("/_sandbox/users", &json!({"external_id": "bob", "language": "de"})).await;
    let template = served.template(json!({"contents": {"en": "one", "de": "eins"}})).await;
    let gone = served.template(json!({"contents": {"en": "gone"}})).await;
    let to = json!({"external_id": ["ann", "bob", "eve"]});
    let body = push(
        json!({"template_id": template, "contents": null, "include_aliases": to, "idempotency_key": KEY_A}),
    );
    let first = served.send(&body).await;
    served.accept(&push(json!({"template_id": gone, "contents": null}))).await;
    served.patch(&format!("/templates/{template}?app_id={APP}"), &json!({"contents": {"en": "two"}})).await;
    served.delete(&format!("/templates/{gone}?app_id={APP}")).await;
    served.post("/_sandbox/clock", &json!({"advance": "10d"})).await;
    let before: Vec<ReceivedMessage> = served.sandbox.messages();
    served.stop().await;

    Served::with(kept_in(folder.path())).await.stop().await;
    let served = Served::with(kept_in(folder.path())).await;
    assert_eq!(served.sandbox.messages(), before);
    let again = served.send(&body).await;
    assert_eq!((again.text, again.headers["Idempotent-Replayed"].to_str().unwrap()), (first.text, "true"));
    let shown = served.get(&format!("/templates/{template}?app_id={APP}")).await.json();
    assert_eq!(shown["content"]["contents"], json!({"en": "two"}));
    assert_eq!(served.get(&format!("/templates/{gone}?app_id={APP}")).await.status, 404);
    served.post("/_sandbox/clock", &json!({"advance": "20d"})).await;
    assert!(!served.send(&body).await.headers.contains_key("Idempotent-Replayed"), "thirty days in all");
    assert_eq!(served.sandbox.messages().len(), 3);
}

#[tokio::test]
async fn users_segments_streams_deeds_and_what_waits_survive_two_restarts() {
    let folder = tempfile::tempdir().unwrap();
    let paid = || SandboxOptions { plan: SandboxOptions::paid().plan, ..kept_in(folder.path()) };
    let served = Served::with(paid()).await;
    let users = format!("/apps/{APP}/users");
    for id in ["ann", "bob"] {
        let made = served.post(&users, &json!({"identity": {"external_id": id}})).await;
        assert_eq!(made.status, 201, "{}", made.text);
    }
    served.delete(&format!("{users}/by/external_id/bob")).await;
    let filters = json!([{"field": "tag", "key": "plan", "relation": "exists"}]);
    served.post(&format!("/apps/{APP}/segments"), &json!({"name": "Plans", "filters": filters})).await;
    served.post("/_sandbox/event-streams", &json!({"url": "http://127.0.0.1:1/in", "kinds": ["none"]})).await;
    let ann = json!({"external_id": ["ann"]});
    let sent = served.accept(&push(json!({"include_aliases": ann}))).await;
    served.post(&format!("/_sandbox/messages/{sent}/recipients/ann/click"), &json!({})).await;
    let now: chrono::DateTime<chrono::Utc> =
        served.get("/_sandbox/clock").await.json()["now"].as_str().unwrap().parse().unwrap();
    let later = (now + chrono::TimeDelta::hours(1)).to_rfc3339();
    let waits = served.accept(&push(json!({"include_aliases": ann, "send_after": later}))).await;
    served.stop().await;

    Served::with(paid()).await.stop().await;
    let served = Served::with(paid()).await;
    assert_eq!(served.get(&format!("{users}/by/external_id/ann")).await.status, 200);
    let to_bob = served.send(&push(json!({"include_aliases": {"external_id": ["bob"]}}))).await.json();
    assert_eq!(to_bob["id"], "", "the deleted are not made up again");
    let segments = served.get(&format!("/apps/{APP}/segments")).await.json();
    assert_eq!(segments["segments"][0]["name"], "Plans");
    let streams = served.get("/_sandbox/event-streams").await.json();
    assert_eq!(streams["data"][0]["kinds"], json!(["none"]));
    let view = async |id: &str| served.get(&format!("/notifications/{id}?app_id={APP}")).await.json();
    assert_eq!(view(&sent).await["converted"], 1);
    assert_eq!(view(&waits).await["remaining"], 1);
    served.post("/_sandbox/clock", &json!({"advance": "2h"})).await;
    assert_eq!(view(&waits).await["successful"], 1);
}

#[tokio::test]
async fn a_line_that_a_crash_cut_off_is_dropped_and_the_rest_kept() {
    let folder = tempfile::tempdir().unwrap();
    let served = Served::with(kept_in(folder.path())).await;
    served.accept(&push(json!({"name": "whole"}))).await;
    served.stop().await;
    let file = folder.path().join("sandbox.jsonl");
    std::fs::File::options().append(true).open(&file).unwrap().write_all(b"{\"message\":{\"seq").unwrap();

    let served = Served::with(kept_in(folder.path())).await;
    assert_eq!(served.sandbox.messages().len(), 1);
    served.accept(&push(json!({"name": "next"}))).await;
    served.stop().await;
    assert_eq!(Sandbox::open(kept_in(folder.path())).unwrap().messages().len(), 2);
}

#[tokio::test]
async fn a_line_that_no_sandbox_wrote_is_an_error_with_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("sandbox.jsonl");
    std::fs::write(&file, "{\"advanced\":{\"microseconds\":0}}\nshopping list\n").unwrap();
    let Err(error) = Sandbox::open(kept_in(folder.path())) else { panic!("it opened") };
    assert!(matches!(error, SandboxError::Damaged { line: 2, .. }), "{error:?}");
    assert!(std::fs::read_to_string(&file).unwrap().contains("shopping list"), "left as it was");
}

#[tokio::test]
async fn two_sandboxes_do_not_share_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let first = Sandbox::open(kept_in(folder.path())).unwrap();
    assert!(matches!(Sandbox::open(kept_in(folder.path())), Err(SandboxError::InUse { .. })));
    drop(first);
    Sandbox::open(kept_in(folder.path())).unwrap();
}

#[tokio::test]
async fn a_key_outlives_its_message_and_a_reset_outlives_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let options = || SandboxOptions { keep_messages: 1, ..kept_in(folder.path()) };
    let served = Served::with(options()).await;
    let body = push(json!({"idempotency_key": KEY_A}));
    let first = served.send(&body).await;
    served.accept(&push(json!({}))).await;
    served.stop().await;

    let served = Served::with(options()).await;
    let again = served.send(&body).await;
    assert_eq!((again.text, served.sandbox.messages().len()), (first.text, 1));
    served.post("/_sandbox/reset", &json!({})).await;
    served.stop().await;

    let served = Served::with(options()).await;
    assert_eq!(served.sandbox.messages(), []);
    assert!(!served.send(&body).await.headers.contains_key("Idempotent-Replayed"));
}
