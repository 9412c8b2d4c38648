//! One HTTP call per method, over keep-alive connections. Redirects are never followed and body sizes are limited.

use std::time::Duration;

use async_trait::async_trait;
use reqwest::header::{AUTHORIZATION, HeaderValue, RETRY_AFTER};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::ExposeSecret;
use serde_json::Value;
use url::Url;

use super::classify::{self, RawAnswer};
use super::templates::TEMPLATE_PAGE;
use super::wire;
use crate::domain::answer::{BatchAnswer, MessageStats, ProviderMessageId, Recall, Verdict};
use crate::domain::app::App;
use crate::domain::batch::Batch;
use crate::domain::channel::{Channel, Priority};
use crate::domain::clock::Timestamp;
use crate::provider::{MessageProvider, ProviderError, RemoteTemplate, TemplatePage, TemplateUpload};

/// Maximum response size; OneSignal's responses are smaller.
const MAX_ANSWER: usize = 1024 * 1024;
/// Maximum number of pages to search.
const TEMPLATE_PAGES: usize = 40;

/// Timeouts of calls.
#[derive(Debug, Clone, Copy)]
pub struct ClientTimeouts {
    /// Connecting.
    pub connect: Duration,
    /// A whole call.
    pub call: Duration,
    /// A whole call for the urgent priority.
    pub urgent_call: Duration,
}

/// OneSignal's adapter.
#[derive(Debug, Clone)]
pub struct OneSignal {
    http: reqwest::Client,
    timeouts: ClientTimeouts,
}

impl OneSignal {
    /// Prepares the client; no call is made.
    ///
    /// # Errors
    /// When the system's TLS roots can't be read.
    pub fn new(timeouts: ClientTimeouts) -> Result<Self, reqwest::Error> {
        let http = reqwest::Client::builder()
            .connect_timeout(timeouts.connect)
            .redirect(reqwest::redirect::Policy::none())
            .user_agent(concat!("herald/", env!("CARGO_PKG_VERSION")))
            .pool_idle_timeout(Duration::from_mins(1))
            .build()?;
        Ok(Self { http, timeouts })
    }

    pub(super) fn request(&self, app: &App, method: Method, path: &str) -> Result<RequestBuilder, String> {
        let url = join(&app.base_url, path)?;
        let mut key = HeaderValue::from_str(&format!("Key {}", app.api_key.expose_secret()))
            .map_err(|_| "the app's key contains characters that are not allowed in a header".to_owned())?;
        key.set_sensitive(true);
        Ok(self.http.request(method, url).header(AUTHORIZATION, key).timeout(self.timeouts.call))
    }

    pub(super) async fn template_call(
        &self,
        request: RequestBuilder,
        changes: bool,
    ) -> Result<RawAnswer, ProviderError> {
        let response = request.send().await.map_err(|error| {
            if changes && !error.is_connect() {
                ProviderError::Unclear(describe(&error))
            } else {
                ProviderError::Unreachable(describe(&error))
            }
        })?;
        let answer = read(response).await;
        match answer.status {
            429 => Err(ProviderError::RateLimited { retry_after: answer.retry_after }),
            500.. if changes => Err(ProviderError::Unclear(format!("status {}", answer.status))),
            500.. => Err(ProviderError::Unreachable(format!("status {}", answer.status))),
            _ => Ok(answer),
        }
    }
}

/// A URL below `base`, which may itself have a path.
fn join(base: &Url, path: &str) -> Result<Url, String> {
    format!("{}/{path}", base.as_str().trim_end_matches('/'))
        .parse()
        .map_err(|_| "the app's base URL is invalid".into())
}

