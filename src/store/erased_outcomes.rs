//! What is erased about a person in outcomes: who it was, on which device, and why. The counts stay.

use sqlx::PgConnection;
use uuid::Uuid;

use super::days::Days;
use super::erased_history::Names;
use super::{Store, StoreError};

/// Erases the person from the outcomes of deliveries to them, all of these days.
///
/// # Errors
/// [`StoreError::Database`].
pub(super) async fn erase_of_deliveries(
    connection: &mut PgConnection,
    days: Days,
    deliveries: &[Uuid],
) -> Result<(), StoreError> {
    // Devices stay apart.
    let outcomes = "WITH numbered AS (
            SELECT o.delivery_id, o.person, o.subscription, o.kind,
                dense_rank() OVER (PARTITION BY o.delivery_id ORDER BY o.subscription) AS n
            FROM outcomes o
            WHERE o.delivery_id = ANY ($1) AND {days of o.delivery_id}
        )
        UPDATE outcomes o
        SET subscription = 'erased-' || n.n, reason = ''
        FROM numbered n
        WHERE (o.delivery_id, o.person, o.subscription, o.kind) = (n.delivery_id, n.person, n.subscription, n.kind)
          AND {days of o.delivery_id}";
    sqlx::query(days.fill(outcomes)).bind(deliveries).execute(&mut *connection).await?;
    sqlx::query(
        "UPDATE outcome_feed
         SET body = (body::jsonb || jsonb_build_object(
            'recipient', jsonb_build_object('erased', true), 'subscription', '', 'reason', NULL, 'event_key', 'erased'
         ))::json
         WHERE delivery_id = ANY ($1)",
    )
    .bind(deliveries)
    .execute(connection)
    .await?;
    Ok(())
}

impl Store {
    /// Erases a person from the outcomes of a day's deliveries to audiences.
    pub(super) async fn erase_in_audiences(&self, days: Days, names: &Names) -> Result<(), StoreError> {
        let people = names.as_people();
        let outcomes = "WITH numbered AS (
                SELECT o.delivery_id, o.person, o.subscription, o.kind,
                    dense_rank() OVER (PARTITION BY o.delivery_id, o.person ORDER BY o.subscription) AS n
                FROM outcomes o
                WHERE o.person = ANY ($1) AND {days of o.delivery_id}
            ),
            stranger AS MATERIALIZED (SELECT 'erased=' || gen_random_uuid() AS name)
            UPDATE outcomes o
            SET person = s.name, subscription = 'erased-' || n.n, reason = ''
            FROM numbered n, stranger s
            WHERE (o.delivery_id, o.person, o.subscription, o.kind) = (n.delivery_id, n.person, n.subscription, n.kind)
              AND {days of o.delivery_id}
            RETURNING o.delivery_id";
        let found: Vec<Uuid> =
            sqlx::query_scalar(days.fill(outcomes)).bind(&people).fetch_all(self.pool()).await?;
        if found.is_empty() {
            return Ok(());
        }
        sqlx::query(
            "UPDATE outcome_feed
             SET body = (body::jsonb || jsonb_build_object(
                'recipient', jsonb_build_object('erased', true), 'subscription', '', 'reason', NULL
             ))::json
             WHERE delivery_id = ANY ($1)
               AND (SELECT r.key || '=' || r.value FROM json_each_text(body -> 'recipient') AS r LIMIT 1) = ANY ($2)",
        )
        .bind(found)
        .bind(&people)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Deletes reports about a person that are not recorded yet.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub(super) async fn delete_reports_about(&self, names: &Names) -> Result<(), StoreError> {
        let (_, ids) = names.columns();
        sqlx::query(
            "DELETE FROM outcome_reports
             WHERE external_id = ANY ($1) OR onesignal_id = ANY ($1) OR subscription_id = ANY ($1)",
        )
        .bind(ids)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
