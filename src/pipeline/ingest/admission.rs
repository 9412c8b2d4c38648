//! Admission: the initial state of each delivery of a group commit.
//!
//! Due deliveries are frozen into batches within the ingest transaction if nothing is ahead of them and both a rate
//! token and a call slot are free. Otherwise they are admitted with a lease held by this process, as long as its memory
//! queue has room, or without an owner, to be claimed later. Every slot, token and claim is taken before the commit and
//! released if the commit fails.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;

use serde_json::Value;
use uuid::Uuid;

use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::domain::delivery::{Delivery, DeliveryState, NO_PACK_LIMIT};
use crate::domain::erasure::ERASED_ID;
use crate::domain::facts::Facts;
use crate::domain::id::{DeliveryId, WorkerId};
use crate::domain::rule::TEST_SEND;
use crate::pipeline::ingest::intake::Pending;
use crate::pipeline::operator::cancel::cancel_digest;
use crate::pipeline::plan::message::Message;
use crate::pipeline::plan::{InitialState, PlannedDelivery, audience_json};
use crate::pipeline::rate::budget::Call;
use crate::pipeline::rate::version_gates::Stops;
use crate::pipeline::send::memory_queue::Frozen;
use crate::pipeline::send::pack;
use crate::pipeline::send::pack::{PackKey, PackLimits, Ready};
use crate::pipeline::{Pipeline, WorkerLease};
use crate::store::batches::NewBatch;
use crate::store::deliveries::{Admission, NewDelivery};
use crate::store::queue::Claim;

/// The claim epoch of a newly admitted delivery.
const FIRST_EPOCH: i32 = 1;

/// The initial state of a group's deliveries, with everything reserved for them.
#[derive(Default)]
pub(in crate::pipeline) struct Admissions {
    /// The worker that they are admitted for.
    pub worker: Option<WorkerId>,
    /// Batches to be stored.
    pub batches: Vec<NewBatch>,
    frozen: Vec<Frozen>,
    leased: Vec<Ready>,
    admitted_as: HashMap<DeliveryId, Admission>,
    audiences: HashMap<DeliveryId, Value>,
    /// Deliveries that wait for their recipient's facts, with the time until which they do.
    waiting: HashMap<DeliveryId, Timestamp>,
}

impl Admissions {
    /// Whether a delivery is admitted in a frozen batch.
    pub fn is_sending(&self, delivery: DeliveryId) -> bool {
        matches!(self.admitted_as.get(&delivery), Some(Admission::Sending { .. }))
    }

    /// The rows to be stored.
    pub fn rows<'a>(
        &'a self,
        winners: &'a [&Pending],
        facts: &Facts,
        now: Timestamp,
    ) -> Vec<NewDelivery<'a>> {
        let planned = |p: &'a Pending| {
            let digest =
                p.event.cancellation_key.as_deref().map(|key| cancel_digest(p.event.key_space(), key));
            p.plan.1.deliveries.iter().map(move |d| (p.event.id, digest, d))
        };
        winners
            .iter()
            .flat_map(|p| planned(p))
            .map(|(event, digest, d)| NewDelivery {
                id: d.id,
                event,
                rule: (d.rule.id, &d.rule.key),
                app: d.app.id,
                channel: d.channel,
                priority: d.rule.definition.priority,
                template: &d.template,
                version: d.pinned.as_ref().map(|(version, _)| (version.version.id, version.version.number)),
                locale: d.pinned.as_ref().map(|(_, locale)| locale.as_str()),
                recipient: d.to.person().map(|to| {
                    (to.label.as_str(), if facts.is_erased(to) { ERASED_ID } else { to.id.as_str() })
                }),
                audience: self.audiences.get(&d.id),
                schedule: d.schedule.as_deref(),
                // A digest is found by the events that it contains.
                cancel_digest: digest.filter(|_| d.gather.is_none()),
                collapse_digest: d.collapse,
                turn: d.turn,
                expires_at: d.expires_at,
                created_at: now,
                admission: self.admission(d),
            })
            .collect()
    }

    fn admission(&self, planned: &PlannedDelivery) -> Admission {
        match (self.admitted_as.get(&planned.id), &planned.initial) {
            (Some(admission), _) => *admission,
            (None, InitialState::Due { at, .. }) => {
                let due_at = self.waiting.get(&planned.id).copied().unwrap_or(*at);
                Admission::Queued { due_at, lease: None }
            }
            (None, InitialState::Held) => Admission::Held,
            (None, InitialState::Skipped) => Admission::Skipped,
        }
    }
}

