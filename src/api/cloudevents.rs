//! CloudEvents 1.0: what stands in their attributes, brought into the form of Herald's own events.
//!
//! A CloudEvent is unique by its source and id, so both together are the event's key: `source|id`. Extension attributes
//! carry what only Herald knows. Attributes that mean nothing here are passed over, for brokers add their own on the way.

use axum::http::HeaderMap;
use serde_json::{Map, Value, json};

use super::body::content_type;
use super::event_fields;
use super::problem::{Code, FieldError, Problem};
use super::strict_json;
use super::trace::is_traceparent;
use crate::access::Identity;
use crate::pipeline::ingest::NewEvent;

/// A CloudEvent in structured mode.
#[derive(Debug, utoipa::ToSchema)]
#[expect(dead_code, reason = "only describes the request; `translate` reads it")]
pub(super) struct CloudEventRequest {
    /// `1.0`.
    #[schema(example = "1.0")]
    specversion: String,
    /// The producer's id of it.
    #[schema(example = "1001-shipped")]
    id: String,
    /// What part of the producer it comes from; with `id` it makes the event's key.
    #[schema(example = "https://shop.example/orders")]
    source: String,
    /// The event type.
    #[schema(example = "order.shipped")]
    r#type: String,
    /// `application/json`, if it is given.
    datacontenttype: Option<String>,
    /// When it happened.
    time: Option<chrono::DateTime<chrono::Utc>>,
    /// Its values, as its schema wants them.
    #[schema(example = json!({"order_id": "1001", "carrier": "DHL", "eta": "2026-11-25"}))]
    data: Option<Value>,
    /// Whom it is about.
    #[schema(example = "user-42")]
    recipient: Option<String>,
    /// What kind of id `recipient` is; `external_id` if nothing is said.
    recipientlabel: Option<String>,
    /// The locale to write in.
    locale: Option<String>,
    /// Not before this.
    sendafter: Option<chrono::DateTime<chrono::Utc>>,
    /// Not after this.
    expiresat: Option<chrono::DateTime<chrono::Utc>>,
    /// What a later cancellation can name.
    cancellationkey: Option<String>,
    /// A newer event with the same key replaces an older one still waiting.
    collapsekey: Option<String>,
    /// Tells newer from older: digits.
    sequence: Option<String>,
    /// Events with the same key go out one after the other.
    orderingkey: Option<String>,
    /// W3C trace context.
    traceparent: Option<String>,
}

/// Attributes that are taken as they are: ours, and Herald's field.
const FIELDS: [(&str, &str); 8] = [
    ("type", "type"),
    ("time", "time"),
    ("locale", "locale"),
    ("sendafter", "send_after"),
    ("expiresat", "expires_at"),
    ("cancellationkey", "cancellation_key"),
    ("collapsekey", "collapse_key"),
    ("orderingkey", "ordering_key"),
];
/// Herald's own extensions. Their names are no words of their own, so one that is nearly the same is misspelt.
const OURS: [&str; 7] = [
    "recipient",
    "recipientlabel",
    "sendafter",
    "expiresat",
    "cancellationkey",
    "collapsekey",
    "orderingkey",
];

/// How a CloudEvent came, and with it how its parts are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// An event of our own.
    Plain,
    /// A CloudEvent in a JSON body.
    Structured,
    /// A CloudEvent with its attributes in headers.
    Binary,
}

impl Form {
    /// A problem in the words of the sender of the event.
    pub fn of_problem(self, problem: Problem) -> Problem {
        match self {
            Self::Plain => problem,
            Self::Structured => problem.each(|error| as_attribute(error, false)),
            Self::Binary => problem.each(|error| as_attribute(error, true)),
        }
    }
}

/// Whether a request carries a CloudEvent's attributes in its headers. A structured one may carry copies of them (HTTP
/// protocol binding, 3.2).
pub(super) fn is_binary(headers: &HeaderMap) -> bool {
    if content_type(headers).is_some_and(|(name, _)| name.starts_with("application/cloudevents")) {
        return false;
    }
    headers.contains_key("ce-specversion") || headers.contains_key("ce-type") || headers.contains_key("ce-id")
}

/// Reads a CloudEvent in structured mode.
///
/// # Errors
/// As for [`event_fields::read`], with pointers into the CloudEvent.
pub(super) fn read(posted: Value, identity: &Identity, headers: &HeaderMap) -> Result<NewEvent, Problem> {
    let Value::Object(attributes) = posted else {
        return Err(Problem::new(Code::BadJson, "a CloudEvent is a JSON object"));
    };
    read_attributes(attributes, identity, headers).map_err(|problem| Form::Structured.of_problem(problem))
}

