//! Rules: conditions, families, tags and custom events, cancellations, audiences; invalid definitions are rejected.

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::app::{TestApp, order_shipped, payment_failed};

const SMS: &str = "/v1/rules/payment-failed-sms";
const SCHEMA: &str = r#"{"type": "object", "properties": {
    "invoice": {"type": "string", "pattern": "\\S"}, "amount": {"type": "string", "pattern": "\\S"},
    "pay_url": {"type": "string", "format": "uri"}, "tries": {"type": "integer"}, "city": {"type": "string"}},
    "required": ["invoice", "amount", "pay_url"]}"#;

async fn with_tries() -> TestApp {
    let app = TestApp::start().await;
    app.apply(&[("events/payment.failed/schema.json", SCHEMA)]).await;
    app
}

/// The sample rule for failed payments with these members on top.
fn sms(more: Value) -> Value {
    let mut rule = json!({"event": "payment.failed", "template": "payment-failed-sms"});
    rule.as_object_mut().expect("it is there").extend(members(more));
    rule
}

async fn put(app: &TestApp, path: &str, seen: Option<&str>, rule: &Value) -> (u16, Value) {
    let answer = app.call_seen((Method::PUT, path), &app.key, seen, rule).await;
    (answer.0, answer.2)
}

async fn enter(app: &TestApp, path: &str, seen: Option<&str>, rule: &Value) {
    let (status, body) = put(app, path, seen, rule).await;
    assert_eq!(status, 200, "{body}");
}

/// A failed payment with these values on top.
fn failed(id: &str, user: &str, more: Value) -> Value {
    let mut event = payment_failed(id, user);
    event["data"].as_object_mut().expect("it is there").extend(members(more));
    event
}

#[tokio::test]
async fn a_condition_decides_and_says_so_in_its_own_words() {
    let app = with_tries().await;
    enter(&app, SMS, Some("1"), &sms(json!({"when": "data.tries > 2"}))).await;
    let yes = app.accept(&failed("p-1", "u", json!({"tries": 3}))).await;
    assert_eq!(yes["deliveries"].as_array().unwrap().len(), 1);
    let no = app.accept(&failed("p-2", "u", json!({"tries": 2}))).await;
    let decision = &no["decisions"][0];
    assert_eq!((&no["deliveries"], &decision["code"]), (&json!([]), &json!("condition_false")));
    assert!(decision["detail"].as_str().unwrap().contains("`data.tries > 2`"), "{decision}");
    let missing = app.accept(&failed("p-3", "u", json!({}))).await;
    let decision = &missing["decisions"][0];
    assert_eq!((&missing["deliveries"], &decision["code"]), (&json!([]), &json!("expression_failed")));
    assert!(decision["detail"].as_str().unwrap().contains("`data.tries`"), "{decision}");
}

#[tokio::test]
async fn a_family_answers_each_of_its_types_beside_their_own_rules_in_the_order_of_keys() {
    let app = TestApp::start().await;
    enter(&app, "/v1/rules/a-family", None, &json!({"event": "order.*", "template": "order-shipped-push"}))
        .await;
    enter(&app, "/v1/rules/z-family", None, &json!({"event": "order.*", "template": "order-shipped-email"}))
        .await;
    let accepted = app.accept(&order_shipped("o-1", "u")).await;
    let rules: Vec<&Value> = accepted["deliveries"].as_array().unwrap().iter().map(|d| &d["rule"]).collect();
    assert_eq!(rules, ["a-family", "order-shipped-email", "order-shipped-push", "z-family"]);
    let other = app.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(other["deliveries"].as_array().unwrap().len(), 1);
    let (status, problem) =
        put(&app, "/v1/rules/x", None, &json!({"event": "orders.*", "template": "order-shipped-push"})).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("unknown_event_type")), "{problem}");
}

#[tokio::test]
async fn tags_and_custom_events_are_planned_with_the_events_values_and_not_for_the_erased() {
    let app = with_tries().await;
    app.execute(
        "WITH people AS (
            INSERT INTO users (id, erased_at, created_at, updated_at)
            VALUES ('00000000-0000-7000-8000-000000000002', '2026-01-02Z', '2026-01-01Z', '2026-01-01Z')
         )
         INSERT INTO user_aliases (label, alias, user_id)
         VALUES ('external_id', 'gone', '00000000-0000-7000-8000-000000000002')",
    )
    .await;
    let tag = json!({"event": "payment.failed", "tag": {"last_invoice": "data.invoice", "tries": "data.tries + 1"}});
    enter(&app, "/v1/rules/tags", None, &tag).await;
    let track = json!({"event": "payment.failed", "track": {"name": "payment_failed", "properties": {"tries": "data.tries"}}});
    enter(&app, "/v1/rules/tells", None, &track).await;
    let mut event = failed("p-1", "u", json!({"tries": 2}));
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = json!([{"external_id": "u"}, {"external_id": "gone"}]);
    let accepted = app.accept(&event).await;
    let rows: Value = app
        .sql("SELECT json_agg(json_build_array(kind, recipient_id, body) ORDER BY kind, recipient_id) FROM planned_actions")
        .await;
    assert_eq!(
        rows,
        json!([
            ["tag", "u", {"last_invoice": "p-1", "tries": "3"}],
            ["track", "u", {"name": "payment_failed", "properties": {"tries": 2}}],
        ])
    );
    let codes: Vec<&Value> = accepted["decisions"].as_array().unwrap().iter().map(|d| &d["code"]).collect();
    assert_eq!(codes.iter().filter(|code| **code == "erased").count(), 3, "{accepted}");
    let repeated = app.accept(&event).await;
    assert_eq!(repeated["duplicate"], true);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM planned_actions").await, 2, "a repeat plans nothing");
}

