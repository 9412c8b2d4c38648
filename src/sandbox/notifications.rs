//! Cancel, view and list messages.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::DateTime;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Sandbox;
use super::access::uuid;
use super::actions::RecipientAction;
use super::json::field;
use super::message::{Channel, Message};
use super::outcomes::Wanted;
use super::refusal::{BAD_APP_ID, Refusal, rate_limited};
use super::render;
use super::schedule::Schedule;
use super::state::State;
use super::templates::{Query, page};
use crate::domain::clock::Timestamp;

const NOT_FOUND: &str = "Notification not found";
const PROVIDER_FIELDS: [&str; 12] = [
    "name",
    "template_id",
    "contents",
    "headings",
    "subtitle",
    "url",
    "data",
    "email_subject",
    "email_body",
    "include_aliases",
    "included_segments",
    "filters",
];

impl Sandbox {
    /// `DELETE /notifications/{id}`: stops a message that still waits for its time.
    pub(super) fn cancel_message(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        if !self.admits(app.id) {
            return Ok(rate_limited(1));
        }
        let now = self.now();
        let mut state = self.state.lock();
        let message = state.readable(app.id, id, now)?;
        if !message.is_waiting(now) {
            let why = if message.canceled { "already been canceled" } else { "already been sent" };
            return Err(Refusal::bad(format!("Notification has {why}")));
        }
        state.cancel(message.id).map_err(|error| Refusal::not_kept(&error))?;
        Ok(Json(json!({"success": true})).into_response())
    }

    /// `GET /notifications/{id}`
    pub(super) fn view_message(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        let now = self.now();
        if !self.admits_view(app.id) {
            return Ok(rate_limited(1));
        }
        let wanted = Wanted::read(query)?;
        let state = self.state.lock();
        let message = state.readable(app.id, id, now)?;
        let mut view = view(&message, &state, now);
        if let Some(wanted) = wanted {
            view["outcomes"] = wanted.values(wanted.clicks(state.acts(), message.id, now));
        }
        Ok(Json(view).into_response())
    }

    /// `POST /apps/{app}/notifications/{id}/unsubscribe?token=`: a reader leaves by a page of the sender's own.
    pub(super) fn unsubscribe(&self, app_id: &str, id: &str, query: &Query) -> Result<Response, Refusal> {
        let app = uuid(app_id).ok_or_else(|| Refusal::bad(BAD_APP_ID))?;
        let token = query.get("token").map(String::as_str).unwrap_or_default();
        let message = uuid(id).and_then(|id| self.state.lock().message(app, id));
        let message = message.filter(|message| message.channel == Channel::Email);
        let message = message.ok_or_else(|| Refusal::not_found(NOT_FOUND))?;
        let everybody = render::recipients(&message, &message.request(), usize::MAX);
        let place = everybody.iter().position(|to| render::unsubscribe_token(to) == token);
        let place = place.ok_or_else(|| Refusal::bad("Invalid token"))?;
        self.act(&message, place, RecipientAction::Unsubscribe, None)
            .map_err(|error| Refusal::not_kept(&error))?;
        Ok((StatusCode::ACCEPTED, Json(json!({"success": true}))).into_response())
    }

    /// `GET /notifications`: newest first by `offset`, or oldest first from `time_offset` on.
    pub(super) fn list_messages(&self, headers: &HeaderMap, query: &Query) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        if !self.admits_view(app.id) {
            return Ok(rate_limited(1));
        }
        let (limit, offset) = page(query)?;
        let template = wanted_template(query)?;
        // All messages came through the API, which is kind 1 (0: dashboard, 3: automatic).
        let none_of_that_kind = query.get("kind").is_some_and(|kind| kind != "1");
        let now = self.now();
        let state = self.state.lock();
        let mut found: Vec<_> = state
            .messages_of(app.id)
            .filter(|message| message.is_readable(now) && !none_of_that_kind)
            .filter(|message| {
                template.is_none_or(|id| message.template.as_ref().is_some_and(|used| used.id == id))
            })
            .cloned()
            .collect();
        let total_count = found.len();
        let mut body = json!({"total_count": total_count, "offset": offset, "limit": limit});
        if let Some(from) = query.get("time_offset") {
            let from = TimeOffset::parse(from)?;
            found.retain(|message| from.is_before(message));
            found.reverse();
            found.truncate(limit);
            body["time_offset"] = json!(query.get("time_offset"));
            let last = found.last().map(|message| format!("s{}", message.sequence));
            body["next_time_offset"] =
                json!(last.as_deref().or(query.get("time_offset").map(String::as_str)));
        } else {
            found = found.into_iter().skip(offset).take(limit).collect();
        }
        body["notifications"] = found.iter().map(|message| view(message, &state, now)).collect();
        Ok(Json(body).into_response())
    }
}

