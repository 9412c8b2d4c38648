//! The contract suite: what OneSignal answers, endpoint by endpoint.
//!
//! Every check runs against a sandbox of its own. With `ONESIGNAL_APP_ID` and `ONESIGNAL_API_KEY` in the environment, those
//! that reach no one also run against OneSignal. The table in `docs/sandbox.md` is made from this list.

mod messages;
mod streams;
mod the_rest;
mod users;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use futures_util::future::{BoxFuture, FutureExt, join_all};
use herald::sandbox::SandboxOptions;
use reqwest::{Client, Method};
use serde_json::Value;

use super::support::{APP, Answer, Served};
use crate::support::openapi;

/// One thing that OneSignal does at one endpoint.
pub struct Check {
    endpoint: &'static str,
    says: &'static str,
    options: SandboxOptions,
    /// Whether it may run against OneSignal: it reaches no one and leaves nothing behind.
    is_harmless: bool,
    run: Box<dyn FnOnce(Caller) -> BoxFuture<'static, ()> + Send>,
}

/// A check on a sandbox without rate limits that knows only registered people.
fn check<F>(
    endpoint: &'static str,
    says: &'static str,
    run: impl FnOnce(Caller) -> F + Send + 'static,
) -> Check
where
    F: Future<Output = ()> + Send + 'static,
{
    let options = SandboxOptions {
        strict_users: true,
        calls_per_second: 0,
        views_per_second: 0,
        user_calls_per_second: 0,
        calls_per_user_per_second: 0,
        ..SandboxOptions::paid()
    };
    Check { endpoint, says, options, is_harmless: false, run: Box::new(|caller| run(caller).boxed()) }
}

impl Check {
    fn harmless(self) -> Self {
        Self { is_harmless: true, ..self }
    }

    fn on(self, change: impl FnOnce(&mut SandboxOptions)) -> Self {
        let mut options = self.options;
        change(&mut options);
        Self { options, ..self }
    }
}

/// Who calls, and where.
#[derive(Clone)]
pub struct Caller {
    base: String,
    pub app: String,
    key: String,
    client: Client,
}

impl Caller {
    fn to(base: String, app: &str, key: &str) -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let client = Client::builder().timeout(Duration::from_mins(1)).build().unwrap();
        Self { base, app: app.to_owned(), key: format!("Key {key}"), client }
    }

    /// Calls with the key.
    pub async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Answer {
        self.call_as(Some(&self.key), method, path, body).await
    }

    /// Calls with another key, or none.
    pub async fn call_as(
        &self,
        key: Option<&str>,
        method: Method,
        path: &str,
        body: Option<Value>,
    ) -> Answer {
        let path = path.replace("{app}", &self.app);
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(key) = key {
            request = request.header("Authorization", key);
        }
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, None).await
    }

    pub async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, Some(body)).await
    }

    pub async fn patch(&self, path: &str, body: Value) -> Answer {
        self.call(Method::PATCH, path, Some(body)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, None).await
    }

    /// Posts what has to succeed.
    pub async fn done(&self, path: &str, body: Value) -> Value {
        let answer = self.post(path, body).await;
        assert!(answer.status.is_success(), "{path}: {} {}", answer.status, answer.text);
        answer.json()
    }
}

fn all() -> Vec<Check> {
    [messages::checks(), users::checks(), the_rest::checks(), streams::checks()]
        .into_iter()
        .flatten()
        .collect()
}

#[tokio::test]
async fn the_sandbox_keeps_the_contract() {
    let runs = all().into_iter().map(|check| async move {
        let served = Served::with(check.options).await;
        let caller = Caller::to(served.url(""), APP, "os_v2_app_sandbox");
        let failed = tokio::spawn((check.run)(caller)).await.is_err();
        served.stop().await;
        failed.then(|| format!("{}: {}", check.endpoint, check.says))
    });
    let failed: Vec<String> = join_all(runs).await.into_iter().flatten().collect();
    assert!(failed.is_empty(), "these do not hold (their reasons stand above):\n{}", failed.join("\n"));
}

#[tokio::test]
async fn onesignal_keeps_the_contract_when_a_key_is_given() {
    let given = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let (Some(app), Some(key)) = (given("ONESIGNAL_APP_ID"), given("ONESIGNAL_API_KEY")) else {
        println!("not held against OneSignal: ONESIGNAL_APP_ID and ONESIGNAL_API_KEY are not set");
        return;
    };
    // One after the other; they look at fewer things than it lets through at once.
    for check in all().into_iter().filter(|check| check.is_harmless) {
        println!("{}: {}", check.endpoint, check.says);
        (check.run)(Caller::to("https://api.onesignal.com".to_owned(), &app, &key)).await;
    }
}

#[test]
fn the_generated_table_of_checks_is_what_the_suite_runs() {
    let mut by_endpoint: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for check in all() {
        let mark = if check.is_harmless { " *" } else { "" };
        by_endpoint.entry(check.endpoint).or_default().push(format!("{}{mark}", check.says));
    }
    let mut table = String::from("| endpoint | what is held |\n|---|---|\n");
    for (endpoint, says) in by_endpoint {
        let _ = writeln!(table, "| `{endpoint}` | {} |", says.join("; "));
    }
    hold("checks", &table);
    hold("differences", &openapi::differences());
}

/// Holds a generated part of the sandbox's page against what it should be, or writes it.
fn hold(part: &str, table: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/sandbox.md");
    let page = std::fs::read_to_string(path).unwrap();
    let (start, end) = (format!("<!-- {part}: begin -->\n"), format!("<!-- {part}: end -->"));
    let from = page.find(&start).expect("the table's place") + start.len();
    let to = page.find(&end).expect("the table's end");
    if std::env::var_os("HERALD_UPDATE_DOCS").is_some() {
        std::fs::write(path, format!("{}{table}{}", &page[..from], &page[to..])).unwrap();
        return;
    }
    assert_eq!(&page[from..to], table, "stale: HERALD_UPDATE_DOCS=1 cargo test --test it -- generated");
}
