//! Parses a posted JSON object into a [`NewEvent`], validating every field.

use axum::http::HeaderMap;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::problem::{Code, FieldError, Problem};
use super::trace::traceparent;
use crate::access::{Identity, Use};
use crate::domain::clock::{Timestamp, truncate};
use crate::domain::event::{EventTypeName, Recipient, RecipientLabel};
use crate::domain::facts::GivenFacts;
use crate::domain::locale;
use crate::domain::user::Property;
use crate::people::document::{UserInput, UserProblem};
use crate::pipeline::ingest::repeats::{Plain, plain};
use crate::pipeline::ingest::{Content, NewEvent};

/// The fields of an event.
const FIELDS: [&str; 13] = [
    "id",
    "type",
    "recipient",
    "recipients",
    "data",
    "time",
    "locale",
    "send_after",
    "expires_at",
    "cancellation_key",
    "collapse_key",
    "sequence",
    "ordering_key",
];
/// What a recipient may say about the person, beside their label.
const FACTS: [&str; 5] = ["email", "phone", "tags", "language", "time_zone"];
/// Maximum recipients of one event.
const MAX_RECIPIENTS: usize = 2_000;

/// Reads one event.
///
/// # Errors
/// 400, 403 or 422, with a pointer to each invalid field.
pub(super) fn read(body: Value, identity: &Identity, headers: &HeaderMap) -> Result<NewEvent, Problem> {
    let Value::Object(members) = body else {
        return Err(Problem::new(Code::BadJson, "an event must be a JSON object"));
    };
    refuse_unknown(&members)?;
    let mut fields = Fields { members, facts: Vec::new(), errors: Vec::new() };
    let event_key = fields.event_key(headers)?;
    let as_posted = fields.canonical();
    let event_type = fields.event_type();
    let recipients = fields.recipients();
    let facts = std::mem::take(&mut fields.facts);
    let locale = fields.locale();
    let mut new = NewEvent {
        source: identity.source,
        key: identity.key,
        is_test: identity.is_test,
        event_key: event_key.unwrap_or_default(),
        data: fields.data(),
        occurred_at: fields.time("time"),
        locale,
        send_after: fields.time("send_after"),
        expires_at: fields.time("expires_at"),
        cancellation_key: fields.key("cancellation_key"),
        collapse_key: fields.key("collapse_key"),
        sequence: fields.sequence(),
        ordering_key: fields.key("ordering_key"),
        traceparent: traceparent(headers),
        content: Content::default(),
        event_type: match event_type {
            Some(event_type) if fields.errors.is_empty() => event_type,
            Some(_) | None => return Err(Problem::fields(Code::InvalidFields, fields.errors)),
        },
        recipients,
        facts,
    };
    if !new.facts.is_empty() && !identity.may(Use::ChangeUsers) {
        let detail = "facts about a recipient change a user: the key needs the scope `users:write`";
        return Err(Problem::new(Code::MissingScope, detail));
    }
    new.content = Content { meaning: meaning(&new), as_posted };
    new.locale = new.locale.or_else(|| identity.default_locale.clone());
    if !identity.may_post(&new.event_type) {
        let detail = format!("this key is not allowed to post `{}`", new.event_type);
        return Err(Problem::fields(
            Code::TypeNotAllowed,
            vec![FieldError::new("/type", "type_not_allowed", detail)],
        ));
    }
    Ok(new)
}

/// The canonical content of an event, independent of formatting and without what its source adds.
#[derive(Serialize)]
struct Meaning<'a> {
    r#type: &'a str,
    recipients: Vec<(&'a str, &'a str)>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    facts: Vec<Value>,
    data: Plain<'a>,
    time: Option<Timestamp>,
    locale: &'a Option<String>,
    send_after: Option<Timestamp>,
    expires_at: Option<Timestamp>,
    keys: [&'a Option<String>; 3],
    sequence: Option<i64>,
}

