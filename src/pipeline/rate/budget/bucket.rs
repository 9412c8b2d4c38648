//! A token bucket: how many calls may begin, by time that has passed.

use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::retry::delta;

/// Tokens that come back with time, up to a number.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    tokens: f64,
    refilled_at: Timestamp,
}

impl Bucket {
    /// A bucket with this many tokens in it.
    pub fn with(tokens: f64, now: Timestamp) -> Self {
        Self { tokens, refilled_at: now }
    }

    /// Lets in what came back since the last look, at `rate` tokens a second and at most `max` in all.
    pub fn refill(&mut self, rate: f64, max: f64, now: Timestamp) {
        let elapsed = (now - self.refilled_at).to_std().unwrap_or_default();
        self.tokens = (self.tokens + elapsed.as_secs_f64() * rate).min(max);
        self.refilled_at = self.refilled_at.max(now);
    }

    /// Counts from `now` on, whenever it was filled before.
    pub fn restart(&mut self, now: Timestamp) {
        self.refilled_at = now;
    }

    /// Takes one token.
    ///
    /// # Errors
    /// When there will be one, at `rate` tokens a second.
    pub fn take(&mut self, rate: f64, now: Timestamp) -> Result<(), Timestamp> {
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = Duration::from_secs_f64((1.0 - self.tokens) / rate.max(0.001));
        // Microseconds are what the clock counts in: less than one would never pass.
        Err(now + delta(missing).max(chrono::TimeDelta::microseconds(1)))
    }

    /// Gives tokens back, or puts earned ones in, up to `max`.
    pub fn give(&mut self, tokens: f64, max: f64) {
        self.tokens = (self.tokens + tokens).min(max.max(self.tokens));
    }
}
