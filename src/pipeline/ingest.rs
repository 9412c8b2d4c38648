//! Taking events in: checked against their type, planned, and stored by the next group commit.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use tokio::sync::oneshot;

use super::Pipeline;
use super::group::Pending;
use super::plan::{Plan, PlannedDelivery, Planner, plan};
use super::prepared::{PreparedCatalog, PreparedVersion};
use super::sensitive;
use super::test_send::plan_test;
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::event::{Event, EventTypeName, KeySpace, Recipient};
use crate::domain::facts::Facts;
use crate::domain::id::{DeliveryId, EventId, KeyId, SourceId};
use crate::store::StoreError;
use crate::store::events::KeyClaim;
use crate::store::secrets::event_place;
use crate::vault::{VaultError, sha256};

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
    /// The content in canonical form, without the id: two posts of one id are the same if this is.
    pub content: Vec<u8>,
}

impl NewEvent {
    /// What tells its key from all others of its source.
    fn key_digest(&self) -> [u8; 32] {
        let space = KeySpace { source: self.source, is_test: self.is_test };
        sha256(space.name(&self.event_key).as_bytes())
    }
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

/// Why an event was not taken.
#[derive(Debug, thiserror::Error)]
pub enum IngestError {
    /// The catalog has no such type; the producer or the catalog has to change.
    #[error("unknown event type {name}")]
    UnknownType {
        /// The type as posted.
        name: String,
        /// The nearest known one.
        nearest: Option<String>,
    },
    /// `data` does not fit the type's schema; the producer has to mend it.
    #[error("data does not fit the schema of {event_type}")]
    BadData {
        /// The type.
        event_type: String,
        /// Everything that is wrong with it.
        errors: Vec<DataError>,
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
    },
    /// Too much waits already; later helps.
    #[error("too many events are waiting")]
    Busy,
    /// So much is open already that events of this lane are refused; later helps.
    #[error("too many deliveries are open")]
    Overloaded {
        /// When to ask again.
        retry_after: Duration,
    },
    /// The database is away or slow, or a commit's result is unknown; the same post again helps.
    #[error("the database can't take it now")]
    Unavailable,
    /// The database refused this one event: a defect of ours.
    #[error("the event could not be stored")]
    Refused(#[source] Arc<StoreError>),
}

/// How long a refused poster is asked to wait.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

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
    pub(super) async fn accept_as(
        &self,
        new: NewEvent,
        test_of: Option<Arc<PreparedVersion>>,
    ) -> Result<Accepted, IngestError> {
        let now = self.clock.now();
        let catalog = match self.check(&new, now).await {
            Ok(catalog) => catalog,
            Err(refused) => return self.answer_to_repeat(&new, refused, now).await,
        };
        let place = self.intake.enter().ok_or(IngestError::Busy)?;
        let content = new.content.clone();
        let event = self.event(new, now);
        let plan = self.plan_as(&catalog, &event, test_of.as_ref(), &Facts::default(), now);
        if let Some(retry_after) = self.refuses(&plan, now) {
            let key = (event.source, sha256(event.own_name().as_bytes()));
            let first = self.first_answer_to(key, &content, now).await;
            return first
                .map_err(|_| IngestError::Unavailable)?
                .unwrap_or(Err(IngestError::Overloaded { retry_after }));
        }
        let claim = KeyClaim {
            source: event.source,
            digest: sha256(event.own_name().as_bytes()),
            fingerprint: self.store.vault().fingerprint(&content),
            event: event.id,
        };
        let (data, sealed) = self
            .without_secrets(&event, &catalog)
            .map_err(|error| IngestError::Refused(Arc::new(error.into())))?;
        let (reply, answer) = oneshot::channel();
        let plan = (catalog.revision, plan);
        self.intake.push(Pending {
            event,
            claim,
            content,
            plan,
            test_of,
            data,
            sealed,
            reply,
            arrival: 0,
            _place: place,
        });
        answer.await.unwrap_or(Err(IngestError::Unavailable))
    }

    /// The first answer to what the catalog refuses today and took before; else the refusal.
    async fn answer_to_repeat(
        &self,
        new: &NewEvent,
        refused: IngestError,
        now: Timestamp,
    ) -> Result<Accepted, IngestError> {
        if matches!(refused, IngestError::Unavailable) {
            return Err(refused);
        }
        let key = (new.source, new.key_digest());
        let first = self.first_answer_to(key, &new.content, now).await;
        first.map_err(|_| IngestError::Unavailable)?.unwrap_or(Err(refused))
    }

    /// What [`Pipeline::accept`] would do, without storing anything.
    ///
    /// # Errors
    /// As for [`Pipeline::accept`].
    pub async fn try_out(&self, new: NewEvent) -> Result<Accepted, IngestError> {
        let now = self.clock.now();
        let catalog = match self.check(&new, now).await {
            Ok(catalog) => catalog,
            Err(refused) => return self.answer_to_repeat(&new, refused, now).await,
        };
        let key = (new.source, new.key_digest());
        let first = self.first_answer_to(key, &new.content, now).await;
        if let Some(first) = first.map_err(|_| IngestError::Unavailable)? {
            return first;
        }
        let facts = self.store.facts(&new.recipients).await.map_err(|_| IngestError::Unavailable)?;
        let event = self.event(new, now);
        let plan = plan(self.planner(&catalog), &event, &facts, now);
        Ok(Accepted {
            event: event.id,
            is_duplicate: false,
            deliveries: plan.deliveries.iter().map(|d| summary(d, false, now)).collect(),
            decisions: plan.decisions.iter().map(decision_summary).collect(),
        })
    }

