//! Stores the actions that `tag` and `track` rules planned.

use crate::domain::clock::Timestamp;
use crate::domain::id::{DeliveryId, TypedId};
use crate::pipeline::Pipeline;
use crate::pipeline::ingest::intake::Pending;
use crate::store::actions::{NewAction, insert_all};
use crate::store::{StoreError, Tx};

impl Pipeline {
    /// Stores the planned actions of newly accepted events.
    pub(in crate::pipeline) async fn write_actions(
        &self,
        tx: &mut Tx,
        winners: &[&Pending],
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let made = winners.iter().flat_map(|p| p.plan.1.actions.iter().map(|action| (p.event.id, action)));
        let new: Vec<NewAction<'_>> = made
            .map(|(event, action)| NewAction {
                id: self.ids.next::<DeliveryId>(now).uuid(),
                event,
                rule: &action.rule.key,
                app: action.app,
                kind: action.kind,
                recipient: &action.recipient,
                body: &action.body,
            })
            .collect();
        if new.is_empty() { Ok(()) } else { insert_all(tx, &new, now).await }
    }
}
