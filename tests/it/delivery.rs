//! From a due delivery to a message: what arrives, in how few calls, and what is never sent.

use std::collections::HashSet;
use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, order_shipped, payment_failed};

fn rendered<'a>(messages: &'a [Value], channel: &str) -> &'a Value {
    let message = messages.iter().find(|m| m["channel"] == channel).unwrap_or_else(|| panic!("no {channel}"));
    &message["recipients"][0]["rendered"]
}

#[tokio::test]
async fn an_event_arrives_as_the_copy_says_on_each_channel() {
    let app = TestApp::start().await;
    let accepted = app.accept(&order_shipped("o-1", "user-42")).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    let push = rendered(&messages, "push");
    assert_eq!(push["contents"], "Hi Anna, DHL brings order 1001 on November 26.");
    assert_eq!(push["url"], "https://shop.example/orders/1001");
    let email = rendered(&messages, "email");
    assert_eq!(email["email_subject"], "Order 1001 is on its way");
    assert!(email["email_body"].as_str().unwrap().contains("<strong>1001</strong>"));
    assert!(messages.iter().all(|m| m["recipients"][0]["blanks"] == json!([])), "{messages:?}");
    let delivery = app.delivery(&accepted, "order-shipped-push").await;
    assert_eq!(
        (&delivery["state"], &delivery["attempts"][0]["answer"]),
        (&json!("accepted"), &json!("accepted"))
    );
    assert_eq!(
        delivery["attempts"][0]["provider_message_id"],
        messages.iter().find(|m| m["channel"] == "push").unwrap()["id"]
    );
}

#[tokio::test]
async fn hostile_values_arrive_as_text() {
    let app = TestApp::start().await;
    let name = r#"<script>alert(1)</script> {{ user.email }} {% raw %} "quoted" 🎉"#;
    let mut event = order_shipped("o-1", "user-42");
    event["data"]["name"] = json!(name);
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert!(rendered(&messages, "push")["contents"].as_str().unwrap().starts_with(&format!("Hi {name},")));
    let body = rendered(&messages, "email")["email_body"].as_str().unwrap();
    assert!(body.contains("&lt;script&gt;") && !body.contains("<script>"), "{body}");
    assert!(body.contains("{{ user.email }}") && body.contains("🎉"), "{body}");
}

#[tokio::test]
async fn two_thousand_people_with_the_same_values_are_one_call() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "x");
    event.as_object_mut().unwrap().remove("recipient");
    event["recipients"] = (0..2_000).map(|n| json!({"external_id": format!("u{n}")})).collect();
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert_eq!(messages.len(), 1);
    assert!(messages[0]["request"]["custom_data"]["all"].is_object());
    assert_eq!(messages[0]["recipients"].as_array().unwrap().len(), 2_000);
}

#[tokio::test]
async fn people_with_values_of_their_own_share_calls_and_nobody_gets_one_twice() {
    let limit = vec![("HERALD_ONESIGNAL__CALLS_PER_SECOND", "1".to_owned())];
    let app = TestApp::start_with(Wanted { settings: limit, ..Wanted::default() }).await;
    let events = (0..300).map(|n| payment_failed(&format!("p-{n}"), &format!("user-{}", n % 250)));
    futures_util::future::join_all(events.map(|event| {
        let app = &app;
        async move { app.accept(&event).await }
    }))
    .await;
    for _ in 0..60 {
        app.run_until_idle().await;
        app.advance(Duration::from_secs(2)).await;
    }
    let messages = app.messages().await;
    let mut invoices = HashSet::new();
    for message in &messages {
        let recipients = message["recipients"].as_array().unwrap();
        let people: HashSet<&str> = recipients.iter().map(|r| r["external_id"].as_str().unwrap()).collect();
        assert_eq!(people.len(), recipients.len(), "nobody is in a call twice");
        assert!(message["request"]["custom_data"].to_string().len() <= 2_048);
        for recipient in recipients {
            assert_eq!(recipient["blanks"], json!([]));
            assert!(invoices.insert(recipient["rendered"]["contents"].as_str().unwrap().to_owned()));
        }
    }
    assert_eq!(invoices.len(), 300, "every event arrived once, with its own values");
    assert!(messages.len() <= 30, "{} calls for 300 deliveries", messages.len());
}

