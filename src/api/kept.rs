//! A webhook's call as it is kept: its bytes and its headers, so that it can be read again, and by other rules.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::webhooks::{Body, Headers};

/// What a mapping reads, before anybody has read it.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// The body, byte by byte, expanded if it came in gzip.
    pub bytes: Vec<u8>,
    /// The headers that a mapping may see.
    pub headers: Headers,
}

impl Content {
    pub fn to_json(&self) -> Value {
        json!({"raw": BASE64_STANDARD.encode(&self.bytes), "headers": self.headers})
    }

    /// What was kept of a call. Earlier versions kept the body as JSON.
    pub fn from_json(content: &Value) -> Self {
        let headers = serde_json::from_value(content["headers"].clone()).unwrap_or_default();
        let raw = content["raw"].as_str().and_then(|raw| BASE64_STANDARD.decode(raw).ok());
        let bytes = raw.unwrap_or_else(|| content["body"].to_string().into_bytes());
        Self { bytes, headers }
    }

    /// The body as it is shown: what it says, or else the text that can't be read.
    pub fn shown(&self) -> (Option<Value>, Option<String>) {
        match Body::read(&self.bytes, &self.headers) {
            Ok(body) => (Some(body.value), None),
            Err(_) => (None, Some(String::from_utf8_lossy(&self.bytes).into_owned())),
        }
    }
}
