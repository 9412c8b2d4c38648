//! Stored webhook calls: raw body and headers, so that they can be reprocessed with another mapping.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use crate::webhooks::{Body, Headers};

/// The raw input of a mapping.
#[derive(Debug, Clone, Default)]
pub(super) struct Content {
    /// The raw body, decompressed if it was sent as gzip.
    pub bytes: Vec<u8>,
    /// The headers that a mapping may see.
    pub headers: Headers,
}

impl Content {
    pub fn to_json(&self) -> Value {
        json!({"raw": BASE64_STANDARD.encode(&self.bytes), "headers": self.headers})
    }

    /// A stored call. Earlier versions stored the body as JSON.
    pub fn from_json(content: &Value) -> Self {
        let headers = serde_json::from_value(content["headers"].clone()).unwrap_or_default();
        let raw = content["raw"].as_str().and_then(|raw| BASE64_STANDARD.decode(raw).ok());
        let bytes = raw.unwrap_or_else(|| content["body"].to_string().into_bytes());
        Self { bytes, headers }
    }

    /// The body for display: parsed, or as text if it can't be parsed.
    pub fn shown(&self) -> (Option<Value>, Option<String>) {
        match Body::read(&self.bytes, &self.headers) {
            Ok(body) => (Some(body.value), None),
            Err(_) => (None, Some(String::from_utf8_lossy(&self.bytes).into_owned())),
        }
    }
}
