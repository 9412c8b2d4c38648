//! Pagination, filters, and the JSON form of deliveries and decisions.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

use super::event_reads::recipient_body;
use super::problem::{Code, FieldError, Problem};
use crate::domain::clock::Timestamp;
use crate::domain::delivery::StateName;
use crate::domain::event::{Recipient, VisibleEvents};
use crate::domain::id::{DeliveryId, EventId, TypedId, made_at};
use crate::pipeline::ingest::DecisionSummary;
use crate::store::delivery_reads::{AttemptRow, DecisionRow, DeliveryRow};
use crate::store::search::ListFilter;

/// Default and maximum page size.
const PAGE: i64 = 50;
const MAX_PAGE: i64 = 200;

/// A page: `next_cursor` is `null` on the last one.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct Page<T> {
    /// The items.
    pub data: Vec<T>,
    /// Cursor of the next page.
    pub next_cursor: Option<String>,
}

impl<T> Page<T> {
    /// A page of rows that were read with this limit; a full page may be followed by another.
    pub fn new<R>(rows: Vec<R>, limit: i64, cursor: impl Fn(&R) -> String, body: impl Fn(R) -> T) -> Self {
        let is_full = i64::try_from(rows.len()).is_ok_and(|count| count >= limit);
        let next_cursor = rows.last().filter(|_| is_full).map(cursor);
        Self { data: rows.into_iter().map(body).collect(), next_cursor }
    }
}

/// Filters of a list.
#[derive(Debug, Default, Deserialize, utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub(super) struct RawListQuery {
    /// An event type, or a family such as `order.*` (events only).
    r#type: Option<String>,
    /// A recipient, as `external_id=user-42`.
    recipient: Option<String>,
    /// A delivery's state.
    state: Option<String>,
    /// At or after this time (RFC 3339).
    since: Option<String>,
    /// Before this time (RFC 3339).
    until: Option<String>,
    /// Page size: 50 by default, at most 200.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next_cursor` of the previous page.
    cursor: Option<String>,
}

impl RawListQuery {
    /// The validated filter.
    ///
    /// # Errors
    /// 400 that names the parameter.
    pub fn filter<T: TypedId + std::str::FromStr>(
        &self,
        visible: VisibleEvents,
    ) -> Result<ListFilter, Problem> {
        let before = match &self.cursor {
            Some(cursor) => {
                let id: T =
                    cursor.parse().map_err(|_| bad("cursor", "use `next_cursor` of the previous page"))?;
                Some(id.uuid())
            }
            None => None,
        };
        let state = match self.state.as_deref() {
            Some("scheduled") => Some(StateName::QUEUED),
            Some(word) => Some(StateName::find(word).ok_or_else(|| {
                let known: Vec<&str> =
                    StateName::ALL.into_iter().map(StateName::as_str).chain(["scheduled"]).collect();
                bad("state", &format!("`state` must be one of {}", known.join(", ")))
            })?),
            None => None,
        };
        let limit = self.limit.unwrap_or(PAGE);
        if !(1..=MAX_PAGE).contains(&limit) {
            return Err(bad("limit", "`limit` must be 1 to 200"));
        }
        Ok(ListFilter {
            before,
            since: time("since", self.since.as_deref())?,
            until: time("until", self.until.as_deref())?,
            event_type: self.r#type.clone(),
            state,
            recipient: self.recipient.as_deref().map(recipient).transpose()?,
            visible,
            limit,
        })
    }
}

/// The size of a page of up to 100 things.
///
/// # Errors
/// 400 that names the parameter.
pub(super) fn page_size(asked: Option<u8>, usual: u8) -> Result<i64, Problem> {
    match asked.unwrap_or(usual) {
        size @ 1..=100 => Ok(size.into()),
        _ => Err(bad("limit", "`limit` must be 1 to 100")),
    }
}

fn bad(name: &str, detail: &str) -> Problem {
    Problem::fields(Code::BadParameter, vec![FieldError::new(name, "bad_parameter", detail)])
}

fn time(name: &str, text: Option<&str>) -> Result<Option<Timestamp>, Problem> {
    let parse = |text: &str| DateTime::parse_from_rfc3339(text).map(|time| time.to_utc());
    text.map(parse).transpose().map_err(|_| bad(name, "write it as 2026-11-24T08:00:00Z"))
}

