//! The people who use the console, and the links that let them in once.

use chrono::TimeDelta;
use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{MemberId, TypedId};

/// A person of the team.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// Its id.
    pub id: MemberId,
    /// Where to write to, and what to log in with; in lower case.
    pub email: String,
    /// What to call them.
    pub name: String,
    /// The word for the role.
    pub role: String,
    /// Has set a password, so that they can log in.
    pub has_password: bool,
    /// When they were entered.
    pub created_at: Timestamp,
    /// Since when they may not log in any more.
    pub disabled_at: Option<Timestamp>,
    /// When one of their sessions was last used.
    pub seen_at: Option<Timestamp>,
}

const MEMBERS: &str =
    "SELECT m.id, m.email, m.name, m.role, m.password_hash IS NOT NULL AS has_password, m.created_at,
       m.disabled_at, (SELECT max(s.seen_at) FROM sessions s WHERE s.member_id = m.id) AS seen_at
    FROM team_members m";

fn read_member(row: &PgRow) -> Result<MemberRow, sqlx::Error> {
    Ok(MemberRow {
        id: MemberId::from_uuid(row.try_get("id")?),
        email: row.try_get("email")?,
        name: row.try_get("name")?,
        role: row.try_get("role")?,
        has_password: row.try_get("has_password")?,
        created_at: row.try_get("created_at")?,
        disabled_at: row.try_get("disabled_at")?,
        seen_at: row.try_get("seen_at")?,
    })
}

impl Store {
    /// Everybody, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn members(&self) -> Result<Vec<MemberRow>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{MEMBERS} ORDER BY m.name, m.email")))
            .fetch_all(self.pool())
            .await?;
        Ok(rows.iter().map(read_member).collect::<Result<_, _>>()?)
    }

    /// One person, by address in lower case.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_member(&self, email: &str) -> Result<Option<MemberRow>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{MEMBERS} WHERE m.email = $1")))
            .bind(email)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.as_ref().map(read_member).transpose()?)
    }

    /// What a password is compared with: the member and the hash, of somebody who may log in.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn password_of(&self, email: &str) -> Result<Option<(MemberId, String)>, StoreError> {
        let row: Option<(uuid::Uuid, String)> = sqlx::query_as(
            "SELECT id, password_hash FROM team_members
             WHERE email = $1 AND password_hash IS NOT NULL AND disabled_at IS NULL",
        )
        .bind(email)
        .fetch_optional(self.pool())
        .await?;
        Ok(row.map(|(id, hash)| (MemberId::from_uuid(id), hash)))
    }

    /// Whether an admin can log in: if not, somebody has to be let in by a link.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn has_admin(&self) -> Result<bool, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT EXISTS (SELECT FROM team_members
                WHERE role = 'admin' AND password_hash IS NOT NULL AND disabled_at IS NULL)",
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// Counts one more try at a log-in for each of these subjects, and says how many there were within the window.
    /// One statement: guesses that come at once are counted one after the other.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_attempt(
        &self,
        subjects: &[[u8; 32]],
        window: TimeDelta,
        now: Timestamp,
    ) -> Result<Vec<([u8; 32], i32)>, StoreError> {
        let mut sorted: Vec<&[u8]> = subjects.iter().map(<[u8; 32]>::as_slice).collect();
        // Always in one order, so that two of them never wait for each other.
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
        .bind(now - window)
        .fetch_all(self.pool())
        .await?;
        Ok(rows
            .into_iter()
            .filter_map(|(subject, attempts)| Some((subject.try_into().ok()?, attempts)))
            .collect())
    }

    /// Forgets the tries at a log-in that came to its end, and those of windows that are over.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn forget_attempts(&self, subjects: &[[u8; 32]], before: Timestamp) -> Result<(), StoreError> {
        let subjects: Vec<&[u8]> = subjects.iter().map(<[u8; 32]>::as_slice).collect();
        sqlx::query("DELETE FROM log_in_attempts WHERE subject = ANY ($1) OR window_start < $2")
            .bind(subjects)
            .bind(before)
            .execute(self.pool())
            .await?;
        Ok(())
    }
}

/// Takes the team's lock, so that "nobody is admin" and "the last admin goes" are true until the end.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('herald team', 0))")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Enters a person; `false` if the address is taken.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_member(
    tx: &mut Tx,
    (id, email, name, role): (MemberId, &str, &str, &str),
    now: Timestamp,
) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "INSERT INTO team_members (id, email, name, role, created_at) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (email) DO NOTHING",
    )
    .bind(id.uuid())
    .bind(email)
    .bind(name)
    .bind(role)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a person a password, by its hash.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_password(tx: &mut Tx, member: MemberId, hash: &str) -> Result<(), StoreError> {
    sqlx::query("UPDATE team_members SET password_hash = $2 WHERE id = $1")
        .bind(member.uuid())
        .bind(hash)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Sets a person's role, and whether they may log in.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn change_member(
    tx: &mut Tx,
    member: MemberId,
    role: &str,
    disabled_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    sqlx::query("UPDATE team_members SET role = $2, disabled_at = $3 WHERE id = $1")
        .bind(member.uuid())
        .bind(role)
        .bind(disabled_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// How many admins can log in.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn count_admins(tx: &mut Tx) -> Result<i64, StoreError> {
    Ok(sqlx::query_scalar(
        "SELECT count(*) FROM team_members
         WHERE role = 'admin' AND password_hash IS NOT NULL AND disabled_at IS NULL",
    )
    .fetch_one(&mut **tx)
    .await?)
}

/// Stores a link's token; those that the member had before are good for nothing any more.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn insert_token(
    tx: &mut Tx,
    hash: &[u8; 32],
    member: Option<MemberId>,
    ends_at: Timestamp,
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM team_tokens WHERE member_id = $1")
        .bind(member.map(TypedId::uuid))
        .execute(&mut **tx)
        .await?;
    sqlx::query("INSERT INTO team_tokens (token_hash, member_id, expires_at) VALUES ($1, $2, $3)")
        .bind(hash.as_slice())
        .bind(member.map(TypedId::uuid))
        .bind(ends_at)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Takes a token that is still good, so that nobody can use it again: whose it is (`Some(None)`: the first admin's).
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take_token(
    tx: &mut Tx,
    hash: &[u8; 32],
    now: Timestamp,
) -> Result<Option<Option<MemberId>>, StoreError> {
    let taken: Option<(Option<uuid::Uuid>, bool)> = sqlx::query_as(
        "DELETE FROM team_tokens t WHERE t.token_hash = $1 AND t.expires_at > $2
         RETURNING t.member_id,
            EXISTS (SELECT FROM team_members m WHERE m.id = t.member_id AND m.disabled_at IS NOT NULL)",
    )
    .bind(hash.as_slice())
    .bind(now)
    .fetch_optional(&mut **tx)
    .await?;
    Ok(taken.and_then(|(member, is_disabled)| (!is_disabled).then(|| member.map(MemberId::from_uuid))))
}

/// Forgets every token of the first log-in.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forget_set_up(tx: &mut Tx) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM team_tokens WHERE member_id IS NULL").execute(&mut **tx).await?;
    Ok(())
}
