//! Connectors: their definitions, who polls them, and what their polls found.
//!
//! A lease is a time and an epoch. Whatever a poll stores is stored under its epoch: a process that was suspended, and
//! one whose connector a person has changed meanwhile, store nothing.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};

use super::{Store, StoreError};
use crate::domain::clock::Timestamp;
use crate::domain::id::{ConnectorId, TypedId};

/// Whether a connector reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConnectorState {
    /// It reads.
    Running,
    /// A person paused it.
    Paused,
    /// It stopped by itself, and waits for a decision.
    Stopped,
}

impl ConnectorState {
    /// The state as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Stopped => "stopped",
        }
    }
}

/// Numbers of rows: `read` is the sum of the others.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RowCounts {
    /// Rows that were read.
    pub read: i64,
    /// Rows that became a write of a user, or an event.
    pub accepted: i64,
    /// Rows of users with nothing to write.
    pub unchanged: i64,
    /// Rows that were read before.
    pub repeated: i64,
    /// Rows that are too old to become events.
    pub too_old: i64,
    /// Rows that are left alone: marked as deleted, or of an erased person.
    pub deleted: i64,
    /// Rows that were set aside.
    pub set_aside: i64,
    /// Rows that a newer row of the same key replaced before they were accepted.
    pub superseded: i64,
}

impl RowCounts {
    /// Adds others.
    pub fn add(&mut self, more: Self) {
        self.read += more.read;
        self.accepted += more.accepted;
        self.unchanged += more.unchanged;
        self.repeated += more.repeated;
        self.too_old += more.too_old;
        self.deleted += more.deleted;
        self.set_aside += more.set_aside;
        self.superseded += more.superseded;
    }
}

/// A connector.
#[derive(Debug, Clone)]
pub struct Connector {
    /// Its id.
    pub id: ConnectorId,
    /// Its name.
    pub name: String,
    /// What it reads and what becomes of it.
    pub definition: Value,
    /// The source's address; `None`: Herald's own database.
    pub connection: Option<SecretString>,
    /// Who saved it last.
    pub author: String,
    /// Whether it reads.
    pub state: ConnectorState,
    /// Why it was stopped.
    pub detail: String,
    /// The definition's revision.
    pub revision: i32,
    /// The epoch of the last lease or change.
    pub epoch: i64,
    /// When it is polled next.
    pub next_at: Timestamp,
    /// Its position in the source, in the reader's terms; `None`: not started.
    pub position: Option<Value>,
    /// Rows of the source at the last count.
    pub known_rows: Option<i64>,
    /// When they were counted.
    pub counted_at: Option<Timestamp>,
    /// Rows since it was created.
    pub counts: RowCounts,
    /// What the last poll saw.
    pub observed: Value,
    /// The last successful poll, or when it was started.
    pub polled_at: Timestamp,
    /// The last error; empty after a success.
    pub last_error: String,
    /// When it came.
    pub last_error_at: Option<Timestamp>,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was saved last.
    pub updated_at: Timestamp,
}

/// A definition to save.
#[derive(Debug)]
pub struct ConnectorDraft<'a> {
    /// The name.
    pub name: &'a str,
    /// What it reads and what becomes of it.
    pub definition: &'a Value,
    /// The source's address, if it is new or changes.
    pub connection: Option<&'a SecretString>,
    /// Whether an address that is known is kept.
    pub keeps_connection: bool,
    /// Who saves it.
    pub author: &'a str,
    /// The state afterwards.
    pub state: ConnectorState,
    /// Why it is stopped.
    pub detail: &'a str,
}

/// The place that a connector's address is bound to.
pub fn place(id: ConnectorId) -> String {
    format!("connectors/{id}")
}

/// Takes a connector's row lock if a poll still holds it, and prolongs its lease. `false`: someone else has it now.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn hold(
    connection: &mut PgConnection,
    id: ConnectorId,
    epoch: i64,
    until: Timestamp,
) -> Result<bool, StoreError> {
    let held = sqlx::query(
        "UPDATE connectors SET lease_until = $3 WHERE id = $1 AND epoch = $2 AND state = 'running'",
    )
    .bind(id.uuid())
    .bind(epoch)
    .bind(until)
    .execute(connection)
    .await?;
    Ok(held.rows_affected() == 1)
}

