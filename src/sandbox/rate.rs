//! Rate limits: at most so many calls in any second.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// The calls of the last second. Unlike a bucket that refills, it lets no burst through at the turn of a second, so a
/// client that counts carelessly is caught.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Instant>);

impl Window {
    /// Whether one more call at `now` is within `limit` per second; `0` is no limit. A refused call does not count.
    pub(super) fn admits(&mut self, limit: u32, now: Instant) -> bool {
        if limit == 0 {
            return true;
        }
        while self.0.front().is_some_and(|call| now.duration_since(*call) >= SECOND) {
            self.0.pop_front();
        }
        let admitted = self.0.len() < usize::try_from(limit).unwrap_or(usize::MAX);
        if admitted {
            self.0.push_back(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_second_admits_no_more_than_the_limit() {
        let mut window = Window::default();
        let start = Instant::now();
        let at = |millis| start + Duration::from_millis(millis);
        let admitted: Vec<bool> = [0, 900, 950, 999].map(|millis| window.admits(3, at(millis))).to_vec();
        assert_eq!(admitted, [true, true, true, false]);
        assert!(window.admits(3, at(1000)), "the first is a second old");
        assert!(!window.admits(3, at(1899)));
        assert!(window.admits(3, at(1900)));
    }

    #[test]
    fn zero_is_no_limit() {
        let mut window = Window::default();
        assert!((0..10_000).all(|_| window.admits(0, Instant::now())));
    }
}
