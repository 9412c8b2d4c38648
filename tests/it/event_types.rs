//! Event types: a schema that would break what is live is refused by name, and a dry run changes nothing.

use reqwest::Method;
use serde_json::{Value, json};

use crate::support::app::{TestApp, order_shipped, payment_failed};

const PAYMENT: &str = "/v1/event-types/payment.failed";

async fn put(app: &TestApp, path: &str, seen: Option<&str>, form: &Value) -> (u16, Value) {
    let answer = app.call_seen((Method::PUT, path), &app.key, seen, form).await;
    (answer.0, answer.2)
}

/// An event type as it can be put again.
async fn form(app: &TestApp, path: &str) -> Value {
    let mut form = app.get(path).await;
    for name in ["name", "version", "used_by"] {
        form.as_object_mut().expect("it is there").remove(name);
    }
    form
}

#[tokio::test]
async fn a_schema_that_breaks_a_live_template_is_refused_and_names_it() {
    let app = TestApp::start().await;
    let mut wanted = form(&app, PAYMENT).await;
    wanted["schema"]["properties"].as_object_mut().unwrap().remove("invoice");
    wanted["schema"]["required"] = json!(["amount", "pay_url"]);
    wanted["schema"]["additionalProperties"] = json!(false);
    wanted["samples"] = json!({});
    let (status, problem) = put(&app, PAYMENT, Some("1"), &wanted).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("would_break")), "{problem}");
    let words = problem["detail"].as_str().unwrap();
    assert!(words.contains("payment-failed-sms version 1") && words.contains("data.invoice"), "{words}");
    assert_eq!(app.get(PAYMENT).await["version"], 1);

    let mut optional = form(&app, PAYMENT).await;
    optional["schema"]["required"] = json!(["amount", "pay_url"]);
    let (status, problem) = put(&app, PAYMENT, Some("1"), &optional).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("would_break")), "{problem}");
}

#[tokio::test]
async fn a_schema_that_breaks_a_rule_is_refused_and_names_it() {
    let app = TestApp::start().await;
    app.apply(&[
        (
            "rules/payment-failed-sms.toml",
            "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\nwhen = \"data.tries > 2\"\n",
        ),
        (
            "events/payment.failed/schema.json",
            r#"{"type": "object", "properties": {"tries": {"type": "integer"},
            "invoice": {"type": "string", "pattern": "\\S"}, "amount": {"type": "string", "pattern": "\\S"},
            "pay_url": {"type": "string", "format": "uri"}},
            "required": ["tries", "invoice", "amount", "pay_url"]}"#,
        ),
    ])
    .await;
    let mut wanted = form(&app, PAYMENT).await;
    wanted["schema"]["properties"]["tries"] = json!({"type": "string"});
    let (status, problem) = put(&app, PAYMENT, Some("2"), &wanted).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("would_break")), "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("rule payment-failed-sms"), "{problem}");
}

#[tokio::test]
async fn a_change_that_breaks_nothing_is_taken_once() {
    let app = TestApp::start().await;
    let mut wanted = form(&app, PAYMENT).await;
    wanted["schema"]["properties"]["note"] = json!({"type": "string"});
    wanted["owner"] = json!("billing");
    let dry = format!("{PAYMENT}?dry_run=true");
    let (status, planned) = put(&app, &dry, Some("1"), &wanted).await;
    assert_eq!((status, &planned["changes"][0]["change"]), (200, &json!("changed")), "{planned}");
    assert_eq!(app.get(PAYMENT).await["version"], 1, "a dry run changes nothing");
    let (status, _) = put(&app, PAYMENT, Some("1"), &wanted).await;
    assert_eq!((status, &app.get(PAYMENT).await["version"]), (200, &json!(2)));
    let (status, stale) = put(&app, PAYMENT, Some("1"), &wanted).await;
    assert_eq!((status, &stale["code"]), (412, &json!("stale")), "{stale}");
    assert_eq!(put(&app, PAYMENT, None, &wanted).await.0, 428);
    assert_eq!(put(&app, "/v1/event-types/payment.lost", Some("3"), &wanted).await.0, 412, "there is none");
}

#[tokio::test]
async fn of_two_concurrent_changes_of_an_entry_one_is_rejected() {
    let app = TestApp::start().await;
    let mut one = form(&app, PAYMENT).await;
    let mut two = one.clone();
    one["description"] = json!("one");
    two["description"] = json!("two");
    let (one, two) = tokio::join!(put(&app, PAYMENT, Some("1"), &one), put(&app, PAYMENT, Some("1"), &two));
    let mut answers = [one.0, two.0];
    answers.sort_unstable();
    assert_eq!(answers, [200, 412]);
    assert_eq!(app.get(PAYMENT).await["version"], 2);
}

