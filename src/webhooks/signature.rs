//! Whether a request comes from who knows the secret: compared in constant time, and each reason to refuse looks the same.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use chrono::TimeDelta;
use ring::hmac;

use super::Headers;
use super::settings::{Algorithm, Auth, Encoding};
use crate::domain::clock::Timestamp;

/// How far a signed time may be from ours, either way.
pub const TOLERANCE: TimeDelta = TimeDelta::seconds(300);
/// Signatures in one header that are looked at.
const MAX_SIGNATURES: usize = 10;

/// A request whose signature holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// Which of the secrets it was, by its place.
    pub secret: usize,
    /// The sender's id of the message, with Standard Webhooks.
    pub webhook_id: Option<String>,
}

/// Characters that a secret has at least, blanks aside.
const LEAST_VISIBLE: usize = 16;

impl Auth {
    /// Whether anything that is signed in this way can hold for a secret.
    pub fn takes(&self, secret: &str) -> bool {
        match self {
            Self::Bearer | Self::Hmac { .. } => is_usable(secret),
            Self::StandardWebhooks => is_usable(secret) && standard_key(secret).is_some(),
        }
    }

    /// Whether one of these secrets signed the body, and not too long ago. `None` does not say what was wrong.
    pub fn verify(
        &self,
        headers: &Headers,
        body: &[u8],
        secrets: &[String],
        now: Timestamp,
    ) -> Option<Signed> {
        match self {
            Auth::Bearer => bearer(headers, secrets),
            Auth::Hmac { header, algorithm, encoding, prefix } => {
                let signature = decode(headers.get(header)?.strip_prefix(prefix.as_str())?, *encoding)?;
                let is_ours = |secret: &String| is_signed(secret.as_bytes(), *algorithm, body, &signature);
                let secret = first(secrets, is_ours)?;
                Some(Signed { secret, webhook_id: None })
            }
            Auth::StandardWebhooks => standard(headers, body, secrets, now),
        }
    }

    /// The headers that a mapping may see and that are kept: none that could hold a secret.
    pub fn visible(&self, headers: &Headers) -> Headers {
        let signature = match self {
            Auth::Hmac { header, .. } => header.as_str(),
            Auth::Bearer | Auth::StandardWebhooks => "webhook-signature",
        };
        let is_hidden = |name: &str| {
            name == signature
                || ["authorization", "proxy-authorization", "cookie", "webhook-signature"].contains(&name)
        };
        headers.iter().filter(|(name, _)| !is_hidden(name)).map(|(n, v)| (n.clone(), v.clone())).collect()
    }
}

/// Whether a text can be a secret at all: not mostly blank, without blanks around it, which get lost in headers, and with
/// base64 after `whsec_`, where a secret says that of itself.
pub fn is_usable(secret: &str) -> bool {
    let visible = secret.bytes().filter(u8::is_ascii_graphic).count();
    let is_readable = !secret.starts_with("whsec_") || standard_key(secret).is_some();
    visible >= LEAST_VISIBLE && secret.trim() == secret && is_readable
}

/// The place of the first secret that fits; every secret is tried, so that time does not tell which it was.
fn first(secrets: &[String], fits: impl Fn(&String) -> bool) -> Option<usize> {
    let fitting: Vec<usize> =
        secrets.iter().enumerate().filter(|(_, secret)| fits(secret)).map(|(place, _)| place).collect();
    fitting.first().copied()
}

fn bearer(headers: &Headers, secrets: &[String]) -> Option<Signed> {
    let (scheme, token) = headers.get("authorization")?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("bearer") {
        return None;
    }
    // Comparing MACs of both under one key takes the same time whatever they hold.
    let key = hmac::Key::new(hmac::HMAC_SHA256, b"herald bearer");
    let tag = hmac::sign(&key, token.trim().as_bytes());
    let secret = first(secrets, |secret| hmac::verify(&key, secret.as_bytes(), tag.as_ref()).is_ok())?;
    Some(Signed { secret, webhook_id: None })
}

fn standard(headers: &Headers, body: &[u8], secrets: &[String], now: Timestamp) -> Option<Signed> {
    let id = headers.get("webhook-id")?;
    if id.is_empty() || id.len() > 255 || !id.bytes().all(|byte| byte.is_ascii_graphic()) {
        return None;
    }
    let sent = headers.get("webhook-timestamp")?;
    let seconds: i64 = sent.parse().ok()?;
    if (now.timestamp().checked_sub(seconds)?).unsigned_abs() > TOLERANCE.num_seconds().unsigned_abs() {
        return None;
    }
    let signed = [id.as_bytes(), b".", sent.as_bytes(), b".", body].concat();
    let signatures: Vec<Vec<u8>> = headers
        .get("webhook-signature")?
        .split_ascii_whitespace()
        .take(MAX_SIGNATURES)
        .filter_map(|one| decode(one.strip_prefix("v1,")?, Encoding::Base64))
        .collect();
    let fits = |secret: &String| {
        let Some(key) = standard_key(secret) else { return false };
        let fitting =
            signatures.iter().filter(|one| is_signed(&key, Algorithm::Sha256, &signed, one)).count();
        fitting > 0
    };
    let secret = first(secrets, fits)?;
    Some(Signed { secret, webhook_id: Some(id.clone()) })
}

