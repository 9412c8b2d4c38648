//! Events, their keys, payloads and sealed values.

use std::collections::HashMap;

use serde_json::Value;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::{Days, parts_of};
use super::erasures::Digest;
use super::people::facts_of;
use super::{Store, StoreError};
use crate::domain::channel::Channel;
use crate::domain::event::{Event, EventTypeName, Recipient};
use crate::domain::facts::Facts;
use crate::domain::id::{EventId, KeyId, SourceId, TypedId, WorkerId};

/// An event's claim to its key.
#[derive(Debug, Clone)]
pub struct KeyClaim {
    /// The source.
    pub source: SourceId,
    /// SHA-256 of the event key.
    pub digest: [u8; 32],
    /// The vault's fingerprint of the content.
    pub fingerprint: Vec<u8>,
    /// The id that the event gets if the claim succeeds.
    pub event: EventId,
}

/// What the first statement of a group commit returns.
#[derive(Debug)]
pub struct Claimed {
    /// The catalog's current revision.
    pub revision: i64,
    /// The events whose claims succeeded; the others are duplicates.
    pub won: Vec<EventId>,
    /// What is known about the recipients.
    pub facts: Facts,
    /// Apps behind a closed gate.
    pub gated_apps: Vec<Uuid>,
    /// Whether rows may still be admitted with a lease to the given worker.
    pub may_be_admitted_leased: bool,
}

/// Makes the statements of this transaction wait only briefly for locks.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn wait_briefly_for_locks(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SET LOCAL lock_timeout = '50ms'").execute(connection).await?;
    Ok(())
}

const CLAIM_KEYS: &str = include_str!("sql/claim_keys.sql");

/// Claims keys for `worker`, if this process sends, and reads what planning needs in the same statement. `claims` must
/// be sorted by (source, digest), or two replicas can deadlock.
///
/// # Errors
/// [`StoreError::Database`]; [`StoreError::is_passing`] if another transaction holds one of the keys.
pub async fn claim_keys(
    connection: &mut PgConnection,
    claims: &[KeyClaim],
    recipients: (&[&Recipient], &[Digest]),
    worker: Option<WorkerId>,
) -> Result<Claimed, StoreError> {
    let (recipients, digests) = recipients;
    let labels: Vec<&str> = recipients.iter().map(|r| r.label.as_str()).collect();
    let ids: Vec<&str> = recipients.iter().map(|r| r.id.as_str()).collect();
    let row = sqlx::query(CLAIM_KEYS)
        .bind(claims.iter().map(|c| c.source.uuid()).collect::<Vec<_>>())
        .bind(claims.iter().map(|c| c.digest.to_vec()).collect::<Vec<_>>())
        .bind(claims.iter().map(|c| c.fingerprint.as_slice()).collect::<Vec<_>>())
        .bind(claims.iter().map(|c| c.event.uuid()).collect::<Vec<_>>())
        .bind(labels)
        .bind(ids)
        .bind(worker.map(TypedId::uuid))
        .bind(digests.iter().map(<[u8; 32]>::as_slice).collect::<Vec<_>>())
        .fetch_one(connection)
        .await?;
    let won: Vec<Uuid> = row.try_get("won")?;
    let erased: Vec<Vec<u8>> = row.try_get("erased")?;
    Ok(Claimed {
        revision: row.try_get("revision")?,
        won: won.into_iter().map(EventId::from_uuid).collect(),
        facts: facts_of(row.try_get("facts")?, &erased, recipients, digests),
        gated_apps: row.try_get("gated_apps")?,
        may_be_admitted_leased: row.try_get("may_be_admitted_leased")?,
    })
}

/// The first post of a key.
#[derive(Debug, Clone)]
pub struct FirstPost {
    /// Its event.
    pub event: EventId,
    /// The fingerprint of its content.
    pub fingerprint: Vec<u8>,
}

