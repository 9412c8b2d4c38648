//! Records answers: one result per delivery, many batches in one transaction, guarded by worker and epoch. Rows that
//! were taken over meanwhile are left alone.

use std::collections::HashSet;

use chrono::TimeDelta;

use crate::domain::answer::{Answer, BatchAnswer, Verdict};
use crate::domain::batch::Batch;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::{Delivery, DeliveryState};
use crate::domain::id::{BatchId, DeliveryId, EventId, WorkerId};
use crate::domain::snapshot::UploadKey;
use crate::pipeline::Pipeline;
use crate::pipeline::rate::budget::Health;
use crate::pipeline::send::memory_queue::{Answered, Frozen, Member};
use crate::store::decisions::NewDecision;
use crate::store::ordering_lanes::OrderDigests;
use crate::store::transitions::{AttemptResult, TransitionRow};
use crate::store::{Committed, StoreError, Tx, batches, commit, decisions, transitions};
use crate::telemetry::names;

/// The maximum number of answers recorded in one transaction.
const ANSWERS_AT_ONCE: usize = 256;
/// How long a delivery waits whose template OneSignal has lost.
const TEMPLATE_WAIT: TimeDelta = TimeDelta::seconds(5);

/// One delivery's transition and its reason.
#[derive(Debug)]
pub(in crate::pipeline) struct Transition {
    pub after: Delivery,
    pub worker: Option<WorkerId>,
    pub epoch: i32,
    pub batch: Option<BatchId>,
    pub crashed: bool,
    pub event: EventId,
    pub decision: Option<Decision>,
}

impl Transition {
    /// The claim that it is made under: it took place if the store returns this claim.
    fn key(&self) -> (DeliveryId, i32) {
        (self.after.id, self.epoch)
    }
}

impl Pipeline {
    /// Records the queued answers; returns whether there were any. Answers that could not be recorded stay queued.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps, and changes nothing that was recorded already.
    pub async fn record(&self) -> Result<bool, StoreError> {
        let answered = self.memory_queue.take_answered(ANSWERS_AT_ONCE);
        if answered.is_empty() {
            return Ok(false);
        }
        let written = self.write_answers(&answered).await;
        if let Err(error) = written {
            self.memory_queue.put_answered(answered);
            return Err(error);
        }
        self.memory_queue
            .forget(answered.iter().flat_map(|a| a.frozen.members.iter().map(|m| m.claim.key())));
        Ok(true)
    }

    async fn write_answers(&self, answered: &[Answered]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut transitions = Vec::new();
        for Answered { frozen, answer } in answered {
            let rest_until = self.apply_to_app(&frozen.batch, &answer.verdict, now).await?;
            self.watch_version(frozen, &answer.verdict, now).await?;
            // One for the whole batch: its members are retried together, or end together.
            let jitter = self.ids.jitter();
            let transition_for = |m| self.transition_for(frozen, m, answer, (rest_until, jitter), now);
            transitions.extend(frozen.members.iter().map(transition_for));
        }
        let noted: Vec<AttemptResult<'_>> = answered
            .iter()
            .map(|a| AttemptResult { batch: a.frozen.batch.id, n: a.frozen.attempt, answer: &a.answer })
            .collect();
        let mut tx = self.store.begin().await?;
        transitions::answer_attempts(&mut tx, &noted, now).await?;
        let applied = self.write_transitions(&mut tx, &transitions, now).await?;
        self.note_scheduled(&mut tx, answered).await?;
        committed(commit(tx).await)?;
        self.wake_for_unblocked();
        metrics::counter!(names::FENCED).increment((transitions.len() - applied.len()) as u64);
        for after in transitions.iter().filter(|m| applied.contains(&m.key())).map(|m| &m.after) {
            metrics::counter!(names::DELIVERIES, "state" => after.state.name().as_str()).increment(1);
        }
        if transitions.iter().any(|m| m.after.due_at().is_some_and(|due| due <= now + TimeDelta::seconds(1)))
        {
            self.look.notify_one();
        }
        Ok(())
    }

    /// Makes transitions, notes the reasons of those that took place, and unblocks the deliveries that waited for them.
    pub(in crate::pipeline) async fn write_transitions(
        &self,
        tx: &mut Tx,
        transitions: &[Transition],
        now: Timestamp,
    ) -> Result<HashSet<(DeliveryId, i32)>, StoreError> {
        let (applied, ended) = self.apply_transitions(tx, transitions, now).await?;
        self.unblock_next(tx, &ended, now).await?;
        Ok(applied)
    }

