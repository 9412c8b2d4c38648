//! OneSignal's JSON format.

use std::collections::BTreeMap;

use chrono::SecondsFormat;
use serde_json::{Map, Value, json};

use crate::domain::answer::MessageStats;
use crate::domain::app::AppId;
use crate::domain::batch::{Batch, BatchContent, Targets};
use crate::domain::channel::Channel;
use crate::domain::clock::Timestamp;
use crate::domain::template::{Fields, fields_of};
use crate::provider::{RemoteTemplate, TemplatePage, TemplateUpload};

/// OneSignal's maximum `ttl`, in seconds.
const MAX_TTL_S: i64 = 2_419_200;

/// The body of Create message.
pub fn create_message(batch: &Batch, now: Timestamp) -> Value {
    let content = &batch.content;
    let mut body = content.options.clone();
    body.insert("app_id".into(), json!(content.app.to_string()));
    body.insert("idempotency_key".into(), json!(batch.idempotency_key));
    if let Some(template) = &content.template_id {
        body.insert("template_id".into(), json!(template));
    }
    if let Some(custom_data) = &content.custom_data {
        body.insert("custom_data".into(), custom_data.clone());
    }
    if let Some(after) = content.send_after {
        body.insert("send_after".into(), json!(after.to_rfc3339_opts(SecondsFormat::Secs, false)));
    }
    insert_targets(&mut body, content);
    insert_fields(&mut body, content.channel, |name| content.fields.get(name));
    if content.channel == Channel::Push {
        // The `ttl` starts when the message is sent.
        let sent_at = content.send_after.map_or(now, |after| after.max(now));
        let left = (batch.expires_at - sent_at).num_seconds().clamp(0, MAX_TTL_S);
        body.insert("ttl".into(), json!(left));
    }
    Value::Object(body)
}

fn insert_targets(body: &mut Map<String, Value>, content: &BatchContent) {
    let channel = json!(content.channel.as_str());
    match &content.targets {
        Targets::Aliases { label, ids } => {
            body.insert("include_aliases".into(), json!({ label.as_str(): ids }));
            body.insert("target_channel".into(), channel);
        }
        Targets::Subscriptions(ids) => insert(body, "include_subscription_ids", ids),
        Targets::Emails(ids) => insert(body, "email_to", ids),
        Targets::Phones(ids) => insert(body, "include_phone_numbers", ids),
        Targets::Segments { included, excluded } => {
            insert(body, "included_segments", included);
            if !excluded.is_empty() {
                insert(body, "excluded_segments", excluded);
            }
            body.insert("target_channel".into(), channel);
        }
        Targets::Filters(filters) => {
            body.insert("filters".into(), json!(filters));
            body.insert("target_channel".into(), channel);
        }
    }
}

fn insert(body: &mut Map<String, Value>, name: &str, ids: &[String]) {
    body.insert(name.into(), json!(ids));
}

/// Adds the channel's fields with OneSignal's names; fields with a language are under `en`.
fn insert_fields<'a>(
    body: &mut Map<String, Value>,
    channel: Channel,
    text_of: impl Fn(&str) -> Option<&'a String>,
) {
    for field in fields_of(channel) {
        let Some(text) = text_of(field.name) else { continue };
        let value = if field.by_language { json!({ "en": text }) } else { json!(text) };
        body.insert(field.wire.into(), value);
    }
}

/// The body of Create template.
pub fn create_template(app: AppId, upload: &TemplateUpload) -> Value {
    let mut body = Map::new();
    body.insert("app_id".into(), json!(app.to_string()));
    body.insert("name".into(), json!(upload.name));
    match upload.channel {
        Channel::Push => {}
        Channel::Email => {
            body.insert("isEmail".into(), json!(true));
        }
        Channel::Sms => {
            body.insert("isSMS".into(), json!(true));
        }
    }
    let english = upload.contents.get("en");
    for field in fields_of(upload.channel).iter().filter(|field| field.in_template) {
        let texts = upload.contents.iter();
        let texts: BTreeMap<&String, &String> =
            texts.filter_map(|(language, fields)| Some((language, fields.get(field.name)?))).collect();
        if field.by_language && !texts.is_empty() {
            body.insert(field.wire.into(), json!(texts));
        } else if let Some(text) = english.and_then(|fields| fields.get(field.name)) {
            body.insert(field.wire.into(), json!(text));
        }
    }
    Value::Object(body)
}

/// The body of Update template: fields that the upload doesn't have are cleared.
pub fn update_template(app: AppId, upload: &TemplateUpload) -> Value {
    let mut body = create_template(app, upload);
    for field in fields_of(upload.channel).iter().filter(|field| field.in_template) {
        if !upload.contents.values().any(|fields| fields.contains_key(field.name)) {
            body[field.wire] = Value::Null;
        }
    }
    body
}

