//! The team: the first admin uses a one-time token, everyone else is invited. There is no open sign-up.

use std::net::Ipv4Addr;
use std::sync::Arc;

use chrono::TimeDelta;
use secrecy::SecretString;
use serde_json::json;

use super::hashing::Hashing;
use super::log_in::LoggedIn;
use super::passwords::{self, PasswordError};
use super::roles::Role;
use super::sessions::{CONFIRMED_FOR, Method, NewSession, SessionTimes};
use super::throttle::Client;
use crate::domain::clock::{Clock, Timestamp};
use crate::domain::id::{IdSource, MemberId, TypedId};
use crate::store::audit::{self, AuditEntry};
use crate::store::team::{self as rows, MemberRow};
use crate::store::{Store, StoreError, Tx, sessions};
use crate::vault::sha256;

/// Validity of the set-up token.
const SET_UP_TIME: TimeDelta = TimeDelta::hours(24);
/// Validity of an invitation.
const INVITATION_TIME: TimeDelta = TimeDelta::days(7);
/// Maximum length of an address and of a name.
const LONGEST: usize = 200;

/// A member in a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Their row.
    pub row: MemberRow,
    /// The role.
    pub role: Role,
}

/// A member to create.
#[derive(Debug, Clone)]
pub struct NewMember<'a> {
    /// Email address.
    pub email: &'a str,
    /// Display name.
    pub name: &'a str,
    /// The role.
    pub role: Role,
}

/// Why the team was not changed.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// The token is wrong, used, or expired.
    #[error("this link or token has expired or was already used; an admin can create a new one")]
    Token,
    /// Invalid address.
    #[error("`{0}` is not a valid email address")]
    Email(String),
    /// Invalid name.
    #[error("a name must have 1 to 200 characters")]
    Name,
    /// The address is already used.
    #[error("there is already a member with the address {0}")]
    Known(String),
    /// There is no such member.
    #[error("there is no member with the address {0}")]
    Unknown(String),
    /// At least one admin has to remain.
    #[error("{0} is the last admin: make someone else an admin first")]
    LastAdmin(String),
    /// The password is too weak.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Password login is disabled.
    #[error("password login is disabled: log in through your provider")]
    PasswordsOff,
    /// Too many requests wait for a hash.
    #[error("too many password checks are in progress; try again in a moment")]
    Busy,
    /// Out of memory for a hash.
    #[error("the password could not be hashed: out of memory")]
    Hash,
    /// The database.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// How people log in.
#[derive(Debug, Clone, Copy)]
pub struct TeamOptions {
    /// How long sessions last.
    pub times: SessionTimes,
    /// Whether password login is enabled. The first admin sets one in any case.
    pub password_log_in: bool,
}

impl Default for TeamOptions {
    fn default() -> Self {
        Self { times: SessionTimes::default(), password_log_in: true }
    }
}

/// The members.
pub struct Team {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<IdSource>,
    pub(super) options: TeamOptions,
    pub(super) hashing: Hashing,
}

/// Normalizes an address.
pub fn plain_email(email: &str) -> String {
    email.trim().to_lowercase()
}

pub(super) fn check_email(email: &str) -> Result<String, TeamError> {
    let plain = plain_email(email);
    let is_good = plain.chars().count() <= LONGEST
        && plain
            .split_once('@')
            .is_some_and(|(name, host)| !name.is_empty() && !host.is_empty() && !host.contains('@'))
        && !plain.chars().any(|c| c.is_whitespace() || c.is_control() || "<>\"',;".contains(c));
    if is_good { Ok(plain) } else { Err(TeamError::Email(email.chars().take(LONGEST).collect())) }
}

fn check_name(name: &str) -> Result<&str, TeamError> {
    let name = name.trim();
    let is_good = (1..=LONGEST).contains(&name.chars().count()) && !name.chars().any(char::is_control);
    if is_good { Ok(name) } else { Err(TeamError::Name) }
}

impl Team {
    /// The team of one database.
    pub fn new(store: Store, clock: Arc<dyn Clock>, ids: Arc<IdSource>, options: TeamOptions) -> Self {
        Self { store, clock, ids, options, hashing: Hashing::default() }
    }

    /// Whether password login is enabled.
    pub fn takes_passwords(&self) -> bool {
        self.options.password_log_in
    }

