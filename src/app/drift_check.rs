//! The daily drift check of templates in OneSignal: one process per app.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;

use super::runtime::Herald;
use crate::catalog::By;
use crate::catalog::drift::{DriftError, Look};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;

/// How often a process checks whether an app is due.
const ASK_EVERY: Duration = Duration::from_mins(10);
/// The actor in the audit log.
const BY: By<'_> = By::unlimited("herald", "");

impl Herald {
    /// Checks the templates of each due app; returns the number of apps.
    ///
    /// # Errors
    /// [`DriftError`] if the database is unavailable. Errors from OneSignal are logged and retried the next time.
    pub async fn check_templates(&self) -> Result<usize, DriftError> {
        let every =
            TimeDelta::from_std(self.settings.templates.drift_check_interval).unwrap_or(TimeDelta::MAX);
        let mut apps = 0;
        for app in self.store.apps().await? {
            let now = self.api.clock.now();
            if app.paused.is_some() || !self.store.claim_template_check(app.id, now - every, now).await? {
                continue;
            }
            apps += 1;
            match self.check_app(&app, now).await {
                Ok(()) => {}
                Err(DriftError::Store(error)) => return Err(DriftError::Store(error)),
                Err(error) => {
                    let cause =
                        std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                    tracing::warn!(app.id = %app.id, cause, "the drift check of app {} is incomplete: {error}", app.name);
                }
            }
        }
        Ok(apps)
    }

    async fn check_app(&self, app: &App, now: Timestamp) -> Result<(), DriftError> {
        let look = Look { app: Some(app.id), before: now, max: usize::MAX, repair: false };
        self.publisher.check_drift(look, BY).await?;
        self.publisher.delete_unused(app, self.settings.templates.keep_unused).await?;
        Ok(())
    }
}

/// Runs drift checks until the process stops.
pub(super) async fn keep_checking_drift(herald: Arc<Herald>) {
    loop {
        tokio::time::sleep(ASK_EVERY).await;
        if let Err(error) = herald.check_templates().await {
            tracing::warn!("the drift check of templates in OneSignal failed: {error}");
        }
    }
}
