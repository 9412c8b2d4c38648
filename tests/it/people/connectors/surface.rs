//! What the API, the console and the command show of a connector, and what they keep to themselves.

use std::process::Output;

use herald::access::{Role, Scope};
use reqwest::Method;
use serde_json::{Value, json};

use super::{CUSTOMERS, Crm, begin, customers, poll, save, with};
use crate::console::visitor::Visitor;
use crate::support::app::TestApp;
use crate::support::processes::{Processes, scratch};

#[tokio::test]
async fn a_check_shows_columns_requests_and_what_should_be_changed_and_stores_nothing() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(&CUSTOMERS.replace("CREATE INDEX", "-- CREATE INDEX")).await;
    crm.execute("INSERT INTO customers VALUES ('c1', 'c1@shop.example', 'gold', now() - interval '1 h')")
        .await;
    save(&app, "crm", &crm, customers()).await;
    let found = app.act("/v1/connectors/crm/check").await;
    assert_eq!((&found["problem"], &found["rows"]), (&json!(""), &json!(1)), "{found}");
    let becomes = &found["preview"][0]["becomes"];
    assert_eq!(becomes["body"]["properties"]["tags"]["plan"], "gold", "{found}");
    let meanings: Vec<&str> =
        found["columns"].as_array().unwrap().iter().filter_map(|column| column["meaning"].as_str()).collect();
    assert_eq!(meanings, ["external_id", "email", "tag:plan", "ignore", "ignore"], "{found}");
    let warnings = found["warnings"].to_string();
    assert!(warnings.contains("no index is used") && warnings.contains("may change tables"), "{found}");
    assert!(found["guarantee"].as_str().unwrap().contains("every change is read"), "{found}");
    assert_eq!(app.sql::<i64>("SELECT count(*) FROM users").await, 0);
    save(&app, "crm", &crm, with(customers(), "/query/sql", json!("SELECT missing FROM customers"))).await;
    let found = app.act("/v1/connectors/crm/check").await;
    assert!(found["problem"].as_str().unwrap().contains("\"missing\" does not exist"), "{found}");
}

#[tokio::test]
async fn a_query_can_not_change_its_source() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(CUSTOMERS).await;
    crm.execute(
        "INSERT INTO customers VALUES ('c1', NULL, 'gold', now() - interval '1 h');
         CREATE FUNCTION wipe() RETURNS text LANGUAGE plpgsql AS $$ BEGIN DELETE FROM customers; RETURN 'x'; END $$",
    )
    .await;
    let sql = "SELECT customer_no, email, wipe() AS plan, updated_at, deleted_at FROM customers";
    begin(&app, "crm", &crm, with(customers(), "/query/sql", json!(sql))).await;
    poll(&app).await;
    let seen = super::state(&app, "crm").await;
    assert!(seen["last_error"].as_str().unwrap().contains("read-only transaction"), "{seen}");
    assert_eq!(crm.count("SELECT count(*) FROM customers").await, 1);
}

#[tokio::test]
async fn the_source_s_address_is_sealed_and_shown_to_nobody() {
    let app = TestApp::start().await;
    let address = "postgres://reader:s3cret-word@crm.example:5433/crm?sslmode=require";
    let saved = super::save_at(&app, "crm", Some(address), customers()).await;
    assert_eq!(saved["source"], "crm.example:5433/crm", "{saved}");
    for path in ["/v1/connectors", "/v1/connectors/crm", "/v1/audit"] {
        assert!(!app.get(path).await.to_string().contains("s3cret"), "{path}");
    }
    assert!(!app.dump().await.contains("s3cret"));
    let kept = super::save_at(&app, "crm", None, with(customers(), "/interval", json!("5s"))).await;
    assert_eq!(kept["source"], "crm.example:5433/crm", "an address that is not sent again stays: {kept}");
}

