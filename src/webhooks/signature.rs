//! Verifying signatures in constant time. All failures look the same to the caller.

use base64::Engine;
use base64::alphabet::STANDARD;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use chrono::TimeDelta;
use ring::{digest, hmac};
use serde_json::Value;
use subtle::{Choice, ConstantTimeEq};
use url::Url;

use super::Headers;
use super::scheme::{SIGNATURE_HEADERS, Scheme};
use super::settings::{Algorithm, Auth, Encoding};
use crate::domain::clock::Timestamp;
use crate::domain::rejection::Rejection;

/// Tolerance for a signed timestamp, in both directions.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(300);
/// Minimum length of a secret, without spaces.
const MIN_VISIBLE: usize = 16;
/// Base64 as accepted by the official Standard Webhooks libraries: with or without padding.
const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);

/// A call of a webhook.
#[derive(Debug, Clone, Copy)]
pub struct Call<'a> {
    /// Its headers.
    pub headers: &'a Headers,
    /// The query of its URL, without the `?`.
    pub query: &'a str,
    /// Its raw body.
    pub body: &'a [u8],
    /// When it was received.
    pub now: Timestamp,
}

/// A verified call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// The index of the secret.
    pub secret: usize,
}

impl Auth {
    /// Why a secret can never verify a signature; `None` if it can.
    pub fn refuses(&self, secret: &str) -> Option<&'static str> {
        let visible = secret.bytes().filter(u8::is_ascii_graphic).count();
        if visible < MIN_VISIBLE || secret.trim() != secret {
            return Some("a secret must have at least 16 visible characters and no surrounding spaces");
        }
        if !self.is_standard() {
            return None;
        }
        if secret.starts_with("whsk_") || secret.starts_with("whpk_") {
            return Some(
                "this is a key for asymmetric signatures, which Herald does not support; use a `whsec_…` secret",
            );
        }
        let is_unreadable = standard_keys(secret).is_empty();
        is_unreadable.then_some("the part after `whsec_` must be base64")
    }

    fn is_standard(&self) -> bool {
        matches!(self, Self::StandardWebhooks | Self::Scheme(Scheme::Svix))
    }

    /// Whether calls have an id, so that a mapping needs no `id`.
    pub(super) fn names_its_calls(&self) -> bool {
        match self {
            Self::StandardWebhooks => true,
            Self::Scheme(scheme) => scheme.names_its_calls(),
            Self::Bearer | Self::Hmac { .. } | Self::Twilio { .. } => false,
        }
    }

    /// The sender's call id, if there is one.
    pub fn call_id(&self, headers: &Headers, body: &Value) -> Option<String> {
        match self {
            Self::StandardWebhooks => headers.get("webhook-id").cloned(),
            Self::Scheme(scheme) => scheme.call_id(headers, body),
            Self::Bearer | Self::Hmac { .. } | Self::Twilio { .. } => None,
        }
    }

    /// Verifies that one of these secrets signed the call recently.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn verify(&self, call: &Call<'_>, secrets: &[String]) -> Result<Signed, Rejection> {
        if secrets.is_empty() {
            return Err(Rejection::NoSecret);
        }
        let header = |name: &str| call.headers.get(name).map(String::as_str).ok_or(Rejection::NoSignature);
        let of_body = |name: &str, algorithm, encoding, prefix: &str| {
            let signatures = listed(header(name)?, encoding, prefix);
            Signatures { algorithm, signatures }.find(call.body, secrets, raw_key)
        };
        match self {
            Self::Bearer => bearer(header("authorization")?, secrets),
            Self::Hmac { header, algorithm, encoding, prefix } => {
                of_body(header, *algorithm, *encoding, prefix)
            }
            Self::Scheme(Scheme::Github) => {
                of_body("x-hub-signature-256", Algorithm::Sha256, Encoding::Hex, "sha256=")
            }
            Self::Scheme(Scheme::Shopify) => {
                of_body("x-shopify-hmac-sha256", Algorithm::Sha256, Encoding::Base64, "")
            }
            Self::Scheme(Scheme::Segment) => of_body("x-signature", Algorithm::Sha1, Encoding::Hex, ""),
            Self::Scheme(Scheme::Svix) if call.headers.contains_key("svix-id") => {
                standard("svix", call, secrets)
            }
            Self::StandardWebhooks | Self::Scheme(Scheme::Svix) => standard("webhook", call, secrets),
            Self::Scheme(Scheme::Stripe) => stripe(header("stripe-signature")?, call, secrets),
            Self::Scheme(Scheme::Slack) => {
                let (sent, signature) = (header("x-slack-request-timestamp")?, header("x-slack-signature")?);
                timely(sent, call.now)?;
                let signed = [b"v0:", sent.as_bytes(), b":", call.body].concat();
                let signatures = listed(signature, Encoding::Hex, "v0=");
                Signatures { algorithm: Algorithm::Sha256, signatures }.find(&signed, secrets, raw_key)
            }
            Self::Twilio { url } => twilio(url, header("x-twilio-signature")?, call, secrets),
            // Its settings always result in the variant above.
            Self::Scheme(Scheme::Twilio) => Err(Rejection::NoWebhook),
        }
    }

    /// The headers that are stored and available to mappings, without secrets.
    pub fn visible(&self, headers: &Headers) -> Headers {
        let own = match self {
            Auth::Hmac { header, .. } => header.as_str(),
            Auth::Bearer | Auth::StandardWebhooks | Auth::Scheme(_) | Auth::Twilio { .. } => "authorization",
        };
        let secret = ["authorization", "proxy-authorization", "cookie", "x-api-key"];
        let is_hidden =
            |name: &str| name == own || secret.contains(&name) || SIGNATURE_HEADERS.contains(&name);
        headers.iter().filter(|(name, _)| !is_hidden(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}

/// The signatures of a call, and their hash.
struct Signatures {
    algorithm: Algorithm,
    signatures: Vec<Vec<u8>>,
}

impl Signatures {
    /// The place of the first secret that makes one of the signatures of `signed`. Each key signs once, however many
    /// signatures there are, and every key is tried, so that time does not tell which it was.
    fn find(
        &self,
        signed: &[u8],
        secrets: &[String],
        keys_of: impl Fn(&str) -> Vec<Vec<u8>>,
    ) -> Result<Signed, Rejection> {
        if self.signatures.is_empty() {
            return Err(Rejection::UnreadableSignature);
        }
        let algorithm = match self.algorithm {
            Algorithm::Sha256 => hmac::HMAC_SHA256,
            Algorithm::Sha512 => hmac::HMAC_SHA512,
            Algorithm::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
        };
        let is_made_by = |key: Vec<u8>| {
            let tag = hmac::sign(&hmac::Key::new(algorithm, &key), signed);
            let same = self.signatures.iter().map(|one| one.as_slice().ct_eq(tag.as_ref()));
            bool::from(same.fold(Choice::from(0), |any, one| any | one))
        };
        let fits =
            |secret: &String| keys_of(secret).into_iter().map(is_made_by).fold(false, |any, one| any | one);
        let fitting: Vec<usize> =
            secrets.iter().enumerate().filter(|(_, secret)| fits(secret)).map(|(place, _)| place).collect();
        fitting.first().map(|secret| Signed { secret: *secret }).ok_or(Rejection::WrongSignature)
    }
}

fn raw_key(secret: &str) -> Vec<Vec<u8>> {
    vec![secret.as_bytes().to_vec()]
}

/// The signatures in a header, separated by commas, each after its prefix.
fn listed(header: &str, encoding: Encoding, prefix: &str) -> Vec<Vec<u8>> {
    let each = header.split(',').map(str::trim);
    each.filter_map(|one| decode(one.strip_prefix(prefix)?, encoding)).collect()
}

fn bearer(header: &str, secrets: &[String]) -> Result<Signed, Rejection> {
    let (scheme, token) = header.split_once(' ').ok_or(Rejection::UnreadableSignature)?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(Rejection::UnreadableSignature);
    }
    // Comparing MACs of both under one key takes constant time.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"herald bearer");
    let tag = hmac::sign(&key, token.trim().as_bytes());
    let is_it = |secret: &String| hmac::verify(&key, secret.as_bytes(), tag.as_ref()).is_ok();
    let fitting: Vec<usize> =
        secrets.iter().enumerate().filter(|(_, secret)| is_it(secret)).map(|(place, _)| place).collect();
    fitting.first().map(|secret| Signed { secret: *secret }).ok_or(Rejection::WrongSignature)
}

/// Whether a signed timestamp, in seconds since 1970, is within the tolerance.
fn timely(sent: &str, now: Timestamp) -> Result<(), Rejection> {
    let seconds: i64 = sent.parse().map_err(|_| Rejection::UnreadableSignature)?;
    let age = now.timestamp().checked_sub(seconds).ok_or(Rejection::UnreadableSignature)?;
    match age {
        age if age > TOLERANCE.num_seconds() => Err(Rejection::TooOld),
        age if age < -TOLERANCE.num_seconds() => Err(Rejection::TooEarly),
        _ => Ok(()),
    }
}

/// Standard Webhooks: id, time and body signed together, in headers that start with `webhook` or `svix`.
fn standard(headers: &str, call: &Call<'_>, secrets: &[String]) -> Result<Signed, Rejection> {
    let header = |name: &str| call.headers.get(&format!("{headers}-{name}")).ok_or(Rejection::NoSignature);
    let (id, sent, signatures) = (header("id")?, header("timestamp")?, header("signature")?);
    if id.is_empty() || id.len() > 255 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(Rejection::UnreadableSignature);
    }
    timely(sent, call.now)?;
    let signed = [id.as_bytes(), b".", sent.as_bytes(), b".", call.body].concat();
    let signatures = signatures
        .split_ascii_whitespace()
        .filter_map(|one| decode(one.strip_prefix("v1,")?, Encoding::Base64))
        .collect();
    Signatures { algorithm: Algorithm::Sha256, signatures }.find(&signed, secrets, standard_keys)
}