/// Reads a CloudEvent in binary mode: attributes in `ce-…` headers, `data` in the body.
///
/// # Errors
/// As for [`event_fields::read`]; errors of attributes name their header.
pub(super) fn read_binary(
    bytes: &[u8],
    identity: &Identity,
    headers: &HeaderMap,
) -> Result<NewEvent, Problem> {
    let mut attributes = Map::new();
    for (name, value) in headers {
        let Some(name) = name.as_str().strip_prefix("ce-") else { continue };
        let text = value.to_str().ok().and_then(decode).ok_or_else(|| {
            let error =
                FieldError::new(format!("ce-{name}"), "invalid", "the header is not percent-encoded UTF-8");
            Problem::fields(Code::InvalidFields, vec![error])
        })?;
        if attributes.insert(name.to_owned(), Value::String(text)).is_some() {
            let error = FieldError::new(format!("ce-{name}"), "invalid", "the header stands twice");
            return Err(Problem::fields(Code::InvalidFields, vec![error]));
        }
    }
    // The body is `data`; an attribute of that name is none.
    attributes.remove("data");
    if !bytes.trim_ascii().is_empty() {
        attributes.insert("data".to_owned(), strict_json::parse(bytes)?);
    }
    read_attributes(attributes, identity, headers).map_err(|problem| Form::Binary.of_problem(problem))
}

fn read_attributes(
    mut attributes: Map<String, Value>,
    identity: &Identity,
    headers: &HeaderMap,
) -> Result<NewEvent, Problem> {
    refuse_unfit(&attributes)?;
    let trace = attributes.remove("traceparent");
    let trace = trace.as_ref().and_then(Value::as_str).filter(|text| is_traceparent(text)).map(str::to_owned);
    let event = translate(attributes)?;
    let mut new = event_fields::read(event, identity, headers)?;
    new.traceparent = trace.or(new.traceparent);
    Ok(new)
}

/// What makes the whole CloudEvent unreadable here.
fn refuse_unfit(attributes: &Map<String, Value>) -> Result<(), Problem> {
    let mut errors = Vec::new();
    match attributes.get("specversion").and_then(Value::as_str) {
        Some("1.0") => {}
        Some(_) => errors.push(
            FieldError::new("/specversion", "unsupported", "only CloudEvents 1.0 is understood")
                .hint("send `1.0`"),
        ),
        None => errors.push(FieldError::new("/specversion", "required", "a CloudEvent says `1.0` here")),
    }
    if attributes.get("data_base64").is_some_and(|data| !data.is_null()) {
        let error = FieldError::new("/data_base64", "unsupported", "an event's data is JSON, not bytes");
        errors.push(error.hint("send an object as `data`"));
    }
    if let Some(kind) = attributes.get("datacontenttype").filter(|kind| !kind.is_null())
        && !kind.as_str().is_some_and(is_json)
    {
        let error = FieldError::new("/datacontenttype", "unsupported", "an event's data is JSON");
        errors.push(error.hint("send `application/json`, or leave it out"));
    }
    errors.extend(attributes.keys().filter_map(|name| slip(name)));
    if errors.is_empty() { Ok(()) } else { Err(Problem::fields(Code::InvalidFields, errors)) }
}

fn is_json(kind: &str) -> bool {
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media == "text/json" || media.ends_with("+json")
}

/// A name that is one of ours but for its spelling. Any other name is somebody's own extension.
fn slip(name: &str) -> Option<FieldError> {
    let plain: String = name.chars().filter(|c| !"_-".contains(*c)).collect::<String>().to_ascii_lowercase();
    let is_near = |ours: &&&str| **ours == plain || strsim::damerau_levenshtein(ours, &plain) == 1;
    let near = OURS.iter().find(is_near).filter(|ours| **ours != name)?;
    let error =
        FieldError::new(format!("/{name}"), "unknown_field", format!("there is no attribute `{name}`"));
    Some(error.hint(format!("did you mean `{near}`?")))
}

/// The same as an event of our own.
fn translate(mut attributes: Map<String, Value>) -> Result<Value, Problem> {
    let mut event = Map::new();
    event.insert("id".to_owned(), Value::String(key(&attributes)?));
    for (attribute, field) in FIELDS {
        if let Some(value) = attributes.remove(attribute) {
            event.insert(field.to_owned(), value);
        }
    }
    if let Some(recipient) = attributes.remove("recipient").filter(|value| !value.is_null()) {
        let label = attributes.remove("recipientlabel").filter(|value| !value.is_null());
        let label = match label {
            None => "external_id".to_owned(),
            Some(Value::String(label)) => label,
            Some(_) => return Err(wrong("recipientlabel", "a label is a text")),
        };
        let recipient = match recipient {
            Value::Number(id) => Value::String(id.to_string()),
            Value::String(id) => Value::String(id),
            _ => return Err(wrong("recipient", "a CloudEvent's `recipient` is the recipient's id, as text")),
        };
        event.insert("recipient".to_owned(), json!({ label: recipient }));
    }
    if let Some(sequence) = attributes.remove("sequence").and_then(whole) {
        event.insert("sequence".to_owned(), sequence);
    }
    if let Some(data) = attributes.remove("data") {
        event.insert("data".to_owned(), data);
    }
    Ok(Value::Object(event))
}

