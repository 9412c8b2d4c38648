//! What replicas tell each other about an app's calls: demands, and messages by the minute.

use std::collections::HashMap;

use sqlx::Row;
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::{TypedId, WorkerId};

/// What one replica writes down about one app.
#[derive(Debug, Clone, Copy)]
pub struct RateReport {
    /// The app.
    pub app: AppId,
    /// How much of the rate it could use, from 0 to 1.
    pub demand: f64,
    /// Messages that it has sent since it last wrote.
    pub messages: u64,
}

/// What the others have written, and all have sent.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// Replicas that are alive beside this one.
    pub others: usize,
    /// The sum of their demands, by app.
    pub demands: HashMap<AppId, f64>,
    /// Messages that went out through an app, by minute.
    pub messages: HashMap<AppId, Vec<(Timestamp, u64)>>,
}

const SHARE_RATES: &str = include_str!("sql/share_rates.sql");

impl Store {
    /// Writes down what a worker says and reads what the others have said: one statement, no lock on others' rows.
    /// Minutes are counted from `since` on.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing was written then.
    pub async fn share_rates(
        &self,
        worker: WorkerId,
        reports: &[RateReport],
        (now, minute, since): (Timestamp, Timestamp, Timestamp),
    ) -> Result<Told, StoreError> {
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
        let mut told = Told { others: usize::try_from(others).unwrap_or_default(), ..Told::default() };
        let demands: Vec<Uuid> = row.try_get("demand_apps")?;
        let sums: Vec<f64> = row.try_get("demands")?;
        told.demands = demands.into_iter().map(AppId).zip(sums).collect();
        let apps: Vec<Uuid> = row.try_get("volume_apps")?;
        let minutes: Vec<Timestamp> = row.try_get("minutes")?;
        let messages: Vec<i64> = row.try_get("messages")?;
        for ((app, minute), messages) in apps.into_iter().zip(minutes).zip(messages) {
            let messages = u64::try_from(messages).unwrap_or_default();
            told.messages.entry(AppId(app)).or_default().push((minute, messages));
        }
        Ok(told)
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
