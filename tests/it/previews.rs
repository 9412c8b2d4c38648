//! Previews show exactly what would be sent; test sends go to test recipients only.

use herald::access::Scope;
use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped, payment_failed};

const PUSH: &str = "/v1/templates/order-shipped-push";
const SMS: &str = "/v1/templates/payment-failed-sms";

async fn post(app: &TestApp, path: &str, body: Value) -> (u16, Value) {
    app.call(Method::POST, path, Some(&app.key), Some(&body)).await
}

async fn preview(app: &TestApp, template: &str, body: Value) -> Value {
    let (status, shown) = post(app, &format!("{template}/preview"), body).await;
    assert_eq!(status, 200, "{shown}");
    shown
}

async fn draft(app: &TestApp, text: &str) -> String {
    let body = json!({"contents": {"en": {"contents": text}}});
    let path = (Method::PUT, "/v1/templates/payment-failed-sms/draft");
    let (status, revision, answer) = app.call_seen(path, &app.key, None, &body).await;
    assert_eq!(status, 200, "{answer}");
    revision
}

async fn list(app: &TestApp, id: &str) {
    let body = json!({"recipient": {"external_id": id}, "note": "a phone on a desk"});
    assert_eq!(post(app, "/v1/test-recipients", body).await.0, 204);
}

/// A request without the parts that differ in each call.
fn lasting(request: &Value) -> Value {
    let mut request = request.clone();
    for name in ["idempotency_key", "ttl"] {
        request.as_object_mut().expect("it is there").remove(name);
    }
    request
}

