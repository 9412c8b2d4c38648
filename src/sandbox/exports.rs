//! OneSignal's exports: a URL at once, the gzipped CSV behind it some time later, for three days.

use std::collections::VecDeque;
use std::io::Write;

use axum::Json;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::{Value, json};

use super::Sandbox;
use super::access::{body_of, uuid};
use super::actions::RecipientAction;
use super::create::random_uuid;
use super::json::{Object, field, text};
use super::message::{Channel, Message};
use super::people::Person;
use super::refusal::Refusal;
use super::render;
use super::schedule::Schedule;
use super::state::State;
use super::templates::Query;
use super::{filters, segments};
use crate::domain::clock::Timestamp;

const ROWS_PER_SECOND: usize = 2_000;
const KEPT_FOR: TimeDelta = TimeDelta::days(3);
/// Maximum stored files; the oldest are deleted first.
const KEPT: usize = 20;
const HISTORY_LIFE: TimeDelta = TimeDelta::days(7);
/// A history of `sent` is made from so many recipients on.
const HISTORY_MIN: usize = 1_000;
const NOT_THERE: &str = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>NoSuchKey</Code>\
    <Message>The specified key does not exist.</Message></Error>";
const EVENT_COLUMNS: [&str; 10] = [
    "external_user_id",
    "subscription_id",
    "device_type",
    "sent",
    "delivered",
    "clicked",
    "onesignal_id",
    "failed",
    "unsubscribed",
    "failure_message",
];
const PLAYER_COLUMNS: [&str; 11] = [
    "id",
    "identifier",
    "session_count",
    "language",
    "timezone",
    "device_type",
    "last_active",
    "tags",
    "created_at",
    "invalid_identifier",
    "external_user_id",
];

/// The files that were asked for.
#[derive(Debug, Default)]
pub(super) struct Exports(VecDeque<Export>);

#[derive(Debug)]
struct Export {
    name: String,
    ready_at: Timestamp,
    /// The response until it is ready.
    early: StatusCode,
    file: Vec<u8>,
}

impl Exports {
    fn is_busy(&self, now: Timestamp) -> bool {
        self.0.iter().any(|export| export.ready_at > now)
    }

    fn add(&mut self, export: Export) {
        self.0.push_back(export);
        if self.0.len() > KEPT {
            self.0.pop_front();
        }
    }
}

impl Sandbox {
    /// `POST /notifications/{id}/export_events`
    pub(super) fn export_events(
        &self,
        headers: &HeaderMap,
        query: &Query,
        id: &str,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        let now = self.now();
        let state = self.state.lock();
        let message = state.readable(app.id, id, now)?;
        let rows = event_rows(&state, &message, now);
        drop(state);
        let name = format!("events_audience-activity-{}-{}", message.id, random_uuid());
        let url = self.export(headers, name, &EVENT_COLUMNS, &rows, StatusCode::NOT_FOUND)?;
        Ok(Json(json!({"csv_file_url": url})).into_response())
    }

    /// `POST /players/csv_export`: the app's subscriptions.
    pub(super) fn export_subscriptions(
        &self,
        headers: &HeaderMap,
        query: &Query,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let app = self.app_of_query(headers, query)?;
        let request = if body.is_empty() { Object::new() } else { body_of(body)? };
        let now = self.now();
        let state = self.state.lock();
        let wanted = Wanted::read(&request, &state, app.id)?;
        let rows: Vec<Vec<String>> = state
            .people(app.id)
            .all()
            .filter(|person| wanted.includes(person, now))
            .flat_map(|person| player_rows(person, &wanted))
            .collect();
        drop(state);
        let columns: Vec<&str> =
            PLAYER_COLUMNS.iter().copied().chain(wanted.extra.iter().map(String::as_str)).collect();
        let name = format!("users_{}", random_uuid().simple());
        let url = self.export(headers, name, &columns, &rows, StatusCode::NOT_FOUND)?;
        Ok(Json(json!({"csv_file_url": url})).into_response())
    }

