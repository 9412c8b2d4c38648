//! Replays: finding deliveries that can be replayed, and creating the new ones.

use serde_json::Value;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::Days;
use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::{NO_PACK_LIMIT, StateName};
use crate::domain::id::{DeliveryId, ReplayId, TemplateVersionId, TypedId, floor};

/// Which deliveries to replay. All given criteria have to match.
#[derive(Debug, Clone, Default)]
pub struct ReplayFilter {
    /// These deliveries; the other criteria then narrow them down.
    pub deliveries: Vec<DeliveryId>,
    /// In one of these final states.
    pub states: Vec<StateName>,
    /// Of this event type.
    pub event_type: Option<String>,
    /// By this rule.
    pub rule: Option<String>,
    /// Of this template.
    pub template: Option<String>,
    /// With this code in the last decision about it.
    pub code: Option<String>,
    /// Created at this time or later.
    pub since: Option<Timestamp>,
    /// Created before this time.
    pub until: Option<Timestamp>,
}

/// A delivery that a filter found.
#[derive(Debug, Clone)]
pub struct Found {
    /// Its id.
    pub id: DeliveryId,
    /// Its last decision: code and detail.
    pub why: Option<(String, String)>,
    /// A replay of it that is in progress or was sent.
    pub replayed_as: Option<DeliveryId>,
}

/// A delivery to be replayed.
#[derive(Debug, Clone)]
pub struct Again {
    /// The new one.
    pub id: DeliveryId,
    /// The old one.
    pub of: DeliveryId,
    /// The version it is pinned to, and the locale.
    pub version: (TemplateVersionId, i32),
    /// See `version`.
    pub locale: String,
    /// Not after this time.
    pub expires_at: Timestamp,
}

/// A stored replay.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `replays`")]
pub struct ReplayRow {
    pub id: ReplayId,
    pub at: Timestamp,
    pub actor: String,
    pub reason: String,
    pub request: Value,
    pub deliveries: i32,
}

const FIND: &str = include_str!("sql/find_replayable.sql");

impl Store {
    /// Final deliveries that match the filter, oldest first, `limit` at most.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_replayable(&self, filter: &ReplayFilter, limit: i64) -> Result<Vec<Found>, StoreError> {
        let rows = sqlx::query(self.days_to_replay(filter).await?.fill(FIND))
            .bind(filter.deliveries.iter().map(|id| id.uuid()).collect::<Vec<_>>())
            .bind(filter.states.iter().map(|state| state.as_str()).collect::<Vec<_>>())
            .bind(filter.event_type.as_deref())
            .bind(filter.rule.as_deref())
            .bind(filter.template.as_deref())
            .bind(filter.code.as_deref())
            .bind(filter.since.map_or(Uuid::nil(), floor))
            .bind(filter.until.map_or(Uuid::max(), floor))
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter()
            .map(|row| {
                let code: Option<String> = row.try_get("code")?;
                let detail: Option<String> = row.try_get("detail")?;
                Ok(Found {
                    id: DeliveryId::from_uuid(row.try_get("id")?),
                    why: code.zip(detail),
                    replayed_as: row.try_get::<Option<Uuid>, _>("replayed_as")?.map(DeliveryId::from_uuid),
                })
            })
            .collect()
    }

    /// The days of the deliveries that a filter names, and of the events of those that are replays themselves.
    async fn days_to_replay(&self, filter: &ReplayFilter) -> Result<Days, StoreError> {
        let ids = || filter.deliveries.iter().map(|id| id.uuid());
        let low = ids().min().unwrap_or(filter.since.map_or(Uuid::nil(), floor));
        let high = ids().max().unwrap_or(filter.until.map_or(Uuid::max(), floor));
        let days = Days::between(low, high.max(low));
        if filter.event_type.is_none() {
            return Ok(days);
        }
        let query = "SELECT event_id
            FROM deliveries
            WHERE id >= $1 AND id <= $2 AND {days of id} AND replay_of IS NOT NULL
            ORDER BY event_id
            LIMIT 1";
        let oldest: Option<Uuid> =
            sqlx::query_scalar(days.fill(query)).bind(low).bind(high).fetch_optional(self.pool()).await?;
        Ok(Days::between(oldest.unwrap_or(low).min(low), high.max(low)))
    }

    /// Replays, newest first; `before` is the last id of the previous page.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn list_replays(
        &self,
        before: Option<ReplayId>,
        limit: i64,
    ) -> Result<Vec<ReplayRow>, StoreError> {
        let rows = sqlx::query("SELECT * FROM replays WHERE id < $1 ORDER BY id DESC LIMIT $2")
            .bind(before.map_or(Uuid::max(), TypedId::uuid))
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read_replay).collect()
    }
}

