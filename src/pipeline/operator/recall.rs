//! Recalls messages that OneSignal holds until their time.
//!
//! A cancellation of such a delivery stores a recall request in its own transaction. This step carries the requests
//! out: one call per message, once all of its deliveries are to be recalled, within the same budget as sending calls. A
//! call whose result is unknown is repeated, and then OneSignal is asked for the message's state: a second cancellation
//! is rejected like one that comes too late.

use std::sync::Arc;
use std::time::Duration;

use chrono::TimeDelta;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::domain::answer::{ProviderMessageId, Recall, Verdict};
use crate::domain::app::{App, AppId};
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::id::DeliveryId;
use crate::domain::retry::delta;
use crate::pipeline::Pipeline;
use crate::pipeline::operator::cancel::Unwanted;
use crate::pipeline::rate::budget::{Call, CallEnd, Health, Wait};
use crate::pipeline::send::memory_queue::Answered;
use crate::pipeline::send::record::committed;
use crate::pipeline::worker::failpoints;
use crate::store::decisions::{self, NewDecision};
use crate::store::scheduled_messages::{self, Claimed, ScheduledMessage, Settled};
use crate::store::{StoreError, Tx, commit};
use crate::telemetry::names;

/// The maximum number of messages recalled at once.
const AT_ONCE: i64 = 32;
/// The delay after a call without a result, at first; it doubles.
const AGAIN: Duration = Duration::from_secs(5);
/// The longest delay.
const LONGEST_REST: Duration = Duration::from_mins(15);
/// How long after its time a message may still be recalled: OneSignal spreads it over a day of time zones.
const STILL_SPREADING: TimeDelta = TimeDelta::hours(26);
/// The maximum number of rows pruned at once.
const FORGOTTEN_AT_ONCE: i64 = 10_000;

/// The decision that a delivery is to be recalled.
pub(in crate::pipeline) fn wanted_back(held: &ScheduledMessage, why: &str) -> Decision {
    let detail = format!("{why}; OneSignal holds it until {} and is asked to cancel it", held.send_after);
    let decision = Decision::new(DecisionCode::Recalling, detail);
    decision.of_rule(&held.rule).of_delivery(held.delivery)
}

impl Pipeline {
    /// Stores recall requests for deliveries that are at OneSignal or in flight, each with its reason. Earlier requests
    /// stay as they are.
    pub(in crate::pipeline) async fn request_recall(
        &self,
        tx: &mut Tx,
        wanted: &[(ScheduledMessage, String)],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let new: Vec<&(ScheduledMessage, String)> =
            wanted.iter().filter(|(held, _)| !held.was_wanted).collect();
        if new.is_empty() {
            return Ok(());
        }
        let rows: Vec<(DeliveryId, &str)> =
            new.iter().map(|(held, why)| (held.delivery, why.as_str())).collect();
        scheduled_messages::want(tx, &rows, now).await?;
        let decisions: Vec<_> = new.iter().map(|(held, why)| (held.event, wanted_back(held, why))).collect();
        let rows: Vec<NewDecision<'_>> = decisions
            .iter()
            .map(|(event, decision)| NewDecision { id: self.ids.next(now), event: *event, decision })
            .collect();
        decisions::insert_all(tx, &rows).await
    }

    /// Stores the ids under which OneSignal accepted what it is to send later.
    pub(in crate::pipeline) async fn note_scheduled(
        &self,
        tx: &mut Tx,
        answered: &[Answered],
    ) -> Result<(), StoreError> {
        let mut taken: Vec<(DeliveryId, &ProviderMessageId)> = Vec::new();
        for Answered { frozen, answer } in
            answered.iter().filter(|a| a.frozen.batch.content.send_after.is_some())
        {
            if let Verdict::Accepted { message, .. } = &answer.verdict {
                taken.extend(frozen.members.iter().map(|member| (member.claim.delivery.id, message)));
            }
        }
        if taken.is_empty() { Ok(()) } else { scheduled_messages::taken(tx, &taken).await }
    }

