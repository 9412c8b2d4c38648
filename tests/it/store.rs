//! The schema and the SQL: every statement matches the schema, no time comes from the database's clock, and old
//! partitions are dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::json;
use sqlx::{Connection, Executor, PgConnection, SqlSafeStr};

use crate::support::app::{TestApp, Wanted, order_shipped, payment_failed, start_of_time};
use crate::support::database;

fn store_folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src/store")
}

/// Every file with this ending in a folder, as (name, text).
fn files(folder: &Path, end: &str) -> Vec<(String, String)> {
    let mut found: Vec<(String, String)> = std::fs::read_dir(folder)
        .expect("a folder")
        .flatten()
        .filter(|entry| entry.path().extension().is_some_and(|e| e == end))
        .map(|entry| {
            let text = std::fs::read_to_string(entry.path()).expect("text");
            (entry.file_name().to_string_lossy().into_owned(), text)
        })
        .collect();
    found.sort();
    found
}

/// The string literals of a source file that are SQL statements, with the file's `const` texts put in where a
/// literal is a format of them.
fn statements(source: &str) -> Vec<String> {
    let code = source.split("#[cfg(test)]").next().unwrap_or_default();
    let literals: Vec<String> = literals(code);
    literals
        .into_iter()
        .filter(|text| {
            let first = text.split_whitespace().next().unwrap_or_default();
            ["SELECT", "INSERT", "UPDATE", "DELETE", "WITH"].contains(&first) && text.contains(' ')
        })
        .collect()
}

fn literals(code: &str) -> Vec<String> {
    let mut found = Vec::new();
    let mut rest = code;
    while let Some(start) = rest.find(['"', '/', '\'']) {
        let tail = &rest[start..];
        if tail.starts_with("//") {
            rest = tail.find('\n').map_or("", |end| &tail[end..]);
        } else if let Some(after) = tail.strip_prefix("'\"'") {
            rest = after;
        } else if tail.starts_with('"') {
            let mut end = 1;
            while !tail[end..].starts_with('"') {
                end += if tail[end..].starts_with('\\') {
                    2
                } else {
                    tail[end..].chars().next().map_or(1, char::len_utf8)
                };
            }
            found.push(tail[1..end].replace("\\\n", "\n").replace("\\\"", "\""));
            rest = &tail[end + 1..];
        } else {
            rest = &tail[1..];
        }
    }
    found
}

/// The statements that lie in files of their own. One that begins with `-- Follows other.sql` goes on where that one ends.
fn statement_files() -> Vec<(String, String)> {
    let all: BTreeMap<String, String> = files(&store_folder().join("sql"), "sql").into_iter().collect();
    let beginning = |text: &str| {
        let name = text.strip_prefix("-- Follows ")?.split(".sql").next()?;
        all.get(&format!("{name}.sql")).map(|begins| (format!("{name}.sql"), begins))
    };
    let begun: BTreeSet<String> = all.values().filter_map(|text| Some(beginning(text)?.0)).collect();
    let whole = all.iter().filter(|(name, _)| !begun.contains(*name));
    whole
        .map(|(name, text)| {
            let begins = beginning(text).map(|(_, begins)| begins.as_str()).unwrap_or_default();
            (name.clone(), format!("{begins}{text}"))
        })
        .collect()
}

#[tokio::test]
async fn every_statement_fits_the_schema() {
    let database = database::fresh().await;
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let mut all = statement_files();
    assert!(all.len() >= 10);
    let mut built_later = 0;
    for (name, source) in files(&store_folder(), "rs") {
        for statement in statements(&source) {
            let statement = with_days(&statement);
            // What is put together when it runs is prepared by the tests that run it.
            if statement.contains('{') {
                built_later += 1;
            } else {
                all.push((name.clone(), statement));
            }
        }
    }
    assert!(all.len() > 60 && built_later < 20, "{} statements, {built_later} put together later", all.len());
    let mut misfits = Vec::new();
    for (name, statement) in all {
        let text = sqlx::AssertSqlSafe(with_days(&statement)).into_sql_str();
        if let Err(error) = connection.prepare(text).await {
            misfits.push(format!("{name}: {error}\n{statement}"));
        }
    }
    assert!(misfits.is_empty(), "{}", misfits.join("\n\n"));
}

