//! Log-ins in progress: counted attempts, known browsers, pending codes and provider responses.

use chrono::TimeDelta;

use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{MemberId, TypedId};

/// The window that attempts are counted in.
pub const ATTEMPT_WINDOW: TimeDelta = TimeDelta::minutes(15);
/// The number of browsers kept for a member: those used last.
const BROWSERS: i64 = 20;
/// How long an unused browser stays known.
const BROWSERS_STAY: TimeDelta = TimeDelta::days(180);

/// A log-in that still needs the second factor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PendingRow {
    /// Whose it is.
    pub member: MemberId,
    /// What they log in with.
    pub email: String,
    /// The word for how they logged in so far.
    pub method: String,
}

impl Store {
    /// Counts one more attempt for each of these subjects, and returns how many there were within [`ATTEMPT_WINDOW`].
    /// One statement: simultaneous attempts are serialized.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_attempt(
        &self,
        subjects: &[[u8; 32]],
        now: Timestamp,
    ) -> Result<Vec<([u8; 32], i32)>, StoreError> {
        let mut sorted: Vec<&[u8]> = subjects.iter().map(<[u8; 32]>::as_slice).collect();
        // Always in one order, so that they never deadlock.
        sorted.sort_unstable();
        let rows: Vec<(Vec<u8>, i32)> = sqlx::query_as(
            "INSERT INTO log_in_attempts AS a (subject, window_start, attempts)
             SELECT subject, $2, 1 FROM unnest($1::bytea[]) AS n (subject) ORDER BY subject
             ON CONFLICT (subject) DO UPDATE
             SET attempts = CASE WHEN a.window_start <= $3 THEN 1 ELSE a.attempts + 1 END,
                 window_start = CASE WHEN a.window_start <= $3 THEN $2 ELSE a.window_start END
             RETURNING subject, attempts",
        )
        .bind(sorted)
        .bind(now)
        .bind(now - ATTEMPT_WINDOW)
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|(subject, attempts)| Some((subject.try_into().ok()?, attempts)))
            .collect())
    }

    /// Deletes all attempts of some subjects, and one attempt of others.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forgive_attempts(&self, all: &[[u8; 32]], one: &[[u8; 32]]) -> Result<(), StoreError> {
        let plain = |subjects: &[[u8; 32]]| subjects.iter().map(|one| one.to_vec()).collect::<Vec<_>>();
        sqlx::query(
            "DELETE FROM log_in_attempts
             WHERE subject = ANY ($1) OR (subject = ANY ($2) AND attempts = 1)",
        )
        .bind(plain(all))
        .bind(plain(one))
        .execute(self.pool())
        .await?;
        sqlx::query(
            "UPDATE log_in_attempts SET attempts = attempts - 1 WHERE subject = ANY ($1) AND attempts > 1",
        )
        .bind(plain(one))
        .execute(self.pool())
        .await?;
        Ok(())
    }

    /// Whether a member with this address has logged in with this browser.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn knows_browser(&self, hash: &[u8; 32], email: &str) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM known_browsers b JOIN team_members m ON m.id = b.member_id
                WHERE b.token_hash = $1 AND m.email = $2)",
        )
        .bind(hash.as_slice())
        .bind(email)
        .fetch_one(self.pool())
        .await?)
    }

    /// A log-in that still needs the second factor, if it has not expired and the member may log in.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_pending(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<PendingRow>, StoreError> {
        let row: Option<(uuid::Uuid, String, String)> = sqlx::query_as(
            "SELECT m.id, m.email, p.method
             FROM pending_log_ins p JOIN team_members m ON m.id = p.member_id
             WHERE p.token_hash = $1 AND p.expires_at > $2 AND m.disabled_at IS NULL",
        )
        .bind(hash.as_slice())
        .bind(now)
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|(id, email, method)| PendingRow { member: MemberId::from_uuid(id), email, method }))
    }

    /// Stores the data of a log-in at the provider until the response comes.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn insert_oidc(
        &self,
        state: &[u8; 32],
        sealed: &[u8],
        expires_at: Timestamp,
    ) -> Result<(), StoreError> {
        sqlx::query("INSERT INTO oidc_log_ins (state_hash, sealed, expires_at) VALUES ($1, $2, $3)")
            .bind(state.as_slice())
            .bind(sealed)
            .bind(expires_at)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Takes the data of a log-in at the provider, so that the response can be used only once.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn take_oidc(&self, state: &[u8; 32], now: Timestamp) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(sqlx::query_scalar(
            "DELETE FROM oidc_log_ins WHERE state_hash = $1 AND expires_at > $2 RETURNING sealed",
        )
        .bind(state.as_slice())
        .bind(now)
        .fetch_optional(self.pool())
        .await?)
    }

    /// Deletes expired rows: attempts, sessions, links, unfinished log-ins, unused browsers.
    ///
    /// # Errors
    /// [`StoreError::Database`]; retrying helps.
    pub async fn prune_log_ins(&self, now: Timestamp) -> Result<u64, StoreError> {
        let mut pruned = 0;
        for (query, before) in [
            ("DELETE FROM log_in_attempts WHERE window_start <= $1", now - ATTEMPT_WINDOW),
            ("DELETE FROM sessions WHERE ends_at <= $1", now),
            ("DELETE FROM team_tokens WHERE expires_at <= $1", now),
            ("DELETE FROM pending_log_ins WHERE expires_at <= $1", now),
            ("DELETE FROM oidc_log_ins WHERE expires_at <= $1", now),
            ("DELETE FROM known_browsers WHERE seen_at <= $1", now - BROWSERS_STAY),
        ] {
            pruned += sqlx::query(query).bind(before).execute(self.pool()).await?.rows_affected();
        }
        Ok(pruned)
    }
}

/// Remembers that a member logged in with a browser.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn remember_browser(
    tx: &mut Tx,
    hash: &[u8; 32],
    member: MemberId,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO known_browsers (token_hash, member_id, seen_at) VALUES ($1, $2, $3)
         ON CONFLICT (token_hash, member_id) DO UPDATE SET seen_at = EXCLUDED.seen_at",
    )
    .bind(hash.as_slice())
    .bind(member.uuid())
    .bind(now)
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "DELETE FROM known_browsers
         WHERE member_id = $1 AND token_hash NOT IN (
            SELECT token_hash FROM known_browsers WHERE member_id = $1 ORDER BY seen_at DESC LIMIT $2)",
    )
    .bind(member.uuid())
    .bind(BROWSERS)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Stores a log-in that still needs the second factor.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_pending(
    tx: &mut Tx,
    hash: &[u8; 32],
    (member, method): (MemberId, &str),
    expires_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query(
        "INSERT INTO pending_log_ins (token_hash, member_id, method, expires_at) VALUES ($1, $2, $3, $4)",
    )
    .bind(hash.as_slice())
    .bind(member.uuid())
    .bind(method)
    .bind(expires_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Takes a log-in that needed the second factor: `false` if another request has already taken it.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take_pending(tx: &mut Tx, hash: &[u8; 32], now: Timestamp) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM pending_log_ins WHERE token_hash = $1 AND expires_at > $2")
        .bind(hash.as_slice())
        .bind(now)
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}
