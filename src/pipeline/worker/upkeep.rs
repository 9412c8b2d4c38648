//! Takes over from processes that died, expires deliveries that waited too long, and prunes old rows.

use std::collections::HashMap;

use chrono::{Days, TimeDelta};

use crate::domain::answer::Answer;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::id::{DeliveryId, EventId};
use crate::domain::retry::delta;
use crate::pipeline::send::call::LATEST_START;
use crate::pipeline::send::record::{Transition, committed};
use crate::pipeline::{KeepDays, Pipeline};
use crate::store::orphans::Orphan;
use crate::store::queue::Claim;
use crate::store::retention::{HISTORY, PAYLOADS};
use crate::store::{StoreError, commit, orphans, queue};
use crate::telemetry::names;

/// The maximum number of rows rescued or expired in one transaction.
const ROWS_AT_ONCE: i64 = 1_000;
/// How long sensitive values are kept after use.
const SECRETS_KEPT: TimeDelta = TimeDelta::hours(1);
/// How long a throttle counter is kept: longer than any window.
const THROTTLES_KEPT: TimeDelta = TimeDelta::days(33);
/// How long the highest sequence of a collapse key is remembered.
const COLLAPSES_KEPT: TimeDelta = TimeDelta::days(30);
/// How long a received webhook body can be read.
const BODIES_KEPT: TimeDelta = TimeDelta::days(30);
/// How long the row of a worker with an expired lease stays visible.
const WORKERS_KEPT: TimeDelta = TimeDelta::hours(1);
/// How long the row of a fenced worker stays: longer than any statement or transaction may take.
const FENCED_KEPT: TimeDelta = TimeDelta::minutes(10);

/// By how much clocks of processes may differ.
const LEASE_SLACK: TimeDelta = TimeDelta::seconds(1);

impl Pipeline {
    /// Takes over rows of workers whose lease has expired; returns how many. What such a worker was sending may have
    /// been sent: it is retried in the same batch under the same key.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn rescue(&self) -> Result<usize, StoreError> {
        // Before the time is read: a step that is known has been followed by this process's clock.
        let known_step = self.watch.load().step.map(|step| step.at);
        let now = self.clock.now();
        // A process that was about to renew its lease while the clock went back may have done so by the old time, after
        // the others were repaired.
        let until = now + delta(self.limits.lease);
        self.store.shorten_leases(until + LEASE_SLACK, until, now).await?;
        let mut tx = self.store.begin().await?;
        let sending_before = now - delta(self.limits.call_timeout);
        let orphans = orphans::lock_orphans(&mut tx, now, sending_before, known_step, ROWS_AT_ONCE).await?;
        if orphans.is_empty() {
            return Ok(0);
        }
        let events = self.events_of(orphans.iter().map(|orphan| orphan.claim.delivery.id).collect()).await?;
        let transitions: Vec<Transition> =
            orphans.iter().filter_map(|orphan| self.rescued(orphan, &events, now)).collect();
        let applied = self.write_transitions(&mut tx, &transitions, now).await?;
        committed(commit(tx).await)?;
        metrics::counter!(names::RESCUED).increment(applied.len() as u64);
        tracing::warn!(
            deliveries = applied.len(),
            "{} deliveries were taken over from a process that died",
            applied.len()
        );
        self.look.notify_one();
        Ok(applied.len())
    }

    async fn events_of(&self, ids: Vec<DeliveryId>) -> Result<HashMap<DeliveryId, EventId>, StoreError> {
        let rows = self.store.find_deliveries(&ids).await?;
        Ok(rows.into_iter().map(|row| (row.id, row.event)).collect())
    }

    fn rescued(
        &self,
        orphan: &Orphan,
        events: &HashMap<DeliveryId, EventId>,
        now: Timestamp,
    ) -> Option<Transition> {
        let Claim { delivery, epoch, expires_at, batch, .. } = &orphan.claim;
        let event = *events.get(&delivery.id)?;
        let is_sending = delivery.state == DeliveryState::Sending;
        let after = if let Some(due_at) = delivery.due_at() {
            delivery.clone().into_state(DeliveryState::Queued { due_at })
        } else {
            let started_at = orphan.attempt_started_at.unwrap_or(now);
            let answer = Answer::LeaseExpired { started_at: started_at + LATEST_START };
            let next = self.limits.retry.next_due(delivery, &answer, started_at, now, self.ids.jitter());
            delivery.clone().after(&answer, next.filter(|due| due < expires_at), started_at, 1)
        };
        let decision = is_sending.then(|| {
            let detail = "the process that was sending it died; it may have been sent";
            Decision::new(DecisionCode::Rescued, detail).of_delivery(delivery.id)
        });
        Some(Transition {
            after,
            worker: Some(orphan.worker),
            epoch: *epoch,
            batch: *batch,
            crashed: is_sending,
            event,
            decision,
        })
    }

    /// Expires deliveries that are held or wait for their app; returns how many.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn expire_waiting(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let over = queue::lock_expired(&mut tx, now, ROWS_AT_ONCE).await?;
        if over.is_empty() {
            return Ok(0);
        }
        let events = self.events_of(over.iter().map(|claim| claim.delivery.id).collect()).await?;
        let expire = |claim: Claim| {
            let id = claim.delivery.id;
            let waited =
                if claim.delivery.state == DeliveryState::Held { "was held" } else { "could not be sent" };
            let detail = format!("it {waited} and expired at {}", claim.expires_at);
            Some(Transition {
                event: *events.get(&id)?,
                after: claim.delivery.expire(),
                worker: None,
                epoch: claim.epoch,
                batch: None,
                crashed: false,
                decision: Some(Decision::new(DecisionCode::Expired, detail).of_delivery(id)),
            })
        };
        let transitions: Vec<Transition> = over.into_iter().filter_map(expire).collect();
        let applied = self.write_transitions(&mut tx, &transitions, now).await?;
        committed(commit(tx).await)?;
        self.wake_for_unblocked();
        Ok(applied.len())
    }

    /// Erases sensitive values after use, fences workers, creates and drops partitions, prunes event keys, received
    /// bodies and expired login data.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn maintain(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let KeepDays { history, payloads, keys } = self.limits.keep_days;
        self.store.ensure_partitions(now).await?;
        self.store.erase_served_secrets(now - SECRETS_KEPT, 10_000).await?;
        self.store.fence_workers(now - WORKERS_KEPT, now - FENCED_KEPT, now).await?;
        let days_ago = |days: u32| now.date_naive().checked_sub_days(Days::new(u64::from(days)));
        if let Some(oldest) = days_ago(payloads.min(history)) {
            self.store.drop_partitions_before(&PAYLOADS, oldest).await?;
        }
        if let Some(oldest) = days_ago(history) {
            self.store.drop_partitions_before(&HISTORY, oldest).await?;
            let oldest = oldest.and_time(chrono::NaiveTime::MIN).and_utc();
            self.store.prune_digests(oldest, 10_000).await?;
        }
        self.store.prune_event_keys(now - TimeDelta::days(i64::from(keys)), 1_000).await?;
        self.forget_scheduled(now).await?;
        self.store.prune_collapses(now - COLLAPSES_KEPT, 10_000).await?;
        self.store.prune_throttle_counters(now - THROTTLES_KEPT, 10_000).await?;
        self.prune_rate_shares(now).await?;
        self.store.prune_received(now - BODIES_KEPT, 1_000).await?;
        self.store.prune_rejected_calls(now - BODIES_KEPT).await?;
        self.store.prune_log_ins(now).await?;
        Ok(())
    }
}