/// The possible keys of a Standard Webhooks secret: base64 after `whsec_`; without that, base64 or the text itself.
/// The official libraries interpret `-` and `_` differently, so both ways are tried.
fn standard_keys(secret: &str) -> Vec<Vec<u8>> {
    let decoded = |text: String| LENIENT.decode(text).ok().filter(|key| !key.is_empty());
    let text = secret.strip_prefix("whsec_").unwrap_or(secret);
    let mut keys: Vec<Vec<u8>> = decoded(text.replace('-', "+").replace('_', "/")).into_iter().collect();
    if !keys.is_empty() {
        keys.extend(decoded(text.replace(['-', '_'], "")));
    }
    if text == secret {
        keys.push(secret.as_bytes().to_vec());
    }
    keys.dedup();
    keys
}

/// `t=…,v1=…,v1=…` over time and body; the whole secret is the key, `whsec_` included.
fn stripe(header: &str, call: &Call<'_>, secrets: &[String]) -> Result<Signed, Rejection> {
    let mut parts = header.split(',').map(str::trim);
    let sent = parts.find_map(|part| part.strip_prefix("t=")).ok_or(Rejection::UnreadableSignature)?;
    timely(sent, call.now)?;
    let signed = [sent.as_bytes(), b".", call.body].concat();
    let signatures = listed(header, Encoding::Hex, "v1=");
    Signatures { algorithm: Algorithm::Sha256, signatures }.find(&signed, secrets, raw_key)
}