/// The statistics from View message. Missing or null counts are `None`.
pub fn message_stats(shown: &Value) -> MessageStats {
    let count = |name: &str| shown.get(name).and_then(Value::as_u64);
    MessageStats {
        successful: count("successful").unwrap_or_default(),
        failed: count("failed").unwrap_or_default(),
        errored: count("errored").unwrap_or_default(),
        clicked: count("converted").unwrap_or_default(),
        received: count("received"),
        remaining: count("remaining"),
        is_cancelled: shown.get("canceled") == Some(&Value::Bool(true)),
    }
}

/// A page of the list of templates; `full` is how many a full one has.
pub fn template_page(list: &Value, full: usize) -> TemplatePage {
    let templates = list.get("templates").and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    let text = |template: &Value, key: &str| template.get(key).and_then(Value::as_str).map(str::to_owned);
    TemplatePage {
        templates: templates.iter().filter_map(|t| Some((text(t, "id")?, text(t, "name")?))).collect(),
        has_more: templates.len() >= full,
    }
}

/// Parses a template from OneSignal; `None` if it is invalid.
pub fn template(shown: &Value) -> Option<RemoteTemplate> {
    let content = shown.get("content").and_then(Value::as_object)?;
    let flag = |name: &str| content.get(name) == Some(&Value::Bool(true));
    let named = shown.get("channel").and_then(Value::as_str).map(str::to_ascii_lowercase);
    let channel = match named.as_deref() {
        Some("email") => Channel::Email,
        Some("sms") => Channel::Sms,
        Some("push") => Channel::Push,
        _ if flag("isEmail") => Channel::Email,
        _ if flag("isSMS") => Channel::Sms,
        _ => Channel::Push,
    };
    let mut contents: BTreeMap<String, Fields> = BTreeMap::new();
    let mut others = Vec::new();
    for (wire, value) in content {
        let field = fields_of(channel).iter().find(|field| field.wire == wire);
        match (field, value) {
            (Some(field), Value::Object(languages)) => {
                for (language, text) in languages {
                    if let Some(text) = text.as_str().filter(|text| !text.is_empty()) {
                        let fields = contents.entry(language.clone()).or_default();
                        fields.insert(field.name.to_owned(), text.to_owned());
                    }
                }
            }
            (Some(field), Value::String(text)) if !text.is_empty() => {
                let fields = contents.entry("en".to_owned()).or_default();
                fields.insert(field.name.to_owned(), text.clone());
            }
            (None, value) if says_something(value) => others.push(wire.clone()),
            (Some(_) | None, _) => {}
        }
    }
    let name = shown.get("name").and_then(Value::as_str).unwrap_or_default().to_owned();
    Some(RemoteTemplate { name, channel, contents, others })
}

