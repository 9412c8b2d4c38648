//! Deliveries that need a person, grouped by reason: held ones and failed ones.

use std::collections::HashMap;

use sqlx::Row;
use sqlx::postgres::PgRow;
use uuid::Uuid;

use super::days::{Days, parts_of};
use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::event::{Recipient, RecipientLabel};
use crate::domain::id::{DeliveryId, EventId, TypedId, floor};

/// What the deliveries of an issue have in common.
#[derive(Debug, Clone, PartialEq, Eq)]
#[expect(missing_docs, reason = "the columns of the groups")]
pub struct IssueKey {
    pub state: String,
    pub code: String,
    pub rule: String,
    pub template: String,
    /// The detail of the decision, if it is the reason and contains nothing of the individual delivery.
    pub reason: Option<String>,
}

/// Deliveries that need attention for the same reason.
#[derive(Debug, Clone)]
pub struct IssueGroup {
    /// What they have in common.
    pub key: IssueKey,
    /// How many there are.
    pub count: i64,
    /// The decision about one of them.
    pub detail: String,
    /// The newest of them.
    pub example: DeliveryId,
    /// When the oldest was planned.
    pub oldest_at: Timestamp,
    /// When the newest was planned.
    pub newest_at: Timestamp,
}

/// A delivery of a group.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of the delivery and of its event")]
pub struct IssueMember {
    pub delivery: DeliveryId,
    pub event: EventId,
    pub event_key: String,
    pub event_type: String,
    pub channel: String,
    pub version: Option<i32>,
    pub recipient: Option<Recipient>,
    pub created_at: Timestamp,
    pub detail: String,
}

/// The maximum number of decisions scanned, newest first, and of deliveries grouped.
pub const DECISIONS: i64 = 50_000;

const GROUPS: &str = concat!(include_str!("sql/with_issues.sql"), include_str!("sql/issues.sql"));
const MEMBERS: &str = concat!(include_str!("sql/with_issues.sql"), include_str!("sql/issue_members.sql"));

impl Store {
    /// The groups of deliveries created since `since` that need a person, largest first; and whether all were scanned.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn issues(&self, since: Timestamp) -> Result<(Vec<IssueGroup>, bool), StoreError> {
        let query = self.days_of_issues(since).await?.fill(GROUPS);
        let rows = sqlx::query(query).bind(floor(since)).bind(DECISIONS).fetch_all(self.pool()).await?;
        let is_complete = match rows.first() {
            Some(row) => row.try_get::<i64, _>("looked_at")? < DECISIONS,
            None => true,
        };
        Ok((rows.iter().map(read_group).collect::<Result<_, StoreError>>()?, is_complete))
    }

    /// The deliveries of one group created since `since`, older than `before`, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn issue_members(
        &self,
        key: &IssueKey,
        since: Timestamp,
        before: Uuid,
        limit: i64,
    ) -> Result<Vec<IssueMember>, StoreError> {
        let query = self.days_of_issues(since).await?.fill(MEMBERS);
        let rows = sqlx::query(query)
            .bind(floor(since))
            .bind(DECISIONS)
            .bind(&key.state)
            .bind(&key.code)
            .bind(&key.rule)
            .bind(&key.template)
            .bind(&key.reason)
            .bind(before)
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        let events = rows.iter().map(|row| row.try_get("event_id")).collect::<Result<Vec<Uuid>, _>>()?;
        let mut named: HashMap<Uuid, (String, String)> = HashMap::new();
        for (days, ids) in parts_of(events.iter().copied()) {
            let query = "SELECT id, event_key, type FROM events WHERE id = ANY ($1) AND {days of id}";
            let found: Vec<(Uuid, String, String)> =
                sqlx::query_as(days.fill(query)).bind(ids).fetch_all(self.pool()).await?;
            named.extend(found.into_iter().map(|(id, key, kind)| (id, (key, kind))));
        }
        let known =
            rows.iter().zip(events).filter_map(|(row, event)| Some((row, named.get(&event)?.clone())));
        known.map(|(row, event)| read_member(row, event)).collect()
    }

    /// From the oldest delivery that a decision since `since` is about: most are about deliveries of the same day.
    async fn days_of_issues(&self, since: Timestamp) -> Result<Days, StoreError> {
        let query = "SELECT delivery_id
            FROM (
                SELECT delivery_id FROM decisions
                WHERE id >= $1 AND {days of id} AND delivery_id IS NOT NULL
                ORDER BY id DESC
                LIMIT $2
            ) AS recent
            ORDER BY delivery_id
            LIMIT 1";
        let oldest: Option<Uuid> = sqlx::query_scalar(Days::since_time(since).fill(query))
            .bind(floor(since))
            .bind(DECISIONS)
            .fetch_optional(self.pool())
            .await?;
        Ok(Days::since(oldest.unwrap_or(Uuid::max()).min(floor(since))))
    }
}

fn read_group(row: &PgRow) -> Result<IssueGroup, StoreError> {
    Ok(IssueGroup {
        key: IssueKey {
            state: row.try_get("state")?,
            code: row.try_get("code")?,
            rule: row.try_get("rule_key")?,
            template: row.try_get("template_key")?,
            reason: row.try_get("reason")?,
        },
        count: row.try_get("count")?,
        detail: row.try_get("detail")?,
        example: DeliveryId::from_uuid(row.try_get::<Uuid, _>("example")?),
        oldest_at: row.try_get("oldest_at")?,
        newest_at: row.try_get("newest_at")?,
    })
}

fn read_member(row: &PgRow, (event_key, event_type): (String, String)) -> Result<IssueMember, StoreError> {
    let label: Option<String> = row.try_get("recipient_label")?;
    let id: Option<String> = row.try_get("recipient_id")?;
    Ok(IssueMember {
        delivery: DeliveryId::from_uuid(row.try_get("delivery_id")?),
        event: EventId::from_uuid(row.try_get("event_id")?),
        event_key,
        event_type,
        channel: row.try_get("channel")?,
        version: row.try_get("template_version")?,
        recipient: label
            .zip(id)
            .map(|(label, id)| Recipient { label: RecipientLabel::from_label(&label), id }),
        created_at: row.try_get("created_at")?,
        detail: row.try_get("detail")?,
    })
}

impl Store {
    /// Held deliveries of one group, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn held_like(&self, key: &IssueKey, limit: i64) -> Result<Vec<DeliveryId>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(Days::since(self.oldest_open().await?).fill(
            "SELECT d.id
             FROM queue q
             CROSS JOIN LATERAL (SELECT * FROM deliveries WHERE id = q.delivery_id AND {days of id} LIMIT 1) AS d
             JOIN LATERAL (
                SELECT c.code, c.detail FROM decisions c
                WHERE c.delivery_id = d.id AND {days of c.id}
                ORDER BY c.id DESC
                LIMIT 1
             ) AS l ON l.code = $1 AND ($2::text IS NULL OR l.detail = $2)
             WHERE q.state = 'held' AND q.worker_id IS NULL AND d.rule_key = $3 AND d.template_key = $4
             ORDER BY d.id
             LIMIT $5",
        ))
        .bind(&key.code)
        .bind(&key.reason)
        .bind(&key.rule)
        .bind(&key.template)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().map(DeliveryId::from_uuid).collect())
    }
}
