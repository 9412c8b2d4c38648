//! Reports of Event Streams that are not recorded yet, the keys of all that were received, and bodies that are not JSON.

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::outcome::{OutcomeKind, Report};

/// The number of malformed bodies that are kept.
const MALFORMED_KEPT: i64 = 1_000;

/// A received call.
#[derive(Debug, Clone)]
pub struct Received {
    /// Its id in the stream, or of its content.
    pub key: Uuid,
    /// The report, if it could be read.
    pub report: Option<Report>,
    /// What is wrong with the body, and the body.
    pub malformed: Option<(&'static str, Vec<u8>)>,
}

/// A report that is due.
#[derive(Debug, Clone)]
pub struct DueReport {
    /// What it says.
    pub report: Report,
    /// When it was received.
    pub received_at: Timestamp,
    /// Whether it was read before.
    pub is_parked: bool,
}

/// A malformed body.
#[derive(Debug, Clone)]
pub struct MalformedReport {
    /// When it was received.
    pub received_at: Timestamp,
    /// What is wrong with it.
    pub detail: String,
    /// The body.
    pub body: String,
}

/// The place that a malformed body is bound to.
pub(super) fn malformed_place(key: Uuid) -> String {
    format!("malformed_reports/{key}")
}

impl Store {
    /// Stores received calls, each key once, and counts them. One statement: it is committed when it returns.
    ///
    /// # Errors
    /// [`StoreError::Database`]: nothing is stored, or it is unknown; the same calls may come again.
    /// [`StoreError::Sealed`] without random bytes.
    pub async fn insert_reports(&self, calls: &[Received], now: Timestamp) -> Result<(), StoreError> {
        let mut keys: Vec<Uuid> = calls.iter().map(|call| call.key).collect();
        let mut first = std::collections::HashSet::with_capacity(calls.len());
        let calls: Vec<&Received> = calls.iter().filter(|call| first.insert(call.key)).collect();
        let count = i64::try_from(keys.len()).unwrap_or(i64::MAX);
        keys.sort_unstable();
        keys.dedup();
        let reports: Vec<&Report> = calls.iter().filter_map(|call| call.report.as_ref()).collect();
        let malformed: Vec<(Uuid, &str, &[u8])> = calls
            .iter()
            .filter_map(|call| {
                call.malformed.as_ref().map(|(detail, body)| (call.key, *detail, body.as_slice()))
            })
            .collect();
        let seal = |(key, _, body): &(Uuid, &str, &[u8])| self.vault().seal(&malformed_place(*key), body);
        let sealed = malformed.iter().map(seal).collect::<Result<Vec<_>, _>>()?;
        let texts = |field: fn(&Report) -> &str| reports.iter().map(|r| field(r)).collect::<Vec<&str>>();
        sqlx::query(include_str!("sql/insert_reports.sql"))
            .bind(reports.iter().map(|r| r.key).collect::<Vec<_>>())
            .bind(texts(|r| &r.message))
            .bind(texts(|r| r.kind.as_str()))
            .bind(texts(|r| &r.channel))
            .bind(reports.iter().map(|r| r.occurred_at).collect::<Vec<_>>())
            .bind(texts(|r| &r.external_id))
            .bind(texts(|r| &r.onesignal_id))
            .bind(texts(|r| &r.subscription))
            .bind(texts(|r| &r.device))
            .bind(texts(|r| &r.reason))
            .bind(malformed.iter().map(|(key, _, _)| *key).collect::<Vec<_>>())
            .bind(sealed)
            .bind(malformed.iter().map(|(_, detail, _)| *detail).collect::<Vec<_>>())
            .bind(keys)
            .bind(count)
            .bind(now)
            .bind(now.date_naive())
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Deletes keys received before `before`, at most `limit` of each hash partition, and malformed bodies beyond the
    /// newest or received before `bodies_before`. Reports that wait for longer than `latest` are due now: the clock
    /// went back.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_reports(
        &self,
        before: Timestamp,
        bodies_before: Timestamp,
        (now, latest): (Timestamp, Timestamp),
        limit: i64,
    ) -> Result<(), StoreError> {
        for partition in 0..8 {
            let query = format!(
                "DELETE FROM outcome_keys_{partition}
                 WHERE ctid = ANY (ARRAY(SELECT ctid FROM outcome_keys_{partition} WHERE received_at < $1 LIMIT $2))"
            );
            sqlx::query(sqlx::AssertSqlSafe(query)).bind(before).bind(limit).execute(self.pool()).await?;
        }
        sqlx::query(
            "DELETE FROM malformed_reports
             WHERE received_at < greatest($1, (
                SELECT received_at FROM malformed_reports ORDER BY received_at DESC OFFSET $2 LIMIT 1
             ))",
        )
        .bind(bodies_before)
        .bind(MALFORMED_KEPT)
        .execute(self.pool())
        .await?;
        sqlx::query("UPDATE outcome_reports SET due_at = $1 WHERE due_at > $2")
            .bind(now)
            .bind(latest)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// The last malformed bodies, newest first.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] if one can't be unsealed.
    pub async fn malformed_reports(&self, limit: i64) -> Result<Vec<MalformedReport>, StoreError> {
        let rows = sqlx::query("SELECT * FROM malformed_reports ORDER BY received_at DESC LIMIT $1")
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        let read = |row: &PgRow| {
            let (key, sealed): (Uuid, Vec<u8>) = (row.try_get("key")?, row.try_get("sealed")?);
            let body = self.vault().open(&malformed_place(key), &sealed)?;
            Ok(MalformedReport {
                received_at: row.try_get("received_at")?,
                detail: row.try_get("detail")?,
                body: String::from_utf8_lossy(&body).into_owned(),
            })
        };
        rows.iter().map(read).collect()
    }

    /// How many reports of each sort were received since a day.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn report_counts(&self, since: chrono::NaiveDate) -> Result<Vec<(String, i64)>, StoreError> {
        Ok(sqlx::query_as(
            "SELECT name, sum(count)::bigint FROM report_counts WHERE day >= $1 GROUP BY name ORDER BY name",
        )
        .bind(since)
        .fetch_all(self.pool())
        .await?)
    }
}

/// The reports that are due, oldest first. Only who records outcomes reads them, so they are not locked.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn due(
    connection: &mut PgConnection,
    now: Timestamp,
    limit: i64,
) -> Result<Vec<DueReport>, StoreError> {
    let rows = sqlx::query("SELECT * FROM outcome_reports WHERE due_at <= $1 ORDER BY due_at LIMIT $2")
        .bind(now)
        .bind(limit)
        .fetch_all(connection)
        .await?;
    rows.iter().map(read_report).collect()
}

