//! CloudEvents 1.0 in every mode, and events a line.

use herald::access::Scope;
use reqwest::Response;
use serde_json::{Value, json};

use crate::support::app::TestApp;

const STRUCTURED: (&str, &str) = ("content-type", "application/cloudevents+json; charset=UTF-8");
const BATCH: (&str, &str) = ("content-type", "application/cloudevents-batch+json");
const LINES: (&str, &str) = ("content-type", "application/x-ndjson");

fn shipped(id: &str) -> Value {
    json!({
        "specversion": "1.0", "id": id, "source": "https://shop.example/orders", "type": "order.shipped",
        "time": "2026-11-23T10:00:00Z", "datacontenttype": "application/json",
        "recipient": "user-42", "locale": "de", "knativearrivaltime": "2026-11-23T10:00:01Z",
        "traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        "data": {"order_id": id, "carrier": "DHL", "eta": "2026-11-25", "items": [{"name": "A cup", "quantity": 1}]}
    })
}

async fn read(answer: Response) -> (u16, Value) {
    (answer.status().as_u16(), answer.json().await.expect("JSON"))
}

async fn post(app: &TestApp, event: &Value) -> (u16, Value) {
    read(app.post_raw("/v1/events", &[STRUCTURED], event.to_string()).await).await
}

#[tokio::test]
async fn a_structured_cloudevent_becomes_an_event_and_keeps_its_source_in_the_key() {
    let app = TestApp::start().await;
    let (status, accepted) = post(&app, &shipped("1001")).await;
    assert_eq!(status, 202, "{accepted}");
    let event = app.get(accepted["trace_url"].as_str().unwrap()).await;
    assert_eq!(event["key"], "https://shop.example/orders|1001");
    assert_eq!((&event["type"], &event["locale"]), (&json!("order.shipped"), &json!("de")));
    assert_eq!(event["recipients"], json!([{"external_id": "user-42"}]));
    assert_eq!((&event["time"], &event["data"]["carrier"]), (&json!("2026-11-23T10:00:00Z"), &json!("DHL")));
    let trace: String = app.sql("SELECT traceparent FROM events").await;
    assert_eq!(trace, "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
    app.run_until_idle().await;
    assert!(!app.messages().await.is_empty());
}

#[tokio::test]
async fn the_same_id_of_two_sources_is_two_events_and_a_repeat_of_one_is_known() {
    let app = TestApp::start().await;
    let first = post(&app, &shipped("1")).await.1;
    let mut other = shipped("1");
    other["source"] = json!("/warehouse");
    let second = post(&app, &other).await.1;
    assert_ne!(first["id"], second["id"]);
    // What a broker adds on the way differs each time.
    let mut again = shipped("1");
    again["knativearrivaltime"] = json!("2026-11-23T11:00:00Z");
    let again = post(&app, &again).await.1;
    assert_eq!((&again["id"], &again["duplicate"]), (&first["id"], &json!(true)));
    let mut changed = shipped("1");
    changed["data"]["carrier"] = json!("UPS");
    assert_eq!(post(&app, &changed).await.0, 409);
}

#[tokio::test]
async fn a_binary_cloudevent_has_its_attributes_in_headers() {
    let app = TestApp::start().await;
    app.declare_labels(&["crm_id"]).await;
    let headers = [
        ("content-type", "application/json"),
        ("ce-specversion", "1.0"),
        ("ce-id", "1001"),
        ("ce-source", "/orders"),
        ("ce-type", "order.shipped"),
        ("ce-recipient", "J%C3%B6rg"),
        ("ce-recipientlabel", "crm_id"),
        ("ce-sendafter", "2026-11-25T08:00:00+01:00"),
        ("ce-sequence", "7"),
    ];
    let data = shipped("1001")["data"].to_string();
    let (status, accepted) = read(app.post_raw("/v1/events", &headers, data.clone()).await).await;
    assert_eq!(status, 202, "{accepted}");
    let event = app.get(accepted["trace_url"].as_str().unwrap()).await;
    assert_eq!(event["recipients"], json!([{"crm_id": "Jörg"}]));
    assert_eq!((&event["sequence"], &event["send_after"]), (&json!(7), &json!("2026-11-25T07:00:00Z")));

    let mut wrong = headers;
    wrong[7].1 = "tomorrow";
    let (status, problem) = read(app.post_raw("/v1/events", &wrong, data.clone()).await).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("ce-sendafter")));
    wrong = headers;
    wrong[0].1 = "application/xml";
    let (status, problem) = read(app.post_raw("/v1/events", &wrong, data).await).await;
    assert_eq!((status, &problem["code"]), (415, &json!("unsupported_media_type")));
}

