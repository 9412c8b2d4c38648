//! Changing one's own password.

use std::time::Duration;

use secrecy::SecretString;

use super::log_in::LogInError;
use super::passwords;
use super::sessions::{CONFIRMED_FOR, Method, NewSession};
use super::team::{Team, TeamError};
use super::throttle::Client;
use crate::store::{StoreError, sessions, team as rows};

/// Why the password was not changed.
#[derive(Debug, thiserror::Error)]
pub enum ChangePasswordError {
    /// The current one is wrong.
    #[error("the current password is wrong")]
    OldOne,
    /// Too many attempts.
    #[error("too many attempts; try again in 15 minutes")]
    Throttled {
        /// When to retry.
        retry_after: Duration,
    },
    /// The new one is too weak.
    #[error(transparent)]
    NewOne(#[from] TeamError),
}

impl From<StoreError> for ChangePasswordError {
    fn from(error: StoreError) -> Self {
        Self::NewOne(TeamError::Store(error))
    }
}

impl From<LogInError> for ChangePasswordError {
    fn from(error: LogInError) -> Self {
        match error {
            LogInError::Throttled { retry_after } => Self::Throttled { retry_after },
            LogInError::Busy { .. } => Self::NewOne(TeamError::Busy),
            LogInError::Store(error) => error.into(),
            LogInError::Refused | LogInError::WrongCode | LogInError::Over | LogInError::PasswordsOff => {
                Self::OldOne
            }
        }
    }
}

impl Team {
    /// Changes the password after checking the current one, ends all sessions, and starts a new one. Attempts with a
    /// wrong one are counted like login attempts, so that an unlocked browser can't be used for guessing.
    ///
    /// # Errors
    /// [`ChangePasswordError`]; the password is then unchanged.
    pub async fn change_password(
        &self,
        email: &str,
        old: SecretString,
        new: SecretString,
        client: &Client<'_>,
    ) -> Result<NewSession, ChangePasswordError> {
        passwords::check(&new, email).await.map_err(TeamError::from)?;
        let member = self.who_knows(email, old, client).await?;
        let found = self.find(email).await?;
        let hash = self.hash(new).await?;
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        rows::set_password(&mut tx, member, &hash).await?;
        sessions::end_sessions(&mut tx, member).await?;
        let confirmed = Some(now + CONFIRMED_FOR);
        let session = self.begin_session(&mut tx, member, Method::Password, confirmed, client).await?;
        self.note(&mut tx, &found.row.email, "password_set", &found.row.email, found.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(session)
    }
}
