//! Pending deliveries that have certainly not been sent: locked, so that the caller can end them.

use std::collections::HashMap;

use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::StoreError;
use super::days::parts_of;
use super::queue::{CLAIM_COLUMNS, Claim, read_claim};
use crate::domain::id::{DeliveryId, EventId, TypedId, WorkerId};

/// The criteria for pending deliveries; each of the three selects some of them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Named<'a> {
    /// Digests of cancellation keys.
    pub cancel: &'a [[u8; 32]],
    /// Digests of collapse keys.
    pub collapse: &'a [[u8; 32]],
    /// Themselves.
    pub ids: &'a [DeliveryId],
}

/// A pending delivery.
#[derive(Debug)]
pub struct Waiting {
    /// Its row.
    pub claim: Claim,
    /// The worker that leases it.
    pub worker: Option<WorkerId>,
    /// The hash that a cancellation finds it by.
    pub cancel: Option<[u8; 32]>,
    /// The hash that a newer event finds it by.
    pub collapse: Option<[u8; 32]>,
    /// Its event.
    pub event: EventId,
    /// Its rule's key.
    pub rule: String,
}

/// Locks the selected deliveries that are pending and have certainly not been sent, ordered by id, so that transactions
/// that end each other's deliveries can't deadlock.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn lock(connection: &mut PgConnection, named: Named<'_>) -> Result<Vec<Waiting>, StoreError> {
    find_with("FOR UPDATE OF q", connection, named).await
}

/// The same without locks, to see what could be ended.
///
/// # Errors
/// As for [`lock`].
pub async fn find(connection: &mut PgConnection, named: Named<'_>) -> Result<Vec<Waiting>, StoreError> {
    find_with("", connection, named).await
}

async fn find_with(
    locking: &str,
    connection: &mut PgConnection,
    named: Named<'_>,
) -> Result<Vec<Waiting>, StoreError> {
    let query = format!(
        "WITH named AS (
            SELECT q.delivery_id FROM queue q WHERE q.cancel_digest = ANY ($1)
            UNION
            SELECT q.delivery_id FROM queue q WHERE q.collapse_digest = ANY ($2)
            UNION
            SELECT id FROM unnest($3::uuid[]) AS i (id)
         )
         SELECT {CLAIM_COLUMNS}, q.worker_id, q.cancel_digest, q.collapse_digest
         FROM named n
         JOIN queue q ON q.delivery_id = n.delivery_id
         WHERE q.state IN ('queued', 'retrying', 'held') AND q.first_ambiguous_at IS NULL
         ORDER BY q.delivery_id
         {locking}"
    );
    let rows = sqlx::query(sqlx::AssertSqlSafe(query))
        .bind(bytes(named.cancel))
        .bind(bytes(named.collapse))
        .bind(named.ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let ids = rows.iter().map(|row| row.try_get("delivery_id")).collect::<Result<Vec<Uuid>, _>>()?;
    let mut planned: HashMap<Uuid, (Uuid, String)> = HashMap::new();
    for (days, ids) in parts_of(ids.iter().copied()) {
        let query = "SELECT id, event_id, rule_key FROM deliveries WHERE id = ANY ($1) AND {days of id}";
        let found: Vec<(Uuid, Uuid, String)> =
            sqlx::query_as(days.fill(query)).bind(ids).fetch_all(&mut *connection).await?;
        planned.extend(found.into_iter().map(|(id, event, rule)| (id, (event, rule))));
    }
    rows.iter()
        .zip(ids)
        .filter_map(|(row, id)| Some((row, planned.remove(&id)?)))
        .map(|(row, (event, rule))| {
            let claim = read_claim(row)?;
            let digest = |column| -> Result<Option<[u8; 32]>, StoreError> {
                let found: Option<Vec<u8>> = row.try_get(column)?;
                let corrupt = |_| StoreError::corrupt("queue", column, claim.delivery.id);
                found.map(TryInto::try_into).transpose().map_err(corrupt)
            };
            Ok(Waiting {
                cancel: digest("cancel_digest")?,
                collapse: digest("collapse_digest")?,
                worker: row.try_get::<Option<Uuid>, _>("worker_id")?.map(WorkerId::from_uuid),
                event: EventId::from_uuid(event),
                rule,
                claim,
            })
        })
        .collect()
}

/// The open deliveries under these cancellation digests, in whatever state.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn open_under(
    connection: &mut PgConnection,
    cancel: &[[u8; 32]],
) -> Result<Vec<DeliveryId>, StoreError> {
    let found: Vec<Uuid> = sqlx::query_scalar("SELECT delivery_id FROM queue WHERE cancel_digest = ANY ($1)")
        .bind(bytes(cancel))
        .fetch_all(connection)
        .await?;
    Ok(found.into_iter().map(DeliveryId::from_uuid).collect())
}

/// Digests as query parameters.
pub(super) fn bytes(digests: &[[u8; 32]]) -> Vec<Vec<u8>> {
    digests.iter().map(|digest| digest.to_vec()).collect()
}
