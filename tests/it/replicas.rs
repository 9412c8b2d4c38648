//! Several processes on one database: whose claims count, whose catalog, and what a short outage of the database leaves
//! behind.

use std::time::Duration;

use serde_json::{Value, json};

use crate::support::app::{TestApp, Wanted, order_shipped, payment_failed};

const RULE: &str = "payment-failed-sms";

#[tokio::test]
async fn what_a_dead_process_was_sending_is_sent_again_under_the_same_key_by_another() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    // Frozen at ingest, and then the process is gone: nothing of it runs any more.
    let accepted = one.accept(&payment_failed("p-1", "u")).await;
    assert_eq!(accepted["deliveries"][0]["state"], "sending");
    two.advance(Duration::from_secs(46)).await;
    two.run_until_idle().await;
    assert_eq!(
        two.delivery(&accepted, RULE).await["state"],
        "sending",
        "its last call may still be under way"
    );
    for _ in 0..3 {
        two.advance(Duration::from_secs(40)).await;
    }
    two.run_until_idle().await;
    let delivery = two.delivery(&accepted, RULE).await;
    assert_eq!(delivery["state"], "accepted", "{delivery}");
    let keys: Vec<&Value> =
        delivery["attempts"].as_array().unwrap().iter().map(|a| &a["idempotency_key"]).collect();
    assert_eq!((keys.len(), keys[0]), (2, keys[1]));
    assert!(delivery["decisions"].as_array().unwrap().iter().any(|d| d["code"] == "rescued"), "{delivery}");
    assert_eq!(one.messages().await.len(), 1);
}

#[tokio::test]
async fn a_process_that_comes_back_too_late_changes_nothing_and_goes_on_under_a_new_name() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    let accepted = one.accept(&payment_failed("p-1", "u")).await;
    for _ in 0..5 {
        two.advance(Duration::from_secs(40)).await;
    }
    two.run_until_idle().await;
    assert_eq!(two.delivery(&accepted, RULE).await["state"], "accepted");
    // The first wakes up, makes its call after all (the same key: no effect) and tries to write down the answer.
    one.run_until_idle().await;
    one.clock.advance(Duration::from_secs(200));
    one.advance(Duration::ZERO).await;
    one.run_until_idle().await;
    let delivery = two.delivery(&accepted, RULE).await;
    assert_eq!(delivery["state"], "accepted");
    assert_eq!(one.messages().await.len(), 1);
    assert_eq!(one.sql::<i64>("SELECT count(*) FROM queue").await, 0);
    let again = one.accept(&payment_failed("p-2", "u")).await;
    one.run_until_idle().await;
    assert_eq!(one.delivery(&again, RULE).await["state"], "accepted", "it sends again");
}

#[tokio::test]
async fn what_waits_in_a_dead_process_s_memory_is_free_once_its_lease_is_over() {
    let slow = vec![("HERALD_ONESIGNAL__CALLS_PER_SECOND", "1".to_owned())];
    let one = TestApp::start_with(Wanted { settings: slow.clone(), ..Wanted::default() }).await;
    let two = one.replica_with(slow).await;
    for n in 0..20 {
        one.accept(&payment_failed(&format!("p-{n}"), &format!("u{n}"))).await;
    }
    assert!(
        one.sql::<i64>("SELECT count(*) FROM queue WHERE state = 'queued' AND worker_id IS NOT NULL").await
            > 15
    );
    for _ in 0..5 {
        two.advance(Duration::from_secs(40)).await;
        two.run_until_idle().await;
    }
    assert_eq!(two.sql::<i64>("SELECT count(*) FROM deliveries WHERE state = 'accepted'").await, 20);
    let people: usize = one.messages().await.iter().map(|m| m["recipients"].as_array().unwrap().len()).sum();
    assert_eq!(people, 20);
}

#[tokio::test]
async fn what_another_replica_calls_sensitive_is_sealed_from_the_next_event_on() {
    let one = TestApp::start().await;
    let two = one.replica().await;
    one.accept(&payment_failed("p-0", "u")).await;
    let sensitive = "description = \"x\"\nsensitive = [\"/invoice\"]\n";
    let schema = herald::catalog::sample::files()["events/payment.failed/schema.json"].clone();
    two.apply(&[
        ("events/payment.failed/event.toml", sensitive),
        ("events/payment.failed/schema.json", &schema),
    ])
    .await;
    one.accept(&payment_failed("canary-4711", "u")).await;
    let stored: String = one.sql("SELECT string_agg(data::text, ' ') FROM event_payloads").await;
    assert!(!stored.contains("canary-4711"), "{stored}");
    one.run_until_idle().await;
    let messages = one.messages().await;
    assert!(
        messages.iter().any(|m| m["request"].to_string().contains("canary-4711")),
        "it is sent all the same"
    );
}

