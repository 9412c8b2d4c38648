//! Detects a restore of the database and a step of its clock, and repairs what a step back leaves.
//!
//! One row stores the latest time that was read and the database that it was read from. An earlier time is a step back;
//! another database is a restore.

use std::time::Duration;

use chrono::TimeDelta;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::days::Days;
use super::{Committed, Store, StoreError, Tx, commit};
use crate::domain::clock::Timestamp;
use crate::domain::gate::PAUSED;
use crate::domain::id::floor;
use crate::domain::retry::delta;

/// Smaller steps back are normal clock adjustments.
const SMALLEST_STEP: TimeDelta = TimeDelta::seconds(1);
/// Another timeline after a longer silence is a point-in-time restore, even if failovers are lossless.
const LONGEST_FAILOVER: TimeDelta = TimeDelta::minutes(10);
/// The number of rows repaired in one statement.
const REPAIRED_AT_ONCE: i64 = 10_000;

/// The options of the watch.
#[derive(Debug, Clone, Copy)]
pub struct WatchOptions {
    /// How often [`Store::watch_database`] is called, by each process.
    pub every: Duration,
    /// How long a worker's lease is.
    pub lease: Duration,
    /// How long deliveries are sent one per call after a restore.
    pub restored_window: Duration,
    /// How long OneSignal may be processing a call that got no answer.
    pub ambiguous_gap: Duration,
}

/// The last step back of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ClockStep {
    /// When it was noticed, by the adjusted clock.
    pub at: Timestamp,
    /// How far the clock went back.
    pub back: Duration,
}

/// The last restore of the database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Restore {
    /// When it was noticed.
    pub at: Timestamp,
    /// Commits after this time may be missing.
    pub lost_since: Timestamp,
    /// Until when deliveries are sent one per call.
    pub alone_until: Timestamp,
}

/// What is known of the database's clock and restores.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct DatabaseWatch {
    /// The last step back of its clock.
    pub step: Option<ClockStep>,
    /// Its last restore.
    pub restore: Option<Restore>,
}

impl DatabaseWatch {
    /// Whether deliveries are sent one per call at `now`.
    pub fn sends_alone(&self, now: Timestamp) -> bool {
        self.restore.is_some_and(|restore| now < restore.alone_until)
    }
}

/// The stored row, with the current values.
struct Seen {
    read_at: Timestamp,
    was_loss_free: bool,
    is_same_database: bool,
    is_same_timeline: bool,
    watch: DatabaseWatch,
}

impl Seen {
    fn went_back(&self, now: Timestamp) -> bool {
        self.read_at - now >= SMALLEST_STEP
    }

    fn was_restored(&self, now: Timestamp) -> bool {
        let is_failover = self.was_loss_free && now - self.read_at <= LONGEST_FAILOVER;
        !self.is_same_database || !(self.is_same_timeline || is_failover)
    }
}

const PRESENT: &str =
    "SELECT concat_ws(' ', s.system_identifier, d.oid, 'database_watch'::regclass::oid) AS identity,
        substr(pg_walfile_name(pg_current_wal_insert_lsn()), 1, 8) AS timeline,
        EXISTS (SELECT 1 FROM pg_stat_replication WHERE sync_state IN ('sync', 'quorum')) AS is_loss_free
    FROM pg_control_system() s, pg_database d
    WHERE d.datname = current_database()";

impl Store {
    /// Compares the database with its stored state, and records a step back of its clock or a restore. Of several
    /// processes, the first one repairs what a step back leaves; the others get `None`. It may have been suspended while
    /// it did: so one that got `None` before (`again`) repairs the queue as well. A delivery that is brought forward
    /// twice is due too early, which is better than waiting for the clock.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the next call does the rest.
    pub async fn watch_database(
        &self,
        options: WatchOptions,
        again: bool,
        now: Timestamp,
    ) -> Result<Option<DatabaseWatch>, StoreError> {
        let mut tx = self.begin().await?;
        let seen = match read(&mut tx, false).await? {
            Some(seen) => seen,
            None => first(&mut tx, now).await?,
        };
        if !seen.went_back(now) && !seen.was_restored(now) {
            note_present(&mut tx, now).await?;
            finish(commit(tx).await)?;
            if seen.watch.step.is_some_and(|step| now < step.at + delta(step.back)) {
                self.repair_late_rows(now).await?;
            }
            return Ok(Some(seen.watch));
        }
        drop(tx);
        let mut tx = self.begin().await?;
        match read(&mut tx, true).await {
            Ok(Some(seen)) => {
                if seen.went_back(now) {
                    self.repair_queue_after_step(Some(&mut tx), &seen, options, now).await?;
                    repair_times(&mut tx, &seen, options, now).await?;
                }
                note_change(&mut tx, &seen, options, now).await?;
                note_present(&mut tx, now).await?;
                let watch = read(&mut tx, false).await?.map(|seen| seen.watch);
                finish(commit(tx).await)?;
                Ok(Some(watch.unwrap_or_default()))
            }
            Ok(None) => Ok(Some(DatabaseWatch::default())),
            Err(error) if error.is_passing() => {
                drop(tx);
                if again && seen.went_back(now) {
                    self.repair_queue_after_step(None, &seen, options, now).await?;
                }
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// What was last recorded of the database's clock and restores.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn database_watch(&self) -> Result<DatabaseWatch, StoreError> {
        let row = sqlx::query("SELECT * FROM database_watch").fetch_optional(self.pool()).await?;
        row.as_ref().map(read_watch).transpose().map(Option::unwrap_or_default)
    }

    /// Ends sending deliveries one per call after a restore. Returns whether it was in effect.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn end_sending_alone(&self, now: Timestamp) -> Result<bool, StoreError> {
        let ended = sqlx::query("UPDATE database_watch SET alone_until = $1 WHERE alone_until > $1")
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(ended.rows_affected() > 0)
    }

    /// Records a restore that the database itself does not reveal, such as a snapshot of its disk.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn begin_sending_alone(
        &self,
        lost_since: Timestamp,
        alone_until: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        sqlx::query(
            "INSERT INTO database_watch (read_at, identity, timeline, is_loss_free)
             VALUES ($1, '', '', false)
             ON CONFLICT DO NOTHING",
        )
        .bind(now)
        .execute(&mut *tx)
        .await?;
        sqlx::query("UPDATE database_watch SET restored_at = $1, restored_from = $2, alone_until = $3")
            .bind(now)
            .bind(lost_since)
            .bind(alone_until)
            .execute(&mut *tx)
            .await?;
        finish(commit(tx).await)
    }

