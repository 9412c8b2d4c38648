//! Messages that OneSignal holds until their time, and requests to recall them.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::cancellable::bytes;
use super::days::parts_of;
use super::{Store, StoreError};
use crate::domain::answer::ProviderMessageId;
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, EventId, TypedId};

/// A delivery that was, or will be, submitted before its time.
#[derive(Debug, Clone)]
pub struct ScheduledMessage {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its event.
    pub event: EventId,
    /// Its rule's key.
    pub rule: String,
    /// The hash that a cancellation finds it by.
    pub cancel: Option<[u8; 32]>,
    /// When OneSignal sends it.
    pub send_after: Timestamp,
    /// Whether a recall was already requested.
    pub was_wanted: bool,
    /// Whether others that are not to be recalled are in the same call.
    pub shares_call: bool,
    /// Who requested the recall, if anyone.
    pub wanted_by: Option<String>,
}

fn read(row: &PgRow) -> Result<ScheduledMessage, StoreError> {
    let delivery = DeliveryId::from_uuid(row.try_get("delivery_id")?);
    let digest: Option<Vec<u8>> = row.try_get("cancel_digest")?;
    let corrupt = |_| StoreError::corrupt("scheduled_messages", "cancel_digest", delivery);
    Ok(ScheduledMessage {
        delivery,
        event: EventId::from_uuid(row.try_get("event_id")?),
        rule: row.try_get("rule_key")?,
        cancel: digest.map(TryInto::try_into).transpose().map_err(corrupt)?,
        send_after: row.try_get("send_after")?,
        was_wanted: row.try_get("was_wanted")?,
        shares_call: row.try_get("shares_call")?,
        wanted_by: row.try_get("wanted_by")?,
    })
}

/// Which of these deliveries, or of those under these cancellation digests, are at OneSignal or in flight.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn find(
    connection: &mut PgConnection,
    ids: &[DeliveryId],
    cancel: &[[u8; 32]],
) -> Result<Vec<ScheduledMessage>, StoreError> {
    let rows = sqlx::query(
        "SELECT h.delivery_id, h.event_id, h.rule_key, h.cancel_digest, h.send_after, h.wanted_by,
            h.wanted_at IS NOT NULL AS was_wanted,
            EXISTS (
                SELECT 1 FROM scheduled_messages o
                WHERE o.provider_message_id = h.provider_message_id AND o.wanted_at IS NULL
                  AND o.delivery_id <> h.delivery_id AND o.delivery_id <> ALL ($1)
                  AND (o.cancel_digest IS NULL OR o.cancel_digest <> ALL ($2))
            ) AS shares_call
         FROM scheduled_messages h
         WHERE h.delivery_id = ANY ($1) OR h.cancel_digest = ANY ($2)
         ORDER BY h.delivery_id",
    )
    .bind(ids.iter().map(|id| id.uuid()).collect::<Vec<_>>())
    .bind(bytes(cancel))
    .fetch_all(connection)
    .await?;
    rows.iter().map(read).collect()
}

/// Requests a recall of these, with a reason. The first request is kept. Rows are locked in the order of ids.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn want(
    connection: &mut PgConnection,
    wanted: &[(DeliveryId, &str)],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "WITH wanted AS (
            SELECT * FROM unnest($1::uuid[], $2::text[]) AS w (delivery_id, why)
         ), locked AS MATERIALIZED (
            SELECT h.delivery_id, w.why
            FROM scheduled_messages h
            JOIN wanted w ON w.delivery_id = h.delivery_id
            ORDER BY h.delivery_id
            FOR UPDATE OF h
         )
         UPDATE scheduled_messages h
         SET wanted_at = $3, wanted_by = l.why, next_try_at = $3
         FROM locked l
         WHERE h.delivery_id = l.delivery_id AND h.wanted_at IS NULL",
    )
    .bind(wanted.iter().map(|(id, _)| id.uuid()).collect::<Vec<_>>())
    .bind(wanted.iter().map(|(_, why)| *why).collect::<Vec<_>>())
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Stores OneSignal's ids of accepted messages.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn taken(
    connection: &mut PgConnection,
    messages: &[(DeliveryId, &ProviderMessageId)],
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE scheduled_messages h SET provider_message_id = m.message
         FROM unnest($1::uuid[], $2::text[]) AS m (delivery_id, message)
         WHERE h.delivery_id = m.delivery_id",
    )
    .bind(messages.iter().map(|(id, _)| id.uuid()).collect::<Vec<_>>())
    .bind(messages.iter().map(|(_, message)| message.0.as_str()).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// A message that is to be recalled, claimed for one attempt.
#[derive(Debug, Clone)]
pub struct Claimed {
    /// The message.
    pub message: ProviderMessageId,
    /// The app that it was sent through.
    pub app: AppId,
    /// Its deliveries, each with the number of this attempt.
    pub deliveries: Vec<(DeliveryId, i32)>,
}

/// A delivery of a message whose recall attempt has ended, with the recall's requester.
#[derive(Debug, Clone)]
pub struct Settled {
    /// The delivery.
    pub delivery: DeliveryId,
    /// Its event.
    pub event: EventId,
    /// Its rule's key.
    pub rule: String,
    /// Who requested the recall.
    pub wanted_by: String,
}

/// Settles an attempt: the rows are deleted, unless another attempt has begun since.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn settle(connection: &mut PgConnection, claimed: &Claimed) -> Result<Vec<Settled>, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM scheduled_messages h
         USING unnest($1::uuid[], $2::integer[]) AS c (delivery_id, tries)
         WHERE h.delivery_id = c.delivery_id AND h.tries = c.tries
         RETURNING h.delivery_id, h.event_id, h.rule_key, h.wanted_by",
    )
    .bind(claimed.deliveries.iter().map(|(id, _)| id.uuid()).collect::<Vec<_>>())
    .bind(claimed.deliveries.iter().map(|(_, tries)| *tries).collect::<Vec<_>>())
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_settled).collect()
}