    /// The same without unblocking: returns the ordering lanes whose head has ended.
    pub(in crate::pipeline) async fn apply_transitions(
        &self,
        tx: &mut Tx,
        transitions: &[Transition],
        now: Timestamp,
    ) -> Result<(HashSet<(DeliveryId, i32)>, OrderDigests), StoreError> {
        let rows: Vec<TransitionRow<'_>> = transitions
            .iter()
            .map(|m| TransitionRow {
                after: &m.after,
                worker: m.worker,
                epoch: m.epoch,
                batch: m.batch,
                crashed: m.crashed,
            })
            .collect();
        let (applied, ended) = transitions::apply(tx, &rows, now).await?;
        let is_void = |m: &&Transition| {
            applied.contains(&m.key()) && matches!(m.after.state, DeliveryState::Queued { .. })
        };
        let mut void: Vec<BatchId> = transitions.iter().filter(is_void).filter_map(|m| m.batch).collect();
        void.dedup();
        if !void.is_empty() {
            batches::void(tx, &void).await?;
        }
        let made: Vec<NewDecision<'_>> = transitions
            .iter()
            .filter(|m| applied.contains(&m.key()))
            .filter_map(|m| {
                Some(NewDecision { id: self.ids.next(now), event: m.event, decision: m.decision.as_ref()? })
            })
            .collect();
        if !made.is_empty() {
            decisions::insert_all(tx, &made).await?;
        }
        Ok((applied, ended))
    }

