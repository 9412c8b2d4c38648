//! Quiet hours and send windows at the time of sending.
//!
//! A delivery is planned for an allowed time, but its call may come at another: after a closed gate, a retry or an
//! outage. So its rule's hours are checked again whenever it is loaded, and whenever its batch is sent again. Urgent
//! deliveries and test sends are exempt.

use std::collections::HashMap;

use chrono_tz::Tz;

use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::facts::Facts;
use crate::domain::id::{DeliveryId, RuleId};
use crate::domain::rule::TEST_SEND;
use crate::domain::timing::{Schedule, Timing};
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::CompiledCatalog;
use crate::pipeline::send::load::Loaded;
use crate::store::StoreError;

/// How often the hours of several deliveries are searched for a time that suits all of them.
const MEETING_TRIES: usize = 32;

/// The hours of one delivery.
pub(in crate::pipeline) struct SendingHours {
    timing: Timing,
    zone: Tz,
    /// When OneSignal sends it, if it is submitted before its time.
    send_after: Option<Timestamp>,
}

/// Whether a delivery may be sent at a given time.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::pipeline) enum Opening {
    /// It may, until its window closes.
    Open {
        /// When the window closes.
        closes_at: Option<Timestamp>,
    },
    /// Not before this time.
    At(Timestamp),
    /// Not before it expires.
    Never,
}

impl SendingHours {
    /// Whether the delivery may be sent at `now`, if it expires at `expires_at`.
    pub fn opening(&self, now: Timestamp, expires_at: Timestamp) -> Opening {
        let at = self.send_after.map_or(now, |after| after.max(now));
        match self.timing.allowed(at, self.zone) {
            Some(allowed) if allowed == at => {
                let closes_at =
                    if at == now { self.timing.closes_after(now, self.zone) } else { self.send_after };
                Opening::Open { closes_at }
            }
            Some(allowed) if allowed < expires_at => Opening::At(allowed),
            Some(_) | None => Opening::Never,
        }
    }
}

/// Whether a batch may be sent at `now`, whose members have these hours and of which the first expires at `expires_at`:
/// all of them at once, since a batch that may have been sent is sent again unchanged or not at all.
pub(in crate::pipeline) fn opening_of_all(
    hours: &[&SendingHours],
    now: Timestamp,
    expires_at: Timestamp,
) -> Opening {
    let mut at = now;
    for _ in 0..MEETING_TRIES {
        let mut closes_at: Option<Timestamp> = None;
        let mut opens_at = at;
        for one in hours {
            match one.opening(at, expires_at) {
                Opening::Open { closes_at: own } => closes_at = closes_at.into_iter().chain(own).min(),
                Opening::At(later) => opens_at = opens_at.max(later),
                Opening::Never => return Opening::Never,
            }
        }
        if opens_at == at {
            return if at == now { Opening::Open { closes_at } } else { Opening::At(at) };
        }
        at = opens_at;
    }
    Opening::Never
}

/// The transition of a delivery that can't be sent now because of its rule's hours; `None` if it can.
pub(in crate::pipeline) fn closed(opening: &Opening) -> Option<(DeliveryState, Decision)> {
    match opening {
        Opening::Open { .. } => None,
        Opening::At(due_at) => {
            let detail = format!("the rule's hours allow it next at {due_at}");
            let decision = Decision::new(DecisionCode::OutsideHours, detail);
            Some((DeliveryState::Queued { due_at: *due_at }, decision))
        }
        Opening::Never => {
            let detail = "the rule's hours do not allow it before it expires";
            Some((DeliveryState::Expired, Decision::new(DecisionCode::NoTime, detail)))
        }
    }
}

impl Pipeline {
    /// The hours of those deliveries that have some, by their rules as of now; those of a rule that was deleted are the
    /// ones that it had last.
    pub(in crate::pipeline) async fn sending_hours(
        &self,
        loaded: &HashMap<DeliveryId, Loaded>,
    ) -> Result<HashMap<DeliveryId, SendingHours>, StoreError> {
        let catalog = self.catalog.get(&self.store).await?;
        let planned: Vec<(&Loaded, Option<&Timing>)> = loaded
            .values()
            .filter(|one| keeps_hours(one))
            .map(|one| (one, timing_of(&catalog, one)))
            .collect();
        let mut gone: Vec<RuleId> =
            planned.iter().filter(|(_, timing)| timing.is_none()).map(|(one, _)| one.row.rule.0).collect();
        gone.sort_unstable();
        gone.dedup();
        let deleted = if gone.is_empty() { HashMap::new() } else { self.store.deleted_rules(&gone).await? };
        let bound: Vec<(&Loaded, &Timing)> = planned
            .into_iter()
            .filter_map(|(one, timing)| {
                Some((one, timing.or_else(|| deleted.get(&one.row.rule.0).map(|rule| &rule.timing))?))
            })
            .filter(|(_, timing)| timing.has_hours())
            .collect();
        let people: Vec<_> = bound
            .iter()
            .filter(|(_, timing)| timing.zone.of_recipient)
            .filter_map(|(one, _)| one.row.recipient.clone())
            .collect();
        let facts = if people.is_empty() { Facts::default() } else { self.store.facts(&people).await? };
        let hours = bound.into_iter().map(|(one, timing)| {
            let known = one.row.recipient.as_ref().and_then(|recipient| facts.of(recipient));
            let zone = known.and_then(|facts| facts.time_zone.as_deref());
            let hours = SendingHours {
                zone: timing.zone.of(zone),
                timing: timing.clone(),
                send_after: one.row.schedule.as_ref().and_then(Schedule::send_after),
            };
            (one.row.id, hours)
        });
        Ok(hours.collect())
    }
}

/// Whether a rule's hours apply to a delivery.
fn keeps_hours(loaded: &Loaded) -> bool {
    loaded.row.rule.1 != TEST_SEND && loaded.row.priority != Priority::Urgent.as_str()
}

/// The timing of a delivery's rule; `None` if the rule was deleted.
fn timing_of<'c>(catalog: &'c CompiledCatalog, loaded: &Loaded) -> Option<&'c Timing> {
    let (id, key) = &loaded.row.rule;
    let rule = catalog.rule(key).filter(|rule| rule.rule.id == *id)?;
    Some(&rule.rule.definition.timing)
}
