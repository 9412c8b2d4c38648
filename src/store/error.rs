//! What can go wrong with the database.

use sqlx::migrate::MigrateError;

use super::stale_connections;
use crate::vault::VaultError;

/// Database errors.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Postgres, or the connection to it.
    #[error("failed to reach or use the database")]
    Database(#[source] sqlx::Error),
    /// The connection to Postgres can't be secured.
    #[error(
        "the database's TLS certificate can't be verified; name its CA with `?sslrootcert=FILE` in `database_url`, or write \
         `?sslmode=disable` where nobody else can reach the way to it"
    )]
    Tls(#[source] sqlx::Error),
    /// An unreadable row.
    #[error("{table} {id}: column {column} can't be read")]
    Corrupt {
        /// The table.
        table: &'static str,
        /// The column.
        column: &'static str,
        /// The row.
        id: String,
    },
    /// A sealed value can't be unsealed.
    #[error("failed to unseal a value")]
    Sealed(#[from] VaultError),
    /// A migration failed.
    #[error("failed to migrate the schema")]
    Migration(#[source] MigrateError),
    /// An applied migration is not the one of that number here.
    #[error(
        "a development version of Herald created this database with other migrations (migration {version} differs)"
    )]
    OtherMigrations {
        /// The number of the migration.
        version: i64,
    },
    /// An applied migration does not exist here.
    #[error("another version of Herald migrated this database (migration {version} is unknown here)")]
    UnknownMigration {
        /// The number of the migration.
        version: i64,
    },
    /// The server's settings could lose commits.
    #[error(
        "`{setting}` is off: this Postgres can lose commits; switch it on, or set allow_unsafe_postgres for a throw-away cluster"
    )]
    Unsafe {
        /// The setting.
        setting: &'static str,
    },
}

/// Postgres' codes for bytes that are not valid in the database's encoding, and for `\u0000` in JSON.
const BAD_TEXT: [&str; 2] = ["22021", "22P05"];
/// Postgres' code for a statement timeout: a smaller statement may be quick enough.
const STATEMENT_TIMEOUT: &str = "57014";

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        stale_connections::notice(&error);
        if matches!(error, sqlx::Error::Tls(_)) {
            return Self::Tls(error);
        }
        Self::Database(error)
    }
}

impl From<MigrateError> for StoreError {
    fn from(error: MigrateError) -> Self {
        match error {
            MigrateError::VersionMismatch(version) => Self::OtherMigrations { version },
            MigrateError::VersionMissing(version) => Self::UnknownMigration { version },
            error => Self::Migration(error),
        }
    }
}

impl StoreError {
    /// An unreadable row.
    pub fn corrupt(table: &'static str, column: &'static str, id: impl std::fmt::Display) -> Self {
        Self::Corrupt { table, column, id: id.to_string() }
    }

    /// The error with its causes in one line, for the log.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut cause = std::error::Error::source(self);
        while let Some(deeper) = cause {
            text = format!("{text}: {deeper}");
            cause = deeper.source();
        }
        text
    }

    /// Whether Postgres rejected a text that it can't store, such as one with a NUL.
    pub fn is_bad_text(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error))
            if error.code().is_some_and(|code| BAD_TEXT.contains(&code.as_ref())))
    }

    /// Whether the statement itself was rejected, so that the rest of a group may still succeed without it. Otherwise
    /// the connection or the server is unavailable.
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error))
        if !error.code().is_some_and(|code| {
            let is_away = ["57", "53", "08"].iter().any(|class| code.starts_with(class)) || code == "25006";
            is_away && code != STATEMENT_TIMEOUT
        }))
    }

    /// Whether the failure is transient: a lock timed out, or another transaction conflicted (deadlock, serialization).
    /// Retrying may succeed.
    pub fn is_passing(&self) -> bool {
        matches!(self, Self::Database(sqlx::Error::Database(error))
        if error.code().is_some_and(|code| {
            code == "55P03" || code == STATEMENT_TIMEOUT || code.starts_with("40")
        }))
    }
}
