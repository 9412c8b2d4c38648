//! Taking over from processes that died, ending what waited too long, and forgetting what is old.

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

/// Rows that are rescued or ended in one transaction at most.
const ROWS_AT_ONCE: i64 = 1_000;
/// How long sensitive values stay after they have served.
const SECRETS_STAY: TimeDelta = TimeDelta::hours(1);
/// How long a throttle's count stays: longer than any window.
const THROTTLES_STAY: TimeDelta = TimeDelta::days(33);
/// How long the newest sequence of a collapse key is remembered.
const COLLAPSES_STAY: TimeDelta = TimeDelta::days(30);
/// How long a body that a webhook received can be read again.
const BODIES_STAY: TimeDelta = TimeDelta::days(30);
/// How long a lapsed worker's row stays for people to see.
const WORKERS_STAY: TimeDelta = TimeDelta::hours(1);
/// How long a fenced one stays: longer than any statement or transaction may take.
const FENCED_STAY: TimeDelta = TimeDelta::minutes(10);

impl Pipeline {
    /// Frees rows of workers whose lease is over; returns how many. What such a worker was sending may have been sent:
    /// it is tried again in the same batch under the same key.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; trying again helps.
    pub async fn rescue(&self) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let sending_before = now - delta(self.limits.call_timeout);
        let orphans = orphans::lock_orphans(&mut tx, now, sending_before, ROWS_AT_ONCE).await?;
        if orphans.is_empty() {
            return Ok(0);
        }
        let events = self.events_of(orphans.iter().map(|orphan| orphan.claim.delivery.id).collect()).await?;
        let moves: Vec<Transition> =
            orphans.iter().filter_map(|orphan| self.rescued(orphan, &events, now)).collect();
        let moved = self.write_moves(&mut tx, &moves, now).await?;
        committed(commit(tx).await)?;
        metrics::counter!(names::RESCUED).increment(moved.len() as u64);
        tracing::warn!(
            deliveries = moved.len(),
            "{} deliveries were taken over from a process that died",
            moved.len()
        );
        self.look.notify_one();
        Ok(moved.len())
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

    /// Ends deliveries whose time is over while they are held or wait for their app; returns how many.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; trying again helps.
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
                if claim.delivery.state == DeliveryState::Held { "was held" } else { "could not go" };
            let detail = format!("it {waited}, and was worth sending until {}", claim.expires_at);
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
        let moves: Vec<Transition> = over.into_iter().filter_map(expire).collect();
        let moved = self.write_moves(&mut tx, &moves, now).await?;
        committed(commit(tx).await)?;
        self.wake_for_turns();
        Ok(moved.len())
    }

    /// Erases sensitive values that have served, fences workers, makes and drops partitions, prunes event keys,
    /// received bodies and what log-ins left behind.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; trying again helps.
    pub async fn tidy(&self) -> Result<(), StoreError> {
        let now = self.clock.now();
        let KeepDays { history, payloads, keys } = self.limits.keep_days;
        self.store.ensure_partitions(now).await?;
        self.store.erase_served_secrets(now - SECRETS_STAY, 10_000).await?;
        self.store.fence_workers(now - WORKERS_STAY, now - FENCED_STAY, now).await?;
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
        self.store.prune_collapses(now - COLLAPSES_STAY, 10_000).await?;
        self.store.prune_throttles(now - THROTTLES_STAY, 10_000).await?;
        self.prune_rate_shares(now).await?;
        self.store.prune_received(now - BODIES_STAY, 1_000).await?;
        self.store.prune_rejected_calls(now - BODIES_STAY).await?;
        self.store.prune_log_ins(now).await?;
        Ok(())
    }
}
