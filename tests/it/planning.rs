//! Planning: every "no" is a decision, and what can be fixed in Herald is held.

use std::time::Duration;

use reqwest::Method;
use serde_json::json;

use crate::support::app::{TestApp, Wanted, order_shipped, payment_failed};

#[tokio::test]
async fn an_event_without_a_rule_is_kept_and_says_so() {
    let app = TestApp::start().await;
    app.apply(&[("events/order.packed/schema.json", r#"{"type": "object"}"#)]).await;
    let accepted =
        app.accept(&json!({"id": "1", "type": "order.packed", "recipient": {"external_id": "u"}})).await;
    assert_eq!((&accepted["deliveries"], &accepted["decisions"][0]["code"]), (&json!([]), &json!("no_rule")));
}

#[tokio::test]
async fn a_rule_that_is_switched_off_says_so() {
    let app = TestApp::start().await;
    let off = "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\nenabled = false\n";
    app.apply(&[("rules/payment-failed-sms.toml", off)]).await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(accepted["decisions"][0]["code"], "rule_disabled");
}

#[tokio::test]
async fn without_a_live_version_a_delivery_is_held() {
    let app = TestApp::start().await;
    app.execute("UPDATE templates SET live_version = NULL WHERE key = 'payment-failed-sms'").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(accepted["deliveries"][0]["state"], "held");
    assert_eq!(accepted["decisions"][0]["code"], "no_live_version");
}

#[tokio::test]
async fn a_hole_in_the_values_holds_the_delivery_and_names_the_path() {
    let app = TestApp::start().await;
    let copy = "{{ data.invoice }} for {{ data.customer }}";
    app.apply(&[
        ("events/payment.failed/schema.json", r#"{"type": "object"}"#),
        ("templates/payment-failed-sms/template.toml", "channel = \"sms\""),
        ("templates/payment-failed-sms/sms.en.liquid", copy),
    ])
    .await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(accepted["deliveries"][0]["state"], "held");
    assert_eq!(accepted["decisions"][0]["code"], "missing_value");
    assert!(accepted["decisions"][0]["detail"].as_str().unwrap().contains("`data.customer`"), "{accepted}");
    app.run_until_idle().await;
    assert!(app.messages().await.is_empty(), "nothing with a hole in it is sent");
}

#[tokio::test]
async fn who_opted_out_or_was_erased_is_skipped() {
    let app = TestApp::start().await;
    app.execute(
        "WITH people AS (
            INSERT INTO users (id, erased_at, created_at, updated_at)
            VALUES ('00000000-0000-7000-8000-000000000001', NULL, '2026-01-01Z', '2026-01-01Z'),
                   ('00000000-0000-7000-8000-000000000002', '2026-01-02Z', '2026-01-01Z', '2026-01-01Z')
         ), aliases AS (
            INSERT INTO user_aliases (label, alias, user_id)
            VALUES ('external_id', 'out', '00000000-0000-7000-8000-000000000001'),
                   ('external_id', 'gone', '00000000-0000-7000-8000-000000000002')
         )
         INSERT INTO user_opt_outs (user_id, channel, since)
         VALUES ('00000000-0000-7000-8000-000000000001', 'email', '2026-01-01Z')",
    )
    .await;
    let out = app.accept(&order_shipped("o-1", "out")).await;
    let states: Vec<_> = out["deliveries"]
        .as_array()
        .unwrap()
        .iter()
        .map(|d| (d["channel"].clone(), d["state"].clone()))
        .collect();
    assert!(states.contains(&(json!("email"), json!("skipped"))), "{out}");
    assert_eq!(out["decisions"][0]["code"], "opted_out");
    let gone = app.accept(&order_shipped("o-2", "gone")).await;
    assert!(gone["deliveries"].as_array().unwrap().iter().all(|d| d["state"] == "skipped"));
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1, "the push to the one who opted out of email");
}

#[tokio::test]
async fn a_test_key_reaches_sandbox_apps_only() {
    let app = TestApp::start().await;
    let key = app.test_key().await;
    app.execute("UPDATE apps SET is_sandbox = false").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let (status, body) =
        app.call(Method::POST, "/v1/events", Some(&key), Some(&payment_failed("p-1", "u"))).await;
    assert_eq!((status, &body["decisions"][0]["code"]), (202, &json!("test_key")));
    assert_eq!(body["deliveries"], json!([]));
}

#[tokio::test]
async fn a_channel_that_can_t_reach_the_recipient_says_so() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "u");
    event["recipient"] = json!({"email": "anna@shop.example"});
    let accepted = app.accept(&event).await;
    assert_eq!(accepted["deliveries"][0]["channel"], "email");
    assert_eq!(accepted["decisions"][0]["code"], "wrong_channel");
}

#[tokio::test]
async fn the_locale_falls_back_from_the_region_to_the_language_to_the_default() {
    let app = TestApp::start().await;
    for (n, (wish, locale)) in [("de-AT", "de"), ("fr", "en"), ("de", "de")].into_iter().enumerate() {
        let mut event = order_shipped(&format!("o-{n}"), "u");
        event["locale"] = json!(wish);
        let accepted = app.accept(&event).await;
        assert_eq!(app.delivery(&accepted, "order-shipped-push").await["locale"], locale);
    }
}

