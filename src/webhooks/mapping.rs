//! Converts an external body to an event.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Headers;
use super::body::Body;
use super::checks::{Checker, MAX_MAPPINGS};
use super::settings::{Auth, MappingSettings, SettingsProblem, SourceSettings};
use crate::domain::budget::Budget;
use crate::domain::event::EventTypeName;
use crate::domain::locale;
use crate::expressions::{EvaluationError, Expression};

/// Maximum nesting depth of an event, as for posted ones.
const MAX_EVENT_DEPTH: usize = 32;
/// Fields that identify events, recipients and order: they must not contain corrupted text.
const NAMES: [&str; 8] =
    ["id", "type", "recipient", "recipients", "cancellation_key", "collapse_key", "ordering_key", "sequence"];

/// A validated webhook of a source.
#[derive(Debug, Clone)]
pub struct Webhook {
    auth: Auth,
    mappings: Vec<Mapping>,
}

/// The result of a mapping.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped {
    /// An event, in the format of `POST /v1/events`.
    Event {
        /// Index of the matching mapping, from 0.
        mapping: usize,
        /// The event.
        event: Map<String, Value>,
    },
    /// No mapping matches.
    Unmatched {
        /// Errors of the conditions; empty if all were false.
        detail: String,
    },
    /// A mapping matches, but one of its expressions has no valid value.
    Failed {
        /// Index of the mapping, from 0.
        mapping: usize,
        /// Which of its fields: `id`, `data.total`.
        field: String,
        /// The reason.
        detail: String,
    },
}

#[derive(Debug, Clone)]
pub(super) struct Mapping {
    pub when: Option<Expression>,
    pub event_type: TypeSource,
    pub id: Option<Expression>,
    pub recipient: Option<(String, Expression)>,
    pub recipients: Option<Expression>,
    pub data: Option<Data>,
    /// The other fields by name.
    pub fields: Vec<(&'static str, Expression)>,
}

#[derive(Debug, Clone)]
pub(super) enum TypeSource {
    Fixed(String),
    Yielded(Expression),
}

#[derive(Debug, Clone)]
pub(super) enum Data {
    Yielded(Expression),
    Table(BTreeMap<String, Data>),
}

impl Webhook {
    /// Validates the settings of a source's webhook.
    ///
    /// # Errors
    /// All problems.
    pub fn new(settings: &SourceSettings, budget: &Budget) -> Result<Self, Vec<SettingsProblem>> {
        let mut checker = Checker { problems: Vec::new(), budget };
        checker.source(settings);
        let Some(webhook) = &settings.webhook else {
            checker.note("webhook", "required", "the signature of its webhooks is not configured");
            return Err(checker.problems);
        };
        let auth = webhook.auth().map_err(|problem| checker.problems.push(problem)).ok();
        if settings.mapping.is_empty() || settings.mapping.len() > MAX_MAPPINGS {
            checker.note("mapping", "required", &format!("a webhook must have 1 to {MAX_MAPPINGS} mappings"));
        }
        let has_id = auth.as_ref().is_some_and(Auth::names_its_calls);
        let mappings: Vec<Option<Mapping>> = settings
            .mapping
            .iter()
            .enumerate()
            .map(|(place, mapping)| checker.mapping(&format!("mapping[{place}]"), mapping, has_id))
            .collect();
        match (auth, mappings.into_iter().collect::<Option<Vec<_>>>()) {
            (Some(auth), Some(mappings)) if checker.problems.is_empty() => Ok(Self { auth, mappings }),
            _ => Err(checker.problems),
        }
    }

    /// Converts a body to an event with the first matching mapping. The sender's call id is the event's id if the
    /// mapping
    /// gives none; `trial` replaces it in tests.
    pub fn map(&self, body: &Body, headers: &Headers, trial: Option<&str>, budget: &Budget) -> Mapped {
        let call_id = self.auth.call_id(headers, &body.value).or_else(|| trial.map(str::to_owned));
        let headers = Value::from(
            headers.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect::<Map<_, _>>(),
        );
        let globals = [("body", &body.value), ("headers", &headers)];
        let reading = Reading { body, globals: &globals, budget };
        let mut hindrances = Vec::new();
        for (place, mapping) in self.mappings.iter().enumerate() {
            match mapping.when.as_ref().map(|when| reading.holds(when)) {
                None | Some(Ok(true)) => {
                    return match mapping.event(&reading, call_id.as_deref()).and_then(whole) {
                        Ok(event) => Mapped::Event { mapping: place, event },
                        Err((field, detail)) => Mapped::Failed { mapping: place, field, detail },
                    };
                }
                Some(Ok(false)) => {}
                Some(Err(detail)) => hindrances.push(format!("mapping[{place}].when: {detail}")),
            }
        }
        Mapped::Unmatched { detail: hindrances.join("; ") }
    }

