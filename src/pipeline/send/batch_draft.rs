//! Drafts a batch: its content, hash and idempotency key, built from its members.

use std::sync::Arc;

use crate::domain::app::App;
use crate::domain::batch::{Batch, BatchContent, DeliveryIdentity, idempotency_key};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::DeliveryState;
use crate::domain::id::{BatchId, WorkerId};
use crate::pipeline::Pipeline;
use crate::pipeline::send::memory_queue::{Frozen, Member};
use crate::pipeline::send::pack;
use crate::pipeline::send::pack::{Copy, PackKey, Ready};
use crate::store::batches::NewBatch;

/// A batch that is ready to be committed: the row to store and the request to send.
pub(in crate::pipeline) struct Draft {
    pub new: NewBatch,
    pub frozen: Frozen,
}

/// The content of a batch that its fingerprint covers. `ttl` is not part of it.
pub(in crate::pipeline) fn fingerprinted(content: &BatchContent) -> Vec<u8> {
    serde_json::to_vec(content).unwrap_or_default()
}

impl Pipeline {
    /// Where the copy of a key's calls is; `None` if this process does not know of an upload.
    pub(in crate::pipeline) fn copy_of(&self, key: &PackKey) -> Option<Copy> {
        if key.is_inline {
            return Some(Copy::InTheCall);
        }
        self.catalog.upload(&key.upload()).map(Copy::Template)
    }

    /// Drafts a batch of these members, in this order. `None` if there are none.
    pub(in crate::pipeline) fn draft(
        &self,
        id: BatchId,
        app: &Arc<App>,
        copy: &Copy,
        members: Vec<Ready>,
        (worker, now): (WorkerId, Timestamp),
    ) -> Option<Draft> {
        let first = members.first()?;
        let key = first.key.clone();
        let version = first.version.version.id;
        let traceparent =
            if members.len() == 1 { first.traceparent.as_deref().map(str::to_owned) } else { None };
        let references: Vec<&Ready> = members.iter().collect();
        let content = pack::content(&key, &references, copy)?;
        let identities: Vec<DeliveryIdentity<'_>> = members.iter().map(Ready::identity).collect();
        let idempotency_key = idempotency_key(self.namespace, key.app, &identities);
        let new = NewBatch {
            id,
            app: key.app,
            idempotency_key,
            body_fingerprint: Some(self.store.vault().fingerprint(&fingerprinted(&content))),
            version,
            locale: key.locale.clone(),
            members: members.iter().map(|m| m.claim.delivery.id).collect(),
        };
        let batch = Batch {
            id,
            app: Arc::clone(app),
            idempotency_key,
            content: Arc::new(content),
            priority: key.priority,
            expires_at: members.iter().map(|m| m.claim.expires_at).min()?,
            traceparent,
            holds_secrets: members.iter().any(|ready| ready.holds_secrets),
        };
        let size = members.len();
        let closes_at = members.iter().filter_map(|ready| ready.closes_at).min();
        let members = members.into_iter().map(|ready| sending(ready, id, now)).collect();
        Some(Draft {
            new,
            frozen: Frozen { batch, members, version, worker, size, attempt: 1, started_at: now, closes_at },
        })
    }
}

/// A member with its queue row's state after the freeze.
fn sending(ready: Ready, batch: BatchId, now: Timestamp) -> Member {
    let mut claim = ready.claim;
    claim.delivery.state = DeliveryState::Sending;
    claim.delivery.first_attempt_at = claim.delivery.first_attempt_at.or(Some(now));
    claim.batch = Some(batch);
    Member {
        claim,
        recipient_id: ready.to.person().map(|person| person.id.clone()),
        event: ready.event,
        rule: ready.rule.1,
    }
}