#[tokio::test]
async fn a_delay_and_send_after_are_kept_until_due() {
    let app = TestApp::start().await;
    let renewal = json!({
        "id": "r-1", "type": "subscription.renewal_due", "recipient": {"external_id": "u"},
        "data": {"plan": "Plus", "renews_on": "2026-12-01", "price": "49 EUR"},
    });
    assert_eq!(app.accept(&renewal).await["deliveries"][0]["state"], "scheduled");
    let mut later = payment_failed("p-1", "u");
    later["send_after"] = json!("2026-11-24T12:00:00+01:00");
    assert_eq!(app.accept(&later).await["deliveries"][0]["state"], "scheduled");
    app.run_until_idle().await;
    assert!(app.messages().await.is_empty());
    app.advance(Duration::from_mins(15)).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 1, "the delay is over");
    app.advance(Duration::from_mins(45)).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2, "send_after is over");
}

#[tokio::test]
async fn what_would_be_due_after_its_end_is_not_planned() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["send_after"] = json!("2026-11-24T12:00:00Z");
    event["expires_at"] = json!("2026-11-24T11:00:00Z");
    let accepted = app.accept(&event).await;
    assert_eq!((&accepted["deliveries"], &accepted["decisions"][0]["code"]), (&json!([]), &json!("expired")));
}

#[tokio::test]
async fn a_code_that_happened_ten_minutes_ago_is_not_sent_any_more() {
    let app = TestApp::start().await;
    let event = json!({
        "id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {"code": "314159"},
        "time": "2026-11-24T09:50:30Z",
    });
    let accepted = app.accept(&event).await;
    assert_eq!(accepted["decisions"][0]["code"], "expired", "less than a minute of life is left");
}

#[tokio::test]
async fn a_segment_goes_out_in_the_sandbox_and_is_held_outside() {
    let app = TestApp::start().await;
    let event = |id: &str| json!({"id": id, "type": "product.restocked", "data": {"product": "Lamp", "slug": "lamp"}});
    app.accept(&event("s-1")).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await[0]["request"]["included_segments"], json!(["Waiting for restock"]));
    app.execute("UPDATE apps SET is_sandbox = false").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let held = app.accept(&event("s-2")).await;
    assert_eq!(
        (&held["deliveries"][0]["state"], &held["decisions"][0]["code"]),
        (&json!("held"), &json!("needs_release"))
    );
}

#[tokio::test]
async fn two_thousand_recipients_are_listed_by_the_first_hundred() {
    let app = TestApp::start_with(Wanted::default()).await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..2_000).map(|n| json!({"external_id": format!("u{n}")})).collect();
    let accepted = app.accept(&event).await;
    assert_eq!(accepted["deliveries"].as_array().unwrap().len(), 100);
    assert_eq!(accepted["deliveries_total"], 2_000);
}

#[tokio::test]
async fn an_event_with_four_thousand_deliveries_finds_all_of_them_again() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..2_000).map(|n| json!({"external_id": format!("u{n}")})).collect();
    let first = app.accept(&event).await;
    app.accept(&order_shipped("o-2", "somebody-else")).await;
    let again = app.accept(&event).await;
    assert_eq!((&again["duplicate"], &again["deliveries_total"]), (&json!(true), &json!(4_000)));
    let trace = app.get(first["trace_url"].as_str().unwrap()).await;
    assert_eq!(trace["deliveries"].as_array().unwrap().len(), 4_000);
    app.run_until_idle().await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 4_002);
    assert_eq!(app.messages().await.len(), 4, "the same to everybody in one call a channel");
}

#[tokio::test]
async fn one_person_named_twice_gets_one_message() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = json!([{"external_id": "u"}, {"external_id": "v"}, {"external_id": "u"}]);
    assert_eq!(app.accept(&event).await["deliveries"].as_array().unwrap().len(), 2);
    app.run_until_idle().await;
    assert_eq!(app.messages().await[0]["recipients"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn new_versions_during_a_backlog_change_nothing_that_was_pinned() {
    let app = TestApp::start().await;
    for n in 0..20 {
        let copy = format!("Version {n} for {{{{ data.invoice }}}}");
        app.apply(&[
            ("templates/payment-failed-sms/template.toml", "channel = \"sms\""),
            ("templates/payment-failed-sms/sms.en.liquid", &copy),
        ])
        .await;
        let mut event = payment_failed(&format!("p-{n}"), &format!("u{n}"));
        if n % 2 == 0 {
            event["send_after"] = json!("2026-11-24T10:10:00Z");
        }
        app.accept(&event).await;
    }
    for _ in 0..5 {
        app.run_until_idle().await;
        app.advance(Duration::from_mins(5)).await;
    }
    let mut said: Vec<String> = Vec::new();
    for message in app.messages().await {
        for recipient in message["recipients"].as_array().unwrap() {
            said.push(recipient["rendered"]["contents"].as_str().unwrap().to_owned());
        }
    }
    said.sort();
    let mut wanted: Vec<String> = (0..20).map(|n| format!("Version {n} for p-{n}")).collect();
    wanted.sort();
    assert_eq!(said, wanted);
}
