//! The production clock: Postgres' time plus elapsed boot time, so that all replicas have the same time.

use std::sync::atomic::{AtomicI64, AtomicU32, Ordering};

use super::{Store, StoreError};
use crate::domain::clock::{Clock, Timestamp, boot_time};

/// A round trip that takes longer says too little about the time.
const LONGEST_ROUND_TRIP_US: i64 = 500_000;
/// After this many slow answers in a row the next one counts: half a minute at the usual interval.
const MOST_SLOW: u32 = 6;

/// Postgres' time without a query per call; [`PgClock::measure`] adjusts it.
#[derive(Debug)]
pub struct PgClock {
    /// Microseconds to add to the boot time.
    offset_us: AtomicI64,
    /// Slow answers in a row that were ignored.
    slow: AtomicU32,
}

impl PgClock {
    /// A clock that is correct from the start.
    ///
    /// # Errors
    /// [`StoreError::Database`] when the database is unavailable.
    pub async fn start(store: &Store) -> Result<Self, StoreError> {
        // The first answer counts, however slow it is.
        let clock = Self { offset_us: AtomicI64::new(0), slow: AtomicU32::new(MOST_SLOW) };
        clock.measure(store).await?;
        Ok(clock)
    }

    /// Asks Postgres for the time and assumes the middle of the round trip. A slow answer says little, and is ignored: it
    /// would look as if the database's clock had changed.
    ///
    /// # Errors
    /// [`StoreError::Database`]; the clock continues with its previous offset.
    pub async fn measure(&self, store: &Store) -> Result<(), StoreError> {
        // Waiting for a connection is not part of the round trip.
        let mut connection = store.pool().acquire().await?;
        let before = boot_micros();
        let server: Timestamp =
            sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&mut *connection).await?;
        let after = boot_micros();
        if !self.is_credible(after - before) {
            return Ok(());
        }
        let middle = before.midpoint(after);
        self.offset_us.store(server.timestamp_micros() - middle, Ordering::SeqCst);
        Ok(())
    }
}

impl PgClock {
    /// Whether a round trip of this length in microseconds says what time it is: a short one, or one after several slow
    /// ones, since a clock that was never adjusted again would be worse.
    fn is_credible(&self, round_trip: i64) -> bool {
        if round_trip > LONGEST_ROUND_TRIP_US && self.slow.fetch_add(1, Ordering::SeqCst) < MOST_SLOW {
            return false;
        }
        self.slow.store(0, Ordering::SeqCst);
        true
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_answer_does_not_move_the_clock_unless_all_are_slow() {
        let clock = PgClock { offset_us: AtomicI64::new(0), slow: AtomicU32::new(MOST_SLOW) };
        assert!(clock.is_credible(4_000_000), "the first one counts");
        assert!((0..MOST_SLOW).all(|_| !clock.is_credible(4_000_000)));
        assert!(clock.is_credible(4_000_000), "all are slow");
        assert!(!clock.is_credible(4_000_000) && clock.is_credible(1_000));
        assert!((0..MOST_SLOW).all(|_| !clock.is_credible(4_000_000)), "a quick one starts the count again");
    }
}
