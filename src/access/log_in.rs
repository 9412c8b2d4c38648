//! Login: attempts are counted before a password is checked, and responses don't reveal whether an account exists.

use std::time::Duration;

use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};

use super::second_factor::take_code;
use super::sessions::{CONFIRMED_FOR, Method, NewSession, Person};
use super::team::{Team, plain_email};
use super::throttle::Client;
use crate::domain::clock::Timestamp;
use crate::domain::id::MemberId;
use crate::store::{StoreError, Tx, log_ins};
use crate::vault::sha256;

/// How long a login may wait for its second factor.
const CODE_TIME: TimeDelta = TimeDelta::minutes(10);
/// When to retry if too many requests wait for a hash.
const BUSY_FOR: Duration = Duration::from_secs(5);

/// Why a login was denied.
#[derive(Debug, thiserror::Error)]
pub enum LogInError {
    /// Wrong address or password, or the member is deactivated. It is never revealed which.
    #[error("wrong email or password")]
    Refused,
    /// The code is wrong, or was used before.
    #[error("the code is wrong or was already used")]
    WrongCode,
    /// The login was not completed in time.
    #[error("the login took too long: start over")]
    Over,
    /// Password login is disabled.
    #[error("password login is disabled: log in through your provider")]
    PasswordsOff,
    /// Too many guesses.
    #[error("too many attempts; try again later")]
    Throttled {
        /// When to retry.
        retry_after: Duration,
    },
    /// Too many concurrent logins.
    #[error("too many logins are in progress; try again in a moment")]
    Busy {
        /// When to retry.
        retry_after: Duration,
    },
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl LogInError {
    pub(super) fn busy() -> Self {
        Self::Busy { retry_after: BUSY_FOR }
    }
}

/// The state of a login.
#[derive(Debug)]
pub enum LoggedIn {
    /// Completed.
    Session(NewSession),
    /// The second factor is required.
    NeedsCode(PendingLogIn),
}

/// A login that still requires the second factor.
#[derive(Debug)]
pub struct PendingLogIn {
    /// The token stored in the browser until the code is entered.
    pub token: SecretString,
    /// Until when.
    pub ends_at: Timestamp,
}

/// How a member confirms their identity.
#[derive(Debug)]
pub enum Proof {
    /// The password.
    Password(SecretString),
    /// A code of the second factor, or a recovery code.
    Code(SecretString),
}

/// The member of a login, and its state.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proven {
    member: MemberId,
    method: Method,
    /// Just authenticated.
    is_fresh: bool,
    /// A second factor is required.
    needs_code: bool,
}

impl Team {
    /// Logs in with a password, or requires the second factor.
    ///
    /// # Errors
    /// [`LogInError`].
    pub async fn log_in(
        &self,
        email: &str,
        password: SecretString,
        client: &Client<'_>,
    ) -> Result<LoggedIn, LogInError> {
        if !self.options.password_log_in {
            return Err(LogInError::PasswordsOff);
        }
        let member = self.who_knows(email, password, client).await?;
        let proven = self.proven(member, Method::Password, true).await?;
        let mut tx = self.store.begin().await?;
        let done = self.complete(&mut tx, proven, client).await?;
        tx.commit().await.map_err(StoreError::from)?;
        if matches!(done, LoggedIn::Session(_)) {
            tracing::info!(member.id = %member, "{member} logged in");
        }
        Ok(done)
    }

    /// Checks a password. Attempts are counted before the check, and a successful one is subtracted.
    pub(super) async fn who_knows(
        &self,
        email: &str,
        password: SecretString,
        client: &Client<'_>,
    ) -> Result<MemberId, LogInError> {
        let queued = self.hashing.enter().ok_or_else(LogInError::busy)?;
        let email = plain_email(email);
        let counted = match self.count_guess(&email, client).await {
            Ok(counted) => counted,
            Err(error) => {
                if matches!(error, LogInError::Throttled { .. }) {
                    self.log_failure(
                        "a login was rejected unchecked: too many attempts",
                        &email,
                        client,
                        None,
                    );
                }
                return Err(error);
            }
        };
        let known = self.store.password_of(&email).await?;
        let (member, hash) = known.unzip();
        let is_right = self.hashing.matches(queued, password, hash).await;
        let (Some(member), true) = (member, is_right) else {
            self.log_failure("a login failed", &email, client, Some(counted.tries));
            return Err(LogInError::Refused);
        };
        self.forgive(&counted).await?;
        Ok(member)
    }

    /// Logs a failed login: account (as a keyed hash), client address, and recent attempts.
    pub(super) fn log_failure(&self, what: &str, email: &str, client: &Client<'_>, tries: Option<i32>) {
        let account = self.account_hash(email);
        let (address, tries) = (client.address, tries.unwrap_or_default());
        tracing::warn!(account.hash = account, client.address = %address, tries, "{what}");
    }