    /// The event's plan, or that of a test send.
    pub(super) fn plan_as(
        &self,
        catalog: &PreparedCatalog,
        event: &Event,
        test_of: Option<&Arc<PreparedVersion>>,
        facts: &Facts,
        now: Timestamp,
    ) -> Plan {
        match test_of {
            Some(version) => plan_test(self.planner(catalog), event, version, facts, now),
            None => plan(self.planner(catalog), event, facts, now),
        }
    }

    pub(super) fn planner<'a>(&'a self, catalog: &'a PreparedCatalog) -> Planner<'a> {
        Planner {
            catalog,
            ids: &self.ids,
            default_life: self.limits.default_life,
            urgent_margin: self.limits.urgent_margin,
            release_over: self.limits.release_over,
        }
    }

    /// Checks an event against the catalog. What the catalog in memory refuses is checked against the newest one.
    async fn check(&self, new: &NewEvent, now: Timestamp) -> Result<Arc<PreparedCatalog>, IngestError> {
        let catalog = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let refused = match check(new, &catalog, now) {
            Ok(()) => return Ok(catalog),
            Err(refused) => refused,
        };
        // Without the newest catalog nobody knows whether it is wrong, and a refusal is final for its poster.
        self.catalog.warm(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        let newest = self.catalog.get(&self.store).await.map_err(|_| IngestError::Unavailable)?;
        if newest.revision == catalog.revision {
            return Err(refused);
        }
        check(new, &newest, now).map(|()| newest)
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

    /// The event's data as it is stored, and the sensitive values sealed.
    pub(super) fn without_secrets(
        &self,
        event: &Event,
        catalog: &PreparedCatalog,
    ) -> Result<(String, Option<Vec<u8>>), VaultError> {
        let pointers =
            catalog.event_type(&event.event_type).map(|t| t.entry.sensitive.as_slice()).unwrap_or_default();
        if pointers.is_empty() {
            return Ok((event.data.to_string(), None));
        }
        let mut data = event.data.clone();
        let values = sensitive::cut(&mut data, pointers);
        if values.is_empty() {
            return Ok((data.to_string(), None));
        }
        let plain = Value::Object(values).to_string();
        let sealed = self.store.vault().seal(&event_place(event.id), plain.as_bytes());
        Ok((data.to_string(), Some(sealed?)))
    }
}

fn check(new: &NewEvent, catalog: &PreparedCatalog, now: Timestamp) -> Result<(), IngestError> {
    let Some(event_type) = catalog.event_type(&new.event_type) else {
        return Err(IngestError::UnknownType {
            name: new.event_type.to_string(),
            nearest: catalog.nearest_type(new.event_type.as_str()).map(ToString::to_string),
        });
    };
    let errors = match &event_type.validator {
        Some(validator) => {
            validator.iter_errors(&new.data).map(|error| data_error(&error, &new.data)).collect()
        }
        None => vec![DataError {
            pointer: String::new(),
            code: "schema".into(),
            detail: "the event type's schema can't be used".into(),
            hint: Some("mend the schema in the catalog".into()),
        }],
    };
    if !errors.is_empty() {
        return Err(IngestError::BadData { event_type: new.event_type.to_string(), errors });
    }
    if new.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(IngestError::Expired);
    }
    let names_audience = |rule: &Arc<super::rules::PreparedRule>| rule.rule.names_audience();
    if new.recipients.is_empty() && !catalog.rules_for(&new.event_type).iter().any(names_audience) {
        return Err(IngestError::NoRecipient);
    }
    Ok(())
}

fn data_error(error: &jsonschema::ValidationError<'_>, data: &Value) -> DataError {
    use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
    let mut pointer = error.instance_path().to_string();
    let hint = match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let hint = near_miss(data.pointer(&pointer), name)
                .map_or_else(|| format!("add `{name}`"), |near| format!("rename `{near}` to `{name}`"));
            pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            Some(hint)
        }
        Kind::AdditionalProperties { unexpected } => {
            Some(format!("leave out {}, or allow it in the schema", quoted(unexpected)))
        }
        Kind::Type { kind: TypeKind::Single(kind) } => Some(format!("send a value of type {kind}")),
        Kind::Format { format } => Some(match format.as_str() {
            "date" => "write it as 2026-11-25".to_owned(),
            "date-time" => "write it as 2026-11-25T08:00:00Z".to_owned(),
            "uri" => "write it as https://shop.example/orders/1001".to_owned(),
            other => format!("write it as `{other}`"),
        }),
        Kind::Enum { options } => Some(format!("use one of {options}")),
        _ => None,
    };
    DataError { pointer, code: error.kind().keyword().to_owned(), detail: error.masked().to_string(), hint }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// A member of `place` whose name is nearly `name`: most missing values are misspelt ones.
fn near_miss<'a>(place: Option<&'a Value>, name: &str) -> Option<&'a str> {
    let members = place?.as_object()?;
    members.keys().map(String::as_str).find(|member| {
        *member != name && strsim::damerau_levenshtein(&member.to_lowercase(), &name.to_lowercase()) <= 2
    })
}

/// A planned delivery as the poster sees it.
pub(super) fn summary(planned: &PlannedDelivery, is_sending: bool, now: Timestamp) -> DeliverySummary {
    use super::plan::Beginning;
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
pub(super) fn decision_summary(decision: &crate::domain::decision::Decision) -> DecisionSummary {
    DecisionSummary {
        code: decision.code.as_str().to_owned(),
        detail: decision.detail.clone(),
        rule: decision.rule.clone(),
        delivery: decision.delivery,
    }
}