fn read_replay(row: &sqlx::postgres::PgRow) -> Result<ReplayRow, StoreError> {
    Ok(ReplayRow {
        id: ReplayId::from_uuid(row.try_get("id")?),
        at: row.try_get("at")?,
        actor: row.try_get("actor")?,
        reason: row.try_get("reason")?,
        request: row.try_get("request")?,
        deliveries: row.try_get("deliveries")?,
    })
}

/// Serializes replays until the transaction ends: each has to see what another one has created.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(connection: &mut PgConnection) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('herald replays', 0))")
        .execute(connection)
        .await?;
    Ok(())
}

/// The replay that a request created, if it was carried out before. Under [`lock`], the answer stays valid.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find_of_request(
    connection: &mut PgConnection,
    key: &str,
) -> Result<Option<ReplayRow>, StoreError> {
    let row = sqlx::query("SELECT * FROM replays WHERE request_key = $1")
        .bind(key)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read_replay).transpose()
}

/// Creates replays, due now and with bulk priority. Deliveries with a replay that is in progress or was sent are left
/// out unless `may_duplicate`; returns the new ones that were created.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    tx: &mut Tx,
    again: &[Again],
    may_duplicate: bool,
    now: Timestamp,
) -> Result<Vec<DeliveryId>, StoreError> {
    let old = || again.iter().map(|a| a.of.uuid());
    let (Some(first), Some(last)) = (old().min(), old().max()) else { return Ok(Vec::new()) };
    let made: Vec<Uuid> =
        sqlx::query_scalar(Days::between(first, last).fill(include_str!("sql/insert_replays.sql")))
            .bind(again.iter().map(|a| a.id.uuid()).collect::<Vec<_>>())
            .bind(again.iter().map(|a| a.of.uuid()).collect::<Vec<_>>())
            .bind(again.iter().map(|a| a.version.0.uuid()).collect::<Vec<_>>())
            .bind(again.iter().map(|a| a.version.1).collect::<Vec<_>>())
            .bind(again.iter().map(|a| a.locale.as_str()).collect::<Vec<_>>())
            .bind(again.iter().map(|a| a.expires_at).collect::<Vec<_>>())
            .bind(may_duplicate)
            .bind(now)
            .bind(i16::try_from(NO_PACK_LIMIT).unwrap_or(i16::MAX))
            .fetch_all(&mut **tx)
            .await?;
    Ok(made.into_iter().map(DeliveryId::from_uuid).collect())
}

/// Stores a replay.
///
/// # Errors
/// [`StoreError::Database`]; a second one with the same request key is rejected.
pub async fn insert_row(tx: &mut Tx, row: &ReplayRow, request_key: Option<&str>) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO replays (id, at, actor, reason, request, deliveries, request_key)
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(row.id.uuid())
    .bind(row.at)
    .bind(&row.actor)
    .bind(&row.reason)
    .bind(&row.request)
    .bind(row.deliveries)
    .bind(request_key)
    .execute(&mut **tx)
    .await?;
    Ok(())
}
