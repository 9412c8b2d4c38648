//! Schemas from events that have come in.

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};
use crate::support::processes::{run, scratch};

const PATH: &str = "/v1/event-types/order.shipped/infer";

#[tokio::test]
async fn a_schema_is_made_of_the_last_events_and_can_be_put_in_place_of_the_present_one() {
    let app = TestApp::start().await;
    for n in 0..3 {
        let mut event = order_shipped(&format!("o-{n}"), "user-1");
        if n == 1 {
            event["data"].as_object_mut().unwrap().remove("name");
        }
        app.accept(&event).await;
    }
    let (status, found) = app.call(Method::POST, PATH, Some(&app.key), Some(&json!({}))).await;
    assert_eq!((status, &found["based_on"]), (200, &json!(3)), "{found}");
    let schema = &found["schema"];
    assert_eq!(schema["required"], json!(["carrier", "eta", "order_id"]));
    assert_eq!(schema["properties"]["eta"], json!({"type": "string", "format": "date"}));
    let (_, last) = app.call(Method::POST, PATH, Some(&app.key), Some(&json!({"last": 1}))).await;
    assert_eq!((&last["based_on"], &last["schema"]["required"][2]), (&json!(1), &json!("name")), "{last}");
    app.apply(&[("events/order.shipped/schema.json", &schema.to_string())]).await;
}

#[tokio::test]
async fn sensitive_values_say_nothing_and_without_permission_to_read_events_nothing_is_shown() {
    let app = TestApp::start().await;
    for n in 0..60 {
        let event = json!({"id": format!("r-{n}"), "type": "password.reset", "recipient": {"email": "a@shop.example"},
            "data": {"code": "314159"}});
        app.accept(&event).await;
    }
    let path = "/v1/event-types/password.reset/infer";
    let (_, found) = app.call(Method::POST, path, Some(&app.key), Some(&json!({}))).await;
    assert_eq!(
        (&found["based_on"], &found["schema"]["properties"]),
        (&json!(60), &json!({"code": {}})),
        "{found}"
    );
    let key = app.key_with(vec![Scope::CatalogRead]).await;
    assert_eq!(app.call(Method::POST, PATH, Some(&key), Some(&json!({}))).await.0, 403);
    assert_eq!(app.call(Method::POST, PATH, Some(&app.key), Some(&json!({}))).await.0, 404, "none has come");
}

#[tokio::test]
async fn the_command_reads_a_file_without_herald() {
    let file = scratch("infer").join("events.ndjson");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    std::fs::write(&file, "{\"type\":\"a.b\",\"data\":{\"x\":1}}\n{\"type\":\"a.b\",\"data\":{\"x\":2}}\n")
        .unwrap();
    let done = run(&["catalog", "infer", "a.b", "--from", &file.to_string_lossy()], &[]).await;
    assert!(done.status.success(), "{done:?}");
    let schema: Value = serde_json::from_slice(&done.stdout).unwrap();
    assert_eq!(schema["properties"], json!({"x": {"type": "integer"}}));
}