    /// What a log-in has come to without the second factor. It is read before the transaction that ends the log-in,
    /// which
    /// has the one connection that a log-in may hold.
    pub(super) async fn proven(
        &self,
        member: MemberId,
        method: Method,
        is_fresh: bool,
    ) -> Result<Proven, StoreError> {
        let factor = self.store.find_second_factor(member).await?;
        let needs_code = factor.is_some_and(|factor| factor.active_since.is_some());
        Ok(Proven { member, method, is_fresh, needs_code })
    }

    /// Starts the session of an authenticated member, or requires their second factor.
    pub(super) async fn complete(
        &self,
        tx: &mut Tx,
        Proven { member, method, is_fresh, needs_code }: Proven,
        client: &Client<'_>,
    ) -> Result<LoggedIn, StoreError> {
        let now = self.clock.now();
        if !needs_code {
            let confirmed = is_fresh.then(|| now + CONFIRMED_FOR);
            return Ok(LoggedIn::Session(self.begin_session(tx, member, method, confirmed, client).await?));
        }
        let token = SecretString::from(self.ids.secret_text());
        let ends_at = now + CODE_TIME;
        let hash = sha256(token.expose_secret().as_bytes());
        log_ins::insert_pending(tx, &hash, (member, method.as_str()), ends_at).await?;
        Ok(LoggedIn::NeedsCode(PendingLogIn { token, ends_at }))
    }

    /// Completes a login with the second factor.
    ///
    /// # Errors
    /// [`LogInError::WrongCode`] keeps the login open; [`LogInError::Over`] if it has ended.
    pub async fn enter_code(
        &self,
        pending: &str,
        code: &SecretString,
        client: &Client<'_>,
    ) -> Result<NewSession, LogInError> {
        let hash = sha256(pending.as_bytes());
        let now = self.clock.now();
        let found = self.store.find_pending(&hash, now).await?.ok_or(LogInError::Over)?;
        let counted = self.count_code((found.member, &found.email), client).await.inspect_err(|error| {
            if matches!(error, LogInError::Throttled { .. }) {
                self.log_failure(
                    "a code was rejected unchecked: too many attempts",
                    &found.email,
                    client,
                    None,
                );
            }
        })?;
        let method = Method::find(&found.method)
            .ok_or_else(|| StoreError::corrupt("pending_log_ins", "method", found.member))?;
        let factor = self.store.find_second_factor(found.member).await?;
        let mut tx = self.store.begin().await?;
        if !take_code(&mut tx, (found.member, factor), code, now).await? {
            self.log_failure("a code was wrong", &found.email, client, Some(counted.tries));
            return Err(LogInError::WrongCode);
        }
        if !log_ins::take_pending(&mut tx, &hash, now).await? {
            return Err(LogInError::Over);
        }
        let confirmed = Some(now + CONFIRMED_FOR);
        let session = self.begin_session(&mut tx, found.member, method, confirmed, client).await?;
        tx.commit().await.map_err(StoreError::from)?;
        self.forgive(&counted).await?;
        tracing::info!(member.id = %found.member, "{} logged in with a second factor", found.member);
        Ok(session)
    }

    /// Confirms a member's identity, so that they may change keys, roles and apps for some minutes.
    ///
    /// # Errors
    /// [`LogInError`]: failures are counted like login attempts.
    pub async fn confirm(
        &self,
        person: &Person,
        proof: Proof,
        client: &Client<'_>,
    ) -> Result<(), LogInError> {
        let now = self.clock.now();
        match proof {
            Proof::Password(_) if !self.options.password_log_in => return Err(LogInError::PasswordsOff),
            Proof::Password(password) => {
                self.who_knows(&person.email, password, client).await?;
            }
            Proof::Code(code) => {
                let counted = self.count_code((person.id, &person.email), client).await?;
                let factor = self.store.find_second_factor(person.id).await?;
                let mut tx = self.store.begin().await?;
                if !take_code(&mut tx, (person.id, factor), &code, now).await? {
                    self.log_failure("a code was wrong", &person.email, client, Some(counted.tries));
                    return Err(LogInError::WrongCode);
                }
                tx.commit().await.map_err(StoreError::from)?;
                self.forgive(&counted).await?;
            }
        }
        let token = client.session.ok_or(LogInError::Over)?;
        self.store.confirm_session(&sha256(token.as_bytes()), now + CONFIRMED_FOR).await?;
        tracing::info!(member.id = %person.id, "{} confirmed their identity", person.id);
        Ok(())
    }
}
