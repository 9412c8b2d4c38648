//! OneSignal's Users API: users, their aliases, their properties and tags, their subscriptions.
//!
//! Errors come in the structured envelope. Changes of one user are let through once a second, as OneSignal does.

mod aliases;
mod properties;
mod subscriptions;

use std::sync::Arc;

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};
use uuid::Uuid;

use super::Sandbox;
use super::access::{body_of, uuid};
use super::create::random_uuid;
use super::json::{Object, field, says_something};
use super::options::SandboxApp;
use super::people::{BLOCKED_EXTERNAL_IDS, People, Person, made_up_uuid, token_label};
use super::rate::Bucket;
use super::refusal::{Refusal, coded_rate_limited};
use super::state::State;

/// A user as a path names them.
#[derive(Debug, Clone, Copy)]
pub(super) enum By<'a> {
    /// `users/by/{label}/{id}`
    Alias { label: &'a str, id: &'a str },
    /// `subscriptions/{id}`: its owner.
    Subscription(&'a str),
    /// `subscriptions_by_token/{type}/{token}`: its owner.
    Token { kind: &'a str, token: &'a str },
}

/// The result of a change to an implicit user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unknown {
    /// They exist for messages, so they exist here: unless the sandbox is strict.
    MadeUp,
    Refused,
}

/// Why a call on a user ends early: refused, or one too many.
pub(super) enum Stop {
    Refused(Refusal),
    TooMany,
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

impl IntoResponse for Stop {
    fn into_response(self) -> Response {
        match self {
            Self::Refused(refusal) => refusal.into_response(),
            Self::TooMany => coded_rate_limited(1),
        }
    }
}

pub(super) type Answer = Result<Response, Stop>;

impl Sandbox {
    /// `POST /apps/{app}/users`: makes a user, or changes the one that an alias in it names.
    pub(super) fn upsert_user(&self, headers: &HeaderMap, app_id: &str, body: &[u8]) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let request = body_of(body)?;
        let identity = aliases::read(&request)?;
        let mut state = self.state.lock();
        let known = Self::user_of_aliases(state.people(app.id), &identity)?;
        let is_new = known.is_none();
        let mut person = match known {
            Some(person) => {
                self.may_change(&person)?;
                Person::clone(&person)
            }
            None => self.new_person(app.id, &request)?,
        };
        aliases::add(&mut person, &identity)?;
        if let Some(wanted) = field(&request, "properties") {
            properties::change(&mut person, wanted, self.options.plan.tags_per_user)?;
        }
        let mut losers = Vec::new();
        for wanted in subscriptions::list(&request)? {
            losers.extend(subscriptions::add(state.people(app.id), &mut person, &wanted)?);
        }
        let shown = view(&person);
        Self::keep(&mut state, losers.into_iter().chain([person]).collect())?;
        let status = if is_new { StatusCode::CREATED } else { StatusCode::ACCEPTED };
        Ok((status, Json(shown)).into_response())
    }

    /// `GET /apps/{app}/users/by/{label}/{id}`
    pub(super) fn view_user(&self, headers: &HeaderMap, app_id: &str, by: By<'_>) -> Answer {
        let app = self.app_of_path(headers, app_id)?;
        if !self.admits_view(app.id) {
            return Err(Stop::TooMany);
        }
        let person = find(self.state.lock().people(app.id), by)?;
        Ok(Json(view(&person)).into_response())
    }

    /// `PATCH /apps/{app}/users/by/{label}/{id}`
    pub(super) fn update_user(&self, headers: &HeaderMap, app_id: &str, by: By<'_>, body: &[u8]) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let request = body_of(body)?;
        let nothing = json!({});
        let wanted = field(&request, "properties").unwrap_or(&nothing);
        self.change_user(app, by, Unknown::MadeUp, |_, person| {
            properties::change(person, wanted, self.options.plan.tags_per_user)?;
            if let Some(deltas) = field(&request, "deltas") {
                properties::add_deltas(person, deltas)?;
            }
            Ok(None)
        })?;
        // OneSignal returns the requested values, and applies them later.
        Ok((StatusCode::ACCEPTED, Json(json!({"properties": wanted}))).into_response())
    }

    /// `DELETE /apps/{app}/users/by/{label}/{id}`: the user, their aliases and subscriptions.
    pub(super) fn delete_user(&self, headers: &HeaderMap, app_id: &str, by: By<'_>) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let mut state = self.state.lock();
        let person = find(state.people(app.id), by)?;
        self.may_change(&person)?;
        state.delete_person(app.id, &person).map_err(|error| Refusal::not_kept(&error))?;
        Ok((StatusCode::ACCEPTED, Json(json!({"identity": person.identity()}))).into_response())
    }

