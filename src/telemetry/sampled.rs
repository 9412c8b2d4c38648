//! Events that may occur thousands of times per second: the first is logged, then one summary per second.

use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// The minimum interval between two log lines of one kind of event.
const EVERY: Duration = Duration::from_secs(1);

/// Counts one kind of event.
#[derive(Debug, Default)]
pub struct Sampled(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    logged_at: Option<Instant>,
    count: u64,
}

impl Sampled {
    /// A counter that has counted nothing.
    pub const fn new() -> Self {
        Self(Mutex::new(State { logged_at: None, count: 0 }))
    }

    /// Counts an event. Returns the number since the last time it returned one, including this event, when it is time
    /// to log it.
    pub fn count(&self) -> Option<u64> {
        self.count_at(Instant::now())
    }

    fn count_at(&self, now: Instant) -> Option<u64> {
        let mut state = self.0.lock();
        state.count += 1;
        if state.logged_at.is_some_and(|at| now.duration_since(at) < EVERY) {
            return None;
        }
        state.logged_at = Some(now);
        Some(std::mem::take(&mut state.count))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_is_logged_and_then_a_summary_a_second() {
        let (sampled, start) = (Sampled::default(), Instant::now());
        assert_eq!(sampled.count_at(start), Some(1));
        assert!((1..500).all(|ms| sampled.count_at(start + Duration::from_millis(ms)).is_none()));
        assert_eq!(sampled.count_at(start + EVERY), Some(500));
    }
}