    /// Brings forward deliveries that were due by the clock before it went back: they would otherwise wait until the
    /// clock is there again. What is planned for a time of day stays. `lock` is the transaction that holds the row of
    /// the watch, if this process has it: it is kept from being idle for too long.
    async fn repair_queue_after_step(
        &self,
        mut lock: Option<&mut Tx>,
        seen: &Seen,
        options: WatchOptions,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        // The clock may have continued for a while after it was last read.
        let was_at = seen.read_at + delta(options.every * 2);
        let (mut after, back) = (Some(Uuid::nil()), seen.read_at - now);
        while let Some(id) = after {
            after = self.repair_queue(id, was_at, back, options.ambiguous_gap, now).await?;
            if let Some(lock) = &mut lock {
                sqlx::query("SELECT 1").execute(&mut ***lock).await?;
            }
        }
        Ok(())
    }

    /// Makes deliveries due that were to be sent at once, and that were stored or released after the repair by a process
    /// that had read the time before the step. Until the clock is there again, their ids are in its future.
    async fn repair_late_rows(&self, now: Timestamp) -> Result<(), StoreError> {
        let query = "UPDATE queue q
            SET due_at = CASE WHEN q.blocked_due_at IS NULL THEN $1 ELSE q.due_at END,
                blocked_due_at = CASE WHEN q.blocked_due_at IS NOT NULL THEN $1 END
            FROM deliveries d
            WHERE d.id = q.delivery_id AND {days of d.id} AND q.delivery_id > $2 AND q.state = 'queued' AND q.attempts = 0
              AND coalesce(q.blocked_due_at, q.due_at) > $1
              AND coalesce(q.blocked_due_at, q.due_at) <= d.created_at + interval '1 second'";
        sqlx::query(Days::since_time(now).fill(query))
            .bind(now)
            .bind(floor(now))
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Repairs some rows with ids above `after`, including those that a process holds: it may release them as they
    /// were. Returns the last one's id. What was tried before is due after the same delay as before the step, and not
    /// before OneSignal has finished the last attempt.
    async fn repair_queue(
        &self,
        after: Uuid,
        was_at: Timestamp,
        back: TimeDelta,
        gap: Duration,
        now: Timestamp,
    ) -> Result<Option<Uuid>, StoreError> {
        // A batch that was frozen after the step has an older id than its deliveries.
        let batch = sqlx::query_scalar(
            "SELECT batch_id FROM queue WHERE state = 'retrying' ORDER BY batch_id LIMIT 1",
        );
        let oldest =
            self.oldest_open().await?.min(batch.fetch_optional(self.pool()).await?.unwrap_or(Uuid::max()));
        let query = Days::since(oldest).fill(include_str!("sql/repair_queue.sql"));
        Ok(sqlx::query_scalar(query)
            .bind(now)
            .bind(was_at)
            .bind(back)
            .bind(delta(gap))
            .bind(after)
            .bind(REPAIRED_AT_ONCE)
            .fetch_optional(self.pool())
            .await?)
    }
}

/// Records a step back of the clock, or a restore.
async fn note_change(
    connection: &mut PgConnection,
    seen: &Seen,
    options: WatchOptions,
    now: Timestamp,
) -> Result<(), StoreError> {
    let (went_back, was_restored) = (seen.went_back(now), seen.was_restored(now));
    sqlx::query(
        "UPDATE database_watch
         SET stepped_at = CASE WHEN $1 THEN $2 ELSE stepped_at END,
            stepped_us = CASE WHEN $1 THEN $3 ELSE stepped_us END,
            restored_at = CASE WHEN $4 THEN $2 ELSE restored_at END,
            restored_from = CASE WHEN $4 THEN $5 ELSE restored_from END,
            alone_until = CASE WHEN $4 THEN $6 ELSE alone_until END",
    )
    .bind(went_back)
    .bind(now)
    .bind((seen.read_at - now).num_microseconds().unwrap_or(i64::MAX).max(1))
    .bind(was_restored)
    .bind(seen.read_at.min(now))
    .bind(now + delta(options.restored_window))
    .execute(connection)
    .await?;
    Ok(())
}

/// Brings forward everything else that would wait until the clock is there again: leases, gates, recalls. In the
/// transaction that records the step, so that none is moved twice.
async fn repair_times(
    connection: &mut PgConnection,
    seen: &Seen,
    options: WatchOptions,
    now: Timestamp,
) -> Result<(), StoreError> {
    let was_at = seen.read_at + delta(options.every * 2);
    let back = (seen.read_at - now).num_microseconds().unwrap_or(i64::MAX);
    sqlx::query(
        "UPDATE gates
         SET closed_until = greatest($1, closed_until - $2 * interval '1 microsecond'),
            probe_at = greatest($1, probe_at - $2 * interval '1 microsecond')
         WHERE code <> $3 AND closed_until > $1",
    )
    .bind(now)
    .bind(back)
    .bind(PAUSED)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "UPDATE scheduled_messages SET next_try_at = $1 WHERE next_try_at > $1 AND next_try_at <= $2",
    )
    .bind(now)
    .bind(was_at)
    .execute(&mut *connection)
    .await?;
    for (query, at) in [
        ("UPDATE workers SET lease_until = $1 WHERE lease_until > $1", now + delta(options.lease)),
        ("UPDATE template_uploads SET leased_until = $1 WHERE leased_until > $1", now + delta(options.lease)),
        ("UPDATE ordering_lanes SET moved_at = $1 WHERE moved_at > $1", now),
        ("DELETE FROM app_message_counts WHERE minute > $1", now),
    ] {
        sqlx::query(query).bind(at).execute(&mut *connection).await?;
    }
    Ok(())
}

