//! A served sandbox and a client that knows its key.

use std::net::SocketAddr;
use std::sync::Arc;

use herald::sandbox::{Sandbox, SandboxOptions};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use crate::support::openapi::Witness;

pub const APP: &str = "5a0d0000-0000-4000-8000-000000000001";
pub const KEY: &str = "Key os_v2_app_sandbox";

/// A sandbox on a port of its own.
pub struct Served {
    pub sandbox: Arc<Sandbox>,
    pub address: SocketAddr,
    client: reqwest::Client,
    stop: CancellationToken,
    server: JoinHandle<std::io::Result<()>>,
    witness: Witness,
}

/// An answer, read to its end.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    /// The first of `errors`.
    pub fn error(&self) -> String {
        self.json()["errors"][0].as_str().unwrap_or_default().to_owned()
    }
}

/// The usual options without a rate limit, so that it strikes only where a test wants it.
pub fn unlimited() -> SandboxOptions {
    SandboxOptions::unhurried()
}

/// A push to `user-42`, with `more` merged in; `null` takes a field away.
pub fn push(more: Value) -> Value {
    let body = json!({
        "app_id": APP, "target_channel": "push", "include_aliases": {"external_id": ["user-42"]},
        "contents": {"en": "Hello"},
    });
    merged(body, more)
}

pub fn merged(mut body: Value, more: Value) -> Value {
    let Value::Object(more) = more else { panic!("not an object: {more}") };
    for (name, value) in more {
        if value.is_null() {
            body.as_object_mut().unwrap().remove(&name);
        } else {
            body[name] = value;
        }
    }
    body
}

impl Served {
    pub async fn start() -> Self {
        Self::with(unlimited()).await
    }

    pub async fn with(options: SandboxOptions) -> Self {
        // Another test of this process may have been first.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let witness = Witness::default();
        let sandbox =
            Sandbox::open(SandboxOptions { observer: Some(witness.observer()), ..options }).unwrap();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone().cancelled_owned();
        let server = tokio::spawn(sandbox.clone().serve(listener, stopped));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { sandbox, address, client, stop, server, witness }
    }

    /// Stops the server and waits until it is gone, its data file free again.
    pub async fn stop(self) {
        let Self { sandbox, client, stop, server, witness, .. } = self;
        drop(client);
        stop.cancel();
        server.await.unwrap().unwrap();
        drop((sandbox, witness));
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    pub fn request(&self, method: Method, path: &str) -> reqwest::RequestBuilder {
        self.client.request(method, self.url(path)).header("Authorization", KEY)
    }

    pub async fn answer(&self, request: reqwest::RequestBuilder) -> Answer {
        let response = request.send().await.unwrap();
        let (status, headers) = (response.status(), response.headers().clone());
        Answer { status, headers, text: response.text().await.unwrap() }
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.answer(self.request(Method::GET, path)).await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.answer(self.request(Method::DELETE, path)).await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.answer(self.request(Method::POST, path).json(body)).await
    }

    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        self.answer(self.request(Method::PATCH, path).json(body)).await
    }

    /// A Create message.
    pub async fn send(&self, body: &Value) -> Answer {
        self.post("/notifications", body).await
    }

    /// A Create message that is accepted; its id.
    pub async fn accept(&self, body: &Value) -> String {
        let answer = self.send(body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        assert!(!id.is_empty(), "{}", answer.text);
        id
    }

    /// A template of `fields`; its id.
    pub async fn template(&self, fields: Value) -> String {
        let body = merged(json!({"app_id": APP, "name": "a template"}), fields);
        let answer = self.post("/templates", &body).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    pub async fn stats(&self) -> Value {
        self.get("/_sandbox/stats").await.json()
    }

    /// The only message's only recipient.
    pub fn seen(&self) -> herald::sandbox::ReceivedRecipient {
        let messages = self.sandbox.messages();
        assert_eq!((messages.len(), messages[0].recipients.len()), (1, 1));
        messages[0].recipients[0].clone()
    }
}