    /// Makes transitions in a transaction of their own and forgets their claims.
    pub(in crate::pipeline) async fn settle(
        &self,
        transitions: Vec<Transition>,
    ) -> Result<HashSet<(DeliveryId, i32)>, StoreError> {
        if transitions.is_empty() {
            return Ok(HashSet::new());
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let applied = self.write_transitions(&mut tx, &transitions, now).await?;
        committed(commit(tx).await)?;
        self.wake_for_unblocked();
        self.memory_queue.forget(transitions.iter().map(Transition::key));
        for after in transitions.iter().filter(|m| applied.contains(&m.key())).map(|m| &m.after) {
            metrics::counter!(names::DELIVERIES, "state" => after.state.name().as_str()).increment(1);
        }
        Ok(applied)
    }

    /// The effect of an answer on the whole app or template. Returns until when its deliveries are paused, if they are:
    /// behind a gate they are due at once and sent when it opens, by itself or by a person.
    async fn apply_to_app(
        &self,
        batch: &Batch,
        verdict: &Verdict,
        now: Timestamp,
    ) -> Result<Option<Timestamp>, StoreError> {
        let app = batch.app.id;
        match verdict {
            Verdict::RateLimited { retry_after } => {
                self.rest_app(app, *retry_after, now).await?;
                Ok(None)
            }
            Verdict::KeyRefused { detail } | Verdict::AppUnusable { detail } => {
                self.close_app(app, verdict.code(), detail, now).await?;
                Ok(None)
            }
            Verdict::TemplateUnknown => {
                self.app_works(app, now).await?;
                self.lose_template(batch).await?;
                Ok(Some(now + TEMPLATE_WAIT))
            }
            Verdict::Accepted { .. }
            | Verdict::NobodySubscribed { .. }
            | Verdict::Refused { .. }
            | Verdict::Conflict => {
                self.app_works(app, now).await?;
                Ok(None)
            }
            Verdict::NotConnected { .. } => self.with_issues(app, Health::NotConnected, now).await,
            Verdict::Ambiguous { .. } => self.with_issues(app, Health::Failed, now).await,
        }
    }

    async fn lose_template(&self, batch: &Batch) -> Result<(), StoreError> {
        let Some(stored) = self.store.find_batches(&[batch.id]).await?.pop() else { return Ok(()) };
        let key =
            UploadKey { app: batch.app.id, version: stored.frozen.version, locale: stored.frozen.locale };
        tracing::error!(app.id = %key.app, "OneSignal has lost a template of app {}; it will be uploaded again", key.app);
        if let Some(lost) = &batch.content.template_id {
            self.store.lose_upload(&key, lost).await?;
        }
        self.catalog.forget();
        self.wanted_uploads.lock().insert(key);
        Ok(())
    }

    /// The effect of an answer on one member.
    fn transition_for(
        &self,
        frozen: &Frozen,
        member: &Member,
        answer: &BatchAnswer,
        (rest_until, jitter): (Option<Timestamp>, f64),
        now: Timestamp,
    ) -> Transition {
        let before = &member.claim.delivery;
        let meant = answer.verdict.for_member(member.recipient_id.as_deref(), frozen.size == 1);
        let started_at = frozen.started_at;
        let next_due = self.limits.retry.next_due(before, &meant, started_at, now, jitter);
        let next_due = match meant {
            Answer::Gated => next_due.max(rest_until),
            _ => next_due,
        };
        let size = u16::try_from(frozen.size).unwrap_or(u16::MAX);
        let mut after = before.clone().after(&meant, next_due, started_at, size);
        if after.due_at().is_some_and(|due| due >= end_of(&after, frozen, member)) {
            after = after.expire();
        }
        let decision = reason(&after, &meant, answer).map(|decision| {
            decision.of_rule(&member.rule).of_delivery(after.id).with("attempt", frozen.attempt)
        });
        Transition {
            after,
            worker: Some(frozen.worker),
            epoch: member.claim.epoch,
            batch: Some(frozen.batch.id),
            crashed: false,
            event: member.event,
            decision,
        }
    }
}

/// Until when a delivery may be retried: a member that stays in its batch, no longer than the batch's first expiry.
fn end_of(after: &Delivery, frozen: &Frozen, member: &Member) -> Timestamp {
    match after.state {
        DeliveryState::Retrying { .. } => frozen.batch.expires_at,
        _ => member.claim.expires_at,
    }
}

/// A commit that failed, or may have failed, as an error.
pub(in crate::pipeline) fn committed(result: Committed) -> Result<(), StoreError> {
    match result {
        Committed::Yes => Ok(()),
        Committed::No(error) | Committed::Unclear(error) => {
            tracing::warn!(error = %error.with_causes(), "results could not be recorded");
            Err(error)
        }
    }
}

/// Why a delivery has its state, unless it is the expected one.
fn reason(after: &Delivery, meant: &Answer, answer: &BatchAnswer) -> Option<Decision> {
    let detail = detail_of(meant, answer);
    let decision = match after.state {
        DeliveryState::Accepted => return None,
        DeliveryState::Unreachable => Decision::new(DecisionCode::Unreachable, detail),
        DeliveryState::Rejected => Decision::new(DecisionCode::Rejected, detail),
        DeliveryState::Exhausted => {
            Decision::new(DecisionCode::Exhausted, format!("no attempts are left: {detail}"))
        }
        DeliveryState::Unknown => {
            Decision::new(DecisionCode::Unknown, format!("it is unknown whether it was sent: {detail}"))
        }
        DeliveryState::Expired => Decision::new(DecisionCode::Expired, format!("it expired: {detail}")),
        DeliveryState::Retrying { due_at } => {
            Decision::new(DecisionCode::Retried, format!("{detail}; retried unchanged at {due_at}"))
        }
        DeliveryState::Queued { due_at } => match meant {
            Answer::Split => {
                Decision::new(DecisionCode::Split, format!("its batch was rejected and is split: {detail}"))
            }
            Answer::NothingSent => {
                Decision::new(DecisionCode::Retried, format!("{detail}; checked once more at {due_at}"))
            }
            _ => Decision::new(DecisionCode::Gated, detail),
        },
        DeliveryState::Sending | DeliveryState::Held | DeliveryState::Skipped | DeliveryState::Cancelled => {
            return None;
        }
    };
    let decision = decision.with("answer", answer.verdict.code());
    Some(match answer.status {
        Some(status) => decision.with("status", status),
        None => decision,
    })
}

fn detail_of(meant: &Answer, answer: &BatchAnswer) -> String {
    match (&answer.verdict, meant) {
        (_, Answer::Unreachable) => "OneSignal knows the person but has no working subscription".to_owned(),
        (Verdict::NobodySubscribed { detail }, _) => format!("OneSignal sent nothing: {detail}"),
        (Verdict::Refused { detail }, _) => format!("OneSignal rejected it: {detail}"),
        (Verdict::KeyRefused { detail }, _) => format!("OneSignal rejected the app's API key: {detail}"),
        (Verdict::AppUnusable { detail }, _) => format!("the app can't be used: {detail}"),
        (Verdict::TemplateUnknown, _) => {
            "OneSignal has lost the template; it will be uploaded again".to_owned()
        }
        (Verdict::RateLimited { .. }, _) => "OneSignal's rate limit was reached".to_owned(),
        (Verdict::NotConnected { detail }, _) => format!("not sent: {detail}"),
        (Verdict::Conflict, _) => "OneSignal is still processing a request with the same key".to_owned(),
        (Verdict::Ambiguous { cause, .. }, _) => format!("no definite answer: {cause}"),
        (Verdict::Accepted { .. }, _) => "OneSignal accepted it".to_owned(),
    }
}
