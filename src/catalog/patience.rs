//! Work at OneSignal that its rate limit interrupts: it goes on after the wait that OneSignal asks for, until there is no
//! time left.

use std::time::Duration;

use super::drift::DriftError;
use super::upload::UploadError;
use crate::domain::clock::Deadline;
use crate::provider::ProviderError;

/// How long a caller waits for all of it, at most.
const TIME: Duration = Duration::from_secs(20);
/// The wait when OneSignal names none, and the longest one.
const USUAL_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// An error that a rate limit may be behind.
pub(super) trait MayBeRateLimited {
    /// How long to wait before the same again, if a rate limit is behind it.
    fn wait(&self) -> Option<Duration>;
}

impl MayBeRateLimited for ProviderError {
    fn wait(&self) -> Option<Duration> {
        match self {
            Self::RateLimited { retry_after } => Some(retry_after.unwrap_or(USUAL_WAIT).min(LONGEST_WAIT)),
            Self::Refused { .. } | Self::Unreachable(_) | Self::Unclear(_) => None,
        }
    }
}

impl MayBeRateLimited for DriftError {
    fn wait(&self) -> Option<Duration> {
        match self {
            Self::Provider { source, .. } | Self::Upload(UploadError::Provider { source, .. }) => {
                source.wait()
            }
            Self::Upload(_) | Self::Store(_) => None,
        }
    }
}

/// The time that is left for some work.
pub(super) struct Patience(Deadline);

impl Patience {
    /// Begins now.
    pub fn new() -> Self {
        Self(Deadline::after(TIME))
    }

    /// Whether there is no time left for another step.
    pub fn is_over(&self) -> bool {
        self.0.passed()
    }

    /// After a step failed: waits if the rate limit refused it, and says whether to do it again. `false` once there is no
    /// time left for it.
    ///
    /// # Errors
    /// The step's own, if it is another one.
    pub async fn waits_after<E: MayBeRateLimited>(&self, error: E) -> Result<bool, E> {
        let Some(wait) = error.wait() else { return Err(error) };
        if self.is_over() {
            return Ok(false);
        }
        tokio::time::sleep(wait).await;
        Ok(true)
    }
}
