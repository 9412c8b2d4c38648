//! Pacing: the rate of an app's calls, their order, and when none are made.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, payment_failed};

const RULE: &str = "payment-failed-sms";

/// One call at a time, each with its own token.
async fn slow(calls_per_second: u32) -> TestApp {
    let settings = vec![
        ("HERALD_ONESIGNAL__CALLS_PER_SECOND", calls_per_second.to_string()),
        ("HERALD_DELIVERY__PLAN_SHARE", "1".to_owned()),
        ("HERALD_DELIVERY__MAX_TARGETS", "1".to_owned()),
    ];
    TestApp::start_with(Wanted { settings, ..Wanted::default() }).await
}

fn status(status: u16) -> Value {
    json!({"endpoint": "notifications", "kind": "status", "status": status, "probability": 1.0})
}

async fn calls(app: &TestApp) -> u64 {
    let stats = app.stats().await;
    let of_create = stats["calls"]["notifications.create"].as_object().cloned().unwrap_or_default();
    of_create.values().filter_map(Value::as_u64).sum()
}

async fn reached_count(app: &TestApp) -> usize {
    reached(app).await.len()
}

/// The recipients that the sandbox has had messages for, in their order.
async fn reached(app: &TestApp) -> Vec<String> {
    let messages = app.messages().await;
    let each = messages.iter().flat_map(|message| message["recipients"].as_array().expect("recipients"));
    each.map(|recipient| recipient["external_id"].as_str().expect("an id").to_owned()).collect()
}

#[tokio::test]
async fn when_half_of_the_calls_fail_none_are_made_until_one_finds_out_that_it_works_again() {
    let app = TestApp::start().await;
    app.fault(status(503)).await;
    for n in 0..20 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
        app.run_until_idle().await;
    }
    let gates = app.get("/v1/gates").await;
    assert_eq!((&gates[0]["code"], &gates[0]["scope"]), (&json!("breaker_open"), &json!("app")), "{gates}");
    let before = calls(&app).await;
    let waiting = app.accept(&payment_failed("p-late", "u-late")).await;
    app.run_until_idle().await;
    assert_eq!(calls(&app).await, before, "no call while it is open");
    assert_eq!(app.delivery(&waiting, RULE).await["state"], "queued");
    assert_eq!(app.delivery(&waiting, RULE).await["attempts"], json!([]), "no try is used up");
    app.advance(Duration::from_secs(16)).await;
    app.run_until_idle().await;
    assert_eq!(calls(&app).await, before + 1, "one probe");
    app.advance(Duration::from_secs(16)).await;
    app.run_until_idle().await;
    assert_eq!(calls(&app).await, before + 1, "it failed, so the next one is later");
    app.clear_faults().await;
    for _ in 0..30 {
        app.advance(Duration::from_secs(30)).await;
        app.run_until_idle().await;
    }
    assert_eq!(app.get("/v1/gates").await, json!([]));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 21);
    assert_eq!(app.messages().await.len(), 21, "each of them once");
}

#[tokio::test]
async fn of_several_replicas_one_finds_out_whether_an_app_works_again() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    one.execute(
        "INSERT INTO gates (scope, subject, code, detail, closed_at, closed_until, times_closed)
         SELECT 'app', id::text, 'breaker_open', 'x', '2026-11-24T10:00:00Z', '2026-11-24T10:00:15Z', 1 FROM apps",
    )
    .await;
    one.fault(status(503)).await;
    for n in 0..10 {
        let app = if n % 2 == 0 { &one } else { &two };
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
    }
    for app in [&one, &two, &one, &two] {
        app.run_until_idle().await;
    }
    let before = calls(&one).await;
    for app in [&one, &two] {
        app.advance(Duration::from_secs(16)).await;
    }
    for app in [&one, &two, &one, &two] {
        app.run_until_idle().await;
    }
    assert_eq!(calls(&one).await, before + 1);
}

