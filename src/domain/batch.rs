//! Batches: the deliveries sent in one call, frozen with their key before it is made.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Serialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::app::{App, AppId};
use super::channel::{Channel, Priority};
use super::clock::Timestamp;
use super::event::{Recipient, RecipientLabel};
use super::id::{BatchId, DeliveryId, RuleId, SourceId};

/// Whom a batch is for: exactly one of OneSignal's targeting methods.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Targets {
    /// People by alias (`external_id`, `onesignal_id` or a custom label).
    Aliases {
        /// The label, spelt exactly.
        label: String,
        /// One id per member, in the members' order.
        ids: Vec<String>,
    },
    /// Devices or addresses by OneSignal's id of them.
    Subscriptions(Vec<String>),
    /// Email addresses.
    Emails(Vec<String>),
    /// Phone numbers.
    Phones(Vec<String>),
    /// Segments by name.
    Segments {
        /// At least one.
        included: Vec<String>,
        /// Excluded.
        excluded: Vec<String>,
    },
    /// OneSignal's filters, their values filled in.
    Filters(Vec<Value>),
}

impl Targets {
    /// The targets for recipients that share a label.
    pub fn people(label: &RecipientLabel, ids: Vec<String>) -> Self {
        match label {
            RecipientLabel::SubscriptionId => Self::Subscriptions(ids),
            RecipientLabel::Email => Self::Emails(ids),
            RecipientLabel::Phone => Self::Phones(ids),
            RecipientLabel::ExternalId | RecipientLabel::OnesignalId | RecipientLabel::Alias(_) => {
                Self::Aliases { label: label.as_str().to_owned(), ids }
            }
        }
    }
}

/// The content of a batch. It is rebuilt from the event and the pinned version for every attempt, and compared by hash.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BatchContent {
    /// The app that it is sent through.
    #[serde(serialize_with = "app_as_text")]
    pub app: AppId,
    /// Where the message appears.
    pub channel: Channel,
    /// The recipients.
    pub targets: Targets,
    /// OneSignal's id of the uploaded template; `None` for inline contents.
    pub template_id: Option<String>,
    /// Fields in the request, by Herald's names.
    pub fields: BTreeMap<String, String>,
    /// Event values, in the shape that the compiled template looks up.
    pub custom_data: Option<Value>,
    /// Static OneSignal fields, sent unchanged.
    pub options: Map<String, Value>,
    /// When OneSignal is to send it, if it is submitted before its time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_after: Option<Timestamp>,
}

fn app_as_text<S: serde::Serializer>(app: &AppId, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(app)
}

/// A frozen batch, ready for its call.
#[derive(Debug, Clone)]
pub struct Batch {
    /// Its id.
    pub id: BatchId,
    /// The app it goes through, with its key.
    pub app: Arc<App>,
    /// The idempotency key: the same for every attempt.
    pub idempotency_key: Uuid,
    /// Its content.
    pub content: Arc<BatchContent>,
    /// The priority of its members.
    pub priority: Priority,
    /// When the first of its members expires; push `ttl` is the time left until then.
    pub expires_at: Timestamp,
    /// A producer's W3C trace, passed on.
    pub traceparent: Option<String>,
    /// Whether it may contain values that are sealed in the database: then nothing of it may be quoted anywhere.
    pub holds_secrets: bool,
}

/// What identifies a delivery for idempotency: the same for a re-post after a database restore.
#[derive(Debug, Clone, Copy)]
pub struct DeliveryIdentity<'a> {
    /// Who posted the event.
    pub source: SourceId,
    /// The source's own id of it.
    pub event_key: &'a str,
    /// The rule.
    pub rule: RuleId,
    /// The channel.
    pub channel: Channel,
    /// The person; `None` for an audience.
    pub recipient: Option<&'a Recipient>,
    /// Raised after definite non-sends.
    pub generation: u16,
    /// For a replay, its own id, since each replay is a delivery of its own.
    pub replay: Option<DeliveryId>,
}

impl DeliveryIdentity<'_> {
    fn write(&self, out: &mut Vec<u8>) {
        use super::id::TypedId;
        let generation = self.generation.to_string();
        let replay = self.replay.map(|id| id.to_string()).unwrap_or_default();
        let (label, id) = self.recipient.map_or(("", ""), |r| (r.label.as_str(), r.id.as_str()));
        for part in [
            self.source.uuid().as_bytes().as_slice(),
            self.event_key.as_bytes(),
            self.rule.uuid().as_bytes().as_slice(),
            self.channel.as_str().as_bytes(),
            label.as_bytes(),
            id.as_bytes(),
            generation.as_bytes(),
            replay.as_bytes(),
        ] {
            push_prefixed(out, part);
        }
    }
}

fn push_prefixed(out: &mut Vec<u8>, part: &[u8]) {
    out.extend_from_slice(&u64::try_from(part.len()).unwrap_or(u64::MAX).to_be_bytes());
    out.extend_from_slice(part);
}

/// The idempotency key of a batch: the same members in any order give the same key; other members give another.
pub fn idempotency_key(namespace: Uuid, app: AppId, members: &[DeliveryIdentity<'_>]) -> Uuid {
    let mut identities: Vec<Vec<u8>> = members
        .iter()
        .map(|member| {
            let mut identity = Vec::with_capacity(128);
            member.write(&mut identity);
            identity
        })
        .collect();
    identities.sort_unstable();
    let mut name = Vec::with_capacity(64 + identities.iter().map(Vec::len).sum::<usize>());
    push_prefixed(&mut name, app.0.as_bytes());
    for identity in &identities {
        push_prefixed(&mut name, identity);
    }
    Uuid::new_v5(&namespace, &name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::id::TypedId;

    fn identity<'a>(event_key: &'a str, recipient: &'a Recipient, generation: u16) -> DeliveryIdentity<'a> {
        DeliveryIdentity {
            source: SourceId::from_uuid(Uuid::from_u128(1)),
            event_key,
            rule: RuleId::from_uuid(Uuid::from_u128(2)),
            channel: Channel::Push,
            recipient: Some(recipient),
            generation,
            replay: None,
        }
    }

    #[test]
    fn a_key_depends_on_who_is_in_the_batch_and_not_on_their_order() {
        let app = AppId(Uuid::from_u128(9));
        let namespace = Uuid::from_u128(7);
        let (ann, bob) = ("ann", "bob").into_people();
        let key = |members: &[DeliveryIdentity<'_>]| idempotency_key(namespace, app, members);
        let both = key(&[identity("e1", &ann, 0), identity("e1", &bob, 0)]);
        assert_eq!(both, key(&[identity("e1", &bob, 0), identity("e1", &ann, 0)]));
        assert_ne!(both, key(&[identity("e1", &ann, 0)]));
        assert_ne!(both, key(&[identity("e1", &ann, 1), identity("e1", &bob, 0)]));
        assert_ne!(
            both,
            idempotency_key(Uuid::from_u128(8), app, &[identity("e1", &ann, 0), identity("e1", &bob, 0)])
        );
    }

    trait IntoPeople {
        fn into_people(self) -> (Recipient, Recipient);
    }
    impl IntoPeople for (&str, &str) {
        fn into_people(self) -> (Recipient, Recipient) {
            let parse = |id| Recipient::parse("external_id", id).unwrap();
            (parse(self.0), parse(self.1))
        }
    }
}