/// The extension's sequence is any text that can be ordered; ours is a whole number, and any other text says nothing here.
fn whole(sequence: Value) -> Option<Value> {
    match sequence {
        Value::String(text) => text.parse::<i64>().ok().map(Value::from),
        Value::Number(number) => number.as_i64().map(Value::from),
        _ => None,
    }
}

fn wrong(name: &str, detail: &str) -> Problem {
    Problem::fields(Code::InvalidFields, vec![FieldError::new(format!("/{name}"), "invalid", detail)])
}

/// The event's key. No URI holds a `|`, so two pairs never make one key.
fn key(attributes: &Map<String, Value>) -> Result<String, Problem> {
    let text = |name: &str| {
        let value = attributes.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let missing = FieldError::new(format!("/{name}"), "required", format!("a CloudEvent has a `{name}`"));
        value.ok_or_else(|| Problem::fields(Code::InvalidFields, vec![missing]))
    };
    let (source, id) = (text("source")?, text("id")?);
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if source.contains('|') || !is_plain(source) {
        return Err(wrong("source", "a source is a URI or a part of one, in ASCII"));
    }
    if !is_plain(id) || source.len() + id.len() > 254 {
        return Err(wrong(
            "id",
            "`id` is visible ASCII; it and `source` have at most 254 characters together",
        ));
    }
    Ok(format!("{source}|{id}"))
}

/// An error as it concerns a CloudEvent: its attribute, or its header, and no advice that is for an event of our own.
fn as_attribute(mut error: FieldError, is_binary: bool) -> FieldError {
    let Some(field) = error.pointer.strip_prefix('/') else { return error };
    let name = match FIELDS.into_iter().find(|(_, ours)| *ours == field) {
        Some((attribute, _)) => attribute,
        // A recipient is flat here.
        None if field == "recipient" || field.starts_with("recipient/") => "recipient",
        None => field,
    };
    let place = if is_binary && name != "data" && !name.starts_with("data/") {
        format!("ce-{name}")
    } else {
        format!("/{name}")
    };
    if name == "recipient" && error.hint.is_some() {
        error.hint = Some(format!("send the recipient's id as text in `{}`", place.trim_start_matches('/')));
    }
    FieldError { pointer: place, ..error }
}

/// A header's value: percent-encoded UTF-8, which may stand in double quotes.
fn decode(text: &str) -> Option<String> {
    let text = text.trim();
    let text = text.strip_prefix('"').and_then(|text| text.strip_suffix('"')).unwrap_or(text);
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|code| std::str::from_utf8(code).ok());
        let escaped = code.filter(|_| *first == b'%').and_then(|code| u8::from_str_radix(code, 16).ok());
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_s_value_is_decoded_as_the_specification_says() {
        assert_eq!(decode("Euro%20%E2%82%AC%20%F0%9F%98%80").as_deref(), Some("Euro € 😀"));
        assert_eq!(decode("\"a%22b\"").as_deref(), Some("a\"b"));
        assert_eq!(decode("100%").as_deref(), Some("100%"));
        assert_eq!(decode("%ff"), None);
    }

    #[test]
    fn a_field_is_called_as_its_sender_knows_it() {
        let named = |pointer: &str, is_binary| {
            as_attribute(FieldError::new(pointer, "invalid", ""), is_binary).pointer
        };
        assert_eq!(named("/send_after", false), "/sendafter");
        assert_eq!(named("/recipient/external_id", false), "/recipient");
        assert_eq!(named("/data/total", false), "/data/total");
        assert_eq!(named("/recipient", true), "ce-recipient");
        assert_eq!(named("/data/total", true), "/data/total");
        let error =
            FieldError::new("/recipient", "required", "").hint(r#"add "recipient": {"external_id": "…"}"#);
        assert_eq!(
            as_attribute(error, true).hint.unwrap(),
            "send the recipient's id as text in `ce-recipient`"
        );
    }

    #[test]
    fn a_misspelt_name_of_ours_is_told_from_an_extension_of_somebody_else() {
        for ours in ["recipent", "expireat", "send_after", "sendAfter", "recipient_label", "orderingkeys"] {
            assert!(slip(ours).is_some(), "{ours}");
        }
        for other in [
            "knativearrivaltime",
            "partitionkey",
            "tracestate",
            "dataref",
            "sequencetype",
            "sampledrate",
            "object",
            "resource",
            "sourceip",
            "subjectid",
            "scale",
            "local",
            "locales",
            "sequences",
            "data_",
            "subjects",
            "recipient",
            "expiresat",
            "times",
            "ids",
            "kind",
        ] {
            assert!(slip(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_sequence_that_is_no_whole_number_says_nothing() {
        assert_eq!(whole(json!("0000017")), Some(json!(17)));
        assert_eq!(whole(json!(7)), Some(json!(7)));
        for other in
            [json!("abc"), json!("01HF"), json!(1.5), json!(true), json!("99999999999999999999"), Value::Null]
        {
            assert_eq!(whole(other), None);
        }
    }

    #[test]
    fn json_by_any_name_is_json() {
        assert!(is_json("application/json; charset=utf-8") && is_json("application/order+json"));
        assert!(!is_json("application/xml"));
    }
}