    /// Recalls what is requested, and waits for the answers; returns how many calls were made.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable; retrying helps.
    pub async fn recall(&self) -> Result<usize, StoreError> {
        let claimed = self.claim_recalls(AT_ONCE).await?;
        let made = futures_util::future::join_all(claimed.iter().map(|one| self.recall_one(one))).await;
        made.into_iter().sum()
    }

    /// Claims messages to recall, `limit` at most.
    async fn claim_recalls(&self, limit: i64) -> Result<Vec<Claimed>, StoreError> {
        let now = self.clock.now();
        if limit == 0 || self.present_lease(now).is_none() {
            return Ok(Vec::new());
        }
        // A delivery that was in flight when it was cancelled, and was not sent, is not sent again.
        for (delivery, why) in self.store.wanted_unsent(i64::from(u8::MAX), now).await? {
            self.cancel(Unwanted::Deliveries(&[delivery]), &why, false).await?;
        }
        let closed: Vec<uuid::Uuid> = self.stopped_apps(now).await?.into_iter().map(|app| app.0).collect();
        // A process that dies with a claim has certainly ended its call by then.
        let again_at = now + delta(self.limits.call_timeout * 2);
        self.store.claim_recalls(&closed, again_at, limit, now).await
    }

    async fn recall_one(&self, claimed: &Claimed) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let catalog = self.catalog.get(&self.store).await?;
        let Some(app) = catalog.app(Some(claimed.app)).cloned() else {
            self.store.release_recall(claimed, now + delta(LONGEST_REST)).await?;
            return Ok(0);
        };
        self.claim_probe_of(app.id, now).await?;
        if let Err(wait) = self.budget.begin(&app, Call::first(Priority::Urgent), now) {
            let until = match wait {
                Wait::Until(moment) | Wait::ForRetry(moment) => moment,
                Wait::ForPlace | Wait::ForProbe => now + TimeDelta::milliseconds(100),
            };
            self.store.release_recall(claimed, until).await?;
            return Ok(0);
        }
        let began = std::time::Instant::now();
        let answer = self.provider.cancel(&app, &claimed.message).await;
        failpoints::point("after_recall");
        let end = match answer {
            Recall::Recalled | Recall::TooLate { .. } => CallEnd::Answered(began.elapsed()),
            Recall::RateLimited { .. } | Recall::Refused { .. } => CallEnd::Neutral,
            Recall::Unclear { .. } => CallEnd::WithIssue,
        };
        self.budget.end(app.id, end);
        metrics::counter!(names::CALLS, "answer" => answer.code()).increment(1);
        self.apply_recall_to_app(app.id, &answer, now).await?;
        let answer = self.with_message_state(&app, claimed, answer).await;
        self.settle_recall(claimed, &answer, now).await?;
        Ok(1)
    }

    /// What the answer means. OneSignal rejects a message that was already cancelled, by an attempt whose response was
    /// lost or by a person, with the same answer as one that it has sent: only the message itself shows which.
    async fn with_message_state(&self, app: &Arc<App>, claimed: &Claimed, answer: Recall) -> Recall {
        let Recall::TooLate { detail } = answer else { return answer };
        match self.provider.message(app, &claimed.message).await {
            Ok(Some(message)) if message.is_cancelled => Recall::Recalled,
            Ok(_) => Recall::TooLate { detail },
            Err(error) => Recall::Unclear { cause: error.to_string() },
        }
    }

    /// The effect of an answer on the whole app.
    async fn apply_recall_to_app(
        &self,
        app: AppId,
        answer: &Recall,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        match answer {
            Recall::Recalled | Recall::TooLate { .. } => self.app_works(app, now).await,
            Recall::RateLimited { retry_after } => self.rest_app(app, *retry_after, now).await,
            Recall::Refused { detail } => self.close_app(app, answer.code(), detail, now).await,
            Recall::Unclear { .. } => self.with_issues(app, Health::Failed, now).await.map(|_| ()),
        }
    }

    async fn settle_recall(
        &self,
        claimed: &Claimed,
        answer: &Recall,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let detail = match answer {
            Recall::Recalled => None,
            Recall::TooLate { detail } => Some(detail),
            Recall::Refused { .. } | Recall::RateLimited { .. } => {
                return self.store.release_recall(claimed, now + delta(AGAIN)).await;
            }
            Recall::Unclear { cause } => {
                let tries = claimed.deliveries.iter().map(|(_, tries)| *tries).max().unwrap_or(1);
                let doublings = u32::try_from(tries - 1).unwrap_or_default().min(10);
                let rest = (AGAIN * 2_u32.pow(doublings)).min(LONGEST_REST);
                tracing::warn!("a recall got no definite answer and will be retried: {cause}");
                return self.store.reschedule_recall(claimed, now + delta(rest)).await;
            }
        };
        let mut tx = self.store.begin().await?;
        let settled = scheduled_messages::settle(&mut tx, claimed).await?;
        if detail.is_none() {
            let ids: Vec<DeliveryId> = settled.iter().map(|one| one.delivery).collect();
            scheduled_messages::end_recalled(&mut tx, &ids, now).await?;
        }
        self.note_settled(&mut tx, &settled, now, |one| match detail {
            None => {
                Decision::new(DecisionCode::Cancelled, format!("{}; OneSignal cancelled it", one.wanted_by))
            }
            Some(detail) => {
                let detail = format!("{}, but OneSignal did not cancel it: {detail}", one.wanted_by);
                Decision::new(DecisionCode::TooLate, detail)
            }
        })
        .await?;
        committed(commit(tx).await)
    }

    async fn note_settled(
        &self,
        tx: &mut Tx,
        settled: &[Settled],
        now: Timestamp,
        decide: impl Fn(&Settled) -> Decision,
    ) -> Result<(), StoreError> {
        let decisions: Vec<Decision> =
            settled.iter().map(|one| decide(one).of_rule(&one.rule).of_delivery(one.delivery)).collect();
        let rows: Vec<NewDecision<'_>> = settled
            .iter()
            .zip(&decisions)
            .map(|(one, decision)| NewDecision { id: self.ids.next(now), event: one.event, decision })
            .collect();
        if rows.is_empty() { Ok(()) } else { decisions::insert_all(tx, &rows).await }
    }

    /// Forgets what was sent long ago, and gives up requests that could not be carried out.
    pub(in crate::pipeline) async fn forget_scheduled(&self, now: Timestamp) -> Result<(), StoreError> {
        let before = now - STILL_SPREADING;
        self.store.prune_scheduled(before, FORGOTTEN_AT_ONCE).await?;
        let mut tx = self.store.begin().await?;
        let given_up = scheduled_messages::give_up(&mut tx, before, FORGOTTEN_AT_ONCE).await?;
        if given_up.is_empty() {
            return Ok(());
        }
        self.note_settled(&mut tx, &given_up, now, |one| {
            let detail =
                format!("{}, but it could not be recalled separately before it was sent", one.wanted_by);
            Decision::new(DecisionCode::TooLate, detail)
        })
        .await?;
        committed(commit(tx).await)
    }
}

/// Carries out recall requests until `stop`. Calls run in parallel: one that hangs does not delay others.
pub(in crate::pipeline) async fn keep_recalling(pipeline: Arc<Pipeline>, stop: CancellationToken) {
    let mut calls: JoinSet<()> = JoinSet::new();
    loop {
        let room = AT_ONCE.saturating_sub(i64::try_from(calls.len()).unwrap_or(i64::MAX));
        let claimed = pipeline.claim_recalls(room).await.unwrap_or_else(|error| {
            warn_of(&error);
            Vec::new()
        });
        let is_busy = !claimed.is_empty();
        for one in claimed {
            let pipeline = Arc::clone(&pipeline);
            calls.spawn(async move {
                if let Err(error) = pipeline.recall_one(&one).await {
                    warn_of(&error);
                }
            });
        }
        let wait = if is_busy { Duration::from_millis(10) } else { pipeline.limits.poll_interval };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            Some(_) = calls.join_next() => {}
            // A call that is cut off here is repeated by the process that claims the message next.
            () = stop.cancelled() => return,
        }
    }
}

fn warn_of(error: &StoreError) {
    tracing::warn!(error = %error.with_causes(), "messages could not be recalled; retrying");
}