/// Where a list that goes forward in time begins.
enum TimeOffset {
    After(u64),
    From(Timestamp),
}

impl TimeOffset {
    fn parse(text: &str) -> Result<Self, Refusal> {
        if let Some(sequence) = text.strip_prefix('s').and_then(|number| number.parse().ok()) {
            return Ok(Self::After(sequence));
        }
        let at = DateTime::parse_from_rfc3339(text).map_err(|_| Refusal::bad("Invalid time_offset"))?;
        Ok(Self::From(at.to_utc()))
    }

    fn is_before(&self, message: &Message) -> bool {
        match self {
            Self::After(sequence) => message.sequence > *sequence,
            Self::From(at) => message.received_at >= *at,
        }
    }
}

fn wanted_template(query: &Query) -> Result<Option<Uuid>, Refusal> {
    let Some(text) = query.get("template_id") else { return Ok(None) };
    uuid(text).map(Some).ok_or_else(|| Refusal::bad("Incorrect template_id format (not a valid UUID)."))
}

/// The message as OneSignal reports it.
fn view(message: &Message, state: &State, now: Timestamp) -> Value {
    let reach = Reach::of(message, now);
    let count = |deed| state.acts().people(message.id, deed);
    let (failed, errored) =
        (count(RecipientAction::Unsubscribe), count(RecipientAction::Fail) + count(RecipientAction::Bounce));
    let successful = reach.out.saturating_sub(errored);
    let due = message.send_after.unwrap_or(message.received_at);
    let completed = (!message.canceled && reach.waiting == 0).then(|| reach.last.unwrap_or(due).timestamp());
    let request = message.request();
    let mut view = json!({
        "id": message.id, "app_id": message.app_id,
        "successful": successful, "failed": failed, "errored": errored,
        "converted": count(RecipientAction::Click), "received": successful, "remaining": reach.waiting,
        "queued_at": message.received_at.timestamp(), "send_after": due.timestamp(),
        "completed_at": completed, "canceled": message.canceled,
        "platform_delivery_stats": platforms(message, state, successful),
        "external_id": message.idempotency_key,
        "throttle_rate_per_minute": request.get("throttle_rate_per_minute"),
    });
    for name in PROVIDER_FIELDS {
        if let Some(value) = field(&request, name) {
            view[name] = value.clone();
        }
    }
    view
}

/// The same numbers by kind of device: made-up people have iPhones.
fn platforms(message: &Message, state: &State, successful: usize) -> Value {
    let people = |deed| state.acts().people(message.id, deed);
    let times = |deed| state.acts().times(message.id, deed);
    let (failed, errored) = (
        people(RecipientAction::Unsubscribe),
        people(RecipientAction::Fail) + people(RecipientAction::Bounce),
    );
    let mut stats = json!({
        "successful": successful, "failed": failed, "errored": errored,
        "converted": people(RecipientAction::Click), "received": successful,
    });
    match message.channel {
        Channel::Push => json!({"ios": stats}),
        Channel::Sms => {
            stats["provider_successful"] = json!(successful);
            stats["provider_failed"] = json!(people(RecipientAction::Fail));
            stats["provider_errored"] = json!(0);
            json!({"sms": stats})
        }
        Channel::Email => {
            for (name, count) in [
                ("opened", times(RecipientAction::Open)),
                ("unique_opens", people(RecipientAction::Open)),
                ("clicks", times(RecipientAction::Click)),
                ("unique_clicks", people(RecipientAction::Click)),
                ("bounced", people(RecipientAction::Bounce)),
                ("reported_spam", people(RecipientAction::ReportSpam)),
                ("unsubscribed", people(RecipientAction::Unsubscribe)),
            ] {
                stats[name] = json!(count);
            }
            json!({"email": stats})
        }
    }
}

/// How far a message has gone out.
struct Reach {
    out: usize,
    waiting: usize,
    /// When the last of its recipients gets it, where they don't all get it at once.
    last: Option<Timestamp>,
}

impl Reach {
    fn of(message: &Message, now: Timestamp) -> Self {
        let schedule = Schedule::of(message);
        let capped = message.capped.len();
        if message.canceled {
            return Self { out: 0, waiting: 0, last: None };
        }
        if let Some(at) = schedule.at_once() {
            let (out, waiting) = if at <= now { (message.recipients, 0) } else { (0, message.recipients) };
            return Self { out: out.saturating_sub(capped), waiting, last: None };
        }
        let everybody = render::recipients(message, &message.request(), usize::MAX);
        let times: Vec<Timestamp> =
            everybody.iter().enumerate().map(|(place, to)| schedule.due(place, to)).collect();
        let out = times.iter().filter(|at| **at <= now).count();
        Self { out: out.saturating_sub(capped), waiting: times.len() - out, last: times.into_iter().max() }
    }
}