fn recipient(text: &str) -> Result<Recipient, Problem> {
    let (label, id) =
        text.split_once('=').ok_or_else(|| bad("recipient", "write it as external_id=user-42"))?;
    Recipient::parse(label, id).map_err(|error| bad("recipient", &error.to_string()))
}

/// A delivery.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DeliveryBody {
    #[schema(value_type = String)]
    id: DeliveryId,
    #[schema(value_type = String)]
    event: EventId,
    rule: String,
    app: String,
    channel: String,
    priority: String,
    template: String,
    version: Option<i32>,
    locale: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    recipient: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audience: Option<Value>,
    /// The state; `scheduled` means queued and not yet due.
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    due_at: Option<DateTime<Utc>>,
    /// When OneSignal sends it, if it is scheduled there.
    #[serde(skip_serializing_if = "Option::is_none")]
    send_after: Option<DateTime<Utc>>,
    /// Whether it waits for earlier deliveries with the same ordering key.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    waits_for_turn: bool,
    expires_at: DateTime<Utc>,
    created_at: DateTime<Utc>,
    finished_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    batch: Option<crate::domain::id::BatchId>,
    /// The delivery that it replays.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    replay_of: Option<DeliveryId>,
}

/// The JSON form of a delivery's row at `now`.
pub(super) fn delivery_body(row: DeliveryRow, now: Timestamp) -> DeliveryBody {
    DeliveryBody {
        id: row.id,
        event: row.event,
        rule: row.rule.1,
        app: row.app.to_string(),
        channel: row.channel,
        priority: row.priority,
        template: row.template,
        version: row.version.map(|(_, number)| number),
        locale: row.locale,
        recipient: row.recipient.as_ref().map(recipient_body),
        audience: row.audience,
        state: row.state.shown(row.due_at, now),
        due_at: row.due_at,
        send_after: row.schedule.as_ref().and_then(crate::domain::timing::Schedule::send_after),
        waits_for_turn: row.waits_for_turn,
        expires_at: row.expires_at,
        created_at: row.created_at,
        finished_at: row.finished_at,
        batch: row.batch,
        replay_of: row.replay_of,
    }
}

/// A decision.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct DecisionBody {
    code: String,
    detail: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rule: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    delivery: Option<DeliveryId>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    facts: Option<Value>,
}

impl From<DecisionSummary> for DecisionBody {
    fn from(d: DecisionSummary) -> Self {
        Self { code: d.code, detail: d.detail, rule: d.rule, delivery: d.delivery, at: None, facts: None }
    }
}

impl From<DecisionRow> for DecisionBody {
    fn from(row: DecisionRow) -> Self {
        let at = made_at(row.id.uuid());
        let facts =
            Some(row.facts).filter(|facts| facts.as_object().is_none_or(|members| !members.is_empty()));
        Self {
            code: row.code,
            detail: row.detail,
            rule: row.rule,
            delivery: row.delivery,
            at: Some(at),
            facts,
        }
    }
}

/// An attempt.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct AttemptBody {
    #[schema(value_type = String)]
    batch: crate::domain::id::BatchId,
    n: i32,
    #[schema(value_type = String)]
    idempotency_key: Uuid,
    /// Number of deliveries in the same call.
    members: i32,
    started_at: DateTime<Utc>,
    answered_at: Option<DateTime<Utc>>,
    /// The classified response.
    answer: Option<String>,
    /// OneSignal's HTTP status.
    status: Option<i16>,
    /// OneSignal's message ID.
    provider_message_id: Option<String>,
    /// Whether OneSignal returned the stored response of the idempotency key.
    replayed: Option<bool>,
}

impl From<AttemptRow> for AttemptBody {
    fn from(row: AttemptRow) -> Self {
        Self {
            batch: row.batch,
            n: row.n,
            idempotency_key: row.idempotency_key,
            members: row.members,
            started_at: row.started_at,
            answered_at: row.answered_at,
            answer: row.answer,
            status: row.status,
            provider_message_id: row.provider_message_id,
            replayed: row.is_replay,
        }
    }
}
