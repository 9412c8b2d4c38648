//! Digests: many events of one key become one message.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, payment_failed};

const RULE: &str = "payment-failed-sms";
const COPY: &str =
    "{{ data.count }}: {% for item in data.items %}[{{ item.invoice }}]{% endfor %} last {{ data.invoice }}";

fn files(digest: &str) -> [(&'static str, String); 3] {
    [
        ("templates/failed-payments/template.toml", "channel = \"sms\"\n".to_owned()),
        ("templates/failed-payments/sms.en.liquid", COPY.to_owned()),
        (
            "rules/payment-failed-sms.toml",
            format!("event = \"payment.failed\"\ntemplate = \"failed-payments\"\n\n[digest]\n{digest}\n"),
        ),
    ]
}

async fn gathering(app: &TestApp, digest: &str) {
    let files = files(digest);
    let files: Vec<(&str, &str)> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
    app.apply(&files).await;
}

async fn start() -> TestApp {
    let app = TestApp::start().await;
    gathering(&app, "window = \"10m\"\nmax = 3").await;
    app
}

async fn texts(app: &TestApp) -> Vec<String> {
    let text = |recipient: &Value| {
        let contents = &recipient["rendered"]["contents"];
        contents
            .as_str()
            .map_or_else(|| contents["en"].as_str().unwrap_or_default().to_owned(), str::to_owned)
    };
    let messages = app.messages().await;
    messages
        .iter()
        .flat_map(|message| message["recipients"].as_array().expect("them").iter().map(text))
        .collect()
}

fn joined(accepted: &Value) -> &str {
    let decisions = accepted["decisions"].as_array().expect("decisions");
    let digested = decisions.iter().find(|d| d["code"] == "digested").expect("it joined a message");
    digested["delivery"].as_str().expect("its message")
}

#[tokio::test]
async fn events_within_the_window_become_one_message_with_the_newest_kept() {
    let app = start().await;
    let first = app.accept(&payment_failed("p-1", "u")).await;
    let message = first["deliveries"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(first["deliveries"][0]["state"], "scheduled");
    for n in 2..=5 {
        app.advance(Duration::from_mins(1)).await;
        let next = app.accept(&payment_failed(&format!("p-{n}"), "u")).await;
        assert_eq!((joined(&next), &next["deliveries"]), (message.as_str(), &json!([])), "{next}");
        app.run_until_idle().await;
    }
    assert!(app.messages().await.is_empty());
    app.advance(Duration::from_mins(7)).await;
    app.run_until_idle().await;
    assert_eq!(texts(&app).await, ["5: [p-3][p-4][p-5] last p-5"]);
    assert_eq!(app.delivery(&first, RULE).await["state"], "accepted");
    let next = app.accept(&payment_failed("p-6", "u")).await;
    assert_ne!(next["deliveries"][0]["id"], first["deliveries"][0]["id"], "a new window");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM digest_windows").await, 1);
}

#[tokio::test]
async fn people_and_keys_have_windows_of_their_own() {
    let app = TestApp::start().await;
    gathering(&app, "key = \"data.amount\"\nwindow = \"10m\"").await;
    for (n, (user, amount)) in [("u", "1"), ("u", "2"), ("v", "1"), ("u", "1")].into_iter().enumerate() {
        let mut event = payment_failed(&format!("p-{n}"), user);
        event["data"]["amount"] = json!(amount);
        app.accept(&event).await;
    }
    app.advance(Duration::from_mins(11)).await;
    app.run_until_idle().await;
    let mut texts = texts(&app).await;
    texts.sort();
    assert_eq!(texts, ["1: [p-1] last p-1", "1: [p-2] last p-2", "2: [p-0][p-3] last p-3"]);
}

#[tokio::test]
async fn events_of_one_batch_are_collected_in_order_and_a_duplicate_once() {
    let app = start().await;
    let batch: Vec<Value> = (1..=3).map(|n| payment_failed(&format!("p-{n}"), "u")).collect();
    for _ in 0..2 {
        let path = "/v1/events/batch";
        let (status, body) = app.call(Method::POST, path, Some(&app.key), Some(&json!(batch))).await;
        assert_eq!((status, &body["accepted"]), (202, &json!(3)), "{body}");
    }
    app.advance(Duration::from_mins(11)).await;
    app.run_until_idle().await;
    assert_eq!(texts(&app).await, ["3: [p-1][p-2][p-3] last p-3"]);
}

#[tokio::test]
async fn a_lost_reply_is_tried_again_with_the_very_same_message() {
    let app = start().await;
    app.accept(&payment_failed("p-1", "u")).await;
    app.accept(&payment_failed("p-2", "u")).await;
    app.advance(Duration::from_mins(11)).await;
    app.fault(json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0, "times": 1}))
        .await;
    app.run_until_idle().await;
    let later = app.accept(&payment_failed("p-3", "u")).await;
    assert_eq!(later["deliveries"].as_array().unwrap().len(), 1, "the first window is closed: {later}");
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    assert_eq!(texts(&app).await, ["2: [p-1][p-2] last p-2"]);
    assert_eq!(app.stats().await["idempotent_replays"], 1);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 1);
}