/// Reads the first posts of keys whose claims failed.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find_first_posts(
    connection: &mut PgConnection,
    repeats: &[(SourceId, [u8; 32])],
) -> Result<HashMap<(SourceId, [u8; 32]), FirstPost>, StoreError> {
    let rows = sqlx::query(
        "SELECT k.source_id, k.key_digest, k.fingerprint, k.event_id
         FROM unnest($1::uuid[], $2::bytea[]) AS r (source_id, key_digest)
         JOIN event_keys k ON k.source_id = r.source_id AND k.key_digest = r.key_digest",
    )
    .bind(repeats.iter().map(|(source, _)| source.uuid()).collect::<Vec<_>>())
    .bind(repeats.iter().map(|(_, digest)| digest.to_vec()).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    let mut found = HashMap::with_capacity(rows.len());
    for row in rows {
        let digest: Vec<u8> = row.try_get("key_digest")?;
        let digest = digest.try_into().map_err(|_| StoreError::corrupt("event_keys", "key_digest", ""))?;
        let post = FirstPost {
            event: EventId::from_uuid(row.try_get("event_id")?),
            fingerprint: row.try_get("fingerprint")?,
        };
        found.insert((SourceId::from_uuid(row.try_get("source_id")?), digest), post);
    }
    Ok(found)
}

/// An event as it is stored: without the sensitive values in `data`.
#[derive(Debug)]
pub struct NewEvent<'a> {
    /// The event.
    pub event: &'a Event,
    /// Its recipients, without people who were erased.
    pub recipients: Vec<&'a Recipient>,
    /// Its data without the sensitive values, as JSON text.
    pub data: String,
    /// The sensitive values, sealed.
    pub sealed: Option<Vec<u8>>,
    /// The id of its only recipient, if nothing was planned for them.
    pub unanswered_for: Option<&'a str>,
}

const INSERT_EVENTS: &str = include_str!("sql/insert_events.sql");

/// Stores events with their payloads and sealed values, in one statement.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_all(connection: &mut PgConnection, events: &[NewEvent<'_>]) -> Result<(), StoreError> {
    let each = || events.iter().map(|new| new.event);
    let sealed: Vec<&NewEvent<'_>> = events.iter().filter(|new| new.sealed.is_some()).collect();
    sqlx::query(INSERT_EVENTS)
        .bind(each().map(|e| e.id.uuid()).collect::<Vec<_>>())
        .bind(each().map(|e| e.source.uuid()).collect::<Vec<_>>())
        .bind(each().map(|e| e.key.uuid()).collect::<Vec<_>>())
        .bind(each().map(|e| e.event_key.as_str()).collect::<Vec<_>>())
        .bind(each().map(|e| e.event_type.as_str()).collect::<Vec<_>>())
        .bind(events.iter().map(|new| recipients_text(&new.recipients)).collect::<Vec<_>>())
        .bind(each().map(|e| e.occurred_at).collect::<Vec<_>>())
        .bind(each().map(|e| e.received_at).collect::<Vec<_>>())
        .bind(each().map(|e| e.locale.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|e| e.send_after).collect::<Vec<_>>())
        .bind(each().map(|e| e.expires_at).collect::<Vec<_>>())
        .bind(each().map(|e| e.cancellation_key.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|e| e.collapse_key.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|e| e.sequence).collect::<Vec<_>>())
        .bind(each().map(|e| e.ordering_key.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|e| e.traceparent.as_deref()).collect::<Vec<_>>())
        .bind(each().map(|e| e.is_test).collect::<Vec<_>>())
        .bind(events.iter().map(|new| new.data.as_str()).collect::<Vec<_>>())
        .bind(sealed.iter().map(|new| new.event.id.uuid()).collect::<Vec<_>>())
        .bind(sealed.iter().map(|new| new.sealed.as_deref()).collect::<Vec<_>>())
        .bind(events.iter().map(|new| new.unanswered_for).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

fn recipients_text(recipients: &[&Recipient]) -> String {
    let pairs: Vec<(&str, &str)> = recipients.iter().map(|r| (r.label.as_str(), r.id.as_str())).collect();
    serde_json::to_string(&pairs).unwrap_or_else(|_| "[]".to_owned())
}

const EVENT_COLUMNS: &str = "SELECT e.*, e.recipients::text AS recipients_text, p.data::text AS data_text
    FROM events e
    LEFT JOIN LATERAL (SELECT data FROM event_payloads WHERE event_id = e.id AND {days of event_id} LIMIT 1) AS p ON true";

/// An event as it can be shown: without sealed values in `data`.
#[derive(Debug)]
pub struct StoredEvent {
    /// The event, its data without the sensitive values.
    pub event: Event,
}

impl Store {
    /// Finds events by id; unreadable ones are left out and logged.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_events(&self, ids: &[EventId]) -> Result<Vec<StoredEvent>, StoreError> {
        let mut rows = Vec::with_capacity(ids.len());
        for (days, ids) in parts_of(ids.iter().map(|id| id.uuid())) {
            let query = days.fill(&format!("{EVENT_COLUMNS} WHERE e.id = ANY ($1) AND {{days of e.id}}"));
            rows.extend(sqlx::query(query).bind(ids).fetch_all(self.pool()).await?);
        }
        let readable = rows.iter().filter_map(|row| {
            // One unreadable row must not stop the others.
            read_event(row)
                .inspect_err(|error| tracing::error!("an unreadable event was left out: {error}"))
                .ok()
        });
        Ok(readable.collect())
    }

    /// Finds one event.
    ///
    /// # Errors
    /// [`StoreError::Database`], or [`StoreError::Corrupt`] for an unreadable row.
    pub async fn find_event(&self, id: EventId) -> Result<Option<StoredEvent>, StoreError> {
        let query =
            Days::of(id.uuid()).fill(&format!("{EVENT_COLUMNS} WHERE e.id = $1 AND {{days of e.id}}"));
        let row = sqlx::query(query).bind(id.uuid()).fetch_optional(self.pool()).await?;
        row.as_ref().map(read_event).transpose()
    }
}