fn meaning(new: &NewEvent) -> Vec<u8> {
    let recipients =
        new.recipients.iter().map(|recipient| (recipient.label.as_str(), recipient.id.as_str())).collect();
    let said = Meaning {
        r#type: new.event_type.as_str(),
        recipients,
        facts: new.facts.iter().map(|facts| json!([facts.recipient.id, facts.changes.to_json()])).collect(),
        data: Plain(&new.data),
        time: new.occurred_at,
        locale: &new.locale,
        send_after: new.send_after,
        expires_at: new.expires_at,
        keys: [&new.cancellation_key, &new.collapse_key, &new.ordering_key],
        sequence: new.sequence,
    };
    serde_json::to_vec(&said).unwrap_or_default()
}

/// What a recipient says about the person.
///
/// # Errors
/// What is wrong, with pointers into the recipient.
fn facts_of(recipient: &Recipient, facts: Map<String, Value>) -> Result<GivenFacts, Vec<UserProblem>> {
    let mut user = Map::new();
    let mut addresses = Vec::new();
    for (name, value) in facts.into_iter().filter(|(_, value)| !value.is_null()) {
        match name.as_str() {
            "email" | "phone" => {
                let kind = if name == "email" { "email" } else { "sms" };
                addresses.push((name, json!({"type": kind, "token": value})));
            }
            _ => {
                user.insert(name, value);
            }
        }
    }
    let subscriptions = addresses.iter().map(|(_, address)| address.clone()).collect();
    user.insert("subscriptions".to_owned(), Value::Array(subscriptions));
    let form = serde_json::from_value(Value::Object(user)).map_err(|error| {
        vec![UserProblem { pointer: String::new(), code: "bad_recipient", detail: error.to_string() }]
    })?;
    let name = (recipient.label.as_str(), recipient.id.as_str());
    if recipient.label == RecipientLabel::OnesignalId {
        let detail = "facts need a recipient with an External ID or an alias".to_owned();
        return Err(vec![UserProblem { pointer: String::new(), code: "bad_recipient", detail }]);
    }
    let input = UserInput::check(name, form, None).map_err(|problems| {
        let at = |problem: UserProblem| {
            let address = addresses.iter().enumerate().find_map(|(place, (name, _))| {
                problem.pointer.starts_with(&format!("/subscriptions/{place}")).then(|| format!("/{name}"))
            });
            UserProblem { pointer: address.unwrap_or(problem.pointer), ..problem }
        };
        problems.into_iter().map(at).collect::<Vec<_>>()
    })?;
    let text = |property: Property| {
        input.properties.get(&property).and_then(|value| value.as_str()).map(str::to_owned)
    };
    Ok(GivenFacts {
        recipient: recipient.clone(),
        locale: text(Property::Language),
        time_zone: text(Property::TimeZone),
        // The pipeline stores a hash of what names a subscription.
        changes: input.changes(true, str::to_owned),
    })
}

fn refuse_unknown(members: &Map<String, Value>) -> Result<(), Problem> {
    if members.contains_key("specversion") {
        let error =
            FieldError::new("/specversion", "unknown_field", "this is a CloudEvent, sent as plain JSON");
        let hint = "send `Content-Type: application/cloudevents+json`, or `application/cloudevents-batch+json` to \
                    /v1/events/batch";
        return Err(Problem::fields(Code::UnknownField, vec![error.hint(hint)]));
    }
    let unknown = members.keys().filter(|name| !FIELDS.contains(&name.as_str()));
    let errors: Vec<FieldError> = unknown
        .map(|name| {
            let pointer = format!("/{}", name.replace('~', "~0").replace('/', "~1"));
            let error = FieldError::new(pointer, "unknown_field", format!("an event has no field `{name}`"));
            // A short name is near to many others.
            let near = |known: &&&str| known.len() >= 5 && strsim::damerau_levenshtein(known, name) <= 2;
            match FIELDS.iter().find(near) {
                Some(near) => error.hint(format!("did you mean `{near}`?")),
                None => error.hint("put your own values in `data`"),
            }
        })
        .collect();
    if errors.is_empty() { Ok(()) } else { Err(Problem::fields(Code::UnknownField, errors)) }
}

