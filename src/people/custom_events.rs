//! Sends the custom events that `track` rules planned.
//!
//! A request carries as many events as OneSignal takes. It names the events that it refuses; the others are accepted.
//! After an unclear answer all are sent again under the same keys: OneSignal drops repeats within 4 hours, so none is
//! sent later than 3 hours after its first attempt.

use std::collections::HashMap;

use chrono::TimeDelta;
use uuid::Uuid;

use super::People;
use super::pace::{Kind, Paces};
use crate::domain::app::App;
use crate::domain::clock::Timestamp;
use crate::domain::custom_event::{CustomEvent, CustomEventsAnswer, MAX_REQUEST_BYTES};
use crate::store::StoreError;
use crate::store::actions::{ActionEnd, EndState};
use crate::store::custom_events::{ClaimedEvent, PostponedEvent};

/// The maximum number of custom events claimed at once.
const CLAIM_AT_ONCE: usize = 2_000;
/// How long after its first attempt an event is sent again: OneSignal forgets its key after 4 hours.
const RETRY_HORIZON: TimeDelta = TimeDelta::hours(3);
/// How much longer than a call a claim lasts.
const CLAIM_MARGIN: TimeDelta = TimeDelta::seconds(30);
/// The longest delay between attempts.
const LONGEST_DELAY: TimeDelta = TimeDelta::minutes(5);
/// The delay while the app can't be called.
const APP_DELAY: TimeDelta = TimeDelta::seconds(30);
/// The bytes of a request besides its events.
const ENVELOPE_BYTES: usize = 64;
/// The bytes of an event besides its name, properties and person.
const EVENT_BYTES: usize = 200;

impl People {
    /// Sends one request with what is due for an app. Returns the number of events, and when to look again.
    pub(super) async fn send_custom_events(
        &self,
        app: &App,
        share: f64,
    ) -> Result<(usize, Option<Timestamp>), StoreError> {
        let now = self.clock.now();
        let rate = f64::from(self.limits.event_calls_per_second) * share;
        if self.paces.lock().reserve(app.id, Kind::CustomEvents, rate, 1, now) == 0 {
            return Ok((0, Some(Paces::next(rate, now))));
        }
        let sent = self.send_due_events(app, now).await;
        if !matches!(sent, Ok((count, _)) if count > 0) {
            self.paces.lock().give_back(app.id, Kind::CustomEvents, 1);
        }
        sent
    }

    async fn send_due_events(
        &self,
        app: &App,
        now: Timestamp,
    ) -> Result<(usize, Option<Timestamp>), StoreError> {
        let call_time = TimeDelta::from_std(self.limits.call_timeout).unwrap_or(TimeDelta::MAX);
        let until = now + call_time + CLAIM_MARGIN;
        let claims = self.store.claim_custom_events(app.id, CLAIM_AT_ONCE, until, now).await?;
        if claims.is_empty() {
            return Ok((0, self.store.next_custom_event(app.id).await?));
        }
        let (late, timely): (Vec<_>, Vec<_>) =
            claims.into_iter().partition(|claim| claim.first_attempt_at + RETRY_HORIZON <= now);
        self.end_late(&late, now).await?;
        let (sent, rest) = fill(timely);
        // What does not fit is due again at once.
        let rest: Vec<PostponedEvent> =
            rest.iter().map(|claim| postponed(claim, now, claim.attempts)).collect();
        if !rest.is_empty() {
            self.store.postpone_custom_events(&rest).await?;
        }
        if !sent.is_empty() {
            let events: Vec<CustomEvent> = sent.iter().map(|claim| claim.event.clone()).collect();
            let answer = self.provider.send_custom_events(app, &events).await;
            self.record_custom_events(app, &sent, answer).await?;
        }
        Ok((late.len() + sent.len(), Some(now)))
    }