#[tokio::test]
async fn a_cancelling_rule_ends_what_waits_under_the_key_and_nothing_else() {
    let app = with_tries().await;
    app.apply(&[(
        "events/payment.made/schema.json",
        r#"{"type": "object", "properties": {"invoice": {"type": "string"}}, "required": ["invoice"]}"#,
    )])
    .await;
    let rule = json!({"event": "payment.made", "cancel": "'invoice:' + data.invoice"});
    enter(&app, "/v1/rules/paid", None, &rule).await;
    let wait = |id: &str, key: &str, later: bool| {
        let mut event = payment_failed(id, "u");
        event["cancellation_key"] = json!(key);
        if later {
            event["send_after"] = json!("2026-11-24T12:00:00Z");
        }
        event
    };
    let later = app.accept(&wait("p-1", "invoice:1", true)).await;
    // Admitted with a lease: in memory, not sent yet.
    let now = app.accept(&wait("p-2", "invoice:1", false)).await;
    let other = app.accept(&wait("p-3", "invoice:2", true)).await;
    let elsewhere = app.key_of("billing").await;
    let (_, foreign) =
        app.call(Method::POST, "/v1/events", Some(&elsewhere), Some(&wait("p-4", "invoice:1", true))).await;
    let paid = json!({"id": "m-1", "type": "payment.made", "data": {"invoice": "1"}});
    let cancelled = app.accept(&paid).await;
    let decision = &cancelled["decisions"][0];
    assert_eq!(
        (&decision["code"], &decision["rule"]),
        (&json!("cancelled_others"), &json!("paid")),
        "{cancelled}"
    );
    app.run_until_idle().await;
    let state = |accepted: &Value| {
        let (app, accepted) = (&app, accepted.clone());
        async move { app.delivery(&accepted, "payment-failed-sms").await["state"].clone() }
    };
    assert_eq!(state(&later).await, "cancelled");
    assert_eq!((state(&other).await, state(&foreign).await), (json!("scheduled"), json!("scheduled")));
    // A delivery frozen with its event is already in flight; it ends in one of the two ways.
    let sent = app.messages().await.len();
    assert_eq!(
        (state(&now).await, sent),
        if sent == 1 { (json!("accepted"), 1) } else { (json!("cancelled"), 0) }
    );
    let count = decision["detail"].as_str().unwrap();
    assert!(count.starts_with(if sent == 1 { "1 " } else { "2 " }), "{count}");
    let again = app.accept(&json!({"id": "m-2", "type": "payment.made", "data": {"invoice": "1"}})).await;
    assert!(again["decisions"][0]["detail"].as_str().unwrap().starts_with("0 "), "{again}");
}

#[tokio::test]
async fn what_is_held_is_cancelled_and_what_may_have_been_sent_is_not() {
    let app = TestApp::start().await;
    app.fault(json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0})).await;
    let keyed = |id: &str| {
        let mut event = payment_failed(id, "u");
        event["cancellation_key"] = json!("k");
        event
    };
    let unclear = app.accept(&keyed("p-1")).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&unclear, "payment-failed-sms").await["state"], "retrying");
    app.execute("UPDATE templates SET live_version = NULL WHERE key = 'payment-failed-sms'").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let held = app.accept(&keyed("p-2")).await;
    assert_eq!(held["deliveries"][0]["state"], "held");
    let (status, answer) =
        app.call(Method::POST, "/v1/cancellations", Some(&app.key), Some(&json!({"key": "k"}))).await;
    assert_eq!((status, &answer["cancelled"]), (200, &json!(1)), "{answer}");
    assert_eq!(app.delivery(&held, "payment-failed-sms").await["state"], "cancelled");
    assert_eq!(app.delivery(&unclear, "payment-failed-sms").await["state"], "retrying");
}

#[tokio::test]
async fn filters_carry_the_events_values_to_onesignal() {
    let app = with_tries().await;
    let filters = json!([{"field": "tag", "key": "city", "relation": "=", "value_from": "data.city"},
        {"operator": "AND"}, {"field": "country", "relation": "=", "value": "DE"}]);
    enter(&app, SMS, Some("1"), &sms(json!({"filters": filters}))).await;
    let mut event = failed("p-1", "u", json!({"city": "Köln \"{{ x }}\""}));
    event.as_object_mut().unwrap().remove("recipient");
    app.accept(&event).await;
    app.run_until_idle().await;
    let request = &app.messages().await[0]["request"];
    assert_eq!(request["filters"][0]["value"], "Köln \"{{ x }}\"", "{request}");
    assert!(request["filters"][0].get("value_from").is_none() && request.get("included_segments").is_none());
    let lacking = app.accept(&payment_failed("p-2", "u")).await;
    assert_eq!(lacking["decisions"][0]["code"], "expression_failed", "{lacking}");
}

