//! Ingestion: events are validated against their type, planned, and stored by the next group commit.

pub mod actions;
pub mod admission;
pub mod collapse;
pub mod consider;
pub mod digest;
pub mod given_facts;
pub mod group_commit;
pub mod intake;
pub mod overload;
pub mod repeats;
pub mod throttle;

use std::sync::Arc;
use std::time::Duration;

use futures_util::stream::{self, StreamExt};
use serde_json::Value;
use tokio::sync::oneshot;

use crate::domain::budget::Spent;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::event::{Event, EventTypeName, Recipient};
use crate::domain::facts::{Facts, GivenFacts};
use crate::domain::id::{DeliveryId, EventId, KeyId, SourceId};
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::ingest::consider::{Circumstances, Evaluated};
use crate::pipeline::ingest::group_commit::Reply;
use crate::pipeline::ingest::intake::Pending;
pub use crate::pipeline::ingest::repeats::Content;
use crate::pipeline::plan::PlannedDelivery;
use crate::store::StoreError;
use crate::store::events::KeyClaim;
use crate::vault::sha256;

/// An event as the edge has parsed it.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of `domain::event::Event`")]
pub struct NewEvent {
    pub source: SourceId,
    pub key: KeyId,
    pub is_test: bool,
    pub event_key: String,
    pub event_type: EventTypeName,
    pub recipients: Vec<Recipient>,
    /// What it says about its recipients.
    pub facts: Vec<GivenFacts>,
    pub data: Value,
    pub occurred_at: Option<Timestamp>,
    pub locale: Option<String>,
    pub send_after: Option<Timestamp>,
    pub expires_at: Option<Timestamp>,
    pub cancellation_key: Option<String>,
    pub collapse_key: Option<String>,
    pub sequence: Option<i64>,
    pub ordering_key: Option<String>,
    pub traceparent: Option<String>,
    /// The content without the id: two posts of one id are duplicates if it is equal.
    pub content: Content,
}

/// The result of a post.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The event: for a duplicate, the first one.
    pub event: EventId,
    /// Whether the same event was accepted before.
    pub is_duplicate: bool,
    /// Its deliveries, with their current states.
    pub deliveries: Vec<DeliverySummary>,
    /// What was decided about it.
    pub decisions: Vec<DecisionSummary>,
}

/// One delivery in the response to a post.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of the answer in the API")]
pub struct DeliverySummary {
    pub id: DeliveryId,
    pub rule: String,
    pub channel: Option<Channel>,
    pub template: String,
    pub version: Option<i32>,
    pub state: &'static str,
}

/// One decision in the response to a post.
#[derive(Debug, Clone)]
#[expect(missing_docs, reason = "the fields of the answer in the API")]
pub struct DecisionSummary {
    pub code: String,
    pub detail: String,
    pub rule: Option<String>,
    pub delivery: Option<DeliveryId>,
}

/// One way in which `data` does not fit the schema.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataError {
    /// Where, from the root of `data`.
    pub pointer: String,
    /// The schema's keyword.
    pub code: String,
    /// What is wrong, without the value.
    pub detail: String,
    /// What to do.
    pub hint: Option<String>,
}

/// A suggestion for an unknown event type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nearest {
    /// A type with a similar name.
    Name(String),
    /// There are types, but none with a similar name.
    None,
    /// There are no types at all.
    EmptyCatalog,
}

