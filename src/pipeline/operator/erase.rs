//! Ends what is pending for people who were erased.

use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::id::{DeliveryId, TypedId};
use crate::pipeline::Pipeline;
use crate::pipeline::operator::cancel::ended;
use crate::pipeline::send::record::{Transition, committed};
use crate::store::cancellable::{self, Named};
use crate::store::erased_history::Names;
use crate::store::{StoreError, commit, scheduled_messages};

/// Deliveries that are ended in one transaction.
const AT_ONCE: usize = 500;

/// What was pending for a person.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndedDeliveries {
    /// Deliveries that ended without being sent.
    pub ended: usize,
    /// Messages that OneSignal holds until their time, and that it is asked to cancel.
    pub recalled: usize,
}

impl Pipeline {
    /// Ends pending deliveries to a person, and recalls messages that OneSignal holds until their time. What is being
    /// sent is left alone.
    ///
    /// # Errors
    /// [`StoreError`]; retrying helps and ends nothing twice.
    pub async fn end_for_erased(&self, names: &Names) -> Result<EndedDeliveries, StoreError> {
        let ids = self.store.pending_deliveries_to(names).await?;
        let ids: Vec<DeliveryId> = ids.into_iter().map(DeliveryId::from_uuid).collect();
        let mut total = EndedDeliveries::default();
        for ids in ids.chunks(AT_ONCE) {
            let now = self.clock.now();
            let mut tx = self.store.begin().await?;
            let pending = cancellable::lock(&mut tx, Named { ids, ..Named::default() }).await?;
            let transitions: Vec<Transition> = pending
                .into_iter()
                .map(|waiting| {
                    let erased = Decision::new(DecisionCode::Erased, "the person was erased");
                    ended(waiting, DeliveryState::Skipped, erased)
                })
                .collect();
            if !transitions.is_empty() {
                total.ended += self.write_transitions(&mut tx, &transitions, now).await?.len();
            }
            let held = scheduled_messages::find(&mut tx, ids, &[]).await?;
            let wanted: Vec<_> =
                held.into_iter().map(|held| (held, "the person was erased".to_owned())).collect();
            total.recalled += wanted.len();
            self.request_recall(&mut tx, &wanted, now).await?;
            committed(commit(tx).await)?;
        }
        if total.ended > 0 {
            self.wake_for_unblocked();
        }
        Ok(total)
    }
}