#[tokio::test]
async fn what_can_t_be_right_is_refused_with_its_place() {
    let app = with_tries().await;
    for (more, code, field) in [
        (
            json!({"segments": ["All"], "filters": [{"field": "country", "relation": "=", "value": "DE"}]}),
            "mixed_audience",
            "filters",
        ),
        (json!({"excluded_segments": ["All"]}), "bad_audience", "excluded_segments"),
        (json!({"tag": {"a": "data.invoice"}}), "one_action", "template"),
        (json!({"throttle": {"max": 0, "within": "1h"}}), "bad_throttle", "throttle"),
        (json!({"before": "1h"}), "bad_timing", "before"),
        (json!({"zone": "Europe/Berlun"}), "bad_zone", "zone"),
        (json!({"deliver": "soon"}), "bad_deliver", "deliver"),
        (json!({"deliver": "timezone", "time_of_day": "lunch"}), "bad_deliver", "time_of_day"),
        (json!({"canary": {"version": 2, "percent": 101}}), "bad_canary", "canary"),
        (json!({"template": "payment-failed-sm"}), "unknown_template", ""),
        (json!({"app": "nowhere"}), "unknown_app", ""),
    ] {
        let (status, problem) = put(&app, SMS, Some("1"), &sms(more.clone())).await;
        let found = &problem["problems"][0];
        assert_eq!((status, &found["code"]), (422, &json!(code)), "{more}: {problem}");
        assert_eq!(found["field"].as_str().unwrap_or_default(), field, "{problem}");
    }
    for (when, column) in
        [("data.invoice > 3", 1), ("data.tries >", 12), ("data.invoic == 'a'", 1), ("data.tries", 1)]
    {
        let (status, problem) = put(&app, SMS, Some("1"), &sms(json!({"when": when}))).await;
        let found = &problem["problems"][0];
        assert_eq!(
            (status, &found["field"], &found["line"]),
            (422, &json!("when"), &Value::Null),
            "{problem}"
        );
        let message = found["message"].as_str().unwrap_or_default();
        let place =
            message.rsplit_once("(column ").and_then(|(_, rest)| rest.split(' ').next()?.parse::<u64>().ok());
        assert!(place.is_some_and(|found| found >= column), "{problem}");
    }
    assert_eq!(app.get(SMS).await["version"], 1);
}

#[tokio::test]
async fn a_rule_is_put_over_the_version_that_was_seen() {
    let app = TestApp::start().await;
    let (status, problem) = put(&app, SMS, None, &sms(json!({}))).await;
    assert_eq!((status, &problem["code"]), (428, &json!("match_required")));
    let (status, etag, _) =
        app.call_seen((Method::PUT, SMS), &app.key, Some("1"), &sms(json!({"priority": "bulk"}))).await;
    assert_eq!((status, etag.as_str()), (200, "2"));
    let (status, problem) = put(&app, SMS, Some("1"), &sms(json!({"priority": "urgent"}))).await;
    assert_eq!((status, &problem["code"]), (412, &json!("stale")));
    let rule = app.get(SMS).await;
    assert_eq!(
        (&rule["priority"], &rule["does"], &rule["version"]),
        (&json!("bulk"), &json!("send"), &json!(2))
    );
    let dry = format!("{SMS}?dry_run=true");
    assert_eq!(app.call_seen((Method::DELETE, &dry), &app.key, Some("2"), &json!({})).await.0, 200);
    assert_eq!(app.accept(&payment_failed("p-1", "u")).await["deliveries"][0]["rule"], "payment-failed-sms");
}

#[tokio::test]
async fn a_sensitive_value_does_not_leave_by_a_tag() {
    let app = TestApp::start().await;
    let tag = json!({"event": "password.reset", "tag": {"code": "data.code"}});
    let (status, problem) = put(&app, "/v1/rules/leak", None, &tag).await;
    assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("sensitive_value")), "{problem}");
}

#[tokio::test]
async fn no_rule_depends_on_a_sensitive_value_since_its_decisions_would_spell_it() {
    let app = TestApp::start().await;
    for rule in [
        json!({"event": "password.reset", "cancel": "'x'", "when": "data.code.matches('^.7')"}),
        json!({"event": "password.reset", "cancel": "'x'", "when": "size(data.code) > 6"}),
        json!({"event": "password.reset", "template": "password-reset-email", "when": "data == {'code': '1'}"}),
        json!({"event": "password.reset", "template": "password-reset-email", "at": "data.code"}),
    ] {
        let (status, problem) = put(&app, "/v1/rules/leak", None, &rule).await;
        let codes = problem["problems"].to_string();
        assert!(status == 422 && codes.contains("sensitive_value"), "{rule}: {problem}");
    }
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        other => panic!("no object: {other}"),
    }
}