/// The error of a call, without its URL.
pub(super) fn describe(error: &reqwest::Error) -> String {
    use std::error::Error;
    if error.is_timeout() {
        return "timed out".into();
    }
    let mut cause: &dyn Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

/// The verdict for a call without a response.
fn failed(error: &reqwest::Error) -> Verdict {
    let detail = describe(error);
    if error.is_builder() {
        return Verdict::AppUnusable { detail };
    }
    if !error.is_connect() {
        return Verdict::Ambiguous { cause: detail, retry_after: None };
    }
    if detail.contains("certificate") {
        return Verdict::AppUnusable { detail: format!("OneSignal's certificate is not valid: {detail}") };
    }
    Verdict::NotConnected { detail }
}

/// Reads a response with a size limit.
pub(super) async fn read(mut response: Response) -> RawAnswer {
    let status = response.status().as_u16();
    let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
    let retry_after = header(RETRY_AFTER.as_str()).and_then(|value| value.trim().parse::<u64>().ok());
    let is_replay = header("idempotent-replayed").is_some_and(|value| value.eq_ignore_ascii_case("true"));
    let mut body = Vec::new();
    let body = loop {
        match response.chunk().await {
            Ok(None) => break Ok(body),
            Ok(Some(chunk)) if body.len() + chunk.len() <= MAX_ANSWER => body.extend_from_slice(&chunk),
            Ok(Some(_)) => break Err("OneSignal's response is larger than 1 MiB".to_owned()),
            Err(error) => break Err(describe(&error)),
        }
    };
    RawAnswer { status, retry_after: retry_after.map(Duration::from_secs), is_replay, body }
}

/// The JSON of a successful response.
pub(super) fn expect_json(answer: &RawAnswer, changes: bool) -> Result<Value, ProviderError> {
    let unreadable = |cause: String| {
        if changes { ProviderError::Unclear(cause) } else { ProviderError::Unreachable(cause) }
    };
    let body = answer.body.as_ref().map_err(|cause| unreadable(cause.clone()))?;
    if !(200..300).contains(&answer.status) {
        return Err(ProviderError::Refused { status: answer.status, detail: classify::detail(body) });
    }
    serde_json::from_slice(body).map_err(|_| unreadable("the response can't be parsed".into()))
}

fn message_path(app: &App, message: &ProviderMessageId) -> String {
    let id: String = url::form_urlencoded::byte_serialize(message.0.as_bytes()).collect();
    format!("notifications/{id}?app_id={}", app.id)
}

pub(super) fn refused_here(detail: String) -> ProviderError {
    ProviderError::Refused { status: 0, detail }
}

#[async_trait]
impl MessageProvider for OneSignal {
    async fn send(&self, batch: &Batch, now: Timestamp) -> BatchAnswer {
        let request = match self.request(&batch.app, Method::POST, "notifications") {
            Ok(request) => request,
            Err(detail) => return BatchAnswer::without_response(Verdict::AppUnusable { detail }),
        };
        let timeout = match batch.priority {
            Priority::Urgent => self.timeouts.urgent_call,
            Priority::Normal | Priority::Bulk => self.timeouts.call,
        };
        let mut request = request.timeout(timeout).json(&wire::create_message(batch, now));
        if let Some(trace) = &batch.traceparent {
            request = request.header("traceparent", trace);
        }
        match request.send().await {
            Ok(response) => classify::create_message(&read(response).await),
            Err(error) => BatchAnswer::without_response(failed(&error)),
        }
    }

    fn request(&self, batch: &Batch, now: Timestamp) -> Value {
        wire::create_message(batch, now)
    }

    async fn cancel(&self, app: &App, message: &ProviderMessageId) -> Recall {
        let request = match self.request(app, Method::DELETE, &message_path(app, message)) {
            Ok(request) => request,
            Err(detail) => return Recall::Refused { detail },
        };
        match request.send().await {
            Ok(response) => classify::cancel_message(&read(response).await),
            Err(error) => match failed(&error) {
                Verdict::AppUnusable { detail } => Recall::Refused { detail },
                _ => Recall::Unclear { cause: describe(&error) },
            },
        }
    }

    async fn message(
        &self,
        app: &App,
        message: &ProviderMessageId,
    ) -> Result<Option<MessageStats>, ProviderError> {
        let request = self.request(app, Method::GET, &message_path(app, message)).map_err(refused_here)?;
        let answer = self.template_call(request, false).await?;
        if answer.status == 404 {
            return Ok(None);
        }
        Ok(Some(wire::message_stats(&expect_json(&answer, false)?)))
    }

    async fn create_template(&self, app: &App, upload: &TemplateUpload) -> Result<String, ProviderError> {
        self.post_template(app, upload).await
    }

    async fn find_template(
        &self,
        app: &App,
        name: &str,
        channel: Channel,
    ) -> Result<Option<String>, ProviderError> {
        for page in 0..TEMPLATE_PAGES {
            let page = self.template_page(app, channel, page * TEMPLATE_PAGE).await?;
            if let Some((id, _)) = page.templates.into_iter().find(|(_, known)| known == name) {
                return Ok(Some(id));
            }
            if !page.has_more {
                break;
            }
        }
        Ok(None)
    }

    async fn list_templates(
        &self,
        app: &App,
        channel: Channel,
        offset: usize,
    ) -> Result<TemplatePage, ProviderError> {
        self.template_page(app, channel, offset).await
    }

    async fn get_template(&self, app: &App, id: &str) -> Result<Option<RemoteTemplate>, ProviderError> {
        self.template(app, id).await
    }

    async fn update_template(
        &self,
        app: &App,
        id: &str,
        upload: &TemplateUpload,
    ) -> Result<(), ProviderError> {
        self.patch_template(app, id, upload).await
    }

    async fn delete_template(&self, app: &App, id: &str) -> Result<(), ProviderError> {
        self.remove_template(app, id).await
    }

    async fn check_app(&self, app: &App) -> Result<(), ProviderError> {
        let path = format!("templates?app_id={}&limit=1", app.id);
        let request = self.request(app, Method::GET, &path).map_err(refused_here)?;
        let answer = self.template_call(request, false).await?;
        expect_json(&answer, false).map(|_| ())
    }
}
