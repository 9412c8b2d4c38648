//! Values that pass a check although it was written to reject them, and counts that no one made.

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped};

const BATCH: &str = "/v1/events/batch";

fn to_many(id: &str, recipients: usize) -> Value {
    let mut event = order_shipped(id, "user-1");
    event.as_object_mut().expect("an object").remove("recipient");
    let all: Vec<Value> = (0..recipients).map(|n| json!({"external_id": format!("{id}-{n}")})).collect();
    event["recipients"] = json!(all);
    event
}

#[tokio::test]
async fn a_batch_to_more_than_ten_thousand_recipients_is_refused_as_a_whole() {
    let app = TestApp::start().await;
    let key = app.key_with(vec![Scope::EventsWrite]).await;
    let batch: Vec<Value> = (0..6).map(|n| to_many(&format!("big-{n}"), 2_000)).collect();
    let (status, answer) = app.call(Method::POST, BATCH, Some(&key), Some(&json!(batch))).await;
    assert_eq!((status, answer["code"].as_str()), (413, Some("too_large")), "{answer:.300}");
    let detail = answer["detail"].as_str().unwrap_or_default();
    assert!(detail.contains("10000 recipients") && detail.contains("12000"), "{detail}");
    assert_eq!(app.get("/v1/events").await["data"], json!([]), "nothing of it is stored");
    let (status, answer) = app.call(Method::POST, BATCH, Some(&key), Some(&json!(batch[..1]))).await;
    assert_eq!((status, &answer["accepted"]), (202, &json!(1)));
}

#[tokio::test]
async fn each_recipient_counts_against_its_source_s_rate() {
    let app = TestApp::start().await;
    let key = app.key_of("limited").await;
    app.execute("UPDATE sources SET events_per_second = 100 WHERE name = 'limited'").await;
    let post = async |body: Value| app.call(Method::POST, "/v1/events", Some(&key), Some(&body)).await.0;
    assert_eq!(post(to_many("first", 60)).await, 202);
    assert_eq!(post(to_many("second", 60)).await, 429);
    assert_eq!(post(order_shipped("third", "user-1")).await, 202);
    let batch = json!([to_many("fourth", 30), to_many("fifth", 30)]);
    assert_eq!(app.call(Method::POST, BATCH, Some(&key), Some(&batch)).await.0, 429);
}

const WORDS: (&str, &str) = (
    "events/words.said/schema.json",
    r#"{"type": "object", "properties": {"words": {"type": "array", "items": {"type": "string"}}}}"#,
);

fn wrong(id: &str, words: usize) -> Value {
    let data = json!({"words": vec![1; words]});
    json!({"id": id, "type": "words.said", "recipient": {"external_id": "u"}, "data": data})
}

#[tokio::test]
async fn an_event_that_is_wrong_in_thousands_of_places_is_answered_with_twenty_at_most() {
    let app = TestApp::start().await;
    app.apply(&[WORDS]).await;
    let (status, answer) = app.post(&wrong("w-0", 60_000)).await;
    assert_eq!((status, answer["errors"].as_array().map(Vec::len)), (422, Some(2)), "{answer}");
    let (status, answer) = app.post(&wrong("w-1", 5_000)).await;
    assert_eq!(status, 422);
    let errors = answer["errors"].as_array().expect("a list");
    assert_eq!((errors.len(), &errors[20]["code"]), (21, &json!("more_errors")), "{errors:?}");
    let (_, answer) = app.post(&wrong("w-2", 3)).await;
    assert_eq!(answer["errors"].as_array().map(Vec::len), Some(3), "{answer}");
}

#[tokio::test]
async fn the_answer_to_a_batch_of_wrong_events_stays_small() {
    let app = TestApp::start().await;
    app.apply(&[WORDS]).await;
    let batch: Vec<Value> = (0..60).map(|n| wrong(&format!("w-{n}"), 1_000)).collect();
    let (status, answer) = app.call(Method::POST, BATCH, Some(&app.key), Some(&json!(batch))).await;
    assert_eq!((status, &answer["refused"]), (202, &json!(60)));
    let results = answer["results"].as_array().expect("a list");
    let errors: usize =
        results.iter().map(|one| one["problem"]["errors"].as_array().map_or(0, Vec::len)).sum();
    assert!(errors <= 500, "{errors}");
    assert!(
        results[59]["problem"]["detail"].as_str().is_some_and(|d| d.contains("further errors are omitted")),
        "{results:?}"
    );
    assert!(answer.to_string().len() < 256 * 1024, "{}", answer.to_string().len());
}

