//! Connections that outlived a change of the schema.
//!
//! A statement that was prepared before a migration added a column to what it returns is refused from then on, on that
//! connection, for ever: "cached plan must not change result type". A replica of the version before must go on beside the
//! new schema, so once one statement was refused for this, every connection as old as that is closed instead of used again.

use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use sqlx::PgConnection;
use sqlx::pool::PoolConnectionMetadata;
use sqlx::postgres::PgPoolOptions;

static START: LazyLock<Instant> = LazyLock::new(Instant::now);
/// Milliseconds from [`START`] to the last refusal: one process speaks to one schema, so it counts for all pools.
static REFUSED_AT: AtomicU64 = AtomicU64::new(0);

fn milliseconds(at: Instant) -> u64 {
    u64::try_from(at.saturating_duration_since(*START).as_millis()).unwrap_or(u64::MAX)
}

/// Remembers the refusal, if `error` is one.
pub(super) fn notice(error: &sqlx::Error) {
    if error.as_database_error().is_some_and(|error| {
        error.code().as_deref() == Some("0A000") && error.message().starts_with("cached plan must not change")
    }) {
        // One more, so that a connection made within the same millisecond is closed as well.
        REFUSED_AT.fetch_max(milliseconds(Instant::now()).saturating_add(1), Ordering::Relaxed);
    }
}

/// Whether a connection of this age was made after the last refusal.
fn is_fresh(age: Duration) -> bool {
    let made_at = Instant::now().checked_sub(age).map_or(0, milliseconds);
    let refused_at = REFUSED_AT.load(Ordering::Relaxed);
    refused_at == 0 || made_at > refused_at
}

/// Makes a pool close what is stale, both before it is used and after.
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
