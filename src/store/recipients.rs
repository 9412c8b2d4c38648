//! One person's history: their aliases, what was planned for them, and which events had nothing for them.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::Days;
use super::delivery_reads::{DELIVERY_COLUMNS, DeliveryRow, read_delivery};
use super::events::{StoredEvent, read_event};
use super::search::missing;
use super::{Store, StoreError};
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::{DeliveryId, TypedId};

/// The maximum number of aliases of one person.
const NAMES: i64 = 50;
/// The maximum number of deliveries scanned for the labels of an id.
const LOOKED_AT: i64 = 200;

fn labels_and_ids(people: &[Recipient]) -> (Vec<&str>, Vec<&str>) {
    people.iter().map(|person| (person.label.as_str(), person.id.as_str())).unzip()
}

fn read_recipient((label, id): (String, String)) -> Recipient {
    Recipient { label: RecipientLabel::from_label(&label), id }
}

/// The other aliases of the people with these External IDs.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn aliases_of_external_ids(
    connection: &mut PgConnection,
    ids: &[&str],
) -> Result<HashMap<String, Vec<Recipient>>, StoreError> {
    let rows: Vec<(String, String, String)> = sqlx::query_as(
        "SELECT a.alias, o.label, o.alias
         FROM user_aliases a
         JOIN user_aliases o ON o.user_id = a.user_id AND o.label <> 'external_id'
         WHERE a.label = 'external_id' AND a.alias = ANY ($1)",
    )
    .bind(ids)
    .fetch_all(connection)
    .await?;
    let mut found: HashMap<String, Vec<Recipient>> = HashMap::new();
    for (external, label, id) in rows {
        found.entry(external).or_default().push(Recipient { label: RecipientLabel::from_label(&label), id });
    }
    Ok(found)
}

impl Store {
    /// Every alias of the person who has this one, itself first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn names_of(&self, person: &Recipient) -> Result<Vec<Recipient>, StoreError> {
        let others: Vec<(String, String)> = sqlx::query_as(
            "SELECT o.label, o.alias
             FROM user_aliases a
             JOIN user_aliases o ON o.user_id = a.user_id
             WHERE a.label = $1 AND a.alias = $2
             ORDER BY o.label, o.alias
             LIMIT $3",
        )
        .bind(person.label.as_str())
        .bind(&person.id)
        .bind(NAMES)
        .fetch_all(self.pool())
        .await?;
        let others = others.into_iter().map(read_recipient).filter(|other| other != person);
        Ok(std::iter::once(person.clone()).chain(others).collect())
    }

    /// The people who have this id or address, under any label: known users, and recipients of deliveries.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn people_with_id(&self, id: &str) -> Result<Vec<Recipient>, StoreError> {
        let mut labels: Vec<String> =
            sqlx::query_scalar("SELECT label FROM user_aliases WHERE alias = $1 LIMIT $2")
                .bind(id)
                .bind(NAMES)
                .fetch_all(self.pool())
                .await?;
        let mut looked_at = 0;
        for days in self.windows("deliveries", Uuid::nil(), Uuid::max()).await? {
            let query = "SELECT recipient_label
                FROM deliveries
                WHERE recipient_id = $1 AND {days of id}
                ORDER BY id DESC
                LIMIT $2";
            let left = missing(LOOKED_AT, looked_at);
            let found: Vec<String> =
                sqlx::query_scalar(days.fill(query)).bind(id).bind(left).fetch_all(self.pool()).await?;
            looked_at += found.len();
            labels.extend(found);
            if missing(LOOKED_AT, looked_at) == 0 {
                break;
            }
        }
        labels.sort_unstable();
        labels.dedup();
        Ok(labels.into_iter().map(|label| read_recipient((label, id.to_owned()))).collect())
    }

    /// What was planned for a person under any of these aliases, older than `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn deliveries_to(
        &self,
        names: &[Recipient],
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<DeliveryRow>, StoreError> {
        let (labels, ids) = labels_and_ids(names);
        let query = format!(
            "{DELIVERY_COLUMNS}
             WHERE d.recipient_id = ANY ($2) AND d.id < $3 AND {{days of d.id}}
               AND (d.recipient_label, d.recipient_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
             ORDER BY d.id DESC
             LIMIT $4"
        );
        let mut found = Vec::new();
        for days in self.windows("deliveries", Uuid::nil(), before).await? {
            let rows = sqlx::query(days.fill(&query))
                .bind(&labels)
                .bind(&ids)
                .bind(before)
                .bind(missing(limit, found.len()))
                .fetch_all(self.pool())
                .await?;
            for row in &rows {
                found.push(read_delivery(row)?);
            }
            if missing(limit, found.len()) == 0 {
                break;
            }
        }
        Ok(found)
    }

    /// Events for a person under any of these aliases for which nothing was planned, older than `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn unanswered_events_of(
        &self,
        names: &[Recipient],
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<StoredEvent>, StoreError> {
        let (_, ids) = labels_and_ids(names);
        let query = "SELECT e.*, e.recipients::text AS recipients_text, NULL::text AS data_text
            FROM events e
            WHERE e.unanswered_for = ANY ($1) AND e.id < $2 AND {days of e.id}
            ORDER BY e.id DESC
            LIMIT $3";
        let mut events = Vec::new();
        for days in self.windows("events", Uuid::nil(), before).await? {
            let left = missing(limit, events.len());
            let rows = sqlx::query(days.fill(query))
                .bind(&ids)
                .bind(before)
                .bind(left)
                .fetch_all(self.pool())
                .await?;
            for row in &rows {
                events.push(read_event(row)?);
            }
            if missing(limit, events.len()) == 0 {
                break;
            }
        }
        let is_theirs = |event: &StoredEvent| event.event.recipients.iter().any(|to| names.contains(to));
        Ok(events.into_iter().filter(is_theirs).collect())
    }

    /// The detail of the last decision about each of these deliveries; successful ones have none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn last_words(
        &self,
        deliveries: &[DeliveryId],
    ) -> Result<HashMap<DeliveryId, String>, StoreError> {
        let ids: Vec<Uuid> = deliveries.iter().map(|id| id.uuid()).collect();
        let Some(first) = ids.iter().min() else { return Ok(HashMap::new()) };
        let query = "SELECT DISTINCT ON (delivery_id) delivery_id, detail
            FROM decisions
            WHERE delivery_id = ANY ($1) AND {days of id}
            ORDER BY delivery_id, id DESC";
        let rows = sqlx::query(Days::after(*first).fill(query)).bind(ids).fetch_all(self.pool()).await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok((DeliveryId::from_uuid(row.try_get("delivery_id")?), row.try_get("detail")?))
        };
        rows.iter().map(read).collect()
    }
}