/// Why an event was rejected.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The catalog has no such type; the producer or the catalog has to change.
    #[error("unknown event type {name}")]
    UnknownType {
        /// The type as posted.
        name: String,
        /// A suggestion.
        nearest: Nearest,
    },
    /// `data` does not match the type's schema; the producer has to fix it.
    #[error("data does not match the schema of {event_type}")]
    BadData {
        /// The type.
        event_type: String,
        /// What is wrong with it: the first errors.
        errors: Vec<DataError>,
        /// Whether there are more.
        has_more: bool,
    },
    /// A recipient is named by an unknown alias label; the producer or the app's labels have to change.
    #[error("unknown alias label {label}")]
    UnknownLabel {
        /// Whether the event has several recipients.
        is_of_many: bool,
        /// The label.
        label: String,
        /// The label that was probably meant.
        meant: Option<String>,
    },
    /// It has no recipient, and no rule names its own audience.
    #[error("no recipient")]
    NoRecipient,
    /// It had already expired when it was received.
    #[error("expires_at is in the past")]
    Expired,
    /// The id was used before with different content.
    #[error("the id was used for another event")]
    DifferentContent {
        /// The first event.
        event: EventId,
        /// The fields that differ, as JSON pointers: the first few. Empty if that can't be determined.
        fields: Vec<String>,
    },
    /// Too many events are waiting; retrying later helps.
    #[error("too many events are waiting")]
    Busy,
    /// So many deliveries are open that events of this priority are rejected; retrying later helps.
    #[error("too many deliveries are open")]
    Overloaded {
        /// When to retry.
        retry_after: Duration,
    },
    /// The database is unavailable or slow, or a commit's result is unknown; retrying the same post helps.
    #[error("the database is unavailable")]
    Unavailable,
    /// Planning it exceeds the limits of an event; less data or simpler rules help.
    #[error("the event can't be planned: {0}")]
    TooComplex(Spent),
    /// Planning it failed because of a bug in Herald, which is logged.
    #[error("the event could not be planned")]
    Failed,
    /// The database rejected this one event: a bug in Herald.
    #[error("the event could not be stored")]
    Refused(#[source] Arc<StoreError>),
}

/// Events of a batch that are planned concurrently.
const PLANNED_AT_ONCE: usize = 16;
/// Events of a batch that are compared with their first posts if the content differs.
const MAX_COMPARED: usize = 20;
/// The delay that a rejected client is asked to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl IngestError {
    /// Whether the rejection depends on the catalog or the event: another catalog may accept the event, and the same
    /// event may have been accepted before.
    fn is_of_catalog(&self) -> bool {
        match self {
            Self::UnknownType { .. }
            | Self::BadData { .. }
            | Self::UnknownLabel { .. }
            | Self::NoRecipient
            | Self::Expired
            | Self::TooComplex(_) => true,
            Self::DifferentContent { .. }
            | Self::Busy
            | Self::Overloaded { .. }
            | Self::Unavailable
            | Self::Failed
            | Self::Refused(_) => false,
        }
    }
}

impl Pipeline {
    /// Accepts an event: returns once it is committed, with what was planned.
    ///
    /// # Errors
    /// [`IngestError`]; after [`IngestError::Busy`], [`IngestError::Overloaded`] and [`IngestError::Unavailable`]
    /// retrying the same post later helps.
    pub async fn accept(&self, new: NewEvent) -> Result<Accepted, IngestError> {
        self.accept_as(new, None).await
    }

    /// The same; with `test_of`, this version is sent instead of what the rules plan.
    pub(in crate::pipeline) async fn accept_as(
        &self,
        new: NewEvent,
        test_of: Option<Arc<CompiledVersion>>,
    ) -> Result<Accepted, IngestError> {
        match self.make_pending(new, test_of, false).await {
            Ok((pending, answer)) => {
                let event = Arc::clone(&pending.event);
                self.intake.push(vec![pending]);
                let reply = answer.await.unwrap_or(Err(IngestError::Unavailable));
                self.say_what_differs(reply, &event).await
            }
            Err(reply) => reply,
        }
    }