#[tokio::test]
async fn urgent_deliveries_do_not_wait_for_company() {
    let app = TestApp::start().await;
    for n in 0..5 {
        let code = json!({"code": format!("31415{n}")});
        app.accept(&json!({"id": format!("c-{n}"), "type": "password.reset", "recipient": {"external_id": format!("u{n}")}, "data": code}))
            .await;
    }
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert_eq!(messages.len(), 5);
    assert!(messages.iter().all(|m| m["recipients"].as_array().unwrap().len() == 1));
}

#[tokio::test]
async fn only_what_the_copy_uses_is_sent() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "user-42");
    event["data"]["internal_margin"] = json!("not for customers");
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert!(!messages.iter().any(|m| m["request"].to_string().contains("not for customers")));
    assert!(!messages.iter().any(|m| m["request"].to_string().contains("internal_margin")));
}

#[tokio::test]
async fn copy_of_mode_inline_is_rendered_here() {
    let app = TestApp::start().await;
    app.apply(&[
        ("templates/payment-failed-sms/template.toml", "channel = \"sms\"\nmode = \"inline\""),
        ("templates/payment-failed-sms/sms.en.liquid", "Invoice {{ data.invoice }} {{ data.amount }}"),
    ])
    .await;
    let mut event = payment_failed("p-1", "u");
    event["data"]["amount"] = json!("{{ 1 | plus: 1 }}");
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert!(messages[0]["request"].get("template_id").is_none());
    assert_eq!(rendered(&messages, "sms")["contents"], "Invoice p-1 {{ 1 | plus: 1 }}");
}

#[tokio::test]
async fn values_over_the_limit_are_rendered_here_instead() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["data"]["invoice"] = json!("7".repeat(3_000));
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    assert!(messages[0]["request"].get("custom_data").is_none());
    assert!(rendered(&messages, "sms")["contents"].as_str().unwrap().contains(&"7".repeat(3_000)));
}

