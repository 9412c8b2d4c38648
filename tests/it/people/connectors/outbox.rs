//! Outboxes: late commits, the order of one person's rows, notifications, and tables in Herald's own database.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use sqlx::AssertSqlSafe;
use tokio_util::sync::CancellationToken;

use super::{
    Crm, Numbers, begin, connect, execute, poll, poll_until_read, save_at, start, state, users, with,
};
use crate::support::app::TestApp;

const OUTBOX: &str = "CREATE TABLE outbox (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer_no text, email text, plan text
 )";

fn outbox() -> Value {
    json!({
        "rows": "users", "interval": "1s", "batch": 50,
        "outbox": {"table": "outbox", "key": "customer_no"},
        "users": {"columns": {"customer_no": "external_id", "plan": "tag:plan"}},
    })
}

#[tokio::test]
async fn rows_that_are_committed_late_are_consumed_once_each() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(OUTBOX).await;
    begin(&app, "crm", &crm, outbox()).await;
    let mut numbers = Numbers::new(18);
    let mut open = Vec::new();
    for number in 0..300 {
        let mut session = if open.len() < 20 {
            crm.session().await
        } else {
            let mut session = open.swap_remove(numbers.below(20));
            execute(&mut session, "COMMIT").await;
            session
        };
        execute(&mut session, "BEGIN").await;
        let insert = format!("INSERT INTO outbox (customer_no, plan) VALUES ('c{number}', 'gold')");
        sqlx::query(AssertSqlSafe(insert)).execute(&mut session).await.expect("inserted");
        open.push(session);
        if number % 15 == 0 {
            poll(&app).await;
        }
    }
    for session in &mut open {
        execute(session, "COMMIT").await;
    }
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((users(&app).await, &seen["counts"]["read"]), (300, &json!(300)), "{seen}");
    assert_eq!(crm.count("SELECT count(*) FROM outbox").await, 0, "accepted rows are deleted");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM connector_consumed").await, 0);
}

#[tokio::test]
async fn ids_that_are_drawn_under_the_person_s_lock_decide_which_row_is_newer() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(&format!(
        "{OUTBOX}; CREATE TABLE customers (customer_no text PRIMARY KEY, plan text);
         INSERT INTO customers VALUES ('c1', 'none'), ('c2', 'none')"
    ))
    .await;
    begin(&app, "crm", &crm, outbox()).await;
    let change = |plan: &str| {
        format!(
            "UPDATE customers SET plan = '{plan}' WHERE customer_no = 'c1';
             INSERT INTO outbox (customer_no, plan) VALUES ('c1', '{plan}')"
        )
    };
    // The first transaction has the smaller transaction id, and writes later than the second one.
    let (mut first, mut second) = (crm.session().await, crm.session().await);
    execute(&mut first, "BEGIN; UPDATE customers SET plan = 'x' WHERE customer_no = 'c2'").await;
    execute(&mut second, &format!("BEGIN; {}; COMMIT", change("OLD"))).await;
    execute(&mut first, &format!("{}; COMMIT", change("NEW"))).await;
    let by_transaction = crm.count(
        "SELECT count(*) FROM outbox a JOIN outbox b ON a.id < b.id AND a.xmin::text::bigint > b.xmin::text::bigint",
    );
    assert_eq!(by_transaction.await, 1, "an order by transaction ids would end with the old value");
    poll(&app).await;
    let pending = app.get("/v1/users/external_id/c1").await.to_string();
    assert!(pending.contains("NEW") && !pending.contains("OLD"), "{pending}");
}

