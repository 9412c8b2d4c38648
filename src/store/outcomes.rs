//! Outcomes of deliveries: the merged facts, their counts, and the numbered feed.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::NaiveDate;
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::{parts, parts_of};
use super::{Store, StoreError};
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::{DeliveryId, EventId, TypedId};
use crate::domain::outcome::{Counts, Fact, Facts, OutcomeKind};

/// What outcomes are counted by.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "the key of `outcome_counts`")]
pub struct Dimensions {
    pub day: NaiveDate,
    pub template: String,
    pub version: i32,
    pub rule: String,
    pub event_type: String,
    pub channel: Channel,
    pub locale: String,
}

/// A delivery that was sent, as far as outcomes need it.
#[derive(Debug, Clone)]
pub struct SentDelivery {
    /// Its id.
    pub id: DeliveryId,
    /// Its event.
    pub event: EventId,
    /// The event's own id at its source.
    pub event_key: String,
    /// The person; `None` for an audience.
    pub recipient: Option<Recipient>,
    /// Whether OneSignal accepted it.
    pub is_accepted: bool,
    /// When OneSignal accepted it, or was to send it if it was scheduled there; `None` while it is open.
    pub sent_at: Option<Timestamp>,
    /// Whether it was scheduled: then OneSignal may have been asked to cancel it.
    pub is_scheduled: bool,
    /// What its outcomes are counted by; the day is that of `sent_at`, or of its id while it is open.
    pub dimensions: Dimensions,
}

/// One person's copies of a delivery: the delivery, and who it is if it is for an audience.
pub type Copy = (DeliveryId, String);

/// A new outcome for the feed.
#[derive(Debug, Clone)]
pub struct FeedEntry {
    /// Its number.
    pub number: i64,
    /// When it was recorded.
    pub recorded_at: Timestamp,
    /// The delivery.
    pub delivery: DeliveryId,
    /// The outcome as readers get it.
    pub body: Value,
}

/// An outcome of a delivery, as it is shown.
#[derive(Debug, Clone)]
pub struct OutcomeRow {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Who it is, if the delivery is for an audience.
    pub person: String,
    /// OneSignal's id of the device or address.
    pub subscription: String,
    /// What happened.
    pub kind: OutcomeKind,
    /// When, on what, and why.
    pub fact: Fact,
}

pub(super) const SENT_COLUMNS: &str = "SELECT d.id, d.event_id, d.rule_key, d.channel::text AS channel, d.template_key,
        coalesce(d.template_version, 0) AS template_version, coalesce(d.locale, '') AS locale, d.recipient_label,
        d.recipient_id, d.state = 'accepted' AS is_accepted, d.send_after IS NOT NULL AS is_scheduled,
        CASE WHEN d.finished_at IS NOT NULL THEN greatest(d.finished_at, d.send_after) END AS sent_at
    FROM deliveries d";

/// Deliveries with what their outcomes are counted by.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn sent_deliveries(
    connection: &mut PgConnection,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<DeliveryId, SentDelivery>, StoreError> {
    let query = format!("{SENT_COLUMNS} WHERE d.id = ANY ($1) AND {{days of d.id}}");
    let mut rows = Vec::new();
    for (days, ids) in parts_of(ids) {
        rows.extend(sqlx::query(days.fill(&query)).bind(ids).fetch_all(&mut *connection).await?);
    }
    let found = rows.iter().map(read_sent).collect::<Result<Vec<_>, _>>()?;
    with_events(connection, found).await
}

/// The same of some of these deliveries: those to recipients with these ids. Found by recipient, since a call can have
/// thousands of members.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn sent_to(
    connection: &mut PgConnection,
    members: &BTreeSet<Uuid>,
    recipients: &[&str],
) -> Result<HashMap<DeliveryId, SentDelivery>, StoreError> {
    let query = format!("{SENT_COLUMNS} WHERE d.recipient_id = ANY ($1) AND {{days of d.id}}");
    let mut found = Vec::new();
    for (days, _) in parts_of(members.iter().copied()) {
        for row in &sqlx::query(days.fill(&query)).bind(recipients).fetch_all(&mut *connection).await? {
            if members.contains(&row.try_get("id")?) {
                found.push(read_sent(row)?);
            }
        }
    }
    with_events(connection, found).await
}