fn read_report(row: &PgRow) -> Result<DueReport, StoreError> {
    Ok(DueReport {
        report: Report {
            key: row.try_get("key")?,
            message: row.try_get("message_id")?,
            channel: row.try_get("channel")?,
            kind: OutcomeKind::from_name(row.try_get("kind")?),
            occurred_at: row.try_get("occurred_at")?,
            external_id: row.try_get("external_id")?,
            onesignal_id: row.try_get("onesignal_id")?,
            subscription: row.try_get("subscription_id")?,
            device: row.try_get("device")?,
            reason: row.try_get("reason")?,
        },
        received_at: row.try_get("received_at")?,
        is_parked: row.try_get("is_parked")?,
    })
}

/// Makes parked reports about these messages due.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn unpark(
    connection: &mut PgConnection,
    messages: &[&str],
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outcome_reports SET due_at = $2 WHERE is_parked AND message_id = ANY ($1) AND due_at > $2",
    )
    .bind(messages)
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// Parks reports, sorted by key, until a time or until their message is known.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn park(connection: &mut PgConnection, reports: &[(Uuid, Timestamp)]) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE outcome_reports r
         SET is_parked = true, due_at = ($2::timestamptz[])[width_bucket(r.key, $1::uuid[])]
         WHERE r.key = ANY ($1)",
    )
    .bind(reports.iter().map(|(key, _)| *key).collect::<Vec<_>>())
    .bind(reports.iter().map(|(_, due_at)| *due_at).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}

/// Deletes reports that are recorded, or foreign.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn delete(connection: &mut PgConnection, keys: &[Uuid]) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM outcome_reports WHERE key = ANY ($1)").bind(keys).execute(connection).await?;
    Ok(())
}

/// Adds to the counts of a day.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count(
    connection: &mut PgConnection,
    day: chrono::NaiveDate,
    counts: &[(&str, i64)],
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO report_counts (day, name, count)
         SELECT $1, name, count FROM unnest($2::text[], $3::bigint[]) AS c (name, count) ORDER BY name
         ON CONFLICT (day, name) DO UPDATE SET count = report_counts.count + excluded.count",
    )
    .bind(day)
    .bind(counts.iter().map(|(name, _)| *name).collect::<Vec<_>>())
    .bind(counts.iter().map(|(_, count)| *count).collect::<Vec<_>>())
    .execute(connection)
    .await?;
    Ok(())
}
