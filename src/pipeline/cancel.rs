//! Cancelling what still waits under a cancellation key.
//!
//! A delivery can be cancelled as long as no attempt of it may have reached the person. Its queue row is locked first:
//! a freeze that was quicker wins, and one that comes later finds the row gone.

use std::collections::HashSet;

use super::Pipeline;
use super::group::Pending;
use super::record::{Moved, committed};
use crate::domain::clock::Timestamp;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::delivery::DeliveryState;
use crate::domain::id::{EventId, SourceId, TypedId};
use crate::store::{StoreError, Tx, commit, queue};
use crate::vault::sha256;

/// What a cancellation finds deliveries by: only its own source's, whatever keys others use.
pub fn cancel_digest(source: SourceId, key: &str) -> [u8; 32] {
    let mut name = source.uuid().as_bytes().to_vec();
    name.extend_from_slice(key.as_bytes());
    sha256(&name)
}

impl Pipeline {
    /// Carries out what the winners' `cancel` rules want, and notes on each event how much that was. A group that is
    /// planned and committed again begins with the same plans, so nothing is noted twice.
    pub(super) async fn carry_out_cancellations(
        &self,
        tx: &mut Tx,
        group: &mut [Pending],
        won: &HashSet<EventId>,
        now: Timestamp,
    ) -> Result<(), StoreError> {
        let mut wanted = Vec::new();
        let mut places = Vec::new();
        for (place, pending) in group.iter().enumerate().filter(|(_, p)| won.contains(&p.event.id)) {
            for (key, rule) in &pending.plan.1.cancellations {
                let why = format!("cancelled by {} through rule {rule}", pending.event.id);
                wanted.push((cancel_digest(pending.event.source, key), why));
                places.push((place, rule.clone()));
            }
        }
        if wanted.is_empty() {
            return Ok(());
        }
        let counts = self.cancel_within(tx, &wanted, now).await?;
        for ((place, rule), count) in places.into_iter().zip(counts) {
            let decisions = &mut group[place].plan.1.decisions;
            decisions.retain(|d| d.code != DecisionCode::CancelledOthers || d.rule.as_ref() != Some(&rule));
            let detail = format!("{count} waiting deliveries were cancelled");
            let decision = Decision::new(DecisionCode::CancelledOthers, detail).with("count", count);
            decisions.push(decision.of_rule(&rule));
        }
        Ok(())
    }

    /// Cancels what waits under `key` of this source; returns how many deliveries that were.
    ///
    /// # Errors
    /// [`StoreError`]; trying again helps and cancels nothing twice.
    pub async fn cancel(&self, source: SourceId, key: &str, why: &str) -> Result<usize, StoreError> {
        let now = self.clock.now();
        let mut tx = self.store.begin().await?;
        let cancelled =
            self.cancel_within(&mut tx, &[(cancel_digest(source, key), why.to_owned())], now).await?;
        committed(commit(tx).await)?;
        Ok(cancelled[0])
    }

    /// The same for several keys within a transaction; how many deliveries each cancelled, in the same order.
    pub(super) async fn cancel_within(
        &self,
        tx: &mut Tx,
        wanted: &[([u8; 32], String)],
        now: Timestamp,
    ) -> Result<Vec<usize>, StoreError> {
        let mut counts = vec![0; wanted.len()];
        let digests: Vec<[u8; 32]> = wanted.iter().map(|(digest, _)| *digest).collect();
        let found = queue::lock_cancellable(tx, &digests).await?;
        let mut moves = Vec::with_capacity(found.len());
        for waiting in found {
            let Some(place) = digests.iter().position(|digest| *digest == waiting.digest) else { continue };
            counts[place] += 1;
            let id = waiting.claim.delivery.id;
            let decision = Decision::new(DecisionCode::Cancelled, wanted[place].1.clone());
            moves.push(Moved {
                epoch: waiting.claim.epoch,
                after: waiting.claim.delivery.into_state(DeliveryState::Cancelled),
                worker: waiting.worker,
                batch: waiting.claim.batch,
                crashed: false,
                event: waiting.event,
                decision: Some(decision.of_rule(&waiting.rule).of_delivery(id)),
            });
        }
        if !moves.is_empty() {
            self.write_moves(tx, &moves, now).await?;
        }
        Ok(counts)
    }
}
