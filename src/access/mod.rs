//! Authorization: API keys with scopes, people with roles, and a permission table for each.
//!
//! Keys, tokens, passwords and codes in plain text are only handled here; Postgres stores hashes or encrypted values. A
//! revoked key is rejected within seconds, an ended session immediately.

mod addresses;
mod hashing;
mod keys;
mod limit;
mod log_in;
mod oidc;
mod own_password;
mod passwords;
mod provider_log_in;
mod roles;
mod scopes;
mod second_factor;
mod sessions;
mod team;
mod throttle;

pub use addresses::{ForwardedHeader, ProxyError, TrustedProxies};
pub use keys::{Access, CreatedKey, Denied, Identity, KeyRequest, KeyTextError, check_key_text};
pub use log_in::{LogInError, LoggedIn, PendingLogIn, Proof};
pub use oidc::{OidcSetUpError, connect_provider};
pub use own_password::ChangePasswordError;
pub use passwords::PasswordError;
pub use provider_log_in::{
    LogInProvider, OidcPolicy, ProviderAnswer, ProviderError, ProviderLogIn, ProviderLogInError, Redirect,
};
pub use roles::Role;
pub use scopes::{NarrowUse, Scope, Use};
pub use second_factor::{Enrolment, SecondFactor, SecondFactorError};
pub use sessions::{Method, NewSession, Person, SessionTimes};
pub use team::{Member, NewMember, Team, TeamError, TeamOptions, plain_email};
pub use throttle::Client;

/// Marks the response to an authenticated client (key or session): its connection is preferred over those of
/// unauthenticated clients.
#[derive(Debug, Clone, Copy)]
pub struct KnownClient;
