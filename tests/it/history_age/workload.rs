//! Everything that Herald does with its history, once.

use std::time::Duration;

use herald::access::Role;
use herald::domain::clock::Clock;
use herald::domain::event::{Recipient, VisibleEvents};
use herald::domain::id::{DeliveryId, EventId, TypedId, WorkerId};
use herald::domain::snapshot::UploadKey;
use herald::store::actions::{self, ActionEnd, EndState, NewAction};
use herald::store::replays::ReplayFilter;
use herald::store::search::ListFilter;
use herald::store::{batches, deliveries, scheduled_messages, secrets};
use reqwest::Method;
use serde_json::json;
use uuid::Uuid;

use crate::console::visitor::Visitor;
use crate::outcomes;
use crate::support::app::{TestApp, order_shipped, payment_failed};

/// Deliveries of every kind, then every read.
pub async fn everything(app: &TestApp) {
    let accepted = app.accept(&order_shipped("o-1", "user-1")).await;
    app.run_until_idle().await;
    app.accept(&order_shipped("o-1", "user-1")).await;
    let secret = json!({
        "id": "p-1", "type": "password.reset", "recipient": {"external_id": "user-1"}, "data": {"code": "480918"},
    });
    app.accept(&secret).await;
    app.run_until_idle().await;
    retried(app).await;
    failed(app).await;
    held(app).await;
    cancelled(app).await;
    worker(app).await;
    app.advance(Duration::from_mins(90)).await;
    app.run_until_idle().await;
    let event = accepted["id"].as_str().expect("an id");
    let delivery = accepted["deliveries"][0]["id"].as_str().expect("an id");
    clock_set_back(app).await;
    let message = app.message_of(delivery).await;
    app.record(&[outcomes::report("r-1", "push.sent", &message, "user-1")]).await;
    reads(app, event, delivery).await;
    let (event, delivery) = (event.parse().expect("an id"), delivery.parse().expect("an id"));
    store_reads(app, event, delivery).await;
    store_writes(app, event, delivery).await;
    erased(app).await;
}

async fn erased(app: &TestApp) {
    let path = "/v1/users/external_id/user-2";
    let (status, answer) = app.call(Method::DELETE, path, Some(&app.key), None).await;
    assert_eq!(status, 202, "{answer}");
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
    // After a restore, people are found again by what is stored.
    app.herald.store.each_recipient(|_| ()).await.expect("read");
}

async fn retried(app: &TestApp) {
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 1.0}))
        .await;
    app.accept(&payment_failed("p-503", "user-2")).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    app.advance(Duration::from_mins(2)).await;
    app.run_until_idle().await;
}

async fn failed(app: &TestApp) {
    app.fault(json!({"endpoint": "notifications", "kind": "status", "status": 400, "probability": 1.0}))
        .await;
    app.accept(&payment_failed("p-400", "user-3")).await;
    let failed = app.accept(&payment_failed("p-replayed", "user-3")).await;
    app.run_until_idle().await;
    app.clear_faults().await;
    let id = failed["deliveries"][0]["id"].as_str().expect("an id");
    for (path, body) in [
        ("/v1/replays?dry_run=true".to_owned(), json!({"reason": "x", "state": "rejected"})),
        (format!("/v1/deliveries/{id}/replay"), json!({"reason": "x"})),
    ] {
        app.call(Method::POST, &path, Some(&app.key), Some(&body)).await;
    }
    app.run_until_idle().await;
    let event = failed["id"].as_str().expect("an id");
    app.get(&format!("/v1/events/{event}")).await;
}

async fn held(app: &TestApp) {
    let mut event = order_shipped("o-held", "user-4");
    event["data"].as_object_mut().expect("values").remove("name");
    let held = app.accept(&event).await;
    app.run_until_idle().await;
    app.get("/v1/deliveries?state=held").await;
    app.get("/v1/events?state=held").await;
    for delivery in held["deliveries"].as_array().expect("deliveries") {
        let path = format!("/v1/deliveries/{}/release", delivery["id"].as_str().expect("an id"));
        app.call(Method::POST, &path, Some(&app.key), Some(&json!({"values": {"name": "Anna"}}))).await;
    }
    app.run_until_idle().await;
}

async fn cancelled(app: &TestApp) {
    let mut event = order_shipped("o-later", "user-5");
    event["send_after"] = json!("2026-11-24T20:00:00Z");
    event["cancellation_key"] = json!("o-later");
    let later = app.accept(&event).await;
    app.act(&format!("/v1/events/{}/cancel", later["id"].as_str().expect("an id"))).await;
}

/// What workers do when something went wrong.
async fn worker(app: &TestApp) {
    let pipeline = &app.herald.pipeline;
    pipeline.rescue().await.expect("rescued");
    pipeline.expire_waiting().await.expect("expired");
    pipeline.recall().await.expect("recalled");
}

