//! The HTTP API as the commands use it: where, with which key, and how a problem is shown.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// Which Herald a command speaks to.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Herald's address
    #[arg(long, env = "HERALD_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The API key; better in `HERALD_KEY` than in the shell's history
    #[arg(long, env = "HERALD_KEY", value_name = "KEY", hide_env_values = true)]
    key: Option<SecretString>,
    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl ClientArgs {
    /// Calls the API and returns its JSON.
    ///
    /// # Errors
    /// In plain words: nothing answers, no key, or the problem with its fields.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        let Some(key) = self.key.as_ref().filter(|key| !key.expose_secret().is_empty()) else {
            bail!("no API key: set HERALD_KEY (`herald dev` prints one, `herald keys create` makes one)");
        };
        Connection::new(&self.url, key.clone())?.call(method, path, body).await
    }

    /// The same, if what it changes still is at this version.
    ///
    /// # Errors
    /// As for [`ClientArgs::call`].
    pub async fn call_if(
        &self,
        method: Method,
        path: &str,
        version: i64,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let Some(key) = self.key.as_ref() else { return self.call(method, path, body).await };
        Connection::new(&self.url, key.clone())?.call_with(method, path, Some(version), body).await
    }

    /// Puts something that may be there: over the version that is there now.
    ///
    /// # Errors
    /// As for [`ClientArgs::call`].
    pub async fn put_seen(&self, path: &str, is_there: bool, body: &Value) -> anyhow::Result<Value> {
        let Some(key) = self.key.as_ref().filter(|_| is_there) else {
            return self.call(Method::PUT, path, Some(body)).await;
        };
        let connection = Connection::new(&self.url, key.clone())?;
        let version = connection.version_of(path).await?;
        connection.call_with(Method::PUT, path, version, Some(body)).await
    }
}

/// A way to one Herald, with a key.
#[derive(Debug, Clone)]
pub struct Connection {
    http: reqwest::Client,
    url: String,
    key: SecretString,
}

impl Connection {
    /// A way to `url`; no call is made yet.
    ///
    /// # Errors
    /// When there is no TLS.
    pub fn new(url: &str, key: SecretString) -> anyhow::Result<Self> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("`{url}` is no address: HERALD_URL (or --url) begins with http:// or https://");
        }
        let http = reqwest::Client::builder().timeout(Duration::from_mins(1)).build()?;
        Ok(Self { http, url: url.trim_end_matches('/').to_owned(), key })
    }

    /// Calls the API and returns its JSON.
    ///
    /// # Errors
    /// As for [`ClientArgs::call`].
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.call_with(method, path, None, body).await
    }

    /// The version that a thing stands at, by its `ETag`.
    async fn version_of(&self, path: &str) -> anyhow::Result<Option<i64>> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(self.key.expose_secret());
        let answer = request.send().await.map_err(|_| anyhow::anyhow!("nothing answers at {}", self.url))?;
        let etag = answer.headers().get("etag").and_then(|value| value.to_str().ok());
        Ok(etag.and_then(|text| text.trim_matches('"').parse().ok()))
    }

    async fn call_with(
        &self,
        method: Method,
        path: &str,
        version: Option<i64>,
        body: Option<&Value>,
    ) -> anyhow::Result<Value> {
        let mut request = self.http.request(method, format!("{}{path}", self.url));
        request = request.bearer_auth(self.key.expose_secret());
        if let Some(version) = version {
            request = request.header("if-match", format!("\"{version}\""));
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| {
            if error.is_builder() {
                anyhow::anyhow!(
                    "HERALD_URL or HERALD_KEY can't be sent as it is: look for spaces and line breaks"
                )
            } else if error.is_connect() {
                anyhow::anyhow!(
                    "nothing answers at {}: is Herald running there? (HERALD_URL or --url)",
                    self.url
                )
            } else {
                anyhow::anyhow!("the call broke off; nothing is known of its result")
            }
        })?;
        let status = answer.status();
        let text = answer.text().await.context("the answer broke off")?;
        if status.is_success() {
            return Ok(serde_json::from_str(&text).unwrap_or(Value::Null));
        }
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        if problem["code"].is_null() {
            bail!("no Herald answers at {} ({status}): HERALD_URL may lead elsewhere", self.url);
        }
        bail!("{}", shown(status.as_u16(), &problem))
    }
}

/// A problem in plain words, each of its errors on a line.
fn shown(status: u16, problem: &Value) -> String {
    let title = problem["title"].as_str().unwrap_or("Herald said no");
    let mut text = format!("{title} ({status})");
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    let problems = problem["problems"].as_array().map(Vec::as_slice).unwrap_or_default();
    if errors.is_empty() && problems.is_empty() {
        let _ = write!(text, ": {}", problem["detail"].as_str().unwrap_or("no reason given"));
    }
    for error in errors {
        let hint = error["hint"].as_str().map(|hint| format!("; {hint}")).unwrap_or_default();
        let (pointer, detail) = (&error["pointer"], &error["detail"]);
        let _ = write!(text, "\n  {}: {}{hint}", plain(pointer), plain(detail));
    }
    for problem in problems {
        let place = match (problem["line"].as_u64(), problem["column"].as_u64()) {
            (Some(line), Some(column)) => format!(":{line}:{column}"),
            _ => String::new(),
        };
        let hint = problem["hint"].as_str().map(|hint| format!("; {hint}")).unwrap_or_default();
        let field = problem["field"].as_str().map(|field| format!("{field}: ")).unwrap_or_default();
        let (file, message) = (plain(&problem["file"]), plain(&problem["message"]));
        let _ = write!(text, "\n  {file}{place}: {field}{message}{hint}");
    }
    text
}

/// A JSON text without its quotes.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
