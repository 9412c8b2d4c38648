//! Who may do what: API keys with scopes, people with roles, and a table for each of what every use needs.
//!
//! The texts of keys, tokens and passwords are seen here and nowhere else; Postgres holds their hashes. A revoked key
//! is refused within seconds, a session that was ended at once.

mod keys;
mod limit;
mod log_in;
mod own_password;
mod passwords;
mod roles;
mod scopes;
mod sessions;
mod team;

pub use keys::{Access, CreatedKey, Denied, Identity, KeyRequest, KeyTextError, check_key_text};
pub use log_in::LogInError;
pub use own_password::ChangePasswordError;
pub use passwords::PasswordError;
pub use roles::Role;
pub use scopes::{NarrowUse, Scope, Use};
pub use sessions::{NewSession, Person, SessionTimes};
pub use team::{Member, NewMember, Team, TeamError};

/// Marks the response to a client that proved who it is, by a key or a session: its connection is worth more than one
/// of a client that nobody knows.
#[derive(Debug, Clone, Copy)]
pub struct KnownClient;