async fn reads(app: &TestApp, event: &str, delivery: &str) {
    for path in [
        "/v1/events",
        "/v1/events?type=order.shipped",
        "/v1/events?recipient=external_id:user-1",
        "/v1/events?state=accepted",
        "/v1/events?state=queued",
        "/v1/events?state=rejected",
        "/v1/deliveries",
        "/v1/deliveries?recipient=external_id:user-1",
        "/v1/deliveries?state=accepted",
        "/v1/deliveries?state=queued",
        "/v1/deliveries?state=rejected",
        "/v1/issues",
    ] {
        let (status, answer) = app.call(Method::GET, path, Some(&app.key), None).await;
        assert!(status == 200 || status == 422 || status == 400, "{path}: {answer}");
    }
    app.get(&format!("/v1/events/{event}")).await;
    app.get(&format!("/v1/deliveries/{delivery}")).await;
    app.call(Method::POST, "/v1/event-types/order.shipped/infer", Some(&app.key), Some(&json!({}))).await;
    let visitor = Visitor::with_role(app, Role::Admin).await;
    for path in [
        "/",
        "/?q=user-1",
        "/?q=o-1",
        "/?q=state:rejected",
        "/live/rows",
        &format!("/events/{event}"),
        &format!("/deliveries/{delivery}"),
        &format!("/deliveries/{delivery}/outcomes"),
        "/palette?q=user-1",
        "/recipients?id=user-1",
        "/recipients/external_id/user-1",
        "/issues",
        "/health",
        "/outcomes",
        "/health/parts",
        "/templates",
        "/templates/order-shipped-push",
        "/templates/order-shipped-push/history",
        "/templates/order-shipped-push/clicks",
        "/rules",
        "/event-types",
        "/event-types/order.shipped",
        "/settings/retention",
    ] {
        let seen = visitor.get(path).await;
        assert!(!seen.status.is_server_error(), "{path}: {}", seen.text);
    }
}

/// Reads with arguments that pages don't use with what was posted.
async fn store_reads(app: &TestApp, event: EventId, delivery: DeliveryId) {
    let (store, now) = (&app.herald.store, app.clock.now());
    let person = Recipient::parse("external_id", "user-1").expect("a person");
    let own = VisibleEvents { tests_only: true, ..VisibleEvents::default() };
    for (visible, recipient) in
        [(VisibleEvents::default(), None), (own, None), (VisibleEvents::default(), Some(person.clone()))]
    {
        let filter = ListFilter { visible, recipient, limit: 50, ..ListFilter::default() };
        store.list_deliveries(&filter).await.expect("a list");
        store.list_events(&filter).await.expect("a list");
    }
    let (issues, _) = store.issues(now - chrono::TimeDelta::days(1)).await.expect("issues");
    let key = issues.first().map(|issue| issue.key.clone()).expect("an issue");
    store.issue_members(&key, now - chrono::TimeDelta::days(1), Uuid::max(), 10).await.expect("members");
    store.held_like(&key, 10).await.expect("held ones");
    store.deliveries_to(std::slice::from_ref(&person), Uuid::max(), 10).await.expect("deliveries");
    store.unanswered_events_of(&[person], Uuid::max(), 10).await.expect("events");
    store.people_with_id("user-1").await.expect("people");
    store.last_words(&[delivery]).await.expect("words");
    store.outcomes_of(&[event], now).await.expect("outcomes");
    store.decisions_about_events(&[event]).await.expect("decisions");
    store.answers(now - chrono::TimeDelta::hours(1)).await.expect("answers");
    let row = store.find_delivery(delivery).await.expect("a row").expect("it is there");
    let (version, _) = row.version.expect("a version");
    store.version_stats(version, 100).await.expect("figures");
    store.last_messages_of(version, 100, 10).await.expect("messages");
    store.last_planned().await.expect("times");
    store.last_events(&["order.shipped".into()], 10).await.expect("events");
    let filter = ReplayFilter {
        states: vec![row.state],
        event_type: Some("order.shipped".to_owned()),
        since: Some(now - chrono::TimeDelta::days(1)),
        ..ReplayFilter::default()
    };
    store.find_replayable(&filter, 10).await.expect("deliveries");
}

/// Writes for which much would have to go wrong, or to be set up.
async fn store_writes(app: &TestApp, event: EventId, delivery: DeliveryId) {
    let (store, now) = (&app.herald.store, app.clock.now());
    let row = store.find_delivery(delivery).await.expect("a row").expect("it is there");
    let (version, batch) = (row.version.expect("a version"), row.batch.expect("a batch"));
    let attempt = [(batch, 1, WorkerId::from_uuid(Uuid::from_u128(1)))];
    store.begin_anew(&attempt, now).await.expect("begun");
    store.forget_attempts(&attempt).await.expect("forgotten");
    store.mark_unused(row.app, &[], now).await.expect("marked");
    let upload = UploadKey { app: row.app, version: version.0, locale: "en".to_owned() };
    store.claim_unused(&upload, now, now).await.expect("claimed");
    let mut tx = store.begin().await.expect("a transaction");
    batches::void(&mut tx, &[batch]).await.expect("void");
    deliveries::pin(&mut tx, delivery, version, "en").await.expect("pinned");
    secrets::insert_delivery_values(&mut tx, delivery, b"sealed", Uuid::nil(), now).await.expect("stored");
    scheduled_messages::end_recalled(&mut tx, &[delivery], now).await.expect("ended");
    let recipient = Recipient::parse("external_id", "user-1").expect("a person");
    let action = NewAction {
        id: event.uuid(),
        event,
        rule: "tag",
        app: row.app,
        kind: "tag",
        recipient: &recipient,
        body: &json!({}),
    };
    actions::insert_all(&mut tx, &[action], now).await.expect("planned");
    let end = ActionEnd { action: event.uuid(), state: EndState::Done, detail: String::new() };
    store.end_actions(&[end], now).await.expect("ended");
}

async fn clock_set_back(app: &TestApp) {
    let pipeline = &app.herald.pipeline;
    pipeline.watch_database().await.expect("watched");
    app.clock.set_back(Duration::from_mins(5));
    pipeline.watch_database().await.expect("watched");
    pipeline.watch_database().await.expect("watched");
    app.clock.advance(Duration::from_mins(5));
}