#[tokio::test]
async fn urgent_ones_go_before_a_backlog_of_bulk_and_bulk_goes_on_all_the_same() {
    let app = slow(10).await;
    let rule = "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\npriority = \"bulk\"\n";
    app.apply(&[("rules/payment-failed-sms.toml", rule)]).await;
    for n in 0..40 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("bulk-{n}"))).await;
    }
    for n in 0..20 {
        let code = json!({
            "id": format!("r-{n}"), "type": "password.reset", "recipient": {"external_id": format!("urgent-{n}")},
            "data": {"code": "123456", "name": "Anna"},
        });
        app.accept(&code).await;
    }
    for _ in 0..22 {
        app.advance(Duration::from_millis(100)).await;
        app.run_until_idle().await;
    }
    let reached = reached(&app).await;
    let urgent = reached.iter().filter(|id| id.starts_with("urgent")).count();
    let bulk = reached.len() - urgent;
    assert!(urgent >= 19 && (2..=5).contains(&bulk), "{reached:?}");
}

#[tokio::test]
async fn however_much_bulk_there_is_urgent_ones_find_room_in_memory() {
    let settings = vec![
        ("HERALD_ONESIGNAL__CALLS_PER_SECOND", "1".to_owned()),
        ("HERALD_DELIVERY__MEMORY_QUEUE_SIZE", "20".to_owned()),
    ];
    let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
    let rule = "event = \"payment.failed\"\ntemplate = \"payment-failed-sms\"\npriority = \"bulk\"\n";
    app.apply(&[("rules/payment-failed-sms.toml", rule)]).await;
    for n in 0..60 {
        app.accept(&payment_failed(&format!("p-{n}"), "the same")).await;
    }
    app.run_until_idle().await;
    for n in 0..8 {
        let code = json!({
            "id": format!("r-{n}"), "type": "password.reset", "recipient": {"external_id": format!("u-{n}")},
            "data": {"code": "123456", "name": "Anna"},
        });
        app.accept(&code).await;
    }
    assert_eq!(
        app.sql::<i64>("SELECT count(*) FROM queue WHERE worker_id IS NULL AND priority = 'urgent'").await,
        0
    );
    assert!(
        app.sql::<i64>("SELECT count(*) FROM queue WHERE worker_id IS NULL AND priority = 'bulk'").await > 40
    );
}

#[tokio::test]
async fn a_quiet_source_does_not_wait_behind_everything_of_a_noisy_one() {
    let app = slow(10).await;
    for n in 0..60 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("noisy-{n}"))).await;
    }
    let quiet = app.key_of("quiet").await;
    let event = payment_failed("q-1", "quiet");
    app.call(reqwest::Method::POST, "/v1/events", Some(&quiet), Some(&event)).await;
    for _ in 0..3 {
        app.advance(Duration::from_millis(100)).await;
        app.run_until_idle().await;
    }
    let reached = reached(&app).await;
    assert!(reached.contains(&"quiet".to_owned()), "{reached:?}");
}

#[tokio::test]
async fn many_messages_to_one_person_let_those_to_others_pass() {
    let app = slow(10).await;
    for n in 0..60 {
        app.accept(&payment_failed(&format!("p-{n}"), "hot")).await;
    }
    for n in 0..5 {
        app.accept(&payment_failed(&format!("q-{n}"), &format!("other-{n}"))).await;
    }
    for _ in 0..8 {
        app.advance(Duration::from_millis(100)).await;
        app.run_until_idle().await;
    }
    let reached = reached(&app).await;
    assert!((0..5).all(|n| reached.contains(&format!("other-{n}"))), "{reached:?}");
}

