//! What is erased about a person in the history, in imports and elsewhere.
//!
//! Rows are kept, so that counts stay right; who they were about, and what they said, is not. Everything here can be
//! repeated: a row that was erased is not found again.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::Days;
use super::erased_outcomes::erase_of_deliveries;
use super::{Store, StoreError, delivery_reads};
use crate::domain::erasure::ERASED_ID;
use crate::domain::event::Recipient;
use crate::domain::id::{EventId, TypedId};

/// Rows that are changed in one transaction.
const AT_ONCE: i64 = 500;

/// The number of rows that were erased, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErasedRows {
    /// Deliveries.
    pub deliveries: u64,
    /// Events, with their data.
    pub events: u64,
    /// OneSignal's answers that named the person.
    pub answers: u64,
    /// Rejected rows of imports.
    pub import_rows: u64,
    /// Events and deliveries that something still open needs: they are erased later.
    pub waiting: u64,
}

impl ErasedRows {
    /// Adds what another step erased. What waits is counted anew each time.
    pub fn add(&mut self, other: Self) {
        self.deliveries += other.deliveries;
        self.events += other.events;
        self.answers += other.answers;
        self.import_rows += other.import_rows;
        self.waiting = other.waiting;
    }
}

/// An event's recipients as they are stored: labels with ids.
type Pairs = Vec<(String, String)>;

/// The names of a person, as parameters of statements.
#[derive(Debug, Clone)]
pub struct Names {
    recipients: Vec<Recipient>,
    labels: Vec<String>,
    ids: Vec<String>,
    /// The ids as JSON texts: what answers and stored recipients contain.
    quoted: Vec<String>,
}

impl Names {
    /// Takes recipients.
    pub fn new(recipients: Vec<Recipient>) -> Self {
        let quoted = |recipient: &Recipient| Value::from(recipient.id.as_str()).to_string();
        Self {
            labels: recipients.iter().map(|each| each.label.as_str().to_owned()).collect(),
            ids: recipients.iter().map(|each| each.id.clone()).collect(),
            quoted: recipients.iter().map(quoted).collect(),
            recipients,
        }
    }

    /// The recipients.
    pub fn recipients(&self) -> &[Recipient] {
        &self.recipients
    }

    /// Their labels and ids.
    pub(super) fn columns(&self) -> (&[String], &[String]) {
        (&self.labels, &self.ids)
    }

    /// As outcomes of audiences name people: `external_id=user-42`.
    pub(super) fn as_people(&self) -> Vec<String> {
        self.recipients.iter().map(|each| format!("{}={}", each.label.as_str(), each.id)).collect()
    }

    fn contains(&self, (label, id): &(String, String)) -> bool {
        self.recipients.iter().any(|each| each.label.as_str() == label && each.id == *id)
    }
}

impl Store {
    /// Erases what the history says about a person.
    ///
    /// # Errors
    /// [`StoreError::Database`]; what was erased stays so.
    pub async fn erase_history(&self, names: &Names) -> Result<ErasedRows, StoreError> {
        let mut erased = ErasedRows::default();
        for days in self.each_day("deliveries").await? {
            loop {
                let count = self.erase_deliveries(days, names).await?;
                erased.deliveries += count;
                if count < AT_ONCE.unsigned_abs() {
                    break;
                }
            }
            erased.waiting += self.open_on(days, names).await?;
            self.erase_in_audiences(days, names).await?;
        }
        self.delete_reports_about(names).await?;
        for days in self.each_day("events").await? {
            for hour in days.hours() {
                for (event, recipients) in self.events_naming(days, hour, names).await? {
                    if self.erase_event(event, &recipients, names).await? {
                        erased.events += 1;
                    } else {
                        erased.waiting += 1;
                    }
                }
            }
        }
        for days in self.each_day("attempts").await? {
            for hour in days.hours() {
                erased.answers += self.erase_answers(days, hour, names).await?;
            }
        }
        Ok(erased)
    }

