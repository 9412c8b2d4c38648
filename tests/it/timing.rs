//! When a rule acts, how often, and for which share of people.

use std::time::Duration;

use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::app::{TestApp, Wanted, order_shipped, payment_failed};

const SMS: &str = "/v1/rules/payment-failed-sms";

/// The usual service with these members on top of the rule for failed payments.
async fn with(more: Value) -> TestApp {
    let app = TestApp::start().await;
    enter(&app, more).await;
    app
}

async fn enter(app: &TestApp, more: Value) {
    let mut rule = json!({"event": "payment.failed", "template": "payment-failed-sms"});
    rule.as_object_mut().expect("it is there").extend(members(more));
    let (status, _, body) = app.call_seen((Method::PUT, SMS), &app.key, Some("1"), &rule).await;
    assert_eq!(status, 200, "{body}");
}

/// When an event's only delivery is due.
async fn due(app: &TestApp, event: &Value) -> Value {
    let accepted = app.accept(event).await;
    assert_eq!(accepted["deliveries"].as_array().expect("it is there").len(), 1, "{accepted}");
    app.delivery(&accepted, "payment-failed-sms").await["due_at"].clone()
}

async fn person(app: &TestApp) {
    app.execute(
        "WITH people AS (
            INSERT INTO users (id, time_zone, created_at, updated_at)
            VALUES ('00000000-0000-7000-8000-000000000001', 'America/New_York', '2026-01-01Z', '2026-01-01Z')
         )
         INSERT INTO user_aliases (label, alias, user_id)
         VALUES ('external_id', 'york', '00000000-0000-7000-8000-000000000001')",
    )
    .await;
}

#[tokio::test]
async fn a_window_is_taken_in_the_persons_own_zone_where_it_is_known() {
    let app = with(json!({"window": {"from": "09:00", "until": "10:00"}, "zone": "Europe/Berlin", "recipient_zone": true})).await;
    person(&app).await;
    // It is 10:00 UTC: 11:00 in Berlin, 05:00 in New York.
    assert_eq!(due(&app, &payment_failed("p-1", "york")).await, "2026-11-24T14:00:00Z");
    assert_eq!(due(&app, &payment_failed("p-2", "u")).await, "2026-11-25T08:00:00Z");
}

#[tokio::test]
async fn quiet_hours_move_a_message_to_their_end_also_when_the_clock_is_set() {
    let app = with(json!({"quiet": {"from": "20:00", "until": "08:00"}, "zone": "Europe/Berlin"})).await;
    let mut winter = payment_failed("p-1", "u");
    winter["send_after"] = json!("2027-03-26T22:00:00Z");
    assert_eq!(due(&app, &winter).await, "2027-03-27T07:00:00Z");
    let mut summer = payment_failed("p-2", "u");
    summer["send_after"] = json!("2027-03-27T22:00:00Z");
    assert_eq!(due(&app, &summer).await, "2027-03-28T06:00:00Z", "the clock is set forward that night");
    let mut day = payment_failed("p-3", "u");
    day["send_after"] = json!("2027-03-28T10:00:00Z");
    assert_eq!(due(&app, &day).await, "2027-03-28T10:00:00Z");
}

#[tokio::test]
async fn hours_that_come_too_late_leave_a_decision() {
    let app = with(json!({"quiet": {"from": "09:00", "until": "18:00"}, "expires_in": "24h"})).await;
    let mut event = payment_failed("p-1", "u");
    event["expires_at"] = json!("2026-11-24T12:00:00Z");
    let accepted = app.accept(&event).await;
    assert_eq!(accepted["deliveries"][0]["state"], "skipped", "{accepted}");
    assert_eq!(accepted["decisions"][0]["code"], "no_time", "{accepted}");
}

