//! The sandbox's own paths.

use serde_json::{Value, json};

use super::support::{APP, Served, push, unlimited};
use herald::sandbox::SandboxOptions;

#[tokio::test]
async fn messages_come_oldest_first_in_pages() {
    let served = Served::start().await;
    for n in 0..5 {
        served.accept(&push(json!({"contents": {"en": n.to_string()}}))).await;
    }
    let mut seen = Vec::new();
    let mut cursor = String::new();
    loop {
        let page = served.get(&format!("/_sandbox/messages?limit=2&cursor={cursor}")).await.json();
        for message in page["data"].as_array().unwrap() {
            seen.push(message["recipients"][0]["rendered"]["contents"].as_str().unwrap().to_owned());
        }
        let Some(next) = page["next_cursor"].as_str() else { break };
        next.clone_into(&mut cursor);
    }
    assert_eq!(seen, ["0", "1", "2", "3", "4"]);
}

#[tokio::test]
async fn a_message_shows_what_came_and_what_was_seen() {
    let served = Served::start().await;
    let key = "0190a5b0-0000-7000-8000-00000000000a";
    let body = push(json!({"idempotency_key": key}));
    let id = served.accept(&body).await;
    let message = served.get("/_sandbox/messages").await.json()["data"][0].clone();
    assert_eq!(
        (&message["id"], &message["idempotency_key"], &message["channel"]),
        (&json!(id), &json!(key), &json!("push"))
    );
    assert_eq!((&message["request"], &message["template_id"]), (&body, &Value::Null));
    assert!(message["received_at"].is_string());
    let recipient = &message["recipients"][0];
    assert_eq!((&recipient["external_id"], &recipient["blanks"]), (&json!("user-42"), &json!([])));
}

#[tokio::test]
async fn unclear_requests_are_refused_with_the_reason() {
    let served = Served::start().await;
    for (path, body, text) in [
        ("/_sandbox/clock", json!({"advance": "31"}), "`advance` must be a number with"),
        ("/_sandbox/clock", json!({"advnace": "31d"}), "unknown field `advnace`"),
        ("/_sandbox/faults", json!({"kind": "explode"}), "unknown variant `explode`"),
        ("/_sandbox/faults", json!({"kind": "hang", "often": 1}), "unknown field `often`"),
        ("/_sandbox/users", json!({"external_id": "u", "tag": {}}), "unknown field `tag`"),
        ("/_sandbox/users", json!({"tags": {}}), "requires an `external_id`"),
        ("/_sandbox/users", json!({"external_id": "undefined"}), "is not allowed as an external ID"),
    ] {
        let answer = served.post(path, &body).await;
        assert_eq!(answer.status, 400, "{path} {body}");
        assert!(answer.error().contains(text), "{path} {body}: {}", answer.text);
    }
    for path in ["/_sandbox/messages?limit=1001", "/_sandbox/messages?cursor=x", "/_sandbox/messages?page=2"]
    {
        assert_eq!(served.get(path).await.status, 400, "{path}");
    }
    assert_eq!(
        served.get("/api/v1/notifications").await.error(),
        "the sandbox has no GET /api/v1/notifications"
    );
}

#[tokio::test]
async fn a_reset_forgets_everything_but_the_clock() {
    let served = Served::with(SandboxOptions { calls_per_second: 1, ..unlimited() }).await;
    served.post("/_sandbox/clock", &json!({"advance": "40d"})).await;
    let before = served.get("/_sandbox/clock").await.json()["now"].as_str().unwrap().to_owned();
    let template = served.template(json!({"contents": {"en": "x"}})).await;
    served.post("/_sandbox/users", &json!({"external_id": "u", "subscriptions": []})).await;
    served.accept(&push(json!({}))).await;
    served.post("/_sandbox/faults", &json!({"kind": "hang"})).await;
    assert_eq!(served.post("/_sandbox/reset", &json!({})).await.status, 200);
    assert_eq!(served.get(&format!("/templates/{template}?app_id={APP}")).await.status, 404);
    served.accept(&push(json!({"include_aliases": {"external_id": ["u"]}}))).await;
    assert_eq!(served.sandbox.messages().len(), 1);
    assert_eq!(served.stats().await["messages"], 1);
    assert!(served.get("/_sandbox/clock").await.json()["now"].as_str().unwrap() >= before.as_str());
}

#[tokio::test]
async fn segments_reach_the_known_and_subscribed_else_a_made_up_audience() {
    let served = Served::start().await;
    let segment = push(json!({"include_aliases": null, "included_segments": ["All"]}));
    served.accept(&segment).await;
    let people = json!([{"external_id": "on"}, {"external_id": "off", "subscriptions": []}]);
    served.post("/_sandbox/users", &people).await;
    served.accept(&segment).await;
    let reached = |n: usize| -> Vec<String> {
        served.sandbox.messages()[n].recipients.iter().map(|to| to.id.clone()).collect()
    };
    assert_eq!(reached(0), ["user-1", "user-2", "user-3"]);
    assert_eq!(reached(1), ["on"]);
}

#[tokio::test]
async fn the_oldest_messages_go_when_there_are_too_many() {
    let served = Served::with(SandboxOptions { keep_messages: 2, ..unlimited() }).await;
    for n in 0..4 {
        served.accept(&push(json!({"name": n.to_string()}))).await;
    }
    let names: Vec<_> =
        served.sandbox.messages().iter().map(|message| message.request["name"].clone()).collect();
    assert_eq!(names, ["2", "3"]);
    assert_eq!(served.stats().await["messages"], 4);
}
