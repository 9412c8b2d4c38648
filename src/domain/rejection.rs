//! Why a webhook call is rejected.

/// Why a call is rejected. The caller never learns it; the source's owner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The source has no secret in use.
    NoSecret,
    /// The header with the signature, the time or the id is missing.
    NoSignature,
    /// The header is present but can't be parsed.
    UnreadableSignature,
    /// The signature does not match.
    WrongSignature,
    /// It was signed too long ago.
    TooOld,
    /// It was signed at a time in the future.
    TooEarly,
    /// The source has no webhook.
    NoWebhook,
    /// The body is too large, too slow or incomplete.
    UnreadBody,
    /// The body's encoding is not supported.
    UnknownEncoding,
    /// The source is over its rate limit; the sender is asked to retry later.
    RateLimited,
}

impl Rejection {
    /// A stable code.
    pub fn code(self) -> &'static str {
        match self {
            Self::NoSecret => "no_secret",
            Self::NoSignature => "no_signature",
            Self::UnreadableSignature => "unreadable_signature",
            Self::WrongSignature => "wrong_signature",
            Self::TooOld => "too_old",
            Self::TooEarly => "too_early",
            Self::NoWebhook => "no_webhook",
            Self::UnreadBody => "unread_body",
            Self::UnknownEncoding => "unknown_encoding",
            Self::RateLimited => "rate_limited",
        }
    }

    /// What one of these codes means and what to do.
    pub fn words(code: &str) -> &'static str {
        match code {
            "no_secret" => "the source has no active secret: add the sender's secret",
            "no_signature" => {
                "the header with the signature, its time or its id is missing: check `auth` or `scheme`, and that the \
                 sender signs"
            }
            "unreadable_signature" => {
                "the signature header can't be parsed: check `scheme`, `prefix` and `encoding`"
            }
            "wrong_signature" => {
                "the signature matches no active secret: check that the sender has the same secret, and that nothing \
                 on the way changes the body"
            }
            "too_old" => {
                "it was signed more than 300 seconds ago: check both clocks, and whether the call was delayed"
            }
            "too_early" => "it was signed more than 300 seconds ahead of this clock: check both clocks",
            "no_webhook" => "the source's settings have no webhook",
            "unread_body" => "the body is too large, too slow or incomplete",
            "unknown_encoding" => "the body's encoding is not supported; use gzip or none",
            "rate_limited" => "the source exceeded its rate limit; the sender was asked to retry later",
            _ => "",
        }
    }
}