#[tokio::test]
async fn cancelled_events_are_taken_out_and_the_others_are_sent() {
    let app = start().await;
    let keyed = |n: u32| {
        let mut event = payment_failed(&format!("p-{n}"), "u");
        event["cancellation_key"] = json!(format!("k-{n}"));
        event
    };
    let first = app.accept(&keyed(1)).await;
    for n in 2..=4 {
        app.accept(&keyed(n)).await;
    }
    let cancel = format!("/v1/events/{}/cancel", first["id"].as_str().unwrap());
    for path in [format!("{cancel}?dry_run=true"), cancel] {
        let answer = app.act(&path).await;
        assert_eq!((&answer["taken_out"], &answer["cancelled"]), (&json!(1), &json!(0)), "{path} {answer}");
    }
    let (_, answer) =
        app.call(Method::POST, "/v1/cancellations", Some(&app.key), Some(&json!({"key": "k-3"}))).await;
    assert_eq!(answer["taken_out"], 1, "{answer}");
    app.advance(Duration::from_mins(11)).await;
    app.run_until_idle().await;
    assert_eq!(texts(&app).await, ["2: [p-2][p-4] last p-4"]);
}

#[tokio::test]
async fn a_message_with_nothing_left_to_tell_is_cancelled_and_the_next_event_opens_a_window() {
    let app = start().await;
    app.put_rule("stop", &json!({"event": "order.shipped", "cancel": "'k'"})).await;
    let mut event = payment_failed("p-1", "u");
    event["cancellation_key"] = json!("k");
    let first = app.accept(&event).await;
    app.accept(&crate::support::app::order_shipped("o-1", "w")).await;
    assert_eq!(app.delivery(&first, RULE).await["state"], "cancelled");
    let next = app.accept(&payment_failed("p-2", "u")).await;
    assert_eq!(next["deliveries"].as_array().unwrap().len(), 1, "{next}");
    app.advance(Duration::from_mins(11)).await;
    app.run_until_idle().await;
    assert!(texts(&app).await.contains(&"1: [p-2] last p-2".to_owned()));
}

#[tokio::test]
async fn a_message_that_ends_early_leaves_its_window_to_the_next_event() {
    let app = start().await;
    let first = app.accept(&payment_failed("p-1", "u")).await;
    let id = first["deliveries"][0]["id"].as_str().unwrap();
    assert_eq!(app.act(&format!("/v1/deliveries/{id}/cancel")).await["cancelled"], 1);
    app.accept(&payment_failed("p-2", "u")).await;
    app.accept(&payment_failed("p-3", "u")).await;
    app.advance(Duration::from_mins(11)).await;
    app.run_until_idle().await;
    assert_eq!(texts(&app).await, ["2: [p-2][p-3] last p-3"]);
}

