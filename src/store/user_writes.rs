//! The outbox of users: changes that OneSignal has not confirmed, merged by person and app.
//!
//! A claim is a due time in the future and an epoch: a process that dies loses it when that time comes, and a result is
//! recorded only under the epoch that it was claimed with. A row whose call may have been made without a recorded result
//! is in doubt, and its next call does not rely on what is known to be confirmed.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::{Map, Value};
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::user::{Changes, Origin};

/// Changes of one person to be accepted.
#[derive(Debug, Clone)]
pub struct NewWrite {
    /// The person.
    pub user: Uuid,
    /// Their changes.
    pub changes: Changes,
    /// Whether a user that OneSignal does not know may be created.
    pub creates: bool,
}

/// A claimed row.
#[derive(Debug, Clone)]
pub struct ClaimedWrite {
    /// The person.
    pub user: Uuid,
    /// Their changes at the time of the claim.
    pub changes: Changes,
    /// Whether a user that OneSignal does not know may be created.
    pub creates: bool,
    /// The version of the changes.
    pub version: i64,
    /// The epoch under which a result is recorded.
    pub epoch: i32,
    /// Failed attempts so far.
    pub attempts: i16,
    /// The maximum number of new tags in a call.
    pub max_new_tags: Option<i16>,
    /// Whether an earlier call may have been made without a recorded result.
    pub was_in_doubt: bool,
    /// Hashes of confirmed values, by part.
    pub confirmed: BTreeMap<String, String>,
    /// The names of refused parts.
    pub refused: Vec<String>,
    /// Since when OneSignal has confirmed writes of this user.
    pub exists_since: Option<Timestamp>,
    /// The person's aliases in Herald.
    pub aliases: BTreeMap<String, String>,
}

/// The result of a claim, to be recorded.
#[derive(Debug, Clone, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "columns of a recordset, independent of each other")]
pub struct WriteResult {
    /// The person.
    pub user_id: Uuid,
    /// The claim's epoch.
    pub epoch: i32,
    /// The claimed version.
    pub version: i64,
    /// Parts with their claimed values that need no further call: confirmed, unchanged or refused for good.
    pub settled: Value,
    /// Whether that is all that was claimed.
    pub is_settled: bool,
    /// When the rest is due.
    pub due_at: Timestamp,
    /// Failed attempts so far.
    pub attempts: i16,
    /// The maximum number of new tags in the next call.
    pub max_new_tags: Option<i16>,
    /// Whether a call may have been made whose result is unknown.
    pub is_in_doubt: bool,
    /// Whether a call was made; otherwise nothing is known that was not known before.
    pub is_called: bool,
    /// Hashes of newly confirmed values, by part.
    pub confirm: Value,
    /// Whether everything confirmed before is void.
    pub forgets: bool,
    /// Newly refused parts, each with code, detail and time.
    pub refuse: Value,
    /// OneSignal's id of the user, if it said it.
    pub onesignal_id: Option<Uuid>,
    /// Whether OneSignal confirmed that the user exists.
    pub does_exist: bool,
    /// Not before this time another call for this user.
    pub next_at: Timestamp,
    /// Not before this time messages to a user who was just created.
    pub holds_until: Option<Timestamp>,
    /// The answer's code.
    pub answer: &'static str,
    /// OneSignal's text.
    pub detail: String,
}

/// What recorded results finish.
#[derive(Debug, Clone, Default)]
pub struct Finished {
    /// Rules' actions, each with the reason if one of its tags was refused.
    pub actions: Vec<(Uuid, Option<Value>)>,
    /// The number of deliveries that waited for their recipients, and may be sent now.
    pub freed: i64,
    /// Imports with the numbers of their people that are written, and refused in part.
    pub imports: Vec<(Uuid, i64, i64)>,
}

/// Adds changes to the outbox of an app, one element per person; returns each person's new version.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn accept(
    connection: &mut PgConnection,
    app: AppId,
    writes: &[NewWrite],
    origin: Origin,
    now: Timestamp,
) -> Result<Vec<(Uuid, i64)>, StoreError> {
    let rows = sqlx::query(include_str!("sql/accept_user_writes.sql"))
        .bind(app.0)
        .bind(writes.iter().map(|write| write.user).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.changes.to_json().to_string()).collect::<Vec<_>>())
        .bind(writes.iter().map(|write| write.creates).collect::<Vec<_>>())
        .bind(origin.rank())
        .bind(now)
        .fetch_all(connection)
        .await?;
    rows.iter().map(|row| Ok((row.try_get("user_id")?, row.try_get("version")?))).collect()
}

