//! The real service in this process: router, group commits and every step of the pipeline, with a clock that
//! stops until the test advances it, and the sandbox over real HTTP.

use std::sync::Arc;
use std::time::Duration;

use herald::access::{KeyRequest, Scope};
use herald::app::{Herald, Overrides};
use herald::catalog::{files::Files, sample};
use herald::config::Loader;
use herald::domain::clock::{TestClock, Timestamp};
use herald::domain::id::IdSource;
use herald::pipeline::ingest::intake::Committing;
use herald::sandbox::{Sandbox, SandboxOptions};
use reqwest::{Method, Response};
use secrecy::ExposeSecret;
use serde_json::{Value, json};
use sqlx::Connection;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::database::{self, Database};
use super::openapi::Witness;

/// What the sandbox sends with each event of a stream.
pub const STREAM_SECRET: &str = "stream-secret-of-the-tests-0123456789";

/// When every test begins.
pub fn start_of_time() -> Timestamp {
    "2026-11-24T10:00:00Z".parse().expect("a time")
}

/// Who changes the catalog in tests.
const BY: herald::catalog::By<'_> = herald::catalog::By::unlimited("test", "");

/// One Herald with its sandbox.
pub struct TestApp {
    pub herald: Herald,
    pub clock: Arc<TestClock>,
    pub url: String,
    pub sandbox_url: String,
    pub database: Database,
    pub key: String,
    http: reqwest::Client,
    _stop: tokio_util::sync::DropGuard,
    _witness: Witness,
}

/// How a test's service differs from the usual one.
#[derive(Default)]
pub struct Wanted {
    pub settings: Vec<(&'static str, String)>,
    pub sandbox: Option<SandboxOptions>,
    pub database: Option<Database>,
    pub sandbox_url: Option<String>,
    pub without_catalog: bool,
    pub seed: u64,
}

impl TestApp {
    /// The usual service: sample catalog live, no limit on calls worth mentioning.
    pub async fn start() -> Self {
        Self::start_with(Wanted::default()).await
    }

    pub async fn start_with(wanted: Wanted) -> Self {
        herald::app::choose_tls();
        let stop = CancellationToken::new();
        let witness = Witness::default();
        let options = wanted.sandbox.unwrap_or_else(SandboxOptions::unhurried);
        let sandbox = Sandbox::open(SandboxOptions { observer: Some(witness.observer()), ..options })
            .expect("a sandbox");
        let own_sandbox = serve_sandbox(&sandbox, &stop).await;
        let sandbox_url = wanted.sandbox_url.unwrap_or(own_sandbox);
        let database = match wanted.database {
            Some(database) => database,
            None => database::fresh().await,
        };
        let mut loader = Loader::default()
            .variable("HERALD_DATABASE_URL", &database)
            .variable("HERALD_SECRET_KEY", database::SECRET_KEY)
            .variable("HERALD_ALLOW_UNSAFE_POSTGRES", "true")
            .variable("HERALD_ONESIGNAL__APP_ID", "5a0d0000-0000-4000-8000-000000000001")
            .variable("HERALD_ONESIGNAL__API_KEY", "os_v2_app_sandbox")
            .variable("HERALD_ONESIGNAL__BASE_URL", &sandbox_url)
            .variable("HERALD_ONESIGNAL__CALLS_PER_SECOND", "100000")
            .variable("HERALD_EVENT_STREAMS__SECRET", STREAM_SECRET);
        for (name, value) in &wanted.settings {
            loader = loader.variable(name, value);
        }
        let settings = loader.load().expect("settings");
        let clock = Arc::new(TestClock::at(start_of_time()));
        let overrides = Overrides {
            clock: Some(Arc::clone(&clock) as Arc<dyn herald::domain::clock::Clock>),
            ids: Some(Arc::new(IdSource::seeded(wanted.seed))),
            ..Overrides::default()
        };
        let herald = Herald::build(settings, overrides).await.expect("Herald");
        if !wanted.without_catalog {
            herald
                .publisher
                .apply(&sample::files(), herald::catalog::Applying::default(), BY)
                .await
                .expect("the sample catalog");
        }
        let key = make_key(&herald, Scope::ALL.to_vec(), false).await;
        let url = serve(&herald, &stop).await;
        herald.pipeline.enter("test").await.expect("a worker");
        let http = reqwest::Client::builder().build().expect("a client");
        Self {
            _stop: stop.drop_guard(),
            _witness: witness,
            herald,
            clock,
            url,
            sandbox_url,
            key,
            http,
            database,
        }
    }

