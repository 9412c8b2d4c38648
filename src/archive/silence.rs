//! Whether OneSignal still reports. A stream that it has disabled makes no call, so only a comparison with what was sent
//! shows it.

use chrono::TimeDelta;

use super::Archive;
use crate::domain::clock::Timestamp;
use crate::store::{Store, StoreError};
use crate::telemetry::names;

/// How long a message's first report may take.
const GRACE: TimeDelta = TimeDelta::minutes(15);
/// From how long before that messages are looked at.
const LOOKED_AT: TimeDelta = TimeDelta::hours(1);
/// Messages that are looked at.
const MESSAGES: i64 = 1_000;
/// Fewer messages say nothing.
const FLOOR: i64 = 10;
/// In percent: with fewer reported messages, the stream is silent.
const USUAL: i64 = 90;

/// What recent messages say about the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StreamHealth {
    /// Messages that were sent 15 to 75 minutes ago; of many, the last 1,000.
    pub messages: i64,
    /// Those of them that outcomes were reported of.
    pub reported: i64,
}

impl StreamHealth {
    /// `silent` if outcomes of fewer than nine in ten messages were reported, otherwise `ok`; `no_data` if there were too
    /// few messages to tell.
    pub fn state(self) -> &'static str {
        if self.messages < FLOOR {
            "no_data"
        } else if self.reported * 100 < self.messages * USUAL {
            "silent"
        } else {
            "ok"
        }
    }
}

/// The state of the stream.
///
/// # Errors
/// [`StoreError::Database`].
pub async fn stream_health(store: &Store, now: Timestamp) -> Result<StreamHealth, StoreError> {
    let to = now - GRACE;
    let (messages, reported) = store.reported_messages((to - LOOKED_AT, to), MESSAGES).await?;
    Ok(StreamHealth { messages, reported })
}

impl Archive {
    /// Logs when the stream falls silent and when it is back, and updates the metric.
    pub(super) async fn watch_stream(&self, now: Timestamp) -> Result<(), StoreError> {
        let health = stream_health(&self.store, now).await?;
        let StreamHealth { messages, reported } = health;
        if messages > 0 {
            #[expect(clippy::cast_precision_loss, reason = "at most a thousand")]
            metrics::gauge!(names::STREAM_COVERAGE).set(reported as f64 / messages as f64);
        }
        let is_silent = health.state() == "silent";
        let was_silent = std::mem::replace(&mut *self.is_silent.lock(), is_silent);
        if is_silent && !was_silent {
            tracing::error!(
                messages,
                reported,
                "Event Streams is silent: OneSignal reported outcomes of {reported} of {messages} recent messages; look whether \
                 it has disabled the stream"
            );
        } else if was_silent && health.state() == "ok" {
            tracing::info!(messages, reported, "OneSignal's Event Streams reports again");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn few_messages_say_nothing_and_nine_in_ten_are_usual() {
        let state = |messages, reported| StreamHealth { messages, reported }.state();
        assert_eq!((state(0, 0), state(9, 0)), ("no_data", "no_data"));
        assert_eq!((state(10, 8), state(10, 9), state(1_000, 899)), ("silent", "ok", "silent"));
    }
}