#[tokio::test]
async fn what_can_t_be_a_schema_or_does_not_fit_it_is_refused() {
    let app = TestApp::start().await;
    for (form, code) in [
        (
            json!({"schema": {"type": "object", "properties": {"a": {"$ref": "https://evil.example/s.json"}}}}),
            "remote_reference",
        ),
        (json!({"schema": {"$dynamicRef": "https://evil.example/s.json"}}), "remote_reference"),
        (json!({"schema": {"$schema": "https://evil.example/meta.json"}}), "bad_schema"),
        (json!({"schema": {"type": "objekt"}}), "bad_schema"),
        (json!({"schema": {"type": "array"}}), "bad_schema"),
        (json!({"schema": {"type": "object", "required": ["a"]}, "samples": {"empty": {}}}), "bad_sample"),
        (json!({"schema": {"type": "object"}, "sensitive": ["code"]}), "bad_pointer"),
        (json!({"schema": {"type": "object"}, "time_to_live": "0s"}), "bad_duration"),
    ] {
        let (status, problem) = put(&app, "/v1/event-types/a.b", None, &form).await;
        assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!(code)), "{form}: {problem}");
    }
    let (status, problem) = put(&app, "/v1/event-types/Bad%20Name", None, &json!({"schema": {}})).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("bad_name")), "{problem}");
    let (status, problem) = put(&app, "/v1/event-types/Order.Shipped", None, &json!({"schema": {}})).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("same_name")), "{problem}");
    let (status, problem) = put(&app, "/v1/event-types/a.b", None, &json!({"shema": {}})).await;
    assert_eq!((status, &problem["errors"][0]["hint"]), (400, &json!("did you mean `schema`?")), "{problem}");
}

#[tokio::test]
async fn a_type_that_a_rule_answers_can_t_go() {
    let app = TestApp::start().await;
    let delete = |path: &'static str| {
        let app = &app;
        async move { app.call_seen((Method::DELETE, path), &app.key, Some("1"), &json!({})).await }
    };
    let (status, _, refused) = delete(PAYMENT).await;
    assert_eq!((status, &refused["problems"][0]["code"]), (422, &json!("in_use")), "{refused}");
    app.apply(&[
        ("events/parcel.lost/schema.json", "{\"type\": \"object\"}"),
        ("events/parcel.found/schema.json", "{\"type\": \"object\"}"),
        ("rules/parcels.toml", "event = \"parcel.*\"\n[tag]\nlast = \"event.type\"\n"),
    ])
    .await;
    assert_eq!(delete("/v1/event-types/parcel.lost").await.0, 200, "the family still has a member");
    let (status, _, refused) = delete("/v1/event-types/parcel.found").await;
    assert_eq!((status, &refused["problems"][0]["code"]), (422, &json!("in_use")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("rule parcels"), "{refused}");
    assert_eq!(delete("/v1/event-types/parcel.none").await.0, 404);
}

#[tokio::test]
async fn a_type_that_a_template_is_written_for_can_t_go() {
    let app = TestApp::start().await;
    app.apply(&[
        ("events/parcel.lost/schema.json", "{\"type\": \"object\"}"),
        ("templates/parcel-lost/template.toml", "channel = \"sms\"\nevent = \"parcel.lost\""),
        ("templates/parcel-lost/sms.en.liquid", "Your parcel is lost."),
    ])
    .await;
    let path = (Method::DELETE, "/v1/event-types/parcel.lost");
    let (status, _, refused) = app.call_seen(path, &app.key, Some("1"), &json!({})).await;
    assert_eq!((status, &refused["problems"][0]["code"]), (422, &json!("in_use")), "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("template parcel-lost"), "{refused}");
}

#[tokio::test]
async fn events_are_held_against_the_new_schema_from_then_on() {
    let app = TestApp::start().await;
    app.accept(&payment_failed("p-1", "u")).await;
    let mut wanted = form(&app, PAYMENT).await;
    wanted["schema"]["properties"]["country"] = json!({"type": "string"});
    wanted["schema"]["required"].as_array_mut().unwrap().push(json!("country"));
    wanted["samples"] = json!({});
    assert_eq!(put(&app, PAYMENT, Some("1"), &wanted).await.0, 200);
    // The next commit of any event notices that the catalog has moved.
    app.accept(&order_shipped("o-1", "u")).await;
    let (status, problem) = app.post(&payment_failed("p-2", "u")).await;
    assert_eq!((status, &problem["code"]), (422, &json!("invalid_data")), "{problem}");
    let again = app.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(again["duplicate"], true, "what was taken stays taken");
}
