//! The settings of a source, in `sources/<name>.toml` and in the API.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use url::Url;

use super::scheme::Scheme;

/// The settings of a source.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SourceSettings {
    /// The event types that it may post, such as `order.*`; all if omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allowed_types: Option<Vec<String>>,
    /// The default locale of its events.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default_locale: Option<String>,
    /// The signature of its webhook; omitted if it has no webhook.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub webhook: Option<WebhookSettings>,
    /// Mappings of bodies to events: the first whose `when` is true is used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mapping: Vec<MappingSettings>,
}

/// The signature of a source's webhook: `scheme` for a known sender, else `auth`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// The sender: `stripe`, `github`, `shopify`, `svix`, `segment`, `slack` or `twilio`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scheme: Option<Scheme>,
    /// `bearer`, `hmac` or `standard_webhooks`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auth: Option<AuthKind>,
    /// The signature header, for `hmac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// `sha256` (default), `sha512` or `sha1`, for `hmac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub algorithm: Option<Algorithm>,
    /// `hex` (default) or `base64`, for `hmac`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub encoding: Option<Encoding>,
    /// The prefix of the signature in its header, such as `sha256=`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prefix: Option<String>,
    /// The URL of this webhook exactly as configured at the sender, without a query, for `twilio`, which signs it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
}

/// Signature methods.
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

/// The hash of an HMAC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Algorithm {
    /// SHA-256.
    Sha256,
    /// SHA-512.
    Sha512,
    /// SHA-1, for senders that support nothing better.
    Sha1,
}

/// The encoding of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum Encoding {
    /// Hexadecimal digits.
    Hex,
    /// Base64.
    Base64,
}

/// Maps one kind of body to an event. Every string is an expression over `body` and `headers`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct MappingSettings {
    /// Whether this mapping applies; always if omitted. False if a value is missing in the body.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub when: Option<String>,
    /// The event type: a literal (`order.shipped`) or an expression.
    pub r#type: String,
    /// The event's id; if omitted, the sender's call id, if there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// A label with an expression for its id: `{external_id = "body.customer.id"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipient: Option<BTreeMap<String, String>>,
    /// An expression that returns a list of recipients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recipients: Option<String>,
    /// An expression that returns an object, or a table of expressions; null values are omitted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    pub data: Option<Value>,
    /// When the event happened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<String>,
    /// Locale of the message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// Don't send before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub send_after: Option<String>,
    /// Don't send after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Key for cancelling the deliveries later.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cancellation_key: Option<String>,
    /// A newer event with the same key replaces an older one that is still pending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collapse_key: Option<String>,
    /// Determines which event is newer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sequence: Option<String>,
    /// Events with the same key are sent in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
}

/// The validated authentication of requests.
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
    /// A known sender.
    Scheme(Scheme),
    /// Twilio, for a webhook with this URL.
    Twilio {
        /// The URL as configured at the sender.
        url: Url,
    },
}

