//! Why a webhook's call is not taken.

/// Why a call is not taken. The caller never learns it; the source's owner does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rejection {
    /// The source has no secret in use.
    NoSecret,
    /// The header with the signature, the time or the id is missing.
    NoSignature,
    /// The header is there and can't be read.
    UnreadableSignature,
    /// The signature is none of ours.
    WrongSignature,
    /// It was signed too long ago.
    TooOld,
    /// It was signed at a time that is still to come.
    TooEarly,
    /// The source has no webhook.
    NoWebhook,
    /// The body is over the limit, or came too slowly or not whole.
    UnreadBody,
    /// The body's encoding is none that is understood.
    UnknownEncoding,
    /// The source is over its rate; the sender is asked to send again later.
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

    /// What a code of these means and what to do.
    pub fn words(code: &str) -> &'static str {
        match code {
            "no_secret" => "the source has no secret in use: add the sender's",
            "no_signature" => {
                "the header with the signature, its time or its id is missing: check `auth` or `scheme`, and that the \
                 sender signs"
            }
            "unreadable_signature" => {
                "the signature's header can't be read: check `scheme`, `prefix` and `encoding`"
            }
            "wrong_signature" => {
                "no secret in use makes this signature: check that the sender has the same secret, and that nothing \
                 on the way changes the body"
            }
            "too_old" => {
                "it was signed more than 300 seconds ago: check both clocks, and what delays the call"
            }
            "too_early" => "it was signed more than 300 seconds ahead of this clock: check both clocks",
            "no_webhook" => "the source's settings have no webhook",
            "unread_body" => "the body is too large, came too slowly or broke off",
            "unknown_encoding" => "the body is encoded in a way other than gzip",
            "rate_limited" => {
                "the source sent more events a second than it may; the sender was asked to send again later"
            }
            _ => "",
        }
    }
}