#[tokio::test]
async fn only_keys_that_may_do_it_themselves_save_a_connector() {
    let app = TestApp::start().await;
    let put = async |scopes: Vec<Scope>, body: &Value| {
        let key = app.key_with(scopes).await;
        app.call(Method::PUT, "/v1/connectors/crm", Some(&key), Some(body)).await
    };
    let mut definition = customers();
    definition["connection"] = json!("postgres://reader@127.0.0.1:1/crm");
    let (status, problem) = put(vec![Scope::SourcesWrite, Scope::EventsWrite], &definition).await;
    assert_eq!((status, &problem["code"]), (403, &json!("missing_scope")), "{problem}");
    let (status, problem) = put(vec![Scope::UsersWrite, Scope::EventsWrite], &definition).await;
    assert_eq!((status, &problem["code"]), (403, &json!("missing_scope")), "{problem}");
    definition["connection"] = json!("mysql://x");
    let all = vec![Scope::SourcesWrite, Scope::EventsWrite, Scope::UsersWrite];
    let (status, problem) = put(all, &definition).await;
    assert_eq!((status, &problem["errors"][0]["pointer"]), (422, &json!("/connection")), "{problem}");
}

#[tokio::test]
async fn the_console_shows_state_lag_and_rows_that_were_set_aside_and_masks_them() {
    let app = TestApp::start().await;
    let mut crm = Crm::with(CUSTOMERS).await;
    crm.execute("INSERT INTO customers VALUES ('customer-4711', 'x', 'gold', now() - interval '1 h')").await;
    begin(&app, "crm", &crm, customers()).await;
    poll(&app).await;
    let viewer = Visitor::with_role(&app, Role::Viewer).await;
    assert!(viewer.get("/connectors").await.text.contains("1 set aside"));
    let page = viewer.get("/connectors/crm").await.text;
    assert!(page.contains("1 row read") && !page.contains("customer-4711"), "{page}");
    assert_eq!(viewer.post("/connectors/crm/pause", &[]).await.status, 403);
    let admin = Visitor::with_role(&app, Role::Admin).await;
    let page = admin.get("/connectors/crm").await.text;
    assert!(page.contains("customer-4711") && page.contains("Pause"), "{page}");
    admin.post("/connectors/crm/pause", &[]).await;
    assert!(admin.get("/connectors/crm").await.text.contains("paused"));
    let audit = app.get("/v1/audit").await.to_string();
    assert!(audit.contains("\"paused\"") && audit.contains("connector"), "{audit}");
}

/// The first block of a kind in the documentation.
fn block(kind: &str) -> &'static str {
    let page = include_str!("../../../../docs/connector.md");
    let rest = page.split(&format!("```{kind}\n")).nth(1).expect("a block");
    rest.split("```").next().expect("its end")
}

#[tokio::test]
async fn the_worked_example_of_the_documentation_runs_as_it_is_written() {
    let processes = Processes::start(&[]).await;
    let mut crm = Crm::with(block("sql")).await;
    let folder = scratch("connector");
    std::fs::create_dir_all(&folder).expect("a folder");
    let file = folder.join("crm.toml");
    std::fs::write(&file, block("toml")).expect("written");
    let file = file.to_string_lossy().into_owned();
    let said = |output: Output| {
        assert!(output.status.success(), "{output:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    let saved = processes.client_reading(&["sync", "save", &file, "--connection-stdin"], &crm.database).await;
    let saved = said(saved);
    for line in saved.lines().filter(|line| !line.is_empty() && !line.starts_with("warning")) {
        let page = include_str!("../../../../docs/connector.md");
        assert!(page.lines().any(|known| known.trim_end() == line.trim_end()), "{line}\nof\n{saved}");
    }
    assert_eq!(said(processes.client(&["sync", "run", "crm"]).await), "crm is running\n");
    let status = async |words: &str| {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        loop {
            let status = said(processes.client(&["sync", "status", "crm"]).await);
            if status.contains(words) {
                return status;
            }
            assert!(std::time::Instant::now() < deadline, "{status}");
        }
    };
    let shown = status("3 read, 2 accepted").await;
    assert!(shown.contains("1003") && shown.contains("this is not an email address"), "{shown}");
    crm.execute(
        "UPDATE customers SET email = 'cyd@shop.example', updated_at = now() WHERE customer_no = '1003'",
    )
    .await;
    said(processes.client(&["sync", "pause", "crm"]).await);
    said(processes.client(&["sync", "run", "crm"]).await);
    assert!(!status("3 accepted").await.contains("set aside:"));
    let list = said(processes.client(&["sync", "status"]).await);
    assert!(list.contains("running"), "{list}");
    said(processes.client(&["sync", "delete", "crm", "--yes"]).await);
    let gone = processes.client(&["sync", "status", "crm"]).await;
    assert!(String::from_utf8_lossy(&gone.stderr).contains("there is no connector crm"), "{gone:?}");
}