/// Adds what their events say.
async fn with_events(
    connection: &mut PgConnection,
    mut found: Vec<SentDelivery>,
) -> Result<HashMap<DeliveryId, SentDelivery>, StoreError> {
    let mut events: HashMap<Uuid, (String, String)> = HashMap::new();
    for (days, ids) in parts_of(found.iter().map(|sent| sent.event.uuid())) {
        let query = days
            .fill("SELECT e.id, e.type, e.event_key FROM events e WHERE e.id = ANY ($1) AND {days of e.id}");
        let rows: Vec<(Uuid, String, String)> =
            sqlx::query_as(query).bind(ids).fetch_all(&mut *connection).await?;
        events.extend(rows.into_iter().map(|(id, name, key)| (id, (name, key))));
    }
    for sent in &mut found {
        if let Some((name, key)) = events.get(&sent.event.uuid()) {
            sent.dimensions.event_type.clone_from(name);
            sent.event_key.clone_from(key);
        }
    }
    Ok(found.into_iter().map(|sent| (sent.id, sent)).collect())
}

pub(super) fn read_sent(row: &PgRow) -> Result<SentDelivery, StoreError> {
    let id = DeliveryId::from_uuid(row.try_get("id")?);
    let label: Option<String> = row.try_get("recipient_label")?;
    let recipient_id: Option<String> = row.try_get("recipient_id")?;
    let sent_at: Option<Timestamp> = row.try_get("sent_at")?;
    let channel: &str = row.try_get("channel")?;
    Ok(SentDelivery {
        id,
        event: EventId::from_uuid(row.try_get("event_id")?),
        event_key: String::new(),
        recipient: label
            .zip(recipient_id)
            .map(|(label, id)| Recipient { label: RecipientLabel::from_label(&label), id }),
        is_accepted: row.try_get("is_accepted")?,
        sent_at,
        is_scheduled: row.try_get("is_scheduled")?,
        dimensions: Dimensions {
            day: sent_at.unwrap_or_else(|| crate::domain::id::made_at(id.uuid())).date_naive(),
            template: row.try_get("template_key")?,
            version: row.try_get("template_version")?,
            rule: row.try_get("rule_key")?,
            event_type: String::new(),
            channel: channel.parse().map_err(|_| StoreError::corrupt("deliveries", "channel", id))?,
            locale: row.try_get("locale")?,
        },
    })
}

/// What is known about these copies.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn facts_of(
    connection: &mut PgConnection,
    copies: &[Copy],
) -> Result<HashMap<Copy, Facts>, StoreError> {
    const KNOWN: &str = "SELECT o.*
        FROM unnest($1::uuid[], $2::text[]) AS c (delivery_id, person)
        CROSS JOIN LATERAL (
            SELECT * FROM outcomes WHERE delivery_id = c.delivery_id AND person = c.person AND {days of delivery_id} OFFSET 0
        ) AS o";
    let mut known: HashMap<Copy, Facts> = HashMap::new();
    for (days, copies) in parts(copies, |(delivery, _)| delivery.uuid()) {
        let rows = sqlx::query(days.fill(KNOWN))
            .bind(copies.iter().map(|(delivery, _)| delivery.uuid()).collect::<Vec<_>>())
            .bind(copies.iter().map(|(_, person)| person.as_str()).collect::<Vec<_>>())
            .fetch_all(&mut *connection)
            .await?;
        for row in &rows {
            let row = read_outcome(row)?;
            known.entry((row.delivery, row.person)).or_default().add((row.subscription, row.kind), row.fact);
        }
    }
    Ok(known)
}

fn read_outcome(row: &PgRow) -> Result<OutcomeRow, StoreError> {
    Ok(OutcomeRow {
        delivery: DeliveryId::from_uuid(row.try_get("delivery_id")?),
        person: row.try_get("person")?,
        subscription: row.try_get("subscription")?,
        kind: OutcomeKind::from_name(row.try_get("kind")?),
        fact: Fact {
            first_at: row.try_get("first_at")?,
            last_at: row.try_get("last_at")?,
            device: row.try_get("device")?,
            reason: row.try_get("reason")?,
        },
    })
}