#[tokio::test]
async fn replicas_share_one_rate_and_an_idle_one_leaves_its_part_to_the_other() {
    let settings = vec![
        ("HERALD_ONESIGNAL__CALLS_PER_SECOND", "100".to_owned()),
        ("HERALD_DELIVERY__PLAN_SHARE", "1".to_owned()),
        ("HERALD_DELIVERY__MAX_TARGETS", "1".to_owned()),
    ];
    let one = TestApp::start_with(Wanted { settings: settings.clone(), ..Wanted::default() }).await;
    let two = one.replica_with(settings).await;
    for n in 0..400 {
        let app = if n % 2 == 0 { &one } else { &two };
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
    }
    // Two seconds in which they learn of each other, then one that counts.
    let mut counted = Vec::new();
    for _ in 0..5 {
        let before = calls(&one).await;
        for app in [&one, &two] {
            app.herald.pipeline.share_rates(Duration::from_secs(1)).await.expect("exchanged");
        }
        for _ in 0..20 {
            for app in [&one, &two] {
                app.clock.advance(Duration::from_millis(50));
                app.run_until_idle().await;
            }
        }
        counted.push(calls(&one).await - before);
    }
    assert!(counted.last().is_some_and(|last| (90..=111).contains(last)), "{counted:?}");
}

#[tokio::test]
async fn near_the_volume_that_onesignal_disables_an_app_for_nothing_more_goes_out_until_enough_is_old() {
    let settings = vec![("HERALD_ONESIGNAL__SUBSCRIPTIONS", "10".to_owned())];
    let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
    for n in 0..100 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
        app.run_until_idle().await;
        if n % 10 == 0 {
            app.herald.pipeline.share_rates(Duration::from_secs(1)).await.expect("exchanged");
        }
    }
    let reached = app.messages().await.len();
    assert!((80..=90).contains(&reached), "four fifths of ten times ten subscriptions: {reached}");
    app.advance(Duration::from_mins(10)).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), reached);
    app.advance(Duration::from_mins(7)).await;
    app.herald.pipeline.share_rates(Duration::from_secs(1)).await.expect("exchanged");
    app.run_until_idle().await;
    assert_eq!(reached_count(&app).await, 100);
}

#[tokio::test]
async fn a_replica_that_starts_counts_what_the_others_have_sent() {
    let settings = vec![("HERALD_ONESIGNAL__SUBSCRIPTIONS", "1".to_owned())];
    let one = TestApp::start_with(Wanted { settings: settings.clone(), ..Wanted::default() }).await;
    for n in 0..8 {
        one.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
        one.run_until_idle().await;
    }
    one.herald.pipeline.share_rates(Duration::from_secs(1)).await.expect("exchanged");
    let two = one.replica_with(settings).await;
    two.herald.pipeline.share_rates(Duration::from_secs(1)).await.expect("exchanged");
    let late = two.accept(&payment_failed("p-late", "u-late")).await;
    two.herald.pipeline.share_rates(Duration::from_secs(1)).await.expect("exchanged");
    two.run_until_idle().await;
    let later = two.accept(&payment_failed("p-later", "u-later")).await;
    two.run_until_idle().await;
    assert_eq!(two.delivery(&later, RULE).await["state"], "queued", "{late}");
}

#[tokio::test]
async fn an_outage_costs_few_calls_and_everything_arrives_once_afterwards() {
    let app = TestApp::start().await;
    for n in 0..50 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
    }
    app.run_until_idle().await;
    app.fault(status(503)).await;
    for n in 50..150 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
        app.run_until_idle().await;
    }
    let before = calls(&app).await;
    // An outage of ten minutes.
    for _ in 0..60 {
        app.advance(Duration::from_secs(10)).await;
        app.run_until_idle().await;
    }
    let during = calls(&app).await - before;
    assert!(during <= 12, "{during} calls in ten minutes of outage");
    app.clear_faults().await;
    for _ in 0..120 {
        app.advance(Duration::from_secs(30)).await;
        app.run_until_idle().await;
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 150);
    let reached = reached(&app).await;
    let people: std::collections::HashSet<&String> = reached.iter().collect();
    assert_eq!((reached.len(), people.len()), (150, 150));
}