fn read_settled(row: &PgRow) -> Result<Settled, StoreError> {
    Ok(Settled {
        delivery: DeliveryId::from_uuid(row.try_get("delivery_id")?),
        event: EventId::from_uuid(row.try_get("event_id")?),
        rule: row.try_get("rule_key")?,
        wanted_by: row.try_get::<Option<String>, _>("wanted_by")?.unwrap_or_default(),
    })
}

/// Ends accepted deliveries that OneSignal cancelled.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn end_recalled(
    connection: &mut PgConnection,
    ids: &[DeliveryId],
    now: Timestamp,
) -> Result<(), StoreError> {
    let query = "UPDATE deliveries SET state = 'cancelled', finished_at = $2
        WHERE id = ANY ($1) AND state = 'accepted' AND {days of id}";
    for (days, ids) in parts_of(ids.iter().map(|id| id.uuid())) {
        sqlx::query(days.fill(query)).bind(ids).bind(now).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Deletes recall requests of messages that were to be sent before `before`, at most `limit`: they could not be
/// recalled.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn give_up(
    connection: &mut PgConnection,
    before: Timestamp,
    limit: i64,
) -> Result<Vec<Settled>, StoreError> {
    let rows = sqlx::query(
        "DELETE FROM scheduled_messages
         WHERE ctid = ANY (ARRAY(
            SELECT ctid FROM scheduled_messages WHERE send_after < $1 AND wanted_at IS NOT NULL LIMIT $2
            FOR UPDATE SKIP LOCKED
         ))
         RETURNING delivery_id, event_id, rule_key, wanted_by",
    )
    .bind(before)
    .bind(limit)
    .fetch_all(connection)
    .await?;
    rows.iter().map(read_settled).collect()
}

impl Store {
    /// Recall requests of deliveries that came back from their call unsent, so that they are pending again; with the
    /// requester.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn wanted_unsent(
        &self,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<(DeliveryId, String)>, StoreError> {
        let rows = sqlx::query(
            "SELECT h.delivery_id, h.wanted_by
             FROM scheduled_messages h
             JOIN queue q ON q.delivery_id = h.delivery_id
             WHERE h.next_try_at <= $1 AND h.provider_message_id IS NULL
               AND q.state IN ('queued', 'retrying', 'held') AND q.first_ambiguous_at IS NULL
             LIMIT $2",
        )
        .bind(now)
        .bind(limit)
        .fetch_all(self.pool())
        .await?;
        rows.iter()
            .map(|row| Ok((DeliveryId::from_uuid(row.try_get("delivery_id")?), row.try_get("wanted_by")?)))
            .collect()
    }

    /// Claims messages all of whose deliveries are to be recalled, for one attempt each; no one else claims them before
    /// `again_at`. The advisory lock keeps two replicas from sharing a message.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_recalls(
        &self,
        without_apps: &[Uuid],
        again_at: Timestamp,
        limit: i64,
        now: Timestamp,
    ) -> Result<Vec<Claimed>, StoreError> {
        let rows = sqlx::query(include_str!("sql/claim_recalls.sql"))
            .bind(now)
            .bind(without_apps)
            .bind(limit)
            .bind(again_at)
            .fetch_all(self.pool())
            .await?;
        let mut claimed: Vec<Claimed> = Vec::new();
        for row in &rows {
            let message = ProviderMessageId(row.try_get("provider_message_id")?);
            let delivery = (DeliveryId::from_uuid(row.try_get("delivery_id")?), row.try_get("tries")?);
            match claimed.iter_mut().find(|one| one.message == message) {
                Some(one) => one.deliveries.push(delivery),
                None => claimed.push(Claimed {
                    message,
                    app: AppId(row.try_get("app_id")?),
                    deliveries: vec![delivery],
                }),
            }
        }
        Ok(claimed)
    }

    /// Schedules the next attempt for a claimed message at `at`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn reschedule_recall(&self, claimed: &Claimed, at: Timestamp) -> Result<(), StoreError> {
        self.end_try(claimed, at, 0).await
    }

    /// Releases a claimed message whose call was not made, or changed nothing: the attempt does not count.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn release_recall(&self, claimed: &Claimed, at: Timestamp) -> Result<(), StoreError> {
        self.end_try(claimed, at, 1).await
    }

    async fn end_try(&self, claimed: &Claimed, at: Timestamp, uncounted: i32) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE scheduled_messages h
             SET next_try_at = $3, tries = h.tries - $4
             FROM unnest($1::uuid[], $2::integer[]) AS c (delivery_id, tries)
             WHERE h.delivery_id = c.delivery_id AND h.tries = c.tries",
        )
        .bind(claimed.deliveries.iter().map(|(id, _)| id.uuid()).collect::<Vec<_>>())
        .bind(claimed.deliveries.iter().map(|(_, tries)| *tries).collect::<Vec<_>>())
        .bind(at)
        .bind(uncounted)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Deletes messages that were to be sent before `before` and have no recall request, at most `limit`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_scheduled(&self, before: Timestamp, limit: i64) -> Result<u64, StoreError> {
        let gone = sqlx::query(
            "DELETE FROM scheduled_messages
             WHERE ctid = ANY (ARRAY(
                SELECT ctid FROM scheduled_messages WHERE send_after < $1 AND wanted_at IS NULL LIMIT $2
                FOR UPDATE SKIP LOCKED
             ))",
        )
        .bind(before)
        .bind(limit)
        .execute(self.pool())
        .await?;
        Ok(gone.rows_affected())
    }
}
