//! Deliveries that wait until their recipient's facts are written.

use sqlx::PgConnection;
use uuid::Uuid;

use super::StoreError;
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, TypedId};

/// A delivery that waits.
#[derive(Debug, Clone, Copy)]
pub struct FactWait {
    /// The delivery.
    pub delivery: DeliveryId,
    /// The app.
    pub app: AppId,
    /// The person.
    pub user: Uuid,
    /// The version of the write that it waits for.
    pub version: i64,
    /// When it is due once that is done.
    pub due_at: Timestamp,
}

/// Stores deliveries that wait. `record_user_writes.sql` releases them.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_all(connection: &mut PgConnection, waits: &[FactWait]) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO fact_waits (delivery_id, app_id, user_id, version, due_at)
         SELECT * FROM unnest($1::uuid[], $2::uuid[], $3::uuid[], $4::bigint[], $5::timestamptz[])",
    )
    .bind(waits.iter().map(|wait| wait.delivery.uuid()).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.app.0).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.user).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.version).collect::<Vec<_>>())
    .bind(waits.iter().map(|wait| wait.due_at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
