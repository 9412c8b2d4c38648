//! The log of refused pages: the first of a burst, then one line a second that counts the rest.

use std::sync::Arc;
use std::time::Duration;

use axum::http::Method;
use parking_lot::Mutex;

use crate::access::{Person, Use};

/// How often refused pages are logged.
const GAP: Duration = Duration::from_secs(1);

/// Logs refused pages.
#[derive(Debug, Clone, Default)]
pub struct Denials(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    /// A line was written within the last second.
    is_quiet: bool,
    /// Refused since then.
    uncounted: u64,
}

impl Denials {
    /// Notes that a page was refused to somebody who is logged in.
    pub(super) fn note(&self, person: &Person, needs: Use, (method, route): (&Method, &str)) {
        if self.is_first() {
            let (id, role) = (person.id, person.role.as_str());
            tracing::warn!(member.id = %id, permission = ?needs, route, "{method} {route} was denied to {id}, {role}");
        }
    }

    /// Notes that a form was refused because it came from another site.
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

/// Counts what was refused, each second until there is nothing to count.
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