    /// Posts without a body; the answer has to be good.
    pub async fn act(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::POST, path, Some(&self.key), None).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// Puts a rule in place, whatever it said before.
    pub async fn put_rule(&self, key: &str, rule: &Value) {
        let path = format!("/v1/rules/{key}");
        let (found, seen, _) = self.call_seen((Method::GET, &path), &self.key, None, &Value::Null).await;
        let seen = (found == 200).then_some(seen.as_str());
        let (status, _, body) = self.call_seen((Method::PUT, &path), &self.key, seen, rule).await;
        assert!(status == 200 || status == 201, "{body}");
    }

    /// Declares the labels that the default app's people have aliases under.
    pub async fn declare_labels(&self, labels: &[&str]) {
        let apps = self.get("/v1/apps").await;
        let app = apps.as_array().and_then(|apps| apps.iter().find(|app| app["is_default"] == true));
        let app = app.expect("a default app");
        let path = format!("/v1/apps/{}", app["id"].as_str().expect("an id"));
        let (_, seen, _) = self.call_seen((Method::GET, &path), &self.key, None, &Value::Null).await;
        let said = serde_json::json!({
            "name": app["name"], "subscriptions": app["subscriptions"], "alias_labels": labels,
        });
        let (status, _, answer) = self.call_seen((Method::PUT, &path), &self.key, Some(&seen), &said).await;
        assert_eq!(status, 200, "{answer}");
    }

    /// Another process on the same database and sandbox.
    pub async fn replica(&self) -> Self {
        self.replica_with(Vec::new()).await
    }

    /// The same, with settings of its own.
    pub async fn replica_with(&self, settings: Vec<(&'static str, String)>) -> Self {
        self.replica_of_seed(settings, 9).await
    }

    /// The same, with ids of its own: more than two processes need different ones.
    pub async fn replica_of_seed(&self, settings: Vec<(&'static str, String)>, seed: u64) -> Self {
        Self::start_with(Wanted {
            settings,
            database: Some(self.database.clone()),
            sandbox_url: Some(self.sandbox_url.clone()),
            without_catalog: true,
            seed,
            ..Wanted::default()
        })
        .await
    }

    /// Moves the clock, as a running process would: the lease is renewed, partitions are made.
    pub async fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.herald.pipeline.renew("test").await.expect("renewed");
        self.herald.pipeline.maintain().await.expect("maintenance");
    }

    /// Runs every step until nothing is left to do at the clock's current time.
    pub async fn run_until_idle(&self) {
        self.herald.pipeline.run_until_idle().await.expect("the database answers");
        self.herald.people.run_until_idle().await.expect("the database answers");
        // Messages that waited for their people.
        self.herald.pipeline.run_until_idle().await.expect("the database answers");
        self.herald.api.archive.run_until_idle().await.expect("the database answers");
    }

    /// Advances the clock second by second, and runs every step at each: people are written once a second.
    pub async fn run_for(&self, seconds: u32) {
        for _ in 0..seconds {
            self.run_until_idle().await;
            self.advance(Duration::from_secs(1)).await;
        }
        self.run_until_idle().await;
    }

    /// A user as OneSignal has them; `null` if it knows none.
    pub async fn onesignal_user(&self, label: &str, id: &str) -> Value {
        let app = "5a0d0000-0000-4000-8000-000000000001";
        let url = format!("{}/apps/{app}/users/by/{label}/{id}", self.sandbox_url);
        let request = self.http.get(url).header("authorization", "Key os_v2_app_sandbox");
        read(request.send().await.expect("the sandbox answers")).await.1
    }

    /// Writes a user; the answer has to be good.
    pub async fn put_user(&self, path: &str, user: &Value) -> Value {
        let path = format!("/v1/users/{path}");
        let (status, body) = self.call(Method::PUT, &path, Some(&self.key), Some(user)).await;
        assert_eq!(status, 202, "{body}");
        body
    }

    /// Calls the API with any key, headers and body.
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        key: Option<&str>,
        body: Option<&Value>,
    ) -> (u16, Value) {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        if let Some(key) = key {
            request = request.bearer_auth(key);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        read(request.send().await.expect("an answer")).await
    }

    /// Calls the API as one who has seen this version; the answer comes with its `ETag`, without quotes.
    pub async fn call_seen(
        &self,
        (method, path): (Method, &str),
        key: &str,
        seen: Option<&str>,
        body: &Value,
    ) -> (u16, String, Value) {
        let mut request =
            self.http.request(method, format!("{}{path}", self.url)).bearer_auth(key).json(body);
        if let Some(seen) = seen {
            request = request.header("if-match", format!("\"{seen}\""));
        }
        let response = request.send().await.expect("an answer");
        let etag = response.headers().get("etag").and_then(|value| value.to_str().ok()).unwrap_or_default();
        let etag = etag.trim_matches('"').to_owned();
        let (status, body) = read(response).await;
        (status, etag, body)
    }

    /// Posts raw bytes as an event.
    pub async fn post_raw(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> Response {
        self.try_post_raw(path, headers, body).await.expect("an answer")
    }

    /// The same, where the connection may break.
    pub async fn try_post_raw(
        &self,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<reqwest::Body>,
    ) -> reqwest::Result<Response> {
        let mut request = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.key).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.send().await
    }

    /// The answer to a GET as it is.
    pub async fn get_raw(&self, path: &str) -> Response {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(&self.key);
        request.send().await.expect("an answer")
    }

    pub async fn post(&self, event: &Value) -> (u16, Value) {
        self.call(Method::POST, "/v1/events", Some(&self.key), Some(event)).await
    }

    /// Posts an event that has to be accepted; returns the answer.
    pub async fn accept(&self, event: &Value) -> Value {
        let (status, body) = self.post(event).await;
        assert_eq!(status, 202, "{body}");
        body
    }

    pub async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call(Method::GET, path, Some(&self.key), None).await;
        assert_eq!(status, 200, "{body}");
        body
    }

