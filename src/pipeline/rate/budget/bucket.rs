//! A token bucket: how many calls may begin, refilled over time.

use std::time::Duration;

use crate::domain::clock::Timestamp;
use crate::domain::retry::delta;

/// Tokens that are refilled over time, up to a maximum.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    tokens: f64,
    refilled_at: Timestamp,
}

impl Bucket {
    /// A bucket that holds this many tokens.
    pub fn with(tokens: f64, now: Timestamp) -> Self {
        Self { tokens, refilled_at: now }
    }

    /// Adds the tokens earned since the last refill, at `rate` per second and up to `max`.
    pub fn refill(&mut self, rate: f64, max: f64, now: Timestamp) {
        let elapsed = (now - self.refilled_at).to_std().unwrap_or_default();
        self.tokens = (self.tokens + elapsed.as_secs_f64() * rate).min(max);
        self.refilled_at = self.refilled_at.max(now);
    }

    /// Counts from `now`, whenever it was refilled before.
    pub fn restart(&mut self, now: Timestamp) {
        self.refilled_at = now;
    }

    /// Takes one token.
    ///
    /// # Errors
    /// The time at which there will be a token, at `rate` per second.
    pub fn take(&mut self, rate: f64, now: Timestamp) -> Result<(), Timestamp> {
        if self.tokens >= 1.0 {
            self.tokens -= 1.0;
            return Ok(());
        }
        let missing = Duration::from_secs_f64((1.0 - self.tokens) / rate.max(0.001));
        // The clock counts in microseconds: a shorter wait would never end.
        Err(now + delta(missing).max(chrono::TimeDelta::microseconds(1)))
    }

    /// Returns tokens, or adds earned ones, up to `max`.
    pub fn give(&mut self, tokens: f64, max: f64) {
        self.tokens = (self.tokens + tokens).min(max.max(self.tokens));
    }
}