#[tokio::test]
async fn what_is_no_cloudevent_that_herald_can_keep_is_refused_with_its_place() {
    let app = TestApp::start().await;
    for (name, value, status, pointer) in [
        ("specversion", json!("0.3"), 422, "/specversion"),
        ("specversion", Value::Null, 422, "/specversion"),
        ("source", Value::Null, 422, "/source"),
        ("source", json!("a|b"), 422, "/source"),
        ("id", json!(""), 422, "/id"),
        ("data_base64", json!("AAAA"), 422, "/data_base64"),
        ("datacontenttype", json!("application/xml"), 422, "/datacontenttype"),
        ("recipient", json!("null"), 422, "/recipient"),
        ("recipient", json!({"external_id": "user-42"}), 422, "/recipient"),
        ("recipent", json!("user-42"), 422, "/recipent"),
        ("expiresat", json!("soon"), 422, "/expiresat"),
        ("type", json!("order.shiped"), 422, "/type"),
        ("data", json!("text"), 422, "/data"),
    ] {
        let mut event = shipped("1");
        event[name] = value;
        let (found, problem) = post(&app, &event).await;
        assert_eq!((found, &problem["errors"][0]["pointer"]), (status, &json!(pointer)), "{name}: {problem}");
    }
    let mut short = shipped("1");
    short["data"].as_object_mut().unwrap().remove("carrier");
    let (status, problem) = post(&app, &short).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/data/carrier")));
    let twice = r#"{"specversion":"1.0","id":"1","id":"2"}"#;
    assert_eq!(app.post_raw("/v1/events", &[STRUCTURED], twice).await.status(), 400);
    assert_eq!(app.post_raw("/v1/events", &[BATCH], "[]").await.status(), 415);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events").await, 0);
}

#[tokio::test]
async fn a_key_that_may_not_post_a_type_may_not_post_it_as_a_cloudevent_either() {
    let app = TestApp::start().await;
    let reader = app.key_with(vec![Scope::EventsRead]).await;
    let url = format!("{}/v1/events", app.url);
    let request = reqwest::Client::new().post(url).bearer_auth(reader).header(STRUCTURED.0, STRUCTURED.1);
    assert_eq!(request.body(shipped("1").to_string()).send().await.unwrap().status(), 403);
}

#[tokio::test]
async fn a_batch_of_cloudevents_has_a_result_for_each() {
    let app = TestApp::start().await;
    let mut bad = shipped("2");
    bad["specversion"] = json!("0.3");
    let events = json!([shipped("1"), bad, shipped("3")]);
    let (status, answer) = read(app.post_raw("/v1/events/batch", &[BATCH], events.to_string()).await).await;
    assert_eq!(status, 202);
    let statuses: Vec<u64> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|result| result["status"].as_u64().unwrap())
        .collect();
    assert_eq!(statuses, [202, 422, 202]);
    assert_eq!(answer["results"][1]["problem"]["errors"][0]["pointer"], "/specversion");
}

#[tokio::test]
async fn a_line_that_is_no_event_takes_no_other_line_with_it() {
    let app = TestApp::start().await;
    let event = |id: &str| json!({"id": id, "type": "order.shipped", "recipient": {"external_id": "user-42"}, "data": shipped(id)["data"]});
    let mut body = format!("{}\r\n\n{{broken\n", event("1")).into_bytes();
    body.extend_from_slice(b"{\"id\":\"\xff\"}\n");
    body.extend_from_slice(format!("{}\n  {}", event("2"), event("1")).as_bytes());
    let (status, answer) = read(app.post_raw("/v1/events/batch", &[LINES], body).await).await;
    assert_eq!(status, 202);
    let results = answer["results"].as_array().unwrap();
    let statuses: Vec<u64> = results.iter().map(|result| result["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses, [202, 400, 400, 202, 202], "{answer}");
    let broken = results[1]["problem"]["detail"].as_str().unwrap();
    assert!(broken.contains("line 3 column 2"), "{broken}");
    assert_eq!(results[0]["id"], results[4]["id"]);
    assert_eq!((&answer["accepted"], &answer["refused"]), (&json!(3), &json!(2)));
    let too_many = "{}\n".repeat(1001);
    assert_eq!(app.post_raw("/v1/events/batch", &[LINES], too_many).await.status(), 400);
    assert_eq!(app.post_raw("/v1/events/batch", &[LINES], "\n\n").await.status(), 400);
}