/// Deliveries that share a pack key, with the app that they are sent through.
type Lines = BTreeMap<PackKey, (Arc<App>, VecDeque<Ready>)>;

impl Pipeline {
    /// Decides the initial state of the new events' deliveries and reserves what it needs.
    pub(in crate::pipeline) fn decide_admissions(
        &self,
        winners: &[&Pending],
        (gated, waiting): (&[Uuid], HashMap<DeliveryId, Timestamp>),
        lease: Option<WorkerLease>,
        now: Timestamp,
    ) -> Admissions {
        let planned = || winners.iter().flat_map(|p| &p.plan.1.deliveries);
        let audiences = planned().filter_map(|d| Some((d.id, audience_json(&d.to)?))).collect();
        let mut admissions = Admissions { audiences, waiting, ..Admissions::default() };
        if let Some(lease) = lease {
            admissions.worker = Some(lease.id);
            for (key, (app, line)) in due_now(winners, (&self.stops, &admissions.waiting), now) {
                // Deliveries behind a closed gate would fill memory that others need: they are claimed once the gate
                // opens.
                if gated.contains(&app.id.0) {
                    continue;
                }
                let rest = self.freeze_admitted(&mut admissions, &key, &app, line, lease, now);
                self.lease_admitted(&mut admissions, rest, lease);
            }
        } else if planned().any(|d| matches!(d.initial, InitialState::Due { at, .. } if at <= now)) {
            // This process does not send: another replica finds them, and sooner if the poller here is woken.
            self.look.notify_one();
        }
        admissions
    }

    /// Freezes what can be sent now; returns the rest.
    fn freeze_admitted(
        &self,
        admissions: &mut Admissions,
        key: &PackKey,
        app: &Arc<App>,
        mut line: VecDeque<Ready>,
        lease: WorkerLease,
        now: Timestamp,
    ) -> VecDeque<Ready> {
        let Some(copy) = self.copy_of(key).filter(|_| self.memory_queue.is_free(app.id, key.priority)) else {
            return line;
        };
        let call = Call {
            waiting: self.memory_queue.waiting_priorities(app.id, &HashSet::new()),
            ..Call::first(key.priority)
        };
        while let Some(limits) =
            line.front().map(|first| PackLimits::new(&first.version, self.max_targets(now)))
        {
            if self.budget.begin(app, call, now).is_err() {
                break;
            }
            let batch = self.ids.next(now);
            let members = pack::next_batch(&mut line, limits);
            let Some(draft) = self.draft(batch, app, &copy, members, (lease.id, now)) else {
                self.budget.cancel(app.id, now);
                break;
            };
            for id in &draft.new.members {
                admissions.admitted_as.insert(*id, Admission::Sending { worker: lease.id, batch });
            }
            self.memory_queue.hold(draft.new.members.iter().map(|id| (*id, FIRST_EPOCH)));
            admissions.batches.push(draft.new);
            admissions.frozen.push(draft.frozen);
        }
        line
    }

    fn lease_admitted(&self, admissions: &mut Admissions, rest: VecDeque<Ready>, lease: WorkerLease) {
        for ready in rest {
            if !self.memory_queue.reserve_one(ready.key.priority, ready.posted.0) {
                // The memory queue is full: the rest is claimed later.
                return;
            }
            let delivery = &ready.claim.delivery;
            if let DeliveryState::Queued { due_at } = delivery.state {
                admissions
                    .admitted_as
                    .insert(delivery.id, Admission::Queued { due_at, lease: Some(lease.id) });
            }
            self.memory_queue.hold([(delivery.id, FIRST_EPOCH)]);
            admissions.leased.push(ready);
        }
    }

