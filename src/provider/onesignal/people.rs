//! OneSignal's Users API and custom events, one HTTP call per function.
//!
//! The responses to users are classified here; their errors come in the structured envelope.

use std::collections::BTreeSet;

use async_trait::async_trait;
use reqwest::{Method, RequestBuilder};
use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::classify::{self, RawAnswer};
use super::client::{OneSignal, describe, read};
use crate::domain::app::App;
use crate::domain::custom_event::{CustomEvent, CustomEventsAnswer};
use crate::domain::erasure::Identifier;
use crate::domain::event::RecipientLabel;
use crate::domain::user::{Subscription, UserAnswer, UserCall, UserFields};
use crate::provider::{PeopleProvider, ProviderError};

#[async_trait]
impl PeopleProvider for OneSignal {
    async fn write_user(&self, app: &App, call: &UserCall) -> UserAnswer {
        let (method, path, body) = self.user_request(app, call);
        let method = method.parse().unwrap_or(Method::POST);
        let request = match self.request(app, method, &path) {
            Ok(request) => request,
            Err(detail) => return UserAnswer::AppUnusable { detail },
        };
        match answer_to(request, body.as_ref()).await {
            Ok(answer) => classify_user(&answer),
            Err(error) if error.is_builder() => UserAnswer::AppUnusable { detail: describe(&error) },
            Err(error) if error.is_connect() => UserAnswer::NotConnected { detail: describe(&error) },
            Err(error) => UserAnswer::Ambiguous { detail: describe(&error) },
        }
    }

    fn user_request(&self, app: &App, call: &UserCall) -> (&'static str, String, Option<Value>) {
        let users = format!("apps/{}/users", app.id);
        let of = |by: &(String, String)| format!("{users}/by/{}/{}", segment(&by.0), segment(&by.1));
        match call {
            UserCall::Upsert { identity, fields, subscriptions } => {
                let mut body = json!({"identity": identity});
                let properties = properties(fields);
                if !properties.is_empty() {
                    body["properties"] = Value::Object(properties);
                }
                if !subscriptions.is_empty() {
                    body["subscriptions"] = json!(subscriptions);
                }
                ("POST", users, Some(body))
            }
            UserCall::Update { by, fields } => {
                ("PATCH", of(by), Some(json!({"properties": properties(fields)})))
            }
            UserCall::RemoveAlias { by, label } => {
                ("DELETE", format!("{}/identity/{}", of(by), segment(label)), None)
            }
            UserCall::Delete { by } => ("DELETE", of(by), None),
        }
    }

    async fn identifiers_of(
        &self,
        app: &App,
        by: &(String, String),
    ) -> Result<Option<BTreeSet<Identifier>>, ProviderError> {
        let path = format!("apps/{}/users/by/{}/{}", app.id, segment(&by.0), segment(&by.1));
        let request = self.request(app, Method::GET, &path).map_err(ProviderError::Unreachable)?;
        let answer = self.template_call(request, false).await?;
        match answer.status {
            404 => Ok(None),
            200..=299 => {
                let unreadable =
                    || ProviderError::Unreachable("OneSignal's response can't be parsed".to_owned());
                let body = answer.body.map_err(|_| unreadable())?;
                serde_json::from_slice(&body).map(|user| Some(identifiers(&user))).map_err(|_| unreadable())
            }
            status => Err(ProviderError::Refused {
                status,
                detail: classify::detail(answer.body.as_deref().unwrap_or_default()),
            }),
        }
    }

    async fn send_custom_events(&self, app: &App, events: &[CustomEvent]) -> CustomEventsAnswer {
        let path = format!("apps/{}/custom_events", app.id);
        let request = match self.request(app, Method::POST, &path) {
            Ok(request) => request,
            Err(detail) => return CustomEventsAnswer::AppUnusable { detail },
        };
        let body = json!({"events": events.iter().map(custom_event).collect::<Vec<_>>()});
        match answer_to(request, Some(&body)).await {
            Ok(answer) => classify_custom_events(&answer),
            Err(error) if error.is_builder() => CustomEventsAnswer::AppUnusable { detail: describe(&error) },
            Err(error) => CustomEventsAnswer::Unclear { detail: describe(&error) },
        }
    }
}

