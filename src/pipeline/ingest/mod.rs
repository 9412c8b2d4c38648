//! Taking events in: checked against their type, planned, and stored by the next group commit.

pub mod actions;
pub mod admission;
pub mod collapse;
pub mod consider;
pub mod digest;
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
use crate::domain::id::{DeliveryId, EventId, KeyId, SourceId};
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::ingest::consider::{Circumstances, Considered};
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
    /// What is said, without the id: two posts of one id are the same if this is.
    pub content: Content,
}

/// What became of a post.
#[derive(Debug, Clone)]
pub struct Accepted {
    /// The event: of a repeat, the first one.
    pub event: EventId,
    /// Whether the same event had been taken before.
    pub is_duplicate: bool,
    /// Its deliveries, with their present states.
    pub deliveries: Vec<DeliverySummary>,
    /// What was decided about it.
    pub decisions: Vec<DecisionSummary>,
}

/// One delivery in the answer to a post.
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

/// One decision in the answer to a post.
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

/// Which event type may be meant by a name that none has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Nearest {
    /// One whose name is nearly the same.
    Name(String),
    /// None of those that there are.
    None,
    /// There is none at all.
    EmptyCatalog,
}

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The catalog has no such type; the producer or the catalog has to change.
    #[error("unknown event type {name}")]
    UnknownType {
        /// The type as posted.
        name: String,
        /// The one that is meant.
        nearest: Nearest,
    },
    /// `data` does not fit the type's schema; the producer has to repair it.
    #[error("data does not fit the schema of {event_type}")]
    BadData {
        /// The type.
        event_type: String,
        /// What is wrong with it: the first errors.
        errors: Vec<DataError>,
        /// Whether there are more.
        has_more: bool,
    },
    /// A recipient is named by a label that the app does not know; the producer or the app's labels have to change.
    #[error("no alias label {label}")]
    UnknownLabel {
        /// Whether the event has several recipients.
        is_of_many: bool,
        /// The label.
        label: String,
        /// What was meant, if that is clear.
        meant: Option<String>,
    },
    /// Nobody to write to, and no rule that names its own audience.
    #[error("no recipient")]
    NoRecipient,
    /// Its time was over when it came.
    #[error("expires_at is in the past")]
    Expired,
    /// The id was used before, with other content.
    #[error("the id was used for another event")]
    DifferentContent {
        /// The first event.
        event: EventId,
        /// The fields that differ, as JSON pointers: the first few. Empty if nobody can tell.
        fields: Vec<String>,
    },
    /// Too much waits already; later helps.
    #[error("too many events are waiting")]
    Busy,
    /// So much is open already that events of this priority are refused; later helps.
    #[error("too many deliveries are open")]
    Overloaded {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The database is away or slow, or a commit's result is unknown; the same post again helps.
    #[error("the database can't take it now")]
    Unavailable,
    /// Planning it takes more than an event may; less data or simpler rules help.
    #[error("the event can't be planned: {0}")]
    TooComplex(Spent),
    /// Planning it failed in a way that it never should: a defect of ours, which is in the log.
    #[error("the event could not be planned")]
    Failed,
    /// The database refused this one event: a defect of ours.
    #[error("the event could not be stored")]
    Refused(#[source] Arc<StoreError>),
}

/// Events of a batch that are planned at once.
const PLANNED_AT_ONCE: usize = 16;
/// Events of a batch that are compared with their first posts, where these said something else.
const MAX_COMPARED: usize = 20;
/// How long a refused poster is asked to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

impl IngestError {
    /// Whether it is for the catalog, or the event, that the event is refused: another catalog may take it, and one like
    /// it may have been taken before.
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
    /// Takes an event: returns once it is committed, with what was planned.
    ///
    /// # Errors
    /// [`IngestError`]; after [`IngestError::Busy`], [`IngestError::Overloaded`] and [`IngestError::Unavailable`] the same
    /// post helps later.
    pub async fn accept(&self, new: NewEvent) -> Result<Accepted, IngestError> {
        self.accept_as(new, None).await
    }

    /// The same; with `test_of`, this version is sent instead of what the rules want.
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

    /// Takes the events of a batch: they are planned side by side, and wait for their commit together and in their
    /// order. Returns a result for each, in the same order.
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
                    // Each takes a read; the first ones say enough.
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

    /// Plans an event, so that only its commit is left to wait for; or says what its poster is answered at once.
    async fn make_pending(
        &self,
        mut new: NewEvent,
        test_of: Option<Arc<CompiledVersion>>,
        is_of_batch: bool,
    ) -> Result<(Pending, oneshot::Receiver<Reply>), Reply> {
        let now = self.clock.now();
        let place = self.intake.enter().ok_or(Err(IngestError::Busy))?;
        let content = std::mem::take(&mut new.content);
        let event = Arc::new(self.event(new, now));
        let catalog = self.catalog.get(&self.store).await.map_err(|_| Err(IngestError::Unavailable))?;
        let mut around = Circumstances { catalog, test_of, facts: Arc::default(), now };
        let considered = match self.consider_with_newest(&event, &mut around, is_of_batch).await {
            Ok(considered) => considered,
            Err(refused) => return Err(self.answer_to_repeat((&event, &content), refused, now).await),
        };
        let Considered { plan, data, sealed } = considered;
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
            plan: (around.catalog.revision, plan),
            test_of: around.test_of,
            data,
            sealed,
            reply,
            arrival: 0,
            _place: place,
        };
        Ok((pending, answer))
    }

    /// The first answer to what the catalog refuses today and took before; else the refusal.
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
        let event = Arc::new(self.event(new, now));
        let catalog = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let mut around = Circumstances { catalog, test_of: None, facts: Arc::new(facts), now };
        let plan = match self.consider_with_newest(&event, &mut around, true).await {
            Ok(considered) => considered.plan,
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

    /// Considers an event. What the catalog in memory refuses is considered with the newest one.
    async fn consider_with_newest(
        &self,
        event: &Arc<Event>,
        around: &mut Circumstances,
        is_of_batch: bool,
    ) -> Result<Considered, IngestError> {
        around.catalog = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let refused = match self.consider_event(event, around, is_of_batch).await {
            Err(refused) if refused.is_of_catalog() => refused,
            other => return other,
        };
        // Without the newest catalog nobody knows whether it is wrong, and a refusal is final for its poster.
        self.catalog.warm(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let newest = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        if newest.revision == around.catalog.revision {
            return Err(refused);
        }
        around.catalog = newest;
        self.consider_event(event, around, is_of_batch).await
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

/// A planned delivery as the poster sees it.
pub(in crate::pipeline) fn summary(
    planned: &PlannedDelivery,
    is_sending: bool,
    now: Timestamp,
) -> DeliverySummary {
    use crate::pipeline::plan::Beginning;
    let state = match &planned.beginning {
        Beginning::Due { .. } if is_sending => "sending",
        Beginning::Due { at, .. } if *at > now => "scheduled",
        Beginning::Due { .. } => "queued",
        Beginning::Held => "held",
        Beginning::Skipped => "skipped",
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

/// A decision as the poster sees it.
pub(in crate::pipeline) fn decision_summary(decision: &crate::domain::decision::Decision) -> DecisionSummary {
    DecisionSummary {
        code: decision.code.as_str().to_owned(),
        detail: decision.detail.clone(),
        rule: decision.rule.clone(),
        delivery: decision.delivery,
    }
}
