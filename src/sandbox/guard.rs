//! What protects an app from itself: it is switched off after ten messages for each subscription in a quarter of an
//! hour.

use std::collections::{HashMap, HashSet, VecDeque};

use chrono::TimeDelta;
use uuid::Uuid;

use crate::domain::clock::Timestamp;

const WINDOW: TimeDelta = TimeDelta::minutes(15);
const MESSAGES_PER_SUBSCRIPTION: u64 = 10;

/// The delivered messages of the last quarter of an hour, and the apps that had too many.
#[derive(Debug, Default)]
pub(super) struct Guard {
    delivered: HashMap<Uuid, Window>,
    disabled: HashSet<Uuid>,
}

#[derive(Debug, Default)]
struct Window {
    /// Per second, which limits the stored size.
    seconds: VecDeque<(Timestamp, u64)>,
    sum: u64,
}

impl Guard {
    /// Counts delivered messages; returns whether there were too many for `subscribed` subscriptions.
    pub(super) fn count(&mut self, app: Uuid, messages: u64, subscribed: u64, now: Timestamp) -> bool {
        let window = self.delivered.entry(app).or_default();
        window.add(messages, now);
        window.sum >= subscribed.saturating_mul(MESSAGES_PER_SUBSCRIPTION)
    }

    pub(super) fn is_disabled(&self, app: Uuid) -> bool {
        self.disabled.contains(&app)
    }

    /// Switches an app off, or on with a clean slate.
    pub(super) fn set(&mut self, app: Uuid, disabled: bool) {
        if disabled {
            self.disabled.insert(app);
        } else {
            self.disabled.remove(&app);
            self.delivered.remove(&app);
        }
    }

    pub(super) fn disabled(&self) -> impl Iterator<Item = Uuid> {
        self.disabled.iter().copied()
    }
}

impl Window {
    fn add(&mut self, messages: u64, now: Timestamp) {
        match self.seconds.back_mut() {
            Some((second, count)) if second.timestamp() == now.timestamp() => *count += messages,
            _ => self.seconds.push_back((now, messages)),
        }
        self.sum += messages;
        while let Some((second, count)) = self.seconds.front().copied() {
            if now - second < WINDOW {
                break;
            }
            self.sum -= count;
            self.seconds.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ten_for_each_subscription_in_a_quarter_of_an_hour_are_too_many() {
        let app = Uuid::nil();
        let start: Timestamp = "2026-03-01T12:00:00Z".parse().unwrap();
        let mut guard = Guard::default();
        assert!(!guard.count(app, 29, 3, start));
        assert!(!guard.count(app, 0, 3, start + TimeDelta::minutes(14)));
        assert!(guard.count(app, 1, 3, start + TimeDelta::minutes(14)));
        assert!(
            !guard.count(app, 1, 3, start + TimeDelta::minutes(15)),
            "the 29 are a quarter of an hour old"
        );
        guard.set(app, true);
        assert!(guard.is_disabled(app));
        guard.set(app, false);
        assert!(!guard.is_disabled(app) && !guard.count(app, 29, 3, start));
    }
}
