//! Rate limits in calls per second.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use uuid::Uuid;

const SECOND: Duration = Duration::from_secs(1);
const VIEWS_AT_ONCE: u32 = 10;
/// Above this many windows, unused ones are removed.
const MANY: usize = 10_000;

/// The subject of a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Bucket {
    /// Create and cancel message, of an app.
    Messages,
    /// Views of messages, templates and users, of an app.
    Views,
    /// Changes of users and subscriptions, of an app.
    Users,
    /// Changes of one user.
    OneUser,
}

/// Recent calls by subject.
#[derive(Debug, Default)]
pub(super) struct Rates(HashMap<(Bucket, Uuid), Window>);

impl Rates {
    /// Whether one more call is within the limit.
    pub(super) fn admits(&mut self, bucket: Bucket, of: Uuid, limit: u32, now: Instant) -> bool {
        if limit == 0 {
            return true;
        }
        // OneSignal lets ten views through at once, though one a second in the long run.
        let (limit, span) = if bucket == Bucket::Views {
            (limit.saturating_mul(VIEWS_AT_ONCE), SECOND * VIEWS_AT_ONCE)
        } else {
            (limit, SECOND)
        };
        if self.0.len() > MANY {
            self.0.retain(|_, window| !window.is_over(now));
        }
        self.0.entry((bucket, of)).or_default().admits_within(span, limit, now)
    }
}

/// The calls of the last second. Unlike a bucket that refills, it lets no burst through at the turn of a second, so a
/// client that counts carelessly is caught.
#[derive(Debug, Default)]
pub(super) struct Window(VecDeque<Instant>);

impl Window {
    fn is_over(&self, now: Instant) -> bool {
        self.0.back().is_none_or(|call| now.duration_since(*call) >= SECOND * VIEWS_AT_ONCE)
    }

    /// Whether one more call at `now` is within `limit` per second; `0` is no limit. A refused call does not count.
    pub(super) fn admits(&mut self, limit: u32, now: Instant) -> bool {
        limit == 0 || self.admits_within(SECOND, limit, now)
    }

    fn admits_within(&mut self, span: Duration, limit: u32, now: Instant) -> bool {
        while self.0.front().is_some_and(|call| now.duration_since(*call) >= span) {
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