    /// The literal event types in mappings.
    pub fn fixed_types(settings: &SourceSettings) -> Vec<(usize, EventTypeName)> {
        let fixed =
            |mapping: &MappingSettings| fixed_type(&mapping.r#type).and_then(|name| name.parse().ok());
        settings.mapping.iter().enumerate().filter_map(|(place, m)| Some((place, fixed(m)?))).collect()
    }
}

/// Validates the settings of a source without a webhook.
///
/// # Errors
/// All problems.
pub(super) fn check_without_webhook(
    settings: &SourceSettings,
    budget: &Budget,
) -> Result<(), Vec<SettingsProblem>> {
    let mut checker = Checker { problems: Vec::new(), budget };
    checker.source(settings);
    if !settings.mapping.is_empty() {
        checker.note("webhook", "required", "the signature of its webhooks is not configured");
    }
    if checker.problems.is_empty() { Ok(()) } else { Err(checker.problems) }
}

/// A field, and why it has no value.
type Failure = (String, String);

/// The input of expressions, and their budget.
struct Reading<'a> {
    body: &'a Body,
    globals: &'a [(&'a str, &'a Value)],
    budget: &'a Budget,
}

impl Reading<'_> {
    /// Whether a condition is true. A missing value makes it false, which is normal for other kinds of bodies.
    fn holds(&self, when: &Expression) -> Result<bool, String> {
        self.refuse_doubts(when)?;
        match when.holds(self.globals, self.budget) {
            Ok(holds) => Ok(holds),
            Err(EvaluationError::Missing { .. }) => Ok(false),
            Err(error) => Err(error.to_string()),
        }
    }

    fn value(&self, field: &str, expression: &Expression) -> Result<Value, Failure> {
        let yielded = self
            .refuse_doubts(expression)
            .and_then(|()| expression.evaluate(self.globals, self.budget).map_err(|error| error.to_string()));
        yielded.map_err(|detail| (field.to_owned(), detail))
    }

    /// Rejects ambiguous values.
    fn refuse_doubts(&self, expression: &Expression) -> Result<(), String> {
        match self.body.doubt_in(expression) {
            Some(doubt) => Err(format!("`{}` {}", doubt.path.join("."), doubt.what)),
            None => Ok(()),
        }
    }
}

impl Mapping {
    fn event(&self, reading: &Reading<'_>, call_id: Option<&str>) -> Result<Map<String, Value>, Failure> {
        let mut event = Map::new();
        let event_type = match &self.event_type {
            TypeSource::Fixed(name) => Value::from(name.as_str()),
            TypeSource::Yielded(expression) => reading.value("type", expression)?,
        };
        event.insert("type".to_owned(), event_type);
        let id = self.id.as_ref().map(|id| reading.value("id", id)).transpose()?.map(as_text);
        if let Some(id) = id.filter(|id| !id.is_null()).or_else(|| call_id.map(Value::from)) {
            event.insert("id".to_owned(), id);
        }
        if let Some((label, expression)) = &self.recipient {
            let id = as_text(reading.value("recipient", expression)?);
            event.insert("recipient".to_owned(), Value::from(Map::from_iter([(label.clone(), id)])));
        }
        if let Some(expression) = &self.recipients {
            event.insert("recipients".to_owned(), reading.value("recipients", expression)?);
        }
        if let Some(data) = &self.data {
            event.insert("data".to_owned(), data.value("data", reading)?);
        }
        for (name, expression) in &self.fields {
            let value = reading.value(name, expression)?;
            let value = if *name == "locale" { as_locale(&value) } else { value };
            if !value.is_null() {
                event.insert((*name).to_owned(), value);
            }
        }
        Ok(event)
    }
}

impl Data {
    fn value(&self, field: &str, reading: &Reading<'_>) -> Result<Value, Failure> {
        match self {
            Self::Yielded(expression) => reading.value(field, expression),
            Self::Table(members) => {
                let mut made = Map::new();
                for (name, data) in members {
                    let value = data.value(&format!("{field}.{name}"), reading)?;
                    if !value.is_null() {
                        made.insert(name.clone(), value);
                    }
                }
                Ok(Value::Object(made))
            }
        }
    }
}

/// Rejects an event that could not be posted.
fn whole(event: Map<String, Value>) -> Result<Map<String, Value>, Failure> {
    let refuse = |name: &str, detail: &str| Err((name.to_owned(), detail.to_owned()));
    for (name, value) in &event {
        // The event itself is one level.
        if is_deeper(value, MAX_EVENT_DEPTH - 1) {
            return refuse(name, "nested too deeply for an event");
        }
        if has_character(value, '\0') {
            return refuse(name, "a string contains a NUL character");
        }
        if NAMES.contains(&name.as_str()) && has_character(value, '\u{fffd}') {
            return refuse(name, "the text is corrupted: it contains the replacement character U+FFFD");
        }
    }
    Ok(event)
}

fn is_deeper(value: &Value, levels: usize) -> bool {
    match value {
        Value::Array(items) => levels == 0 || items.iter().any(|item| is_deeper(item, levels - 1)),
        Value::Object(members) => levels == 0 || members.values().any(|member| is_deeper(member, levels - 1)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => false,
    }
}

fn has_character(value: &Value, character: char) -> bool {
    match value {
        Value::String(text) => text.contains(character),
        Value::Array(items) => items.iter().any(|item| has_character(item, character)),
        Value::Object(members) => {
            members.iter().any(|(name, member)| name.contains(character) || has_character(member, character))
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => false,
    }
}

/// Normalizes a sender's locale; null, which means the source's default, if it is not recognized.
fn as_locale(value: &Value) -> Value {
    value.as_str().and_then(locale::understood).map_or(Value::Null, Value::String)
}

/// Converts an id to a string: in other systems they are often numbers.
fn as_text(value: Value) -> Value {
    match value {
        Value::Number(number) => {
            let text = number.to_string();
            Value::String(text.strip_suffix(".0").unwrap_or(&text).to_owned())
        }
        other => other,
    }
}

/// A literal event type: words joined by dots that don't start with `body` or `headers`.
pub(super) fn fixed_type(text: &str) -> Option<&str> {
    let first = text.split('.').next().unwrap_or_default();
    let is_path = first == "body" || first == "headers";
    text.parse::<EventTypeName>().ok().filter(|_| !is_path).map(|_| text)
}

#[cfg(test)]
mod tests;
