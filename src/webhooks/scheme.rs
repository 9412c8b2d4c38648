//! Known senders: what each signs, with which key, where the signature is, and what identifies a
//! call.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::Headers;

/// A known sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    /// `Stripe-Signature: t=…,v1=…` over time and body.
    Stripe,
    /// `X-Hub-Signature-256` over the body, which may be a form with `payload`.
    Github,
    /// `X-Shopify-Hmac-Sha256` in base64 over the body.
    Shopify,
    /// Standard Webhooks with headers `svix-…` (Clerk, Resend and others).
    Svix,
    /// `X-Signature`, SHA-1 over the body.
    Segment,
    /// `X-Slack-Signature: v0=…` over time and body.
    Slack,
    /// `X-Twilio-Signature` over the URL and the form's fields.
    Twilio,
}

/// Signature headers, which are not stored and not available to mappings.
pub(super) const SIGNATURE_HEADERS: [&str; 10] = [
    "stripe-signature",
    "x-hub-signature",
    "x-hub-signature-256",
    "x-shopify-hmac-sha256",
    "x-shopify-hmac-sha512",
    "svix-signature",
    "webhook-signature",
    "x-signature",
    "x-slack-signature",
    "x-twilio-signature",
];

impl Scheme {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Stripe => "stripe",
            Self::Github => "github",
            Self::Shopify => "shopify",
            Self::Svix => "svix",
            Self::Segment => "segment",
            Self::Slack => "slack",
            Self::Twilio => "twilio",
        }
    }

    /// Whether its calls have an id, so that a mapping needs no `id`.
    pub(super) fn names_its_calls(self) -> bool {
        self != Self::Twilio
    }

    /// The sender's id of this call, which is the same for retries.
    pub(super) fn call_id(self, headers: &Headers, body: &Value) -> Option<String> {
        let member = |name: &str| body.get(name).and_then(Value::as_str).map(str::to_owned);
        match self {
            Self::Stripe => member("id"),
            Self::Github => headers.get("x-github-delivery").cloned(),
            Self::Shopify => headers.get("x-shopify-webhook-id").cloned(),
            Self::Svix => headers.get("svix-id").or_else(|| headers.get("webhook-id")).cloned(),
            Self::Segment => member("messageId"),
            Self::Slack => member("event_id"),
            Self::Twilio => None,
        }
    }

    /// The only sender that uses this signature header.
    pub(super) fn of_header(header: &str) -> Option<Self> {
        match header {
            "stripe-signature" => Some(Self::Stripe),
            "x-hub-signature-256" => Some(Self::Github),
            "x-shopify-hmac-sha256" => Some(Self::Shopify),
            "svix-signature" => Some(Self::Svix),
            "x-slack-signature" => Some(Self::Slack),
            "x-twilio-signature" => Some(Self::Twilio),
            _ => None,
        }
    }
}
