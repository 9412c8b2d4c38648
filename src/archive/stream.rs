//! Reads the body of an Event Streams call. A body that is not valid JSON, because a value in it was not escaped, is
//! searched for its fields.

use chrono::{DateTime, TimeDelta};
use serde_json::{Map, Value};
use uuid::Uuid;

use crate::domain::clock::Timestamp;
use crate::domain::outcome::{OutcomeKind, Report, masked};

/// What is in the body that `herald onesignal stream-config` prints, in its order. The reason comes last: whatever is in
/// it, the fields before it can be read.
pub const FIELDS: [(&str, &str); 11] = [
    ("kind", "event.kind"),
    ("event_id", "event.id"),
    ("ts", "event.timestamp"),
    ("app_id", "event.app_id"),
    ("message_id", "message.id"),
    ("template_id", "message.template_id"),
    ("subscription_id", "event.subscription_id"),
    ("device", "event.subscription_device_type"),
    ("onesignal_id", "event.onesignal_id"),
    ("external_id", "event.external_id"),
    ("failure_reason", "event.data.failure_reason"),
];
/// Ids of streams that other senders may choose are hashed in this namespace.
const KEYS: Uuid = Uuid::from_u128(0x4f0e_9f4b_52c5_4b0e_8d1c_0a6d_2f6a_7722);
/// The longest text of a field, in characters; a reason may be longer.
const LONGEST: usize = 200;
const LONGEST_REASON: usize = 1_000;
/// A time that is further from now is not believed.
const AHEAD: TimeDelta = TimeDelta::days(1);
const BEHIND: TimeDelta = TimeDelta::days(60);

/// What a body says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReadBody {
    /// Its id in the stream, or the hash of a body without one.
    pub key: Uuid,
    /// The report, if enough of it could be read.
    pub report: Option<Report>,
    /// What is wrong with it; the body is kept then.
    pub problem: Option<&'static str>,
}

/// The body to configure in OneSignal's dashboard.
pub fn template() -> String {
    let value = |name: &str, path: &str| match name {
        "ts" => format!("\"{name}\": {{{{ {path} }}}}"),
        _ => format!("\"{name}\": \"{{{{ {path} }}}}\""),
    };
    let lines: Vec<String> = FIELDS.iter().map(|(name, path)| format!("  {}", value(name, path))).collect();
    format!("{{\n{}\n}}", lines.join(",\n"))
}

/// Reads a body. Never fails: what can't be read is kept as it is.
pub fn read(body: &[u8], now: Timestamp) -> ReadBody {
    let text = String::from_utf8_lossy(body);
    let (fields, problem) = match serde_json::from_str(&text) {
        Ok(Value::Object(fields)) => (fields, None),
        Ok(_) => (Map::new(), Some("not a JSON object")),
        Err(_) => (search(&text), Some("not valid JSON")),
    };
    let event = text_of(&fields, "event_id", LONGEST);
    let key = Uuid::new_v5(&KEYS, if event.is_empty() { body } else { event.as_bytes() });
    let kind = text_of(&fields, "kind", LONGEST);
    if kind.is_empty() {
        return ReadBody { key, report: None, problem: problem.or(Some("without `kind`")) };
    }
    let (channel, kind) = OutcomeKind::of_stream(&kind);
    let field = |name| text_of(&fields, name, LONGEST);
    let report = Report {
        key,
        message: field("message_id"),
        channel,
        kind,
        occurred_at: time_of(&fields, now),
        external_id: field("external_id"),
        onesignal_id: field("onesignal_id"),
        subscription: field("subscription_id"),
        device: field("device"),
        reason: masked(&text_of(&fields, "failure_reason", LONGEST_REASON)),
    };
    ReadBody { key, report: Some(report), problem }
}

/// A field as text that Postgres accepts.
fn text_of(fields: &Map<String, Value>, name: &str, longest: usize) -> String {
    let text = match fields.get(name) {
        Some(Value::String(text)) => text.trim().to_owned(),
        Some(Value::Number(number)) => number.to_string(),
        Some(Value::Bool(_) | Value::Array(_) | Value::Object(_) | Value::Null) | None => String::new(),
    };
    text.chars().filter(|c| *c != '\0').take(longest).collect()
}

/// The time in seconds, or milliseconds; now, if it can't be true.
fn time_of(fields: &Map<String, Value>, now: Timestamp) -> Timestamp {
    let number = text_of(fields, "ts", LONGEST).parse::<f64>().ok().filter(|number| number.is_finite());
    #[expect(clippy::cast_possible_truncation, reason = "a time out of range is rejected below")]
    let time = number.and_then(|number| {
        let milliseconds = if number >= 1e11 { number } else { number * 1e3 };
        DateTime::from_timestamp_millis(milliseconds as i64)
    });
    time.filter(|time| *time <= now + AHEAD && *time >= now - BEHIND).unwrap_or(now)
}