    /// Erases finished deliveries of a day; returns how many.
    async fn erase_deliveries(&self, days: Days, names: &Names) -> Result<u64, StoreError> {
        let mut tx = self.begin().await?;
        let query = "SELECT d.id
            FROM deliveries d
            WHERE d.recipient_id = ANY ($2) AND {days of d.id} AND d.finished_at IS NOT NULL
              AND (d.recipient_label, d.recipient_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
            ORDER BY d.id
            LIMIT $3
            FOR UPDATE OF d";
        let ids: Vec<Uuid> = sqlx::query_scalar(days.fill(query))
            .bind(&names.labels)
            .bind(&names.ids)
            .bind(AT_ONCE)
            .fetch_all(&mut *tx)
            .await?;
        if ids.is_empty() {
            return Ok(0);
        }
        let values = "DELETE FROM delivery_values WHERE delivery_id = ANY ($1) AND {days of delivery_id}";
        sqlx::query(days.fill(values)).bind(&ids).execute(&mut *tx).await?;
        erase_of_deliveries(&mut tx, days, &ids).await?;
        let decisions = "UPDATE decisions SET detail = '', facts = json_build_object() WHERE delivery_id = ANY ($1) AND {days from id}";
        sqlx::query(days.fill(decisions)).bind(&ids).execute(&mut *tx).await?;
        let update = "UPDATE deliveries SET recipient_id = $2 WHERE id = ANY ($1) AND {days of id}";
        sqlx::query(days.fill(update)).bind(&ids).bind(ERASED_ID).execute(&mut *tx).await?;
        tx.commit().await?;
        Ok(u64::try_from(ids.len()).unwrap_or_default())
    }

    /// The number of a day's deliveries to a person that are open.
    async fn open_on(&self, days: Days, names: &Names) -> Result<u64, StoreError> {
        let query = "SELECT count(*)
            FROM deliveries d
            WHERE d.recipient_id = ANY ($2) AND {days of d.id}
              AND (d.recipient_label, d.recipient_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))";
        let open: i64 = sqlx::query_scalar(days.fill(query))
            .bind(&names.labels)
            .bind(&names.ids)
            .fetch_one(self.pool())
            .await?;
        Ok(open.unsigned_abs())
    }

    /// Events of an hour whose recipients include a person. There is no index for it: events with several recipients are
    /// not found by recipient otherwise.
    async fn events_naming(
        &self,
        days: Days,
        (first, end): (Uuid, Uuid),
        names: &Names,
    ) -> Result<Vec<(EventId, Pairs)>, StoreError> {
        let query = "SELECT e.id, e.recipients::text AS recipients
            FROM events e
            WHERE e.id >= $1 AND e.id < $2 AND {days of e.id}
              AND EXISTS (SELECT 1 FROM unnest($3::text[]) AS n (id) WHERE strpos(e.recipients::text, n.id) > 0)";
        let rows = sqlx::query(days.fill(query))
            .bind(first)
            .bind(end)
            .bind(&names.quoted)
            .fetch_all(self.pool())
            .await?;
        let mut found = Vec::new();
        for row in &rows {
            let id = EventId::from_uuid(row.try_get("id")?);
            let recipients: Vec<(String, String)> = serde_json::from_str(row.try_get("recipients")?)
                .map_err(|_| StoreError::corrupt("events", "recipients", id))?;
            if recipients.iter().any(|recipient| names.contains(recipient)) {
                found.push((id, recipients));
            }
        }
        Ok(found)
    }

    /// Erases an event's data, and a person from its recipients; `false`: something open still needs it.
    async fn erase_event(
        &self,
        event: EventId,
        recipients: &[(String, String)],
        names: &Names,
    ) -> Result<bool, StoreError> {
        let mut tx = self.begin().await?;
        if is_needed(&mut tx, event).await? {
            return Ok(false);
        }
        let others: Vec<&(String, String)> = recipients.iter().filter(|each| !names.contains(each)).collect();
        let days = Days::of(event.uuid());
        let query = "UPDATE events
            SET recipients = $2::json, event_key = 'erased', cancellation_key = NULL, collapse_key = NULL,
                ordering_key = NULL, unanswered_for = NULL
            WHERE id = $1 AND {days of id}";
        sqlx::query(days.fill(query))
            .bind(event.uuid())
            .bind(serde_json::to_string(&others).unwrap_or_else(|_| "[]".to_owned()))
            .execute(&mut *tx)
            .await?;
        for query in [
            "UPDATE event_payloads SET data = json_build_object() WHERE event_id = $1 AND {days of event_id}",
            "DELETE FROM event_secrets WHERE event_id = $1 AND {days of event_id}",
            "UPDATE decisions SET detail = '', facts = json_build_object() WHERE event_id = $1 AND delivery_id IS NULL AND {days from id}",
            "UPDATE webhook_deliveries SET sealed = NULL WHERE event_id = $1",
        ] {
            sqlx::query(days.fill(query)).bind(event.uuid()).execute(&mut *tx).await?;
        }
        let actions = "UPDATE planned_actions
            SET recipient_id = $4, body = json_build_object()
            WHERE event_id = $1 AND {days of id}
              AND (recipient_label, recipient_id) IN (SELECT * FROM unnest($2::text[], $3::text[]))";
        sqlx::query(days.fill(actions))
            .bind(event.uuid())
            .bind(&names.labels)
            .bind(&names.ids)
            .bind(ERASED_ID)
            .execute(&mut *tx)
            .await?;
        tx.commit().await?;
        Ok(true)
    }

