//! Previews: the message that a version renders with some data, and the exact request that OneSignal would get. Nothing
//! is sent or stored.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};
use uuid::Uuid;

use crate::compute::{ComputeError, Purpose};
use crate::domain::app::App;
use crate::domain::batch::Batch;
use crate::domain::budget::Budget as Work;
use crate::domain::channel::Priority;
use crate::domain::clock::Timestamp;
use crate::domain::decision::Decision;
use crate::domain::delivery::{Delivery, DeliveryState, NO_PACK_LIMIT};
use crate::domain::event::Recipient;
use crate::domain::id::{BatchId, DeliveryId, EventId, RuleId, SourceId, TypedId};
use crate::domain::retry::delta;
use crate::domain::template::TemplateVersion;
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::CompiledVersion;
use crate::pipeline::plan::Addressee;
use crate::pipeline::plan::message;
use crate::pipeline::plan::message::Message;
use crate::pipeline::send::pack;
use crate::pipeline::send::pack::{Copy, PackKey, Ready};
use crate::store::StoreError;
use crate::store::queue::Claim;
use crate::templating::preview::{Person, preview};

/// What to show.
#[derive(Debug)]
pub struct PreviewWish<'a> {
    /// The version, or a draft in its form.
    pub version: TemplateVersion,
    /// The requested locale.
    pub locale: Option<&'a str>,
    /// The event's values.
    pub data: &'a Value,
    /// Whom the request would be for.
    pub recipient: Recipient,
    /// What OneSignal knows of them: `tags`, `language`, …
    pub user: Value,
}

/// The message and the request.
#[derive(Debug, Default)]
pub struct Previewed {
    /// The locale that was chosen.
    pub locale: String,
    /// The fields as the person would see them; empty if it would be held.
    pub fields: BTreeMap<String, String>,
    /// Paths of the person that rendered as nothing.
    pub blanks: Vec<String>,
    /// The body of Create message; `None` if it would be held.
    pub request: Option<Value>,
    /// Why it would be held.
    pub held: Option<Decision>,
}

/// Why there is no preview.
#[derive(Debug, thiserror::Error)]
pub enum PreviewError {
    /// The catalog has to be read and can't be.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It could not be rendered at present.
    #[error(transparent)]
    Compute(#[from] ComputeError),
}

impl Previewed {
    /// The fields as the person would see them.
    fn render(
        &mut self,
        version: &CompiledVersion,
        wished: Option<&str>,
        (data, user): (&Value, Value),
        work: &Work,
    ) {
        let language = wished.unwrap_or(&self.locale);
        let whole = version.content(&self.locale);
        let content = whole.and_then(|all| all.in_language(language)).or(whole);
        if let Some(content) = content
            && let Ok(rendered) = preview(content, data, &Person { user }, work)
        {
            (self.fields, self.blanks) = (rendered.fields, rendered.blanks);
        }
    }
}

/// What OneSignal would know of a person.
fn user(mut given: Value, recipient: &Recipient) -> Value {
    if given.is_null() {
        given = json!({});
    }
    if let (Some(members), true) = (given.as_object_mut(), recipient.label.as_str() == "external_id") {
        members.entry("external_id").or_insert_with(|| json!(recipient.id));
    }
    given
}

impl Pipeline {
    /// Renders the preview for `wish`.
    ///
    /// # Errors
    /// [`PreviewError`].
    pub async fn preview(&self, wish: PreviewWish<'_>) -> Result<Previewed, PreviewError> {
        let now = self.clock.now();
        let catalog = self.catalog.get(&self.store).await?;
        let app = catalog.app(None).cloned();
        let (wished, recipient) = (wish.locale.map(str::to_owned), wish.recipient.clone());
        let (data, version, user) = (wish.data.clone(), wish.version, user(wish.user, &wish.recipient));
        let show = move |work: &Work| {
            let version = Arc::new(CompiledVersion::of_draft(version, work));
            let locale = version.version.choose_locale(wished.as_deref()).to_owned();
            let mut shown = Previewed { locale, ..Previewed::default() };
            let composed = message::compose(&version, &shown.locale, &data, work);
            let message = composed.map_err(|held| shown.held = Some(*held)).ok();
            if message.is_some() {
                shown.render(&version, wished.as_deref(), (&data, user), work);
            }
            (shown, version, message)
        };
        let (mut shown, version, message) = self.compute.run(Purpose::People, show).await?;
        if let (Some(app), Some(message)) = (app, message) {
            shown.request = self.request(&app, version, &shown.locale, (recipient, message), now);
        }
        Ok(shown)
    }

    fn request(
        &self,
        app: &Arc<App>,
        version: Arc<CompiledVersion>,
        locale: &str,
        (recipient, message): (Recipient, Message),
        now: Timestamp,
    ) -> Option<Value> {
        let to = Addressee::Person(recipient);
        let key = PackKey {
            priority: Priority::Normal,
            app: app.id,
            version: version.version.id,
            locale: locale.to_owned(),
            label: to.label().cloned(),
            schedule: None,
            is_inline: message.is_inline(),
            is_test_send: false,
        };
        let uploaded = self.copy_of(&key);
        let copy = uploaded.unwrap_or_else(|| Copy::Template("(uploaded when it is published)".to_owned()));
        let ready = ready(key.clone(), version, to, message, now);
        let content = pack::content(&key, &[&ready], &copy)?;
        let batch = Batch {
            id: BatchId::from_uuid(Uuid::nil()),
            app: Arc::clone(app),
            idempotency_key: Uuid::nil(),
            content: Arc::new(content),
            priority: Priority::Normal,
            expires_at: now + delta(self.limits.default_ttl),
            traceparent: None,
            holds_secrets: false,
        };
        Some(self.provider.request(&batch, now))
    }
}

/// A delivery that exists in this preview only.
fn ready(
    key: PackKey,
    version: Arc<CompiledVersion>,
    to: Addressee,
    message: Message,
    now: Timestamp,
) -> Ready {
    let delivery = Delivery {
        id: DeliveryId::from_uuid(Uuid::nil()),
        state: DeliveryState::Queued { due_at: now },
        priority: key.priority,
        attempts: 0,
        generation: 0,
        is_rechecked: false,
        pack_limit: NO_PACK_LIMIT,
        first_attempt_at: None,
        first_ambiguous_at: None,
    };
    Ready {
        claim: Claim { delivery, epoch: 0, app: key.app, expires_at: now, batch: None, crashes: 0 },
        key,
        version,
        to,
        message,
        event: EventId::from_uuid(Uuid::nil()),
        posted: (SourceId::from_uuid(Uuid::nil()), "".into()),
        rule: (RuleId::from_uuid(Uuid::nil()), "".into()),
        replay_of: None,
        traceparent: None,
        holds_secrets: false,
        closes_at: None,
        turn: 0,
    }
}