/// The known fields of a text that is not valid JSON: each value reaches to the beginning of the next field.
fn search(text: &str) -> Map<String, Value> {
    let place = |name: &str| {
        let name = format!("\"{name}\"");
        let at = text.find(&name)?;
        let value = text[at + name.len()..].trim_start().strip_prefix(':')?;
        Some((at, text.len() - value.len()))
    };
    let mut places: Vec<(&str, usize, usize)> =
        FIELDS.iter().filter_map(|(name, _)| place(name).map(|(at, value)| (*name, at, value))).collect();
    places.sort_by_key(|(_, at, _)| *at);
    let mut fields = Map::new();
    for (n, (name, _, from)) in places.iter().enumerate() {
        let to = places.get(n + 1).map_or(text.len(), |(_, next, _)| *next);
        let value = text.get(*from..to).unwrap_or_default().trim();
        let value = value.trim_end_matches(',').trim_end();
        let value = if to == text.len() { value.trim_end_matches('}').trim_end() } else { value };
        let value = value.strip_prefix('"').unwrap_or(value);
        let value = value.strip_suffix('"').unwrap_or(value);
        fields.insert((*name).to_owned(), Value::String(value.to_owned()));
    }
    fields
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T10:00:00Z".parse().unwrap()
    }

    const REST: &str = r#""message_id":"m-1","subscription_id":"s-1","device":"Email","onesignal_id":"","external_id":"ann""#;

    #[test]
    fn a_reason_with_quotes_backslashes_and_lines_loses_nothing() {
        let body = format!(
            "{{\"kind\":\"message.email.failed\",\"event_id\":\"e-1\",\"ts\":1795514400,{REST},\"failure_reason\":\"said \"no\\\", and\nleft\"}}"
        );
        let read = read(body.as_bytes(), now());
        assert_eq!(read.problem, Some("not valid JSON"));
        let report = read.report.unwrap();
        assert_eq!((report.kind, report.message.as_str()), (OutcomeKind::Failed, "m-1"));
        assert_eq!((report.external_id.as_str(), report.reason.as_str()), ("ann", r#"said "no\", and left"#));
        assert_eq!(read.key, super::read(format!("{{\"event_id\":\"e-1\",{REST}}}").as_bytes(), now()).key);
    }

    #[test]
    fn the_configured_body_is_read() {
        let mut body = template();
        for (name, path) in FIELDS {
            let value = if name == "ts" { "1795514399".to_owned() } else { format!("<{name}>") };
            body = body.replace(&format!("{{{{ {path} }}}}"), &value);
        }
        let read = read(body.as_bytes(), now());
        assert_eq!(read.problem, None, "{body}");
        let report = read.report.unwrap();
        assert_eq!(report.occurred_at, now() - TimeDelta::seconds(1));
        assert_eq!((report.message.as_str(), report.reason.as_str()), ("<message_id>", "<failure_reason>"));
        assert_eq!(report.kind, OutcomeKind::Other("<kind>".to_owned()));
    }

    #[test]
    fn any_body_is_read_or_kept() {
        for body in [
            "",
            "null",
            "[1]",
            "{}",
            "{\"kind\":7",
            "\u{0}",
            "{\"kind\":\"\u{0}\"}",
            "\"kind\":",
            "\"kind\"\"kind\":\"é",
        ] {
            let found = read(body.as_bytes(), now());
            assert!(found.report.is_some() || found.problem.is_some(), "{body}");
        }
        read(&[0xff, b'"', b'k'], now());
    }

    #[test]
    fn times_are_seconds_milliseconds_or_texts_and_impossible_ones_are_now() {
        for (ts, wanted) in [
            ("1795514340", "2026-11-24T09:59:00Z"),
            ("1795514340000", "2026-11-24T09:59:00Z"),
            ("\"1795514340\"", "2026-11-24T09:59:00Z"),
            ("17", "2026-11-24T10:00:00Z"),
            ("1e300", "2026-11-24T10:00:00Z"),
            ("\"soon\"", "2026-11-24T10:00:00Z"),
        ] {
            let body = format!("{{\"kind\":\"message.push.sent\",\"ts\":{ts}}}");
            let time = read(body.as_bytes(), now()).report.unwrap().occurred_at;
            assert_eq!(time, wanted.parse::<Timestamp>().unwrap(), "{ts}");
        }
    }
}
