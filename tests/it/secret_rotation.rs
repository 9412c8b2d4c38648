//! Rotation of the secret key: everything is sealed again while Herald runs, and then the earlier key is not needed.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};
use crate::support::database::SECRET_KEY;

const NEW_KEY: &str = "another secret key for tests and for nothing else";

fn rotate(app: &TestApp, key: &str, previous: &str) -> (bool, Value, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_herald"))
        .args(["keys", "rotate-secret", "--json"])
        .env("HERALD_DATABASE_URL", &*app.database)
        .env("HERALD_SECRET_KEY", key)
        .env("HERALD_PREVIOUS_SECRET_KEYS", previous)
        .output()
        .expect("it runs");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), serde_json::from_slice(&output.stdout).unwrap_or_default(), errors)
}

#[tokio::test]
async fn after_a_rotation_the_earlier_key_can_be_taken_out() {
    let app = TestApp::start().await;
    // One value of each kind that is in progress, sealed with the earlier key.
    let reset = json!({
        "id": "p-1", "type": "password.reset", "recipient": {"external_id": "user-42"}, "data": {"code": "480918"},
        "send_after": "2026-11-24T10:05:00Z",
    });
    let accepted = app.accept(&reset).await;
    let first = app.accept(&order_shipped("o-1", "user-42")).await;
    // The process with the earlier key ends.
    app.herald.store.close().await;
    let (good, report, errors) = rotate(&app, NEW_KEY, SECRET_KEY);
    assert!(good && report["is_complete"] == true, "{report} {errors}");
    assert_eq!(report["sealed_again"]["apps' keys"], 1, "{report}");
    assert_eq!(report["sealed_again"]["sensitive values of events"], 1, "{report}");
    let (again, report, _) = rotate(&app, NEW_KEY, "");
    assert!(again && report["sealed_again"]["apps' keys"] == 0, "a second time has nothing to do: {report}");
    // A Herald that never had the earlier key goes on where the other one was.
    let after = app.replica_with(vec![("HERALD_SECRET_KEY", NEW_KEY.to_owned())]).await;
    after.advance(std::time::Duration::from_mins(5)).await;
    after.run_until_idle().await;
    let sent = after.delivery(&accepted, "password-reset-email").await;
    assert_eq!(sent["state"], "accepted", "{sent}");
    assert!(after.messages().await.iter().any(|message| message.to_string().contains("480918")));
    // What was posted before is a repeat, though its fingerprint can't be compared any more.
    let (status, repeat) = after.post(&order_shipped("o-1", "user-42")).await;
    assert_eq!((status, &repeat["duplicate"], &repeat["id"]), (202, &json!(true), &first["id"]));
}

#[tokio::test]
async fn a_rotation_is_not_complete_while_a_process_without_workers_has_the_earlier_key() {
    let app = TestApp::start().await;
    // Like a process with `--no-workers`: connected, and no worker.
    app.execute("DELETE FROM workers").await;
    let (good, report, errors) = rotate(&app, NEW_KEY, SECRET_KEY);
    let hosts = report["hosts_with_another_key"].as_array().map(Vec::len);
    assert_eq!((good, hosts, &report["is_complete"]), (false, Some(1), &json!(false)), "{report}");
    assert!(errors.contains("still encrypts with a previous key: restart it with the new one"), "{errors}");
    app.herald.store.close().await;
    let (good, report, errors) = rotate(&app, NEW_KEY, SECRET_KEY);
    assert!(good && report["is_complete"] == true, "{report} {errors}");
}

#[tokio::test]
async fn a_rotation_without_the_earlier_key_changes_nothing_and_says_what_is_missing() {
    let app = TestApp::start().await;
    let (good, _, errors) = rotate(&app, NEW_KEY, "");
    assert!(!good && errors.contains("HERALD_PREVIOUS_SECRET_KEYS"), "{errors}");
    assert!(app.herald.store.apps().await.is_ok(), "the earlier key still opens everything");
}