/// The URL with its query, and the form's fields by name; a body that is not a form is identified by its hash in the
/// query.
fn twilio(url: &Url, signature: &str, call: &Call<'_>, secrets: &[String]) -> Result<Signed, Rejection> {
    let is_form = call.headers.get("content-type").is_some_and(|kind| is_form(kind));
    let fields = if is_form { form_fields(call.body) } else { String::new() };
    let hash = url::form_urlencoded::parse(call.query.as_bytes()).find(|(name, _)| name == "bodySHA256");
    match hash {
        Some((_, hash)) if !is_form => {
            let actual = digest::digest(&digest::SHA256, call.body);
            if decode(&hash, Encoding::Hex).is_none_or(|hash| hash != actual.as_ref()) {
                return Err(Rejection::WrongSignature);
            }
        }
        // Without its hash the body would not be signed.
        None if !is_form && !call.body.is_empty() => return Err(Rejection::UnreadableSignature),
        _ => {}
    }
    let signatures = listed(signature, Encoding::Base64, "");
    let signatures = Signatures { algorithm: Algorithm::Sha1, signatures };
    let tried = addresses(url, call.query)
        .map(|address| signatures.find(format!("{address}{fields}").as_bytes(), secrets, raw_key));
    tried.into_iter().reduce(Result::or).unwrap_or(Err(Rejection::WrongSignature))
}

/// The URL as Twilio may have signed it: with or without the default port.
fn addresses(url: &Url, query: &str) -> [String; 2] {
    let host = url.host_str().unwrap_or_default();
    let (scheme, path) = (url.scheme(), url.path());
    let query = if query.is_empty() { String::new() } else { format!("?{query}") };
    let port = url.port_or_known_default().map(|port| format!(":{port}")).unwrap_or_default();
    [format!("{scheme}://{host}{path}{query}"), format!("{scheme}://{host}{port}{path}{query}")]
}

/// Whether a content type is that of a form.
pub(super) fn is_form(kind: &str) -> bool {
    let media = kind.split(';').next().unwrap_or_default().trim();
    media.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The fields as Twilio signs them: each name with its values, sorted, a value once.
fn form_fields(body: &[u8]) -> String {
    let mut fields: Vec<(String, String)> = url::form_urlencoded::parse(body).into_owned().collect();
    fields.sort_unstable();
    fields.dedup();
    fields.into_iter().map(|(name, value)| name + &value).collect()
}

fn decode(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Base64 => LENIENT.decode(text.trim()).ok().filter(|bytes| !bytes.is_empty()),
        Encoding::Hex => {
            let digits: Option<Vec<u8>> = text
                .trim()
                .chars()
                .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
                .collect();
            let digits = digits.filter(|digits| !digits.is_empty() && digits.len().is_multiple_of(2))?;
            Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
    }
}

#[cfg(test)]
mod tests;