    /// The only delivery of an event by this rule, with its trace.
    pub async fn delivery(&self, accepted: &Value, rule: &str) -> Value {
        let of_rule: Vec<&Value> = accepted["deliveries"]
            .as_array()
            .expect("deliveries")
            .iter()
            .filter(|d| d["rule"] == rule)
            .collect();
        let [delivery] = of_rule.as_slice() else { panic!("not one delivery by {rule}: {accepted}") };
        self.get(&format!("/v1/deliveries/{}", delivery["id"].as_str().expect("an id"))).await
    }

    /// What the sandbox received, oldest first.
    pub async fn messages(&self) -> Vec<Value> {
        let page: Value = self.sandbox_call(Method::GET, "/_sandbox/messages?limit=1000", None).await;
        page["data"].as_array().cloned().expect("messages")
    }

    pub async fn stats(&self) -> Value {
        self.sandbox_call(Method::GET, "/_sandbox/stats", None).await
    }

    /// Scripts a fault.
    pub async fn fault(&self, fault: Value) {
        self.sandbox_call(Method::POST, "/_sandbox/faults", Some(fault)).await;
    }

    pub async fn clear_faults(&self) {
        self.sandbox_call(Method::DELETE, "/_sandbox/faults", None).await;
    }

    pub async fn sandbox_call(&self, method: Method, path: &str, body: Option<Value>) -> Value {
        let mut request = self.http.request(method, format!("{}{path}", self.sandbox_url));
        request = request.header("authorization", "Key os_v2_app_sandbox");
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.expect("the sandbox answers");
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.json().await.unwrap_or_default()
    }

    /// Applies catalog files on top of what is live.
    pub async fn apply(&self, files: &[(&str, &str)]) {
        let files: Files =
            files.iter().map(|(path, text)| ((*path).to_owned(), (*text).to_owned())).collect();
        self.herald.publisher.apply(&files, herald::catalog::Applying::default(), BY).await.expect("applied");
    }

