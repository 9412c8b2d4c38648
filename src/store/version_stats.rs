//! The results of the deliveries of a template's versions.

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::answer::ProviderMessageId;
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TemplateVersionId, TypedId};

/// The last deliveries of a version, counted by result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[expect(missing_docs, reason = "the states, summed up")]
pub struct VersionStats {
    /// How many deliveries were evaluated.
    pub looked_at: i64,
    pub accepted: i64,
    /// Queued, in flight or to be retried.
    pub open: i64,
    pub held: i64,
    /// Rejected, exhausted, expired, or unknown.
    pub failed: i64,
    pub unreachable: i64,
    /// Skipped or cancelled.
    pub not_wanted: i64,
}

/// The number of versions of a template in which its last message is searched.
const LAST_VERSIONS: i64 = 3;

impl Store {
    /// The results of the last deliveries of a version, `max` at most.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn version_stats(
        &self,
        version: TemplateVersionId,
        max: i64,
    ) -> Result<VersionStats, StoreError> {
        let rows: Vec<(String, i64)> = sqlx::query_as(
            "SELECT coalesce(q.state, d.state)::text, count(*)
             FROM (
                SELECT id, state FROM deliveries WHERE template_version_id = $1 ORDER BY id DESC LIMIT $2
             ) AS d
             LEFT JOIN LATERAL (SELECT state FROM queue WHERE delivery_id = d.id LIMIT 1) AS q ON true
             GROUP BY 1",
        )
        .bind(version.uuid())
        .bind(max)
        .fetch_all(self.pool())
        .await?;
        let mut figures = VersionStats::default();
        for (state, count) in rows {
            figures.looked_at += count;
            let place = match state.as_str() {
                "accepted" => &mut figures.accepted,
                "held" => &mut figures.held,
                "unreachable" => &mut figures.unreachable,
                "rejected" | "exhausted" | "expired" | "unknown" => &mut figures.failed,
                "skipped" | "cancelled" => &mut figures.not_wanted,
                _ => &mut figures.open,
            };
            *place += count;
        }
        Ok(figures)
    }

    /// The last messages at OneSignal that contained deliveries of a version, with their apps; newest first. They are
    /// searched among its last `among` deliveries.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn last_messages_of(
        &self,
        version: TemplateVersionId,
        among: i64,
        max: i64,
    ) -> Result<Vec<(AppId, ProviderMessageId)>, StoreError> {
        let rows = sqlx::query(
            "SELECT d.app_id, a.provider_message_id
             FROM (
                SELECT id, app_id, batch_id FROM deliveries
                WHERE template_version_id = $1 ORDER BY id DESC LIMIT $2
             ) AS d
             JOIN attempts a ON a.batch_id = d.batch_id AND a.provider_message_id IS NOT NULL
             GROUP BY d.app_id, a.provider_message_id
             ORDER BY max(d.id::text) DESC
             LIMIT $3",
        )
        .bind(version.uuid())
        .bind(among)
        .bind(max)
        .fetch_all(self.pool())
        .await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok((AppId(row.try_get::<Uuid, _>(0)?), ProviderMessageId(row.try_get(1)?)))
        };
        rows.iter().map(read).collect()
    }

    /// When the last message of each template was planned, by its key. Its last three versions are evaluated.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn last_planned(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let found = sqlx::query_as(
            "SELECT t.key, max(l.created_at)
             FROM templates t
             CROSS JOIN LATERAL (
                SELECT v.id FROM template_versions v WHERE v.template_id = t.id ORDER BY v.number DESC LIMIT $1
             ) AS v
             CROSS JOIN LATERAL (
                SELECT d.created_at FROM deliveries d
                WHERE d.template_version_id = v.id ORDER BY d.id DESC LIMIT 1
             ) AS l
             GROUP BY t.key",
        )
        .bind(LAST_VERSIONS)
        .fetch_all(self.pool())
        .await?;
        Ok(found)
    }
}