#[tokio::test]
async fn a_poison_row_stays_in_the_outbox_until_it_is_corrected_or_replaced_and_stops_nobody() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(OUTBOX).await;
    crm.execute(
        "INSERT INTO outbox (customer_no, email, plan) VALUES
        ('c1', 'no address', 'old'), ('c2', 'no address', 'gold'), ('c3', 'c3@shop.example', 'gold')",
    )
    .await;
    begin(&app, "crm", &crm, outbox()).await;
    poll(&app).await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((users(&app).await, &seen["waiting_rows"]), (1, &json!(2)), "{seen}");
    assert_eq!((&seen["counts"]["read"], crm.count("SELECT count(*) FROM outbox").await), (&json!(3), 2));
    crm.execute("INSERT INTO outbox (customer_no, email, plan) VALUES ('c1', 'c1@shop.example', 'new')")
        .await;
    crm.execute("UPDATE outbox SET email = 'c2@shop.example' WHERE customer_no = 'c2'").await;
    poll(&app).await;
    assert_eq!(crm.count("SELECT count(*) FROM outbox").await, 1, "the old row of c1 went with the new one");
    app.advance(Duration::from_mins(1)).await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((crm.count("SELECT count(*) FROM outbox").await, users(&app).await), (0, 3), "{seen}");
    assert_eq!(seen["waiting_rows"], 0, "{seen}");
    let pending = app.get("/v1/users/external_id/c1").await.to_string();
    assert!(pending.contains("new") && !pending.contains("old"), "{pending}");
}

#[tokio::test]
async fn rows_that_were_stored_but_not_deleted_are_deleted_by_the_next_poll_and_not_read_again() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(OUTBOX).await;
    crm.execute(
        "INSERT INTO outbox (customer_no, plan) SELECT 'c' || n, 'gold' FROM generate_series(1, 10) n",
    )
    .await;
    begin(&app, "crm", &crm, outbox()).await;
    // The table can be read but not changed: the poll fails after it has stored the rows.
    let mut holder = crm.session().await;
    execute(&mut holder, "BEGIN; LOCK TABLE outbox IN SHARE MODE").await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert!(seen["last_error"].as_str().unwrap().contains("lock timeout"), "{seen}");
    assert_eq!((users(&app).await, crm.count("SELECT count(*) FROM outbox").await), (10, 10));
    execute(&mut holder, "ROLLBACK").await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((&seen["counts"]["read"], &seen["last_error"]), (&json!(10), &json!("")), "{seen}");
    assert_eq!(crm.count("SELECT count(*) FROM outbox").await, 0);
}