#[tokio::test]
async fn no_time_comes_from_the_database_s_clock() {
    let database = database::fresh().await;
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let defaults: Vec<String> = sqlx::query_scalar(
        "SELECT table_name || '.' || column_name FROM information_schema.columns
         WHERE table_schema = 'public' AND column_default IS NOT NULL AND data_type LIKE 'timestamp%'
           AND table_name <> '_sqlx_migrations'",
    )
    .fetch_all(&mut connection)
    .await
    .unwrap();
    assert!(defaults.is_empty(), "columns with a time default: {defaults:?}");
    let migrations = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations");
    let mut texts = files(&migrations, "sql");
    texts.extend(files(&store_folder().join("sql"), "sql"));
    texts.extend(files(&store_folder(), "rs").into_iter().filter(|(name, _)| name != "clock.rs"));
    for (name, text) in texts {
        for clock in ["now()", "clock_timestamp", "CURRENT_TIMESTAMP", "statement_timestamp", "CURRENT_DATE"]
        {
            let uses = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("--") && !line.trim_start().starts_with("//"));
            let own = [format!(".{clock}"), format!("Instant::{clock}")];
            let found: Vec<&str> = uses
                .filter(|line| line.contains(clock) && !own.iter().any(|own| line.contains(own)))
                .collect();
            assert!(found.is_empty(), "{name} reads the database's clock: {found:?}");
        }
    }
}

#[tokio::test]
async fn migrating_twice_changes_nothing_and_days_are_made_ahead() {
    let database = database::empty().await;
    database::migrate(&database).await;
    let mut connection = PgConnection::connect(&database).await.unwrap();
    let namespace = async |connection: &mut PgConnection| -> sqlx::types::Uuid {
        sqlx::query_scalar("SELECT namespace FROM deployment").fetch_one(connection).await.unwrap()
    };
    let first = namespace(&mut connection).await;
    database::migrate(&database).await;
    assert_eq!(namespace(&mut connection).await, first, "every idempotency key hangs on it");
    let days: i64 =
        sqlx::query_scalar("SELECT count(*) FROM pg_inherits WHERE inhparent = 'events'::regclass")
            .fetch_one(&mut connection)
            .await
            .unwrap();
    assert_eq!(days, 5, "yesterday, today and three more");
}

#[tokio::test]
async fn a_queue_row_that_makes_no_sense_is_refused() {
    let app = TestApp::start().await;
    let mut event = payment_failed("p-1", "u");
    event["send_after"] = json!("2026-11-24T12:00:00Z");
    app.accept(&event).await;
    let mut connection = PgConnection::connect(&app.database).await.unwrap();
    for nonsense in [
        "UPDATE queue SET state = 'sending', batch_id = gen_random_uuid()",
        "UPDATE queue SET state = 'retrying'",
        "UPDATE queue SET batch_id = gen_random_uuid()",
        "UPDATE queue SET state = 'held', worker_id = gen_random_uuid()",
        "UPDATE queue SET state = 'accepted'",
        "UPDATE queue SET claim_epoch = -1",
        "UPDATE deliveries SET state = 'accepted'",
        "UPDATE deliveries SET finished_at = created_at",
        "UPDATE deliveries SET recipient_id = NULL",
    ] {
        let refused = sqlx::query(nonsense).execute(&mut connection).await.unwrap_err();
        let code = refused.as_database_error().and_then(|e| e.code().map(|c| c.to_string()));
        assert_eq!(code.as_deref(), Some("23514"), "{nonsense}");
    }
}

