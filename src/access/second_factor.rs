//! The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes for when it is lost.
//!
//! The secret is encrypted; recovery codes are stored as hashes and shown once. No code works twice.

use secrecy::{ExposeSecret, SecretString};
use totp_rs::{Builder, Totp};

use super::log_in::LogInError;
use super::sessions::Person;
use super::team::{Team, TeamError};
use super::throttle::Client;
use crate::domain::clock::Timestamp;
use crate::domain::id::MemberId;
use crate::store::second_factors::{self, SecondFactorRow};
use crate::store::{StoreError, Tx, sessions};
use crate::vault::sha256;

/// Bytes of a secret: what RFC 4226 recommends.
const SECRET_LEN: usize = 20;
/// Number of recovery codes.
const RECOVERY_CODES: usize = 10;
/// Letters of recovery codes, without ambiguous ones.
const ALPHABET: &[u8; 32] = b"abcdefghjkmnpqrstuvwxyz023456789";
/// The issuer shown by authenticator apps.
const ISSUER: &str = "Herald";

/// An active second factor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SecondFactor {
    /// When it was activated.
    pub active_since: Timestamp,
    /// Number of unused recovery codes.
    pub recovery_codes: i64,
}

/// The data for an authenticator app, shown once.
#[derive(Debug)]
pub struct Enrolment {
    /// The secret as text.
    pub secret: SecretString,
    /// The `otpauth:` URL for the QR code.
    pub url: SecretString,
}

/// Why the second factor was not changed.
#[derive(Debug, thiserror::Error)]
pub enum SecondFactorError {
    /// There is one.
    #[error("you already have a second factor: remove it first")]
    Active,
    /// There is none.
    #[error("there is no second factor")]
    None,
    /// The code is wrong, or there were too many attempts.
    #[error(transparent)]
    Code(#[from] LogInError),
    /// The authenticator can't be set up.
    #[error("the authenticator's secret is invalid: start over")]
    Secret,
    /// The member.
    #[error(transparent)]
    Team(#[from] TeamError),
}

impl From<StoreError> for SecondFactorError {
    fn from(error: StoreError) -> Self {
        Self::Team(TeamError::Store(error))
    }
}

/// The TOTP parameters: six digits of SHA-1 per 30 seconds, which every app supports, and one step of
/// tolerance.
fn totp(secret: &[u8], account: &str) -> Option<Totp> {
    let account = account.replace(':', " ");
    Builder::new()
        .with_secret(secret.to_vec())
        .with_skew(1)
        .with_issuer(Some(ISSUER))
        .with_account_name(account)
        .build()
        .ok()
}

fn enrolment(secret: &[u8], email: &str) -> Option<Enrolment> {
    let totp = totp(secret, email)?;
    Some(Enrolment {
        secret: SecretString::from(totp.secret().to_base32()),
        url: SecretString::from(totp.to_url().ok()?),
    })
}

/// The time step of a code.
fn step_of(secret: &[u8], code: &str, now: Timestamp) -> Option<i64> {
    let time = u64::try_from(now.timestamp()).ok()?;
    i64::try_from(totp(secret, "")?.check(code, time)?).ok()
}

/// Normalizes a code: spaces and dashes are ignored.
fn plain(code: &str) -> String {
    code.chars().filter(char::is_ascii_alphanumeric).collect::<String>().to_ascii_lowercase()
}

impl Team {
    /// A member's second factor, if active.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn second_factor(&self, member: MemberId) -> Result<Option<SecondFactor>, StoreError> {
        let found = self.store.find_second_factor(member).await?;
        Ok(found.and_then(|row| {
            Some(SecondFactor { active_since: row.active_since?, recovery_codes: row.recovery_codes })
        }))
    }

    /// Creates the secret of a second factor, which becomes active after the first code.
    ///
    /// # Errors
    /// [`SecondFactorError::Active`] if there is one.
    pub async fn begin_second_factor(&self, person: &Person) -> Result<Enrolment, SecondFactorError> {
        let random = self.ids.secret();
        let secret = random.get(..SECRET_LEN).ok_or(SecondFactorError::Secret)?;
        if !self.store.begin_second_factor(person.id, secret, self.clock.now()).await? {
            return Err(SecondFactorError::Active);
        }
        enrolment(secret, &person.email).ok_or(SecondFactorError::Secret)
    }

    /// The secret that is waiting for its first code.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn enrolment(&self, person: &Person) -> Result<Option<Enrolment>, StoreError> {
        let found = self.store.find_second_factor(person.id).await?;
        let waiting = found.filter(|row| row.active_since.is_none());
        Ok(waiting.and_then(|row| enrolment(&row.secret, &person.email)))
    }

