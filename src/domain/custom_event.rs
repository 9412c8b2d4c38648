//! Custom events for OneSignal's Journeys.

use std::time::Duration;

use serde_json::Value;
use uuid::Uuid;

use super::clock::Timestamp;
use super::event::Recipient;

/// The maximum size of one custom event as JSON, in bytes (OneSignal's limit).
pub const MAX_EVENT_BYTES: usize = 2_024;
/// The maximum size of a request with custom events, in bytes (OneSignal's limit is 1 MB).
pub const MAX_REQUEST_BYTES: usize = 1_000_000;
/// The maximum length of a custom event's name, in characters (OneSignal's limit).
pub const MAX_NAME_CHARS: usize = 128;

/// A custom event to be sent.
#[derive(Debug, Clone, PartialEq)]
pub struct CustomEvent {
    /// Its id, which is its idempotency key: OneSignal drops a repeat within 4 hours.
    pub id: Uuid,
    /// Its name.
    pub name: String,
    /// The person: by External ID or by OneSignal's id.
    pub recipient: Recipient,
    /// When it happened.
    pub occurred_at: Timestamp,
    /// Its properties: an object.
    pub properties: Value,
}

/// The answer to a request with custom events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CustomEventsAnswer {
    /// Accepted, except for these, each with OneSignal's reason.
    Accepted {
        /// The refused events.
        refused: Vec<(Uuid, String)>,
    },
    /// The app's plan has no custom events.
    NotOnPlan {
        /// OneSignal's text.
        detail: String,
    },
    /// OneSignal refuses the request; repeating it does not help.
    Refused {
        /// OneSignal's text.
        detail: String,
    },
    /// The app's key is refused, or the app can't be called at all.
    AppUnusable {
        /// OneSignal's text.
        detail: String,
    },
    /// Too many calls.
    RateLimited {
        /// The delay that OneSignal asks for.
        retry_after: Option<Duration>,
    },
    /// It may have been accepted, or not; the same ids can be sent again.
    Unclear {
        /// The cause.
        detail: String,
    },
}
