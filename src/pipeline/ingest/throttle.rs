//! Throttles: how often a person may get what a rule sends, counted in Postgres within the ingest transaction.

use std::collections::BTreeMap;

use chrono::DateTime;

use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::event::Recipient;
use crate::domain::rule::Throttle;
use crate::domain::timing::Schedule;
use crate::pipeline::Pipeline;
use crate::pipeline::plan::{Addressee, InitialState, Plan, PlannedDelivery, audience_json};
use crate::store::throttle_counters::{ThrottleKey, Wish, take};
use crate::store::{StoreError, Tx};
use crate::vault::sha256;

/// The hash that identifies a person for throttles and canaries.
pub(in crate::pipeline) fn person_digest(recipient: &Recipient) -> [u8; 32] {
    sha256(format!("{}\n{}", recipient.label.as_str(), recipient.id).as_bytes())
}

/// The same for any recipient of a delivery, including an audience.
pub(in crate::pipeline) fn addressee_digest(to: &Addressee) -> [u8; 32] {
    match to.person() {
        Some(person) => person_digest(person),
        None => sha256(audience_json(to).unwrap_or_default().to_string().as_bytes()),
    }
}

impl Pipeline {
    /// Takes slots for throttled deliveries, and skips those that get none. Windows start at whole multiples of their
    /// length, so that all replicas agree on them without communication.
    pub(in crate::pipeline) async fn throttle(
        &self,
        tx: &mut Tx,
        plans: &mut [&mut Plan],
    ) -> Result<(), StoreError> {
        let mut wishes: BTreeMap<ThrottleKey, Wish> = BTreeMap::new();
        let each =
            plans.iter().flat_map(|plan| plan.deliveries.iter().map(|planned| (planned, plan.is_test)));
        for (planned, is_test) in each {
            let Some((key, throttle)) = key_of(planned, is_test) else { continue };
            let max = i32::try_from(throttle.max).unwrap_or(i32::MAX);
            wishes.entry(key).or_insert(Wish { wanted: 0, max }).wanted += 1;
        }
        if wishes.is_empty() {
            return Ok(());
        }
        let mut granted = take(tx, &wishes).await?;
        for plan in plans.iter_mut() {
            let Plan { deliveries, decisions, depends_on_others, is_test, .. } = &mut **plan;
            for planned in deliveries.iter_mut() {
                let Some((key, throttle)) = key_of(planned, *is_test) else { continue };
                let left = granted.entry(key).or_default();
                if *left > 0 {
                    *left -= 1;
                    continue;
                }
                planned.initial = InitialState::Skipped;
                *depends_on_others = true;
                decisions.push(throttled(throttle).of_rule(&planned.rule.key).of_delivery(planned.id));
            }
        }
        Ok(())
    }
}

/// The slot that a delivery needs, if its rule is throttled: in the window that it is due in. Tests are counted
/// separately.
fn key_of(planned: &PlannedDelivery, is_test: bool) -> Option<(ThrottleKey, Throttle)> {
    let throttle = planned.rule.definition.throttle.filter(|_| !planned.takes_over)?;
    let InitialState::Due { at, .. } = &planned.initial else { return None };
    // What is submitted before its time is sent later.
    let at = planned.schedule.as_deref().and_then(Schedule::send_after).unwrap_or(*at);
    let person = person_digest(planned.to.person()?);
    let person = if is_test { sha256(&person) } else { person };
    let key = ThrottleKey { rule: planned.rule.id, person, window_start: window_start(at, throttle) };
    Some((key, throttle))
}

fn window_start(at: Timestamp, throttle: Throttle) -> Timestamp {
    let length = i64::from(throttle.within_s.max(1));
    let start = at.timestamp().div_euclid(length) * length;
    DateTime::from_timestamp(start, 0).unwrap_or(at)
}

fn throttled(throttle: Throttle) -> Decision {
    let Throttle { max, within_s } = throttle;
    let detail = format!(
        "the rule allows {max} within {within_s} seconds, and the person has already been sent that many"
    );
    Decision::new(DecisionCode::Throttled, detail).with("most", max).with("within_s", within_s)
}