fn says_something(value: &Value) -> bool {
    match value {
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
        Value::String(text) => !text.is_empty(),
        Value::Array(list) => !list.is_empty(),
        Value::Object(members) => members.values().any(says_something),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use uuid::Uuid;

    use super::*;
    use crate::domain::app::App;
    use crate::domain::channel::Priority;
    use crate::domain::id::{BatchId, TypedId};

    fn batch(channel: Channel, targets: Targets) -> Batch {
        let app = AppId(Uuid::from_u128(1));
        Batch {
            id: BatchId::from_uuid(Uuid::from_u128(2)),
            app: Arc::new(App {
                id: app,
                name: "shop".into(),
                base_url: "http://localhost".parse().unwrap(),
                api_key: "k".into(),
                is_sandbox: true,
                is_default: true,
                calls_per_second: 150,
                subscriptions: None,
                paused: None,
                alias_labels: None,
            }),
            idempotency_key: Uuid::from_u128(3),
            content: Arc::new(BatchContent {
                app,
                channel,
                targets,
                template_id: Some("T".into()),
                fields: BTreeMap::from([("url".to_owned(), "https://shop.example".to_owned())]),
                custom_data: Some(json!({"all": {"a": "1"}})),
                options: Map::from_iter([("priority".to_owned(), json!(10))]),
                send_after: None,
            }),
            priority: Priority::Normal,
            expires_at: "2026-11-23T10:10:00Z".parse().unwrap(),
            traceparent: None,
            holds_secrets: false,
        }
    }

    fn now() -> Timestamp {
        "2026-11-23T10:00:00Z".parse().unwrap()
    }

    #[test]
    fn people_by_alias_are_named_with_their_channel_and_push_lives_no_longer_than_the_event() {
        let targets = Targets::Aliases { label: "external_id".into(), ids: vec!["ann".into()] };
        let body = create_message(&batch(Channel::Push, targets), now());
        assert_eq!(body["include_aliases"], json!({"external_id": ["ann"]}));
        assert_eq!(body["target_channel"], "push");
        assert_eq!(body["ttl"], 600);
        assert_eq!(body["url"], "https://shop.example");
        assert_eq!(body["priority"], 10);
        assert_eq!(body["idempotency_key"], json!(Uuid::from_u128(3)));
    }

    #[test]
    fn a_message_for_later_names_its_time_with_an_offset_and_lives_from_then_on() {
        let mut batch = batch(Channel::Push, Targets::Subscriptions(vec!["s".into()]));
        let mut content = (*batch.content).clone();
        content.send_after = Some("2026-11-24T08:00:00Z".parse().unwrap());
        batch.content = Arc::new(content);
        batch.expires_at = "2026-11-24T09:00:00Z".parse().unwrap();
        let body = create_message(&batch, now());
        assert_eq!((&body["send_after"], &body["ttl"]), (&json!("2026-11-24T08:00:00+00:00"), &json!(3_600)));
    }

    #[test]
    fn exactly_one_targeting_method_is_used() {
        let methods = [
            "include_aliases",
            "include_subscription_ids",
            "email_to",
            "include_phone_numbers",
            "included_segments",
        ];
        for targets in [
            Targets::Emails(vec!["a@shop.example".into()]),
            Targets::Phones(vec!["+4915112345678".into()]),
            Targets::Subscriptions(vec![Uuid::from_u128(5).to_string()]),
            Targets::Segments { included: vec!["All".into()], excluded: vec![] },
        ] {
            let body = create_message(&batch(Channel::Email, targets), now());
            assert_eq!(methods.iter().filter(|m| body.get(**m).is_some()).count(), 1, "{body}");
            assert!(body.get("ttl").is_none(), "only push has a ttl");
        }
    }

    #[test]
    fn a_template_holds_what_the_templates_api_can_and_says_its_channel() {
        let fields = BTreeMap::from([
            ("subject".to_owned(), "S".to_owned()),
            ("body".to_owned(), "B".to_owned()),
            ("preheader".to_owned(), "P".to_owned()),
        ]);
        let contents = BTreeMap::from([("en".to_owned(), fields)]);
        let upload = TemplateUpload { name: "herald/x@1/en".into(), channel: Channel::Email, contents };
        let body = create_template(AppId(Uuid::from_u128(1)), &upload);
        assert_eq!((&body["isEmail"], &body["email_subject"]), (&json!(true), &json!("S")));
        assert!(body.get("email_preheader").is_none(), "{body}");
    }
    #[test]
    fn a_template_is_read_as_it_was_made_and_what_herald_has_no_field_for_is_named() {
        let fields = BTreeMap::from([
            ("contents".to_owned(), "C".to_owned()),
            ("headings".to_owned(), "H".to_owned()),
        ]);
        let contents = BTreeMap::from([("en".to_owned(), fields.clone())]);
        let upload = TemplateUpload {
            name: "herald/x@1/en".into(),
            channel: Channel::Push,
            contents: contents.clone(),
        };
        let mut content = create_template(AppId(Uuid::from_u128(1)), &upload);
        content["contents"]["de"] = json!("D");
        content["subtitle"] = Value::Null;
        content["email_bcc"] = json!(["a@shop.example"]);
        for key in ["app_id", "name"] {
            content.as_object_mut().unwrap().remove(key);
        }
        let read = template(&json!({"name": "x", "channel": null, "content": content})).unwrap();
        assert_eq!((read.channel, &read.contents["en"]), (Channel::Push, &fields));
        assert_eq!(read.contents["de"], BTreeMap::from([("contents".to_owned(), "D".to_owned())]));
        assert_eq!(read.others, ["email_bcc"]);
        let sms =
            template(&json!({"name": "x", "channel": "SMS", "content": {"contents": {"en": "C"}}})).unwrap();
        assert_eq!(sms.channel, Channel::Sms);
        assert_eq!(template(&json!({"error": "x"})), None);
    }

    #[test]
    fn an_update_empties_what_the_new_copy_lacks() {
        let fields = BTreeMap::from([("contents".to_owned(), "C".to_owned())]);
        let contents = BTreeMap::from([("en".to_owned(), fields)]);
        let upload = TemplateUpload { name: "n".into(), channel: Channel::Push, contents };
        let body = update_template(AppId(Uuid::from_u128(1)), &upload);
        assert_eq!((&body["contents"], &body["headings"]), (&json!({"en": "C"}), &Value::Null));
    }
}