    /// Erases OneSignal's answers of an hour that name a person; what an answer meant is kept.
    async fn erase_answers(
        &self,
        days: Days,
        (first, end): (Uuid, Uuid),
        names: &Names,
    ) -> Result<u64, StoreError> {
        let query = "UPDATE attempts
            SET body = NULL
            WHERE batch_id >= $1 AND batch_id < $2 AND {days of batch_id} AND body IS NOT NULL
              AND EXISTS (SELECT 1 FROM unnest($3::text[]) AS n (id) WHERE strpos(body, n.id) > 0)";
        let erased = sqlx::query(days.fill(query))
            .bind(first)
            .bind(end)
            .bind(&names.quoted)
            .execute(self.pool())
            .await?;
        Ok(erased.rows_affected())
    }

    /// Rejected rows of imports that contain an id of a person, after a line of an import.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn rejected_rows_with(
        &self,
        ids: &[&str],
        (import, line): (Uuid, i64),
    ) -> Result<Vec<(Uuid, i64, String)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT r.import_id, r.line, r.raw
             FROM import_rows r
             WHERE r.problem IS NOT NULL AND (r.import_id, r.line) > ($2, $3)
               AND EXISTS (SELECT 1 FROM unnest($1::text[]) AS n (id) WHERE strpos(lower(r.raw), lower(n.id)) > 0)
             ORDER BY r.import_id, r.line
             LIMIT $4",
        )
        .bind(ids)
        .bind(import)
        .bind(line)
        .bind(AT_ONCE)
        .fetch_all(self.pool())
        .await?)
    }

    /// Deletes rows of imports.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delete_import_rows(&self, rows: &[(Uuid, i64)]) -> Result<u64, StoreError> {
        let deleted = sqlx::query(
            "DELETE FROM import_rows r
             USING unnest($1::uuid[], $2::bigint[]) AS n (import_id, line)
             WHERE r.import_id = n.import_id AND r.line = n.line",
        )
        .bind(rows.iter().map(|(import, _)| *import).collect::<Vec<_>>())
        .bind(rows.iter().map(|(_, line)| *line).collect::<Vec<_>>())
        .execute(self.pool())
        .await?;
        Ok(deleted.rows_affected())
    }

    /// Deliveries to a person that are open, or that OneSignal holds until their time.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn pending_deliveries_to(&self, names: &Names) -> Result<Vec<Uuid>, StoreError> {
        let query = "SELECT d.id
            FROM deliveries d
            WHERE d.recipient_id = ANY ($2) AND {days of d.id}
              AND (d.recipient_label, d.recipient_id) IN (SELECT * FROM unnest($1::text[], $2::text[]))
              AND (
                EXISTS (SELECT 1 FROM queue q WHERE q.delivery_id = d.id OFFSET 0)
                OR EXISTS (SELECT 1 FROM scheduled_messages s WHERE s.delivery_id = d.id AND s.wanted_at IS NULL OFFSET 0)
              )";
        let mut found = Vec::new();
        for days in self.windows("deliveries", Uuid::nil(), Uuid::max()).await? {
            let ids: Vec<Uuid> = sqlx::query_scalar(days.fill(query))
                .bind(&names.labels)
                .bind(&names.ids)
                .fetch_all(self.pool())
                .await?;
            found.extend(ids);
        }
        Ok(found)
    }
}

/// Whether a delivery that is open, or a digest that is not sent yet, is made from an event.
async fn is_needed(connection: &mut PgConnection, event: EventId) -> Result<bool, StoreError> {
    let deliveries = delivery_reads::deliveries_and_replays_of(connection, event).await?;
    if deliveries.iter().any(|delivery| delivery.finished_at.is_none()) {
        return Ok(true);
    }
    let in_digest: bool = sqlx::query_scalar(
        "SELECT EXISTS (
            SELECT 1 FROM digest_items i JOIN queue q ON q.delivery_id = i.delivery_id WHERE i.event_id = $1
         )",
    )
    .bind(event.uuid())
    .fetch_one(connection)
    .await?;
    Ok(in_digest)
}
