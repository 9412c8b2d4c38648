//! Where a user is reached: `…/subscriptions`. A token belongs to one user; under another one, it moves.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::IntoResponse;
use serde_json::{Value, json};

use super::super::Sandbox;
use super::super::access::{body_of, uuid};
use super::super::create::random_uuid;
use super::super::json::{Object, field};
use super::super::people::{Kind, People, Person, Subscription, token_label};
use super::super::refusal::Refusal;
use super::{Answer, By, Unknown, aliases, find};

/// A 21st takes the place of the oldest.
const MAX: usize = 20;
const OFF_BY_API: i64 = -31;

impl Sandbox {
    /// `POST …/users/by/{label}/{id}/subscriptions`: 201, or 202 when the token was known and moves.
    pub(in crate::sandbox) fn create_subscription(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        by: By<'_>,
        body: &[u8],
    ) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let wanted = Wanted::read(&inner(body)?, true)?;
        let name = wanted.token_name();
        let mut known = false;
        let person = self.change_user(app, by, Unknown::MadeUp, |people, person| {
            known = name.as_ref().is_some_and(|(label, id)| people.find(label, id).is_some());
            add(people, person, &wanted)
        })?;
        let made = person.own_subscriptions().iter().rev().find(|own| own.token_name() == name).map(view);
        let status = if known { StatusCode::ACCEPTED } else { StatusCode::CREATED };
        Ok((status, Json(json!({"subscription": made}))).into_response())
    }

    /// `PATCH /apps/{app}/subscriptions/{id}`: 200; `PATCH /apps/{app}/subscriptions_by_token/{type}/{token}`: 202.
    pub(in crate::sandbox) fn update_subscription(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        by: By<'_>,
        body: &[u8],
    ) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let wanted = Wanted::read(&inner(body)?, false)?;
        self.change_user(app, by, Unknown::Refused, |_, person| {
            for own in person.subscriptions_mut().iter_mut().filter(|own| is_named(own, by)) {
                wanted.apply(own);
            }
            Ok(None)
        })?;
        let status = if matches!(by, By::Token { .. }) { StatusCode::ACCEPTED } else { StatusCode::OK };
        Ok((status, Json(json!({}))).into_response())
    }

    /// `DELETE /apps/{app}/subscriptions/{id}`
    pub(in crate::sandbox) fn delete_subscription(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        by: By<'_>,
    ) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        self.change_user(app, by, Unknown::Refused, |_, person| {
            person.subscriptions_mut().retain(|own| !is_named(own, by));
            Ok(None)
        })?;
        Ok((StatusCode::ACCEPTED, Json(json!({}))).into_response())
    }

    /// `PATCH /apps/{app}/subscriptions/{id}/owner`: moves it to the user whom one alias names.
    pub(in crate::sandbox) fn move_subscription(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        by: By<'_>,
        body: &[u8],
    ) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let identity = aliases::read(&body_of(body)?)?;
        let [(label, id)] = identity.as_slice() else {
            return Err(refused("identity must name exactly one alias").into());
        };
        let to = self.change_user(app, By::Alias { label, id }, Unknown::Refused, |people, to| {
            let from = find(people, by)?;
            if from.onesignal_id == to.onesignal_id {
                return Ok(None);
            }
            let mut from = Person::clone(&from);
            for moved in from.subscriptions_mut().extract_if(.., |own| is_named(own, by)) {
                push(to, moved);
            }
            Ok(Some(from))
        })?;
        Ok(Json(json!({"identity": to.identity()})).into_response())
    }
}

/// Whether a path means this one of its owner's subscriptions.
fn is_named(own: &Subscription, by: By<'_>) -> bool {
    match by {
        By::Subscription(id) => own.id.is_some() && own.id == uuid(id),
        By::Token { kind, token } => own.kind.name() == kind && own.token.as_deref() == Some(token),
        By::Alias { .. } => false,
    }
}

/// Reads a type as OneSignal spells it.
pub(super) fn kind(text: &str) -> Result<Kind, Refusal> {
    Kind::parse(text).ok_or_else(|| refused("Invalid subscription type"))
}

/// A subscription as a request describes it.
pub(super) struct Wanted {
    kind: Option<Kind>,
    token: Option<String>,
    enabled: Option<bool>,
    notification_types: Option<i64>,
    device: Object,
}