struct Fields {
    members: Map<String, Value>,
    facts: Vec<GivenFacts>,
    errors: Vec<FieldError>,
}

impl Fields {
    fn wrong(&mut self, name: &str, detail: impl Into<String>) {
        self.errors.push(FieldError::new(format!("/{name}"), "invalid", detail));
    }

    /// The event's key: its `id`, or the header. `None` after recording an error.
    fn event_key(&mut self, headers: &HeaderMap) -> Result<Option<String>, Problem> {
        let is_key =
            |text: &str| (1..=255).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
        match self.members.remove("id") {
            Some(Value::String(id)) if is_key(&id) => return Ok(Some(id)),
            Some(Value::Null) | None => {}
            Some(_) => {
                self.wrong("id", "`id` must be a string of 1 to 255 visible ASCII characters");
                return Ok(None);
            }
        }
        match headers.get("idempotency-key").map(|value| value.to_str()) {
            Some(Ok(key)) if is_key(key) => Ok(Some(key.to_owned())),
            Some(_) => {
                let detail = "must be 1 to 255 visible ASCII characters";
                self.errors.push(FieldError::new("Idempotency-Key", "invalid", detail));
                Ok(None)
            }
            None => Err(Problem::fields(
                Code::MissingId,
                vec![
                    FieldError::new(
                        "/id",
                        "required",
                        "an event requires an id, which is used to detect duplicates",
                    )
                    .hint("add `id`, or send an `Idempotency-Key` header"),
                ],
            )),
        }
    }

    /// The canonical content without the id: sorted keys, no whitespace.
    fn canonical(&self) -> Vec<u8> {
        serde_json::to_vec(&self.members).unwrap_or_default()
    }