    /// All members, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.store.members().await?.into_iter().map(member).collect()
    }

    /// Whether there is no admin yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn needs_set_up(&self) -> Result<bool, StoreError> {
        Ok(!self.store.has_admin().await?)
    }

    /// Creates the set-up token for the first admin, valid for a day; `None` if there is an admin. Earlier tokens
    /// become
    /// invalid.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn offer_set_up(&self) -> Result<Option<SecretString>, StoreError> {
        let mut tx = self.store.begin().await?;
        rows::lock(&mut tx).await?;
        if rows::count_admins(&mut tx).await? > 0 {
            return Ok(None);
        }
        rows::forget_set_up(&mut tx).await?;
        let token = self.new_token(&mut tx, None, SET_UP_TIME).await?;
        tx.commit().await?;
        Ok(Some(token))
    }

    /// Creates the first admin with the set-up token, and logs them in.
    ///
    /// # Errors
    /// [`TeamError::Token`] if it is invalid, or there is already an admin; other variants for invalid input.
    pub async fn set_up(
        &self,
        token: &str,
        (email, name): (&str, &str),
        password: SecretString,
        client: &Client<'_>,
    ) -> Result<NewSession, TeamError> {
        let (email, name) = (check_email(email)?, check_name(name)?);
        let now = self.clock.now();
        if self.store.token_member(&token_hash(token), now).await? != Some(None) {
            return Err(TeamError::Token);
        }
        passwords::check(&password, &email).await?;
        let hash = self.hash(password).await?;
        let mut tx = self.store.begin().await?;
        rows::lock(&mut tx).await?;
        let taken = rows::take_token(&mut tx, &token_hash(token), now).await?;
        if taken != Some(None) || rows::count_admins(&mut tx).await? > 0 {
            return Err(TeamError::Token);
        }
        let id: MemberId = self.ids.next(now);
        if !rows::insert_member(&mut tx, (id, &email, name, Role::Admin.as_str()), now).await? {
            return Err(TeamError::Known(email));
        }
        rows::set_password(&mut tx, id, &hash).await?;
        rows::forget_set_up(&mut tx).await?;
        let confirmed = Some(now + CONFIRMED_FOR);
        let session = self.begin_session(&mut tx, id, Method::Password, confirmed, client).await?;
        self.note(&mut tx, &email, "created", &email, Role::Admin, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(session)
    }

    /// Invites a member; the token allows choosing a password once within a week.
    ///
    /// # Errors
    /// [`TeamError`].
    pub async fn invite(&self, actor: &str, new: NewMember<'_>) -> Result<SecretString, TeamError> {
        let (email, name) = (check_email(new.email)?, check_name(new.name)?);
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let id: MemberId = self.ids.next(now);
        if !rows::insert_member(&mut tx, (id, &email, name, new.role.as_str()), now).await? {
            return Err(TeamError::Known(email));
        }
        let token = self.new_token(&mut tx, Some(id), INVITATION_TIME).await?;
        self.note(&mut tx, actor, "created", &email, new.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(token)
    }

    /// Creates a new link for a member who lost the password or the invitation. The password is valid until it is used.
    ///
    /// # Errors
    /// [`TeamError`].
    pub async fn new_link(&self, actor: &str, email: &str) -> Result<SecretString, TeamError> {
        let now = self.clock.now();
        let found = self.find(email).await?;
        let mut tx = self.store.begin().await?;
        let token = self.new_token(&mut tx, Some(found.row.id), INVITATION_TIME).await?;
        self.note(&mut tx, actor, "link_made", &found.row.email, found.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(token)
    }

    /// Sets the password of a token's member, ends their other sessions, and logs them in; an existing second factor is
    /// required.
    ///
    /// # Errors
    /// [`TeamError::Token`] if it is invalid; after a password error it remains valid.
    pub async fn accept(
        &self,
        token: &str,
        password: SecretString,
        client: &Client<'_>,
    ) -> Result<LoggedIn, TeamError> {
        if !self.options.password_log_in {
            return Err(TeamError::PasswordsOff);
        }
        let now = self.clock.now();
        let hash = token_hash(token);
        let Some(Some(id)) = self.store.token_member(&hash, now).await? else {
            return Err(TeamError::Token);
        };
        let found =
            self.store.members().await?.into_iter().find(|row| row.id == id).ok_or(TeamError::Token)?;
        passwords::check(&password, &found.email).await?;
        let password = self.hash(password).await?;
        let proven = self.proven(id, Method::Password, true).await?;
        let mut tx = self.store.begin().await?;
        if rows::take_token(&mut tx, &hash, now).await? != Some(Some(id)) {
            return Err(TeamError::Token);
        }
        rows::set_password(&mut tx, id, &password).await?;
        sessions::end_sessions(&mut tx, id).await?;
        let done = self.complete(&mut tx, proven, client).await?;
        let found = member(found)?;
        self.note(&mut tx, &found.row.email, "password_set", &found.row.email, found.role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(done)
    }

    /// Changes a member's role, deactivates them (ending their sessions immediately), or reactivates them.
    ///
    /// # Errors
    /// [`TeamError::LastAdmin`] if no admin would remain.
    pub async fn change(
        &self,
        actor: &str,
        email: &str,
        role: Option<Role>,
        is_disabled: Option<bool>,
    ) -> Result<Member, TeamError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        rows::lock(&mut tx).await?;
        let email = plain_email(email);
        let found = rows::find_in(&mut tx, &email).await?.ok_or(TeamError::Unknown(email))?;
        let found = member(found)?;
        let role = role.unwrap_or(found.role);
        let disabled_at = match is_disabled {
            Some(true) => found.row.disabled_at.or(Some(now)),
            Some(false) => None,
            None => found.row.disabled_at,
        };
        rows::change_member(&mut tx, found.row.id, role.as_str(), disabled_at).await?;
        if disabled_at.is_some() {
            sessions::end_sessions(&mut tx, found.row.id).await?;
        }
        let was_admin =
            found.role == Role::Admin && found.row.has_password && found.row.disabled_at.is_none();
        if was_admin && rows::count_admins(&mut tx).await? == 0 {
            return Err(TeamError::LastAdmin(found.row.email));
        }
        let action = match (found.row.disabled_at, disabled_at) {
            (None, Some(_)) => "disabled",
            (Some(_), None) => "enabled",
            _ => "changed",
        };
        self.note(&mut tx, actor, action, &found.row.email, role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(Member { row: MemberRow { role: role.as_str().to_owned(), disabled_at, ..found.row }, role })
    }

    /// Logs in the local user, creating the member if needed. For `herald dev` only.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn log_in_locally(&self) -> Result<NewSession, StoreError> {
        const EMAIL: &str = "you@localhost";
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        rows::insert_member(&mut tx, (self.ids.next(now), EMAIL, "You", Role::Admin.as_str()), now).await?;
        tx.commit().await?;
        let found = self.store.find_member(EMAIL).await?;
        let found = found.ok_or_else(|| StoreError::corrupt("team_members", "email", EMAIL))?;
        let mut tx = self.store.begin().await?;
        // The local user needs no further authentication.
        let confirmed = Some(now + self.options.times.max);
        let client = Client::at(Ipv4Addr::LOCALHOST.into());
        let session = self.begin_session(&mut tx, found.id, Method::Local, confirmed, &client).await?;
        tx.commit().await?;
        Ok(session)
    }

    pub(super) async fn find(&self, email: &str) -> Result<Member, TeamError> {
        let email = plain_email(email);
        let found = self.store.find_member(&email).await?;
        Ok(member(found.ok_or(TeamError::Unknown(email))?)?)
    }

    pub(super) async fn hash(&self, password: SecretString) -> Result<String, TeamError> {
        let random = self.ids.secret();
        let (salt, _) = random.split_first_chunk().ok_or(TeamError::Hash)?;
        let queued = self.hashing.enter().ok_or(TeamError::Busy)?;
        self.hashing.hash(queued, password, *salt).await.ok_or(TeamError::Hash)
    }

    async fn new_token(
        &self,
        tx: &mut Tx,
        member: Option<MemberId>,
        time: TimeDelta,
    ) -> Result<SecretString, StoreError> {
        let token = self.ids.secret_text();
        rows::insert_token(tx, &token_hash(&token), member, self.clock.now() + time).await?;
        Ok(SecretString::from(token))
    }

    pub(super) async fn note(
        &self,
        tx: &mut Tx,
        actor: &str,
        action: &str,
        subject: &str,
        role: Role,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let entry = AuditEntry {
            id: self.ids.next::<MemberId>(now).uuid(),
            at: now,
            actor: actor.to_owned(),
            action: action.to_owned(),
            kind: "team_member".to_owned(),
            subject: subject.to_owned(),
            before: None,
            after: Some(json!({"role": role.as_str()})),
            note: String::new(),
            key: None,
        };
        audit::append(tx, &[entry]).await
    }
}

fn member(row: MemberRow) -> Result<Member, StoreError> {
    let role = Role::find(&row.role).ok_or_else(|| StoreError::corrupt("team_members", "role", row.id))?;
    Ok(Member { row, role })
}

fn token_hash(token: &str) -> [u8; 32] {
    sha256(token.trim().as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_distinguished_from_other_texts() {
        assert_eq!(check_email(" Anna.Lindt@Shop.example ").unwrap(), "anna.lindt@shop.example");
        for bad in ["", "anna", "@shop.example", "anna@", "a@b@c", "anna lindt@shop.example", "<a@b>"] {
            assert!(check_email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_is_the_same_with_blanks_around_it() {
        assert_eq!(token_hash(" abc\n"), token_hash("abc"));
        assert_ne!(token_hash("abc"), token_hash("abd"));
    }
}