    /// After the commit: calls frozen batches and enqueues leased deliveries.
    pub(in crate::pipeline) fn enqueue(&self, admissions: Admissions, now: Timestamp) {
        for frozen in &admissions.frozen {
            self.count_messages(frozen, now);
        }
        self.memory_queue.put_frozen(admissions.frozen);
        self.memory_queue.put_waiting(admissions.leased);
    }

    /// Without a commit: releases everything that was reserved.
    pub(in crate::pipeline) fn abandon(&self, admissions: &Admissions, now: Timestamp) {
        let frozen = admissions.frozen.iter().flat_map(|f| f.members.iter().map(|m| m.claim.key()));
        self.memory_queue.forget(frozen.chain(admissions.leased.iter().map(|ready| ready.claim.key())));
        self.memory_queue.unreserve(admissions.leased.len());
        for frozen in &admissions.frozen {
            self.budget.cancel(frozen.batch.app.id, now);
        }
    }
}

/// Due deliveries, grouped by what they must have in common to share a call.
fn due_now(
    winners: &[&Pending],
    (stops, waiting): (&Stops, &HashMap<DeliveryId, Timestamp>),
    now: Timestamp,
) -> Lines {
    let mut lines = Lines::new();
    for pending in winners {
        let posted: (_, Arc<str>) = (pending.event.source, pending.event.own_name().as_ref().into());
        let trace: Option<Arc<str>> = pending.event.traceparent.as_deref().map(Into::into);
        for planned in &pending.plan.1.deliveries {
            let InitialState::Due { at, message } = &planned.initial else { continue };
            if planned.turn.is_some_and(|turn| turn.is_blocked) || waiting.contains_key(&planned.id) {
                continue;
            }
            let Some((version, locale)) = planned.pinned.as_ref().filter(|_| *at <= now) else { continue };
            if stops.until(version.version.id, planned.rule.id, now).is_some() {
                continue;
            }
            let key = PackKey {
                priority: planned.rule.definition.priority,
                app: planned.app.id,
                version: version.version.id,
                locale: locale.clone(),
                label: planned.to.label().cloned(),
                schedule: planned.schedule.clone(),
                is_inline: message.is_inline(),
                is_test_send: planned.rule.key == TEST_SEND,
            };
            let ready = Ready {
                claim: claim_of(planned, *at),
                key: key.clone(),
                version: Arc::clone(version),
                to: planned.to.clone(),
                message: Message::clone(message),
                event: pending.event.id,
                posted: posted.clone(),
                rule: (planned.rule.id, planned.rule.key.as_str().into()),
                replay_of: None,
                traceparent: trace.clone(),
                holds_secrets: pending.sealed.is_some(),
                closes_at: planned.closes_at,
                turn: 0,
            };
            lines
                .entry(key)
                .or_insert_with(|| (Arc::clone(&planned.app), VecDeque::new()))
                .1
                .push_back(ready);
        }
    }
    lines
}

/// The claim of a delivery that is admitted with a lease.
fn claim_of(planned: &PlannedDelivery, due_at: Timestamp) -> Claim {
    Claim {
        delivery: Delivery {
            id: planned.id,
            state: DeliveryState::Queued { due_at },
            priority: planned.rule.definition.priority,
            attempts: 0,
            generation: 0,
            is_rechecked: false,
            pack_limit: NO_PACK_LIMIT,
            first_attempt_at: None,
            first_ambiguous_at: None,
        },
        epoch: FIRST_EPOCH,
        app: planned.app.id,
        expires_at: planned.expires_at,
        batch: None,
        crashes: 0,
    }
}
