//! The exchange between replicas: who could use how much of each app's rate, and what has been sent to how many.
//!
//! Once a second while something is going on; at rest nothing is written or read.

use std::time::Duration;

use super::Pipeline;
use super::budget::{AppReport, AppShare, Others, VolumeState, WINDOW, minute};
use super::compiled::CompiledCatalog;
use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::store::StoreError;
use crate::store::rate_shares::{RateReport, Told};
use crate::telemetry::names;

/// How long minutes of the volume guard are kept.
const MINUTES_STAY: chrono::TimeDelta = chrono::TimeDelta::hours(1);

impl Pipeline {
    /// Says what this replica could use and has sent, and hears the same of the others; `elapsed` since the last time.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; nothing is forgotten.
    pub async fn share_rates(&self, elapsed: Duration) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.present_lease(now) else { return Ok(()) };
        let catalog = self.catalog.get(&self.store).await?;
        let rates = catalog.apps().map(|app| (app.id, app.calls_per_second)).collect();
        let said = self.budget.report(elapsed, &rates);
        let reports: Vec<RateReport> = said
            .iter()
            .map(|one| RateReport { app: one.app, demand: one.demand, messages: one.messages })
            .collect();
        let times = (now, minute(now), minute(now) - WINDOW);
        let told = match self.store.share_rates(lease.id, &reports, times).await {
            Ok(told) => told,
            Err(error) => {
                self.budget.retract_report(&said, now);
                return Err(error);
            }
        };
        self.budget.know_others(told.others);
        for one in &said {
            self.hear(*one, &told, &catalog, now);
        }
        Ok(())
    }

    fn hear(&self, said: AppReport, told: &Told, catalog: &CompiledCatalog, now: Timestamp) {
        let app = catalog.app(Some(said.app));
        let heard = AppShare {
            others: Others {
                count: told.others,
                demand: told.demands.get(&said.app).copied().unwrap_or_default(),
            },
            messages: told.messages.get(&said.app).cloned().unwrap_or_default(),
            subscriptions: app.and_then(|app| app.subscriptions).map(u64::from),
        };
        self.budget.listen(said, heard, now);
        self.watch_volume(said.app, now);
    }

    fn watch_volume(&self, app: AppId, now: Timestamp) {
        let (state, used, rises) = self.budget.volume(app, now);
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(names::VOLUME, "app" => app.to_string()).set(used as f64);
        match state {
            VolumeState::High if rises => tracing::warn!(
                app.id = %app, messages = used,
                "app {app} has sent half of what OneSignal disables an app for, {used} messages in 15 minutes"
            ),
            VolumeState::TooHigh { until } if rises => tracing::error!(
                app.id = %app, messages = used,
                "app {app} has sent {used} messages in 15 minutes, so near to being disabled that it rests until {until}"
            ),
            VolumeState::Unknown | VolumeState::Low | VolumeState::High | VolumeState::TooHigh { .. } => {}
        }
    }

    /// Forgets what the exchange has no use for any more.
    pub(super) async fn prune_rate_shares(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.prune_rate_shares(now - MINUTES_STAY).await
    }
}