    fn event_type(&mut self) -> Option<EventTypeName> {
        match self.members.remove("type") {
            Some(Value::String(name)) => match name.parse() {
                Ok(name) => return Some(name),
                Err(error) => {
                    self.errors.push(FieldError::new("/type", "unknown_event_type", error.to_string()));
                }
            },
            Some(Value::Null) | None => {
                self.errors.push(
                    FieldError::new("/type", "required", "an event requires a type")
                        .hint(r#"add "type": "order.shipped""#),
                );
            }
            Some(_) => self.wrong("type", "`type` must be a string"),
        }
        None
    }

    fn recipients(&mut self) -> Vec<Recipient> {
        let one = self.members.remove("recipient").filter(|value| !value.is_null());
        let many = self.members.remove("recipients").filter(|value| !value.is_null());
        match (one, many) {
            (None, None) => Vec::new(),
            (Some(_), Some(_)) => {
                self.wrong("recipients", "use `recipient` or `recipients`, not both");
                Vec::new()
            }
            (Some(one), None) => self.recipient("/recipient", &one).into_iter().collect(),
            (None, Some(Value::Array(many))) if many.is_empty() || many.len() > MAX_RECIPIENTS => {
                self.wrong("recipients", format!("must contain 1 to {MAX_RECIPIENTS} recipients"));
                Vec::new()
            }
            (None, Some(Value::Array(many))) => self.all_recipients(&many),
            (None, Some(_)) => {
                self.wrong(
                    "recipients",
                    "`recipients` must be a list; for a single recipient use `recipient`",
                );
                Vec::new()
            }
        }
    }

    /// The distinct recipients, in list order.
    fn all_recipients(&mut self, many: &[Value]) -> Vec<Recipient> {
        let mut seen = std::collections::HashSet::with_capacity(many.len());
        let mut recipients = Vec::with_capacity(many.len());
        for (place, one) in many.iter().enumerate() {
            let Some(recipient) = self.recipient(&format!("/recipients/{place}"), one) else { continue };
            if seen.insert(recipient.clone()) {
                recipients.push(recipient);
            }
        }
        recipients
    }

    /// One recipient: a label with an id. Beside an External ID or an alias there may be facts about the person.
    fn recipient(&mut self, pointer: &str, value: &Value) -> Option<Recipient> {
        let Value::Object(members) = value else { return self.label(pointer, value) };
        let is_fact = |name: &str| FACTS.contains(&name);
        let (facts, names): (Map<_, _>, Map<_, _>) = members
            .iter()
            .map(|(name, value)| (name.clone(), value.clone()))
            .partition(|(name, _)| is_fact(name));
        if names.len() != 1 || facts.is_empty() {
            return self.label(pointer, value);
        }
        let recipient = self.label(pointer, &Value::Object(names))?;
        match facts_of(&recipient, facts) {
            Ok(facts) => {
                self.facts.push(facts);
                Some(recipient)
            }
            Err(problems) => {
                let errors = problems.into_iter().map(|problem| {
                    FieldError::new(format!("{pointer}{}", problem.pointer), problem.code, problem.detail)
                });
                self.errors.extend(errors);
                None
            }
        }
    }

    fn label(&mut self, pointer: &str, value: &Value) -> Option<Recipient> {
        let hint = r#"write it as {"external_id": "user-42"}"#;
        let mut refuse = |detail: String| {
            self.errors.push(FieldError::new(pointer, "bad_recipient", detail).hint(hint));
            None
        };
        let Value::Object(labels) = value else {
            return refuse("a recipient must be an object with one label and one ID".into());
        };
        let mut labels = labels.iter();
        let (Some((label, id)), None) = (labels.next(), labels.next()) else {
            return refuse("a recipient must have exactly one label".into());
        };
        let Value::String(id) = id else { return refuse(format!("the ID for `{label}` must be a string")) };
        match Recipient::parse(label, id) {
            Ok(recipient) => Some(recipient),
            Err(error) => {
                let pointer = format!("{pointer}/{}", label.replace('~', "~0").replace('/', "~1"));
                self.errors.push(FieldError::new(pointer, "bad_recipient", error.to_string()));
                None
            }
        }
    }

    fn data(&mut self) -> Value {
        match self.members.remove("data") {
            None | Some(Value::Null) => Value::Object(Map::new()),
            Some(Value::Object(data)) => Value::Object(data),
            Some(_) => {
                self.wrong("data", "`data` must be a JSON object");
                Value::Null
            }
        }
    }

    fn text(&mut self, name: &str) -> Option<String> {
        match self.members.remove(name) {
            None | Some(Value::Null) => None,
            Some(Value::String(text)) => Some(text),
            Some(_) => {
                self.wrong(name, format!("`{name}` must be a string"));
                None
            }
        }
    }

    fn time(&mut self, name: &str) -> Option<Timestamp> {
        let text = self.text(name)?;
        let Ok(time) = chrono::DateTime::parse_from_rfc3339(&text) else {
            self.errors.push(
                FieldError::new(
                    format!("/{name}"),
                    "invalid",
                    format!("`{name}` must be a time with an offset"),
                )
                .hint("write it as 2026-11-24T08:00:00+01:00"),
            );
            return None;
        };
        let time = truncate(time.to_utc());
        if !(1970..=9999).contains(&chrono::Datelike::year(&time)) {
            self.wrong(name, "the year must be between 1970 and 9999");
            return None;
        }
        Some(time)
    }

    fn locale(&mut self) -> Option<String> {
        let text = self.text("locale").filter(|text| !text.trim().is_empty())?;
        let locale = locale::understood(&text);
        if locale.is_none() {
            self.errors.push(
                FieldError::new("/locale", "invalid", "`locale` must be a BCP 47 tag")
                    .hint("write it as `de` or `de-AT`"),
            );
        }
        locale
    }

    fn key(&mut self, name: &str) -> Option<String> {
        let key = self.text(name)?;
        if key.is_empty() || key.chars().count() > 255 || key.chars().any(char::is_control) {
            self.wrong(name, format!("`{name}` must have 1 to 255 characters and no control characters"));
            return None;
        }
        Some(key)
    }

    fn sequence(&mut self) -> Option<i64> {
        let sequence = self.members.remove("sequence").filter(|value| !value.is_null())?;
        // 7.0 is 7.
        let number = plain(&sequence).as_i64();
        if number.is_none() {
            self.wrong("sequence", "`sequence` must be an integer");
        }
        number
    }
}
