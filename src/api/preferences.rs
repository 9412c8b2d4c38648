//! The channels on which a person wants no messages.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::HeaderMap;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::parameters::PathTexts;
use super::problem::{Code, FieldError, Problem};
use super::{Api, json_body};
use crate::access::Use;
use crate::domain::channel::Channel;
use crate::domain::event::{Recipient, RecipientError};
use crate::people::preferences::PreferenceError;

/// Maximum size of a request.
const MAX_BYTES: usize = 16 * 1024;

/// Channels, each with whether the person wants messages on it. Absent ones are left alone.
#[derive(Debug, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(super) struct PreferencesRequest {
    channels: BTreeMap<String, bool>,
}

/// Channels, each with whether the person wants messages on it.
#[derive(Debug, Serialize, utoipa::ToSchema)]
pub(super) struct PreferencesBody {
    channels: BTreeMap<&'static str, bool>,
}

/// Shows on which channels a person wants messages. Someone of whom Herald knows nothing wants all.
#[utoipa::path(
    get, path = "/v1/users/{label}/{id}/preferences", tag = "users",
    params(("label" = String, Path, description = "`external_id`, `email`, `phone`, or an alias label"),
        ("id" = String, Path)),
    responses(
        (status = 200, description = "The preferences", body = PreferencesBody),
        (status = 404, description = "Nobody can have this label or id"),
    )
)]
pub(super) async fn get_preferences(
    State(api): State<Arc<Api>>,
    PathTexts(label, id): PathTexts,
    headers: HeaderMap,
) -> Result<Json<PreferencesBody>, Problem> {
    api.allow(&headers, Use::ReadUsers).await?;
    let nobody =
        |error: RecipientError| Problem::new(Code::NotFound, format!("there is no such user: {error}"));
    let who = Recipient::parse(&label, &id).map_err(nobody)?;
    Ok(Json(api.preferences_of(&who).await?))
}

/// Opts a person out of channels (`false`), or back in (`true`). It takes effect at once, for pending deliveries too.
#[utoipa::path(
    put, path = "/v1/users/{label}/{id}/preferences", tag = "users", request_body = PreferencesRequest,
    params(("label" = String, Path, description = "`external_id`, `email`, `phone`, or an alias label"),
        ("id" = String, Path)),
    responses((status = 200, description = "The preferences now", body = PreferencesBody))
)]
pub(super) async fn put_preferences(
    State(api): State<Arc<Api>>,
    PathTexts(label, id): PathTexts,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<PreferencesBody>, Problem> {
    let identity = api.allow(&headers, Use::ChangeUsers).await?;
    let who = named(&label, &id)?;
    let request: PreferencesRequest = json_body::read(&headers, body, MAX_BYTES).await?;
    let mut opt_outs = BTreeMap::new();
    for (name, wants) in &request.channels {
        let channel: Channel = name.parse().map_err(|_| {
            let error =
                FieldError::new(format!("/channels/{name}"), "invalid", format!("`{name}` is not a channel"));
            Problem::fields(Code::InvalidFields, vec![error.hint("channels are push, email and sms")])
        })?;
        opt_outs.insert(channel, !wants);
    }
    let changed = api.people.set_opt_outs(&who, &opt_outs).await?;
    if changed.is_changed {
        let after = json!({"channels": request.channels});
        let about = ("user", changed.user.to_string());
        api.publisher
            .record_change((about.0, &about.1), "preferences", Some(after), identity.by("")?)
            .await?;
    }
    Ok(Json(api.preferences_of(&who).await?))
}

fn named(label: &str, id: &str) -> Result<Recipient, Problem> {
    Recipient::parse(label, id).map_err(|error| {
        Problem::fields(Code::InvalidFields, vec![FieldError::new("", "bad_user", error.to_string())])
    })
}

impl Api {
    async fn preferences_of(&self, who: &Recipient) -> Result<PreferencesBody, Problem> {
        let facts = self.store.facts(std::slice::from_ref(who)).await?;
        let is_out =
            |channel: Channel| facts.of(who).is_some_and(|facts| facts.opted_out.contains_key(&channel));
        let channels = Channel::ALL.into_iter().map(|channel| (channel.as_str(), !is_out(channel)));
        Ok(PreferencesBody { channels: channels.collect() })
    }
}

impl From<PreferenceError> for Problem {
    fn from(error: PreferenceError) -> Self {
        match error {
            PreferenceError::Erased => Self::new(Code::Erased, error.to_string()),
            PreferenceError::Store(error) => error.into(),
        }
    }
}
