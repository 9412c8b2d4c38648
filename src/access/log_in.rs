//! Logging in: guesses are counted before a password is looked at, and nobody learns whose account there is.

use std::net::IpAddr;
use std::time::Duration;

use chrono::TimeDelta;
use secrecy::SecretString;

use super::sessions::NewSession;
use super::team::{Team, plain_email};
use crate::domain::id::MemberId;
use crate::store::StoreError;
use crate::vault::sha256;

/// The stretch of time that guesses are counted in.
const WINDOW: TimeDelta = TimeDelta::minutes(15);
/// Guesses at one account from one address, and from all of them: who guesses from everywhere still gets few, and who
/// means to lock somebody out from one place does not.
const GUESSES: (i32, i32) = (10, 60);

/// Tries at one-time tokens from one address.
const TOKEN_TRIES: i32 = 30;

/// Why somebody is not let in.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// The address or the password is wrong, or the person may not log in any more. It is never said which.
    #[error("this address and this password don't go together")]
    Refused,
    /// Too many guesses.
    #[error("too many tries; wait a little")]
    Throttled {
        /// When to try again.
        retry_after: Duration,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Team {
    /// Lets somebody in who knows the password.
    ///
    /// # Errors
    /// [`LogInError`].
    pub async fn log_in(
        &self,
        email: &str,
        password: SecretString,
        from: IpAddr,
    ) -> Result<NewSession, LogInError> {
        let member = self.who_knows(email, password, from).await?;
        let mut tx = self.store.begin().await?;
        let session = self.begin_session(&mut tx, member, self.clock.now()).await?;
        tx.commit().await.map_err(StoreError::from)?;
        tracing::info!(member.id = %member, "{member} logged in");
        Ok(session)
    }

    /// Who has this password. Tries are counted before it is looked at, and forgotten when it is right.
    pub(super) async fn who_knows(
        &self,
        email: &str,
        password: SecretString,
        from: IpAddr,
    ) -> Result<MemberId, LogInError> {
        let now = self.clock.now();
        let email = plain_email(email);
        let (account, pair) = (
            sha256(format!("account {email}").as_bytes()),
            sha256(format!("pair {from} {email}").as_bytes()),
        );
        let counted = self.store.count_attempt(&[account, pair], WINDOW, now).await?;
        let is_over = |subject, most| counted.iter().any(|(found, tries)| *found == subject && *tries > most);
        if is_over(pair, GUESSES.0) || is_over(account, GUESSES.1) {
            tracing::warn!("a log-in was refused unseen: too many tries");
            return Err(LogInError::Throttled { retry_after: WINDOW.to_std().unwrap_or_default() });
        }
        let known = self.store.password_of(&email).await?;
        let (member, hash) = known.unzip();
        let is_right = self.hashing.matches(password, hash).await;
        let (Some(member), true) = (member, is_right) else {
            tracing::warn!("a log-in failed");
            return Err(LogInError::Refused);
        };
        self.store.forget_attempts(&[account, pair], now - WINDOW).await?;
        Ok(member)
    }

    /// Counts a try at a one-time token.
    ///
    /// # Errors
    /// [`LogInError::Throttled`] after too many from one address.
    pub async fn count_token_try(&self, from: IpAddr) -> Result<(), LogInError> {
        let subject = sha256(format!("token {from}").as_bytes());
        let counted = self.store.count_attempt(&[subject], WINDOW, self.clock.now()).await?;
        if counted.iter().any(|(_, tries)| *tries > TOKEN_TRIES) {
            return Err(LogInError::Throttled { retry_after: WINDOW.to_std().unwrap_or_default() });
        }
        Ok(())
    }
}
