//! The aliases of a user: `…/identity`.

use axum::Json;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

use super::super::Sandbox;
use super::super::access::{body_of, uuid};
use super::super::json::{Object, field};
use super::super::people::{BLOCKED_EXTERNAL_IDS, People, Person};
use super::super::refusal::Refusal;
use super::{Answer, By, Unknown, find};

const MAX: usize = 20;
const LABEL_LIMIT: usize = 128;

impl Sandbox {
    /// `GET …/users/by/{label}/{id}/identity`, `GET …/subscriptions/{id}/user/identity`
    pub(in crate::sandbox) fn view_identity(&self, headers: &HeaderMap, app_id: &str, by: By<'_>) -> Answer {
        let app = self.app_of_path(headers, app_id)?;
        let person = find(self.state.lock().people(app.id), by)?;
        Ok(shown(&person))
    }

    /// `PATCH …/users/by/{label}/{id}/identity`, `PATCH …/subscriptions/{id}/user/identity`
    pub(in crate::sandbox) fn update_identity(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        by: By<'_>,
        body: &[u8],
    ) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let wanted = read(&body_of(body)?)?;
        if wanted.is_empty() {
            return Err(refused("identity must name at least one alias").into());
        }
        let person = self.change_user(app, by, Unknown::MadeUp, |people, person| {
            claim(people, person, &wanted).map(|()| None)
        })?;
        Ok(shown(&person))
    }

    /// `DELETE …/users/by/{label}/{id}/identity/{label}`
    pub(in crate::sandbox) fn delete_alias(
        &self,
        headers: &HeaderMap,
        app_id: &str,
        by: By<'_>,
        label: &str,
    ) -> Answer {
        let app = self.writing_app(headers, app_id)?;
        let person = self.change_user(app, by, Unknown::Refused, |_, person| {
            let removed = match label {
                "onesignal_id" => return Err(refused("The onesignal_id of a user can not be removed")),
                "external_id" => person.external_id.take(),
                _ => person.aliases.remove(label),
            };
            let missing = || Refusal::coded(StatusCode::NOT_FOUND, "user-3", "Alias not found");
            removed.map(|_| None).ok_or_else(missing)
        })?;
        Ok(shown(&person))
    }
}

/// The aliases in a body, checked; none when there is no `identity`.
pub(super) fn read(request: &Object) -> Result<Vec<(String, String)>, Refusal> {
    let Some(identity) = field(request, "identity") else { return Ok(Vec::new()) };
    let aliases = identity.as_object().ok_or_else(|| refused("identity must be an object of aliases"))?;
    let mut read = Vec::with_capacity(aliases.len());
    for (label, id) in aliases {
        let text = id.as_str().filter(|id| !id.is_empty() && id.chars().count() <= LABEL_LIMIT);
        let text = text.ok_or_else(|| refused(&format!("The alias {label} must be a text")))?;
        if label.is_empty() || label.chars().count() > LABEL_LIMIT {
            return Err(refused("An alias label must be a text of 1 to 128 characters"));
        }
        if label == "external_id" && BLOCKED_EXTERNAL_IDS.contains(&text) {
            return Err(refused(&format!("The external_id {text} is not allowed")));
        }
        if label == "onesignal_id" && uuid(text).is_none() {
            return Err(Refusal::invalid_uuid("onesignal_id", text));
        }
        read.push((label.clone(), text.to_owned()));
    }
    Ok(read)
}

/// Gives the person aliases, none of which another one may have.
fn claim(people: &People, person: &mut Person, wanted: &[(String, String)]) -> Result<(), Refusal> {
    for (label, id) in wanted {
        let holder = people.find(label, id);
        if holder.is_some_and(|holder| holder.onesignal_id != person.onesignal_id) {
            return Err(Refusal::claimed_alias(label, id));
        }
    }
    add(person, wanted)
}

/// Gives the person these aliases.
pub(super) fn add(person: &mut Person, wanted: &[(String, String)]) -> Result<(), Refusal> {
    for (label, id) in wanted {
        match label.as_str() {
            "external_id" => person.external_id = Some(id.clone()),
            "onesignal_id" => {}
            _ => {
                person.aliases.insert(label.clone(), id.clone());
            }
        }
    }
    if person.aliases.len() > MAX {
        return Err(refused(&format!("A user can have {MAX} aliases at most")));
    }
    Ok(())
}

fn shown(person: &Person) -> Response {
    Json(json!({"identity": person.identity()})).into_response()
}

fn refused(title: &str) -> Refusal {
    Refusal::coded(StatusCode::BAD_REQUEST, "user-1", title)
}