/// The identifiers in OneSignal's view of a user.
fn identifiers(user: &Value) -> BTreeSet<Identifier> {
    let aliases = user["identity"].as_object().into_iter().flatten();
    let aliases = aliases.filter_map(|(label, id)| Some((label.clone(), id.as_str()?.to_owned())));
    let mut found: BTreeSet<Identifier> = aliases.map(|(label, id)| Identifier { label, id }).collect();
    for subscription in user["subscriptions"].as_array().into_iter().flatten() {
        let text =
            |name: &str| subscription[name].as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        if let (Some(kind), Some(token)) = (text("type"), text("token")) {
            found.insert(Identifier::from(&Subscription { kind, token, enabled: None }));
        }
        found.extend(text("id").map(|id| Identifier { label: "subscription_id".to_owned(), id }));
    }
    found
}

/// A custom event as OneSignal takes it.
pub(super) fn custom_event(event: &CustomEvent) -> Value {
    let mut written = json!({
        "name": event.name,
        "timestamp": event.occurred_at.to_rfc3339_opts(chrono::SecondsFormat::Millis, true),
        "idempotency_key": event.id,
        "properties": event.properties,
    });
    let person = match event.recipient.label {
        RecipientLabel::OnesignalId => "onesignal_id",
        RecipientLabel::ExternalId
        | RecipientLabel::SubscriptionId
        | RecipientLabel::Email
        | RecipientLabel::Phone
        | RecipientLabel::Alias(_) => "external_id",
    };
    written[person] = json!(event.recipient.id);
    written
}

async fn answer_to(request: RequestBuilder, body: Option<&Value>) -> reqwest::Result<RawAnswer> {
    let request = match body {
        Some(body) => request.json(body),
        None => request,
    };
    Ok(read(request.send().await?).await)
}

/// One segment of a path. `+` is not a space there.
fn segment(text: &str) -> String {
    let mut written = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_~.".contains(&byte) {
            written.push(char::from(byte));
        } else {
            use std::fmt::Write;
            let _ = write!(written, "%{byte:02X}");
        }
    }
    written
}

fn properties(fields: &UserFields) -> Map<String, Value> {
    let UserFields { tags, language, time_zone, country, location } = fields;
    let mut properties = Map::new();
    if !tags.is_empty() {
        properties.insert("tags".to_owned(), json!(tags));
    }
    for (name, value) in [("language", language), ("timezone_id", time_zone), ("country", country)] {
        if let Some(value) = value {
            properties.insert(name.to_owned(), json!(value));
        }
    }
    if let Some((latitude, longitude)) = location {
        properties.insert("lat".to_owned(), json!(latitude));
        properties.insert("long".to_owned(), json!(longitude));
    }
    properties
}

/// Classifies the answer to a call about a user.
fn classify_user(answer: &RawAnswer) -> UserAnswer {
    let body = match &answer.body {
        Ok(body) => body.as_slice(),
        // The status says it: the body only adds the user's id.
        Err(_) if (200..300).contains(&answer.status) => b"",
        Err(cause) => return UserAnswer::Ambiguous { detail: cause.clone() },
    };
    let detail = || classify::detail(body);
    match answer.status {
        200..=299 => UserAnswer::Done { onesignal_id: onesignal_id(body) },
        300..=399 => UserAnswer::AppUnusable {
            detail: format!("the base URL answered with a redirect (status {})", answer.status),
        },
        401 | 403 => UserAnswer::AppUnusable { detail: detail() },
        404 => UserAnswer::UnknownUser,
        409 => conflict(body, detail()),
        429 => UserAnswer::RateLimited { retry_after: answer.retry_after },
        408 | 500.. => UserAnswer::Ambiguous { detail: format!("OneSignal answered {}", answer.status) },
        _ => UserAnswer::Refused { detail: detail() },
    }
}

/// Which of OneSignal's conflicts it is, by its code: its texts vary.
fn conflict(body: &[u8], detail: String) -> UserAnswer {
    let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let code = said.pointer("/errors/0/code").and_then(Value::as_str).unwrap_or_default();
    match code {
        "entitlements-tag-limit" => UserAnswer::TagLimit { detail },
        "subscription-1" => UserAnswer::SubscriptionLimit { detail },
        _ if detail.contains("Subscription Limit Exceeded") => UserAnswer::SubscriptionLimit { detail },
        _ => UserAnswer::AliasConflict { detail },
    }
}

fn onesignal_id(body: &[u8]) -> Option<Uuid> {
    let said = serde_json::from_slice::<Value>(body).ok()?;
    said.pointer("/identity/onesignal_id").and_then(Value::as_str).and_then(|id| id.parse().ok())
}

