//! Imports of users: files, their staged rows, and how far each has come.

use serde_json::Value;
use sqlx::postgres::PgRow;
use sqlx::types::Json;
use sqlx::{PgConnection, Row};
use uuid::Uuid;

use super::{Store, StoreError, Tx};
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;

/// The state of an import.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ImportState {
    /// Parts of the file are being received.
    Uploading,
    /// Its rows are compared with what is known.
    Checking,
    /// Complete and checked; waits for a start.
    Ready,
    /// A limit was exceeded; nothing is imported.
    Stopped,
    /// Rows are accepted, and people written.
    Running,
    /// Every person is written or refused.
    Done,
    /// A person ended it.
    Cancelled,
}

impl ImportState {
    /// Every state.
    pub const ALL: [Self; 7] = [
        Self::Uploading,
        Self::Checking,
        Self::Ready,
        Self::Stopped,
        Self::Running,
        Self::Done,
        Self::Cancelled,
    ];

    /// The state as it is stored and shown.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Uploading => "uploading",
            Self::Checking => "checking",
            Self::Ready => "ready",
            Self::Stopped => "stopped",
            Self::Running => "running",
            Self::Done => "done",
            Self::Cancelled => "cancelled",
        }
    }
}

/// Counts of an import.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ImportCounts {
    /// Records of the file, without the header.
    pub records: i64,
    /// Rows with a problem.
    pub rejected: i64,
    /// People whom Herald does not know.
    pub new_users: i64,
    /// People with something to write, new ones included.
    pub changed: i64,
    /// People with nothing to write.
    pub unchanged: i64,
    /// Rows whose aliases belong to different people.
    pub conflicts: i64,
    /// Tags that are removed.
    pub removed_tags: i64,
    /// People in the outbox, or through it.
    pub accepted: i64,
    /// People whom OneSignal confirmed.
    pub sent: i64,
    /// People of whom OneSignal refused something.
    pub refused: i64,
}

/// An import.
#[derive(Debug, Clone)]
pub struct Import {
    /// Its id.
    pub id: Uuid,
    /// The app.
    pub app: AppId,
    /// The file's name.
    pub name: String,
    /// Who started it.
    pub author: String,
    /// Its state.
    pub state: ImportState,
    /// Its settings.
    pub settings: Value,
    /// Encoding, delimiter and header, once they are known.
    pub format: Option<Value>,
    /// Bytes received so far.
    pub received_bytes: i64,
    /// Received bytes that are not a whole record yet.
    pub tail: Vec<u8>,
    /// The physical line that they begin with.
    pub next_line: i64,
    /// The line up to which rows are checked, or accepted.
    pub position: i64,
    /// Its counts.
    pub counts: ImportCounts,
    /// Why it was stopped.
    pub detail: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it was started.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
}

/// Inserts an import that waits for its file.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert(
    connection: &mut PgConnection,
    id: Uuid,
    (app, name, author): (AppId, &str, &str),
    settings: &Value,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO imports (id, app_id, name, author, state, settings, created_at)
         VALUES ($1, $2, $3, $4, 'uploading', $5, $6)",
    )
    .bind(id)
    .bind(app.0)
    .bind(name)
    .bind(author)
    .bind(Json(settings))
    .bind(now)
    .execute(connection)
    .await?;
    Ok(())
}

/// An import, locked.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn lock(connection: &mut PgConnection, id: Uuid) -> Result<Option<Import>, StoreError> {
    let row = sqlx::query("SELECT * FROM imports WHERE id = $1 FOR UPDATE")
        .bind(id)
        .fetch_optional(connection)
        .await?;
    row.as_ref().map(read).transpose()
}

/// The oldest import that has work to do and is not locked by another process, locked; not one of `without`.
///
/// # Errors
/// [`StoreError::Database`], [`StoreError::Corrupt`].
pub async fn lock_active(
    connection: &mut PgConnection,
    without: &[Uuid],
) -> Result<Option<Import>, StoreError> {
    let row = sqlx::query(
        "SELECT * FROM imports
         WHERE state IN ('checking', 'running') AND id <> ALL ($1)
         ORDER BY created_at
         LIMIT 1
         FOR UPDATE SKIP LOCKED",
    )
    .bind(without)
    .fetch_optional(connection)
    .await?;
    row.as_ref().map(read).transpose()
}

/// Stores what changed in an import.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn update(connection: &mut PgConnection, import: &Import) -> Result<(), StoreError> {
    let counts = import.counts;
    sqlx::query(
        "UPDATE imports
         SET state = $2, format = $3, received_bytes = $4, tail = $5, next_line = $6, position = $7, records = $8,
            rejected = $9, new_users = $10, changed = $11, unchanged = $12, conflicts = $13, removed_tags = $14,
            accepted = $15, detail = $16, started_at = $17, finished_at = $18
         WHERE id = $1",
    )
    .bind(import.id)
    .bind(import.state.as_str())
    .bind(import.format.as_ref().map(Json))
    .bind(import.received_bytes)
    .bind(&import.tail)
    .bind(import.next_line)
    .bind(import.position)
    .bind(counts.records)
    .bind(counts.rejected)
    .bind(counts.new_users)
    .bind(counts.changed)
    .bind(counts.unchanged)
    .bind(counts.conflicts)
    .bind(counts.removed_tags)
    .bind(counts.accepted)
    .bind(&import.detail)
    .bind(import.started_at)
    .bind(import.finished_at)
    .execute(connection)
    .await?;
    Ok(())
}