#[tokio::test]
async fn names_that_a_producer_makes_up_do_not_fill_the_answer() {
    let app = TestApp::start().await;
    let schema = r#"{"type": "object", "additionalProperties": false}"#;
    app.apply(&[("events/closed.made/schema.json", schema)]).await;
    let data: serde_json::Map<String, Value> =
        (0..10_000).map(|n| (format!("made-up-{n}"), json!(1))).collect();
    let event = json!({"id": "c", "type": "closed.made", "recipient": {"external_id": "u"}, "data": data});
    let (status, answer) = app.post(&event).await;
    assert_eq!(status, 422);
    assert!(answer.to_string().len() < 4_000, "{}", answer.to_string().len());
}

#[tokio::test]
async fn direction_controls_are_refused_in_titles_and_subjects_that_people_write() {
    let app = TestApp::start().await;
    for (template, field) in [("order-shipped-push", "headings"), ("order-shipped-email", "subject")] {
        for turned in ["\u{202e}gpj.exe", "a\u{2066}b", "a\u{202a}b", "a\u{2069}b"] {
            let content = json!({"contents": {"en": {"contents": "x", "body": "x", field: turned}}});
            let path = format!("/v1/templates/{template}/check");
            let body = json!({ "content": content });
            let (status, answer) = app.call(Method::POST, &path, Some(&app.key), Some(&body)).await;
            assert_eq!(status, 200, "{answer}");
            let codes = answer["problems"].to_string();
            assert!(codes.contains("direction_control"), "{field}: {codes}");
        }
    }
}

#[tokio::test]
async fn direction_controls_in_values_do_not_reach_a_title() {
    let app = TestApp::start().await;
    let name = "\u{202e}moc.live\u{2066}";
    let content =
        json!({"contents": {"en": {"headings": "For {{ data.name }}", "contents": "x {{ data.name }}"}}});
    let body = json!({"content": content, "data": {"name": name}});
    let path = "/v1/templates/order-shipped-push/preview";
    let (status, shown) = app.call(Method::POST, path, Some(&app.key), Some(&body)).await;
    assert_eq!(status, 200, "{shown}");
    assert_eq!(shown["fields"]["headings"], "For moc.live", "{shown}");
    assert_eq!(shown["fields"]["contents"], format!("x {name}"), "text that is no title keeps them");
}

#[tokio::test]
async fn a_webhook_secret_that_could_never_verify_anything_is_refused() {
    let app = TestApp::start().await;
    for (name, auth) in [("by-standard", "standard_webhooks"), ("by-bearer", "bearer")] {
        let settings = json!({
            "webhook": {"auth": auth},
            "mapping": [{"type": "order.shipped", "id": "body.id", "recipient": {"external_id": "body.id"}}],
        });
        let path = format!("/v1/sources/{name}");
        let (status, _, answer) = app.call_seen((Method::PUT, &path), &app.key, None, &settings).await;
        assert_eq!(status, 200, "{answer}");
    }
    let make = async |name: &str, secret: &str| {
        let path = format!("/v1/sources/{name}/secrets");
        app.call(Method::POST, &path, Some(&app.key), Some(&json!({ "secret": secret }))).await
    };
    for name in ["by-standard", "by-bearer"] {
        for secret in ["                    ", " 0123456789abcdef", "0123456789abcdef "] {
            let (status, answer) = make(name, secret).await;
            assert_eq!(
                (status, answer["errors"][0]["pointer"].as_str()),
                (422, Some("/secret")),
                "{name} {secret:?}"
            );
        }
    }
    for secret in ["whsec_notbase64!!!!", "whsk_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"] {
        assert_eq!(make("by-standard", secret).await.0, 422, "{secret}");
    }
    // The libraries take a secret that is no base64 as it is, and so does a bearer.
    assert_eq!(make("by-standard", "not base64, but long enough").await.0, 201);
    assert_eq!(make("by-standard", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").await.0, 201);
    assert_eq!(make("by-bearer", "not base64, but long enough").await.0, 201);
}