/// Stores a position and adds to the numbers of rows.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn advance(
    connection: &mut PgConnection,
    id: ConnectorId,
    position: Option<&Value>,
    more: RowCounts,
) -> Result<(), StoreError> {
    sqlx::query(
        "UPDATE connectors
         SET position = coalesce($2, position), rows_read = rows_read + $3, rows_accepted = rows_accepted + $4,
            rows_unchanged = rows_unchanged + $5, rows_repeated = rows_repeated + $6, rows_too_old = rows_too_old + $7,
            rows_deleted = rows_deleted + $8, rows_set_aside = rows_set_aside + $9,
            rows_superseded = rows_superseded + $10
         WHERE id = $1",
    )
    .bind(id.uuid())
    .bind(position.map(Json))
    .bind(more.read)
    .bind(more.accepted)
    .bind(more.unchanged)
    .bind(more.repeated)
    .bind(more.too_old)
    .bind(more.deleted)
    .bind(more.set_aside)
    .bind(more.superseded)
    .execute(connection)
    .await?;
    Ok(())
}

/// The end of a poll.
#[derive(Debug, Clone, Default)]
pub struct PollEnd {
    /// The error that ended it; empty after a success.
    pub error: String,
    /// Why the connector stops; empty if it goes on.
    pub stops: String,
    /// What it saw, if it got that far.
    pub observed: Option<Value>,
    /// The number of rows of the source, if they were counted.
    pub known_rows: Option<i64>,
}

impl Store {
    /// Creates a connector, or replaces the definition of the one of that name at `based_on` (0: there is none yet).
    /// `false`: someone else changed it meanwhile.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Sealed`].
    pub async fn save_connector(
        &self,
        id: ConnectorId,
        draft: &ConnectorDraft<'_>,
        based_on: i32,
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sealed = draft
            .connection
            .map(|address| self.vault().seal(&place(id), address.expose_secret().as_bytes()))
            .transpose()?;
        let query = if based_on == 0 {
            "INSERT INTO connectors
                (id, name, definition, connection, author, state, detail, next_at, polled_at, created_at, updated_at)
             SELECT $1, $2, $3, $4, $6, $7, $8, $10, $10, $10, $10 WHERE $9 = 0 AND NOT $5
             ON CONFLICT DO NOTHING"
        } else {
            "UPDATE connectors
             SET definition = $3, connection = CASE WHEN $5 THEN connection ELSE $4 END, author = $6, state = $7,
                detail = $8, revision = revision + 1, epoch = epoch + 1, lease_until = NULL, next_at = $10,
                polled_at = $10, known_rows = NULL, counted_at = NULL, last_error = '', updated_at = $10
             WHERE id = $1 AND name = $2 AND revision = $9"
        };
        let saved = sqlx::query(query)
            .bind(id.uuid())
            .bind(draft.name)
            .bind(Json(draft.definition))
            .bind(sealed)
            .bind(draft.keeps_connection)
            .bind(draft.author)
            .bind(draft.state.as_str())
            .bind(draft.detail)
            .bind(based_on)
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(saved.rows_affected() == 1)
    }

    /// Every connector, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`], [`StoreError::Sealed`].
    pub async fn connectors(&self) -> Result<Vec<Connector>, StoreError> {
        let rows = sqlx::query("SELECT * FROM connectors ORDER BY name").fetch_all(self.pool()).await?;
        rows.iter().map(|row| self.read_connector(row)).collect()
    }

    /// The connector of that name.
    ///
    /// # Errors
    /// As for [`Store::connectors`].
    pub async fn find_connector(&self, name: &str) -> Result<Option<Connector>, StoreError> {
        let row = sqlx::query("SELECT * FROM connectors WHERE name = $1")
            .bind(name)
            .fetch_optional(self.pool())
            .await?;
        row.map(|row| self.read_connector(&row)).transpose()
    }

