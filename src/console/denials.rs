//! The log of denied requests: the first of a burst, then a count per second.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use parking_lot::Mutex;

use crate::access::{Person, Use};

/// The log interval.
const GAP: Duration = Duration::from_secs(1);

/// Logs denied requests.
#[derive(Debug, Clone, Default)]
pub struct Denials(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// A line was written within the last second.
    is_quiet: bool,
    /// Denied since then.
    uncounted: u64,
}

impl Denials {
    /// Records a request denied to a member.
    pub(super) fn note(&self, person: &Person, needs: Use, (method, route): (&Method, &str)) {
        if self.is_first() {
            let (id, role) = (person.id, person.role.as_str());
            tracing::warn!(member.id = %id, permission = ?needs, route, "{method} {route} was denied to {id}, {role}");
        }
    }

    /// Records a cross-site form that was rejected.
    pub(super) fn note_foreign(&self, (method, route): (&Method, &str)) {
        if self.is_first() {
            tracing::warn!(route, "{method} {route} was rejected: cross-site request");
        }
    }

    fn is_first(&self) -> bool {
        let mut state = self.0.lock();
        if state.is_quiet {
            state.uncounted += 1;
            return false;
        }
        state.is_quiet = true;
        tokio::spawn(summarise(Arc::clone(&self.0)));
        true
    }
}

/// Logs the count every second until it is zero.
async fn summarise(state: Arc<Mutex<State>>) {
    loop {
        tokio::time::sleep(GAP).await;
        let mut state = state.lock();
        let refused = std::mem::take(&mut state.uncounted);
        if refused == 0 {
            state.is_quiet = false;
            return;
        }
        tracing::warn!(refused, "{refused} more requests were denied within a second");
    }
}