    /// `POST /notifications/{id}/history`
    pub(super) fn export_history(
        &self,
        headers: &HeaderMap,
        id: &str,
        body: &[u8],
    ) -> Result<Response, Refusal> {
        let (app, request) = self.app_of_body(headers, body)?;
        if !self.options.plan.history {
            return Err(Refusal::not_on_plan());
        }
        let only_clicked = match text(&request, "events") {
            Some("sent") => false,
            Some("clicked") => true,
            _ => return Err(Refusal::bad("events must be sent or clicked.")),
        };
        let now = self.now();
        let state = self.state.lock();
        let found = uuid(id).and_then(|id| state.message(app.id, id));
        let message = found.filter(|message| now - message.received_at < HISTORY_LIFE);
        let message = message.ok_or_else(|| Refusal::not_found("Notification not found"))?;
        if !only_clicked && message.recipients < HISTORY_MIN {
            return Err(Refusal::bad(format!("A history of sent needs {HISTORY_MIN} recipients or more.")));
        }
        let clicked = EVENT_COLUMNS.iter().position(|column| *column == "clicked").unwrap_or_default();
        let mut rows = event_rows(&state, &message, now);
        rows.retain(|row| !only_clicked || !row[clicked].is_empty());
        drop(state);
        let name = format!("history_{}_{}", message.id, random_uuid());
        let url = self.export(headers, name, &EVENT_COLUMNS, &rows, StatusCode::FORBIDDEN)?;
        Ok(Json(json!({"success": true, "destination_url": url})).into_response())
    }

    /// `GET /_sandbox/exports/{name}`: the file, once it is ready.
    pub(super) fn download(&self, name: &str) -> Response {
        let now = self.now();
        let exports = self.exports.lock();
        let found = exports.0.iter().find(|export| format!("{}.csv.gz", export.name) == name);
        let xml = [(header::CONTENT_TYPE, "application/xml")];
        match found {
            Some(export) if export.ready_at > now => (export.early, xml, NOT_THERE).into_response(),
            Some(export) if now - export.ready_at < KEPT_FOR => {
                ([(header::CONTENT_TYPE, "application/gzip")], export.file.clone()).into_response()
            }
            Some(_) | None => (StatusCode::NOT_FOUND, xml, NOT_THERE).into_response(),
        }
    }

    fn export(
        &self,
        headers: &HeaderMap,
        name: String,
        columns: &[&str],
        rows: &[Vec<String>],
        early: StatusCode,
    ) -> Result<String, Refusal> {
        let now = self.now();
        let mut exports = self.exports.lock();
        if exports.is_busy(now) {
            return Err(Refusal::bad("Another export of this account is under way."));
        }
        let file = compressed(columns, rows).map_err(|error| {
            tracing::error!("the sandbox could not write an export: {error}");
            Refusal::with(StatusCode::SERVICE_UNAVAILABLE, "Service temporarily unavailable")
        })?;
        let seconds = rows.len().div_ceil(ROWS_PER_SECOND).max(1);
        let ready_at = now + TimeDelta::seconds(i64::try_from(seconds).unwrap_or(i64::from(u16::MAX)));
        let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or("127.0.0.1:8081");
        let url = format!("http://{host}/_sandbox/exports/{name}.csv.gz");
        exports.add(Export { name, ready_at, early, file });
        Ok(url)
    }
}

fn compressed(columns: &[&str], rows: &[Vec<String>]) -> Result<Vec<u8>, csv::Error> {
    let mut writer = csv::Writer::from_writer(GzEncoder::new(Vec::new(), Compression::fast()));
    writer.write_record(columns)?;
    for row in rows {
        writer.write_record(row)?;
    }
    let mut encoder = writer.into_inner().map_err(|error| csv::Error::from(error.into_error()))?;
    encoder.flush()?;
    Ok(encoder.finish()?)
}