    /// Deletes a connector with everything that is known of its source. Users and events stay.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn delete_connector(&self, id: ConnectorId) -> Result<bool, StoreError> {
        let deleted =
            sqlx::query("DELETE FROM connectors WHERE id = $1").bind(id.uuid()).execute(self.pool()).await?;
        Ok(deleted.rows_affected() == 1)
    }

    /// Pauses a connector, or lets it read: from `position` if there is one, without recognizing what was read before. A
    /// poll in progress stores nothing more.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn set_connector_state(
        &self,
        id: ConnectorId,
        state: ConnectorState,
        position: Option<&Value>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx = self.begin().await?;
        if position.is_some() {
            sqlx::query("DELETE FROM connector_seen WHERE connector_id = $1")
                .bind(id.uuid())
                .execute(&mut *tx)
                .await?;
        }
        sqlx::query(
            "UPDATE connectors
             SET state = $2, detail = '', position = coalesce($3, position), epoch = epoch + 1, lease_until = NULL,
                next_at = $4, polled_at = $4, known_rows = NULL, counted_at = NULL, last_error = ''
             WHERE id = $1",
        )
        .bind(id.uuid())
        .bind(state.as_str())
        .bind(position.map(Json))
        .bind(now)
        .execute(&mut *tx)
        .await?;
        Ok(tx.commit().await?)
    }

    /// Claims a due connector for a poll: it is due again when the lease ends, or when a wake-up makes it due. Times far
    /// ahead are from before the clock went back.
    ///
    /// # Errors
    /// As for [`Store::connectors`].
    pub async fn claim_connector(
        &self,
        until: Timestamp,
        now: Timestamp,
    ) -> Result<Option<Connector>, StoreError> {
        let row = sqlx::query(
            "UPDATE connectors
             SET epoch = epoch + 1, lease_until = $2, next_at = $2
             WHERE id = (
                SELECT id FROM connectors
                WHERE state = 'running'
                  AND (next_at <= $1 OR next_at > $1 + interval '2 days')
                  AND (lease_until IS NULL OR lease_until <= $1 OR lease_until > $1 + interval '2 days')
                ORDER BY next_at
                LIMIT 1
                FOR UPDATE SKIP LOCKED
             )
             RETURNING *",
        )
        .bind(now)
        .bind(until)
        .fetch_optional(self.pool())
        .await?;
        row.map(|row| self.read_connector(&row)).transpose()
    }

    /// Makes a connector due: its source says that there is something to read.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn wake_connector(&self, id: ConnectorId, now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE connectors SET next_at = $2 WHERE id = $1 AND next_at > $2")
            .bind(id.uuid())
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Ends a poll: its lease, what it found, and when the next one begins. A wake-up during the poll makes it due at
    /// once. Nothing is stored if someone else has the connector by now.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn finish_poll(
        &self,
        connector: &Connector,
        end: &PollEnd,
        next_at: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "UPDATE connectors
             SET lease_until = NULL,
                next_at = CASE WHEN next_at < $8 THEN $9::timestamptz ELSE $3 END,
                state = CASE WHEN $4 = '' THEN state ELSE 'stopped' END,
                detail = $4,
                last_error = $5,
                last_error_at = CASE WHEN $5 = '' THEN last_error_at ELSE $9 END,
                polled_at = CASE WHEN $5 = '' THEN $9 ELSE polled_at END,
                observed = coalesce($6, observed),
                known_rows = coalesce($7, known_rows),
                counted_at = CASE WHEN $7::bigint IS NULL THEN counted_at ELSE $9 END
             WHERE id = $1 AND epoch = $2",
        )
        .bind(connector.id.uuid())
        .bind(connector.epoch)
        .bind(next_at)
        .bind(&end.stops)
        .bind(&end.error)
        .bind(end.observed.as_ref().map(Json))
        .bind(end.known_rows)
        .bind(connector.next_at)
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    fn read_connector(&self, row: &PgRow) -> Result<Connector, StoreError> {
        let id = ConnectorId::from_uuid(row.try_get("id")?);
        let corrupt = |column| StoreError::corrupt("connectors", column, id);
        let sealed: Option<Vec<u8>> = row.try_get("connection")?;
        let connection = sealed
            .map(|sealed| {
                let plain = self.vault().open(&place(id), &sealed)?;
                String::from_utf8(plain).map(SecretString::from).map_err(|_| corrupt("connection"))
            })
            .transpose()?;
        let state = match row.try_get("state")? {
            "running" => ConnectorState::Running,
            "paused" => ConnectorState::Paused,
            "stopped" => ConnectorState::Stopped,
            _ => return Err(corrupt("state")),
        };
        let Json(definition): Json<Value> = row.try_get("definition")?;
        let position: Option<Json<Value>> = row.try_get("position")?;
        let Json(observed): Json<Value> = row.try_get("observed")?;
        Ok(Connector {
            id,
            name: row.try_get("name")?,
            definition,
            connection,
            author: row.try_get("author")?,
            state,
            detail: row.try_get("detail")?,
            revision: row.try_get("revision")?,
            epoch: row.try_get("epoch")?,
            next_at: row.try_get("next_at")?,
            position: position.map(|Json(position)| position),
            known_rows: row.try_get("known_rows")?,
            counted_at: row.try_get("counted_at")?,
            counts: read_counts(row)?,
            observed,
            polled_at: row.try_get("polled_at")?,
            last_error: row.try_get("last_error")?,
            last_error_at: row.try_get("last_error_at")?,
            created_at: row.try_get("created_at")?,
            updated_at: row.try_get("updated_at")?,
        })
    }
}

fn read_counts(row: &PgRow) -> Result<RowCounts, StoreError> {
    Ok(RowCounts {
        read: row.try_get("rows_read")?,
        accepted: row.try_get("rows_accepted")?,
        unchanged: row.try_get("rows_unchanged")?,
        repeated: row.try_get("rows_repeated")?,
        too_old: row.try_get("rows_too_old")?,
        deleted: row.try_get("rows_deleted")?,
        set_aside: row.try_get("rows_set_aside")?,
        superseded: row.try_get("rows_superseded")?,
    })
}
