//! The results of the deliveries of a template's versions.

use std::collections::HashMap;

use uuid::Uuid;

use super::days::parts_of;
use super::search::missing;
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
        let query = "SELECT coalesce(q.state, d.state)::text, count(*)
            FROM (
                SELECT id, state
                FROM deliveries
                WHERE template_version_id = $1 AND {days of id}
                ORDER BY id DESC
                LIMIT $2
            ) AS d
            LEFT JOIN LATERAL (SELECT state FROM queue WHERE delivery_id = d.id LIMIT 1) AS q ON true
            GROUP BY 1";
        let mut rows: Vec<(String, i64)> = Vec::new();
        for days in self.windows("deliveries", Uuid::nil(), Uuid::max()).await? {
            let left = max - rows.iter().map(|(_, count)| count).sum::<i64>();
            if left <= 0 {
                break;
            }
            let query = sqlx::query_as(days.fill(query)).bind(version.uuid()).bind(left);
            rows.extend(query.fetch_all(self.pool()).await?);
        }
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
        let query = "SELECT app_id, batch_id
            FROM deliveries
            WHERE template_version_id = $1 AND {days of id}
            ORDER BY id DESC
            LIMIT $2";
        let mut deliveries: Vec<(Uuid, Option<Uuid>)> = Vec::new();
        for days in self.windows("deliveries", Uuid::nil(), Uuid::max()).await? {
            let left = missing(among, deliveries.len());
            if left == 0 {
                break;
            }
            let query =
                sqlx::query_as::<_, (Uuid, Option<Uuid>)>(days.fill(query)).bind(version.uuid()).bind(left);
            deliveries.extend(query.fetch_all(self.pool()).await?);
        }
        let messages = self.messages_of(deliveries.iter().filter_map(|(_, batch)| *batch)).await?;
        let mut found: Vec<(AppId, ProviderMessageId)> = Vec::new();
        for (app, batch) in deliveries {
            for message in batch.and_then(|batch| messages.get(&batch)).into_iter().flatten() {
                let message = (AppId(app), ProviderMessageId(message.clone()));
                if missing(max, found.len()) > 0 && !found.contains(&message) {
                    found.push(message);
                }
            }
        }
        Ok(found)
    }

    /// The messages at OneSignal that batches became.
    async fn messages_of(
        &self,
        batches: impl Iterator<Item = Uuid>,
    ) -> Result<HashMap<Uuid, Vec<String>>, StoreError> {
        let query = "SELECT batch_id, provider_message_id
            FROM attempts
            WHERE batch_id = ANY ($1) AND {days of batch_id} AND provider_message_id IS NOT NULL";
        let mut messages: HashMap<Uuid, Vec<String>> = HashMap::new();
        for (days, batches) in parts_of(batches) {
            let query = sqlx::query_as(days.fill(query)).bind(batches);
            let found: Vec<(Uuid, String)> = query.fetch_all(self.pool()).await?;
            for (batch, message) in found {
                messages.entry(batch).or_default().push(message);
            }
        }
        Ok(messages)
    }

    /// When the last message of each template was planned, by its key. Its last three versions are evaluated.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn last_planned(&self) -> Result<Vec<(String, Timestamp)>, StoreError> {
        let query = "SELECT t.key, max(l.created_at)
            FROM templates t
            CROSS JOIN LATERAL (
                SELECT v.id FROM template_versions v WHERE v.template_id = t.id ORDER BY v.number DESC LIMIT $1
            ) AS v
            CROSS JOIN LATERAL (
                SELECT d.created_at
                FROM deliveries d
                WHERE d.template_version_id = v.id AND {days of d.id}
                ORDER BY d.id DESC
                LIMIT 1
            ) AS l
            WHERE t.key <> ALL ($2)
            GROUP BY t.key";
        let mut found: Vec<(String, Timestamp)> = Vec::new();
        for days in self.windows("deliveries", Uuid::nil(), Uuid::max()).await? {
            let known: Vec<String> = found.iter().map(|(key, _)| key.clone()).collect();
            let query = sqlx::query_as(days.fill(query)).bind(LAST_VERSIONS).bind(known);
            found.extend(query.fetch_all(self.pool()).await?);
        }
        Ok(found)
    }
}
