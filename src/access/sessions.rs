//! Sessions.

use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};

use super::roles::Role;
use super::scopes::Use;
use super::team::Team;
use super::throttle::Client;
use crate::domain::clock::Timestamp;
use crate::domain::id::MemberId;
use crate::store::sessions::NewSessionRow;
use crate::store::{StoreError, Tx, log_ins, sessions};
use crate::vault::sha256;

/// Precision of a session's last use, which avoids a write for each request.
const SEEN_WITHIN: TimeDelta = TimeDelta::minutes(1);
/// How long an identity confirmation is valid for changing keys, roles and apps.
pub(super) const CONFIRMED_FOR: TimeDelta = TimeDelta::minutes(10);

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct SessionTimes {
    /// Without use.
    pub idle: TimeDelta,
    /// In total.
    pub max: TimeDelta,
}

impl Default for SessionTimes {
    fn default() -> Self {
        Self { idle: TimeDelta::minutes(30), max: TimeDelta::hours(12) }
    }
}

/// The login method.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    /// With a password.
    Password,
    /// Through the OpenID Connect provider.
    Oidc,
    /// From this machine, with `herald dev`.
    Local,
}

impl Method {
    /// The name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Oidc => "oidc",
            Self::Local => "local",
        }
    }

    /// Parses a method.
    pub fn find(word: &str) -> Option<Self> {
        [Self::Password, Self::Oidc, Self::Local].into_iter().find(|method| method.as_str() == word)
    }
}

/// A logged-in member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The member.
    pub id: MemberId,
    /// Email address, also used in the audit log.
    pub email: String,
    /// Display name.
    pub name: String,
    /// The role.
    pub role: Role,
    /// The login method.
    pub method: Method,
    /// When the identity confirmation expires.
    pub confirmed_until: Option<Timestamp>,
    /// Has a password.
    pub has_password: bool,
    /// Has a second factor.
    pub has_second_factor: bool,
}

impl Person {
    /// Whether the member's role allows this use.
    pub fn may(&self, what: Use) -> bool {
        self.role.may(what)
    }

    /// Whether the identity was recently confirmed.
    pub fn is_confirmed(&self, now: Timestamp) -> bool {
        self.confirmed_until.is_some_and(|until| until > now)
    }
}

/// A new session.
#[derive(Debug)]
pub struct NewSession {
    /// The token stored in the browser, and nowhere else.
    pub token: SecretString,
    /// When it ends regardless of use.
    pub ends_at: Timestamp,
    /// The token of a known browser, so that its failed logins are counted separately.
    pub browser: Option<SecretString>,
}

impl Team {
    /// The member of a valid session. `is_use`: the request extends the session; automatic refreshes do
    /// not.
    ///
    /// # Errors
    /// [`StoreError`] if the database is unavailable; retrying helps.
    pub async fn who_is(&self, token: &str, is_use: bool) -> Result<Option<Person>, StoreError> {
        if token.len() != 64 {
            return Ok(None);
        }
        let hash = sha256(token.as_bytes());
        let now = self.clock.now();
        let idle_since = now - self.options.times.idle;
        let Some(found) = self.store.find_session(&hash, idle_since, now).await? else {
            return Ok(None);
        };
        if is_use && found.seen_at + SEEN_WITHIN < now {
            self.store.touch_session(&hash, now).await?;
        }
        let corrupt = |column| StoreError::corrupt("sessions", column, found.member);
        Ok(Some(Person {
            id: found.member,
            role: Role::find(&found.role).ok_or_else(|| corrupt("role"))?,
            method: Method::find(&found.method).ok_or_else(|| corrupt("method"))?,
            email: found.email,
            name: found.name,
            confirmed_until: found.confirmed_until,
            has_password: found.has_password,
            has_second_factor: found.has_second_factor,
        }))
    }

    /// Ends a session immediately.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_out(&self, token: &str) -> Result<(), StoreError> {
        self.store.end_session(&sha256(token.as_bytes())).await
    }

    /// Starts a session within a transaction, ends the browser's previous one, and registers the browser.
    pub(super) async fn begin_session(
        &self,
        tx: &mut Tx,
        member: MemberId,
        method: Method,
        confirmed_until: Option<Timestamp>,
        client: &Client<'_>,
    ) -> Result<NewSession, StoreError> {
        let now = self.clock.now();
        if let Some(earlier) = client.session {
            sessions::end_one(tx, &sha256(earlier.as_bytes())).await?;
        }
        let browser = match (method, client.browser_hash()) {
            (Method::Local, _) => None,
            (_, Some(_)) => client.browser.map(SecretString::from),
            (_, None) => Some(SecretString::from(self.ids.secret_text())),
        };
        if let Some(browser) = &browser {
            let hash = sha256(browser.expose_secret().as_bytes());
            log_ins::remember_browser(tx, &hash, member, now).await?;
        }
        let token = SecretString::from(self.ids.secret_text());
        let hash = sha256(token.expose_secret().as_bytes());
        let ends_at = now + self.options.times.max;
        let method = method.as_str();
        let row = NewSessionRow { hash: &hash, member, method, confirmed_until, ends_at };
        sessions::insert_session(tx, row, now).await?;
        Ok(NewSession { token, ends_at, browser })
    }
}