/// A problem in a source's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingsProblem {
    /// The position: `webhook.header`, `mapping[0].when`.
    pub place: String,
    /// A stable code.
    pub code: &'static str,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
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
    /// Validates the signature settings.
    ///
    /// # Errors
    /// If it is invalid, or no call could ever be verified.
    pub fn auth(&self) -> Result<Auth, SettingsProblem> {
        self.refuse_unused()?;
        match (self.scheme, self.auth) {
            (Some(_), Some(_)) => {
                let message = "`scheme` already defines the signature, so `auth` can't be set as well";
                Err(SettingsProblem::new("webhook.auth", "unused", message).hint("remove one of them"))
            }
            (None, None) => {
                let message = "the signature of its webhooks is not configured";
                let hint = "write `scheme = \"stripe\"` (or another known sender), or `auth`";
                Err(SettingsProblem::new("webhook.auth", "required", message).hint(hint))
            }
            (Some(Scheme::Twilio), None) => Ok(Auth::Twilio { url: self.own_url()? }),
            (Some(scheme), None) => Ok(Auth::Scheme(scheme)),
            (None, Some(AuthKind::Bearer)) => Ok(Auth::Bearer),
            (None, Some(AuthKind::StandardWebhooks)) => Ok(Auth::StandardWebhooks),
            (None, Some(AuthKind::Hmac)) => self.hmac(),
        }
    }

    fn refuse_unused(&self) -> Result<(), SettingsProblem> {
        let of_hmac = [
            ("header", self.header.is_some()),
            ("algorithm", self.algorithm.is_some()),
            ("encoding", self.encoding.is_some()),
            ("prefix", self.prefix.is_some()),
        ];
        let unused = of_hmac.into_iter().find(|(_, is_given)| *is_given).map(|(name, _)| (name, "hmac"));
        let unused = unused.filter(|_| self.auth != Some(AuthKind::Hmac) || self.scheme.is_some());
        let needs_url = self.scheme == Some(Scheme::Twilio);
        let unused = unused.or((self.url.is_some() && !needs_url).then_some(("url", "twilio")));
        let Some((name, whose)) = unused else { return Ok(()) };
        let place = format!("webhook.{name}");
        Err(SettingsProblem::new(place, "unused", format!("`{name}` is only valid with `{whose}`")))
    }

    fn own_url(&self) -> Result<Url, SettingsProblem> {
        let url = self.url.as_deref().and_then(|url| url.parse::<Url>().ok());
        let is_whole = |url: &Url| url.has_host() && url.query().is_none() && url.fragment().is_none();
        url.filter(is_whole).ok_or_else(|| {
            let message = "Twilio signs the URL that it calls, so `url` is required";
            let hint =
                "write `url = \"https://…/v1/hooks/<source>\"`, exactly as configured at Twilio, without a query";
            SettingsProblem::new("webhook.url", "required", message).hint(hint)
        })
    }

    fn hmac(&self) -> Result<Auth, SettingsProblem> {
        let header = self.signature_header()?;
        let algorithm = self.algorithm.unwrap_or(Algorithm::Sha256);
        let encoding = self.encoding.unwrap_or(Encoding::Hex);
        let prefix = self.prefix.clone().unwrap_or_default();
        let is_plain = |byte: u8| byte == b' ' || byte.is_ascii_graphic();
        if prefix.len() > 50
            || prefix.starts_with(' ')
            || prefix.contains(',')
            || !prefix.bytes().all(is_plain)
        {
            let message = "a prefix must be up to 50 visible ASCII characters without a comma; otherwise no signature can be verified";
            return Err(SettingsProblem::new("webhook.prefix", "never_verifies", message));
        }
        never_verifies(&header, algorithm, encoding, &prefix)?;
        Ok(Auth::Hmac { header, algorithm, encoding, prefix })
    }

    fn signature_header(&self) -> Result<String, SettingsProblem> {
        let header = self.header.as_deref().unwrap_or_default().to_ascii_lowercase();
        let is_name = header.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_');
        if header.is_empty() || header.len() > 100 || !is_name {
            let problem = SettingsProblem::new(
                "webhook.header",
                "bad_header",
                "`hmac` requires `header`, the name of the signature header",
            );
            return Err(problem.hint("such as `x-hub-signature-256`"));
        }
        Ok(header)
    }
}

/// Rejects a header of a known sender that uses another signature.
fn never_verifies(
    header: &str,
    algorithm: Algorithm,
    encoding: Encoding,
    prefix: &str,
) -> Result<(), SettingsProblem> {
    let Some(sender) = Scheme::of_header(header) else { return Ok(()) };
    let is_its_way = match sender {
        Scheme::Github => (algorithm, encoding, prefix) == (Algorithm::Sha256, Encoding::Hex, "sha256="),
        Scheme::Shopify => (algorithm, encoding, prefix) == (Algorithm::Sha256, Encoding::Base64, ""),
        // These also sign other parts.
        Scheme::Stripe | Scheme::Svix | Scheme::Slack | Scheme::Twilio => false,
        Scheme::Segment => true,
    };
    if is_its_way {
        return Ok(());
    }
    let name = sender.as_str();
    let message =
        format!("no call could be verified: `{header}` belongs to {name}, which uses another signature");
    let hint = format!("use `scheme = \"{name}\"` instead of `auth` and its settings");
    Err(SettingsProblem::new("webhook.header", "never_verifies", message).hint(hint))
}