/// A row for each recipient whom the message has gone out to.
fn event_rows(state: &State, message: &Message, now: Timestamp) -> Vec<Vec<String>> {
    let schedule = Schedule::of(message);
    let acts = state.acts().of(message.id);
    let did = |place: usize, deed: RecipientAction| {
        let act = acts.iter().find(|act| act.place == place && act.deed == deed);
        act.map(|act| act.at.to_rfc3339()).unwrap_or_default()
    };
    let request = message.request();
    let recipients = render::recipients(message, &request, usize::MAX);
    let gone_out = recipients.iter().enumerate().filter(|(place, to)| {
        !message.canceled && schedule.due(*place, to) <= now && message.capped.binary_search(place).is_err()
    });
    gone_out
        .map(|(place, to)| {
            let device = render::device(to, message.channel);
            let failed =
                [RecipientAction::Fail, RecipientAction::Bounce].map(|deed| did(place, deed)).concat();
            let sent = schedule.due(place, to).to_rfc3339();
            let delivered = if failed.is_empty() { sent.clone() } else { String::new() };
            let why = if failed.is_empty() { "" } else { "could not be delivered" };
            vec![
                to.external_id().unwrap_or_default().to_owned(),
                device.subscription_id,
                device.kind.device().to_owned(),
                sent,
                delivered,
                did(place, RecipientAction::Click),
                device.onesignal_id.to_string(),
                failed,
                did(place, RecipientAction::Unsubscribe),
                why.to_owned(),
            ]
        })
        .collect()
}

/// An export request.
struct Wanted {
    extra: Vec<String>,
    since: Option<i64>,
    filters: Option<Vec<Value>>,
    also_off: bool,
}

impl Wanted {
    fn read(request: &Object, state: &State, app: uuid::Uuid) -> Result<Self, Refusal> {
        let since = match field(request, "last_active_since") {
            None => None,
            Some(value) => Some(
                value
                    .as_i64()
                    .or_else(|| value.as_str()?.parse().ok())
                    .ok_or_else(|| Refusal::bad("last_active_since must be a Unix time in seconds."))?,
            ),
        };
        let filters = match text(request, "segment_name") {
            None => None,
            Some(name) if segments::is_default(name) => None,
            Some(name) => {
                let segment = state.segments().find(|segment| segment.app_id == app && segment.name == name);
                Some(segment.ok_or_else(|| Refusal::not_found("segment not found"))?.filters.clone())
            }
        };
        let extra = field(request, "extra_fields").and_then(Value::as_array).into_iter().flatten();
        Ok(Self {
            extra: extra
                .filter_map(Value::as_str)
                .filter(|name| !PLAYER_COLUMNS.contains(name))
                .map(str::to_owned)
                .collect(),
            since,
            filters,
            also_off: field(request, "include_unsubscribed") != Some(&Value::Bool(false)),
        })
    }

    fn includes(&self, person: &Person, now: Timestamp) -> bool {
        let recent =
            self.since.is_none_or(|since| person.created_at.is_none_or(|at| at.timestamp() >= since));
        recent && self.filters.as_ref().is_none_or(|wanted| filters::matches(wanted, person, now))
    }
}

fn player_rows(person: &Person, wanted: &Wanted) -> Vec<Vec<String>> {
    let own = person.own_subscriptions().iter().filter(|own| own.enabled || wanted.also_off);
    let created = person.created_at.map(|at| at.to_rfc3339()).unwrap_or_default();
    own.map(|own| {
        let number = |name: &str| person.properties.get(name).map(Value::to_string).unwrap_or_default();
        let mut row = vec![
            own.id.map(|id| id.to_string()).unwrap_or_default(),
            own.token.clone().unwrap_or_default(),
            number("session_count"),
            person.language.clone().unwrap_or_default(),
            person.timezone_id.clone().unwrap_or_default(),
            own.kind.device().to_owned(),
            created.clone(),
            Value::Object(person.tags.clone()).to_string(),
            created.clone(),
            if own.enabled { "f" } else { "t" }.to_owned(),
            person.external_id.clone().unwrap_or_default(),
        ];
        row.extend(wanted.extra.iter().map(|name| extra(name, person, own.channel(), own.enabled)));
        row
    })
    .collect()
}

fn extra(name: &str, person: &Person, channel: Channel, enabled: bool) -> String {
    match name {
        "onesignal_id" => person.onesignal_id.map(|id| id.to_string()).unwrap_or_default(),
        "country" => person.country.clone().unwrap_or_default(),
        "notification_types" => if enabled { "1" } else { "-31" }.to_owned(),
        "channel" => channel.name().to_owned(),
        _ => person.properties.get(name).map(Value::to_string).unwrap_or_default(),
    }
}
