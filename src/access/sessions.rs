//! Who is logged in.

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

/// How exactly the last use of a session is kept: each look would be a write otherwise.
const SEEN_WITHIN: TimeDelta = TimeDelta::minutes(1);
/// How long somebody who proved who they are may change keys, roles and apps without being asked again.
pub(super) const CONFIRMED_FOR: TimeDelta = TimeDelta::minutes(10);

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct SessionTimes {
    /// Without being used.
    pub idle: TimeDelta,
    /// In all.
    pub max: TimeDelta,
}

impl Default for SessionTimes {
    fn default() -> Self {
        Self { idle: TimeDelta::minutes(30), max: TimeDelta::hours(12) }
    }
}

/// How somebody logged in.
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
    /// The word for it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Password => "password",
            Self::Oidc => "oidc",
            Self::Local => "local",
        }
    }

    /// Reads a method's word.
    pub fn find(word: &str) -> Option<Self> {
        [Self::Password, Self::Oidc, Self::Local].into_iter().find(|method| method.as_str() == word)
    }
}

/// Somebody who is logged in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// Who.
    pub id: MemberId,
    /// What to log in with, and what the record of changes calls them.
    pub email: String,
    /// What to call them.
    pub name: String,
    /// What they are there for.
    pub role: Role,
    /// How they logged in.
    pub method: Method,
    /// Until when they count as having just proved who they are.
    pub confirmed_until: Option<Timestamp>,
    /// Has a password.
    pub has_password: bool,
    /// Has a second factor.
    pub has_second_factor: bool,
}

impl Person {
    /// Whether the person's role allows this use.
    pub fn may(&self, what: Use) -> bool {
        self.role.may(what)
    }

    /// Whether they proved who they are within the last minutes.
    pub fn is_confirmed(&self, now: Timestamp) -> bool {
        self.confirmed_until.is_some_and(|until| until > now)
    }
}

/// A session that has just begun.
#[derive(Debug)]
pub struct NewSession {
    /// What the browser keeps. Nobody else ever sees it again.
    pub token: SecretString,
    /// When it ends, used or not.
    pub ends_at: Timestamp,
    /// What the browser keeps beyond the session, so that its failed log-ins are counted apart from everybody's.
    pub browser: Option<SecretString>,
}

impl Team {
    /// Who holds this session, if it is good. `is_use`: a person did something, so that the session goes on; a page that
    /// refreshes itself is no use.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; trying again helps.
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

    /// Ends a session at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_out(&self, token: &str) -> Result<(), StoreError> {
        self.store.end_session(&sha256(token.as_bytes())).await
    }

    /// Begins a session within a transaction, ends the one that the browser held, and remembers the browser.
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
