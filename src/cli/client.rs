//! HTTP client for the commands: address, key, and how problems are displayed.

use std::fmt::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use reqwest::Method;
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

/// The Herald instance that a command calls.
#[derive(Debug, Clone, Args)]
pub struct ClientArgs {
    /// Herald's URL
    #[arg(long, env = "HERALD_URL", value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// The API key; prefer `HERALD_KEY`, which stays out of the shell history
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
    /// A readable message: no response, no key, or the problem with its fields.
    pub async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> anyhow::Result<Value> {
        self.connection()?.call(method, path, body).await
    }

    /// Like [`ClientArgs::call`], but only if the resource is still at this version (`If-Match`).
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

    /// Sends bytes, such as a part of a file.
    ///
    /// # Errors
    /// As for [`ClientArgs::call`].
    pub async fn put_bytes(&self, path: &str, bytes: Vec<u8>) -> anyhow::Result<Value> {
        let request = |connection: &Connection| {
            let request = connection.http.put(format!("{}{path}", connection.url));
            request.header("content-type", "text/csv").body(bytes.clone())
        };
        let text = self.connection()?.send(request).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Reads a text, such as a file.
    ///
    /// # Errors
    /// As for [`ClientArgs::call`].
    pub async fn get_text(&self, path: &str) -> anyhow::Result<String> {
        self.connection()?.send(|connection| connection.http.get(format!("{}{path}", connection.url))).await
    }

    /// Opens the stream of outcomes after a cursor.
    ///
    /// # Errors
    /// As for [`ClientArgs::call`].
    pub async fn open_outcomes(&self, after: &str) -> anyhow::Result<reqwest::Response> {
        let connection = Connection { http: reqwest::Client::builder().build()?, ..self.connection()? };
        let request = |connection: &Connection| {
            let request = connection.http.get(format!("{}/v1/outcomes?after=latest", connection.url));
            let request = request.header("accept", "text/event-stream");
            if after.is_empty() { request } else { request.header("last-event-id", after) }
        };
        connection.open(request).await
    }

    fn connection(&self) -> anyhow::Result<Connection> {
        let Some(key) = self.key.as_ref().filter(|key| !key.expose_secret().is_empty()) else {
            bail!("no API key: set HERALD_KEY (`herald dev` prints one, `herald keys create` makes one)");
        };
        Connection::new(&self.url, key.clone())
    }

    /// Creates or replaces a resource; if it exists, based on its current version.
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

/// A client for one Herald instance, with a key.
#[derive(Debug, Clone)]
pub struct Connection {
    http: reqwest::Client,
    url: String,
    key: SecretString,
}

impl Connection {
    /// A client for `url`; makes no request yet.
    ///
    /// # Errors
    /// If TLS is unavailable.
    pub fn new(url: &str, key: SecretString) -> anyhow::Result<Self> {
        if !url.starts_with("http://") && !url.starts_with("https://") {
            bail!("`{url}` is not a URL: HERALD_URL (or --url) must start with http:// or https://");
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

    /// The current version of a resource, from its `ETag`.
    async fn version_of(&self, path: &str) -> anyhow::Result<Option<i64>> {
        let request = self.http.get(format!("{}{path}", self.url)).bearer_auth(self.key.expose_secret());
        let answer = request.send().await.map_err(|_| anyhow::anyhow!("no response from {}", self.url))?;
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
        let request = |connection: &Self| {
            let mut request = connection.http.request(method.clone(), format!("{}{path}", connection.url));
            if let Some(version) = version {
                request = request.header("if-match", format!("\"{version}\""));
            }
            if let Some(body) = body {
                request = request.json(body);
            }
            request
        };
        let text = self.send(request).await?;
        Ok(serde_json::from_str(&text).unwrap_or(Value::Null))
    }

    /// Sends a request with the key; returns the text of a successful response.
    async fn send(&self, request: impl Fn(&Self) -> reqwest::RequestBuilder) -> anyhow::Result<String> {
        self.open(request).await?.text().await.context("the response was incomplete")
    }

    /// Sends a request with the key; returns a successful response that has begun.
    async fn open(
        &self,
        request: impl Fn(&Self) -> reqwest::RequestBuilder,
    ) -> anyhow::Result<reqwest::Response> {
        let request = request(self).bearer_auth(self.key.expose_secret());
        let answer = request.send().await.map_err(|error| {
            if error.is_builder() {
                anyhow::anyhow!(
                    "HERALD_URL or HERALD_KEY contains invalid characters: check for spaces and line breaks"
                )
            } else if error.is_connect() {
                anyhow::anyhow!(
                    "no response from {}: is Herald running there? (HERALD_URL or --url)",
                    self.url
                )
            } else {
                anyhow::anyhow!("the connection was lost before the response arrived; the result is unknown")
            }
        })?;
        let status = answer.status();
        if status.is_success() {
            return Ok(answer);
        }
        let text = answer.text().await.context("the response was incomplete")?;
        let problem: Value = serde_json::from_str(&text).unwrap_or_default();
        if problem["code"].is_null() {
            bail!("the server at {} is not Herald ({status}): check HERALD_URL", self.url);
        }
        bail!("{}", shown(status.as_u16(), &problem))
    }
}

/// API fields in messages, and the flags that set them.
const FLAGS: [(&str, &str); 7] = [
    ("`may_duplicate`", "`--may-duplicate`"),
    ("`even_if_expired`", "`--even-if-expired`"),
    ("`accept_held`", "`--accept-held`"),
    ("send `\"test\": true`", "pass `--test`"),
    ("set the import's `country_code`", "pass `--country-code`"),
    ("raise `max_rejected_percent`", "raise `--max-rejected`"),
    ("more than `max_removed_tags`", "more than `--max-removed`"),
];

/// A message of the API with flags in place of the API's fields.
pub fn with_flags(text: &str) -> String {
    FLAGS.into_iter().fold(text.to_owned(), |text, (field, flag)| text.replace(field, flag))
}

/// A problem as readable text, one error per line.
fn shown(status: u16, problem: &Value) -> String {
    let title = problem["title"].as_str().unwrap_or("Request failed");
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
    with_flags(&text)
}

/// A JSON string without its quotes.
pub fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "-".to_owned(),
        other => other.to_string(),
    }
}
