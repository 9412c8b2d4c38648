//! Users and apps: creating users, simulating actions, enabling and disabling an app.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::{Json, Router, routing};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::super::Sandbox;
use super::super::actions::RecipientAction;
use super::super::message::Message;
use super::super::people::Person;
use super::super::render;
use super::{Unclear, read, unclear};

pub(super) fn routes() -> Router<Arc<Sandbox>> {
    Router::new()
        .route("/_sandbox/users", routing::post(put_users).get(users))
        .route("/_sandbox/apps", routing::post(switch_app).get(apps))
        .route("/_sandbox/messages/{id}/recipients/{recipient}/{deed}", routing::post(act))
}

async fn put_users(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Result<Json<Value>, Unclear> {
    let people: Vec<Person> = match read::<Value>(&body)? {
        list @ Value::Array(_) => serde_json::from_value(list),
        one => serde_json::from_value(one).map(|person| vec![person]),
    }
    .map_err(|error| unclear(error.to_string()))?;
    let people = people.into_iter().map(Person::complete).collect::<Result<Vec<_>, _>>().map_err(unclear)?;
    if let Some(app) = people.iter().filter_map(|person| person.app_id).find(|app| !sandbox.has_app(*app)) {
        return Err(unclear(format!("the sandbox has no app {app}")));
    }
    let known = people.len();
    let now = sandbox.now();
    let people =
        people.into_iter().map(|person| Person { created_at: person.created_at.or(Some(now)), ..person });
    sandbox.state.lock().put_people(people.collect())?;
    Ok(Json(json!({"known": known})))
}

async fn users(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    let state = sandbox.state.lock();
    let people: Vec<Arc<Person>> =
        sandbox.options.apps.iter().flat_map(|app| state.people(app.id).all().cloned()).collect();
    Json(json!({"data": people}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    /// Absent: the first app.
    app_id: Option<Uuid>,
    enabled: bool,
}

async fn switch_app(State(sandbox): State<Arc<Sandbox>>, body: Bytes) -> Result<Json<Value>, Unclear> {
    let Switch { app_id, enabled } = read(&body)?;
    let app = sandbox.app_or_first(app_id)?;
    sandbox.state.lock().disable(app, !enabled)?;
    Ok(Json(json!({"app_id": app, "enabled": enabled})))
}

async fn apps(State(sandbox): State<Arc<Sandbox>>) -> Json<Value> {
    let state = sandbox.state.lock();
    let apps = sandbox.options.apps.iter().map(|app| {
        let people = state.people(app.id);
        json!({
            "app_id": app.id, "name": app.name, "enabled": !state.is_disabled(app.id),
            "people": people.all().count(), "subscribed": people.subscribed(),
        })
    });
    Json(json!({"data": apps.collect::<Vec<_>>()}))
}

/// The details of a recipient action.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct ActBody {
    /// Why it failed.
    #[serde(default)]
    reason: Option<String>,
}

async fn act(
    State(sandbox): State<Arc<Sandbox>>,
    Path((id, recipient, deed)): Path<(Uuid, String, String)>,
    body: Bytes,
) -> Result<Json<Value>, Unclear> {
    let details: Option<ActBody> = if body.is_empty() { None } else { read(&body)? };
    let ActBody { reason } = details.unwrap_or_default();
    let message = sandbox.state.lock().any_message(id);
    let message = message.ok_or_else(|| not_there(format!("the sandbox has no message {id}")))?;
    let deed = action_of(&message, &deed)?;
    let everybody = render::recipients(&message, &message.request(), usize::MAX);
    let place = everybody.iter().position(|to| to.id == recipient);
    let place = place.ok_or_else(|| not_there("the message did not reach this recipient".to_owned()))?;
    sandbox.act(&message, place, deed, reason.as_deref())?;
    Ok(Json(json!({"success": true})))
}

/// Parses a recipient action, if it is possible.
fn action_of(message: &Message, text: &str) -> Result<RecipientAction, Unclear> {
    let names = || RecipientAction::ALL.map(RecipientAction::name).join(", ");
    let deed =
        RecipientAction::parse(text).ok_or_else(|| unclear(format!("`{text}` is not one of {}", names())))?;
    let channel = message.channel;
    if deed.fits(channel) {
        Ok(deed)
    } else {
        Err(unclear(format!("recipients can't {} a message of channel {}", deed.name(), channel.name())))
    }
}

fn not_there(text: String) -> Unclear {
    Unclear(StatusCode::NOT_FOUND, text)
}

impl Sandbox {
    fn has_app(&self, id: Uuid) -> bool {
        self.options.apps.iter().any(|app| app.id == id)
    }

    /// The app, or the first one when none is named.
    pub(super) fn app_or_first(&self, id: Option<Uuid>) -> Result<Uuid, Unclear> {
        let first = || self.options.apps.first().map(|app| app.id);
        let app = id.or_else(first).ok_or_else(|| unclear("the sandbox has no app"))?;
        if self.has_app(app) { Ok(app) } else { Err(unclear(format!("the sandbox has no app {app}"))) }
    }
}
