//! Many events at once: a result for each event of a batch, bad events that do not affect others, and pages of lists.

use futures_util::future::join_all;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped, payment_failed};

const JSON: (&str, &str) = ("content-type", "application/json");

#[tokio::test]
async fn in_a_batch_each_event_gets_its_own_result() {
    let app = TestApp::start().await;
    app.accept(&order_shipped("o-0", "user-42")).await;
    let mut late = order_shipped("o-3", "user-42");
    late["type"] = json!("order.unknown");
    let body = format!(
        r#"[{}, {}, {{"id":"x","id":"y"}}, {}, {}]"#,
        order_shipped("o-0", "user-42"),
        order_shipped("o-1", "user-42"),
        late,
        order_shipped("o-1", "user-43")
    );
    let answer = app.post_raw("/v1/events/batch", &[JSON], body).await;
    assert_eq!(answer.status(), 202);
    let body: Value = answer.json().await.unwrap();
    let statuses: Vec<u64> =
        body["results"].as_array().unwrap().iter().map(|r| r["status"].as_u64().unwrap()).collect();
    assert_eq!(statuses[0], 202);
    assert_eq!((statuses[2], statuses[3]), (400, 422));
    let mut racing = [statuses[1], statuses[4]];
    racing.sort_unstable();
    assert_eq!(racing, [202, 409], "two contents under one id: one of them wins");
    assert_eq!((&body["accepted"], &body["refused"]), (&json!(2), &json!(3)));
    assert_eq!(body["results"][0]["duplicate"], true);
}

#[tokio::test]
async fn an_event_that_the_database_refuses_takes_no_neighbour_with_it() {
    let app = TestApp::start().await;
    app.execute("ALTER TABLE events ADD CONSTRAINT not_this_one CHECK (event_key <> 'p-13')").await;
    let answers = join_all((0..40).map(|n| {
        let event = payment_failed(&format!("p-{n}"), "user-42");
        let app = &app;
        async move { app.post(&event).await.0 }
    }))
    .await;
    let refused: Vec<usize> =
        answers.iter().enumerate().filter(|(_, status)| **status != 202).map(|(n, _)| n).collect();
    assert_eq!((refused.as_slice(), answers[13]), ([13].as_slice(), 500));
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 39);
}

#[tokio::test]
async fn lists_page_by_cursor_and_narrow_by_recipient_state_and_type() {
    let app = TestApp::start().await;
    for n in 0..5 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("user-{n}"))).await;
    }
    app.run_until_idle().await;
    let first = app.get("/v1/deliveries?limit=2").await;
    let second =
        app.get(&format!("/v1/deliveries?limit=2&cursor={}", first["next_cursor"].as_str().unwrap())).await;
    let third =
        app.get(&format!("/v1/deliveries?limit=2&cursor={}", second["next_cursor"].as_str().unwrap())).await;
    assert_eq!((third["data"].as_array().unwrap().len(), &third["next_cursor"]), (1, &Value::Null));
    let one = app.get("/v1/events?recipient=external_id%3Duser-3").await;
    assert_eq!(one["data"][0]["key"], "p-3");
    assert_eq!(app.get("/v1/deliveries?state=accepted").await["data"].as_array().unwrap().len(), 5);
    assert_eq!(app.get("/v1/events?type=order.*").await["data"], json!([]));
    let (status, problem) = app.call(Method::GET, "/v1/deliveries?state=lost", Some(&app.key), None).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (400, &json!("state")));
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused_as_a_whole() {
    let app = TestApp::start().await;
    let many = format!("[{}]", vec!["{}"; 1_001].join(","));
    for (body, status) in [
        ("{}".to_owned(), 400),
        ("[]".to_owned(), 400),
        ("[{]".to_owned(), 400),
        (many, 400),
        (format!("[{}]", " ".repeat(8 * 1024 * 1024)), 413),
    ] {
        let answer = app.post_raw("/v1/events/batch", &[JSON], body.clone()).await;
        assert_eq!(answer.status(), status, "{}", &body[..body.len().min(40)]);
        assert_eq!(answer.headers()["content-type"], "application/problem+json");
    }
    let text = app.post_raw("/v1/events/batch", &[("content-type", "application/x-yaml")], "{}").await;
    assert_eq!(text.status(), 415);
    let (status, problem) = app.call(Method::GET, "/v1/events/batch", Some(&app.key), None).await;
    assert!([404, 405].contains(&status), "{problem}");
}

#[tokio::test]
async fn in_a_batch_each_event_names_itself_and_a_large_one_is_refused_alone() {
    let app = TestApp::start().await;
    let mut nameless = order_shipped("", "user-42");
    nameless.as_object_mut().unwrap().remove("id");
    let mut large = order_shipped("large", "user-42");
    large["data"]["note"] = json!("x".repeat(300_000));
    let body = json!([nameless, large, order_shipped("o-1", "user-42"), 7, null]).to_string();
    let headers = [JSON, ("idempotency-key", "one-for-all")];
    let answer: Value = app.post_raw("/v1/events/batch", &headers, body).await.json().await.unwrap();
    let results: Vec<(u64, Value)> = answer["results"]
        .as_array()
        .unwrap()
        .iter()
        .map(|r| (r["status"].as_u64().unwrap(), r["problem"]["code"].clone()))
        .collect();
    let expected = [
        (400, json!("missing_id")),
        (413, json!("too_large")),
        (202, Value::Null),
        (400, json!("bad_json")),
        (400, json!("bad_json")),
    ];
    assert_eq!(results, expected, "{answer}");
}

#[tokio::test]
async fn a_batch_can_be_tried_out_and_a_thousand_events_are_one_post() {
    let app = TestApp::start().await;
    let events: Vec<Value> =
        (0..1_000).map(|n| payment_failed(&format!("p-{n}"), &format!("user-{n}"))).collect();
    let dry = app.post_raw("/v1/events/batch?dry_run=true", &[JSON], json!(events).to_string()).await;
    let dry: Value = dry.json().await.unwrap();
    assert_eq!((&dry["accepted"], app.sql::<i64>("SELECT count(*) FROM events").await), (&json!(1_000), 0));
    for is_repeat in [false, true] {
        let answer: Value =
            app.post_raw("/v1/events/batch", &[JSON], json!(events).to_string()).await.json().await.unwrap();
        assert_eq!(answer["accepted"], 1_000);
        assert!(answer["results"].as_array().unwrap().iter().all(|r| r["duplicate"] == is_repeat));
    }
    for _ in 0..100 {
        app.run_until_idle().await;
        if app.sql::<i64>("SELECT count(*) FROM queue").await == 0 {
            break;
        }
        app.advance(std::time::Duration::from_millis(100)).await;
    }
    let messages = app.messages().await;
    let people: usize = messages.iter().map(|m| m["recipients"].as_array().unwrap().len()).sum();
    assert_eq!(people, 1_000);
    assert!(messages.len() <= 200, "{} calls", messages.len());
}
