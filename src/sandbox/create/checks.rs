//! Validation of Create message: channel, fields, sizes.

use chrono::{DateTime, NaiveDateTime, TimeDelta};
use serde_json::Value;
use uuid::Uuid;

use super::super::access::uuid;
use super::super::json::{Object, field, says_something, text};
use super::super::message::Channel;
use super::super::options::SandboxOptions;
use super::super::refusal::{NO_ENGLISH, Refusal};
use super::super::schedule::time_of_day;
use super::super::templates::Template;
use super::fields;
use super::language;
use super::targets::Targets;
use crate::domain::clock::Timestamp;

const ONE_CHANNEL: &str = "Platforms You may only send to one delivery channel at a time. Make sure you are only including one of push platforms, Email, or SMS.";
const PUSH_DATA_LIMIT: usize = 2048;

/// A request that passed every check.
#[derive(Debug)]
pub(super) struct Checked {
    pub targets: Targets,
    pub channel: Channel,
    pub send_after: Option<Timestamp>,
    pub also_disabled: bool,
    pub notes: Vec<String>,
}

/// The idempotency key, under its present or its old name.
pub(super) fn idempotency_key(request: &Object) -> Result<Option<Uuid>, Refusal> {
    let Some((name, value)) =
        ["idempotency_key", "external_id"].iter().find_map(|name| Some((name, field(request, name)?)))
    else {
        return Ok(None);
    };
    let key = value.as_str().and_then(uuid);
    key.map(Some).ok_or_else(|| Refusal::bad(format!("{name} must be a valid UUID.")))
}

/// The template that the request names.
pub(super) fn template_id(request: &Object) -> Result<Option<Uuid>, Refusal> {
    let Some(value) = field(request, "template_id") else { return Ok(None) };
    let id = value.as_str().and_then(uuid);
    id.map(Some).ok_or_else(|| Refusal::bad("Incorrect template_id format (not a valid UUID)."))
}

/// Validates everything that doesn't depend on users.
pub(super) fn check(
    request: &Object,
    template: Option<&Template>,
    options: &SandboxOptions,
    now: Timestamp,
) -> Result<Checked, Refusal> {
    let targets = Targets::parse(request)?;
    if targets.count() > options.targets_per_call {
        let limit = options.targets_per_call;
        return Err(Refusal::bad(format!("You may only target up to {limit} recipients per request.")));
    }
    let channel = channel(request, &targets, template)?;
    content(request, channel, template.is_some())?;
    custom_data(request, channel)?;
    fields::check(request)?;
    let mut notes = fields::unknown(request);
    let send_after = send_after(request, now, &mut notes)?;
    delayed(request, channel)?;
    if says_something(request, "custom_data") && template.is_none() {
        notes.push("custom_data without template_id: OneSignal needs a template to use it".to_owned());
    }
    let also_disabled =
        channel == Channel::Email && request.get("include_unsubscribed") == Some(&Value::Bool(true));
    Ok(Checked { targets, channel, send_after, also_disabled, notes })
}

/// The one channel that targets, `target_channel`, fields and template agree on.
fn channel(request: &Object, targets: &Targets, template: Option<&Template>) -> Result<Channel, Refusal> {
    let said = match field(request, "target_channel") {
        None => None,
        Some(value) => Some(value.as_str().and_then(Channel::parse).ok_or_else(|| {
            Refusal::bad("Invalid channel: target_channel must be one of push, email, sms.")
        })?),
    };
    if said.is_none() && matches!(targets, Targets::Aliases(_)) && field(request, "include_aliases").is_some()
    {
        return Err(Refusal::bad("target_channel is required with include_aliases: push, email or sms."));
    }
    let by_fields = fields::channels(request);
    let needs_saying = targets.is_audience() && by_fields.contains(&Channel::Sms);
    if said.is_none() && needs_saying {
        return Err(Refusal::bad("target_channel is required to send SMS to segments or filters."));
    }
    let mut wanted: Vec<Channel> = said.into_iter().chain(targets.channel()).chain(by_fields).collect();
    wanted.extend(template.map(|template| template.channel));
    let first = wanted.first().copied().unwrap_or(Channel::Push);
    if wanted.iter().any(|channel| *channel != first) {
        return Err(Refusal::bad(ONE_CHANNEL));
    }
    Ok(first)
}

