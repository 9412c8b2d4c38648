//! What stops a connector and asks, and what a source that is away looks like.

use std::time::Duration;

use serde_json::json;

use super::{CUSTOMERS, Crm, begin, customers, poll, poll_until_read, save, start, state, users, with};
use crate::people::with_strict_onesignal;
use crate::support::app::TestApp;

async fn fifty() -> Crm {
    let mut crm = Crm::with(CUSTOMERS).await;
    crm.execute(
        "INSERT INTO customers SELECT 'c' || n, 'c' || n || '@shop.example', 'gold', now() - interval '1 h'
        FROM generate_series(1, 50) n",
    )
    .await;
    crm
}

#[tokio::test]
async fn an_empty_or_much_smaller_result_stops_the_connector_and_changes_nobody() {
    let app = with_strict_onesignal().await;
    let mut crm = fifty().await;
    let definition = with(customers(), "/query/deleted", json!("deleted_at"));
    let definition = with(definition, "/query/on_delete", json!("clear"));
    begin(&app, "crm", &crm, definition).await;
    poll(&app).await;
    app.run_for(8).await;
    crm.execute("UPDATE customers SET deleted_at = now(), updated_at = now()").await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!(seen["state"], "stopped", "{seen}");
    assert!(seen["detail"].as_str().unwrap().starts_with("100 % of rows are missing"), "{seen}");
    app.run_for(3).await;
    assert_eq!(app.onesignal_user("external_id", "c7").await["properties"]["tags"], json!({"plan": "gold"}));
    // A renamed view, seen at the next count, is the same.
    crm.execute("UPDATE customers SET deleted_at = NULL, updated_at = now()").await;
    start(&app, "crm").await;
    poll(&app).await;
    crm.execute("DELETE FROM customers WHERE customer_no > 'c2'").await;
    poll(&app).await;
    assert!(state(&app, "crm").await["detail"].as_str().unwrap().contains("% of rows are missing"));
    start(&app, "crm").await;
    poll(&app).await;
    assert_eq!(state(&app, "crm").await["state"], "running", "a person has decided that it is right");
}

#[tokio::test]
async fn a_row_that_is_marked_as_deleted_does_what_was_chosen_and_nothing_otherwise() {
    let app = with_strict_onesignal().await;
    let mut crm = fifty().await;
    let choices = [
        ("nothing", json!({"plan": "gold"}), true),
        ("clear", json!({}), true),
        ("unsubscribe", json!({"plan": "gold"}), false),
    ];
    for (place, (choice, _, _)) in choices.iter().enumerate() {
        let sql = format!("SELECT * FROM customers WHERE customer_no LIKE 'c{}%'", place + 1);
        let definition =
            with(with(customers(), "/query/sql", json!(sql)), "/query/deleted", json!("deleted_at"));
        begin(&app, choice, &crm, with(definition, "/query/on_delete", json!(choice))).await;
    }
    poll(&app).await;
    app.run_for(8).await;
    crm.execute("UPDATE customers SET deleted_at = now(), updated_at = now() WHERE customer_no IN ('c10', 'c20', 'c30')")
        .await;
    for (place, (choice, tags, enabled)) in choices.into_iter().enumerate() {
        let seen = poll_until_read(&app, choice, 12).await;
        app.run_for(2).await;
        let there = app.onesignal_user("external_id", &format!("c{}0", place + 1)).await;
        let found = there["properties"]["tags"].as_object().cloned().unwrap_or_default();
        assert_eq!(json!(found), tags, "{choice}: {there}");
        assert_eq!(there["subscriptions"][0]["enabled"], enabled, "{choice}: {there}");
        assert_eq!(seen["counts"]["deleted"], i64::from(choice == "nothing"), "{seen}");
    }
}

#[tokio::test]
async fn a_changed_mapping_says_how_many_rows_it_concerns_and_waits() {
    let app = TestApp::start().await;
    let crm = fifty().await;
    let new = save(&app, "crm", &crm, customers()).await;
    assert_eq!(new["state"], "stopped", "a new connector reads nothing: {new}");
    poll(&app).await;
    assert_eq!(users(&app).await, 0);
    start(&app, "crm").await;
    poll(&app).await;
    let slower = save(&app, "crm", &crm, with(customers(), "/interval", json!("2s"))).await;
    assert_eq!(slower["state"], "running", "another interval reads the same: {slower}");
    let changed = with(customers(), "/users/columns/plan", json!("tag:tariff"));
    let changed = save(&app, "crm", &crm, changed).await;
    assert_eq!(changed["state"], "stopped", "{changed}");
    assert!(changed["detail"].as_str().unwrap().contains("50 rows are concerned"), "{changed}");
    app.act("/v1/connectors/crm/start?reread=true").await;
    poll_until_read(&app, "crm", 100).await;
    let pending = app.get("/v1/users/external_id/c7").await.to_string();
    assert!(pending.contains("tariff"), "{pending}");
}