    /// Activates the second factor with a code from the authenticator; returns the recovery codes.
    ///
    /// # Errors
    /// [`SecondFactorError`].
    pub async fn activate_second_factor(
        &self,
        person: &Person,
        code: &SecretString,
        client: &Client<'_>,
    ) -> Result<Vec<SecretString>, SecondFactorError> {
        let counted = self.count_code((person.id, &person.email), client).await?;
        let now = self.clock.now();
        let found = self.store.find_second_factor(person.id).await?.ok_or(SecondFactorError::None)?;
        let code = plain(code.expose_secret());
        let step = step_of(&found.secret, &code, now).ok_or(LogInError::WrongCode)?;
        let mut tx = self.store.begin().await?;
        if !second_factors::activate(&mut tx, person.id, step, now).await? {
            return Err(SecondFactorError::Active);
        }
        let codes = self.replace_codes(&mut tx, person.id).await?;
        self.note(&mut tx, &person.email, "second_factor_set", &person.email, person.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        self.forgive(&counted).await?;
        Ok(codes)
    }

    /// Replaces the recovery codes.
    ///
    /// # Errors
    /// [`SecondFactorError::None`] without a second factor.
    pub async fn new_recovery_codes(&self, person: &Person) -> Result<Vec<SecretString>, SecondFactorError> {
        self.second_factor(person.id).await?.ok_or(SecondFactorError::None)?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let codes = self.replace_codes(&mut tx, person.id).await?;
        self.note(&mut tx, &person.email, "recovery_codes_made", &person.email, person.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(codes)
    }

    /// Removes one's own second factor.
    ///
    /// # Errors
    /// [`SecondFactorError::None`] if there is none.
    pub async fn remove_second_factor(&self, person: &Person) -> Result<(), SecondFactorError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        if !second_factors::delete(&mut tx, person.id).await? {
            return Err(SecondFactorError::None);
        }
        self.note(&mut tx, &person.email, "second_factor_removed", &person.email, person.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    /// Removes the second factor of a member who has lost it, and ends their sessions.
    ///
    /// # Errors
    /// [`SecondFactorError::None`] if there is none; [`TeamError::Unknown`] without such a member.
    pub async fn reset_second_factor(&self, actor: &str, email: &str) -> Result<(), SecondFactorError> {
        let now = self.clock.now();
        let found = self.find(email).await?;
        let mut tx = self.store.begin().await?;
        if !second_factors::delete(&mut tx, found.row.id).await? {
            return Err(SecondFactorError::None);
        }
        sessions::end_sessions(&mut tx, found.row.id).await?;
        self.note(&mut tx, actor, "second_factor_reset", &found.row.email, found.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(())
    }

    async fn replace_codes(&self, tx: &mut Tx, member: MemberId) -> Result<Vec<SecretString>, StoreError> {
        let texts: Vec<String> = (0..RECOVERY_CODES).map(|_| recovery_code(&self.ids.secret())).collect();
        let hashes: Vec<[u8; 32]> = texts.iter().map(|text| sha256(plain(text).as_bytes())).collect();
        second_factors::replace_recovery_codes(tx, member, &hashes).await?;
        Ok(texts.into_iter().map(SecretString::from).collect())
    }
}

/// Consumes an authenticator or recovery code: `false` if it is wrong or was already used.
pub(super) async fn take_code(
    tx: &mut Tx,
    (member, factor): (MemberId, Option<SecondFactorRow>),
    code: &SecretString,
    now: Timestamp,
) -> Result<bool, StoreError> {
    let Some(factor) = factor.filter(|factor| factor.active_since.is_some()) else { return Ok(false) };
    let code = plain(code.expose_secret());
    if let Some(step) = step_of(&factor.secret, &code, now) {
        return second_factors::take_step(tx, member, step).await;
    }
    second_factors::take_recovery_code(tx, member, &sha256(code.as_bytes())).await
}

/// Sixteen letters, 80 random bits, in groups of four.
fn recovery_code(random: &[u8; 32]) -> String {
    let letters = random.iter().take(16).map(|byte| char::from(ALPHABET[usize::from(byte % 32)]));
    letters.enumerate().fold(String::with_capacity(19), |mut text, (place, letter)| {
        if place > 0 && place % 4 == 0 {
            text.push('-');
        }
        text.push(letter);
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_rfc_6238_s() {
        let secret = b"12345678901234567890";
        for (time, code, step) in [(59, "287082", 1), (1_111_111_109, "081804", 37_037_036)] {
            let now = Timestamp::from_timestamp(time, 0).unwrap();
            assert_eq!(step_of(secret, code, now), Some(step));
            assert_eq!(step_of(secret, "000000", now), None);
        }
        let late = Timestamp::from_timestamp(59 + 61, 0).unwrap();
        assert_eq!(step_of(secret, "287082", late), None, "two steps later");
    }

    #[test]
    fn an_authenticator_reads_the_account_and_the_secret() {
        let made = enrolment(&[7; 20], "anna@shop.example").unwrap();
        let url = made.url.expose_secret();
        assert!(url.starts_with("otpauth://totp/Herald:anna%40shop.example?"), "{url}");
        assert!(url.contains(made.secret.expose_secret()) && url.contains("issuer=Herald"), "{url}");
    }

    #[test]
    fn a_code_is_the_same_with_blanks_and_capitals() {
        assert_eq!(plain(" 123 456 "), "123456");
        assert_eq!(plain("ABCD-efgh-2345-6789"), "abcdefgh23456789");
        assert_eq!(recovery_code(&[0; 32]), "aaaa-aaaa-aaaa-aaaa");
    }
}