/// Reads an event from a row of `events` joined with its payload.
pub(super) fn read_event(row: &sqlx::postgres::PgRow) -> Result<StoredEvent, StoreError> {
    let id: Uuid = row.try_get("id")?;
    let corrupt = |column| StoreError::corrupt("events", column, EventId::from_uuid(id));
    let pairs: Vec<(String, String)> =
        serde_json::from_str(row.try_get("recipients_text")?).map_err(|_| corrupt("recipients"))?;
    let recipients = pairs.iter().map(|(label, id)| Recipient::parse(label, id));
    let data: Option<&str> = row.try_get("data_text")?;
    let event = Event {
        id: EventId::from_uuid(id),
        source: SourceId::from_uuid(row.try_get("source_id")?),
        key: KeyId::from_uuid(row.try_get("key_id")?),
        event_key: row.try_get("event_key")?,
        event_type: row.try_get::<&str, _>("type")?.parse::<EventTypeName>().map_err(|_| corrupt("type"))?,
        recipients: recipients.collect::<Result<_, _>>().map_err(|_| corrupt("recipients"))?,
        data: data
            .map_or(Ok(Value::Null), serde_json::from_str)
            .map_err(|_| StoreError::corrupt("event_payloads", "data", EventId::from_uuid(id)))?,
        occurred_at: row.try_get("occurred_at")?,
        received_at: row.try_get("received_at")?,
        locale: row.try_get("locale")?,
        send_after: row.try_get("send_after")?,
        expires_at: row.try_get("expires_at")?,
        cancellation_key: row.try_get("cancellation_key")?,
        collapse_key: row.try_get("collapse_key")?,
        sequence: row.try_get("sequence")?,
        ordering_key: row.try_get("ordering_key")?,
        traceparent: row.try_get("traceparent")?,
        is_test: row.try_get("is_test")?,
    };
    Ok(StoredEvent { event })
}

/// Reads a channel from a row.
pub(super) fn read_channel(word: &str, table: &'static str, id: Uuid) -> Result<Channel, StoreError> {
    word.parse().map_err(|_| StoreError::corrupt(table, "channel", id))
}
