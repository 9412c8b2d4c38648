//! The team: the first admin by a one-time token, everybody else by an admin's invitation. There is no open sign-up.

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

/// How long the token of the first log-in is good.
const SET_UP_TIME: TimeDelta = TimeDelta::hours(24);
/// How long an invitation is good.
const INVITATION_TIME: TimeDelta = TimeDelta::days(7);
/// Characters of an address and of a name at most.
const LONGEST: usize = 200;

/// A person of the team, as it is listed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Member {
    /// Their row.
    pub row: MemberRow,
    /// What they are there for.
    pub role: Role,
}

/// Somebody to be entered.
#[derive(Debug, Clone)]
pub struct NewMember<'a> {
    /// What to log in with.
    pub email: &'a str,
    /// What to call them.
    pub name: &'a str,
    /// What they are there for.
    pub role: Role,
}

/// Why the team was not changed.
#[derive(Debug, thiserror::Error)]
pub enum TeamError {
    /// The token is wrong, was used, or is too old.
    #[error("this link or token has expired or was already used; an admin can create a new one")]
    Token,
    /// No address.
    #[error("`{0}` is not a valid email address")]
    Email(String),
    /// No name.
    #[error("a name must have 1 to 200 characters")]
    Name,
    /// The address is taken.
    #[error("there is already a member with the address {0}")]
    Known(String),
    /// There is nobody with it.
    #[error("there is no member with the address {0}")]
    Unknown(String),
    /// Somebody has to be left who can let others in.
    #[error("{0} is the last admin: make someone else an admin first")]
    LastAdmin(String),
    /// The password is no good.
    #[error(transparent)]
    Password(#[from] PasswordError),
    /// Passwords are switched off.
    #[error("password login is disabled: log in through your provider")]
    PasswordsOff,
    /// Too many wait for a hash.
    #[error("too many password checks are in progress; try again in a moment")]
    Busy,
    /// The machine has no memory for a hash.
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
    /// Whether passwords are taken. The first admin sets one in any case.
    pub password_log_in: bool,
}

impl Default for TeamOptions {
    fn default() -> Self {
        Self { times: SessionTimes::default(), password_log_in: true }
    }
}

/// The people who use the console.
pub struct Team {
    pub(super) store: Store,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) ids: Arc<IdSource>,
    pub(super) options: TeamOptions,
    pub(super) hashing: Hashing,
}

/// An address as it is kept and compared.
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

    /// Whether passwords are taken.
    pub fn takes_passwords(&self) -> bool {
        self.options.password_log_in
    }

    /// Everybody, by name.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn members(&self) -> Result<Vec<Member>, StoreError> {
        self.store.members().await?.into_iter().map(member).collect()
    }

    /// Whether nobody can log in as an admin yet.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn needs_set_up(&self) -> Result<bool, StoreError> {
        Ok(!self.store.has_admin().await?)
    }

    /// The token that the first admin logs in with, good for a day; `None` once there is an admin. Those from before are
    /// good for nothing any more.
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

    /// Enters the first admin, by the token that the service printed, and logs them in.
    ///
    /// # Errors
    /// [`TeamError::Token`] if it is not good, or there is an admin already; others say what is wrong with the rest.
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

    /// Enters somebody; the token lets them choose a password, once, within a week.
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

    /// A new link for somebody who has lost the password or the invitation. Until it is used, the old password stands.
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

    /// Sets the password of whoever holds this token, ends their other sessions, and logs them in; a second factor that
    /// they have is asked for.
    ///
    /// # Errors
    /// [`TeamError::Token`] if it is not good any more; the password's errors leave it good.
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

    /// Gives somebody another role, or shuts them out (and their sessions end at once), or lets them in again.
    ///
    /// # Errors
    /// [`TeamError::LastAdmin`] if nobody would be left who can let others in.
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

    /// Logs in the one who runs Herald on their own machine, and enters them first if they are new. For `herald dev` only.
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
        // Whoever sits at the machine is asked for nothing.
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
    fn an_address_is_told_from_other_texts() {
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
