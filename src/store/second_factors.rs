//! Second factors: the authenticator's sealed secret, the step of the last accepted code, hashes of recovery codes.

use sqlx::Row;

use super::{Store, StoreError, Tx};
use crate::domain::clock::Timestamp;
use crate::domain::id::{MemberId, TypedId};

/// A member's second factor.
#[derive(Debug, Clone)]
pub struct SecondFactorRow {
    /// The authenticator's secret.
    pub secret: Vec<u8>,
    /// Since when it is required; `None`: no code was entered yet.
    pub active_since: Option<Timestamp>,
    /// The number of unused recovery codes.
    pub recovery_codes: i64,
}

/// The place that a member's secret is sealed for.
pub(super) fn place(member: MemberId) -> String {
    format!("second_factors/{member}")
}

impl Store {
    /// How many people can log in with a password only.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn count_without_second_factor(&self) -> Result<i64, StoreError> {
        Ok(sqlx::query_scalar(
            "SELECT count(*)
             FROM team_members m
             WHERE m.password_hash IS NOT NULL AND m.disabled_at IS NULL
               AND NOT EXISTS (SELECT 1 FROM second_factors f WHERE f.member_id = m.id AND f.active_since IS NOT NULL)",
        )
        .fetch_one(self.pool())
        .await?)
    }

    /// A member's second factor, active or not.
    ///
    /// # Errors
    /// [`StoreError::Database`]; [`StoreError::Sealed`] when the secret key that sealed it is no longer configured.
    pub async fn find_second_factor(&self, member: MemberId) -> Result<Option<SecondFactorRow>, StoreError> {
        let row = sqlx::query(
            "SELECT f.secret, f.active_since,
                (SELECT count(*) FROM recovery_codes c WHERE c.member_id = f.member_id) AS recovery_codes
             FROM second_factors f WHERE f.member_id = $1",
        )
        .bind(member.uuid())
        .fetch_optional(self.pool())
        .await?;
        let Some(row) = row else { return Ok(None) };
        Ok(Some(SecondFactorRow {
            secret: self.vault().open(&place(member), row.try_get("secret")?)?,
            active_since: row.try_get("active_since")?,
            recovery_codes: row.try_get("recovery_codes")?,
        }))
    }

    /// Stores a secret that is not required yet. Returns `false` if one is already active.
    ///
    /// # Errors
    /// [`StoreError::Database`].
    pub async fn begin_second_factor(
        &self,
        member: MemberId,
        secret: &[u8],
        now: Timestamp,
    ) -> Result<bool, StoreError> {
        let sealed = self.vault().seal(&place(member), secret)?;
        let done = sqlx::query(
            "INSERT INTO second_factors AS f (member_id, secret, created_at) VALUES ($1, $2, $3)
             ON CONFLICT (member_id) DO UPDATE SET secret = EXCLUDED.secret, created_at = EXCLUDED.created_at
             WHERE f.active_since IS NULL",
        )
        .bind(member.uuid())
        .bind(sealed)
        .bind(now)
        .execute(self.pool())
        .await?;
        Ok(done.rows_affected() == 1)
    }
}

/// Requires the second factor from now on: `false` if it is already active, or there is none.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn activate(tx: &mut Tx, member: MemberId, step: i64, now: Timestamp) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE second_factors SET active_since = $3, last_step = $2
         WHERE member_id = $1 AND active_since IS NULL",
    )
    .bind(member.uuid())
    .bind(step)
    .bind(now)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Accepts the code of a step: `false` if one of that step or a later one was accepted before.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take_step(tx: &mut Tx, member: MemberId, step: i64) -> Result<bool, StoreError> {
    let done = sqlx::query(
        "UPDATE second_factors SET last_step = $2
         WHERE member_id = $1 AND active_since IS NOT NULL AND last_step < $2",
    )
    .bind(member.uuid())
    .bind(step)
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Uses up a recovery code: `false` if it is not one of the member's, or was used.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn take_recovery_code(tx: &mut Tx, member: MemberId, hash: &[u8; 32]) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM recovery_codes WHERE code_hash = $2 AND member_id = $1")
        .bind(member.uuid())
        .bind(hash.as_slice())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}

/// Replaces a member's recovery codes.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn replace_recovery_codes(
    tx: &mut Tx,
    member: MemberId,
    hashes: &[[u8; 32]],
) -> Result<(), StoreError> {
    sqlx::query("DELETE FROM recovery_codes WHERE member_id = $1")
        .bind(member.uuid())
        .execute(&mut **tx)
        .await?;
    sqlx::query(
        "INSERT INTO recovery_codes (code_hash, member_id)
         SELECT hash, $1 FROM unnest($2::bytea[]) AS n (hash)",
    )
    .bind(member.uuid())
    .bind(hashes.iter().map(|hash| hash.to_vec()).collect::<Vec<_>>())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

/// Removes a member's second factor with its recovery codes: `false` if there was none.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn delete(tx: &mut Tx, member: MemberId) -> Result<bool, StoreError> {
    let done = sqlx::query("DELETE FROM second_factors WHERE member_id = $1")
        .bind(member.uuid())
        .execute(&mut **tx)
        .await?;
    Ok(done.rows_affected() == 1)
}
