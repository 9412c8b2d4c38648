//! Event Streams, received by a small server of the test's own.

use std::sync::Arc;

use axum::http::{HeaderMap, StatusCode};
use axum::{Router, routing};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc};

use super::{Caller, Check, check};

const STREAM: &str = "Event Streams";

/// A receiver that answers with these statuses in turn, then 200; what it was sent comes out of the channel.
async fn receiver(answers: &[u16]) -> (String, mpsc::UnboundedReceiver<(HeaderMap, Value)>) {
    let (sender, receiver) = mpsc::unbounded_channel();
    let answers: Vec<u16> = answers.iter().rev().copied().collect();
    let answers = Arc::new(Mutex::new(answers));
    let answer = async move |headers: HeaderMap, body: String| {
        let status = answers.lock().await.pop().unwrap_or(200);
        let _ = sender.send((headers, serde_json::from_str(&body).unwrap()));
        StatusCode::from_u16(status).unwrap()
    };
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/in", listener.local_addr().unwrap());
    tokio::spawn(axum::serve(listener, Router::new().route("/in", routing::post(answer))).into_future());
    (url, receiver)
}

async fn send(caller: &Caller, channel: &str) -> String {
    caller.done("/_sandbox/users", json!({"external_id": "u1"})).await;
    let mut body = json!({
        "app_id": caller.app, "target_channel": channel, "include_aliases": {"external_id": ["u1"]},
    });
    if channel == "email" {
        body["email_subject"] = json!("Hi");
        body["email_body"] = json!("<p>Hi</p>");
    } else {
        body["contents"] = json!({"en": "Hello"});
    }
    caller.done("/notifications", body).await["id"].as_str().unwrap().to_owned()
}

pub fn checks() -> Vec<Check> {
    vec![
        check(STREAM, "post what happens, with the configured header and body", async |caller: Caller| {
            let (url, mut received) = receiver(&[]).await;
            let stream = json!({"url": url, "headers": {"Authorization": "Bearer secret"}});
            caller.done("/_sandbox/event-streams", stream).await;
            let id = send(&caller, "email").await;
            caller.done(&format!("/_sandbox/messages/{id}/recipients/u1/click"), Value::Null).await;
            let mut kinds = Vec::new();
            for _ in 0..4 {
                let (headers, event) = received.recv().await.unwrap();
                assert_eq!(headers["authorization"], "Bearer secret");
                assert_eq!((&event["message_id"], &event["external_id"]), (&json!(id), &json!("u1")));
                assert!(event["ts"].is_i64(), "{event}");
                kinds.push(event["kind"].as_str().unwrap().to_owned());
            }
            kinds.sort();
            let wanted =
                ["clicked", "opened", "received", "sent"].map(|what| format!("message.email.{what}"));
            assert_eq!(kinds, wanted);
        }),
        check(STREAM, "try again after a failure, with the same event", async |caller: Caller| {
            let (url, mut received) = receiver(&[500]).await;
            let stream = json!({"url": url, "kinds": ["message.push.sent"]});
            caller.done("/_sandbox/event-streams", stream).await;
            send(&caller, "push").await;
            let first = received.recv().await.unwrap().1;
            let second = received.recv().await.unwrap().1;
            assert_eq!(first["event_id"], second["event_id"]);
        }),
        check(STREAM, "a bounce and an unsubscription end what reaches them", async |caller: Caller| {
            let id = send(&caller, "push").await;
            caller.done(&format!("/_sandbox/messages/{id}/recipients/u1/unsubscribe"), Value::Null).await;
            let body = json!({
                "app_id": caller.app, "target_channel": "push", "include_aliases": {"external_id": ["u1"]},
                "contents": {"en": "Hello"},
            });
            let answer = caller.done("/notifications", body).await;
            assert_eq!(answer["id"], "", "{answer}");
            caller.done(&format!("/_sandbox/messages/{id}/recipients/u1/subscribe"), Value::Null).await;
            assert_ne!(send(&caller, "push").await, "");
        }),
    ]
}
