//! Readable errors of commands that use the database directly.

use std::time::Duration;

use tokio::net::TcpStream;
use url::Url;

use crate::store::StoreError;

/// How long a connection attempt that only serves the error message may take.
const PROBE_TIMEOUT: Duration = Duration::from_secs(3);

/// An error of a query, with its remedy: a missing schema, missing privileges, or the driver's reason.
pub(super) fn unusable(error: StoreError) -> anyhow::Error {
    let text = causes(&error);
    if text.contains("relation \"") && text.contains("does not exist") {
        return anyhow::anyhow!("the schema is missing: run `herald migrate`");
    }
    anyhow::Error::new(error).context("the database is unavailable")
}

/// An error of a migration, with its remedy; `other_database` is the remedy for a database with other migrations.
pub(super) fn not_migrated(error: StoreError, other_database: &str) -> anyhow::Error {
    match error {
        StoreError::OtherMigrations { .. } => return anyhow::anyhow!("{error}: {other_database}"),
        StoreError::UnknownMigration { .. } => {
            return anyhow::anyhow!("{error}: use that version or a newer one, or {other_database}");
        }
        _ => {}
    }
    let text = causes(&error);
    if text.contains("permission denied") || text.contains("must be owner") {
        return anyhow::anyhow!(
            "this role is not allowed to migrate: use the owner's address in `database_url` ({})",
            last_cause(&error)
        );
    }
    anyhow::Error::new(error).context("the schema could not be migrated")
}

/// Why the database can't be reached, in the driver's words and without the password. The pool only reports that it
/// timed out, so the reason is looked up with a connection attempt.
pub(super) async fn unreachable_because(error: &StoreError, url: &str) -> String {
    let reason = last_cause(error);
    if !reason.contains("pool timed out") {
        return reason;
    }
    let Some((host, port)) = address(url) else { return reason };
    match tokio::time::timeout(PROBE_TIMEOUT, TcpStream::connect((host.as_str(), port))).await {
        Ok(Ok(_)) => format!("{host}:{port} accepts connections, but the database does not respond"),
        Ok(Err(error)) => format!("{host}:{port}: {error}"),
        Err(_) => format!("{host}:{port} does not respond"),
    }
}

fn address(url: &str) -> Option<(String, u16)> {
    let url = Url::parse(url).ok()?;
    let host = url.host_str()?.trim_matches(['[', ']']).to_owned();
    Some((host, url.port().unwrap_or(5432)))
}

fn causes(error: &StoreError) -> String {
    chain(error).collect::<Vec<_>>().join(": ")
}

fn last_cause(error: &StoreError) -> String {
    chain(error).last().unwrap_or_default()
}

fn chain(error: &StoreError) -> impl Iterator<Item = String> {
    let first: &dyn std::error::Error = error;
    std::iter::successors(Some(first), |error| error.source()).map(ToString::to_string)
}
