//! The people who use the console, and their single-use links.

use sqlx::Row;
use sqlx::postgres::PgRow;

use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{MemberId, TypedId};

/// A team member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemberRow {
    /// Its id.
    pub id: MemberId,
    /// The address to write to and to log in with; in lower case.
    pub email: String,
    /// The name.
    pub name: String,
    /// The role.
    pub role: String,
    /// Has set a password, so that they can log in.
    pub has_password: bool,
    /// When they were entered.
    pub created_at: Timestamp,
    /// Since when they may no longer log in.
    pub disabled_at: Option<Timestamp>,
    /// When one of their sessions was last used.
    pub seen_at: Option<Timestamp>,
    /// Has a second factor.
    pub has_second_factor: bool,
}

const MEMBERS: &str =
    "SELECT m.id, m.email, m.name, m.role, m.password_hash IS NOT NULL AS has_password, m.created_at,
       m.disabled_at, (SELECT max(s.seen_at) FROM sessions s WHERE s.member_id = m.id) AS seen_at,
       EXISTS (SELECT FROM second_factors f WHERE f.member_id = m.id AND f.active_since IS NOT NULL)
           AS has_second_factor
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
        has_second_factor: row.try_get("has_second_factor")?,
    })
}

impl Store {
    /// All members, by name.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn members(&self) -> Result<Vec<MemberRow>, StoreError> {
        let rows = sqlx::query(sqlx::AssertSqlSafe(format!("{MEMBERS} ORDER BY m.name, m.email")))
            .fetch_all(self.pool())
            .await?;
        Ok(rows.iter().map(read_member).collect::<Result<_, _>>()?)
    }

    /// One member, by address in lower case.
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

    /// One member, by their account at the log-in provider.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn find_member_by_account(&self, account: &str) -> Result<Option<MemberRow>, StoreError> {
        let row = sqlx::query(sqlx::AssertSqlSafe(format!("{MEMBERS} WHERE m.provider_account = $1")))
            .bind(account)
            .fetch_optional(self.pool())
            .await?;
        Ok(row.as_ref().map(read_member).transpose()?)
    }

    /// Stores a member's account at the log-in provider; `false` if they already have another one.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn note_account(&self, member: MemberId, account: &str) -> Result<bool, StoreError> {
        let noted = sqlx::query(
            "UPDATE team_members SET provider_account = $2
             WHERE id = $1 AND (provider_account IS NULL OR provider_account = $2)",
        )
        .bind(member.uuid())
        .bind(account)
        .execute(self.pool())
        .await?;
        Ok(noted.rows_affected() == 1)
    }

    /// What a password is compared with: the member and the hash, if they may log in.
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

    /// The member of a valid token (`Some(None)`: the first admin's). It stays valid.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn token_member(
        &self,
        hash: &[u8; 32],
        now: Timestamp,
    ) -> Result<Option<Option<MemberId>>, StoreError> {
        let found: Option<Option<uuid::Uuid>> =
            sqlx::query_scalar("SELECT member_id FROM team_tokens WHERE token_hash = $1 AND expires_at > $2")
                .bind(hash.as_slice())
                .bind(now)
                .fetch_optional(self.pool())
                .await?;
        Ok(found.map(|member| member.map(MemberId::from_uuid)))
    }

    /// Whether an admin can log in: if not, a log-in link is needed.
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
}

/// Locks the team, so that "there is no admin" and "this is the last admin" stay true until the transaction ends.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn lock(tx: &mut Tx) -> Result<(), StoreError> {
    sqlx::query("SELECT pg_advisory_xact_lock(hashtextextended('herald team', 0))")
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// One member, by address in lower case, within the transaction.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn find_in(tx: &mut Tx, email: &str) -> Result<Option<MemberRow>, StoreError> {
    let row = sqlx::query(sqlx::AssertSqlSafe(format!("{MEMBERS} WHERE m.email = $1")))
        .bind(email)
        .fetch_optional(&mut **tx)
        .await?;
    Ok(row.as_ref().map(read_member).transpose()?)
}

/// Inserts a member; `false` if the address is taken.
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

/// Sets a member's password, by its hash. Earlier links become invalid: one of them may have been read by another
/// person.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn set_password(tx: &mut Tx, member: MemberId, hash: &str) -> Result<(), StoreError> {
    delete_tokens(tx, member).await?;
    sqlx::query("UPDATE team_members SET password_hash = $2 WHERE id = $1")
        .bind(member.uuid())
        .bind(hash)
        .execute(&mut **tx)
        .await?;
    Ok(())
}

/// Sets a member's role, and whether they may log in. Earlier links become invalid: they were issued for the previous
/// role.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn change_member(
    tx: &mut Tx,
    member: MemberId,
    role: &str,
    disabled_at: Option<Timestamp>,
) -> Result<(), StoreError> {
    delete_tokens(tx, member).await?;
    // A member who is reactivated may use another account at the log-in provider.
    sqlx::query(
        "UPDATE team_members
         SET role = $2, disabled_at = $3, provider_account = CASE WHEN $3::timestamptz IS NULL THEN provider_account END
         WHERE id = $1",
    )
    .bind(member.uuid())
    .bind(role)
    .bind(disabled_at)
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn delete_tokens(tx: &mut Tx, member: MemberId) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM team_tokens WHERE member_id = $1")
        .bind(member.uuid())
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

/// Stores a link's token; the member's earlier ones become invalid.
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

/// Takes a valid token, so that it can't be used again, and returns its member (`Some(None)`: the first admin's).
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

/// Deletes every token of the first log-in.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn forget_set_up(tx: &mut Tx) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM team_tokens WHERE member_id IS NULL").execute(&mut **tx).await?;
    Ok(())
}
