//! OneSignal's outcomes: how often messages were clicked.

use axum::Json;
use axum::http::HeaderMap;
use axum::response::{IntoResponse, Response};
use chrono::TimeDelta;
use serde_json::{Value, json};
use uuid::Uuid;

use super::Sandbox;
use super::actions::{Acts, RecipientAction};
use super::refusal::Refusal;
use super::templates::Query;
use crate::domain::clock::Timestamp;

const CLICK: &str = "os__click";

impl Sandbox {
    /// `GET /apps/{app}/outcomes`
    pub(super) fn view_outcomes(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        query: &Query,
    ) -> Result<Response, Refusal> {
        let app = self.app_of_path(headers, app_id)?;
        let wanted = Wanted::read(query)?.ok_or_else(|| Refusal::bad("outcome_names is required."))?;
        let now = self.now();
        let state = self.state.lock();
        let messages: Vec<Uuid> = state.messages_of(app.id).map(|message| message.id).collect();
        let acts = state.acts();
        let clicks = messages.iter().map(|id| wanted.clicks(acts, *id, now)).sum();
        Ok(Json(json!({"outcomes": wanted.values(clicks)})).into_response())
    }
}

/// The requested outcomes.
pub(super) struct Wanted {
    names: Vec<(String, &'static str)>,
    within: TimeDelta,
}

impl Wanted {
    /// Parses `outcome_names` and `outcome_time_range`; `None` if no outcomes are requested.
    pub(super) fn read(query: &Query) -> Result<Option<Self>, Refusal> {
        let names = query.get("outcome_names").or_else(|| query.get("outcome_names[]"));
        let Some(names) = names.filter(|names| !names.is_empty()) else { return Ok(None) };
        let read = |name: &str| {
            let (id, aggregation) = name.rsplit_once('.')?;
            let aggregation = ["sum", "count"].into_iter().find(|known| *known == aggregation)?;
            (!id.is_empty()).then(|| (id.to_owned(), aggregation))
        };
        let names = names.split(',').map(|name| {
            read(name.trim())
                .ok_or_else(|| Refusal::bad(format!("{name}: an outcome's name ends in .sum or .count.")))
        });
        let within = match query.get("outcome_time_range").map(String::as_str) {
            None | Some("1h") => TimeDelta::hours(1),
            Some("1d") => TimeDelta::days(1),
            Some("1mo") => TimeDelta::days(30),
            Some(_) => return Err(Refusal::bad("outcome_time_range must be 1h, 1d or 1mo.")),
        };
        Ok(Some(Self { names: names.collect::<Result<_, _>>()?, within }))
    }

    /// How often a message was clicked in that time.
    pub(super) fn clicks(&self, acts: &Acts, message: Uuid, now: Timestamp) -> usize {
        let clicks = acts.of(message).iter().filter(|act| act.deed == RecipientAction::Click);
        clicks.filter(|act| now - act.at < self.within).count()
    }

    /// The answer: clicks are all that the sandbox sees, every other outcome is 0.
    pub(super) fn values(&self, clicks: usize) -> Value {
        let value = |id: &str| if id == CLICK { clicks } else { 0 };
        let values = self.names.iter();
        values
            .map(|(id, aggregation)| json!({"id": id, "value": value(id), "aggregation": aggregation}))
            .collect()
    }
}
