//! Connections that are older than a change of the schema.
//!
//! A statement that was prepared before a migration added a column to its result is rejected from then on, on that
//! connection, permanently: "cached plan must not change result type". A replica of the previous release must keep
//! working with the new schema, so once one statement was rejected for this reason, every connection as old as that is
//! closed instead of reused.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::PgPoolOptions;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Milliseconds from [`START`] to the last such rejection: one process uses one schema, so it applies to all pools.
static REFUSED_AT: AtomicU64 = AtomicU64::new(0);

fn milliseconds(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX)
}

/// Records the rejection, if `error` is one.
pub(super) fn notice(error: &sqlx::Error) {
    if error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("0A000") && error.message().starts_with("cached plan must not change")
    }) {
        // One more, so that a connection opened within the same millisecond is closed as well.
        REFUSED_AT.fetch_max(milliseconds(Instant::now()).saturating_add(1), Ordering::Relaxed);
    }
}

/// Whether a connection of this age was opened after the last rejection.
fn is_fresh(age: Duration) -> bool {
    let made_at = Instant::now().checked_sub(age).map_or(0, milliseconds);
    let refused_at = REFUSED_AT.load(Ordering::Relaxed);
    refused_at == 0 || made_at > refused_at
}

/// Makes a pool close stale connections, both before and after use.
pub(super) fn watch(pool: PgPoolOptions) -> PgPoolOptions {
    type Checked<'c> = std::pin::Pin<Box<dyn Future<Output = Result<bool, sqlx::Error>> + Send + 'c>>;
    fn check(
        _: &mut PgConnection,
        PoolConnectionMetadata { age, .. }: PoolConnectionMetadata,
    ) -> Checked<'_> {
        Box::pin(std::future::ready(Ok(is_fresh(age))))
    }
    pool.before_acquire(check).after_release(check)
}