    /// Accepts the events of a batch: they are planned concurrently, and committed together and in their order. Returns
    /// a result for each, in the same order.
    pub async fn accept_batch(&self, events: Vec<NewEvent>) -> Vec<Result<Accepted, IngestError>> {
        let each = events.into_iter().map(|new| self.make_pending(new, None, true));
        let planned: Vec<_> = stream::iter(each).buffered(PLANNED_AT_ONCE).collect().await;
        let mut pending = Vec::with_capacity(planned.len());
        let mut answers = Vec::with_capacity(planned.len());
        for one in planned {
            answers.push(one.map(|(one, answer)| {
                let event = Arc::clone(&one.event);
                pending.push(one);
                (event, answer)
            }));
        }
        self.intake.push(pending);
        let mut compared = 0;
        let mut replies = Vec::with_capacity(answers.len());
        for answer in answers {
            let reply = match answer {
                Ok((event, answer)) => {
                    let reply = answer.await.unwrap_or(Err(IngestError::Unavailable));
                    let is_other = matches!(reply, Err(IngestError::DifferentContent { .. }));
                    compared += usize::from(is_other);
                    // Each takes a read; the first few are enough.
                    if is_other && compared <= MAX_COMPARED {
                        self.say_what_differs(reply, &event).await
                    } else {
                        reply
                    }
                }
                Err(reply) => reply,
            };
            replies.push(reply);
        }
        replies
    }

    /// Plans an event, so that only its commit is left; or returns the response if there is nothing to commit.
    async fn make_pending(
        &self,
        mut new: NewEvent,
        test_of: Option<Arc<CompiledVersion>>,
        is_of_batch: bool,
    ) -> Result<(Pending, oneshot::Receiver<Reply>), Reply> {
        let now = self.clock.now();
        let slot = self.intake.enter().ok_or(Err(IngestError::Busy))?;
        let content = std::mem::take(&mut new.content);
        let facts: Arc<[GivenFacts]> = std::mem::take(&mut new.facts).into();
        let event = Arc::new(self.event(new, now));
        let catalog = self.catalog.get(&self.store).await.map_err(|_| Err(IngestError::Unavailable))?;
        let known = if facts.is_empty() { Arc::default() } else { Arc::new(Facts::default().with(&facts)) };
        let mut around = Circumstances { catalog, test_of, facts: known, now };
        let evaluated = match self.evaluate_with_newest(&event, &mut around, is_of_batch).await {
            Ok(evaluated) => evaluated,
            Err(refused) => return Err(self.answer_to_repeat((&event, &content), refused, now).await),
        };
        let Evaluated { plan, data, sealed } = evaluated;
        let digest = sha256(event.own_name().as_bytes());
        if let Some(retry_after) = self.refuses(&plan, now) {
            let first = self.first_answer_to((event.source, digest), &content, now).await;
            return Err(match first {
                Ok(Some(first)) => self.say_what_differs(first, &event).await,
                Ok(None) => Err(IngestError::Overloaded { retry_after }),
                Err(_) => Err(IngestError::Unavailable),
            });
        }
        let fingerprint = self.store.vault().fingerprint(&content.meaning);
        let claim = KeyClaim { source: event.source, digest, fingerprint, event: event.id };
        let (reply, answer) = oneshot::channel();
        let pending = Pending {
            event,
            claim,
            content,
            facts,
            plan: (around.catalog.revision, plan),
            test_of: around.test_of,
            data,
            sealed,
            reply,
            arrival: 0,
            _slot: slot,
        };
        Ok((pending, answer))
    }

    /// The first response to an event that the catalog rejects now but accepted before; otherwise the rejection.
    async fn answer_to_repeat(
        &self,
        (event, content): (&Event, &Content),
        refused: IngestError,
        now: Timestamp,
    ) -> Result<Accepted, IngestError> {
        if !refused.is_of_catalog() {
            return Err(refused);
        }
        let key = (event.source, sha256(event.own_name().as_bytes()));
        let first = self.first_answer_to(key, content, now).await;
        match first.map_err(|_| IngestError::Unavailable)? {
            Some(first) => self.say_what_differs(first, event).await,
            None => Err(refused),
        }
    }

