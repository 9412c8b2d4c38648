//! Who may do what: API keys by their hash, scopes, and one table of what each use needs.
//!
//! A key's text is seen here and nowhere else; Postgres holds its SHA-256. A revoked key is refused within seconds.

mod keys;
mod limit;
mod scopes;

pub use keys::{Access, CreatedKey, Identity, KeyRequest, KeyTextError, check_key_text};
pub use scopes::{Scope, Use};
