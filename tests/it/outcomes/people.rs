//! Outcomes act on people: after a bounce, a complaint or an unsubscription they get no more of it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{delivery_by, report};
use crate::support::app::{TestApp, order_shipped};

/// Why the next email to this person is not sent.
async fn next_email(app: &TestApp, id: &str, user: &str) -> (Value, Value) {
    let accepted = app.accept(&order_shipped(id, user)).await;
    let trace = app.get(&format!("/v1/deliveries/{}", delivery_by(&accepted, "order-shipped-email"))).await;
    (trace["state"].clone(), trace["decisions"][0]["facts"]["reason"].clone())
}

#[tokio::test]
async fn a_complaint_about_someone_else_s_message_ends_emails_with_the_complaint_as_the_reason() {
    let app = TestApp::start().await;
    for (n, (kind, reason)) in [
        ("email.reported_as_spam", "complained"),
        ("email.resporedasspam", "complained"),
        ("email.hardbounced", "bounced"),
        ("email.unsubscribed", "unsubscribed"),
        ("email.suppressed", "suppressed"),
    ]
    .into_iter()
    .enumerate()
    {
        let user = format!("user-{n}");
        app.record(&[report(&format!("e-{n}"), kind, "someone-else-s", &user)]).await;
        let found = next_email(&app, &format!("o-{n}"), &user).await;
        assert_eq!(found, (json!("skipped"), json!(reason)), "{kind}");
    }
    app.record(&[
        report("e-x", "email.failed", "m", "full"),
        report("e-y", "push.unsubscribed", "m", "full"),
    ])
    .await;
    assert_ne!(next_email(&app, "o-x", "full").await.0, "skipped", "a full mailbox is not for ever");
    assert_eq!(app.get("/v1/users/external_id/user-0").await["opted_out"], json!(["email"]));
}

#[tokio::test]
async fn a_bounce_stops_pending_emails_and_an_opt_in_outlives_the_parked_report() {
    let app = TestApp::start().await;
    let mut later = order_shipped("o-1", "ann");
    later["send_after"] = json!("2026-11-24T10:05:00Z");
    let pending = app.accept(&later).await;
    app.record(&[report("e-1", "email.bounced", "someone-else-s", "ann")]).await;
    app.advance(Duration::from_mins(5)).await;
    app.run_until_idle().await;
    let trace = app.get(&format!("/v1/deliveries/{}", delivery_by(&pending, "order-shipped-email"))).await;
    assert_eq!(
        (&trace["state"], &trace["decisions"][0]["facts"]["reason"]),
        (&json!("skipped"), &json!("bounced"))
    );
    let path = "/v1/users/external_id/ann/preferences";
    let body = json!({"channels": {"email": true}});
    let (status, _) = app.call(reqwest::Method::PUT, path, Some(&app.key), Some(&body)).await;
    assert_eq!(status, 200);
    app.advance(Duration::from_mins(15)).await;
    app.run_until_idle().await;
    assert_eq!(app.counted("foreign").await, 1, "the parked report was read again");
    assert_ne!(next_email(&app, "o-2", "ann").await.0, "skipped");
}

#[tokio::test]
async fn a_report_without_an_external_id_acts_on_the_one_it_was_sent_to() {
    let app = TestApp::start().await;
    let mut event = order_shipped("o-1", "ann");
    event["recipient"] = json!({"email": "ann@shop.example"});
    let accepted = app.accept(&event).await;
    app.run_until_idle().await;
    let message = app.message_of(delivery_by(&accepted, "order-shipped-email")).await;
    app.record(&[report("e-1", "email.bounced", &message, "")]).await;
    event["id"] = json!("o-2");
    let accepted = app.accept(&event).await;
    let next = app.get(&format!("/v1/deliveries/{}", delivery_by(&accepted, "order-shipped-email"))).await;
    assert_eq!(
        (&next["state"], &next["decisions"][0]["facts"]["reason"]),
        (&json!("skipped"), &json!("bounced"))
    );
}
