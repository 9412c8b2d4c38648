//! The effect of an answer on a whole app: its gate closes when the app can't be used and opens when a call succeeds.

use std::time::Duration;

use crate::domain::app::AppId;
use crate::domain::clock::Timestamp;
use crate::domain::gate::{BREAKER_OPEN, Gate, GateSubject, RATE_LIMITED};
use crate::domain::retry::delta;
use crate::pipeline::Pipeline;
use crate::pipeline::rate::budget::{Health, KnownGate};
use crate::store::StoreError;

impl Pipeline {
    /// Pauses an app for as long as a 429 asks for.
    pub(in crate::pipeline) async fn rest_app(
        &self,
        app: AppId,
        retry_after: Option<Duration>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let until = now + delta(self.limits.retry.rate_limit_wait(retry_after, self.ids.jitter()));
        let gate = Gate {
            subject: GateSubject::App(app),
            code: RATE_LIMITED.to_owned(),
            detail: "OneSignal's rate limit was reached".to_owned(),
            closed_until: until,
        };
        self.store.close_until(&gate, now).await?;
        self.budget.close(app, KnownGate { until, opens_slowly: false }, now);
        tracing::warn!(app.id = %app, "app {app} was rate limited until {until}");
        Ok(())
    }

    /// Closes the gate of an app that can't be used, with growing delays until a probe succeeds.
    pub(in crate::pipeline) async fn close_app(
        &self,
        app: AppId,
        code: &'static str,
        detail: &str,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let (first, longest) = self.limits.gate;
        let subject = GateSubject::App(app);
        let gate = Gate { subject, code: code.to_owned(), detail: detail.to_owned(), closed_until: now };
        let until = self.store.close_doubling(&gate, first, longest, now).await?;
        self.budget.close(app, KnownGate { until, opens_slowly: true }, now);
        tracing::error!(app.id = %app, code, "app {app} was closed until {until}: {code}");
        Ok(())
    }

    /// Counts a call without a definite answer; closes the app's gate when there are too many, or when the call was a
    /// probe. The delivery's own retry delay does not grow because of it.
    pub(in crate::pipeline) async fn with_issues(
        &self,
        app: AppId,
        health: Health,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        if !self.budget.note(app, health, now) {
            return Ok(None);
        }
        let detail = "too many calls got no definite answer".to_owned();
        let subject = GateSubject::App(app);
        let gate = Gate { subject, code: BREAKER_OPEN.to_owned(), detail, closed_until: now };
        let policy = &self.limits.breaker;
        let until = self.store.close_doubling(&gate, policy.first, policy.longest, now).await?;
        self.budget.close(app, KnownGate { until, opens_slowly: true }, now);
        tracing::error!(app.id = %app, "app {app} was closed until {until}: too many calls to OneSignal got no definite answer");
        Ok(None)
    }

    /// Opens the app's gate if this call was its probe.
    pub(in crate::pipeline) async fn app_works(&self, app: AppId, now: Timestamp) -> Result<(), StoreError> {
        self.budget.note(app, Health::Well, now);
        if self.budget.probe_worked(app, now) && self.store.open_gate(GateSubject::App(app), now).await? {
            tracing::info!(app.id = %app, "app {app} was opened again: a call succeeded");
        }
        Ok(())
    }
}
