//! The production clock: Postgres' time plus elapsed boot time, so that all replicas have the same time.

use std::sync::atomic::{AtomicI64, Ordering};

use super::{Store, StoreError};
use crate::domain::clock::{Clock, Timestamp, boot_time};

/// Postgres' time without a query per call; [`PgClock::measure`] adjusts it.
#[derive(Debug)]
pub struct PgClock {
    /// Microseconds to add to the boot time.
    offset_us: AtomicI64,
}

impl PgClock {
    /// A clock that is correct from the start.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database is unavailable.
    pub async fn start(store: &Store) -> Result<Self, StoreError> {
        let clock = Self { offset_us: AtomicI64::new(0) };
        clock.measure(store).await?;
        Ok(clock)
    }

    /// Asks Postgres for the time and assumes the middle of the round trip.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the clock continues with its previous offset.
    pub async fn measure(&self, store: &Store) -> Result<(), StoreError> {
        let before = boot_micros();
        let server: Timestamp =
            sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(store.pool()).await?;
        let middle = before.midpoint(boot_micros());
        self.offset_us.store(server.timestamp_micros() - middle, Ordering::SeqCst);
        Ok(())
    }
}

impl Clock for PgClock {
    fn now(&self) -> Timestamp {
        let micros = boot_micros() + self.offset_us.load(Ordering::SeqCst);
        Timestamp::from_timestamp_micros(micros).unwrap_or(Timestamp::UNIX_EPOCH)
    }
}

fn boot_micros() -> i64 {
    i64::try_from(boot_time().as_micros()).unwrap_or(i64::MAX)
}
