//! CloudEvents 1.0: mapping their attributes to Herald's own event format.
//!
//! A CloudEvent is unique by its source and id, so both together are the event's key: `source|id`. Extension attributes
//! carry Herald's own fields. Unknown attributes are ignored, because brokers add their own.

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
    /// The producer's event ID.
    #[schema(example = "1001-shipped")]
    id: String,
    /// The origin within the producer; together with `id` it forms the event's key.
    #[schema(example = "https://shop.example/orders")]
    source: String,
    /// The event type.
    #[schema(example = "order.shipped")]
    r#type: String,
    /// `application/json`, if present.
    datacontenttype: Option<String>,
    /// When the event happened.
    time: Option<chrono::DateTime<chrono::Utc>>,
    /// Event data that matches the schema of the type.
    #[schema(example = json!({"order_id": "1001", "carrier": "DHL", "eta": "2026-11-25"}))]
    data: Option<Value>,
    /// The recipient's ID.
    #[schema(example = "user-42")]
    recipient: Option<String>,
    /// The label of `recipient`; `external_id` if omitted.
    recipientlabel: Option<String>,
    /// Locale of the message.
    locale: Option<String>,
    /// Don't send before this time.
    sendafter: Option<chrono::DateTime<chrono::Utc>>,
    /// Don't send after this time.
    expiresat: Option<chrono::DateTime<chrono::Utc>>,
    /// Key for cancelling the deliveries later.
    cancellationkey: Option<String>,
    /// A newer event with the same key replaces an older one that is still pending.
    collapsekey: Option<String>,
    /// Determines which event is newer: digits.
    sequence: Option<String>,
    /// Events with the same key are sent in order.
    orderingkey: Option<String>,
    /// W3C trace context.
    traceparent: Option<String>,
}

/// Attributes that are mapped unchanged: CloudEvents name and Herald field.
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
/// Herald's own extensions. A similar attribute name is assumed to be a misspelling.
const OURS: [&str; 7] = [
    "recipient",
    "recipientlabel",
    "sendafter",
    "expiresat",
    "cancellationkey",
    "collapsekey",
    "orderingkey",
];

/// How an event was transported, which determines the names in error messages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// Plain JSON, Herald's own format.
    Plain,
    /// A CloudEvent in a JSON body.
    Structured,
    /// A CloudEvent with its attributes in headers.
    Binary,
}

impl Form {
    /// Rewrites a problem to use the names that the sender used.
    pub fn of_problem(self, problem: Problem) -> Problem {
        match self {
            Self::Plain => problem,
            Self::Structured => problem.each(|error| as_attribute(error, false)),
            Self::Binary => problem.each(|error| as_attribute(error, true)),
        }
    }
}

/// Whether a request carries a CloudEvent's attributes in its headers. A structured-mode request may carry copies (HTTP
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
        return Err(Problem::new(Code::BadJson, "a CloudEvent must be a JSON object"));
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
            let error = FieldError::new(format!("ce-{name}"), "invalid", "the header is repeated");
            return Err(Problem::fields(Code::InvalidFields, vec![error]));
        }
    }
    // The body is `data`; there can be no attribute of that name.
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

/// Errors that make the whole CloudEvent unreadable.
fn refuse_unfit(attributes: &Map<String, Value>) -> Result<(), Problem> {
    let mut errors = Vec::new();
    match attributes.get("specversion").and_then(Value::as_str) {
        Some("1.0") => {}
        Some(_) => errors.push(
            FieldError::new("/specversion", "unsupported", "only CloudEvents 1.0 is supported")
                .hint("send `1.0`"),
        ),
        None => errors.push(FieldError::new(
            "/specversion",
            "required",
            "a CloudEvent must have `specversion` `1.0`",
        )),
    }
    if attributes.get("data_base64").is_some_and(|data| !data.is_null()) {
        let error = FieldError::new("/data_base64", "unsupported", "event data must be JSON, not binary");
        errors.push(error.hint("send an object as `data`"));
    }
    if let Some(kind) = attributes.get("datacontenttype").filter(|kind| !kind.is_null())
        && !kind.as_str().is_some_and(is_json)
    {
        let error = FieldError::new("/datacontenttype", "unsupported", "event data must be JSON");
        errors.push(error.hint("send `application/json`, or leave it out"));
    }
    errors.extend(attributes.keys().filter_map(|name| slip(name)));
    if errors.is_empty() { Ok(()) } else { Err(Problem::fields(Code::InvalidFields, errors)) }
}