#[tokio::test]
async fn a_source_that_is_away_shows_in_state_readiness_and_metrics_and_reads_on_when_it_is_back() {
    let app = TestApp::start().await;
    let mut crm = fifty().await;
    let mut other = Crm::with("SELECT 1").await;
    begin(&app, "crm", &crm, customers()).await;
    poll(&app).await;
    let name = crm.database.parse::<url::Url>().expect("a URL").path().trim_start_matches('/').to_owned();
    other.execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false")).await;
    for _ in 0..11 {
        poll(&app).await;
    }
    let seen = state(&app, "crm").await;
    assert!(seen["last_error"].as_str().unwrap().contains("not currently accepting connections"), "{seen}");
    assert_eq!(
        (&seen["state"], &seen["stale"], &seen["poll_age_seconds"]),
        (&json!("running"), &json!(true), &json!(11))
    );
    let ready = app.get("/readyz").await;
    assert_eq!((&ready["ready"], &ready["stale_connectors"]), (&json!(true), &json!(1)), "{ready}");
    other.execute(&format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true")).await;
    crm.execute("INSERT INTO customers VALUES ('back', NULL, 'gold', now() - interval '1 s')").await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!(
        (&seen["last_error"], &seen["stale"], users(&app).await),
        (&json!(""), &json!(false), 51),
        "{seen}"
    );
    assert!(app.get("/readyz").await["stale_connectors"].is_null());
}

#[tokio::test]
async fn a_paused_connector_reads_nothing_and_a_poll_in_progress_stores_nothing_more() {
    let app = TestApp::start().await;
    let crm = fifty().await;
    app.put_user("external_id/c30", &json!({})).await;
    begin(&app, "crm", &crm, customers()).await;
    let mut holder = super::connect(&app.database).await;
    super::execute(&mut holder, "BEGIN; SELECT 1 FROM user_aliases FOR UPDATE; LOCK TABLE users").await;
    app.advance(Duration::from_secs(1)).await;
    let connectors = std::sync::Arc::clone(&app.herald.api.connectors);
    let polling = tokio::spawn(async move { connectors.run_once().await });
    while app.sql::<bool>("SELECT lease_until IS NULL FROM connectors").await {
        tokio::task::yield_now().await;
    }
    // The pause waits for the row until the poll's transaction has failed on its lock timeout, or comes before it.
    app.act("/v1/connectors/crm/pause").await;
    super::execute(&mut holder, "ROLLBACK").await;
    let _ = polling.await.expect("ended");
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!(
        (&seen["state"], &seen["counts"]["read"], users(&app).await),
        (&json!("paused"), &json!(0), 1),
        "{seen}"
    );
}

#[tokio::test]
async fn rows_of_an_erased_person_are_left_alone_and_what_was_set_aside_of_them_is_forgotten() {
    let app = with_strict_onesignal().await;
    let mut crm = fifty().await;
    crm.execute("UPDATE customers SET email = 'no address' WHERE customer_no = 'c8'").await;
    app.put_user("external_id/c8", &json!({})).await;
    begin(&app, "crm", &crm, customers()).await;
    poll(&app).await;
    assert_eq!(state(&app, "crm").await["waiting_rows"], 1);
    for person in ["c7", "c8"] {
        let path = format!("/v1/users/external_id/{person}");
        let (status, answer) = app.call(reqwest::Method::DELETE, &path, Some(&app.key), None).await;
        assert_eq!(status, 202, "{answer}");
    }
    // An erasure takes some steps.
    for _ in 0..10 {
        app.run_until_idle().await;
        app.advance(Duration::from_secs(61)).await;
    }
    assert_eq!(state(&app, "crm").await["waiting_rows"], 0);
    crm.execute("UPDATE customers SET email = 'again@shop.example', updated_at = now() WHERE customer_no IN ('c7', 'c8')")
        .await;
    let seen = poll_until_read(&app, "crm", 52).await;
    assert_eq!((&seen["counts"]["deleted"], &seen["waiting_rows"]), (&json!(2), &json!(0)), "{seen}");
    assert!(app.onesignal_user("external_id", "c7").await["identity"].is_null());
}