#[tokio::test]
async fn a_version_that_is_refused_one_time_after_the_other_is_stopped_and_the_others_go_on() {
    let settings = vec![("HERALD_DELIVERY__MAX_TARGETS", "1".to_owned())];
    let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
    app.fault(status(400)).await;
    for n in 0..10 {
        app.accept(&payment_failed(&format!("p-{n}"), &format!("u-{n}"))).await;
        app.run_until_idle().await;
    }
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'rejected'").await, 5);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM queue WHERE state = 'queued'").await, 5);
    let gates = app.get("/v1/gates").await;
    assert_eq!(
        (&gates[0]["subject"], &gates[0]["code"]),
        (&json!("payment-failed-sms@1"), &json!("refused")),
        "{gates}"
    );
    app.clear_faults().await;
    let other = app.accept(&crate::support::app::order_shipped("o-1", "u")).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&other, "order-shipped-push").await["state"], "accepted");
    for _ in 0..4 {
        app.advance(Duration::from_secs(61)).await;
        app.run_until_idle().await;
    }
    assert_eq!(app.get("/v1/gates").await, json!([]));
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM queue").await, 0);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'rejected'").await, 5);
}

#[tokio::test]
async fn what_waits_behind_a_gate_ends_when_its_time_is_over() {
    let app = TestApp::start().await;
    app.fault(status(401)).await;
    let first = app.accept(&payment_failed("p-1", "u-1")).await;
    app.run_until_idle().await;
    let mut event = payment_failed("p-2", "u-2");
    event["expires_at"] = json!("2026-11-24T10:00:30Z");
    let second = app.accept(&event).await;
    app.advance(Duration::from_secs(31)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&second, RULE).await["state"], "expired");
    assert_eq!(app.delivery(&first, RULE).await["state"], "queued");
}

#[tokio::test]
async fn an_audience_waits_for_a_person_when_it_may_be_too_large() {
    for (subscriptions, state) in [("9999", "accepted"), ("10001", "held")] {
        let settings = vec![("HERALD_ONESIGNAL__SUBSCRIPTIONS", subscriptions.to_owned())];
        let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
        let sample = herald::catalog::sample::files();
        let data: Value =
            serde_json::from_str(&sample["events/product.restocked/samples/lamp.json"]).unwrap();
        let event = json!({"id": "s-1", "type": "product.restocked", "data": data});
        let accepted = app.accept(&event).await;
        app.run_until_idle().await;
        let delivery = app.delivery(&accepted, "restock-push").await;
        assert_eq!(delivery["state"], state, "{delivery}");
        if state == "held" {
            assert_eq!(delivery["decisions"][0]["code"], "needs_release", "{delivery}");
        }
    }
}

#[tokio::test]
async fn when_too_much_is_open_nothing_is_stored_and_the_client_learns_when_to_retry() {
    let settings = vec![("HERALD_INGEST__BACKLOG", "10".to_owned())];
    let app = TestApp::start_with(Wanted { settings, ..Wanted::default() }).await;
    let due = "2026-11-25T10:00:00Z";
    for n in 0..20 {
        let mut event = payment_failed(&format!("p-{n}"), &format!("u-{n}"));
        event["send_after"] = json!(due);
        app.accept(&event).await;
    }
    // Postgres counts its rows a moment later.
    let mut tries = 0;
    let response = loop {
        app.herald.pipeline.read_load().await.expect("read");
        let event = payment_failed(&format!("late-{tries}"), "u").to_string();
        let response = app.post_raw("/v1/events", &[("content-type", "application/json")], event).await;
        if response.status() == 503 {
            break response;
        }
        tries += 1;
        assert!(tries < 200, "it is never refused");
        crate::support::processes::tick().await;
    };
    let wait: u64 = response.headers()["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((20..=40).contains(&wait), "{wait}");
    let refused = payment_failed("never", "u");
    assert_eq!(app.post(&refused).await.0, 503);
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM events WHERE event_key = 'never'").await, 0);
    let mut known = payment_failed("p-1", "u-1");
    known["send_after"] = json!(due);
    assert_eq!(app.accept(&known).await["duplicate"], true, "what was taken before is answered as before");
}