impl Store {
    /// Claims an app's due changes until `until`, those of events first.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn claim_user_writes(
        &self,
        app: AppId,
        limit: usize,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Vec<ClaimedWrite>, StoreError> {
        let rows = sqlx::query(include_str!("sql/claim_user_writes.sql"))
            .bind(app.0)
            .bind(now)
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .bind(until)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read_claim).collect()
    }

    /// Records results, and returns what they finish.
    ///
    /// # Errors
    /// [`StoreError::Database`]; nothing is recorded then, and the claims expire.
    pub async fn record_user_writes(
        &self,
        app: AppId,
        results: &[WriteResult],
        now: Timestamp,
    ) -> Result<Finished, StoreError> {
        let rows = sqlx::query(include_str!("sql/record_user_writes.sql"))
            .bind(app.0)
            .bind(Json(results))
            .bind(now)
            .fetch_all(self.pool())
            .await?;
        let mut finished = Finished::default();
        for row in &rows {
            let reason: Option<Json<Value>> = row.try_get("reason")?;
            match row.try_get("action_id")? {
                Some(action) => finished.actions.push((action, reason.map(|Json(reason)| reason))),
                None => finished.freed += row.try_get::<i64, _>("freed")?,
            }
            if let Some(import) = row.try_get("import_id")? {
                finished.imports.push((import, row.try_get("sent")?, row.try_get("refused")?));
            }
        }
        Ok(finished)
    }

    /// Makes rows due that are due after `latest`: the clock has gone back, since nothing is put off that long.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn repair_people_times(&self, latest: Timestamp, now: Timestamp) -> Result<u64, StoreError> {
        let writes = sqlx::query("UPDATE user_writes SET due_at = $2 WHERE due_at > $1");
        let writes = writes.bind(latest).bind(now).execute(self.pool()).await?;
        let events = sqlx::query("UPDATE custom_events SET due_at = $2 WHERE due_at > $1");
        let events = events.bind(latest).bind(now).execute(self.pool()).await?;
        Ok(writes.rows_affected() + events.rows_affected())
    }

    /// When the next change of any app is due; `None` if there are none.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn next_user_write(&self, app: AppId) -> Result<Option<Timestamp>, StoreError> {
        let next = sqlx::query_scalar(
            "SELECT min(first.due_at)
             FROM generate_series(0, 3) AS o (origin)
             CROSS JOIN LATERAL (
                SELECT w.due_at
                FROM user_writes w
                WHERE w.app_id = $1 AND w.origin = o.origin
                ORDER BY w.due_at
                LIMIT 1
             ) AS first",
        );
        Ok(next.bind(app.0).fetch_one(self.pool()).await?)
    }
}

fn read_claim(row: &PgRow) -> Result<ClaimedWrite, StoreError> {
    let user: Uuid = row.try_get("user_id")?;
    let Json(changes): Json<Map<String, Value>> = row.try_get("changes")?;
    let confirmed: Option<Json<BTreeMap<String, String>>> = row.try_get("confirmed")?;
    let aliases: Option<Json<BTreeMap<String, String>>> = row.try_get("aliases")?;
    let refused: Option<Json<Map<String, Value>>> = row.try_get("refused")?;
    Ok(ClaimedWrite {
        refused: refused
            .map(|Json(refused)| refused.into_iter().map(|(part, _)| part).collect())
            .unwrap_or_default(),
        user,
        changes: Changes::from_json(changes)
            .map_err(|_| StoreError::corrupt("user_writes", "changes", user))?,
        creates: row.try_get("creates")?,
        version: row.try_get("version")?,
        epoch: row.try_get("claim_epoch")?,
        attempts: row.try_get("attempts")?,
        max_new_tags: row.try_get("max_new_tags")?,
        was_in_doubt: row.try_get("was_in_doubt")?,
        confirmed: confirmed.map(|Json(confirmed)| confirmed).unwrap_or_default(),
        exists_since: row.try_get("exists_since")?,
        aliases: aliases.map(|Json(aliases)| aliases).unwrap_or_default(),
    })
}