#[tokio::test]
async fn a_one_time_code_is_nowhere_but_in_its_message() {
    let app = TestApp::start().await;
    let event = json!({"id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {"code": "918273"}});
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    assert!(rendered(&app.messages().await, "email")["email_body"].as_str().unwrap().contains("918273"));
    let shown = app.get(&format!("/v1/events/{}", accepted["id"].as_str().unwrap())).await;
    assert_eq!(shown["data"]["code"], "•••");
    let everything = app.dump().await;
    assert!(everything.contains("password-reset-email") && !everything.contains("918273"));
    app.advance(Duration::from_hours(2)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM event_secrets").await, 0, "erased once it has served");
}

#[tokio::test]
async fn nothing_is_sent_after_its_time() {
    let app = TestApp::start().await;
    app.execute("UPDATE apps SET paused_at = created_at, paused_reason = 'a test'").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    let event = json!({"id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {"code": "918273"}});
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    app.advance(Duration::from_mins(11)).await;
    app.execute("UPDATE apps SET paused_at = NULL, paused_reason = NULL").await;
    app.execute("UPDATE catalog_revision SET revision = revision + 1").await;
    app.run_until_idle().await;
    assert!(app.messages().await.is_empty());
    let delivery = app.delivery(&accepted, "password-reset-email").await;
    assert_eq!(
        (&delivery["state"], &delivery["decisions"][0]["code"]),
        (&json!("expired"), &json!("expired"))
    );
}

#[tokio::test]
async fn a_producer_s_trace_reaches_onesignal_with_a_call_of_its_own() {
    let app = TestApp::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let headers = [("content-type", "application/json"), ("traceparent", trace)];
    let answer = app.post_raw("/v1/events", &headers, payment_failed("p-1", "u").to_string()).await;
    assert_eq!(answer.status(), 202);
    assert_eq!(app.sql::<String>("SELECT traceparent FROM events").await, trace);
}

#[tokio::test]
async fn a_code_that_a_person_gave_is_erased_like_any_other() {
    let app = TestApp::start().await;
    let schema = r#"{"type": "object"}"#;
    let about = "description = \"x\"\nsensitive = [\"/code\"]\n";
    app.apply(&[("events/password.reset/schema.json", schema), ("events/password.reset/event.toml", about)])
        .await;
    let event = json!({"id": "c-1", "type": "password.reset", "recipient": {"external_id": "u"}, "data": {}});
    let accepted = app.accept(&event).await;
    let delivery = &accepted["deliveries"][0];
    assert_eq!(delivery["state"], "held");
    let path = format!("/v1/deliveries/{}/release", delivery["id"].as_str().unwrap());
    app.fault(json!({"endpoint": "notifications", "kind": "reset_after", "probability": 1.0, "times": 1}))
        .await;
    let values = json!({"values": {"code": "918273"}});
    assert_eq!(app.call(reqwest::Method::POST, &path, Some(&app.key), Some(&values)).await.0, 200);
    app.run_until_idle().await;
    app.advance(Duration::from_secs(10)).await;
    app.run_until_idle().await;
    assert!(rendered(&app.messages().await, "email")["email_body"].as_str().unwrap().contains("918273"));
    let trace = app.delivery(&accepted, "password-reset-email").await;
    assert_eq!(trace["state"], "accepted");
    assert!(!trace.to_string().contains("918273") && !app.dump().await.contains("918273"));
    app.advance(Duration::from_hours(2)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM delivery_values").await, 0, "erased once it has served");
}

#[tokio::test]
async fn recipients_are_named_to_onesignal_as_they_were_to_us() {
    let app = TestApp::start().await;
    app.declare_labels(&["crm_id"]).await;
    let id = "0a0a0a0a-0000-4000-8000-00000000000a";
    for (n, (kind, recipient, field, value)) in [
        ("payment.failed", json!({"crm_id": "77"}), "include_aliases", json!({"crm_id": ["77"]})),
        ("payment.failed", json!({"onesignal_id": id}), "include_aliases", json!({"onesignal_id": [id]})),
        (
            "payment.failed",
            json!({"phone": "+4915112345678"}),
            "include_phone_numbers",
            json!(["+4915112345678"]),
        ),
        ("payment.failed", json!({"subscription_id": id}), "include_subscription_ids", json!([id])),
        ("password.reset", json!({"email": "ann@shop.example"}), "email_to", json!(["ann@shop.example"])),
    ]
    .into_iter()
    .enumerate()
    {
        let mut event = payment_failed(&format!("p-{n}"), "x");
        event["type"] = json!(kind);
        event["recipient"] = recipient.clone();
        event["data"]["code"] = json!("314159");
        app.accept(&event).await;
        app.run_until_idle().await;
        let messages = app.messages().await;
        assert_eq!(messages.len(), n + 1, "{recipient}");
        let request = &messages[n]["request"];
        assert_eq!(request[field], value, "{request}");
        let ways = [
            "include_aliases",
            "include_phone_numbers",
            "include_subscription_ids",
            "email_to",
            "included_segments",
        ];
        assert_eq!(ways.iter().filter(|way| request.get(**way).is_some()).count(), 1, "{request}");
        assert_eq!(messages[n]["recipients"][0]["blanks"], json!([]), "{recipient}");
    }
}

#[tokio::test]
async fn a_push_lives_no_longer_than_the_shortest_of_its_company() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "u");
    event["expires_at"] = json!("2026-11-24T11:00:00Z");
    app.accept(&event).await;
    app.run_until_idle().await;
    let messages = app.messages().await;
    let push = messages.iter().find(|m| m["channel"] == "push").unwrap();
    assert_eq!(push["request"]["ttl"], 3_600);
    assert!(messages.iter().find(|m| m["channel"] == "email").unwrap()["request"].get("ttl").is_none());
}

#[tokio::test]
async fn at_onesignal_s_limit_calls_wait_their_turn_and_no_second_sees_more() {
    let limit = vec![("HERALD_ONESIGNAL__CALLS_PER_SECOND", "100".to_owned())];
    let app = TestApp::start_with(Wanted { settings: limit, ..Wanted::default() }).await;
    let codes: Vec<Value> = (0..200)
        .map(|n| {
            json!({"id": format!("c-{n}"), "type": "password.reset", "recipient": {"external_id": format!("u{n}")},
                "data": {"code": "314159"}})
        })
        .collect();
    let headers = [("content-type", "application/json")];
    assert_eq!(app.post_raw("/v1/events/batch", &headers, json!(codes).to_string()).await.status(), 202);
    let mut before = 0;
    for _ in 0..3 {
        for _ in 0..10 {
            app.run_until_idle().await;
            app.advance(Duration::from_millis(100)).await;
        }
        let sent = app.messages().await.len();
        assert!(sent - before <= 100, "{} calls in a second", sent - before);
        before = sent;
    }
    assert_eq!(before, 200, "the limit is used, too");
}
