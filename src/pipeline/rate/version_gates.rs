//! Gates of template versions and rules, as this process knows them. An app's gate is in its budget.
//!
//! A version whose messages OneSignal keeps rejecting is stopped automatically, so that a bad option or a plan that
//! lacks a feature costs a handful of messages instead of all. A person can stop a rule or a version.

use std::collections::HashMap;
use std::time::Duration;

use chrono::TimeDelta;
use parking_lot::Mutex;

use crate::domain::answer::Verdict;
use crate::domain::clock::Timestamp;
use crate::domain::gate::{Gate, GateSubject, REFUSED};
use crate::domain::id::{RuleId, TemplateVersionId};
use crate::pipeline::send::memory_queue::Frozen;
use crate::pipeline::send::pack::Ready;
use crate::pipeline::{Pipeline, WorkerLease};
use crate::store::StoreError;

/// Consecutive rejections that stop a version.
const REFUSALS: u32 = 5;
/// How long a version is stopped, at first and at most.
const FIRST: Duration = Duration::from_mins(1);
const LONGEST: Duration = Duration::from_mins(10);
/// The longest delay before a delivery behind a manual gate is checked again.
const LOOK_AGAIN: TimeDelta = TimeDelta::minutes(1);

/// What is stopped, and consecutive rejections.
#[derive(Debug, Default)]
pub(in crate::pipeline) struct Stops {
    closed: Mutex<HashMap<GateSubject, Timestamp>>,
    refusals: Mutex<HashMap<TemplateVersionId, u32>>,
}

impl Stops {
    /// Until when a version or a rule is stopped.
    pub fn until(&self, version: TemplateVersionId, rule: RuleId, now: Timestamp) -> Option<Timestamp> {
        let closed = self.closed.lock();
        if closed.is_empty() {
            return None;
        }
        let subjects = [GateSubject::Version(version), GateSubject::Rule(rule)];
        subjects.iter().filter_map(|subject| closed.get(subject)).copied().filter(|until| *until > now).max()
    }

    /// Applies what is stored in the database.
    pub fn learn(&self, gates: &[Gate]) {
        let of_others = gates.iter().filter(|gate| !matches!(gate.subject, GateSubject::App(_)));
        *self.closed.lock() = of_others.map(|gate| (gate.subject, gate.closed_until)).collect();
    }

    fn close(&self, version: TemplateVersionId, until: Timestamp) {
        self.closed.lock().insert(GateSubject::Version(version), until);
    }

    /// Whether a version has a gate, closed or half open.
    fn has_gate(&self, version: TemplateVersionId) -> bool {
        self.closed.lock().contains_key(&GateSubject::Version(version))
    }

    /// Counts a rejected delivery; returns whether the limit is reached.
    fn refused(&self, version: TemplateVersionId) -> bool {
        let is_on_trial = self.has_gate(version);
        let mut refusals = self.refusals.lock();
        let count = refusals.entry(version).or_default();
        *count += 1;
        let is_too_many = *count >= REFUSALS || is_on_trial;
        if is_too_many {
            refusals.remove(&version);
        }
        is_too_many
    }

    fn accepted(&self, version: TemplateVersionId) {
        self.refusals.lock().remove(&version);
    }
}

impl Pipeline {
    /// Counts an answer for its version, and stops a version that is rejected repeatedly.
    pub(in crate::pipeline) async fn watch_version(
        &self,
        frozen: &Frozen,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let version = frozen.version;
        match verdict {
            Verdict::Refused { detail } if frozen.size == 1 && self.stops.refused(version) => {
                let gate = Gate {
                    subject: GateSubject::Version(version),
                    code: REFUSED.to_owned(),
                    detail: format!("OneSignal rejects its messages: {detail}"),
                    closed_until: now,
                };
                let until = self.store.close_doubling(&gate, FIRST, LONGEST, now).await?;
                self.stops.close(version, until);
                tracing::error!(
                    template.version.id = %version,
                    "{version} was stopped until {until}: OneSignal keeps rejecting its messages"
                );
            }
            Verdict::Accepted { .. } => {
                self.stops.accepted(version);
                if self.stops.has_gate(version)
                    && self.store.open_gate(GateSubject::Version(version), now).await?
                {
                    tracing::info!(template.version.id = %version, "{version} was opened again: a message was accepted");
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Releases deliveries whose version or rule has a closed gate: they are due again once the gate may have opened.
    pub(in crate::pipeline) async fn turn_back_stopped(
        &self,
        lease: WorkerLease,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let until = |ready: &Ready| self.stops.until(ready.version.version.id, ready.rule.0, now);
        let mut stopped = self.memory_queue.take_where(|ready| until(ready).is_some()).into_iter();
        while let Some(ready) = stopped.next() {
            let due_at = until(&ready).unwrap_or(now).min(now + LOOK_AGAIN);
            let released = self.release_claims(lease, std::slice::from_ref(&ready), Some(due_at)).await;
            if released.is_err() {
                // No queue contains the rest any more: the poller reclaims them.
                self.memory_queue.forget(stopped.map(|ready| ready.claim.key()));
                return released;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use crate::domain::id::TypedId;
    use crate::pipeline::rate::version_gates::*;

    fn version() -> TemplateVersionId {
        TemplateVersionId::from_uuid(uuid::Uuid::from_u128(1))
    }

    #[test]
    fn five_refusals_in_a_row_are_too_many_and_an_accepted_one_starts_anew() {
        let stops = Stops::default();
        assert!((0..4).all(|_| !stops.refused(version())));
        stops.accepted(version());
        assert!((0..4).all(|_| !stops.refused(version())));
        assert!(stops.refused(version()));
    }

    #[test]
    fn a_version_on_trial_is_stopped_again_by_one_refusal() {
        let stops = Stops::default();
        stops.close(version(), Timestamp::UNIX_EPOCH);
        assert!(stops.refused(version()));
    }
}