#[tokio::test]
async fn a_database_that_goes_away_in_the_middle_of_a_retry_leaves_nothing_stuck() {
    let app = TestApp::start().await;
    app.fault(
        json!({"endpoint": "notifications", "kind": "status", "status": 503, "probability": 1.0, "times": 1}),
    )
    .await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    app.run_until_idle().await;
    app.execute("ALTER TABLE event_payloads RENAME TO event_payloads_away").await;
    app.advance(Duration::from_secs(101)).await;
    assert!(app.herald.pipeline.run_until_idle().await.is_err(), "the payloads can't be read");
    app.execute("ALTER TABLE event_payloads_away RENAME TO event_payloads").await;
    app.advance(Duration::from_secs(20)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
    assert_eq!(app.messages().await.len(), 1);
}

#[tokio::test]
async fn a_database_that_goes_away_in_the_middle_of_a_claim_leaves_nothing_stuck() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["send_after"] = json!("2026-11-24T10:10:00Z");
    let accepted = app.accept(&event).await;
    app.execute("ALTER TABLE event_payloads RENAME TO event_payloads_away").await;
    app.advance(Duration::from_secs(601)).await;
    assert!(app.herald.pipeline.run_until_idle().await.is_err());
    app.execute("ALTER TABLE event_payloads_away RENAME TO event_payloads").await;
    app.advance(Duration::from_secs(20)).await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
}

#[tokio::test]
async fn an_answer_that_can_t_be_written_down_is_written_down_later() {
    let app = TestApp::start().await;
    let accepted = app.accept(&payment_failed("p-1", "u")).await;
    app.execute("ALTER TABLE attempts RENAME TO attempts_away").await;
    assert!(app.herald.pipeline.run_until_idle().await.is_err());
    app.execute("ALTER TABLE attempts_away RENAME TO attempts").await;
    app.run_until_idle().await;
    assert_eq!(app.delivery(&accepted, RULE).await["state"], "accepted");
    assert_eq!((app.messages().await.len(), &app.stats().await["idempotent_replays"]), (1, &json!(0)));
}

#[tokio::test]
async fn a_deadlock_is_a_reason_to_ask_again() {
    let app = TestApp::start().await;
    app.execute(
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$
         BEGIN
            IF NEW.event_key = 'o-1' THEN RAISE EXCEPTION 'deadlock detected' USING ERRCODE = '40P01'; END IF;
            RETURN NEW;
         END $$",
    )
    .await;
    app.execute("CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW EXECUTE FUNCTION refuse()").await;
    let (status, problem) = app.post(&order_shipped("o-1", "u")).await;
    assert_eq!((status, &problem["code"]), (503, &json!("unavailable")));
    app.execute("DROP TRIGGER refuse ON events").await;
    assert_eq!(app.accept(&order_shipped("o-1", "u")).await["duplicate"], false);
}

#[tokio::test]
async fn an_unknown_type_is_final_only_if_the_newest_catalog_could_be_read() {
    let app = TestApp::start().await;
    app.accept(&order_shipped("o-1", "u")).await;
    app.execute("ALTER TABLE catalog_revision RENAME TO catalog_revision_away").await;
    let event = json!({"id": "l-1", "type": "parcel.lost", "recipient": {"external_id": "u"}});
    assert_eq!(app.post(&event).await.0, 503);
    app.execute("ALTER TABLE catalog_revision_away RENAME TO catalog_revision").await;
    assert_eq!(app.post(&event).await.0, 422);
}

#[tokio::test]
async fn who_opts_out_or_is_erased_after_the_planning_gets_nothing() {
    let app = TestApp::start().await;
    for (n, user) in ["out", "gone", "stays"].into_iter().enumerate() {
        let mut event = payment_failed(&format!("p-{n}"), user);
        event["send_after"] = json!("2026-11-24T10:10:00Z");
        app.accept(&event).await;
    }
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
         VALUES ('00000000-0000-7000-8000-000000000001', 'sms', '2026-01-01Z')",
    )
    .await;
    app.advance(Duration::from_secs(601)).await;
    app.run_until_idle().await;
    let states: Vec<String> = app
        .sql("SELECT array_agg(d.recipient_id || ' ' || d.state || ' ' || coalesce(c.code, '') ORDER BY d.recipient_id)
              FROM deliveries d LEFT JOIN decisions c ON c.delivery_id = d.id")
        .await;
    assert_eq!(states, ["gone skipped erased", "out skipped opted_out", "stays accepted "]);
    assert_eq!(app.messages().await.len(), 1);
}
