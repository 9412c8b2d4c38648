//! Scripted faults, down to the connection.

use std::error::Error as _;
use std::io;
use std::time::Instant;

use serde_json::{Value, json};

use super::support::{APP, Served, push};

/// The I/O error at the bottom of a failed call.
fn io_kind(error: &reqwest::Error) -> Option<io::ErrorKind> {
    let mut cause = error.source();
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            return Some(found.kind());
        }
        cause = inner.source();
    }
    None
}

async fn fault(served: &Served, body: Value) {
    assert_eq!(served.post("/_sandbox/faults", &body).await.status, 201, "{body}");
}

async fn failure(served: &Served) -> reqwest::Error {
    let request = served.request(reqwest::Method::POST, "/notifications").json(&push(json!({})));
    match request.send().await {
        Err(error) => error,
        Ok(response) => response.bytes().await.unwrap_err(),
    }
}

#[tokio::test]
async fn a_status_comes_instead_of_the_answer_and_nothing_is_accepted() {
    let served = Served::start().await;
    fault(
        &served,
        json!({"endpoint": "notifications", "kind": "status", "status": 503, "retry_after": 7, "times": 1}),
    )
    .await;
    let answer = served.send(&push(json!({}))).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (503, "Service temporarily unavailable"));
    assert_eq!(answer.headers["Retry-After"], "7");
    assert_eq!(served.sandbox.messages(), []);
    served.accept(&push(json!({}))).await;
    let stats = served.stats().await;
    assert_eq!(stats["calls"]["notifications.create"], json!({"200": 1, "503": 1}));
    assert_eq!(stats["faults"], json!({"status": 1}));
}

#[tokio::test]
async fn a_reset_before_accepts_nothing_and_a_reset_after_has_accepted() {
    let served = Served::start().await;
    fault(&served, json!({"kind": "reset_before", "times": 1})).await;
    let error = failure(&served).await;
    assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionReset), "{error:?}");
    assert_eq!(served.sandbox.messages().len(), 0);

    fault(&served, json!({"kind": "reset_after", "times": 1})).await;
    let error = failure(&served).await;
    assert_eq!(io_kind(&error), Some(io::ErrorKind::ConnectionReset), "{error:?}");
    assert_eq!(served.sandbox.messages().len(), 1);
    assert_eq!(served.stats().await["calls"]["notifications.create"], json!({"lost": 2}));
}

#[tokio::test]
async fn a_truncated_answer_announces_more_than_it_sends() {
    let served = Served::start().await;
    fault(&served, json!({"kind": "truncate"})).await;
    let request = served.request(reqwest::Method::POST, "/notifications").json(&push(json!({})));
    let mut response = request.send().await.unwrap();
    assert_eq!(response.status(), 200);
    let announced = usize::try_from(response.content_length().unwrap()).unwrap();
    let first = response.chunk().await.unwrap().unwrap();
    assert_eq!(first.len(), announced / 2);
    assert!(response.chunk().await.is_err());
    assert_eq!(served.sandbox.messages().len(), 1, "it was accepted");
}

#[tokio::test]
async fn html_comes_instead_of_json() {
    let served = Served::start().await;
    fault(&served, json!({"kind": "html", "status": 502, "times": 1})).await;
    let answer = served.send(&push(json!({}))).await;
    assert_eq!(answer.status, 502);
    assert!(answer.text.contains("<h1>502 Bad Gateway</h1>"));
    fault(&served, json!({"kind": "html"})).await;
    assert_eq!(served.send(&push(json!({}))).await.status, 503);
}

#[tokio::test]
async fn a_hanging_call_lasts_until_the_client_gives_up_or_the_server_stops() {
    let served = Served::start().await;
    fault(&served, json!({"kind": "hang", "endpoint": "notifications"})).await;
    let patience = std::time::Duration::from_millis(100);
    let request =
        served.request(reqwest::Method::POST, "/notifications").json(&push(json!({}))).timeout(patience);
    assert!(request.send().await.unwrap_err().is_timeout());
    assert_eq!(served.get(&format!("/templates?app_id={APP}")).await.status, 200, "others go on");
    let hanging = served.request(reqwest::Method::POST, "/notifications").json(&push(json!({}))).send();
    let hanging = tokio::spawn(hanging);
    while served.stats().await["calls"]["notifications.create"]["lost"] != 2 {
        tokio::task::yield_now().await;
    }
    served.stop().await;
    assert!(hanging.await.unwrap().is_err());
}

#[tokio::test]
async fn a_delay_holds_the_answer_back() {
    let served = Served::start().await;
    fault(&served, json!({"kind": "delay", "delay_ms": 80})).await;
    let before = Instant::now();
    served.accept(&push(json!({}))).await;
    assert!(before.elapsed().as_millis() >= 80);
}

#[tokio::test]
async fn a_rate_limit_fault_answers_429_above_its_limit() {
    let served = Served::start().await;
    fault(&served, json!({"kind": "rate_limit", "limit_per_second": 1, "endpoint": "templates"})).await;
    let list = format!("/templates?app_id={APP}");
    assert_eq!(served.get(&list).await.status, 200);
    let answer = served.get(&list).await;
    assert_eq!((answer.status.as_u16(), answer.error().as_str()), (429, "API rate limit exceeded"));
    served.accept(&push(json!({}))).await;
}

#[tokio::test]
async fn faults_are_listed_with_their_strikes_and_cleared() {
    let served = Served::start().await;
    fault(
        &served,
        json!({"kind": "status", "status": 500, "endpoint": "notifications", "probability": 0.5, "seed": 7}),
    )
    .await;
    for _ in 0..10 {
        served.send(&push(json!({}))).await;
    }
    let listed = served.get("/_sandbox/faults").await.json()["data"][0].clone();
    assert_eq!(
        (&listed["kind"], &listed["seed"], &listed["calls"]),
        (&json!("status"), &json!(7), &json!(10))
    );
    let strikes = listed["strikes"].as_u64().unwrap();
    assert_eq!(usize::try_from(10 - strikes).unwrap(), served.sandbox.messages().len());
    assert_eq!(served.delete("/_sandbox/faults").await.json()["cleared"], 1);
    served.accept(&push(json!({}))).await;
}
