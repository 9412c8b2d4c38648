//! Create message: validation, idempotency, and recipients.

mod checks;
mod fields;
pub(super) mod language;
pub(super) mod targets;

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use axum::response::{IntoResponse, Response};
use ring::digest;
use serde_json::{Value, json};
use uuid::Uuid;

use super::json::Object;
use super::message::Message;
use super::options::SandboxApp;
use super::refusal::{Refusal, rate_limited};
use super::state::{Accepted, Remembered};
use super::templates::Template;
use super::{News, Sandbox, schedule};
use crate::domain::clock::Timestamp;
use checks::Checked;

const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
const NOT_SUBSCRIBED: &str = "All included players are not subscribed";

/// A call that is neither refused nor answered yet.
struct Call<'a> {
    app: &'a SandboxApp,
    request: Object,
    key: Option<Uuid>,
    digest: String,
    now: Timestamp,
}

impl Sandbox {
    /// Answers a Create message.
    pub(super) fn create_message(&self, headers: &HeaderMap, body: &[u8]) -> Response {
        self.answer_create(headers, body).unwrap_or_else(IntoResponse::into_response)
    }

    fn answer_create(&self, headers: &HeaderMap, body: &[u8]) -> Result<Response, Refusal> {
        let (app, request) = self.app_of_body(headers, body)?;
        if !self.admits(app.id) {
            return Ok(rate_limited(1));
        }
        let key = checks::idempotency_key(&request)?;
        let call = Call { app, digest: digest_of(&request), request, key, now: self.now() };
        if let Some(first) = self.first_answer(&call) {
            return Ok(first);
        }
        let template = self.template_of(&call)?;
        let checked = checks::check(&call.request, template.as_deref(), &self.options, call.now)?;
        self.accept(&call, template, checked)
    }

    fn first_answer(&self, call: &Call<'_>) -> Option<Response> {
        let remembered = self.state.lock().remembered(call.app.id, call.key?, call.now)?;
        Some(self.replay(call, &remembered))
    }

    /// Repeats the first response. A different body with the same key is ignored, as with OneSignal, but counted.
    fn replay(&self, call: &Call<'_>, first: &Remembered) -> Response {
        let mut stats = self.stats.lock();
        stats.idempotent_replays += 1;
        if first.digest != call.digest {
            stats.idempotency_mismatches += 1;
        }
        ([(REPLAYED, HeaderValue::from_static("true"))], Json(first.answer.clone())).into_response()
    }

    fn template_of(&self, call: &Call<'_>) -> Result<Option<Arc<Template>>, Refusal> {
        let Some(id) = checks::template_id(&call.request)? else { return Ok(None) };
        let found = self.state.lock().template(call.app.id, id);
        found.map(Some).ok_or_else(|| Refusal::not_found("template not found"))
    }

    /// Accepts the message, unless there is no recipient or a call with the same key was faster: all under one lock, so
    /// that two calls with one key make one message.
    fn accept(
        &self,
        call: &Call<'_>,
        template: Option<Arc<Template>>,
        checked: Checked,
    ) -> Result<Response, Refusal> {
        let request = Value::Object(call.request.clone()).to_string().into_boxed_str();
        let mut state = self.state.lock();
        if let Some(first) = call.key.and_then(|key| state.remembered(call.app.id, key, call.now)) {
            return Ok(self.replay(call, &first));
        }
        let resolved = checked.targets.resolve(
            checked.channel,
            checked.also_disabled,
            &state,
            call.app.id,
            &self.options,
            call.now,
        );
        let remembered = |answer: &Value| Remembered {
            app_id: call.app.id,
            key: call.key.unwrap_or_default(),
            at: call.now,
            digest: call.digest.clone(),
            answer: answer.clone(),
        };
        if resolved.count == 0 {
            let answer = json!({"id": "", "errors": [NOT_SUBSCRIBED]});
            if call.key.is_some() && self.options.remember_empty_answers {
                state.remember(remembered(&answer)).map_err(|error| Refusal::not_kept(&error))?;
            }
            return Ok(Json(answer).into_response());
        }
        let message = Message {
            sequence: state.next_sequence(),
            id: random_uuid(),
            app_id: call.app.id,
            idempotency_key: call.key,
            channel: checked.channel,
            template,
            received_at: call.now,
            send_after: checked.send_after,
            request,
            reached: resolved.reached,
            recipients: resolved.count,
            notes: checked.notes,
            canceled: false,
            capped: Vec::new(),
            paced: schedule::is_paced(&call.request),
        };
        let mut answer = json!({"id": message.id, "external_id": call.key});
        if let Some(errors) = resolved.errors {
            answer["errors"] = errors;
        }
        let newest = message.sequence;
        let remembered = call.key.is_some().then(|| remembered(&answer));
        state.accept(Accepted { message, remembered }).map_err(|error| Refusal::not_kept(&error))?;
        drop(state);
        self.announce(newest, resolved.count);
        if checked.send_after.is_some() {
            // The worker waits for the earliest of all; this one may be earlier.
            self.woken.notify_one();
        } else {
            self.send_due();
        }
        Ok(Json(answer).into_response())
    }

    fn announce(&self, newest: u64, recipients: usize) {
        let mut stats = self.stats.lock();
        stats.messages += 1;
        stats.recipients += u64::try_from(recipients).unwrap_or_default();
        drop(stats);
        // Two calls may come here in either order; the newest stays the newest.
        self.news.send_modify(|news| *news = News { newest: news.newest.max(newest), ..*news });
    }
}

/// Compares bodies by content, ignoring whitespace.
///
/// `ttl` is left out: it is the time that is left, so a retry of the same message has a smaller one.
fn digest_of(request: &Object) -> String {
    let mut request = request.clone();
    request.remove("ttl");
    let text = serde_json::to_vec(&request).unwrap_or_default();
    let digest = digest::digest(&digest::SHA256, &text);
    let (start, _) = digest.as_ref().split_at(16);
    start.iter().fold(0_u128, |digits, byte| (digits << 8) | u128::from(*byte)).to_string()
}

/// A random UUID, version 4, as OneSignal gives to messages and templates.
pub(super) fn random_uuid() -> Uuid {
    uuid::Builder::from_random_bytes(rand::random()).into_uuid()
}
