//! Rows of a query: late commits, ties, poison rows, and what a crash leaves behind.

use std::time::Duration;

use serde_json::json;
use sqlx::AssertSqlSafe;

use super::{
    CUSTOMERS, Crm, Numbers, begin, customers, execute, poll, poll_until_read, save_at, start, state, users,
    with,
};
use crate::people::with_strict_onesignal;
use crate::support::app::TestApp;

#[tokio::test]
async fn changed_rows_become_users_once_and_unchanged_ones_make_no_call() {
    let app = with_strict_onesignal().await;
    let mut crm = Crm::with(CUSTOMERS).await;
    crm.execute(
        "INSERT INTO customers SELECT 'c' || n, 'c' || n || '@shop.example', 'gold', now() - interval '1 h'
        FROM generate_series(1, 30) n",
    )
    .await;
    begin(&app, "crm", &crm, customers()).await;
    poll(&app).await;
    app.run_for(8).await;
    let there = app.onesignal_user("external_id", "c7").await;
    assert_eq!(there["properties"]["tags"], json!({"plan": "gold"}), "{there}");
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((&seen["counts"]["read"], &seen["counts"]["accepted"]), (&json!(30), &json!(30)), "{seen}");
    crm.execute("UPDATE customers SET plan = 'free', updated_at = now() WHERE customer_no = 'c7'").await;
    crm.execute("UPDATE customers SET updated_at = now() WHERE customer_no = 'c8'").await;
    let seen = poll_until_read(&app, "crm", 32).await;
    assert_eq!(
        (&seen["counts"]["accepted"], &seen["counts"]["unchanged"]),
        (&json!(31), &json!(1)),
        "{seen}"
    );
    app.run_for(3).await;
    let there = app.onesignal_user("external_id", "c7").await;
    assert_eq!(there["properties"]["tags"], json!({"plan": "free"}), "{there}");
}

/// Several hundred transactions, twenty open at a time, committed in another order than they began in, with polls in
/// between.
async fn commit_late(app: &TestApp, crm: &Crm, insert: &str, transactions: usize) {
    let mut numbers = Numbers::new(17);
    let mut open = Vec::new();
    let mut idle = Vec::new();
    for _ in 0..20 {
        idle.push(crm.session().await);
    }
    for number in 0..transactions {
        let mut session = idle.pop().expect("a session");
        execute(&mut session, "BEGIN").await;
        sqlx::query(AssertSqlSafe(insert.to_owned()))
            .bind(format!("c{number}"))
            .execute(&mut session)
            .await
            .expect("inserted");
        open.push(session);
        if idle.is_empty() || number % 3 == 0 {
            let mut session = open.swap_remove(numbers.below(open.len()));
            execute(&mut session, "COMMIT").await;
            idle.push(session);
        }
        if number % 15 == 0 {
            poll(app).await;
        }
    }
    for mut session in open {
        execute(&mut session, "COMMIT").await;
    }
}

const INSERT: &str = "INSERT INTO customers (customer_no, plan) VALUES ($1, 'gold')";

#[tokio::test]
async fn rows_that_are_committed_late_are_read_once_each() {
    let app = TestApp::start().await;
    let crm = Crm::with(CUSTOMERS).await;
    begin(&app, "crm", &crm, with(customers(), "/query/lookback", json!("0s"))).await;
    poll(&app).await;
    commit_late(&app, &crm, INSERT, 300).await;
    let seen = poll_until_read(&app, "crm", 300).await;
    assert_eq!(users(&app).await, 300);
    assert_eq!((&seen["counts"]["read"], &seen["counts"]["accepted"]), (&json!(300), &json!(300)), "{seen}");
    assert_eq!(seen["notes"], json!([]), "{seen}");
}

#[tokio::test]
async fn a_role_that_sees_no_transactions_finds_late_rows_in_the_lookback_window() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(CUSTOMERS).await;
    let (role, address) = crm.make_role().await;
    crm.execute(&format!("GRANT SELECT ON customers TO {role}")).await;
    save_at(&app, "crm", Some(&address), customers()).await;
    start(&app, "crm").await;
    poll(&app).await;
    commit_late(&app, &crm, INSERT, 120).await;
    let seen = poll_until_read(&app, "crm", 120).await;
    assert_eq!((users(&app).await, &seen["counts"]["read"]), (120, &json!(120)), "{seen}");
    assert!(seen["notes"][0].as_str().unwrap().contains("open transactions are not visible"), "{seen}");
    crm.drop_role(&role).await;
}