#[tokio::test]
async fn a_rule_counts_back_from_a_time_in_the_event() {
    let app = TestApp::start().await;
    app.apply(&[(
        "events/payment.failed/schema.json",
        r#"{"type": "object", "properties": {
        "invoice": {"type": "string", "pattern": "\\S"}, "amount": {"type": "string", "pattern": "\\S"},
        "pay_url": {"type": "string", "format": "uri"}, "due": {"type": "string"}},
        "required": ["invoice", "amount", "pay_url", "due"]}"#,
    )])
    .await;
    enter(&app, json!({"at": "data.due", "before": "24h", "zone": "Europe/Berlin"})).await;
    let at = |id: &str, due: &str| {
        let mut event = payment_failed(id, "u");
        event["data"]["due"] = json!(due);
        event
    };
    assert_eq!(due(&app, &at("p-1", "2026-12-01")).await, "2026-11-29T23:00:00Z");
    assert_eq!(due(&app, &at("p-2", "2026-12-01T12:00:00+02:00")).await, "2026-11-30T10:00:00Z");
    assert_eq!(
        due(&app, &at("p-3", "2026-11-24T12:00:00Z")).await,
        "2026-11-24T10:00:00Z",
        "it is late: at once"
    );
    let never = app.accept(&at("p-4", "soon")).await;
    assert_eq!(
        (&never["deliveries"], &never["decisions"][0]["code"]),
        (&json!([]), &json!("expression_failed"))
    );
}

#[tokio::test]
async fn a_delay_counts_from_the_event() {
    let app = with(json!({"delay": "2h"})).await;
    assert_eq!(due(&app, &payment_failed("p-1", "u")).await, "2026-11-24T12:00:00Z");
    app.advance(Duration::from_secs(7_199)).await;
    app.run_until_idle().await;
    assert!(app.messages().await.is_empty());
    app.advance(Duration::from_secs(1)).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn onesignals_own_timing_reaches_its_request_and_is_refused_for_sms() {
    let app = TestApp::start().await;
    for (n, (timing, option, time)) in [
        (json!({"deliver": "timezone", "time_of_day": "9:00AM"}), "timezone", json!("9:00AM")),
        (json!({"deliver": "last-active"}), "last-active", Value::Null),
    ]
    .into_iter()
    .enumerate()
    {
        let mut rule = json!({"event": "order.shipped", "template": "order-shipped-push"});
        rule.as_object_mut().unwrap().extend(timing.as_object().unwrap().clone());
        let path = (Method::PUT, "/v1/rules/order-shipped-push");
        let seen = (n + 1).to_string();
        assert_eq!(app.call_seen(path, &app.key, Some(&seen), &rule).await.0, 200);
        app.accept(&order_shipped(&format!("o-{n}"), "u")).await;
        app.run_until_idle().await;
        let messages = app.messages().await;
        let mut of_push = messages.iter().filter(|message| message["channel"] == "push");
        let request = &of_push.next_back().unwrap()["request"];
        assert_eq!((&request["delayed_option"], &request["delivery_time_of_day"]), (&json!(option), &time));
        rule["template"] = json!("payment-failed-sms");
        rule["event"] = json!("payment.failed");
        let (status, _, problem) = app.call_seen((Method::PUT, SMS), &app.key, Some("1"), &rule).await;
        assert_eq!((status, &problem["problems"][0]["code"]), (422, &json!("bad_deliver")), "{problem}");
    }
}

#[tokio::test]
async fn a_throttle_lets_its_maximum_through_and_reports_the_rest() {
    let app = with(json!({"throttle": {"max": 2, "within": "1h"}})).await;
    let mut states = Vec::new();
    for n in 0..4 {
        let accepted = app.accept(&payment_failed(&format!("p-{n}"), "u")).await;
        states.push(accepted["deliveries"][0]["state"] == "skipped");
        if n == 3 {
            assert_eq!(accepted["decisions"][0]["code"], "throttled", "{accepted}");
        }
    }
    assert_eq!(states, [false, false, true, true]);
    assert_ne!(app.accept(&payment_failed("o-1", "other")).await["deliveries"][0]["state"], "skipped");
    let repeat = app.accept(&payment_failed("p-0", "u")).await;
    assert_eq!(repeat["duplicate"], true, "a repeat takes no place");
    app.advance(Duration::from_hours(1)).await;
    assert_ne!(app.accept(&payment_failed("p-9", "u")).await["deliveries"][0]["state"], "skipped");
}

#[tokio::test]
async fn within_one_batch_and_between_two_replicas_no_more_than_allowed_get_through() {
    let app = with(json!({"throttle": {"max": 3, "within": "1h"}})).await;
    let twin = TestApp::start_with(Wanted {
        database: Some(app.database.clone()),
        sandbox_url: Some(app.sandbox_url.clone()),
        without_catalog: true,
        seed: 1,
        ..Wanted::default()
    })
    .await;
    let batch =
        |name: &str| json!((0..20).map(|n| payment_failed(&format!("{name}-{n}"), "u")).collect::<Vec<_>>());
    let post = |app: &TestApp, batch: Value| {
        let (url, key) = (format!("{}/v1/events/batch", app.url), app.key.clone());
        async move {
            reqwest::Client::new()
                .post(url)
                .bearer_auth(key)
                .json(&batch)
                .send()
                .await
                .expect("an answer")
                .status()
        }
    };
    let (first, second) = (post(&app, batch("a")), post(&twin, batch("b")));
    let (first, second) = tokio::join!(first, second);
    assert_eq!((first.as_u16(), second.as_u16()), (202, 202));
    let through: i64 = app.sql("SELECT count(*) FROM deliveries WHERE state <> 'skipped'").await;
    let throttled: i64 = app.sql("SELECT count(*) FROM decisions WHERE code = 'throttled'").await;
    assert_eq!((through, throttled), (3, 37));
}

#[tokio::test]
async fn a_canary_gets_its_share_and_always_the_same_people() {
    let app = TestApp::start().await;
    app.apply(&[
        ("templates/payment-failed-sms/template.toml", "channel = \"sms\""),
        ("templates/payment-failed-sms/sms.en.liquid", "New {{ data.invoice }}"),
    ])
    .await;
    let back = json!({"version": 1});
    let path = "/v1/templates/payment-failed-sms/rollback";
    assert_eq!(app.call(Method::POST, path, Some(&app.key), Some(&back)).await.0, 200);
    enter(&app, json!({"canary": {"version": 2, "percent": 20}})).await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..500).map(|n| json!({"external_id": format!("u{n}")})).collect();
    app.accept(&event).await;
    let share: i64 = app.sql("SELECT count(*) FROM deliveries d JOIN template_versions v ON v.id = d.template_version_id WHERE v.number = 2").await;
    assert!((70..=130).contains(&share), "{share} of 500");
    event["id"] = json!("p-2");
    app.accept(&event).await;
    let people: i64 = app
        .sql("SELECT count(DISTINCT recipient_id) FROM deliveries d JOIN template_versions v ON v.id = d.template_version_id WHERE v.number = 2")
        .await;
    assert_eq!(people, share);
}

