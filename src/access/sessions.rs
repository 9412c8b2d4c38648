//! Who is logged in.

use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};

use super::roles::Role;
use super::scopes::Use;
use super::team::Team;
use crate::domain::clock::Timestamp;
use crate::domain::id::MemberId;
use crate::store::{StoreError, Tx, sessions};
use crate::vault::sha256;

/// How exactly the last use of a session is kept: each look would be a write otherwise.
const SEEN_WITHIN: TimeDelta = TimeDelta::minutes(1);

/// How long sessions last.
#[derive(Debug, Clone, Copy)]
pub struct SessionTimes {
    /// Without being used.
    pub idle: TimeDelta,
    /// In all.
    pub most: TimeDelta,
}

impl Default for SessionTimes {
    fn default() -> Self {
        Self { idle: TimeDelta::hours(12), most: TimeDelta::days(7) }
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
}

impl Person {
    /// Whether the person's role allows this use.
    pub fn may(&self, what: Use) -> bool {
        self.role.may(what)
    }
}

/// A session that has just begun.
#[derive(Debug)]
pub struct NewSession {
    /// What the browser keeps. Nobody else ever sees it again.
    pub token: SecretString,
    /// When it ends, used or not.
    pub ends_at: Timestamp,
}

impl Team {
    /// Who holds this session, if it is good.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; trying again helps.
    pub async fn who_is(&self, token: &str) -> Result<Option<Person>, StoreError> {
        if token.len() != 64 {
            return Ok(None);
        }
        let hash = sha256(token.as_bytes());
        let now = self.clock.now();
        let Some(found) = self.store.find_session(&hash, now - self.times.idle, now).await? else {
            return Ok(None);
        };
        if found.seen_at + SEEN_WITHIN < now {
            self.store.touch_session(&hash, now).await?;
        }
        let role = Role::find(&found.role)
            .ok_or_else(|| StoreError::corrupt("team_members", "role", found.member))?;
        Ok(Some(Person { id: found.member, email: found.email, name: found.name, role }))
    }

    /// Ends a session at once.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_out(&self, token: &str) -> Result<(), StoreError> {
        self.store.end_session(&sha256(token.as_bytes())).await
    }

    /// Begins a session within a transaction.
    pub(super) async fn begin_session(
        &self,
        tx: &mut Tx,
        member: MemberId,
        now: Timestamp,
    ) -> Result<NewSession, StoreError> {
        let token = SecretString::from(self.ids.secret_text());
        let ends_at = now + self.times.most;
        sessions::insert_session(tx, &sha256(token.expose_secret().as_bytes()), member, ends_at, now).await?;
        Ok(NewSession { token, ends_at })
    }
}