fn is_json(kind: &str) -> bool {
    let media = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    media == "application/json" || media == "text/json" || media.ends_with("+json")
}

/// An error for a name that looks like a misspelt attribute. Any other name is a third-party extension.
fn slip(name: &str) -> Option<FieldError> {
    let plain: String = name.chars().filter(|c| !"_-".contains(*c)).collect::<String>().to_ascii_lowercase();
    let is_near = |ours: &&&str| **ours == plain || strsim::damerau_levenshtein(ours, &plain) == 1;
    let near = OURS.iter().find(is_near).filter(|ours| **ours != name)?;
    let error =
        FieldError::new(format!("/{name}"), "unknown_field", format!("there is no attribute `{name}`"));
    Some(error.hint(format!("did you mean `{near}`?")))
}

/// Converts it to Herald's own format.
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
            Some(_) => return Err(wrong("recipientlabel", "a label must be a string")),
        };
        let recipient = match recipient {
            Value::Number(id) => Value::String(id.to_string()),
            Value::String(id) => Value::String(id),
            _ => {
                return Err(wrong(
                    "recipient",
                    "a CloudEvent's `recipient` must be the recipient's ID, as a string",
                ));
            }
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

/// The extension allows any sortable string as `sequence`; Herald uses integers and ignores everything else.
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

/// The event's key. A URI can't contain `|`, so two pairs never form the same key.
fn key(attributes: &Map<String, Value>) -> Result<String, Problem> {
    let text = |name: &str| {
        let value = attributes.get(name).and_then(Value::as_str).filter(|text| !text.is_empty());
        let missing =
            FieldError::new(format!("/{name}"), "required", format!("a CloudEvent must have `{name}`"));
        value.ok_or_else(|| Problem::fields(Code::InvalidFields, vec![missing]))
    };
    let (source, id) = (text("source")?, text("id")?);
    let is_plain = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    if source.contains('|') || !is_plain(source) {
        return Err(wrong("source", "`source` must be a URI reference in ASCII"));
    }
    if !is_plain(id) || source.len() + id.len() > 254 {
        return Err(wrong(
            "id",
            "`id` must be visible ASCII, and have at most 254 characters together with `source`",
        ));
    }
    Ok(format!("{source}|{id}"))
}

/// Adapts an error to a CloudEvent: names the attribute or header, and drops hints for the plain format.
fn as_attribute(mut error: FieldError, is_binary: bool) -> FieldError {
    let Some(field) = error.pointer.strip_prefix('/') else { return error };
    let name = match FIELDS.into_iter().find(|(_, ours)| *ours == field) {
        Some((attribute, _)) => attribute,
        // A CloudEvent's recipient is a plain string.
        None if field == "recipient" || field.starts_with("recipient/") => "recipient",
        None => field,
    };
    let place = if is_binary && name != "data" && !name.starts_with("data/") {
        format!("ce-{name}")
    } else {
        format!("/{name}")
    };
    if name == "recipient" && error.hint.is_some() {
        error.hint =
            Some(format!("send the recipient's ID as a string in `{}`", place.trim_start_matches('/')));
    }
    FieldError { pointer: place, ..error }
}

/// A header's value: percent-encoded UTF-8, optionally in double quotes.
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
            "send the recipient's ID as a string in `ce-recipient`"
        );
    }

    #[test]
    fn a_misspelt_name_of_ours_is_distinguished_from_an_extension_of_somebody_else() {
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
