//! What can be said about a source: in `sources/<name>.toml` and in the API alike.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// All that is said about one source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// The event types that it may send, such as `order.*`; all if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_types: Option<Vec<String>>,
    /// The locale of its events, if they don't say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_locale: Option<String>,
    /// How its webhooks are signed; without it, it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSettings>,
    /// How its bodies are read: the first whose `when` holds is taken.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<MappingSettings>,
}

/// How a source's webhooks are signed.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// `bearer`, `hmac` or `standard_webhooks`.
    pub auth: AuthKind,
    /// The header that holds the signature, for `hmac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// `sha256` (as if nothing is said) or `sha512`, for `hmac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// `hex` (as if nothing is said) or `base64`, for `hmac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// What stands before the signature in its header, such as `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
}

/// The ways to sign.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AuthKind {
    /// The secret itself as `Authorization: Bearer …`.
    Bearer,
    /// HMAC of the body in a header.
    Hmac,
    /// Standard Webhooks: id, time and body signed together.
    StandardWebhooks,
}

/// The hash below an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
}

/// How a signature is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64 with padding.
    Base64,
}

/// How one kind of body becomes an event. Every text is an expression over `body` and `headers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingSettings {
    /// Whether this is that kind of body; always if nothing is said. What is missing in the body does not hold.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The event type: written out (`order.shipped`), or an expression.
    pub r#type: String,
    /// The event's id; with Standard Webhooks `webhook-id` if nothing is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A label with the expression of its id: `{external_id = "body.customer.id"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<BTreeMap<String, String>>,
    /// An expression that yields a list of recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<String>,
    /// An expression that yields an object, or a table of expressions; a member that yields null is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// When it happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// The locale to write in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Not before this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_after: Option<String>,
    /// Not after this.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// What a later cancellation can name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation_key: Option<String>,
    /// A newer event with the same key replaces an older one still waiting.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<String>,
    /// Tells newer from older.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// Events with the same key go out one after the other.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
}

/// How a request is told from others', once its settings make sense.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Auth {
    /// The secret as a bearer token.
    Bearer,
    /// HMAC of the body.
    Hmac {
        /// The signature's header, in lower case.
        header: String,
        /// The hash.
        algorithm: Algorithm,
        /// How it is written.
        encoding: Encoding,
        /// What stands before it.
        prefix: String,
    },
    /// Standard Webhooks.
    StandardWebhooks,
}

/// What is wrong with a source's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// Where: `webhook.header`, `mapping[0].when`.
    pub place: String,
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl SettingsProblem {
    pub(super) fn new(place: impl Into<String>, code: &'static str, message: impl Into<String>) -> Self {
        Self { place: place.into(), code, message: message.into(), hint: None }
    }

    pub(super) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }
}

impl WebhookSettings {
    /// The way to sign.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn auth(&self) -> Result<Auth, SettingsProblem> {
        if self.auth != AuthKind::Hmac {
            let given = [
                ("header", self.header.is_some()),
                ("algorithm", self.algorithm.is_some()),
                ("encoding", self.encoding.is_some()),
                ("prefix", self.prefix.is_some()),
            ];
            if let Some((name, _)) = given.into_iter().find(|(_, is_given)| *is_given) {
                let place = format!("webhook.{name}");
                return Err(SettingsProblem::new(place, "unused", format!("`{name}` is for `hmac` alone")));
            }
        }
        match self.auth {
            AuthKind::Bearer => Ok(Auth::Bearer),
            AuthKind::StandardWebhooks => Ok(Auth::StandardWebhooks),
            AuthKind::Hmac => Ok(Auth::Hmac {
                header: self.signature_header()?,
                algorithm: self.algorithm.unwrap_or(Algorithm::Sha256),
                encoding: self.encoding.unwrap_or(Encoding::Hex),
                prefix: self.prefix.clone().unwrap_or_default(),
            }),
        }
    }

    fn signature_header(&self) -> Result<String, SettingsProblem> {
        let header = self.header.as_deref().unwrap_or_default().to_ascii_lowercase();
        let is_name = header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if header.is_empty() || header.len() > 100 || !is_name {
            let problem =
                SettingsProblem::new("webhook.header", "bad_header", "`hmac` needs the signature's header");
            return Err(problem.hint("such as `x-hub-signature-256`"));
        }
        Ok(header)
    }
}
