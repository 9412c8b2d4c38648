//! Outcomes in the history of a delivery.

use chrono::{DateTime, Utc};
use serde::Serialize;
use serde_json::{Value, json};

use crate::domain::id::DeliveryId;
use crate::domain::outcome::{Facts, Status};
use crate::store::outcomes::OutcomeRow;

/// What a device or mailbox reported.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct OutcomeBody {
    #[schema(value_type = String)]
    delivery: DeliveryId,
    /// `sent`, `delivered`, `opened`, `clicked`, `failed`, `bounced`, `suppressed`, `unsubscribed`, `complained`, or the
    /// name of a kind that Herald does not know.
    kind: String,
    /// When it was first reported.
    at: DateTime<Utc>,
    /// When it happened last, if it happened several times.
    #[serde(skip_serializing_if = "Option::is_none")]
    last_at: Option<DateTime<Utc>>,
    /// The person, if the delivery is for an audience.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>)]
    recipient: Option<Value>,
    /// The type of the device.
    device: String,
    /// OneSignal's ID of the device, address or number.
    subscription: String,
    /// Why it failed, without addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

impl From<OutcomeRow> for OutcomeBody {
    fn from(row: OutcomeRow) -> Self {
        Self {
            delivery: row.delivery,
            kind: row.kind.as_str().to_owned(),
            at: row.fact.first_at,
            last_at: (row.fact.last_at > row.fact.first_at).then_some(row.fact.last_at),
            recipient: row.person.split_once('=').map(|(label, id)| json!({ label: id })),
            device: row.fact.device,
            subscription: row.subscription,
            reason: (!row.fact.reason.is_empty()).then_some(row.fact.reason),
        }
    }
}

/// How far a delivery came.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct OutcomeSummary {
    /// `delivered`, `sent`, `failed`, `bounced` or `suppressed`: the best of the person's devices.
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'static str>,
    /// What the status can't say.
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'static str>,
}

impl OutcomeSummary {
    /// The summary of one person's outcomes; `None` without any, or for an audience.
    pub fn of(rows: &[OutcomeRow]) -> Option<Self> {
        if rows.is_empty() || rows.iter().any(|row| !row.person.is_empty()) {
            return None;
        }
        let fact = |row: &OutcomeRow| ((row.subscription.clone(), row.kind.clone()), row.fact.clone());
        let facts: Facts = rows.iter().map(fact).collect();
        let note = facts.is_unmeasurable().then_some("delivery is not measurable on this device type");
        Some(Self { status: facts.status().map(Status::as_str), note })
    }
}