/// The key behind `whsec_…`.
fn standard_key(secret: &str) -> Option<Vec<u8>> {
    let key = BASE64_STANDARD.decode(secret.strip_prefix("whsec_").unwrap_or(secret)).ok()?;
    (!key.is_empty()).then_some(key)
}

fn is_signed(secret: &[u8], algorithm: Algorithm, signed: &[u8], signature: &[u8]) -> bool {
    let algorithm = match algorithm {
        Algorithm::Sha256 => hmac::HMAC_SHA256,
        Algorithm::Sha512 => hmac::HMAC_SHA512,
    };
    hmac::verify(&hmac::Key::new(algorithm, secret), signed, signature).is_ok()
}

fn decode(text: &str, encoding: Encoding) -> Option<Vec<u8>> {
    match encoding {
        Encoding::Base64 => BASE64_STANDARD.decode(text.trim()).ok(),
        Encoding::Hex => {
            let digits: Option<Vec<u8>> = text
                .trim()
                .chars()
                .map(|digit| digit.to_digit(16).and_then(|value| u8::try_from(value).ok()))
                .collect();
            let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
            Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::webhooks::WebhookSettings;

    fn webhook(settings: &str) -> Auth {
        let webhook: WebhookSettings = toml::from_str(settings).unwrap();
        webhook.auth().unwrap()
    }

    fn headers(pairs: &[(&str, &str)]) -> Headers {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    /// The example of the Standard Webhooks specification's libraries.
    #[test]
    fn the_specification_s_own_example_holds_within_its_window() {
        let webhook = webhook("auth = \"standard_webhooks\"");
        let secrets = ["whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw".to_owned()];
        let body = br#"{"test": 2432232314}"#;
        let at = |signature: &str, seconds: i64, body: &[u8]| {
            let headers = headers(&[
                ("webhook-id", "msg_p5jXN8AQM9LWM0D4loKWxJek"),
                ("webhook-timestamp", "1614265330"),
                ("webhook-signature", signature),
            ]);
            webhook.verify(&headers, body, &secrets, Timestamp::from_timestamp(seconds, 0).unwrap())
        };
        let good = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";
        let signed = at(good, 1_614_265_330, body).unwrap();
        assert_eq!(signed.webhook_id.as_deref(), Some("msg_p5jXN8AQM9LWM0D4loKWxJek"));
        assert!(at(&format!("v1a,xx v1,AAAA {good}"), 1_614_265_330 + 300, body).is_some());
        assert!(at(good, 1_614_265_330 - 300, body).is_some());
        assert!(at(good, 1_614_265_330 + 301, body).is_none());
        assert!(at(good, 1_614_265_330 - 301, body).is_none());
        assert!(at(good, 1_614_265_330, b"{}").is_none());
        assert!(at("", 1_614_265_330, body).is_none());
        assert!(at(&good.replace("v1", "v2"), 1_614_265_330, body).is_none());
    }

    /// The example of GitHub's documentation.
    #[test]
    fn an_hmac_with_a_prefix_holds_for_any_of_the_secrets() {
        let webhook = webhook("auth = \"hmac\"\nheader = \"X-Hub-Signature-256\"\nprefix = \"sha256=\"");
        let now = Timestamp::from_timestamp(0, 0).unwrap();
        let secrets = ["other".to_owned(), "It's a Secret to Everybody".to_owned()];
        let hex = "757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let verify = |value: &str, body: &[u8]| {
            webhook.verify(&headers(&[("x-hub-signature-256", value)]), body, &secrets, now)
        };
        assert_eq!(verify(&format!("sha256={hex}"), b"Hello, World!").unwrap().secret, 1);
        for bad in [hex, "sha256=", "sha256=zz", &format!("sha256={}", &hex[..62]), ""] {
            assert_eq!(verify(bad, b"Hello, World!"), None, "{bad}");
        }
        assert_eq!(verify(&format!("sha256={hex}"), b"Hello, World"), None);
    }

    #[test]
    fn a_bearer_is_the_secret_itself_and_no_secret_is_shown_to_a_mapping() {
        let webhook = webhook("auth = \"bearer\"");
        let now = Timestamp::from_timestamp(0, 0).unwrap();
        let verify = |value: &str, secrets: &[String]| {
            webhook.verify(&headers(&[("authorization", value)]), b"", secrets, now)
        };
        let secrets = ["0123456789abcdef".to_owned()];
        assert!(verify("Bearer 0123456789abcdef", &secrets).is_some());
        for bad in ["Bearer 0123456789abcdeg", "Bearer ", "Basic 0123456789abcdef", "0123456789abcdef"] {
            assert!(verify(bad, &secrets).is_none(), "{bad}");
        }
        assert!(verify("Bearer ", &[]).is_none());
        let shown = webhook.visible(&headers(&[("authorization", "x"), ("cookie", "x"), ("x-shop", "y")]));
        assert_eq!(shown, headers(&[("x-shop", "y")]));
    }
}
