//! The outbox: claims due people, makes one call for each, records the answers.
//!
//! No transaction is open during a call. Calls of one claim run concurrently, and answers are recorded together as they
//! arrive. A process has several writers: while one waits for a slow call, the others claim what is due.

use std::sync::Arc;

use chrono::TimeDelta;
use futures_util::StreamExt;
use serde_json::Value;
use uuid::Uuid;

use super::People;
use super::outcome::{self, Answered};
use super::pace::{Kind, Paces};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::domain::user::{UserAnswer, next_call};
use crate::store::StoreError;
use crate::store::actions::{ActionEnd, EndState};
use crate::store::user_writes::{ClaimedWrite, WriteResult};
use crate::telemetry::names;

/// The maximum number of people claimed at once.
const CLAIM_AT_ONCE: usize = 200;
/// The maximum number of answers recorded in one statement.
const RECORD_AT_ONCE: usize = 200;
/// How much longer than a call a claim lasts.
const CLAIM_MARGIN: TimeDelta = TimeDelta::seconds(30);
/// From how many answers of one claim on OneSignal's rate limit counts as the app's, not as single users'.
const APP_LIMIT_ANSWERS: usize = 10;

impl People {
    /// Writes what is due for one app. Returns the number of people that were claimed, and when to look again.
    pub(super) async fn write_users(
        &self,
        app: &App,
        share: f64,
    ) -> Result<(usize, Option<Timestamp>), StoreError> {
        let now = self.clock.now();
        let rate = f64::from(self.limits.user_calls_per_second) * share;
        let reserved = self.paces.lock().reserve(app.id, Kind::User, rate, CLAIM_AT_ONCE, now);
        if reserved == 0 {
            return Ok((0, Some(Paces::next(rate, now))));
        }
        let call_time = TimeDelta::from_std(self.limits.call_timeout).unwrap_or(TimeDelta::MAX);
        let until = now + call_time + CLAIM_MARGIN;
        let claims = self.store.claim_user_writes(app.id, reserved, until, now).await;
        let count = claims.as_ref().map_or(0, Vec::len);
        self.paces.lock().give_back(app.id, Kind::User, reserved - count);
        let claims = claims?;
        if claims.is_empty() {
            return Ok((0, self.store.next_user_write(app.id).await?));
        }
        // A process that was suspended must not make a call that another one makes after the claim has expired.
        let call_before = now + CLAIM_MARGIN;
        let calls = claims.into_iter().map(|claim| self.write_one(app, claim, call_before));
        let answers = futures_util::stream::iter(calls).buffer_unordered(CLAIM_AT_ONCE);
        let mut answers = std::pin::pin!(answers.ready_chunks(RECORD_AT_ONCE));
        let mut limited = 0;
        let mut failed = None;
        while let Some(results) = answers.next().await {
            let results: Vec<WriteResult> = results.into_iter().flatten().collect();
            limited += results.iter().filter(|result| result.answer == "rate_limited").count();
            // The other calls go on: their answers are worth recording even if these are lost.
            failed = self.record_users(app, &results).await.err().or(failed);
        }
        if limited >= APP_LIMIT_ANSWERS && limited * 2 > count {
            self.paces.lock().close(app.id, self.clock.now() + TimeDelta::seconds(1));
        }
        match failed {
            Some(error) => Err(error),
            None => Ok((count, Some(now))),
        }
    }

    /// One claimed person's call, if there is one to make in time.
    async fn write_one(&self, app: &App, claim: ClaimedWrite, call_before: Timestamp) -> Option<WriteResult> {
        let known = outcome::known(&claim, |text| self.hash(text));
        let planned = next_call(&claim.changes, &known);
        let Some(call) = &planned.call else {
            return Some(outcome::unchanged(&claim, &planned, self.clock.now()));
        };
        let Ok(_slot) = self.calls.acquire().await else { return None };
        if self.clock.now() >= call_before {
            return None;
        }
        let answer = self.provider.write_user(app, call).await;
        metrics::counter!(names::USER_CALLS, "answer" => answer.code()).increment(1);
        tracing::debug!(app.id = %app.id, user.id = %claim.user, answer = answer.code(), "a user was written");
        let now = self.clock.now();
        if let UserAnswer::AppUnusable { detail } = &answer {
            self.close_app(app, detail, now);
        }
        let answered =
            Answered { claim: &claim, planned: &planned, answer: &answer, limits: self.limits, now };
        Some(answered.result(|text| self.hash(text), self.ids.jitter()))
    }

    /// Makes no calls through an app for a while, and logs why, once.
    pub(super) fn close_app(&self, app: &App, detail: &str, now: Timestamp) {
        let mut paces = self.paces.lock();
        if !paces.is_closed(app.id, now) {
            tracing::error!(app.id = %app.id, "users and custom events are not written for 30 s: {detail}");
        }
        paces.close(app.id, now + TimeDelta::seconds(30));
    }

    async fn record_users(&self, app: &App, results: &[WriteResult]) -> Result<(), StoreError> {
        if results.is_empty() {
            return Ok(());
        }
        let now = self.clock.now();
        let finished = self.store.record_user_writes(app.id, results, now).await?;
        for (import, sent, refused) in &finished.imports {
            self.store.count_written(*import, *sent, *refused).await?;
        }
        if finished.freed > 0 {
            self.deliveries.wake();
        }
        if finished.actions.is_empty() {
            return Ok(());
        }
        let ends: Vec<ActionEnd> =
            finished.actions.into_iter().map(|(action, reason)| end_of(action, reason.as_ref())).collect();
        self.store.end_actions(&ends, now).await
    }
}

/// The end of a tag action, with the reason if one of its tags was refused.
fn end_of(action: Uuid, reason: Option<&Value>) -> ActionEnd {
    let Some(reason) = reason else {
        return ActionEnd { action, state: EndState::Done, detail: String::new() };
    };
    let text = |name: &str| reason[name].as_str().unwrap_or_default();
    let detail = format!("{}: {}", text("code"), text("detail"));
    ActionEnd { action, state: EndState::Refused, detail }
}

impl People {
    /// Writes users and sends custom events until nothing is due at the present time: for tests, which control the
    /// clock.
    ///
    /// # Errors
    /// [`StoreError`] when the database is unavailable.
    pub async fn run_until_idle(self: &Arc<Self>) -> Result<(), StoreError> {
        loop {
            let (done, _) = self.run_once().await?;
            if done == 0 {
                return Ok(());
            }
        }
    }
}
