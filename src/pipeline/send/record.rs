//! Writing down what calls came back with: one result per delivery, all of many batches in one transaction, guarded by
//! worker and epoch. What was taken over meanwhile stays as it is.

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
use crate::store::ordering_lanes::Turns;
use crate::store::transitions::{AttemptResult, Move};
use crate::store::{Committed, StoreError, Tx, batches, commit, decisions, transitions};
use crate::telemetry::names;

/// Answers written down in one transaction at most.
const ANSWERS_AT_ONCE: usize = 256;
/// How long a delivery rests whose template OneSignal has lost.
const TEMPLATE_WAIT: TimeDelta = TimeDelta::seconds(5);

/// One delivery's move, with why.
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
    /// The claim that it moves under: it did move if that is among those which the store says did.
    fn key(&self) -> (DeliveryId, i32) {
        (self.after.id, self.epoch)
    }
}

impl Pipeline {
    /// Writes down the answers that are in line; returns whether there were any. Answers that could not be written
    /// stay in line.
    ///
    /// # Errors
    /// [`StoreError`] when the database is away; trying again helps, and changes nothing that was written already.
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
            .let_go(answered.iter().flat_map(|a| a.frozen.members.iter().map(|m| m.claim.key())));
        Ok(true)
    }

    async fn write_answers(&self, answered: &[Answered]) -> Result<(), StoreError> {
        let now = self.clock.now();
        let mut moves = Vec::new();
        for Answered { frozen, answer } in answered {
            let rest_until = self.apply_to_app(&frozen.batch, &answer.verdict, now).await?;
            self.watch_version(frozen, &answer.verdict, now).await?;
            // One for the whole batch: its members are tried again together, or end together.
            let jitter = self.ids.jitter();
            let judge = |m| self.judge(frozen, m, answer, (rest_until, jitter), now);
            moves.extend(frozen.members.iter().map(judge));
        }
        let noted: Vec<AttemptResult<'_>> = answered
            .iter()
            .map(|a| AttemptResult { batch: a.frozen.batch.id, n: a.frozen.attempt, answer: &a.answer })
            .collect();
        let mut tx = self.store.begin().await?;
        transitions::answer_attempts(&mut tx, &noted, now).await?;
        let moved = self.write_moves(&mut tx, &moves, now).await?;
        self.note_scheduled(&mut tx, answered).await?;
        committed(commit(tx).await)?;
        self.wake_for_turns();
        metrics::counter!(names::FENCED).increment((moves.len() - moved.len()) as u64);
        for after in moves.iter().filter(|m| moved.contains(&m.key())).map(|m| &m.after) {
            metrics::counter!(names::DELIVERIES, "state" => after.state.name().as_str()).increment(1);
        }
        if moves.iter().any(|m| m.after.due_at().is_some_and(|due| due <= now + TimeDelta::seconds(1))) {
            self.look.notify_one();
        }
        Ok(())
    }

    /// Carries out moves, notes why, for those that did move, and lets go whoever waited for them.
    pub(in crate::pipeline) async fn write_moves(
        &self,
        tx: &mut Tx,
        moves: &[Transition],
        now: Timestamp,
    ) -> Result<HashSet<(DeliveryId, i32)>, StoreError> {
        let (moved, ended) = self.carry_out_moves(tx, moves, now).await?;
        self.unblock_next(tx, &ended, now).await?;
        Ok(moved)
    }

    /// The same, but for who waited: returns whose turns have ended.
    pub(in crate::pipeline) async fn carry_out_moves(
        &self,
        tx: &mut Tx,
        moves: &[Transition],
        now: Timestamp,
    ) -> Result<(HashSet<(DeliveryId, i32)>, Turns), StoreError> {
        let rows: Vec<Move<'_>> = moves
            .iter()
            .map(|m| Move {
                after: &m.after,
                worker: m.worker,
                epoch: m.epoch,
                batch: m.batch,
                crashed: m.crashed,
            })
            .collect();
        let (moved, ended) = transitions::carry_out(tx, &rows, now).await?;
        let is_void = |m: &&Transition| {
            moved.contains(&m.key()) && matches!(m.after.state, DeliveryState::Queued { .. })
        };
        let mut void: Vec<BatchId> = moves.iter().filter(is_void).filter_map(|m| m.batch).collect();
        void.dedup();
        if !void.is_empty() {
            batches::void(tx, &void).await?;
        }
        let made: Vec<NewDecision<'_>> = moves
            .iter()
            .filter(|m| moved.contains(&m.key()))
            .filter_map(|m| {
                Some(NewDecision { id: self.ids.next(now), event: m.event, decision: m.decision.as_ref()? })
            })
            .collect();
        if !made.is_empty() {
            decisions::insert_all(tx, &made).await?;
        }
        Ok((moved, ended))
    }

    /// Carries out moves in a transaction of their own and forgets their claims.
    pub(in crate::pipeline) async fn settle(
        &self,
        moves: Vec<Transition>,
    ) -> Result<HashSet<(DeliveryId, i32)>, StoreError> {
        if moves.is_empty() {
            return Ok(HashSet::new());
        }
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let moved = self.write_moves(&mut tx, &moves, now).await?;
        committed(commit(tx).await)?;
        self.wake_for_turns();
        self.memory_queue.let_go(moves.iter().map(Transition::key));
        for after in moves.iter().filter(|m| moved.contains(&m.key())).map(|m| &m.after) {
            metrics::counter!(names::DELIVERIES, "state" => after.state.name().as_str()).increment(1);
        }
        Ok(moved)
    }

    /// What an answer means for the whole app or template. Returns until when its deliveries rest, if they do: behind a
    /// gate they are due at once and go when it opens, by itself or by a person.
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
        tracing::error!(app.id = %key.app, "OneSignal has lost a template of app {}; it is uploaded again", key.app);
        if let Some(lost) = &batch.content.template_id {
            self.store.lose_upload(&key, lost).await?;
        }
        self.catalog.forget();
        self.wanted_uploads.lock().insert(key);
        Ok(())
    }

    /// What an answer means for one member.
    fn judge(
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

/// Until when a delivery is worth another try: what stays in its batch can go no longer than the batch's first to expire.
fn end_of(after: &Delivery, frozen: &Frozen, member: &Member) -> Timestamp {
    match after.state {
        DeliveryState::Retrying { .. } => frozen.batch.expires_at,
        _ => member.claim.expires_at,
    }
}

/// A commit that does not stand, or may not, as an error.
pub(in crate::pipeline) fn committed(result: Committed) -> Result<(), StoreError> {
    match result {
        Committed::Yes => Ok(()),
        Committed::No(error) | Committed::Unclear(error) => {
            tracing::warn!(error = %error.with_causes(), "results were not written down");
            Err(error)
        }
    }
}

/// Why a delivery is where it is now, unless it went the happy path.
fn reason(after: &Delivery, meant: &Answer, answer: &BatchAnswer) -> Option<Decision> {
    let told = told(meant, answer);
    let decision = match after.state {
        DeliveryState::Accepted => return None,
        DeliveryState::Unreachable => Decision::new(DecisionCode::Unreachable, told),
        DeliveryState::Rejected => Decision::new(DecisionCode::Rejected, told),
        DeliveryState::Exhausted => {
            Decision::new(DecisionCode::Exhausted, format!("the tries are used up: {told}"))
        }
        DeliveryState::Unknown => {
            Decision::new(DecisionCode::Unknown, format!("whether it went out could not be settled: {told}"))
        }
        DeliveryState::Expired => Decision::new(DecisionCode::Expired, format!("its time was over: {told}")),
        DeliveryState::Retrying { due_at } => {
            Decision::new(DecisionCode::Retried, format!("{told}; tried again, unchanged, at {due_at}"))
        }
        DeliveryState::Queued { due_at } => match meant {
            Answer::Split => Decision::new(
                DecisionCode::Split,
                format!("its batch was refused and is taken apart: {told}"),
            ),
            Answer::NothingSent => {
                Decision::new(DecisionCode::Retried, format!("{told}; checked once more at {due_at}"))
            }
            _ => Decision::new(DecisionCode::Gated, told),
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

fn told(meant: &Answer, answer: &BatchAnswer) -> String {
    match (&answer.verdict, meant) {
        (_, Answer::Unreachable) => "OneSignal knows the person but has no working subscription".to_owned(),
        (Verdict::NobodySubscribed { detail }, _) => format!("OneSignal sent nothing: {detail}"),
        (Verdict::Refused { detail }, _) => format!("OneSignal refused it: {detail}"),
        (Verdict::KeyRefused { detail }, _) => format!("OneSignal refused the app's key: {detail}"),
        (Verdict::AppUnusable { detail }, _) => format!("the app can't be used: {detail}"),
        (Verdict::TemplateUnknown, _) => "OneSignal has lost the template; it is uploaded again".to_owned(),
        (Verdict::RateLimited { .. }, _) => "OneSignal's rate limit is reached".to_owned(),
        (Verdict::NotConnected { detail }, _) => format!("not sent: {detail}"),
        (Verdict::Conflict, _) => "OneSignal is still working on the same key".to_owned(),
        (Verdict::Ambiguous { cause, .. }, _) => format!("no clear answer: {cause}"),
        (Verdict::Accepted { .. }, _) => "OneSignal took it".to_owned(),
    }
}