#[tokio::test]
async fn a_canary_of_a_version_that_does_not_exist_is_reported() {
    let app = TestApp::start().await;
    let rule = json!({"event": "payment.failed", "template": "payment-failed-sms", "canary": {"version": 9, "percent": 5}});
    let (status, _, body) = app.call_seen((Method::PUT, SMS), &app.key, Some("1"), &rule).await;
    assert_eq!((status, &body["warnings"][0]["code"]), (200, &json!("unknown_version")), "{body}");
    assert_eq!(app.accept(&payment_failed("p-1", "u")).await["deliveries"][0]["version"], 1);
}

fn members(object: Value) -> Map<String, Value> {
    match object {
        Value::Object(members) => members,
        other => panic!("no object: {other}"),
    }
}

#[tokio::test]
async fn a_reminder_for_a_time_long_past_is_not_sent_and_says_so() {
    let schema = r#"{"type": "object", "properties": {"invoice": {"type": "string", "pattern": "\\S"}, "amount": {"type": "string", "pattern": "\\S"},
        "pay_url": {"type": "string", "format": "uri"}, "due": {"type": "string", "format": "date-time"}},
        "required": ["invoice", "amount", "pay_url", "due"]}"#;
    let app = TestApp::start().await;
    app.apply(&[("events/payment.failed/schema.json", schema)]).await;
    enter(&app, json!({"at": "data.due", "before": "2h", "expires_in": "2d"})).await;
    let reminder = |id: &str, due: &str| {
        let mut event = payment_failed(id, "u");
        event["data"]["due"] = json!(due);
        event
    };
    // It is 10:00 on the 24th.
    let late = app.accept(&reminder("p-1", "2026-11-24T11:00:00Z")).await;
    assert_eq!(
        late["deliveries"].as_array().expect("a list").len(),
        1,
        "an hour late is worth sending: {late}"
    );
    let old = app.accept(&reminder("p-2", "2025-01-01T00:00:00Z")).await;
    assert_eq!((&old["deliveries"], &old["decisions"][0]["code"]), (&json!([]), &json!("expired")), "{old}");
}