/// Validates the text: required without a template, and well-formed.
fn content(request: &Object, channel: Channel, has_template: bool) -> Result<(), Refusal> {
    match channel {
        Channel::Email => {
            for name in ["contents", "headings", "subtitle"] {
                if says_something(request, name) {
                    return Err(Refusal::bad(ONE_CHANNEL));
                }
            }
            if !has_template && text(request, "email_body").is_none() {
                return Err(Refusal::blank_email("Email body"));
            }
            if !has_template && text(request, "email_subject").is_none() {
                return Err(Refusal::blank_email("Email subject"));
            }
        }
        Channel::Push | Channel::Sms => {
            let has_contents = language::check(request)?;
            let silent =
                channel == Channel::Push && request.get("content_available") == Some(&Value::Bool(true));
            if !has_contents && !has_template && !silent {
                return Err(Refusal::bad(NO_ENGLISH));
            }
        }
    }
    if channel == Channel::Push { language::check_push_liquid(request) } else { Ok(()) }
}

fn custom_data(request: &Object, channel: Channel) -> Result<(), Refusal> {
    let limits = [("custom_data", channel.custom_data_limit()), ("data", PUSH_DATA_LIMIT)];
    for (name, limit) in limits {
        let Some(value) = field(request, name) else { continue };
        if !value.is_object() {
            return Err(Refusal::bad(format!("{name} must be an object.")));
        }
        let size = value.to_string().len();
        if size > limit {
            return Err(Refusal::bad(format!(
                "{name} is too large: {size} bytes, the limit is {limit} bytes."
            )));
        }
    }
    Ok(())
}

/// When the message is sent; `None` for now. A time without an offset is taken as UTC-11, as OneSignal does.
fn send_after(
    request: &Object,
    now: Timestamp,
    notes: &mut Vec<String>,
) -> Result<Option<Timestamp>, Refusal> {
    let Some(value) = field(request, "send_after") else { return Ok(None) };
    let wrong = || Refusal::bad("send_after must be an ISO 8601 date and time with an offset.");
    let written = value.as_str().ok_or_else(wrong)?;
    let at = if let Ok(at) = DateTime::parse_from_rfc3339(written) {
        at.to_utc()
    } else {
        let local = written.parse::<NaiveDateTime>().map_err(|_| wrong())?;
        notes.push("send_after has no offset: OneSignal takes it as UTC-11".to_owned());
        local.and_utc() + TimeDelta::hours(11)
    };
    if at > now + TimeDelta::days(30) {
        return Err(Refusal::bad("send_after may be 30 days ahead at most."));
    }
    Ok(Some(at).filter(|at| *at > now))
}

fn delayed(request: &Object, channel: Channel) -> Result<(), Refusal> {
    let Some(option) = field(request, "delayed_option") else { return Ok(()) };
    if !matches!(option.as_str(), Some("timezone" | "last-active" | "immediate")) {
        return Err(Refusal::bad("delayed_option must be timezone or last-active."));
    }
    if let Some(time) = field(request, "delivery_time_of_day")
        && time.as_str().and_then(time_of_day).is_none()
    {
        return Err(Refusal::bad("delivery_time_of_day must be a time such as 9:00AM, 21:45 or 09:45:30."));
    }
    if option.as_str() == Some("immediate") {
        return Ok(());
    }
    if channel == Channel::Sms {
        return Err(Refusal::bad("delayed_option is not available for SMS."));
    }
    match field(request, "throttle_rate_per_minute") {
        Some(rate) if rate.as_i64() != Some(0) && rate.as_str() != Some("0") => {
            Err(Refusal::bad("throttle_rate_per_minute must be 0 with delayed_option."))
        }
        _ => Ok(()),
    }
}