/// Whether people of an import are still in the outbox.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn is_waiting(connection: &mut PgConnection, import: Uuid) -> Result<bool, StoreError> {
    let waiting = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM user_writes WHERE import_id = $1)");
    Ok(waiting.bind(import).fetch_one(connection).await?)
}

/// Names the import that people's changes come from.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn mark(
    connection: &mut PgConnection,
    import: Uuid,
    app: AppId,
    users: &[Uuid],
) -> Result<(), StoreError> {
    sqlx::query("UPDATE user_writes SET import_id = $1 WHERE app_id = $2 AND user_id = ANY($3)")
        .bind(import)
        .bind(app.0)
        .bind(users)
        .execute(connection)
        .await?;
    Ok(())
}

/// The number of people of imports in an app's outbox, counted up to `limit`.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_waiting(connection: &mut PgConnection, app: AppId, limit: i64) -> Result<i64, StoreError> {
    let count = sqlx::query_scalar(
        "SELECT count(*) FROM (SELECT 1 FROM user_writes WHERE app_id = $1 AND origin = 3 LIMIT $2) AS waiting",
    );
    Ok(count.bind(app.0).bind(limit).fetch_one(connection).await?)
}

impl Store {
    /// Deletes imports with their rejected rows that were created before a time, and ends uploads that were left
    /// unfinished before another. A small number at once.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn prune_imports(
        &self,
        created_before: Timestamp,
        unfinished_before: Timestamp,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query(
            "WITH ended AS (
                UPDATE imports SET state = 'cancelled', tail = '', finished_at = $2
                WHERE state IN ('uploading', 'ready', 'stopped') AND created_at < $1
                RETURNING id
             )
             DELETE FROM import_rows r USING ended WHERE r.import_id = ended.id AND r.problem IS NULL",
        )
        .bind(unfinished_before)
        .bind(now)
        .execute(self.pool())
        .await?;
        sqlx::query(
            "DELETE FROM imports
             WHERE id IN (
                SELECT id FROM imports
                WHERE created_at < $1 AND state IN ('done', 'cancelled', 'stopped')
                ORDER BY created_at LIMIT 10
             )",
        )
        .bind(created_before)
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Creates an import that waits for its file.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn create_import(
        &self,
        id: Uuid,
        about: (AppId, &str, &str),
        settings: &Value,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut tx: Tx = self.begin().await?;
        insert(&mut tx, id, about, settings, now).await?;
        Ok(tx.commit().await?)
    }

    /// Adds to the numbers of an import's people that are written, and refused in part. Not in the statement that
    /// records them: an import locks its own row first, and people afterwards.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_written(&self, import: Uuid, sent: i64, refused: i64) -> Result<(), StoreError> {
        sqlx::query("UPDATE imports SET sent = sent + $2, refused = refused + $3 WHERE id = $1")
            .bind(import)
            .bind(sent)
            .bind(refused)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// One import.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn find_import(&self, id: Uuid) -> Result<Option<Import>, StoreError> {
        let row =
            sqlx::query("SELECT * FROM imports WHERE id = $1").bind(id).fetch_optional(self.pool()).await?;
        row.as_ref().map(read).transpose()
    }

    /// The newest imports before an id.
    ///
    /// # Errors
    /// [`StoreError::Database`], [`StoreError::Corrupt`].
    pub async fn list_imports(&self, before: Option<Uuid>, limit: i64) -> Result<Vec<Import>, StoreError> {
        let rows = sqlx::query("SELECT * FROM imports WHERE id < $1::uuid ORDER BY id DESC LIMIT $2")
            .bind(before.unwrap_or(Uuid::max()))
            .bind(limit)
            .fetch_all(self.pool())
            .await?;
        rows.iter().map(read).collect()
    }
}

fn read(row: &PgRow) -> Result<Import, StoreError> {
    let id: Uuid = row.try_get("id")?;
    let state: &str = row.try_get("state")?;
    let state = ImportState::ALL.into_iter().find(|known| known.as_str() == state);
    let settings: Json<Value> = row.try_get("settings")?;
    let format: Option<Json<Value>> = row.try_get("format")?;
    Ok(Import {
        id,
        app: AppId(row.try_get("app_id")?),
        name: row.try_get("name")?,
        author: row.try_get("author")?,
        state: state.ok_or_else(|| StoreError::corrupt("imports", "state", id))?,
        settings: settings.0,
        format: format.map(|Json(format)| format),
        received_bytes: row.try_get("received_bytes")?,
        tail: row.try_get("tail")?,
        next_line: row.try_get("next_line")?,
        position: row.try_get("position")?,
        counts: ImportCounts {
            records: row.try_get("records")?,
            rejected: row.try_get("rejected")?,
            new_users: row.try_get("new_users")?,
            changed: row.try_get("changed")?,
            unchanged: row.try_get("unchanged")?,
            conflicts: row.try_get("conflicts")?,
            removed_tags: row.try_get("removed_tags")?,
            accepted: row.try_get("accepted")?,
            sent: row.try_get("sent")?,
            refused: row.try_get("refused")?,
        },
        detail: row.try_get("detail")?,
        created_at: row.try_get("created_at")?,
        started_at: row.try_get("started_at")?,
        finished_at: row.try_get("finished_at")?,
    })
}