    /// What [`Pipeline::accept`] would do, without storing anything.
    ///
    /// # Errors
    /// As for [`Pipeline::accept`].
    pub async fn try_out(&self, mut new: NewEvent) -> Result<Accepted, IngestError> {
        let now = self.clock.now();
        let content = std::mem::take(&mut new.content);
        let facts = self.store.facts(&new.recipients).await.map_err(|_| IngestError::Unavailable)?;
        let facts = facts.with(&new.facts);
        let event = Arc::new(self.event(new, now));
        let catalog = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let mut around = Circumstances { catalog, test_of: None, facts: Arc::new(facts), now };
        let plan = match self.evaluate_with_newest(&event, &mut around, true).await {
            Ok(evaluated) => evaluated.plan,
            Err(refused) => return self.answer_to_repeat((&event, &content), refused, now).await,
        };
        let key = (event.source, sha256(event.own_name().as_bytes()));
        let first = self.first_answer_to(key, &content, now).await;
        if let Some(first) = first.map_err(|_| IngestError::Unavailable)? {
            return self.say_what_differs(first, &event).await;
        }
        Ok(Accepted {
            event: event.id,
            is_duplicate: false,
            deliveries: plan.deliveries.iter().map(|d| summary(d, false, now)).collect(),
            decisions: plan.decisions.iter().map(decision_summary).collect(),
        })
    }

    /// Evaluates an event. If the catalog in memory rejects it, it is evaluated again with the newest one.
    async fn evaluate_with_newest(
        &self,
        event: &Arc<Event>,
        around: &mut Circumstances,
        is_of_batch: bool,
    ) -> Result<Evaluated, IngestError> {
        around.catalog = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let refused = match self.evaluate_event(event, around, is_of_batch).await {
            Err(refused) if refused.is_of_catalog() => refused,
            other => return other,
        };
        // Without the newest catalog it is not certain that the event is wrong, and a rejection is final for the
        // client.
        self.catalog.warm(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let newest = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        if newest.revision == around.catalog.revision {
            return Err(refused);
        }
        around.catalog = newest;
        self.evaluate_event(event, around, is_of_batch).await
    }

    fn event(&self, new: NewEvent, now: Timestamp) -> Event {
        Event {
            id: self.ids.next(now),
            source: new.source,
            key: new.key,
            event_key: new.event_key,
            event_type: new.event_type,
            recipients: new.recipients,
            data: new.data,
            occurred_at: new.occurred_at,
            received_at: now,
            locale: new.locale,
            send_after: new.send_after,
            expires_at: new.expires_at,
            cancellation_key: new.cancellation_key,
            collapse_key: new.collapse_key,
            sequence: new.sequence,
            ordering_key: new.ordering_key,
            traceparent: new.traceparent,
            is_test: new.is_test,
        }
    }
}

/// A planned delivery as the client sees it.
pub(in crate::pipeline) fn summary(
    planned: &PlannedDelivery,
    is_sending: bool,
    now: Timestamp,
) -> DeliverySummary {
    use crate::pipeline::plan::InitialState;
    let state = match &planned.initial {
        InitialState::Due { .. } if is_sending => "sending",
        InitialState::Due { at, .. } if *at > now => "scheduled",
        InitialState::Due { .. } => "queued",
        InitialState::Held => "held",
        InitialState::Skipped => "skipped",
    };
    let version = planned.pinned.as_ref().map(|(version, _)| &version.version);
    DeliverySummary {
        id: planned.id,
        rule: planned.rule.key.clone(),
        channel: version.map(|v| v.channel),
        template: planned.template.clone(),
        version: version.map(|v| v.number),
        state,
    }
}

/// A decision as the client sees it.
pub(in crate::pipeline) fn decision_summary(decision: &crate::domain::decision::Decision) -> DecisionSummary {
    DecisionSummary {
        code: decision.code.as_str().to_owned(),
        detail: decision.detail.clone(),
        rule: decision.rule.clone(),
        delivery: decision.delivery,
    }
}
