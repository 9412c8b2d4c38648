//! Sessions, by the hash of the browser's token.

use sqlx::Row;

use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{MemberId, TypedId};

/// A valid session, with its member.
#[derive(Debug, Clone)]
pub struct SessionRow {
    /// Whose it is.
    pub member: MemberId,
    /// The address to log in with.
    pub email: String,
    /// The name.
    pub name: String,
    /// The role.
    pub role: String,
    /// When it was last used, to the minute.
    pub seen_at: Timestamp,
    /// How they logged in.
    pub method: String,
    /// Until when they count as having just confirmed their identity.
    pub confirmed_until: Option<Timestamp>,
    /// Has a password to confirm with.
    pub has_password: bool,
    /// Has a second factor.
    pub has_second_factor: bool,
}

/// A new session.
#[derive(Debug, Clone, Copy)]
pub struct NewSessionRow<'a> {
    /// The hash of the browser's token.
    pub hash: &'a [u8; 32],
    /// Whose it is.
    pub member: MemberId,
    /// How they logged in.
    pub method: &'a str,
    /// Until when they count as having just confirmed their identity.
    pub confirmed_until: Option<Timestamp>,
    /// When it expires, used or not.
    pub ends_at: Timestamp,
}

impl Store {
    /// The session with this hash, if neither it nor its member has ended, and it was used since `idle_since`.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_session(
        &self,
        hash: &[u8; 32],
        idle_since: Timestamp,
        now: Timestamp,
    ) -> Result<Option<SessionRow>, StoreError> {
        let row = sqlx::query(
            "SELECT m.id, m.email, m.name, m.role, s.seen_at, s.method, s.confirmed_until,
                m.password_hash IS NOT NULL AS has_password,
                EXISTS (SELECT FROM second_factors f WHERE f.member_id = m.id AND f.active_since IS NOT NULL)
                    AS has_second_factor
             FROM sessions s JOIN team_members m ON m.id = s.member_id
             WHERE s.token_hash = $1 AND s.seen_at > $2 AND s.ends_at > $3 AND m.disabled_at IS NULL",
        )
        .bind(hash.as_slice())
        .bind(idle_since)
        .bind(now)
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(SessionRow {
            member: MemberId::from_uuid(row.try_get("id")?),
            email: row.try_get("email")?,
            name: row.try_get("name")?,
            role: row.try_get("role")?,
            seen_at: row.try_get("seen_at")?,
            method: row.try_get("method")?,
            confirmed_until: row.try_get("confirmed_until")?,
            has_password: row.try_get("has_password")?,
            has_second_factor: row.try_get("has_second_factor")?,
        }))
    }

    /// Notes that a session was used.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn touch_session(&self, hash: &[u8; 32], now: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE sessions SET seen_at = $2 WHERE token_hash = $1 AND seen_at < $2")
            .bind(hash.as_slice())
            .bind(now)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Sets until when a session counts as having just been confirmed.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn confirm_session(&self, hash: &[u8; 32], until: Timestamp) -> Result<(), StoreError> {
        sqlx::query("UPDATE sessions SET confirmed_until = $2 WHERE token_hash = $1")
            .bind(hash.as_slice())
            .bind(until)
            .execute(self.pool())
            .await?;
        Ok(())
    }

    /// Ends a session at once.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn end_session(&self, hash: &[u8; 32]) -> Result<(), StoreError> {
        sqlx::query("DELETE FROM sessions WHERE token_hash = $1")
            .bind(hash.as_slice())
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

/// Begins a session, and deletes the member's expired ones.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_session(
    tx: &mut Tx,
    session: NewSessionRow<'_>,
    now: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE member_id = $1 AND ends_at <= $2")
        .bind(session.member.uuid())
        .bind(now)
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO sessions (token_hash, member_id, created_at, seen_at, ends_at, method, confirmed_until)
         VALUES ($1, $2, $3, $3, $4, $5, $6)",
    )
    .bind(session.hash.as_slice())
    .bind(session.member.uuid())
    .bind(now)
    .bind(session.ends_at)
    .bind(session.method)
    .bind(session.confirmed_until)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Ends the session with this hash, regardless of its member, within a transaction.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn end_one(tx: &mut Tx, hash: &[u8; 32]) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM sessions WHERE token_hash = $1")
        .bind(hash.as_slice())
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Ends all sessions of a member at once, including log-ins that still need a code.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn end_sessions(tx: &mut Tx, member: MemberId) -> Result<(), StoreError> {
    for query in [
        "DELETE FROM sessions WHERE member_id = $1",
        "DELETE FROM pending_log_ins WHERE member_id = $1",
        "DELETE FROM known_browsers WHERE member_id = $1",
    ] {
        sqlx::query(query).bind(member.uuid()).execute(&mut **tx).await?;
    }
    Ok(())
}