#[tokio::test]
async fn old_days_go_once_nothing_in_them_is_open_and_keys_go_after_theirs() {
    let short =
        vec![("HERALD_RETENTION__DAYS", "7".to_owned()), ("HERALD_RETENTION__KEY_DAYS", "10".to_owned())];
    let app = TestApp::start_with(Wanted { settings: short, ..Wanted::default() }).await;
    app.accept(&order_shipped("o-1", "u")).await;
    app.run_until_idle().await;
    let events = "SELECT count(*) FROM events";
    app.advance(Duration::from_hours(6 * 24)).await;
    assert_eq!(app.sql::<i64>(events).await, 1);
    app.advance(Duration::from_hours(2 * 24)).await;
    assert_eq!(app.sql::<i64>(events).await, 0, "a week is over");
    assert_eq!(app.accept(&order_shipped("o-1", "u")).await["duplicate"], true, "its key is still taken");
    app.advance(Duration::from_hours(3 * 24)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM event_keys").await, 0);
    assert_eq!(app.accept(&order_shipped("o-1", "u")).await["duplicate"], false);
}

#[tokio::test]
async fn a_day_with_an_open_delivery_stays() {
    let short = vec![("HERALD_RETENTION__DAYS", "1".to_owned())];
    let app = TestApp::start_with(Wanted { settings: short, ..Wanted::default() }).await;
    let mut event = order_shipped("o-1", "u");
    event["send_after"] = json!("2026-11-28T12:00:00Z");
    let accepted = app.accept(&event).await;
    app.advance(Duration::from_hours(98)).await;
    app.run_until_idle().await;
    assert_eq!(app.messages().await.len(), 2);
    assert_eq!(app.delivery(&accepted, "order-shipped-push").await["state"], "accepted");
    app.advance(Duration::from_hours(24)).await;
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM deliveries").await, 0);
}

/// The hot statements.
const HOT: [&str; 8] = [
    "claim_due.sql",
    "claim_retries.sql",
    "retries_due.sql",
    "freeze.sql",
    "finish_deliveries.sql",
    "reopen_deliveries.sql",
    "answer_attempts.sql",
    "claim_keys.sql",
];

/// A statement with days in place of its marks.
fn with_days(text: &str) -> String {
    let mut filled = String::new();
    // A mark in a format has two braces: it is filled after the format.
    for (n, piece) in text.replace("{{days ", "{{").split("{days ").enumerate() {
        let (column, rest) = if n == 0 { ("", piece) } else { piece.split_once('}').expect("a whole mark") };
        if let Some((_, column)) = column.split_once(' ') {
            let day = [column, " >= '", DAY.0, "' AND ", column, " < '", DAY.1, "'"];
            filled.push_str(&day.concat());
        }
        filled.push_str(rest);
    }
    filled
}

/// The ids of a day that has partitions.
const DAY: (&str, &str) = ("01a20ada-2c00-0000-0000-000000000000", "01a21000-8800-0000-0000-000000000000");

#[tokio::test]
async fn no_hot_statement_scans_what_grows_even_if_it_was_planned_while_that_was_empty() {
    let url = database::fresh().await;
    let options = url.parse::<sqlx::postgres::PgConnectOptions>().expect("an address");
    let mut connection =
        PgConnection::connect_with(&options.options(herald::store::SESSION)).await.expect("connected");
    connection.execute("SET plan_cache_mode = force_generic_plan").await.expect("set");
    // Statistics that say for certain that there are no rows make the planner bolder than none.
    for statistics in [false, true] {
        if statistics {
            connection.execute("VACUUM ANALYZE").await.expect("analyzed");
        }
        check_hot_statements(&mut connection).await;
    }
}

async fn check_hot_statements(connection: &mut PgConnection) {
    for (name, text) in
        files(&store_folder().join("sql"), "sql").iter().filter(|(n, _)| HOT.contains(&n.as_str()))
    {
        let parameters = (1..=30).rev().find(|n| text.contains(&format!("${n}"))).expect("a parameter");
        let prepare = format!("PREPARE hot AS {}", with_days(text));
        connection.execute(sqlx::AssertSqlSafe(prepare).into_sql_str()).await.expect("prepared");
        let nulls = vec!["NULL"; parameters].join(", ");
        let plan: Vec<String> =
            sqlx::query_scalar(sqlx::AssertSqlSafe(format!("EXPLAIN EXECUTE hot ({nulls})")))
                .fetch_all(&mut *connection)
                .await
                .expect("a plan");
        // A filter on ids that a join compares row by row costs the square of what is frozen or finished at once.
        let grows = ["queue", "deliveries", "attempts", "batches", "event_keys", "users", "user_aliases"];
        let is_slow = |line: &&String| {
            (line.contains("Seq Scan on") && grows.iter().any(|table| line.contains(table)))
                || line.contains("Join Filter")
                || line.contains("Hash Join")
                || line.contains("Merge Join")
                || line.contains("queue_leased")
        };
        let scans: Vec<&String> = plan.iter().filter(is_slow).collect();
        assert!(scans.is_empty(), "{name}: {scans:?}\n{}", plan.join("\n"));
        connection.execute("DEALLOCATE hot").await.expect("forgotten");
    }
}

#[tokio::test]
async fn a_replica_that_is_running_reads_on_after_a_migration_added_columns() {
    let app = TestApp::start().await;
    // Several connections hold plans of the old shape.
    let read = || async {
        let all = futures_util::future::join_all((0..8).map(|_| app.get_raw("/v1/apps"))).await;
        all.iter().filter(|response| response.status() != 200).count()
    };
    assert_eq!(read().await, 0);
    app.execute("ALTER TABLE apps ADD COLUMN added_by_a_later_version integer").await;
    assert!(read().await > 0, "a plan that is kept is refused; if not, this test tests nothing");
    for _ in 0..3 {
        assert_eq!(read().await, 0);
    }
}

/// Polls a future up to so many times, and drops it.
async fn poll_and_drop(future: impl Future, polls: usize) {
    let mut future = std::pin::pin!(future);
    for _ in 0..polls {
        if futures_util::poll!(future.as_mut()).is_ready() {
            return;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_write_that_was_answered_is_there_however_many_requests_were_dropped_while_they_began() {
    let app = TestApp::start().await;
    let (store, now) = (&app.herald.store, start_of_time());
    let ids = herald::domain::id::IdSource::random();
    for turn in 0..1_000 {
        poll_and_drop(store.begin(), turn % 25).await;
        let worker = ids.next(now);
        store.enter_worker(worker, "a host", now, now).await.expect("the write is answered");
    }
    let written: i64 = app.sql("SELECT count(*) FROM workers WHERE host = 'a host'").await;
    assert_eq!(written, 1_000);
}
