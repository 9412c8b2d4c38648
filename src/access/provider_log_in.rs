//! Login through an OpenID Connect provider: the pending state, and matching the response to a member.
//!
//! The protocol itself is behind the port [`LogInProvider`]; `oidc` is its adapter.

use async_trait::async_trait;
use chrono::TimeDelta;
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use url::Url;

use super::log_in::{LogInError, LoggedIn};
use super::roles::Role;
use super::sessions::{CONFIRMED_FOR, Method};
use super::team::{Team, check_email};
use super::throttle::Client;
use crate::domain::clock::Timestamp;
use crate::domain::id::MemberId;
use crate::store::{StoreError, team as rows};
use crate::vault::sha256;

/// How long a login at the provider may take.
const AT_PROVIDER: TimeDelta = TimeDelta::minutes(10);
/// The encryption context of pending provider logins.
const PLACE: &str = "oidc_log_ins";

/// Why the provider is unavailable, or its response invalid. Contains no part of a token.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProviderError {
    /// It does not respond, or violates the protocol.
    #[error("the login provider is unavailable: {0}")]
    Unusable(String),
    /// It rejected the code, or its token is invalid.
    #[error("invalid response from the login provider: {0}")]
    BadAnswer(String),
}

/// The redirect to the provider, with the expected values.
#[derive(Debug)]
pub struct Redirect {
    /// The provider's page.
    pub url: Url,
    /// Returned with the callback.
    pub state: SecretString,
    /// Contained in the token.
    pub nonce: SecretString,
    /// The PKCE verifier.
    pub verifier: SecretString,
}

/// The verified identity from the provider. Signature, issuer, audience, times and nonce have been checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProviderAnswer {
    /// Their account: issuer and subject, which are never reassigned.
    pub account: String,
    /// Their address.
    pub email: Option<String>,
    /// Whether the provider has verified that it is theirs.
    pub email_verified: bool,
    /// Display name.
    pub name: Option<String>,
    /// When they last authenticated there.
    pub authenticated_at: Option<Timestamp>,
}

/// An OpenID Connect provider.
#[async_trait]
pub trait LogInProvider: Send + Sync {
    /// The redirect for the browser. `again`: the person has to authenticate even with an existing provider session.
    ///
    /// # Errors
    /// [`ProviderError::Unusable`]; retrying may help.
    async fn redirect(&self, again: bool, now: Timestamp) -> Result<Redirect, ProviderError>;

    /// Exchanges the returned code, and verifies the token.
    ///
    /// # Errors
    /// [`ProviderError`]; the login has to be restarted.
    async fn answer(
        &self,
        code: &str,
        nonce: &SecretString,
        verifier: &SecretString,
        now: Timestamp,
    ) -> Result<ProviderAnswer, ProviderError>;
}

/// Who may log in through the provider.
#[derive(Debug, Clone, Default)]
pub struct OidcPolicy {
    /// Allowed email domains; empty: all.
    pub domains: Vec<String>,
    /// The role of people who are not members yet; `None`: they are rejected.
    pub default_role: Option<Role>,
}

/// Why a login through the provider failed.
#[derive(Debug, thiserror::Error)]
pub enum ProviderLogInError {
    /// The response doesn't belong to a login of this browser, or the login has expired.
    #[error(
        "this response doesn't belong to a login that this browser started within ten minutes: start over"
    )]
    State,
    /// The provider.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// The address may not log in. The reason is not revealed.
    #[error("no member can log in with this account; an admin can invite its address")]
    NotInTeam,
    /// Too many.
    #[error(transparent)]
    LogIn(#[from] LogInError),
}

impl From<StoreError> for ProviderLogInError {
    fn from(error: StoreError) -> Self {
        Self::LogIn(LogInError::Store(error))
    }
}

/// The pending state of a provider login.
#[derive(Serialize, Deserialize)]
struct Kept {
    nonce: String,
    verifier: String,
    next: String,
    again: bool,
    session: Option<String>,
}

/// A login returned from the provider.
#[derive(Debug)]
pub struct ProviderLogIn {
    /// Its state.
    pub logged_in: LoggedIn,
    /// The target after login.
    pub next: String,
}

impl Team {
    /// Starts a login at the provider: returns the redirect, and the state for the browser.
    ///
    /// # Errors
    /// [`ProviderLogInError`].
    pub async fn begin_at_provider(
        &self,
        provider: &dyn LogInProvider,
        (next, again): (&str, bool),
        client: &Client<'_>,
    ) -> Result<(Url, SecretString), ProviderLogInError> {
        self.count_redirect(client.address).await?;
        let now = self.clock.now();
        let redirect = provider.redirect(again, now).await?;
        let kept = Kept {
            nonce: redirect.nonce.expose_secret().to_owned(),
            verifier: redirect.verifier.expose_secret().to_owned(),
            next: next.to_owned(),
            again,
            session: client.session.map(str::to_owned),
        };
        let text = serde_json::to_vec(&kept)
            .map_err(|_| ProviderError::Unusable("the login could not be stored".to_owned()))?;
        let sealed = self.store.vault().seal(PLACE, &text).map_err(StoreError::from)?;
        let hash = sha256(redirect.state.expose_secret().as_bytes());
        self.store.insert_oidc(&hash, &sealed, now + AT_PROVIDER).await?;
        Ok((redirect.url, redirect.state))
    }