/// Inserts the row, and reads it.
async fn first(connection: &mut PgConnection, now: Timestamp) -> Result<Seen, StoreError> {
    let insert = format!(
        "INSERT INTO database_watch (read_at, identity, timeline, is_loss_free)
         SELECT $1, present.* FROM ({PRESENT}) AS present
         ON CONFLICT DO NOTHING"
    );
    sqlx::query(sqlx::AssertSqlSafe(insert)).bind(now).execute(&mut *connection).await?;
    read(connection, false).await?.ok_or_else(|| StoreError::corrupt("database_watch", "id", "the one row"))
}

/// The row, if there is one; locked without waiting, if it is to be.
async fn read(connection: &mut PgConnection, locked: bool) -> Result<Option<Seen>, StoreError> {
    let lock = if locked { "FOR UPDATE OF w NOWAIT" } else { "" };
    let select = format!(
        "SELECT w.*, w.identity = p.identity AS is_same_database, w.timeline = p.timeline AS is_same_timeline
         FROM database_watch w, ({PRESENT}) AS p {lock}"
    );
    let Some(row) = sqlx::query(sqlx::AssertSqlSafe(select)).fetch_optional(connection).await? else {
        return Ok(None);
    };
    Ok(Some(Seen {
        read_at: row.try_get("read_at")?,
        was_loss_free: row.try_get("is_loss_free")?,
        is_same_database: row.try_get("is_same_database")?,
        is_same_timeline: row.try_get("is_same_timeline")?,
        watch: read_watch(&row)?,
    }))
}

fn read_watch(row: &PgRow) -> Result<DatabaseWatch, StoreError> {
    let stepped_at: Option<Timestamp> = row.try_get("stepped_at")?;
    let back: Option<i64> = row.try_get("stepped_us")?;
    let restored_at: Option<Timestamp> = row.try_get("restored_at")?;
    let lost_since: Option<Timestamp> = row.try_get("restored_from")?;
    let alone_until: Option<Timestamp> = row.try_get("alone_until")?;
    Ok(DatabaseWatch {
        step: stepped_at.zip(back).map(|(at, back)| ClockStep {
            at,
            back: Duration::from_micros(u64::try_from(back).unwrap_or_default()),
        }),
        restore: restored_at
            .zip(lost_since)
            .zip(alone_until)
            .map(|((at, lost_since), alone_until)| Restore { at, lost_since, alone_until }),
    })
}

/// Stores the current time and database.
async fn note_present(connection: &mut PgConnection, now: Timestamp) -> Result<(), StoreError> {
    let update = format!(
        "UPDATE database_watch
         SET read_at = $1, is_loss_free = p.is_loss_free, identity = p.identity, timeline = p.timeline
         FROM ({PRESENT}) AS p"
    );
    sqlx::query(sqlx::AssertSqlSafe(update)).bind(now).execute(connection).await?;
    Ok(())
}

fn finish(committed: Committed) -> Result<(), StoreError> {
    match committed {
        Committed::Yes => Ok(()),
        Committed::No(error) | Committed::Unclear(error) => Err(error),
    }
}