#[tokio::test]
async fn a_thousand_rows_of_one_time_with_a_poison_row_survive_a_kill_in_the_middle() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(CUSTOMERS).await;
    crm.execute(
        "INSERT INTO customers SELECT 'c' || to_char(n, 'FM0000'), 'c' || n || '@shop.example', 'gold',
        '2026-11-01 10:00:00.123456Z' FROM generate_series(1, 1000) n",
    )
    .await;
    crm.execute("UPDATE customers SET email = 'no address' WHERE customer_no = 'c0500'").await;
    app.put_user("external_id/c0450", &json!({})).await;
    begin(&app, "crm", &crm, with(customers(), "/batch", json!(100))).await;
    // The poll has stored four batches and waits in the fifth when it is killed.
    let mut holder = super::connect(&app.database).await;
    execute(&mut holder, "BEGIN; SELECT 1 FROM users FOR UPDATE").await;
    app.advance(Duration::from_secs(1)).await;
    let connectors = std::sync::Arc::clone(&app.herald.api.connectors);
    let polling = tokio::spawn(async move { connectors.run_once().await });
    while state(&app, "crm").await["counts"]["read"] != 400 {
        tokio::task::yield_now().await;
    }
    polling.abort();
    execute(&mut holder, "ROLLBACK").await;
    poll(&app).await;
    assert_eq!(state(&app, "crm").await["counts"]["read"], 400, "another process waits for the lease");
    app.advance(Duration::from_mins(6)).await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    let counts = &seen["counts"];
    assert_eq!((&counts["read"], &counts["set_aside"]), (&json!(1000), &json!(1)), "{seen}");
    assert_eq!(counts["accepted"], 999, "{seen}");
    assert_eq!(users(&app).await, 999);
    let aside = app.get("/v1/connectors/crm/set-aside").await;
    assert_eq!(
        (&aside["data"][0]["row"], &aside["data"][0]["column"]),
        (&json!("c0500"), &json!("email")),
        "{aside}"
    );
    // The row is corrected without a new time; the next attempt reads what it says then.
    crm.execute("UPDATE customers SET email = 'c500@shop.example' WHERE customer_no = 'c0500'").await;
    app.advance(Duration::from_mins(1)).await;
    poll(&app).await;
    assert_eq!((users(&app).await, &state(&app, "crm").await["waiting_rows"]), (1_000, &json!(0)));
}

#[tokio::test]
async fn a_row_that_was_set_aside_is_dropped_when_a_newer_one_of_its_key_is_accepted() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(CUSTOMERS).await;
    crm.execute("INSERT INTO customers VALUES ('c1', 'no address', 'old', now() - interval '1 h')").await;
    begin(&app, "crm", &crm, customers()).await;
    poll(&app).await;
    assert_eq!(state(&app, "crm").await["waiting_rows"], 1);
    crm.execute("UPDATE customers SET email = 'c1@shop.example', plan = 'new', updated_at = now()").await;
    let seen = poll_until_read(&app, "crm", 2).await;
    assert_eq!((&seen["waiting_rows"], &seen["counts"]["accepted"]), (&json!(0), &json!(1)), "{seen}");
    let pending = app.get("/v1/users/external_id/c1").await.to_string();
    assert!(pending.contains("new") && !pending.contains("old"), "{pending}");
}

#[tokio::test]
async fn times_without_a_zone_are_read_in_the_zone_that_is_declared_and_rows_without_a_time_are_counted() {
    let app = TestApp::start().await;
    let crm = Crm::with(
        "CREATE TABLE customers (customer_no text, email text, plan text, updated_at timestamp, deleted_at text);
         INSERT INTO customers VALUES ('c1', NULL, 'gold', '2026-10-25 02:30:00.000001'), ('c2', NULL, 'gold', NULL)",
    )
    .await;
    super::save(&app, "crm", &crm, customers()).await;
    let found = app.act("/v1/connectors/crm/check").await;
    assert!(found["problem"].as_str().unwrap().contains("`time_zone`"), "{found}");
    begin(&app, "crm", &crm, with(customers(), "/query/time_zone", json!("Europe/Berlin"))).await;
    poll(&app).await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((users(&app).await, &seen["counts"]["read"]), (1, &json!(1)), "{seen}");
    assert!(seen["notes"].to_string().contains("1 rows have no watermark"), "{seen}");
}

#[tokio::test]
async fn a_new_connector_begins_with_what_changes_after_its_start() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(CUSTOMERS).await;
    crm.execute(
        "INSERT INTO customers SELECT 'old' || n, NULL, 'gold', now() - interval '1 h'
        FROM generate_series(1, 50) n",
    )
    .await;
    begin(&app, "crm", &crm, with(customers(), "/query/start", json!("now"))).await;
    poll(&app).await;
    poll(&app).await;
    assert_eq!(users(&app).await, 0);
    crm.execute("INSERT INTO customers VALUES ('new', NULL, 'gold', now())").await;
    poll_until_read(&app, "crm", 1).await;
    assert_eq!(users(&app).await, 1);
}

#[tokio::test]
async fn an_open_transaction_that_holds_a_connector_back_is_shown() {
    let app = TestApp::start().await;
    let crm = Crm::with(CUSTOMERS).await;
    begin(&app, "crm", &crm, customers()).await;
    let mut holder = crm.session().await;
    execute(&mut holder, "BEGIN; INSERT INTO customers VALUES ('c1', NULL, 'gold')").await;
    let deadline = std::time::Instant::now() + Duration::from_secs(15);
    loop {
        poll(&app).await;
        let seen = state(&app, "crm").await;
        if seen["notes"].to_string().contains("held back by pid ") {
            break;
        }
        assert!(std::time::Instant::now() < deadline, "{seen}");
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