impl Wanted {
    /// Reads a `subscription` object; a new one needs its type and token.
    fn read(object: &Object, is_new: bool) -> Result<Self, Refusal> {
        let kind = match field(object, "type") {
            None => None,
            Some(name) => Some(
                name.as_str().and_then(Kind::parse).ok_or_else(|| refused("Invalid subscription type"))?,
            ),
        };
        let token = match field(object, "token") {
            None => None,
            Some(token) => Some(
                token
                    .as_str()
                    .filter(|token| !token.trim().is_empty())
                    .ok_or_else(|| refused("token must be a text"))?
                    .to_owned(),
            ),
        };
        if is_new && (kind.is_none() || token.is_none()) {
            return Err(refused("A subscription needs type and token"));
        }
        let is_mail = |token: &str| token.contains('@') && !token.contains(char::is_whitespace);
        if kind == Some(Kind::Email) && token.as_deref().is_some_and(|token| !is_mail(token)) {
            return Err(refused("token is not a valid email address"));
        }
        if kind == Some(Kind::Sms) && token.as_deref().is_some_and(|token| !token.starts_with('+')) {
            return Err(refused("token is not a valid phone number"));
        }
        let known = ["type", "token", "enabled", "notification_types", "id"];
        let device =
            object.iter().filter(|(name, value)| !known.contains(&name.as_str()) && !value.is_null());
        Ok(Self {
            kind,
            token,
            enabled: field(object, "enabled").and_then(Value::as_bool),
            notification_types: field(object, "notification_types").and_then(Value::as_i64),
            device: device.map(|(name, value)| (name.clone(), value.clone())).collect(),
        })
    }

    fn token_name(&self) -> Option<(String, String)> {
        Some((token_label(self.kind?), self.token.clone()?))
    }

    fn apply(&self, own: &mut Subscription) {
        if let Some(token) = &self.token {
            own.token = Some(token.clone());
        }
        if let Some(types) = self.notification_types {
            own.notification_types = Some(types);
            own.enabled = types > 0;
        }
        if let Some(enabled) = self.enabled {
            own.enabled = enabled;
            own.notification_types = Some(if enabled { 1 } else { OFF_BY_API });
        }
        own.device.extend(self.device.clone());
    }
}

/// The subscriptions of a new user.
pub(super) fn list(request: &Object) -> Result<Vec<Wanted>, Refusal> {
    let Some(wanted) = field(request, "subscriptions") else { return Ok(Vec::new()) };
    let wanted = wanted.as_array().ok_or_else(|| refused("subscriptions must be a list"))?;
    let objects = wanted
        .iter()
        .map(|one| one.as_object().ok_or_else(|| refused("subscriptions must be a list of objects")));
    objects.map(|object| Wanted::read(object?, true)).collect()
}

/// Adds a subscription to a user; returns the previous owner of the token, without it.
pub(super) fn add(people: &People, person: &mut Person, wanted: &Wanted) -> Result<Option<Person>, Refusal> {
    let (Some(kind), Some((label, token))) = (wanted.kind, wanted.token_name()) else {
        return Err(refused("A subscription needs type and token"));
    };
    let is_it = |own: &Subscription| own.kind == kind && own.token.as_deref() == Some(token.as_str());
    if let Some(own) = person.subscriptions_mut().iter_mut().find(|own| is_it(own)) {
        wanted.apply(own);
        return Ok(None);
    }
    let holder = people.find(&label, &token).filter(|holder| holder.onesignal_id != person.onesignal_id);
    let mut loser = holder.map(|holder| Person::clone(holder));
    let moved =
        loser.as_mut().and_then(|loser| loser.subscriptions_mut().extract_if(.., |own| is_it(own)).next());
    let mut subscription = moved.unwrap_or_else(|| Subscription {
        kind,
        token: Some(token.clone()),
        enabled: true,
        id: Some(random_uuid()),
        notification_types: None,
        device: Object::new(),
    });
    wanted.apply(&mut subscription);
    push(person, subscription);
    Ok(loser)
}

fn push(person: &mut Person, subscription: Subscription) {
    let own = person.subscriptions_mut();
    own.push(subscription);
    if own.len() > MAX {
        own.remove(0);
    }
}

/// The subscription as the API shows it.
pub(super) fn view(own: &Subscription) -> Value {
    let types = own.notification_types.unwrap_or(if own.enabled { 1 } else { OFF_BY_API });
    let mut shown = own.device.clone();
    for (name, value) in [
        ("id", json!(own.id)),
        ("type", json!(own.kind)),
        ("token", json!(own.token.as_deref().unwrap_or_default())),
        ("enabled", json!(own.enabled)),
        ("notification_types", json!(types)),
    ] {
        shown.insert(name.to_owned(), value);
    }
    Value::Object(shown)
}

fn inner(body: &[u8]) -> Result<Object, Refusal> {
    let request = body_of(body)?;
    let inner = field(&request, "subscription").and_then(Value::as_object).cloned();
    inner.ok_or_else(|| refused("subscription must be an object"))
}

fn refused(title: &str) -> Refusal {
    Refusal::coded(StatusCode::BAD_REQUEST, "subscription-2", title)
}
