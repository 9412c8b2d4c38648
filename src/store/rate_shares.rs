//! What replicas report to each other about an app's calls: demand, and messages by minute.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TypedId, WorkerId};

/// One replica's report about one app.
#[derive(Debug, Clone, Copy)]
pub struct RateReport {
    /// The app.
    pub app: AppId,
    /// The share of the rate that it could use, from 0 to 1.
    pub demand: f64,
    /// Messages that it has sent since its last report.
    pub messages: u64,
}

/// What the others have reported, and what all have sent.
#[derive(Debug, Clone, Default)]
pub struct RateShares {
    /// Other live replicas.
    pub others: usize,
    /// The sum of their demands, by app.
    pub demands: HashMap<AppId, f64>,
    /// Messages sent through an app, by minute.
    pub messages: HashMap<AppId, Vec<(Timestamp, u64)>>,
}

const SHARE_RATES: &str = include_str!("sql/share_rates.sql");

impl Store {
    /// Stores a worker's reports and reads those of the others: one statement, no lock on others' rows. Minutes are
    /// counted from `since` on.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing was written then.
    pub async fn share_rates(
        &self,
        worker: WorkerId,
        reports: &[RateReport],
        (now, minute, since): (Timestamp, Timestamp, Timestamp),
    ) -> Result<RateShares, StoreError> {
        #[expect(clippy::cast_possible_truncation, reason = "a share between 0 and 1")]
        let demands: Vec<f32> = reports.iter().map(|t| t.demand as f32).collect();
        let row = sqlx::query(SHARE_RATES)
            .bind(worker.uuid())
            .bind(reports.iter().map(|t| t.app.0).collect::<Vec<_>>())
            .bind(demands)
            .bind(reports.iter().map(|t| i64::try_from(t.messages).unwrap_or(i64::MAX)).collect::<Vec<_>>())
            .bind(now)
            .bind(minute)
            .bind(since)
            .fetch_one(self.pool())
            .await?;
        let others: i64 = row.try_get("others")?;
        let mut shares =
            RateShares { others: usize::try_from(others).unwrap_or_default(), ..RateShares::default() };
        let demands: Vec<Uuid> = row.try_get("demand_apps")?;
        let sums: Vec<f64> = row.try_get("demands")?;
        shares.demands = demands.into_iter().map(AppId).zip(sums).collect();
        let apps: Vec<Uuid> = row.try_get("volume_apps")?;
        let minutes: Vec<Timestamp> = row.try_get("minutes")?;
        let messages: Vec<i64> = row.try_get("messages")?;
        for ((app, minute), messages) in apps.into_iter().zip(minutes).zip(messages) {
            let messages = u64::try_from(messages).unwrap_or_default();
            shares.messages.entry(AppId(app)).or_default().push((minute, messages));
        }
        Ok(shares)
    }

    /// Deletes minutes before `before`, and demands of workers that are gone.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_rate_shares(&self, before: Timestamp) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM app_message_counts WHERE minute < $1")
            .bind(before)
            .execute(self.pool())
            .await?;
        sqlx::query(
            "DELETE FROM app_rate_shares d
             WHERE d.written_at < $1 AND NOT EXISTS (SELECT 1 FROM workers w WHERE w.id = d.worker_id)",
        )
        .bind(before)
        .execute(self.pool())
        .await?;
        Ok(())
    }
}
