//! The pipeline's way to the simulated OneSignal: the real wire format and the real classification, no network.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use chrono::TimeDelta;
use herald::domain::answer::{BatchAnswer, MessageStats, ProviderMessageId, Recall, Verdict};
use herald::domain::app::App;
use herald::domain::batch::Batch;
use herald::domain::channel::{Channel, Priority};
use herald::domain::clock::{Clock, Timestamp};
use herald::provider::onesignal::{ClientTimeouts, OneSignal as Adapter, classify};
use herald::provider::{MessageProvider, ProviderError, RemoteTemplate, TemplatePage, TemplateUpload};
use serde_json::Value;
use sqlx::PgPool;
use uuid::Uuid;

use crate::control::Control;
use crate::onesignal::{Known, OneSignal, Reply};
use crate::plants::Tamper;

/// How long calls may take: what the service has by default.
pub const TIMEOUTS: ClientTimeouts = ClientTimeouts {
    connect: Duration::from_secs(5),
    call: Duration::from_mins(1),
    urgent_call: Duration::from_secs(20),
};

/// One replica's way.
pub struct Provider {
    pub onesignal: Arc<OneSignal>,
    pub adapter: Arc<Adapter>,
    pub control: Arc<Control>,
    /// What its replica goes by.
    pub clock: Arc<dyn Clock>,
    /// Sees the books as they are committed.
    pub books: PgPool,
    pub tamper: Option<Tamper>,
}

impl Provider {
    async fn is_in_the_books(&self, key: Uuid) -> bool {
        let query = "SELECT EXISTS (SELECT 1 FROM batches b JOIN attempts a ON a.batch_id = b.id
            WHERE b.idempotency_key = $1 AND a.answered_at IS NULL)";
        sqlx::query_scalar(query).bind(key).fetch_one(&self.books).await.expect("the books can be read")
    }

    fn classify(&self, call: u64, reply: Reply) -> BatchAnswer {
        let mut answer = match reply {
            Reply::Http(raw) => classify::create_message(&raw),
            Reply::NotConnected => {
                BatchAnswer::without_response(Verdict::NotConnected { detail: "connection refused".into() })
            }
            Reply::Broken(cause) => {
                BatchAnswer::without_response(Verdict::Ambiguous { cause: cause.into(), retry_after: None })
            }
        };
        match answer.verdict {
            Verdict::Accepted { .. } | Verdict::Ambiguous { .. } => {}
            Verdict::Conflict => self.onesignal.note(call, Known::Conflict),
            _ => self.onesignal.note(call, Known::NotSent),
        }
        if let Some(tamper) = self.tamper {
            spoil(tamper, &mut answer.verdict);
        }
        answer
    }
}

fn spoil(tamper: Tamper, verdict: &mut Verdict) {
    match (tamper, &mut *verdict) {
        (Tamper::LostReplyIsNoConnection, Verdict::Ambiguous { cause, .. }) => {
            *verdict = Verdict::NotConnected { detail: cause.clone() };
        }
        (Tamper::EmptyIdIsAccepted, Verdict::NobodySubscribed { .. }) => {
            let message = ProviderMessageId("message-none".into());
            *verdict = Verdict::Accepted { message, unreachable: std::collections::BTreeSet::new() };
        }
        (Tamper::InvalidAliasesSwallowed, Verdict::Accepted { unreachable, .. }) => unreachable.clear(),
        _ => {}
    }
}

/// A call on its way; is stalled until it comes back.
struct UnderWay<'a> {
    call: u64,
    provider: &'a Provider,
}

impl Future for UnderWay<'_> {
    type Output = Reply;

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Reply> {
        if let Some(reply) = self.provider.onesignal.reply(self.call) {
            return Poll::Ready(reply);
        }
        self.provider.control.park();
        Poll::Pending
    }
}

#[async_trait]
impl MessageProvider for Provider {
    async fn send(&self, batch: &Batch, now: Timestamp) -> BatchAnswer {
        let mut batch = batch.clone();
        let is_in_the_books = self.is_in_the_books(batch.idempotency_key).await;
        if self.tamper == Some(Tamper::FreshKeys) {
            batch.idempotency_key = self.onesignal.fresh_key();
        }
        let body = self.adapter.request(&batch, now);
        let is_urgent = batch.priority == Priority::Urgent;
        let timeout = if is_urgent { TIMEOUTS.urgent_call } else { TIMEOUTS.call };
        // A clock that went back meanwhile shows that it was stalled, too.
        let stood_still = self.clock.now() - now;
        let left_late = stood_still > TimeDelta::seconds(5) || stood_still < TimeDelta::zero();
        let call = self.onesignal.begin(&body, left_late, (is_urgent, timeout), is_in_the_books);
        let reply = UnderWay { call, provider: self }.await;
        self.classify(call, reply)
    }

    fn request(&self, batch: &Batch, now: Timestamp) -> Value {
        self.adapter.request(batch, now)
    }

    // Nothing in this world is handed over before its time, so nothing can be taken back.
    async fn cancel(&self, _: &App, _: &ProviderMessageId) -> Recall {
        Recall::TooLate { detail: "it was sent at once".to_owned() }
    }

    async fn message(&self, _: &App, _: &ProviderMessageId) -> Result<Option<MessageStats>, ProviderError> {
        Ok(None)
    }

    async fn create_template(&self, app: &App, upload: &TemplateUpload) -> Result<String, ProviderError> {
        Ok(self.onesignal.create_template(&app.id.to_string(), &upload.name))
    }

    async fn find_template(
        &self,
        app: &App,
        name: &str,
        _: Channel,
    ) -> Result<Option<String>, ProviderError> {
        Ok(self.onesignal.find_template(&app.id.to_string(), name))
    }

    async fn list_templates(&self, _: &App, _: Channel, _: usize) -> Result<TemplatePage, ProviderError> {
        Ok(TemplatePage::default())
    }

    async fn get_template(&self, _: &App, id: &str) -> Result<Option<RemoteTemplate>, ProviderError> {
        let known = self.onesignal.has_template(id);
        Ok(known.then(|| RemoteTemplate {
            name: String::new(),
            channel: Channel::Push,
            contents: std::collections::BTreeMap::new(),
            others: Vec::new(),
        }))
    }

    async fn update_template(&self, _: &App, _: &str, _: &TemplateUpload) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn delete_template(&self, _: &App, _: &str) -> Result<(), ProviderError> {
        Ok(())
    }

    async fn check_app(&self, _: &App) -> Result<(), ProviderError> {
        Ok(())
    }
}
