//! Health metrics: messages by minute, OneSignal's recent answers, live workers. The cost does not grow with history.

use sqlx::Row;

use super::days::Days;
use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::id::floor;

/// Messages sent through an app within a minute.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `app_message_counts`, summed over replicas")]
pub struct MinuteVolume {
    pub app: AppId,
    pub minute: Timestamp,
    pub messages: i64,
}

/// OneSignal's answers to recent calls.
#[derive(Debug, Clone, Default)]
pub struct Answers {
    /// By classified answer, most frequent first.
    pub by_answer: Vec<(String, i64)>,
    /// The 50th and 99th percentile, in seconds.
    pub seconds: Option<(f64, f64)>,
}

/// A process that sends.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `workers`")]
pub struct AliveWorker {
    pub host: String,
    pub started_at: Timestamp,
    pub lease_until: Timestamp,
}

/// The maximum number of calls evaluated.
const CALLS: i64 = 20_000;

impl Store {
    /// Messages sent since `since`, by app and minute.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn volumes(&self, since: Timestamp) -> Result<Vec<MinuteVolume>, StoreError> {
        let rows = sqlx::query(
            "SELECT app_id, minute, sum(messages)::bigint AS messages FROM app_message_counts
             WHERE minute >= $1 GROUP BY 1, 2 ORDER BY 1, 2",
        )
        .bind(since)
        .fetch_all(self.pool())
        .await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(MinuteVolume {
                app: AppId(row.try_get("app_id")?),
                minute: row.try_get("minute")?,
                messages: row.try_get("messages")?,
            })
        };
        rows.iter().map(read).collect()
    }

    /// OneSignal's answers to calls whose batches were frozen since `since`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn answers(&self, since: Timestamp) -> Result<Answers, StoreError> {
        let rows = sqlx::query(Days::since_time(since).fill(
            "WITH late AS (
                SELECT answer, extract(epoch FROM answered_at - started_at)::float8 AS seconds
                FROM attempts WHERE batch_id >= $1 AND {days of batch_id} AND answered_at IS NOT NULL LIMIT $2
             )
             SELECT coalesce(answer, 'answered') AS answer, count(*) AS calls,
                (SELECT percentile_cont(0.5) WITHIN GROUP (ORDER BY seconds) FROM late) AS half,
                (SELECT percentile_cont(0.99) WITHIN GROUP (ORDER BY seconds) FROM late) AS nearly_all
             FROM late GROUP BY 1 ORDER BY 2 DESC",
        ))
        .bind(floor(since))
        .bind(CALLS)
        .fetch_all(self.pool())
        .await?;
        let mut answers = Answers::default();
        for row in &rows {
            answers.by_answer.push((row.try_get("answer")?, row.try_get("calls")?));
            let (half, nearly_all): (Option<f64>, Option<f64>) =
                (row.try_get("half")?, row.try_get("nearly_all")?);
            answers.seconds = half.zip(nearly_all);
        }
        Ok(answers)
    }

    /// Processes that are sending at present, oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn alive_workers(&self, now: Timestamp) -> Result<Vec<AliveWorker>, StoreError> {
        let rows = sqlx::query(
            "SELECT host, started_at, lease_until FROM workers WHERE lease_until > $1 ORDER BY id",
        )
        .bind(now)
        .fetch_all(self.pool())
        .await?;
        let read = |row: &sqlx::postgres::PgRow| {
            Ok(AliveWorker {
                host: row.try_get("host")?,
                started_at: row.try_get("started_at")?,
                lease_until: row.try_get("lease_until")?,
            })
        };
        rows.iter().map(read).collect()
    }
}