/// Writes facts, each instead of what was known before.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn put_facts(connection: &mut PgConnection, rows: &[OutcomeRow]) -> Result<(), StoreError> {
    // The day of the rows is known to Postgres by their values: an insert looks at no other partition.
    const PUT: &str = "INSERT INTO outcomes AS o
            (delivery_id, person, subscription, kind, first_at, last_at, device, reason)
        SELECT * FROM unnest($1::uuid[], $2::text[], $3::text[], $4::text[], $5::timestamptz[], $6::timestamptz[],
            $7::text[], $8::text[])
        ON CONFLICT (delivery_id, person, subscription, kind) DO UPDATE
        SET first_at = excluded.first_at, last_at = excluded.last_at, device = excluded.device, reason = excluded.reason";
    sqlx::query(PUT)
        .bind(rows.iter().map(|row| row.delivery.uuid()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.person.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.subscription.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.kind.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.fact.first_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.fact.last_at).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.fact.device.as_str()).collect::<Vec<_>>())
        .bind(rows.iter().map(|row| row.fact.reason.as_str()).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Adds to the counts.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn add_counts(
    connection: &mut PgConnection,
    changes: &BTreeMap<Dimensions, Counts>,
) -> Result<(), StoreError> {
    sqlx::query(include_str!("sql/add_counts.sql"))
        .bind(changes.keys().map(|by| by.day).collect::<Vec<_>>())
        .bind(changes.keys().map(|by| by.template.as_str()).collect::<Vec<_>>())
        .bind(changes.keys().map(|by| by.version).collect::<Vec<_>>())
        .bind(changes.keys().map(|by| by.rule.as_str()).collect::<Vec<_>>())
        .bind(changes.keys().map(|by| by.event_type.as_str()).collect::<Vec<_>>())
        .bind(changes.keys().map(|by| by.channel.as_str()).collect::<Vec<_>>())
        .bind(changes.keys().map(|by| by.locale.as_str()).collect::<Vec<_>>())
        .bind(changes.values().map(Json).collect::<Vec<_>>())
        .execute(connection)
        .await?;
    Ok(())
}

/// Locks the feed's position until the commit, and returns it; `None` if someone else has it.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock_position(connection: &mut PgConnection) -> Result<Option<i64>, StoreError> {
    let query = "SELECT number FROM outcome_position FOR UPDATE SKIP LOCKED";
    Ok(sqlx::query_scalar(query).fetch_optional(connection).await?)
}

/// Appends to the feed. The position has to be locked.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn append(connection: &mut PgConnection, entries: &[FeedEntry]) -> Result<(), StoreError> {
    let Some(last) = entries.last() else { return Ok(()) };
    sqlx::query(
        "INSERT INTO outcome_feed (number, recorded_at, delivery_id, body)
         SELECT number, recorded_at, delivery_id, body::json
         FROM unnest($1::bigint[], $2::timestamptz[], $3::uuid[], $4::text[]) AS e (number, recorded_at, delivery_id, body)",
    )
    .bind(entries.iter().map(|entry| entry.number).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.recorded_at).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.delivery.uuid()).collect::<Vec<_>>())
    .bind(entries.iter().map(|entry| entry.body.to_string()).collect::<Vec<_>>())
    .execute(&mut *connection)
    .await?;
    sqlx::query("UPDATE outcome_position SET number = $1").bind(last.number).execute(connection).await?;
    Ok(())
}

impl Store {
    /// The outcomes of deliveries, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn outcomes_of_deliveries(&self, ids: &[DeliveryId]) -> Result<Vec<OutcomeRow>, StoreError> {
        let mut found = Vec::new();
        for (days, ids) in parts_of(ids.iter().map(|id| id.uuid())) {
            let query =
                "SELECT * FROM outcomes WHERE delivery_id = ANY ($1) AND {days of delivery_id} LIMIT 1000";
            for row in &sqlx::query(days.fill(query)).bind(ids).fetch_all(self.pool()).await? {
                found.push(read_outcome(row)?);
            }
        }
        // Events of a stream have whole seconds: what comes first in a delivery comes first in the list.
        found.sort_by(|one, other| {
            (one.fact.first_at, &one.kind, &one.subscription).cmp(&(
                other.fact.first_at,
                &other.kind,
                &other.subscription,
            ))
        });
        Ok(found)
    }

    /// Deletes feed entries that were recorded before `before`, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_feed(&self, before: Timestamp, limit: i64) -> Result<(), StoreError> {
        // Numbers and times have the same order, except where the clock went back.
        sqlx::query(
            "DELETE FROM outcome_feed
             WHERE number IN (SELECT number FROM outcome_feed ORDER BY number LIMIT $2) AND recorded_at < $1",
        )
        .bind(before)
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