    /// Completes a login at the provider: `kept` is the browser's state, `state` and `code` were returned.
    ///
    /// # Errors
    /// [`ProviderLogInError`]; a response is valid only once.
    pub async fn finish_at_provider(
        &self,
        provider: &dyn LogInProvider,
        policy: &OidcPolicy,
        (kept, state, code): (&str, &str, &str),
        client: &Client<'_>,
    ) -> Result<ProviderLogIn, ProviderLogInError> {
        let now = self.clock.now();
        let is_ours = bool::from(kept.as_bytes().ct_eq(state.as_bytes()));
        if !is_ours || state.is_empty() {
            return Err(ProviderLogInError::State);
        }
        let sealed = self.store.take_oidc(&sha256(state.as_bytes()), now).await?;
        let sealed = sealed.ok_or(ProviderLogInError::State)?;
        let text = self.store.vault().open(PLACE, &sealed).map_err(StoreError::from)?;
        let kept: Kept = serde_json::from_slice(&text).map_err(|_| ProviderLogInError::State)?;
        let nonce = SecretString::from(kept.nonce);
        let answer = provider.answer(code, &nonce, &SecretString::from(kept.verifier), now).await?;
        let client = Client { session: kept.session.as_deref(), ..*client };
        let member = self.member_of(&answer, policy, &client, now).await?;
        let is_fresh = kept.again && answer.authenticated_at.is_some_and(|at| at + CONFIRMED_FOR > now);
        let proven = self.proven(member, Method::Oidc, is_fresh).await?;
        let mut tx = self.store.begin().await?;
        let logged_in = self.complete(&mut tx, proven, &client).await?;
        tx.commit().await.map_err(StoreError::from)?;
        tracing::info!(member.id = %member, "{member} logged in through the provider");
        Ok(ProviderLogIn { logged_in, next: kept.next })
    }

    /// The member of the verified identity, created if new and allowed by the policy.
    async fn member_of(
        &self,
        answer: &ProviderAnswer,
        policy: &OidcPolicy,
        client: &Client<'_>,
        now: Timestamp,
    ) -> Result<MemberId, ProviderLogInError> {
        let given = answer.email.as_deref().unwrap_or_default();
        let refused = |why: &str| {
            self.log_failure(&format!("a login through the provider failed: {why}"), given, client, None);
            ProviderLogInError::NotInTeam
        };
        let Ok(email) = check_email(given) else { return Err(refused("it has no email address")) };
        if !answer.email_verified {
            return Err(refused("its address is not verified"));
        }
        let domain = email.rsplit('@').next().unwrap_or_default();
        let is_allowed =
            policy.domains.is_empty() || policy.domains.iter().any(|one| one.eq_ignore_ascii_case(domain));
        if !is_allowed {
            return Err(refused("its domain is not allowed"));
        }
        let found = match self.store.find_member_by_account(&answer.account).await? {
            Some(found) => Some(found),
            None => self.store.find_member(&email).await?,
        };
        let member = match (found, policy.default_role) {
            (Some(found), _) if found.disabled_at.is_none() => found.id,
            (Some(_), _) => return Err(refused("the member is deactivated")),
            (None, None) => return Err(refused("it is not in the team")),
            (None, Some(role)) => self.enter(&email, answer.name.as_deref(), role, now).await?,
        };
        if !self.store.note_account(member, &answer.account).await? {
            return Err(refused("the member has logged in with another account of the provider before"));
        }
        Ok(member)
    }

    async fn enter(
        &self,
        email: &str,
        name: Option<&str>,
        role: Role,
        now: Timestamp,
    ) -> Result<MemberId, ProviderLogInError> {
        let plain: String = name.unwrap_or(email).chars().filter(|c| !c.is_control()).take(200).collect();
        let name = if plain.trim().is_empty() { email } else { plain.trim() };
        let mut tx = self.store.begin().await?;
        let id: MemberId = self.ids.next(now);
        if !rows::insert_member(&mut tx, (id, email, name, role.as_str()), now).await? {
            return Err(ProviderLogInError::NotInTeam);
        }
        self.note(&mut tx, "oidc", "created", email, role, now).await?;
        tx.commit().await.map_err(StoreError::from)?;
        Ok(id)
    }
}