    /// Changes one user and keeps them; with them the users who lost something by it, whom `change` gives back.
    fn change_user(
        &self,
        app: &SandboxApp,
        by: By<'_>,
        unknown: Unknown,
        change: impl FnOnce(&People, &mut Person) -> Result<Option<Person>, Refusal>,
    ) -> Result<Person, Stop> {
        let mut state = self.state.lock();
        let people = state.people(app.id);
        let found = find(people, by);
        let found = match by {
            By::Alias { label, id } if found.is_err() && unknown == Unknown::MadeUp => {
                self.made_up(people, app, label, id).map_or(found, Ok)
            }
            By::Alias { .. } | By::Subscription(_) | By::Token { .. } => found,
        }?;
        self.may_change(&found)?;
        let mut person = Person::clone(&found);
        let loser = change(people, &mut person)?;
        Self::keep(&mut state, loser.into_iter().chain([person.clone()]).collect())?;
        Ok(person)
    }

    /// The app of a call that writes, within its thousand a second.
    fn writing_app(&self, headers: &HeaderMap, app_id: &str) -> Result<&SandboxApp, Stop> {
        let app = self.app_of_path(headers, app_id)?;
        let within = self.admits_call(Bucket::Users, app.id, self.options.user_calls_per_second);
        if within { Ok(app) } else { Err(Stop::TooMany) }
    }

    /// Lets a user's changes through once a second.
    fn may_change(&self, person: &Person) -> Result<(), Stop> {
        let id = person.onesignal_id.unwrap_or_default();
        let within = self.admits_call(Bucket::OneUser, id, self.options.calls_per_user_per_second);
        if within { Ok(()) } else { Err(Stop::TooMany) }
    }

    /// The user that one of the aliases names. They may not name two.
    fn user_of_aliases(
        people: &People,
        identity: &[(String, String)],
    ) -> Result<Option<Arc<Person>>, Refusal> {
        let mut found: Option<Arc<Person>> = None;
        for (label, id) in identity {
            let Some(person) = people.find(label, id) else { continue };
            if found.as_ref().is_some_and(|first| first.onesignal_id != person.onesignal_id) {
                return Err(Refusal::conflicting_aliases(label, id));
            }
            found.get_or_insert_with(|| person.clone());
        }
        Ok(found)
    }

    fn new_person(&self, app: Uuid, request: &Object) -> Result<Person, Refusal> {
        if !says_something(request, "identity") && !says_something(request, "subscriptions") {
            return Err(Refusal::coded(
                StatusCode::BAD_REQUEST,
                "user-1",
                "A user needs an identity or a subscription",
            ));
        }
        Ok(Person {
            app_id: Some(app),
            onesignal_id: Some(random_uuid()),
            subscriptions: Some(Vec::new()),
            // Anyone who was reached before anybody made them known is reached afterwards, too.
            everywhere: !self.options.strict_users && field(request, "subscriptions").is_none(),
            created_at: Some(self.now()),
            ..Person::default()
        })
    }

    /// An implicit user, which exists for messages without having been created.
    fn made_up(&self, people: &People, app: &SandboxApp, label: &str, id: &str) -> Option<Arc<Person>> {
        let may_be = !self.options.strict_users && !people.is_gone(label, id);
        if !may_be || label != "external_id" || BLOCKED_EXTERNAL_IDS.contains(&id) {
            return None;
        }
        Some(Arc::new(Person {
            app_id: Some(app.id),
            external_id: Some(id.to_owned()),
            onesignal_id: Some(made_up_uuid("onesignal_id", id)),
            created_at: Some(self.now()),
            ..Person::default()
        }))
    }

    fn keep(state: &mut State, people: Vec<Person>) -> Result<(), Refusal> {
        state.put_people(people).map_err(|error| Refusal::not_kept(&error))
    }
}

fn no_user() -> Refusal {
    Refusal::coded(StatusCode::NOT_FOUND, "user-0", "User not found")
}

fn no_subscription() -> Refusal {
    Refusal::coded(StatusCode::NOT_FOUND, "subscription-0", "Subscription not found")
}

fn find(people: &People, by: By<'_>) -> Result<Arc<Person>, Refusal> {
    match by {
        By::Alias { label: "onesignal_id", id } if uuid(id).is_none() => {
            Err(Refusal::invalid_uuid("onesignal_id", id))
        }
        By::Alias { label, id } => people.find(label, id).cloned().ok_or_else(no_user),
        By::Subscription(id) => {
            let id = uuid(id).ok_or_else(|| Refusal::invalid_uuid("subscription_id", id))?;
            people.find("subscription_id", &id.to_string()).cloned().ok_or_else(no_subscription)
        }
        By::Token { kind, token } => {
            let kind = subscriptions::kind(kind)?;
            people.find(&token_label(kind), token).cloned().ok_or_else(no_subscription)
        }
    }
}

/// The user as the API shows it.
fn view(person: &Person) -> Value {
    let own = person.own_subscriptions().iter().map(subscriptions::view);
    json!({
        "identity": person.identity(),
        "properties": properties::view(person),
        "subscriptions": own.collect::<Vec<_>>(),
    })
}
