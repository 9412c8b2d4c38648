//! Gates: stops for an app, a template version or a rule.

use std::time::Duration;

use sqlx::Row;
use uuid::Uuid;

use super::delivery_reads::DeliveryRow;
use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::gate::{Gate, GateSubject, PAUSED};
use crate::domain::id::TypedId;
use crate::domain::retry::delta;

/// Until a person opens it: a time that is never reached, and that every client can parse.
const UNTIL_OPENED: Timestamp = match chrono::DateTime::from_timestamp(253_370_764_800, 0) {
    Some(moment) => moment,
    None => Timestamp::UNIX_EPOCH,
};

/// The answer to a replica that asks to probe a half-open gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Probe {
    /// It may make one call; no other replica makes one for a while.
    Yours,
    /// Another replica is probing, or the gate is closed again: not before this time.
    NotBefore(Timestamp),
    /// The gate is open.
    NoGate,
}

/// A gate with the name of what it stops.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the columns of `gates`, and a name")]
pub struct NamedGate {
    pub scope: String,
    pub name: String,
    pub code: String,
    pub detail: String,
    pub closed_at: Timestamp,
    pub closed_until: Timestamp,
}

impl Store {
    /// Every gate that is not open, and every paused app, by name; oldest first.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn named_gates(&self) -> Result<Vec<NamedGate>, StoreError> {
        self.named_gates_of(None).await
    }

    /// The gate that a queued delivery waits behind, if any.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn gate_before(&self, row: &DeliveryRow) -> Result<Option<NamedGate>, StoreError> {
        let mut ids = vec![row.app.to_string(), row.rule.0.uuid().to_string()];
        ids.extend(row.version.map(|(version, _)| version.uuid().to_string()));
        Ok(self.named_gates_of(Some(ids)).await?.into_iter().next())
    }

    async fn named_gates_of(&self, subjects: Option<Vec<String>>) -> Result<Vec<NamedGate>, StoreError> {
        let rows = sqlx::query(include_str!("sql/named_gates.sql"))
            .bind(PAUSED)
            .bind(UNTIL_OPENED)
            .bind(subjects)
            .fetch_all(self.pool())
            .await?;
        rows.iter()
            .map(|row| {
                Ok(NamedGate {
                    scope: row.try_get("scope")?,
                    name: row.try_get("name")?,
                    code: row.try_get("code")?,
                    detail: row.try_get("detail")?,
                    closed_at: row.try_get("closed_at")?,
                    closed_until: row.try_get("closed_until")?,
                })
            })
            .collect()
    }

    /// The subjects of a name: an app's id or name (`all`: each), a rule's key, or `template@version`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_gate_subjects(&self, scope: &str, name: &str) -> Result<Vec<GateSubject>, StoreError> {
        let ids: Vec<Uuid> = sqlx::query_scalar(
            "SELECT a.id FROM apps a WHERE $1 = 'app' AND (a.name = $2 OR a.id::text = $2 OR $2 = 'all')
             UNION ALL
             SELECT r.id FROM rules r WHERE $1 = 'rule' AND r.key = $2
             UNION ALL
             SELECT v.id
             FROM template_versions v
             JOIN templates t ON t.id = v.template_id
             WHERE $1 = 'template_version' AND t.key || '@' || v.number = $2",
        )
        .bind(scope)
        .bind(name)
        .fetch_all(self.pool())
        .await?;
        Ok(ids.into_iter().filter_map(|id| GateSubject::find(scope, id)).collect())
    }

    /// Every gate that is not open.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn gates(&self) -> Result<Vec<Gate>, StoreError> {
        let rows = sqlx::query(
            "SELECT scope, subject::uuid AS id, code, detail, closed_until FROM gates ORDER BY closed_at",
        )
        .fetch_all(self.pool())
        .await?;
        let gates = rows.iter().map(|row| {
            let id: Uuid = row.try_get("id")?;
            let Some(subject) = GateSubject::find(row.try_get("scope")?, id) else { return Ok(None) };
            Ok(Some(Gate {
                subject,
                code: row.try_get("code")?,
                detail: row.try_get("detail")?,
                closed_until: row.try_get("closed_until")?,
            }))
        });
        gates.filter_map(Result::transpose).collect()
    }

    /// Closes a gate on behalf of a person, until a person opens it. Returns whether it was open, or closed
    /// automatically.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn pause(
        &self,
        subject: GateSubject,
        detail: &str,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let closed = sqlx::query(
            "INSERT INTO gates AS g (scope, subject, code, detail, closed_at, closed_until, times_closed)
             VALUES ($1, $2, $3, $4, $5, $6, 1)
             ON CONFLICT (scope, subject) DO UPDATE
             SET code = $3, detail = $4, closed_at = $5, closed_until = $6
             WHERE g.code <> $3",
        )
        .bind(subject.scope())
        .bind(subject.uuid().to_string())
        .bind(PAUSED)
        .bind(detail)
        .bind(now)
        .bind(UNTIL_OPENED)
        .execute(self.pool())
        .await?;
        Ok(closed.rows_affected() > 0)
    }

    /// Opens a gate on behalf of a person, however it was closed. Returns whether there was one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn resume(&self, subject: GateSubject) -> Result<bool, StoreError> {
        let opened = sqlx::query("DELETE FROM gates WHERE scope = $1 AND subject = $2")
            .bind(subject.scope())
            .bind(subject.uuid().to_string())
            .execute(self.pool())
            .await?;
        Ok(opened.rows_affected() > 0)
    }

    /// Closes a gate until a time. A gate that is closed for longer stays so.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn close_until(&self, gate: &Gate, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query(
            "INSERT INTO gates AS g (scope, subject, code, detail, closed_at, closed_until, times_closed)
             VALUES ($6, $1, $2, $3, $4, $5, 1)
             ON CONFLICT (scope, subject) DO UPDATE
             SET code = $2, detail = $3, closed_until = greatest(g.closed_until, $5), times_closed = 1
             WHERE g.code <> $7",
        )
        .bind(gate.subject.uuid().to_string())
        .bind(&gate.code)
        .bind(&gate.detail)
        .bind(now)
        .bind(gate.closed_until)
        .bind(gate.subject.scope())
        .bind(PAUSED)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Closes a gate for `first`, doubled each time a probe failed for the same reason, up to `longest`; returns until
    /// when. While it is closed, closing it again has no effect: calls that were in flight don't lengthen it.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn close_doubling(
        &self,
        gate: &Gate,
        first: Duration,
        longest: Duration,
        now: Timestamp,
    ) -> Result<Timestamp, StoreError> {
        let longest = i64::try_from(longest.as_secs()).unwrap_or(i64::MAX);
        let first_s = i64::try_from(first.as_millis()).unwrap_or(i64::MAX);
        Ok(sqlx::query_scalar(
            "INSERT INTO gates AS g (scope, subject, code, detail, closed_at, closed_until, times_closed)
             VALUES ($8, $1, $2, $3, $4, $5, 1)
             ON CONFLICT (scope, subject) DO UPDATE
             SET code = CASE WHEN g.closed_until > $4 THEN g.code ELSE $2 END,
                detail = CASE WHEN g.closed_until > $4 THEN g.detail ELSE $3 END,
                closed_until = CASE WHEN g.closed_until > $4 THEN g.closed_until
                    ELSE $4 + least($7 * interval '1 second',
                        $6 * interval '1 millisecond' * power(2, CASE WHEN g.code = $2 THEN least(g.times_closed, 20)
                            ELSE 0 END)) END,
                times_closed = CASE WHEN g.closed_until > $4 THEN g.times_closed
                    WHEN g.code = $2 THEN g.times_closed + 1 ELSE 1 END
             RETURNING closed_until",
        )
        .bind(gate.subject.uuid().to_string())
        .bind(&gate.code)
        .bind(&gate.detail)
        .bind(now)
        .bind(now + delta(first))
        .bind(first_s)
        .bind(longest)
        .bind(gate.subject.scope())
        .fetch_one(self.pool())
        .await?)
    }

    /// Asks for permission to make one call through a half-open gate. One replica gets it, and no other before `next`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn claim_probe(
        &self,
        app: AppId,
        now: Timestamp,
        next: Timestamp,
    ) -> Result<Probe, StoreError> {
        let row = sqlx::query(
            "WITH claimed AS (
                UPDATE gates SET probe_at = $3
                WHERE scope = 'app' AND subject = $1 AND closed_until <= $2 AND (probe_at IS NULL OR probe_at <= $2)
                RETURNING 1
             )
             SELECT EXISTS (SELECT 1 FROM claimed) AS is_ours,
                (SELECT greatest(closed_until, probe_at) FROM gates WHERE scope = 'app' AND subject = $1) AS not_before",
        )
        .bind(app.to_string())
        .bind(now)
        .bind(next)
        .fetch_one(self.pool())
        .await?;
        let not_before: Option<Timestamp> = row.try_get("not_before")?;
        Ok(match (row.try_get("is_ours")?, not_before) {
            (true, _) => Probe::Yours,
            (false, Some(moment)) => Probe::NotBefore(moment.max(now)),
            (false, None) => Probe::NoGate,
        })
    }

    /// Opens a half-open gate after a successful call. Returns whether there was one. A gate that is still closed stays
    /// so: the call had begun before.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn open_gate(&self, subject: GateSubject, now: Timestamp) -> Result<bool, StoreError> {
        let opened =
            sqlx::query("DELETE FROM gates WHERE scope = $3 AND subject = $1 AND closed_until <= $2")
                .bind(subject.uuid().to_string())
                .bind(now)
                .bind(subject.scope())
                .execute(self.pool())
                .await?;
        Ok(opened.rows_affected() > 0)
    }
}
