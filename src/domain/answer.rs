//! The classified answer to a call.

use std::collections::BTreeSet;
use std::time::Duration;

use super::clock::Timestamp;

/// OneSignal's id of what it sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ProviderMessageId(pub String);

impl std::fmt::Display for ProviderMessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What became of a message, for all of its recipients together, as OneSignal counts it (View message).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageStats {
    /// Handed to the platform, mailbox or network.
    pub successful: u64,
    /// No longer subscribed.
    pub failed: u64,
    /// Rejected by the platform.
    pub errored: u64,
    /// Clicked.
    pub clicked: u64,
    /// Confirmed by devices; only where the app confirms.
    pub received: Option<u64>,
    /// Not sent yet; `None` while OneSignal looks for the recipients.
    pub remaining: Option<u64>,
    /// It was cancelled.
    pub is_cancelled: bool,
}

/// The answer to one Create message call, for the batch as a whole.
#[derive(Debug, Clone)]
pub struct BatchAnswer {
    /// The classification; everything else is evidence.
    pub verdict: Verdict,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
    /// The raw answer, cut to a few KiB; kept in Postgres, never logged.
    pub body: Option<String>,
    /// OneSignal replayed its stored response for this idempotency key.
    pub is_replay: bool,
}

impl BatchAnswer {
    /// An answer without an HTTP response.
    pub fn without_response(verdict: Verdict) -> Self {
        Self { verdict, status: None, body: None, is_replay: false }
    }
}

/// The classes of the retry table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Accepted, except for the recipients listed as unreachable.
    Accepted {
        /// OneSignal's id of it.
        message: ProviderMessageId,
        /// Recipient ids that exist but have no working subscription.
        unreachable: BTreeSet<String>,
    },
    /// `id` was empty: nothing was sent.
    NobodySubscribed {
        /// OneSignal's message.
        detail: String,
    },
    /// The request itself is invalid, or not included in this plan.
    Refused {
        /// OneSignal's message.
        detail: String,
    },
    /// The key is wrong, revoked or not allowed from here.
    KeyRefused {
        /// OneSignal's message.
        detail: String,
    },
    /// The whole app can't be used: unknown, redirected, bad certificate.
    AppUnusable {
        /// What is wrong.
        detail: String,
    },
    /// OneSignal doesn't have the named template.
    TemplateUnknown,
    /// Over the rate limit.
    RateLimited {
        /// How long OneSignal asks to wait.
        retry_after: Option<Duration>,
    },
    /// No connection was made, so nothing was sent.
    NotConnected {
        /// What failed.
        detail: String,
    },
    /// The key is in use by a call in progress.
    Conflict,
    /// It may have been sent.
    Ambiguous {
        /// What was observed.
        cause: String,
        /// How long OneSignal asks to wait.
        retry_after: Option<Duration>,
    },
}

impl Verdict {
    /// The code in attempts and metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Accepted { .. } => "accepted",
            Self::NobodySubscribed { .. } => "nobody_subscribed",
            Self::Refused { .. } => "refused",
            Self::KeyRefused { .. } => "key_refused",
            Self::AppUnusable { .. } => "app_unusable",
            Self::TemplateUnknown => "template_unknown",
            Self::RateLimited { .. } => "rate_limited",
            Self::NotConnected { .. } => "not_connected",
            Self::Conflict => "conflict",
            Self::Ambiguous { .. } => "ambiguous",
        }
    }

    /// What it means for the member with this recipient id (`None`: an audience), sent `alone` or with others.
    pub fn for_member(&self, recipient_id: Option<&str>, alone: bool) -> Answer {
        match self {
            Self::Accepted { unreachable, .. } => match recipient_id {
                Some(id) if unreachable.contains(id) => Answer::Unreachable,
                Some(_) | None => Answer::Accepted,
            },
            Self::NobodySubscribed { .. } => Answer::NothingSent,
            Self::Refused { detail } if alone => Answer::Rejected { detail: detail.clone() },
            Self::Refused { .. } => Answer::Split,
            Self::KeyRefused { .. }
            | Self::AppUnusable { .. }
            | Self::TemplateUnknown
            | Self::RateLimited { .. } => Answer::Gated,
            Self::NotConnected { detail } => Answer::NotConnected { detail: detail.clone() },
            Self::Conflict => Answer::Conflict,
            Self::Ambiguous { cause, retry_after } => {
                Answer::Ambiguous { cause: cause.clone(), retry_after: *retry_after }
            }
        }
    }
}

/// The result of recalling a message that OneSignal holds until its time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recall {
    /// OneSignal does not send it.
    Recalled,
    /// OneSignal has sent it, or no longer knows it.
    TooLate {
        /// OneSignal's message.
        detail: String,
    },
    /// The key is wrong, or the app can't be used; nothing has changed.
    Refused {
        /// OneSignal's message.
        detail: String,
    },
    /// Over the rate limit; nothing has changed.
    RateLimited {
        /// How long OneSignal asks to wait.
        retry_after: Option<Duration>,
    },
    /// It may have been done; repeating the call is safe.
    Unclear {
        /// What was observed.
        cause: String,
    },
}

impl Recall {
    /// The code in metrics.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Recalled => "recalled",
            Self::TooLate { .. } => "too_late",
            Self::Refused { .. } => "key_refused",
            Self::RateLimited { .. } => "rate_limited",
            Self::Unclear { .. } => "ambiguous",
        }
    }
}

/// What an attempt means for one delivery. [`super::delivery::Delivery::after`] decides the transition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// OneSignal accepted it.
    Accepted,
    /// The person has no working subscription.
    Unreachable,
    /// Nothing was sent, to anyone.
    NothingSent,
    /// Rejected because of this delivery.
    Rejected {
        /// OneSignal's message.
        detail: String,
    },
    /// The batch was rejected as a whole: retry in smaller parts.
    Split,
    /// Definitely not sent, and not because of this delivery: queued again behind a gate.
    Gated,
    /// Definitely not sent: no connection.
    NotConnected {
        /// What failed.
        detail: String,
    },
    /// The idempotency key is in use.
    Conflict,
    /// It may have been sent.
    Ambiguous {
        /// What was observed.
        cause: String,
        /// How long OneSignal asks to wait.
        retry_after: Option<Duration>,
    },
    /// The process that was sending it died: it may have been sent.
    LeaseExpired {
        /// When that attempt began.
        started_at: Timestamp,
    },
}
