//! Planned deliveries, together with their rows in the queue.

use serde_json::Value;
use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use super::days::Days;
use super::ordering_lanes::{Place, far_future};
use crate::domain::app::AppId;
use crate::domain::channel::{Channel, Priority};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::NO_PACK_LIMIT;
use crate::domain::id::{BatchId, DeliveryId, EventId, RuleId, TemplateVersionId, TypedId, WorkerId};
use crate::domain::timing::Schedule;

/// The initial state of a delivery.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admission {
    /// Waits until it is due; with a lease if this process has a slot for it in memory.
    Queued {
        /// Not before this time.
        due_at: Timestamp,
        /// The worker that leases it from the start.
        lease: Option<WorkerId>,
    },
    /// Frozen in a batch within the transaction that stores it.
    Sending {
        /// The worker that makes the call.
        worker: WorkerId,
        /// The batch.
        batch: BatchId,
    },
    /// Waits for a person.
    Held,
    /// Ended before it began.
    Skipped,
}

/// A delivery to be stored.
#[derive(Debug)]
pub struct NewDelivery<'a> {
    /// Its id, created in the same millisecond as the event's.
    pub id: DeliveryId,
    /// The event.
    pub event: EventId,
    /// The rule's id and key.
    pub rule: (RuleId, &'a str),
    /// The app.
    pub app: AppId,
    /// The channel.
    pub channel: Channel,
    /// The priority.
    pub priority: Priority,
    /// The template's key.
    pub template: &'a str,
    /// The version, pinned: its id and number.
    pub version: Option<(TemplateVersionId, i32)>,
    /// The locale, pinned.
    pub locale: Option<&'a str>,
    /// The person's label and id, or
    pub recipient: Option<(&'a str, &'a str)>,
    /// the audience.
    pub audience: Option<&'a Value>,
    /// What OneSignal does with the scheduled time.
    pub schedule: Option<&'a Schedule>,
    /// The hash that a cancellation finds it by.
    pub cancel_digest: Option<[u8; 32]>,
    /// The hash that a newer event finds it by.
    pub collapse_digest: Option<[u8; 32]>,
    /// Its position, if it is sent in order.
    pub turn: Option<Place>,
    /// Not after this time.
    pub expires_at: Timestamp,
    /// When it was planned.
    pub created_at: Timestamp,
    /// Its initial state.
    pub admission: Admission,
}

const INSERT_DELIVERIES: &str = include_str!("sql/insert_deliveries.sql");

/// Stores deliveries and their queue rows, in one statement.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_all(connection: &mut PgConnection, new: &[NewDelivery<'_>]) -> Result<(), StoreError> {
    sqlx::query(INSERT_DELIVERIES)
        .bind(new.iter().map(|d| d.id.uuid()).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.event.uuid()).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.rule.0.uuid()).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.rule.1).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.app.0).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.channel.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.priority.as_str()).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.template).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.version.map(|(id, _)| id.uuid())).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.version.map(|(_, number)| number)).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.locale).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.recipient.map(|(label, _)| label)).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.recipient.map(|(_, id)| id)).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.audience.map(Value::to_string)).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.expires_at).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.created_at).collect::<Vec<_>>())
        .bind(new.iter().map(|d| state_of(d.admission)).collect::<Vec<_>>())
        .bind(new.iter().map(|d| if is_blocked(d) { far_future() } else { due_of(d) }).collect::<Vec<_>>())
        .bind(new.iter().map(|d| worker_of(d.admission)).collect::<Vec<_>>())
        .bind(new.iter().map(|d| batch_of(d.admission)).collect::<Vec<_>>())
        .bind(
            new.iter()
                .map(|d| d.schedule.and_then(|s| serde_json::to_string(&s.timing).ok()))
                .collect::<Vec<_>>(),
        )
        .bind(new.iter().map(|d| d.cancel_digest.map(|digest| digest.to_vec())).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.collapse_digest.map(|digest| digest.to_vec())).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.turn.map(|turn| turn.digest.to_vec())).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.turn.map(|turn| turn.place)).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.turn.filter(|t| t.is_blocked).map(|_| due_of(d))).collect::<Vec<_>>())
        .bind(new.iter().map(|d| d.schedule.and_then(Schedule::send_after)).collect::<Vec<_>>())
        .bind(i16::try_from(NO_PACK_LIMIT).unwrap_or(i16::MAX))
        .execute(connection)
        .await?;
    Ok(())
}

fn state_of(admission: Admission) -> &'static str {
    match admission {
        Admission::Queued { .. } => "queued",
        Admission::Sending { .. } => "sending",
        Admission::Held => "held",
        Admission::Skipped => "skipped",
    }
}

fn is_blocked(new: &NewDelivery<'_>) -> bool {
    new.turn.is_some_and(|turn| turn.is_blocked)
}

fn due_of(new: &NewDelivery<'_>) -> Timestamp {
    match new.admission {
        Admission::Queued { due_at, .. } => due_at,
        Admission::Sending { .. } | Admission::Held | Admission::Skipped => new.created_at,
    }
}

fn worker_of(admission: Admission) -> Option<Uuid> {
    match admission {
        Admission::Queued { lease, .. } => lease.map(TypedId::uuid),
        Admission::Sending { worker, .. } => Some(worker.uuid()),
        Admission::Held | Admission::Skipped => None,
    }
}

fn batch_of(admission: Admission) -> Option<Uuid> {
    match admission {
        Admission::Sending { batch, .. } => Some(batch.uuid()),
        Admission::Queued { .. } | Admission::Held | Admission::Skipped => None,
    }
}

/// Pins a delivery to a version and locale when it is released.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn pin(
    connection: &mut PgConnection,
    delivery: DeliveryId,
    version: (TemplateVersionId, i32),
    locale: &str,
) -> Result<(), StoreError> {
    sqlx::query(Days::of(delivery.uuid()).fill(
        "UPDATE deliveries SET template_version_id = $2, template_version = $3, locale = $4
         WHERE id = $1 AND {days of id}",
    ))
    .bind(delivery.uuid())
    .bind(version.0.uuid())
    .bind(version.1)
    .bind(locale)
    .execute(connection)
    .await?;
    Ok(())
}