    /// One value straight from the database.
    pub async fn sql<T>(&self, query: &'static str) -> T
    where
        T: for<'r> sqlx::Decode<'r, sqlx::Postgres> + sqlx::Type<sqlx::Postgres> + Send + Unpin,
    {
        let mut connection = sqlx::PgConnection::connect(&self.database).await.expect("connected");
        sqlx::query_scalar(query).fetch_one(&mut connection).await.expect("a value")
    }

    /// Every row of every table as text.
    pub async fn dump(&self) -> String {
        let mut connection = sqlx::PgConnection::connect(&self.database).await.expect("connected");
        let tables: Vec<String> = sqlx::query_scalar(
            "SELECT quote_ident(table_name) FROM information_schema.tables
             WHERE table_schema = 'public' AND table_type = 'BASE TABLE'",
        )
        .fetch_all(&mut connection)
        .await
        .expect("tables");
        let mut dump = String::new();
        for table in tables {
            let query = format!("SELECT coalesce(string_agg(t::text, ' '), '') FROM {table} t");
            let rows: String = sqlx::query_scalar(sqlx::AssertSqlSafe(query))
                .fetch_one(&mut connection)
                .await
                .expect("rows");
            dump.push_str(&rows);
        }
        dump
    }

    pub async fn execute(&self, query: &'static str) {
        let mut connection = sqlx::PgConnection::connect(&self.database).await.expect("connected");
        sqlx::query(query).execute(&mut connection).await.expect("done");
    }

    /// Has another address play OneSignal.
    pub async fn move_onesignal(&self, url: &str) {
        let mut connection = sqlx::PgConnection::connect(&self.database).await.expect("connected");
        let query = "WITH moved AS (UPDATE apps SET base_url = $1)
            UPDATE catalog_revision SET revision = revision + 1";
        sqlx::query(query).bind(format!("{url}/")).execute(&mut connection).await.expect("moved");
    }

    /// A key with these scopes only.
    pub async fn key_with(&self, scopes: Vec<Scope>) -> String {
        make_key(&self.herald, scopes, false).await
    }

    /// A key of someone else, who may do everything.
    pub async fn key_of(&self, source: &str) -> String {
        let request = KeyRequest::new(source, false, Scope::ALL.to_vec());
        let created = self.herald.access.create_key(&request).await.expect("a key");
        created.text.expose_secret().to_owned()
    }

    pub async fn test_key(&self) -> String {
        make_key(&self.herald, Scope::ALL.to_vec(), true).await
    }
}

async fn make_key(herald: &Herald, scopes: Vec<Scope>, is_test: bool) -> String {
    let request = KeyRequest::new("shop", is_test, scopes);
    let created = herald.access.create_key(&request).await.expect("a key");
    created.text.expose_secret().to_owned()
}

async fn serve(herald: &Herald, stop: &CancellationToken) -> String {
    for kind in [Committing::Ordinary, Committing::Ordinary, Committing::Urgent] {
        tokio::spawn(Arc::clone(&herald.pipeline).commit_groups(kind, stop.clone()));
    }
    tokio::spawn(Arc::clone(&herald.api.archive).store_groups(stop.clone()));
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    let how = (herald.settings.http, herald::app::is_proxy(&herald.settings));
    tokio::spawn(herald::app::serve_http(listener, herald::app::router(herald), how, stop.clone()));
    url
}

async fn serve_sandbox(sandbox: &Arc<Sandbox>, stop: &CancellationToken) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let url = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(Arc::clone(sandbox).serve(listener, stop.clone().cancelled_owned()));
    url
}

async fn read(response: Response) -> (u16, Value) {
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// An `order.shipped` event that fits its schema.
pub fn order_shipped(id: &str, user: &str) -> Value {
    json!({
        "id": id,
        "type": "order.shipped",
        "recipient": {"external_id": user},
        "data": {"order_id": "1001", "carrier": "DHL", "eta": "2026-11-26", "name": "Anna"},
    })
}

/// A `payment.failed` event: one SMS with values of its own.
pub fn payment_failed(id: &str, user: &str) -> Value {
    json!({
        "id": id,
        "type": "payment.failed",
        "recipient": {"external_id": user},
        "data": {"invoice": id, "amount": "2 EUR", "pay_url": "https://shop.example/pay"},
    })
}