/// Classifies the answer to custom events. Some errors have no body.
fn classify_custom_events(answer: &RawAnswer) -> CustomEventsAnswer {
    let body = answer.body.as_deref().unwrap_or_default();
    let detail = classify::detail(body);
    match answer.status {
        403 if detail.contains("on your plan") => CustomEventsAnswer::NotOnPlan { detail },
        200..=299
            if answer.body.is_err()
                || !(body.is_empty() || serde_json::from_slice::<Value>(body).is_ok()) =>
        {
            CustomEventsAnswer::Unclear { detail: "OneSignal's response can't be parsed".to_owned() }
        }
        200..=299 => CustomEventsAnswer::Accepted { refused: refused_events(body) },
        401 | 403 | 300..=399 => CustomEventsAnswer::AppUnusable { detail },
        429 => CustomEventsAnswer::RateLimited { retry_after: answer.retry_after },
        408 | 500.. => {
            CustomEventsAnswer::Unclear { detail: format!("OneSignal answered {}", answer.status) }
        }
        _ => CustomEventsAnswer::Refused { detail },
    }
}

fn refused_events(body: &[u8]) -> Vec<(Uuid, String)> {
    let said = serde_json::from_slice::<Value>(body).unwrap_or_default();
    let errors = said.get("errors").and_then(Value::as_array);
    let refused = errors.into_iter().flatten().filter_map(|error| {
        let id = error.get("event_id")?.as_str()?.parse().ok()?;
        let title = error.pointer("/error/title").and_then(Value::as_str).unwrap_or("no reason given");
        Some((id, title.to_owned()))
    });
    refused.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> UserAnswer {
        let body = Ok(body.as_bytes().to_vec());
        classify_user(&RawAnswer { status, retry_after: None, is_replay: false, body })
    }

    #[test]
    fn every_answer_to_a_write_of_a_user_is_distinguished() {
        let alias = r#"{"errors":[{"code":"user-2","title":"One or more Aliases claimed by another User"}]}"#;
        let other = r#"{"errors":[{"code":"Conflict","title":"Conflicting aliases"}]}"#;
        let tags = r#"{"errors":[{"code":"entitlements-tag-limit","title":"The tags exceed the limit"}]}"#;
        let many = r#"{"errors":[{"code":"subscription-1","title":"Operation is not permitted"}]}"#;
        for (status, body, expected) in [
            (200, "{}", "done"),
            (202, "", "done"),
            (400, r#"{"errors":[{"code":"user-1","title":"bad"}]}"#, "refused"),
            (401, "", "app_unusable"),
            (403, "", "app_unusable"),
            (302, "", "app_unusable"),
            (404, "", "unknown_user"),
            (409, alias, "alias_conflict"),
            (409, other, "alias_conflict"),
            (409, tags, "tag_limit"),
            (409, many, "subscription_limit"),
            (409, r#"{"errors":["Subscription Limit Exceeded"]}"#, "subscription_limit"),
            (413, "", "refused"),
            (429, "", "rate_limited"),
            (408, "", "ambiguous"),
            (500, "", "ambiguous"),
            (503, "", "ambiguous"),
        ] {
            assert_eq!(answer(status, body).code(), expected, "{status} {body}");
        }
    }

    #[test]
    fn an_id_is_one_segment_of_a_path_whatever_it_contains() {
        for (id, written) in [
            ("user-42", "user-42"),
            ("a/b?c#d%e", "a%2Fb%3Fc%23d%25e"),
            ("a b+c", "a%20b%2Bc"),
            ("Zoë", "Zo%C3%AB"),
        ] {
            assert_eq!(segment(id), written);
        }
    }

    #[test]
    fn only_the_custom_events_that_onesignal_names_are_refused() {
        let id = Uuid::from_u128(7);
        let body =
            format!(r#"{{"errors":[{{"event_id":"{id}","error":{{"code":"x","title":"too big"}}}}]}}"#);
        let raw = |status, body: &str| {
            let body = Ok(body.as_bytes().to_vec());
            classify_custom_events(&RawAnswer { status, retry_after: None, is_replay: false, body })
        };
        assert_eq!(
            raw(202, &body),
            CustomEventsAnswer::Accepted { refused: vec![(id, "too big".to_owned())] }
        );
        assert_eq!(raw(202, ""), CustomEventsAnswer::Accepted { refused: Vec::new() });
        assert!(matches!(raw(400, "{}"), CustomEventsAnswer::Refused { .. }));
        assert!(matches!(raw(401, ""), CustomEventsAnswer::AppUnusable { .. }));
        let plan = r#"{"errors":["This API is not available for applications on your plan."]}"#;
        assert!(matches!(raw(403, plan), CustomEventsAnswer::NotOnPlan { .. }));
        assert!(matches!(raw(503, ""), CustomEventsAnswer::Unclear { .. }));
    }
}