#[tokio::test]
async fn a_notification_makes_a_connector_due_and_without_one_it_is_polled_at_its_interval() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(OUTBOX).await;
    let definition =
        with(with(outbox(), "/interval", json!("1h")), "/outbox/channel", json!("herald_outbox"));
    begin(&app, "crm", &crm, definition).await;
    let stop = CancellationToken::new();
    let polling = tokio::spawn(Arc::clone(&app.herald.api.connectors).keep_polling(stop.clone()));
    let wait_for = async |count: i64| {
        let deadline = std::time::Instant::now() + Duration::from_secs(10);
        while users(&app).await < count {
            assert!(std::time::Instant::now() < deadline, "{}", state(&app, "crm").await);
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    crm.execute("INSERT INTO outbox (customer_no) VALUES ('c1'); NOTIFY herald_outbox").await;
    wait_for(1).await;
    crm.execute("INSERT INTO outbox (customer_no) VALUES ('c2'); NOTIFY herald_outbox").await;
    wait_for(2).await;
    stop.cancel();
    polling.await.expect("ended");
    // As if a pooler had dropped the notification.
    crm.execute("INSERT INTO outbox (customer_no) VALUES ('c3')").await;
    poll(&app).await;
    assert_eq!(users(&app).await, 2);
    app.advance(Duration::from_hours(1)).await;
    poll(&app).await;
    assert_eq!(users(&app).await, 3);
}

/// An outbox in a schema of Herald's own database, and the role that may use it.
async fn shared(app: &TestApp) -> (String, Value) {
    let mut owner = connect(&app.database).await;
    let url: url::Url = app.database.parse().expect("a URL");
    let role = format!("outbox_of{}", url.path().replace(['/', '-'], "_"));
    let table = OUTBOX.replace("TABLE outbox", "TABLE crm.outbox");
    execute(
        &mut owner,
        &format!(
            "DROP ROLE IF EXISTS {role}; CREATE ROLE {role}; CREATE SCHEMA crm; {table};
             GRANT USAGE ON SCHEMA crm TO {role}; GRANT SELECT, DELETE ON crm.outbox TO {role}"
        ),
    )
    .await;
    let definition = with(outbox(), "/outbox/table", json!("crm.outbox"));
    (role.clone(), with(definition, "/outbox/shared_role", json!(role)))
}

#[tokio::test]
async fn an_outbox_in_herald_s_database_is_emptied_in_the_transaction_that_stores_its_users() {
    let app = TestApp::start().await;
    let (role, definition) = shared(&app).await;
    save_at(&app, "crm", None, definition).await;
    start(&app, "crm").await;
    let mut owner = connect(&app.database).await;
    let mut open = Vec::new();
    let mut numbers = Numbers::new(22);
    for number in 0..100 {
        let mut session = if open.len() < 10 {
            connect(&app.database).await
        } else {
            let mut session = open.swap_remove(numbers.below(10));
            execute(&mut session, "COMMIT").await;
            session
        };
        execute(&mut session, &format!("BEGIN; INSERT INTO crm.outbox (customer_no) VALUES ('c{number}')"))
            .await;
        open.push(session);
        if number % 15 == 0 {
            poll(&app).await;
        }
        let sum: i64 =
            app.sql("SELECT (SELECT count(*) FROM users) + (SELECT count(*) FROM crm.outbox)").await;
        assert_eq!(
            sum,
            i64::from(number + 1) - i64::try_from(open.len()).expect("few"),
            "a row is in one place only"
        );
    }
    for session in &mut open {
        execute(session, "COMMIT").await;
    }
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((users(&app).await, &seen["counts"]["read"]), (100, &json!(100)), "{seen}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM crm.outbox").await, 0);
    let found = app.act("/v1/connectors/crm/check").await;
    assert!(found["guarantee"].as_str().unwrap().contains("exactly once"), "{found}");
    execute(&mut owner, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn a_role_that_may_read_herald_s_tables_is_refused_and_nothing_is_deleted() {
    let app = TestApp::start().await;
    let (role, definition) = shared(&app).await;
    let mut owner = connect(&app.database).await;
    execute(&mut owner, &format!("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {role}")).await;
    save_at(&app, "crm", None, definition).await;
    start(&app, "crm").await;
    execute(&mut owner, "INSERT INTO crm.outbox (customer_no) VALUES ('c1')").await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert!(seen["last_error"].as_str().unwrap().contains("may read Herald's tables"), "{seen}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM crm.outbox").await, 1);
    execute(&mut owner, &format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
}

#[tokio::test]
async fn no_further_rows_are_read_while_many_wait_in_the_outbox_of_users() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(OUTBOX).await;
    crm.execute("INSERT INTO outbox (customer_no) VALUES ('c1')").await;
    begin(&app, "crm", &crm, outbox()).await;
    app.execute(
        "WITH people AS (INSERT INTO users (id, created_at, updated_at)
            SELECT gen_random_uuid(), '2026-11-24T10:00:00Z', '2026-11-24T10:00:00Z' FROM generate_series(1, 5001)
            RETURNING id)
         INSERT INTO user_writes (app_id, user_id, changes, creates, origin, version, due_at, created_at)
         SELECT '5a0d0000-0000-4000-8000-000000000001', id, '{}', false, 2, 1, '2026-11-24T10:00:00Z',
            '2026-11-24T10:00:00Z' FROM people",
    )
    .await;
    poll(&app).await;
    let seen = state(&app, "crm").await;
    assert_eq!((&seen["counts"]["read"], &seen["last_error"]), (&json!(0), &json!("")), "{seen}");
    assert!(seen["notes"][0].as_str().unwrap().contains("wait in the outbox"), "{seen}");
    app.execute("DELETE FROM user_writes").await;
    let seen = poll_until_read(&app, "crm", 1).await;
    assert_eq!((&seen["notes"], crm.count("SELECT count(*) FROM outbox").await), (&json!([]), 0));
}
