//! Test sends: one version to one test recipient, through the same path as other messages, marked as a test.

use std::sync::Arc;

use serde_json::Value;

use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::event::{Event, EventTypeName, Recipient};
use crate::domain::facts::Facts;
use crate::domain::id::{DeliveryId, KeyId, RuleId, SourceId, TemplateVersionId, TypedId};
use crate::domain::rule::TEST_SEND;
use crate::domain::rule::{Action, Audience, Definition, Digest, Rule};
use crate::domain::timing::Timing;
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::ingest::{Accepted, Content, IngestError, NewEvent};
use crate::pipeline::plan::send_rule::{RulePlan, Send};
use crate::pipeline::plan::{Plan, Planner};

/// The id of the rule that stands for test sends.
const RULE: uuid::Uuid = uuid::Uuid::from_u128(0x7e57);

/// What to send.
#[derive(Debug)]
pub struct TestSend {
    /// Who requests it, and with which key.
    pub by: (SourceId, KeyId),
    /// Whether the key can use sandbox apps only.
    pub is_test: bool,
    /// The event type of the data.
    pub event_type: EventTypeName,
    /// The event's values.
    pub data: Value,
    /// The locale.
    pub locale: Option<String>,
    /// The version, uploaded but not necessarily live.
    pub version: TemplateVersionId,
    /// The person, on the list.
    pub recipient: Recipient,
}

/// Why nothing was sent.
#[derive(Debug, thiserror::Error)]
pub enum TestSendError {
    /// The person is not a test recipient.
    #[error("{0} is not on the list of test recipients")]
    NotListed(String),
    /// As for an event.
    #[error(transparent)]
    Ingest(#[from] IngestError),
}

impl Pipeline {
    /// Refuses recipients that test sends may not go to.
    ///
    /// # Errors
    /// [`TestSendError::NotListed`].
    pub async fn check_listed(&self, recipient: &Recipient) -> Result<(), TestSendError> {
        let listed = self.store.is_test_recipient(recipient).await;
        if listed.map_err(|_| IngestError::Unavailable)? {
            return Ok(());
        }
        let Recipient { label, id } = recipient;
        Err(TestSendError::NotListed(format!("{} {id}", label.as_str())))
    }

    /// Sends it; returns once it is committed.
    ///
    /// # Errors
    /// [`TestSendError`].
    pub async fn test_send(&self, test: TestSend) -> Result<Accepted, TestSendError> {
        self.check_listed(&test.recipient).await?;
        // Requested before the commit, so that its upload is known at the freeze.
        let version = self.catalog.version(&self.store, test.version).await;
        let version = version.ok().flatten().ok_or(IngestError::Unavailable)?;
        let now = self.clock.now();
        let key = format!("test-send-{}", self.ids.next::<DeliveryId>(now));
        let new = NewEvent {
            facts: Vec::new(),
            source: test.by.0,
            key: test.by.1,
            is_test: test.is_test,
            content: Content::of(key.clone().into_bytes()),
            event_key: key,
            event_type: test.event_type,
            recipients: vec![test.recipient],
            data: test.data,
            occurred_at: None,
            locale: test.locale,
            send_after: None,
            expires_at: None,
            cancellation_key: None,
            collapse_key: None,
            sequence: None,
            ordering_key: None,
            traceparent: None,
        };
        Ok(self.accept_as(new, Some(version)).await?)
    }
}

/// The plan of a test send: one delivery of this exact version.
pub(in crate::pipeline) fn plan_test(
    planner: Planner<'_>,
    event: &Event,
    version: &Arc<CompiledVersion>,
    facts: &Facts,
    now: Timestamp,
) -> Plan {
    let template = version.version.template.clone();
    // A digest contains one event here, and is sent at once.
    let is_gathered = planner.catalog.is_gathered(&template);
    let digest = is_gathered.then_some(Digest { key: None, window_s: 0, max: 1 });
    let send = Send {
        template: &template,
        audience: Audience::EventRecipients,
        canary: None,
        named: None,
        digest_key: digest.as_ref().map(|_| String::new()),
    };
    let definition = Definition {
        description: "a test send".to_owned(),
        app: None,
        condition: None,
        action: Action::Send {
            template: template.clone(),
            audience: Audience::EventRecipients,
            canary: None,
        },
        priority: Priority::Urgent,
        timing: Timing::default(),
        expires_in_s: None,
        throttle: None,
        digest,
    };
    let rule = Arc::new(Rule {
        id: RuleId::from_uuid(RULE),
        key: TEST_SEND.to_owned(),
        version: 1,
        event_type: event.event_type.to_string(),
        is_enabled: true,
        definition,
    });
    let mut plan = Plan { is_test: event.is_test, ..Plan::default() };
    match RulePlan::begin(planner, event, &rule, &send, now) {
        Ok(made) => made.of_version(version).carry_out(&send.audience, facts, &mut plan),
        Err(decision) => plan.decisions.push(decision.of_rule(TEST_SEND)),
    }
    plan
}