#[tokio::test]
async fn the_request_that_is_shown_is_the_one_that_is_sent() {
    let app = TestApp::start().await;
    let code = json!({"id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {"code": "314159"}});
    for (event, template, channel) in [
        (order_shipped("o-1", "u"), "order-shipped-push", "push"),
        (order_shipped("o-2", "u"), "order-shipped-email", "email"),
        (payment_failed("p-1", "u"), "payment-failed-sms", "sms"),
        (code, "password-reset-email", "email"),
    ] {
        app.accept(&event).await;
        app.run_until_idle().await;
        let messages = app.messages().await;
        let sent = messages.iter().rev().find(|message| message["channel"] == channel).unwrap();
        let wish = json!({"version": "live", "data": event["data"], "recipient": {"external_id": "u"}});
        let shown = preview(&app, &format!("/v1/templates/{template}"), wish).await;
        assert_eq!(lasting(&shown["request"]), lasting(&sent["request"]), "{template}");
        for (field, text) in shown["fields"].as_object().unwrap() {
            let wire = if channel == "email" { format!("email_{field}") } else { field.clone() };
            assert_eq!(*text, sent["recipients"][0]["rendered"][&wire], "{template} {field}");
        }
    }
}

#[tokio::test]
async fn a_draft_a_version_and_content_are_shown_with_a_sample_an_event_or_data() {
    let app = TestApp::start().await;
    draft(&app, "Draft {{ data.invoice }}").await;
    let event = app.accept(&payment_failed("p-1", "u")).await;
    let fields = |shown: &Value| shown["fields"]["contents"].as_str().unwrap().to_owned();
    assert_eq!(fields(&preview(&app, SMS, json!({"event": event["id"]})).await), "Draft p-1");
    assert_eq!(fields(&preview(&app, SMS, json!({"sample": "card"})).await), "Draft 2026-118");
    assert_eq!(fields(&preview(&app, SMS, json!({"data": {"invoice": "x"}})).await), "Draft x");
    assert!(fields(&preview(&app, SMS, json!({"version": "1"})).await).starts_with("Shop:"));
    let content = json!({"contents": {"en": {"contents": "Given {{ data.invoice }}"}}});
    assert_eq!(fields(&preview(&app, SMS, json!({"content": content})).await), "Given 2026-118");
    assert_eq!(app.get(SMS).await["live_version"], 1);
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1, "only the event itself was sent");
}

#[tokio::test]
async fn the_locale_falls_back_as_it_does_when_sending() {
    let app = TestApp::start().await;
    for (wish, locale, word) in [("de-AT", "de", "Hallo"), ("fr", "en", "Hi"), ("DE", "de", "Hallo")] {
        let shown = preview(&app, PUSH, json!({"version": "live", "locale": wish})).await;
        assert_eq!(shown["locale"], locale, "{wish}");
        assert!(shown["fields"]["contents"].as_str().unwrap().starts_with(word), "{shown}");
    }
}

#[tokio::test]
async fn a_hole_is_shown_as_what_would_be_held() {
    let app = TestApp::start().await;
    let shown = preview(&app, SMS, json!({"version": "live", "data": {"invoice": " ", "amount": "2"}})).await;
    assert_eq!(
        (&shown["held"]["code"], &shown["request"]),
        (&json!("missing_value"), &Value::Null),
        "{shown}"
    );
    let content =
        json!({"contents": {"en": {"contents": "Hi {{ user.tags.nick }}, pay {{ data.invoice }}"}}});
    let blank = preview(&app, SMS, json!({"content": content})).await;
    assert_eq!(blank["blanks"], json!(["user.tags.nick"]), "{blank}");
    let known = preview(&app, SMS, json!({"content": content, "user": {"tags": {"nick": "Al"}}})).await;
    assert_eq!(known["fields"]["contents"], "Hi Al, pay 2026-118", "{known}");
}

#[tokio::test]
async fn a_past_events_sensitive_values_stay_masked() {
    let app = TestApp::start().await;
    let code = json!({"id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {"code": "314159"}});
    let event = app.accept(&code).await;
    let path = "/v1/templates/password-reset-email";
    let shown = preview(&app, path, json!({"version": "live", "event": event["id"]})).await;
    assert!(!shown.to_string().contains("314159"), "{shown}");
}

#[tokio::test]
async fn what_is_not_there_is_said_plainly() {
    let app = TestApp::start().await;
    for (body, status, code) in [
        (json!({"version": "draft"}), 404, "not_found"),
        (json!({"version": "77"}), 404, "not_found"),
        (json!({"version": "newest"}), 400, "bad_parameter"),
        (json!({"version": "live", "sample": "nothing"}), 422, "invalid_fields"),
        (json!({"version": "live", "event": "evt_x"}), 422, "invalid_fields"),
        (json!({"version": "live", "recipient": {}}), 422, "invalid_fields"),
        (json!({"version": "live", "recipient": {"email": "no address"}}), 422, "invalid_fields"),
        (json!({"version": "live", "colour": "red"}), 400, "unknown_field"),
        (json!({"version": "live", "data": 3}), 422, "invalid_fields"),
    ] {
        let (found, problem) = post(&app, &format!("{SMS}/preview"), body.clone()).await;
        assert_eq!((found, &problem["code"]), (status, &json!(code)), "{body}: {problem}");
    }
    assert_eq!(post(&app, "/v1/templates/nothing/preview", json!({})).await.0, 404);
}

#[tokio::test]
async fn a_test_reaches_the_listed_only_and_says_that_it_is_one() {
    let app = TestApp::start().await;
    draft(&app, "Draft {{ data.invoice }}").await;
    let wish = json!({"recipient": {"external_id": "tester"}, "sample": "card"});
    let path = format!("{SMS}/test-send");
    let (status, problem) = post(&app, &path, wish.clone()).await;
    assert_eq!((status, &problem["code"]), (403, &json!("not_listed")), "{problem}");
    assert_eq!(
        app.get(&format!("{SMS}/versions")).await["data"].as_array().unwrap().len(),
        1,
        "nothing is stored"
    );
    list(&app, "tester").await;
    let (status, sent) = post(&app, &path, wish.clone()).await;
    assert_eq!((status, &sent["version"]), (202, &json!(2)), "{sent}");
    app.run_until_idle().await;
    let message = &app.messages().await[0];
    assert_eq!(message["recipients"][0]["rendered"]["contents"], "Draft 2026-118");
    assert!(message["request"]["name"].as_str().unwrap().starts_with("[test]"), "{}", message["request"]);
    assert_eq!(app.get(SMS).await["live_version"], 1);
    assert_eq!(app.get(sent["trace_url"].as_str().unwrap()).await["deliveries"][0]["state"], "accepted");
    let off = app.call(Method::DELETE, "/v1/test-recipients/external_id/tester", Some(&app.key), None).await;
    assert_eq!(off.0, 204);
    assert_eq!(post(&app, &path, wish).await.0, 403);
}

#[tokio::test]
async fn the_version_of_a_test_is_the_one_that_is_published() {
    let app = TestApp::start().await;
    let revision = draft(&app, "Draft {{ data.invoice }}").await;
    list(&app, "tester").await;
    for _ in 0..2 {
        let (_, sent) =
            post(&app, &format!("{SMS}/test-send"), json!({"recipient": {"external_id": "tester"}})).await;
        assert_eq!(sent["version"], 2, "{sent}");
    }
    let path = format!("{SMS}/publish");
    let (status, _, live) =
        app.call_seen((Method::POST, &path), &app.key, Some(&revision), &json!({"note": "out"})).await;
    assert_eq!((status, &live["version"]), (200, &json!(2)), "{live}");
    let record = app.get(&format!("{SMS}/versions/2")).await;
    assert_eq!((&record["note"], &record["author"]), (&json!("out"), &json!("shop")), "{record}");
}

#[tokio::test]
async fn only_who_hands_out_keys_changes_the_list() {
    let app = TestApp::start().await;
    let editor = app.key_with(vec![Scope::CatalogWrite, Scope::CatalogRead]).await;
    let body = json!({"recipient": {"external_id": "ceo"}});
    let (status, problem) = app.call(Method::POST, "/v1/test-recipients", Some(&editor), Some(&body)).await;
    assert_eq!((status, &problem["code"]), (403, &json!("missing_scope")), "{problem}");
    let (status, problem) =
        post(&app, "/v1/test-recipients", json!({"recipient": {"email": "a@b.c", "phone": "+491"}})).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_fields")), "{problem}");
}

#[tokio::test]
async fn a_test_goes_out_whatever_the_rules_say_but_not_to_who_wants_none() {
    let app = TestApp::start().await;
    app.apply(&[(
        "rules/payment-failed-sms.toml",
        "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\nenabled = false\n",
    )])
    .await;
    app.execute(
        "WITH people AS (
            INSERT INTO users (id, created_at, updated_at)
            VALUES ('00000000-0000-7000-8000-000000000001', '2026-01-01Z', '2026-01-01Z')
         ), aliases AS (
            INSERT INTO user_aliases (label, alias, user_id)
            VALUES ('external_id', 'out', '00000000-0000-7000-8000-000000000001')
         )
         INSERT INTO user_opt_outs (user_id, channel, since)
         VALUES ('00000000-0000-7000-8000-000000000001', 'sms', '2026-01-01Z')",
    )
    .await;
    list(&app, "tester").await;
    list(&app, "out").await;
    for (who, state) in [("tester", "sending"), ("out", "skipped")] {
        let wish = json!({"version": "live", "recipient": {"external_id": who}});
        let (status, sent) = post(&app, &format!("{SMS}/test-send"), wish).await;
        assert_eq!((status, &sent["deliveries"][0]["state"]), (202, &json!(state)), "{sent}");
    }
}