    async fn record_custom_events(
        &self,
        app: &App,
        sent: &[ClaimedEvent],
        answer: CustomEventsAnswer,
    ) -> Result<(), StoreError> {
        let now = self.clock.now();
        let postpone = |due_at: Timestamp, failed: i16| {
            sent.iter()
                .map(|claim| postponed(claim, due_at, claim.attempts.saturating_add(failed)))
                .collect::<Vec<_>>()
        };
        match answer {
            CustomEventsAnswer::Accepted { refused } => {
                let refused: HashMap<Uuid, String> = refused.into_iter().collect();
                self.end(sent, now, |event| match refused.get(&event.id) {
                    Some(reason) => (EndState::Refused, reason.clone()),
                    None => (EndState::Done, String::new()),
                })
                .await
            }
            CustomEventsAnswer::NotOnPlan { detail } => {
                self.end(sent, now, |_| (EndState::Refused, detail.clone())).await
            }
            // One bad event must not take the others with it.
            CustomEventsAnswer::Refused { detail } if sent.len() == 1 => {
                self.end(sent, now, |_| (EndState::Refused, detail.clone())).await
            }
            CustomEventsAnswer::Refused { .. } => self.send_halves(app, sent).await,
            CustomEventsAnswer::AppUnusable { detail } => {
                self.close_app(app, &detail, now);
                self.store.postpone_custom_events(&postpone(now + APP_DELAY, 0)).await
            }
            CustomEventsAnswer::RateLimited { retry_after } => {
                let asked = TimeDelta::from_std(retry_after.unwrap_or_default()).unwrap_or_default();
                let due_at = now + asked.clamp(TimeDelta::seconds(1), LONGEST_DELAY);
                self.store.postpone_custom_events(&postpone(due_at, 0)).await
            }
            CustomEventsAnswer::Unclear { detail } => {
                let attempts = sent.iter().map(|claim| claim.attempts).max().unwrap_or_default();
                let delay = TimeDelta::seconds(1 << attempts.clamp(0, 10)).min(LONGEST_DELAY);
                tracing::warn!(app.id = %app.id, "custom events will be sent again in {delay}: {detail}");
                self.store.postpone_custom_events(&postpone(now + delay, 1)).await
            }
        }
    }

    /// After a request was refused as a whole: each half alone, so that the bad event is found in few calls.
    async fn send_halves(&self, app: &App, sent: &[ClaimedEvent]) -> Result<(), StoreError> {
        // The reason may quote a value: it is stored with the events, and not logged.
        tracing::warn!(app.id = %app.id, events = sent.len(), "OneSignal refused custom events as a whole");
        let (first, second) = sent.split_at(sent.len() / 2);
        for half in [first, second] {
            let events: Vec<CustomEvent> = half.iter().map(|claim| claim.event.clone()).collect();
            let answer = self.provider.send_custom_events(app, &events).await;
            Box::pin(self.record_custom_events(app, half, answer)).await?;
        }
        Ok(())
    }

    async fn end_late(&self, late: &[ClaimedEvent], now: Timestamp) -> Result<(), StoreError> {
        let detail = "OneSignal did not confirm it within 3 hours; a later repeat could arrive twice";
        self.end(late, now, |_| (EndState::Expired, detail.to_owned())).await
    }

    /// Ends events: their actions first, so that none is forgotten if this process dies in between.
    async fn end(
        &self,
        claims: &[ClaimedEvent],
        now: Timestamp,
        end: impl Fn(&CustomEvent) -> (EndState, String),
    ) -> Result<(), StoreError> {
        if claims.is_empty() {
            return Ok(());
        }
        let ends: Vec<ActionEnd> = claims
            .iter()
            .map(|claim| {
                let (state, detail) = end(&claim.event);
                ActionEnd { action: claim.event.id, state, detail }
            })
            .collect();
        self.store.end_actions(&ends, now).await?;
        let claims: Vec<(Uuid, i32)> = claims.iter().map(|claim| (claim.event.id, claim.epoch)).collect();
        self.store.delete_custom_events(&claims).await.map(|_| ())
    }
}

fn postponed(claim: &ClaimedEvent, due_at: Timestamp, attempts: i16) -> PostponedEvent {
    PostponedEvent { id: claim.event.id, epoch: claim.epoch, due_at, attempts }
}

/// The events that fit into one request, and the rest.
fn fill(claims: Vec<ClaimedEvent>) -> (Vec<ClaimedEvent>, Vec<ClaimedEvent>) {
    let mut bytes = ENVELOPE_BYTES;
    claims.into_iter().partition(|claim| {
        let event = &claim.event;
        let size =
            EVENT_BYTES + event.name.len() + event.recipient.id.len() + event.properties.to_string().len();
        bytes += size;
        bytes <= MAX_REQUEST_BYTES
    })
}