#[tokio::test]
async fn sensitive_values_of_all_that_is_gathered_are_opened_for_the_message_and_erased_once_it_is_sent() {
    let app = start().await;
    let schema = herald::catalog::sample::files()["events/payment.failed/schema.json"].clone();
    app.apply(&[
        ("events/payment.failed/event.toml", "description = \"x\"\nsensitive = [\"/invoice\"]\n"),
        ("events/payment.failed/schema.json", &schema),
    ])
    .await;
    app.put_rule(
        RULE,
        &json!({"event": "payment.failed", "template": "failed-payments", "digest": {"window": "3h"}}),
    )
    .await;
    app.accept(&payment_failed("canary-1", "u")).await;
    app.accept(&payment_failed("canary-2", "u")).await;
    for _ in 0..2 {
        app.advance(Duration::from_mins(89)).await;
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM event_secrets").await, 2, "they have not served yet");
    app.advance(Duration::from_mins(5)).await;
    app.run_until_idle().await;
    assert_eq!(texts(&app).await, ["2: [canary-1][canary-2] last canary-2"]);
    app.advance(Duration::from_hours(2)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM event_secrets").await, 0);
    let items: String = app.sql("SELECT coalesce(string_agg(i::text, ' '), '') FROM digest_items i").await;
    assert!(!items.contains("canary"), "{items}");
}

#[tokio::test]
async fn publishing_and_previews_know_what_is_gathered() {
    let app = start().await;
    let path = "/v1/templates/failed-payments/preview";
    let (status, shown) = app.call(Method::POST, path, Some(&app.key), Some(&json!({}))).await;
    assert_eq!((status, &shown["held"]), (200, &Value::Null), "{shown}");
    assert!(shown["fields"]["contents"].as_str().unwrap().starts_with("1: ["), "{shown}");
    let (_, checked) =
        app.call(Method::POST, "/v1/templates/failed-payments/check", Some(&app.key), Some(&json!({}))).await;
    let errors: Vec<&Value> =
        checked["problems"].as_array().unwrap().iter().filter(|p| p["severity"] == "error").collect();
    assert!(errors.is_empty(), "{checked}");
    // Without the digest, nothing would fill the copy in.
    let bare = json!({"event": "payment.failed", "template": "failed-payments"});
    let (status, _, body) = app.call_seen((Method::PUT, "/v1/rules/bare"), &app.key, None, &bare).await;
    assert_eq!(status, 422, "{body}");
    assert_eq!(body["problems"][0]["code"], "template_does_not_fit", "{body}");
}

#[tokio::test]
async fn a_draft_is_held_against_real_events_as_they_are_gathered() {
    let app = start().await;
    app.accept(&payment_failed("p-1", "u")).await;
    let draft = json!({"contents": {"en": {"contents": "Now {{ data.count }} {{ data.items[0].invoice }}"}}});
    let path = "/v1/templates/failed-payments/draft";
    let (status, etag, body) = app.call_seen((Method::PUT, path), &app.key, Some("0"), &draft).await;
    assert!(status == 200 || status == 201, "{status} {body}");
    let path = "/v1/templates/failed-payments/publish";
    let (status, _, body) = app.call_seen((Method::POST, path), &app.key, Some(&etag), &json!({})).await;
    assert_eq!(status, 200, "{body}");
    assert_eq!(
        (&body["traffic"]["based_on"], &body["traffic"]["would_be_held"]),
        (&json!("events"), &json!(0))
    );
}

#[tokio::test]
async fn a_test_send_gathers_one_event_and_goes_at_once() {
    let app = start().await;
    let tester = json!({"external_id": "tester"});
    let listed = json!({"recipient": tester, "note": "us"});
    let (status, body) = app.call(Method::POST, "/v1/test-recipients", Some(&app.key), Some(&listed)).await;
    assert_eq!(status, 204, "{body}");
    let path = "/v1/templates/failed-payments/test-send";
    let test = json!({"recipient": tester, "version": "live"});
    let (status, body) = app.call(Method::POST, path, Some(&app.key), Some(&test)).await;
    assert_eq!(status, 202, "{body}");
    app.run_until_idle().await;
    let texts = texts(&app).await;
    assert!(texts.len() == 1 && texts[0].starts_with("1: ["), "{texts:?}");
}

#[tokio::test]
async fn a_throttle_counts_messages_and_not_what_they_tell() {
    let app = start().await;
    let rule = json!({
        "event": "payment.failed", "template": "failed-payments", "digest": {"window": "10m"},
        "throttle": {"max": 1, "within": "1h"},
    });
    app.put_rule(RULE, &rule).await;
    app.accept(&payment_failed("p-1", "u")).await;
    app.accept(&payment_failed("p-2", "u")).await;
    app.advance(Duration::from_mins(11)).await;
    app.run_until_idle().await;
    let third = app.accept(&payment_failed("p-3", "u")).await;
    assert_eq!(third["deliveries"][0]["state"], "skipped", "{third}");
    let fourth = app.accept(&payment_failed("p-4", "u")).await;
    assert_eq!(
        fourth["deliveries"][0]["state"], "skipped",
        "a message that is not sent gathers nothing: {fourth}"
    );
    assert_eq!(texts(&app).await, ["2: [p-1][p-2] last p-2"]);
}

#[tokio::test]
async fn a_rule_that_gathers_wrongly_is_refused_with_words() {
    let app = TestApp::start().await;
    for digest in [
        json!({"window": "0s"}),
        json!({"window": "8d"}),
        json!({"window": "10m", "max": 0}),
        json!({"window": "10m", "max": 101}),
        json!({"window": "10m", "key": "data.nothing"}),
    ] {
        let rule = json!({"event": "payment.failed", "template": RULE, "digest": digest});
        let (status, _, body) = app.call_seen((Method::PUT, "/v1/rules/x"), &app.key, None, &rule).await;
        assert_eq!(status, 422, "{digest} {body}");
    }
    let rule = json!({"event": "payment.failed", "template": RULE, "digest": {"window": "10m", "key": "data.amount"}});
    let (status, _, body) = app.call_seen((Method::PUT, "/v1/rules/x"), &app.key, None, &rule).await;
    assert_eq!(status, 200, "{body}");
    let seen = app.get("/v1/rules/x").await;
    assert_eq!(seen["digest"], json!({"window": "10m", "key": "data.amount", "max": 50}), "{seen}");
}

/// Two replicas accept events while windows close: every event is in exactly one message.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_lost_or_duplicated_while_windows_close() {
    let app = TestApp::start().await;
    gathering(&app, "window = \"1s\"\nmax = 100").await;
    let twin = TestApp::start_with(Wanted {
        database: Some(app.database.clone()),
        sandbox_url: Some(app.sandbox_url.clone()),
        without_catalog: true,
        seed: 9,
        ..Wanted::default()
    })
    .await;
    let post = |to: &TestApp, name: &'static str| {
        let (url, key, client) = (format!("{}/v1/events", to.url), to.key.clone(), reqwest::Client::new());
        async move {
            for n in 0..40 {
                let event = payment_failed(&format!("{name}{n}"), "u");
                let answer =
                    client.post(&url).bearer_auth(&key).json(&event).send().await.expect("an answer");
                assert_eq!(answer.status().as_u16(), 202);
            }
        }
    };
    let close = async {
        for _ in 0..60 {
            // The clocks of both run ahead of the windows again and again.
            app.clock.advance(Duration::from_millis(700));
            twin.clock.advance(Duration::from_millis(700));
            app.herald.pipeline.renew("test").await.expect("renewed");
            twin.herald.pipeline.renew("test").await.expect("renewed");
            app.run_until_idle().await;
            twin.run_until_idle().await;
        }
    };
    tokio::join!(post(&app, "a"), post(&twin, "b"), close);
    app.advance(Duration::from_secs(5)).await;
    app.run_until_idle().await;
    let mut reported: Vec<String> = texts(&app)
        .await
        .iter()
        .flat_map(|text| {
            let items = text.split('[').skip(1).filter_map(|rest| rest.split(']').next());
            items.map(str::to_owned).collect::<Vec<_>>()
        })
        .collect();
    reported.sort();
    let mut wanted: Vec<String> = (0..40).flat_map(|n| [format!("a{n}"), format!("b{n}")]).collect();
    wanted.sort();
    assert_eq!(reported, wanted);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM queue").await, 0);
}
