//! Connectors, against a second real database: what is read, what is not lost, and what stops.

mod events;
mod outbox;
mod query;
mod stops;
mod surface;

use std::time::Duration;

use reqwest::Method;
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use crate::support::app::TestApp;
use crate::support::database::{self, Database};

/// The database of a CRM.
pub struct Crm {
    pub database: Database,
    connection: PgConnection,
}

impl Crm {
    /// A CRM whose database is made by these statements.
    pub async fn with(statements: &str) -> Self {
        let database = database::empty().await;
        let connection = connect(&database).await;
        let mut crm = Self { database, connection };
        crm.execute(statements).await;
        crm
    }

    pub async fn execute(&mut self, statements: &str) {
        execute(&mut self.connection, statements).await;
    }

    pub async fn count(&mut self, query: &str) -> i64 {
        let query = sqlx::query_scalar(AssertSqlSafe(query.to_owned()));
        query.fetch_one(&mut self.connection).await.expect("a number")
    }

    /// Another session of the CRM.
    pub async fn session(&self) -> PgConnection {
        connect(&self.database).await
    }
}

pub async fn connect(database: &str) -> PgConnection {
    PgConnection::connect(database).await.expect("connected")
}

pub async fn execute(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(AssertSqlSafe(statements.to_owned())).execute(connection).await.expect("executed");
}

/// Customers with a plan.
pub const CUSTOMERS: &str = "CREATE TABLE customers (
    customer_no text PRIMARY KEY, email text, plan text, updated_at timestamptz DEFAULT now(), deleted_at timestamptz
 );
 CREATE INDEX ON customers (updated_at, customer_no)";

/// A connector that reads customers every second.
pub fn customers() -> Value {
    json!({
        "rows": "users", "interval": "1s",
        "query": {
            "sql": "SELECT customer_no, email, plan, updated_at, deleted_at FROM customers",
            "key": "customer_no", "watermark": "updated_at", "start": "beginning", "lookback": "1m",
        },
        "users": {"columns": {"customer_no": "external_id", "plan": "tag:plan"}},
    })
}

/// A definition with some of its fields replaced.
pub fn with(mut definition: Value, pointer: &str, value: Value) -> Value {
    let (parent, field) = pointer.rsplit_once('/').expect("a pointer");
    definition.pointer_mut(parent).expect("a parent")[field] = value;
    definition
}

/// Saves a connector; the answer has to be good.
pub async fn save(app: &TestApp, name: &str, crm: &Crm, definition: Value) -> Value {
    save_at(app, name, Some(&crm.database), definition).await
}

pub async fn save_at(app: &TestApp, name: &str, address: Option<&str>, mut definition: Value) -> Value {
    definition["connection"] = json!(address);
    let path = format!("/v1/connectors/{name}");
    let (found, seen, _) = app.call_seen((Method::GET, &path), &app.key, None, &Value::Null).await;
    let seen = (found == 200).then_some(seen.as_str());
    let (status, _, body) = app.call_seen((Method::PUT, &path), &app.key, seen, &definition).await;
    assert_eq!(status, 200, "{body}");
    body
}

/// Saves a connector, and starts it.
pub async fn begin(app: &TestApp, name: &str, crm: &Crm, definition: Value) {
    save(app, name, crm, definition).await;
    start(app, name).await;
}

pub async fn start(app: &TestApp, name: &str) {
    app.act(&format!("/v1/connectors/{name}/start")).await;
}

pub async fn state(app: &TestApp, name: &str) -> Value {
    app.get(&format!("/v1/connectors/{name}")).await
}

/// Polls what is due a second later.
pub async fn poll(app: &TestApp) {
    app.advance(Duration::from_secs(1)).await;
    while app.herald.api.connectors.run_once().await.expect("the database answers") {}
}

/// Polls until a connector has read so many rows: rows of the last quarter of a second are not read yet.
pub async fn poll_until_read(app: &TestApp, name: &str, rows: i64) -> Value {
    let deadline = std::time::Instant::now() + Duration::from_secs(20);
    loop {
        poll(app).await;
        let now = state(app, name).await;
        if now["counts"]["read"].as_i64() >= Some(rows) {
            return now;
        }
        assert!(std::time::Instant::now() < deadline, "{now}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

pub async fn users(app: &TestApp) -> i64 {
    app.sql("SELECT count(*) FROM users").await
}

/// Numbers that look random, the same in each run.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        usize::try_from(self.0 >> 33).expect("31 bits") % limit
    }
}

impl Crm {
    /// A role that may log in, with the address for it.
    pub async fn make_role(&mut self) -> (String, String) {
        let mut url: url::Url = self.database.parse().expect("a URL");
        let role = format!("reader_of{}", url.path().replace(['/', '-'], "_"));
        self.execute(&format!("DROP ROLE IF EXISTS {role}; CREATE ROLE {role} LOGIN PASSWORD 'x'")).await;
        // A test server on a socket names its user in the address or in the query.
        if url.query().is_some_and(|query| query.contains("user=")) {
            let pairs: Vec<(String, String)> =
                url.query_pairs().into_owned().filter(|(name, _)| name != "user").collect();
            url.query_pairs_mut().clear().extend_pairs(pairs).append_pair("user", &role);
        } else {
            url.set_username(&role).expect("a user");
            url.set_password(Some("x")).expect("a password");
        }
        (role, url.to_string())
    }

    pub async fn drop_role(&mut self, role: &str) {
        self.execute(&format!("DROP OWNED BY {role}; DROP ROLE {role}")).await;
    }
}
