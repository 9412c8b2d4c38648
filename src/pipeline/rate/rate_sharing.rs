//! The exchange between replicas: who could use how much of each app's rate, and what has been sent to how many.
//!
//! Once a second while something is going on; at rest nothing is written or read.

use std::time::Duration;

use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::CompiledCatalog;
use crate::pipeline::rate::budget::{AppReport, AppShare, Others, VolumeState, WINDOW, minute};
use crate::store::StoreError;
use crate::store::rate_shares::{RateReport, RateShares};
use crate::telemetry::names;

/// How long minutes of the volume guard are kept.
const MINUTES_KEPT: chrono::TimeDelta = chrono::TimeDelta::hours(1);

impl Pipeline {
    /// Says what this replica could use and has sent, and hears the same of the others; `elapsed` since the last time.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; nothing is forgotten.
    pub async fn share_rates(&self, elapsed: Duration) -> Result<(), StoreError> {
        let now = self.clock.now();
        let Some(lease) = self.present_lease(now) else { return Ok(()) };
        let catalog = self.catalog.get(&self.store).await?;
        let rates = catalog.apps().map(|app| (app.id, app.calls_per_second)).collect();
        let reported = self.budget.report(elapsed, &rates);
        let reports: Vec<RateReport> = reported
            .iter()
            .map(|one| RateReport { app: one.app, demand: one.demand, messages: one.messages })
            .collect();
        let times = (now, minute(now), minute(now) - WINDOW);
        let shares = match self.store.share_rates(lease.id, &reports, times).await {
            Ok(shares) => shares,
            Err(error) => {
                self.budget.retract_report(&reported, now);
                return Err(error);
            }
        };
        self.budget.set_others(shares.others);
        for report in &reported {
            self.apply_shares(*report, &shares, &catalog, now);
        }
        Ok(())
    }

    fn apply_shares(
        &self,
        report: AppReport,
        shares: &RateShares,
        catalog: &CompiledCatalog,
        now: Timestamp,
    ) {
        let app = catalog.app(Some(report.app));
        let share = AppShare {
            others: Others {
                count: shares.others,
                demand: shares.demands.get(&report.app).copied().unwrap_or_default(),
            },
            messages: shares.messages.get(&report.app).cloned().unwrap_or_default(),
            subscriptions: app.and_then(|app| app.subscriptions).map(u64::from),
        };
        self.budget.apply_share(report, share, now);
        self.watch_volume(report.app, now);
    }

    fn watch_volume(&self, app: AppId, now: Timestamp) {
        let (state, used, rises) = self.budget.volume(app, now);
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        metrics::gauge!(names::VOLUME, "app" => app.to_string()).set(used as f64);
        match state {
            VolumeState::High if rises => tracing::warn!(
                app.id = %app, messages = used,
                "app {app} has sent {used} messages in 15 minutes, half of the volume at which OneSignal disables it"
            ),
            VolumeState::TooHigh { until } if rises => tracing::error!(
                app.id = %app, messages = used,
                "app {app} was paused until {until}: it has sent {used} messages in 15 minutes, close to the volume at which OneSignal disables it"
            ),
            VolumeState::Unknown | VolumeState::Low | VolumeState::High | VolumeState::TooHigh { .. } => {}
        }
    }

    /// Forgets what the exchange has no use for any more.
    pub(in crate::pipeline) async fn prune_rate_shares(&self, now: Timestamp) -> Result<(), StoreError> {
        self.store.prune_rate_shares(now - MINUTES_KEPT).await
    }
}
