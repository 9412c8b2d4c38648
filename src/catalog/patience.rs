//! Retrying calls to OneSignal when the rate limit is reached: they continue after the requested delay, within a time
//! limit.

use std::time::Duration;

use super::drift::DriftError;
use super::upload::UploadError;
use crate::domain::clock::Deadline;
use crate::provider::ProviderError;

/// The maximum total time.
const TIME: Duration = Duration::from_secs(20);
/// The default and the maximum delay.
const USUAL_WAIT: Duration = Duration::from_secs(1);
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// An error that may be caused by a rate limit.
pub(super) trait MayBeRateLimited {
    /// The delay before a retry, if a rate limit is the cause.
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

/// The remaining time for some work.
pub(super) struct Patience(Deadline);

impl Patience {
    /// Starts now.
    pub fn new() -> Self {
        Self(Deadline::after(TIME))
    }

    /// Whether there is no time left for another step.
    pub fn is_over(&self) -> bool {
        self.0.passed()
    }

    /// After a failed step: waits if the rate limit was the cause, and returns whether to retry. `false` if there is
    /// not
    /// enough time left.
    ///
    /// # Errors
    /// The step's error, if it has another cause.
    pub async fn waits_after<E: MayBeRateLimited>(&self, error: E) -> Result<bool, E> {
        let Some(wait) = error.wait() else { return Err(error) };
        if self.is_over() {
            return Ok(false);
        }
        tokio::time::sleep(wait).await;
        Ok(true)
    }
}
