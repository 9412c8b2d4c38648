//! From a foreign body to an event in Herald's own form.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::Headers;
use super::settings::{Auth, MappingSettings, SettingsProblem, SourceSettings};
use crate::domain::budget::Budget;
use crate::domain::event::{EventTypeName, is_pattern};
use crate::domain::template::is_locale;
use crate::expressions::{EvaluationError, Expression, Kind};

/// Mappings of one source at most.
const MAX_MAPPINGS: usize = 100;
/// Expressions in one table of data at most.
const MAX_LEAVES: usize = 200;

/// A source's webhook, checked and ready.
#[derive(Debug, Clone)]
pub struct Webhook {
    mappings: Vec<Mapping>,
}

/// What became of a body.
#[derive(Debug, Clone, PartialEq)]
pub enum Mapped {
    /// An event, in the form that `POST /v1/events` takes.
    Event {
        /// Which mapping fit, by its place from 0.
        mapping: usize,
        /// The event.
        event: Map<String, Value>,
    },
    /// No mapping fits.
    Unmatched {
        /// What hindered each, in plain words; empty if all said no.
        detail: String,
    },
    /// A mapping fits, but one of its expressions yields nothing usable.
    Failed {
        /// Which mapping, by its place from 0.
        mapping: usize,
        /// Which of its fields: `id`, `data.total`.
        field: String,
        /// Why, in plain words.
        detail: String,
    },
}

#[derive(Debug, Clone)]
struct Mapping {
    when: Option<Expression>,
    event_type: TypeSource,
    id: Option<Expression>,
    recipient: Option<(String, Expression)>,
    recipients: Option<Expression>,
    data: Option<Data>,
    /// The other fields by name.
    fields: Vec<(&'static str, Expression)>,
}

#[derive(Debug, Clone)]
enum TypeSource {
    Fixed(String),
    Yielded(Expression),
}

#[derive(Debug, Clone)]
enum Data {
    Yielded(Expression),
    Table(BTreeMap<String, Data>),
}

impl Webhook {
    /// Checks what is said about a source's webhook.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn new(settings: &SourceSettings, budget: &Budget) -> Result<Self, Vec<SettingsProblem>> {
        let mut checker = Checker { problems: Vec::new(), budget };
        checker.source(settings);
        let Some(webhook) = &settings.webhook else {
            checker.note("webhook", "required", "nothing says how its webhooks are signed");
            return Err(checker.problems);
        };
        let auth = webhook.auth().map_err(|problem| checker.problems.push(problem)).ok();
        if settings.mapping.is_empty() || settings.mapping.len() > MAX_MAPPINGS {
            checker.note("mapping", "required", &format!("a webhook has 1 to {MAX_MAPPINGS} mappings"));
        }
        let has_id = auth == Some(Auth::StandardWebhooks);
        let mappings: Vec<Option<Mapping>> = settings
            .mapping
            .iter()
            .enumerate()
            .map(|(place, mapping)| checker.mapping(&format!("mapping[{place}]"), mapping, has_id))
            .collect();
        match (auth, mappings.into_iter().collect::<Option<Vec<_>>>()) {
            (Some(_), Some(mappings)) if checker.problems.is_empty() => Ok(Self { mappings }),
            _ => Err(checker.problems),
        }
    }

    /// Makes an event of a body by the first mapping that fits. `webhook_id` is the event's id if the mapping gives none.
    pub fn map(&self, body: &Value, headers: &Headers, webhook_id: Option<&str>, budget: &Budget) -> Mapped {
        let headers = Value::from(
            headers.iter().map(|(n, v)| (n.clone(), Value::from(v.as_str()))).collect::<Map<_, _>>(),
        );
        let globals = [("body", body), ("headers", &headers)];
        let mut hindrances = Vec::new();
        for (place, mapping) in self.mappings.iter().enumerate() {
            match mapping.when.as_ref().map(|when| when.holds(&globals, budget)) {
                None | Some(Ok(true)) => {
                    return match mapping.event((&globals, budget), webhook_id) {
                        Ok(event) => Mapped::Event { mapping: place, event },
                        Err((field, detail)) => Mapped::Failed { mapping: place, field, detail },
                    };
                }
                // What is not there does not hold; most bodies of another kind lack something.
                Some(Ok(false) | Err(EvaluationError::Missing { .. })) => {}
                Some(Err(error)) => hindrances.push(format!("mapping[{place}].when: {error}")),
            }
        }
        Mapped::Unmatched { detail: hindrances.join("; ") }
    }

    /// The event types that mappings write out.
    pub fn fixed_types(settings: &SourceSettings) -> Vec<(usize, EventTypeName)> {
        let fixed =
            |mapping: &MappingSettings| fixed_type(&mapping.r#type).and_then(|name| name.parse().ok());
        settings.mapping.iter().enumerate().filter_map(|(place, m)| Some((place, fixed(m)?))).collect()
    }
}

/// Checks what is said about a source that has no webhook.
///
/// # Errors
/// Everything that is wrong with it.
pub(super) fn check_without_webhook(
    settings: &SourceSettings,
    budget: &Budget,
) -> Result<(), Vec<SettingsProblem>> {
    let mut checker = Checker { problems: Vec::new(), budget };
    checker.source(settings);
    if !settings.mapping.is_empty() {
        checker.note("webhook", "required", "nothing says how its webhooks are signed");
    }
    if checker.problems.is_empty() { Ok(()) } else { Err(checker.problems) }
}

/// What expressions read, and what they are paid from.
type Globals<'a, 'b> = (&'b [(&'a str, &'a Value)], &'b Budget);
/// Which field, and why it has no value.
type Failure = (String, String);

impl Mapping {
    fn event(
        &self,
        globals: Globals<'_, '_>,
        webhook_id: Option<&str>,
    ) -> Result<Map<String, Value>, Failure> {
        let evaluate = |field: &str, expression: &Expression| {
            let yielded = expression.evaluate(globals.0, globals.1);
            yielded.map_err(|error| (field.to_owned(), error.to_string()))
        };
        let mut event = Map::new();
        let event_type = match &self.event_type {
            TypeSource::Fixed(name) => Value::from(name.as_str()),
            TypeSource::Yielded(expression) => evaluate("type", expression)?,
        };
        event.insert("type".to_owned(), event_type);
        let id = self.id.as_ref().map(|id| evaluate("id", id)).transpose()?.map(as_text);
        if let Some(id) = id.filter(|id| !id.is_null()).or_else(|| webhook_id.map(Value::from)) {
            event.insert("id".to_owned(), id);
        }
        if let Some((label, expression)) = &self.recipient {
            let id = as_text(evaluate("recipient", expression)?);
            event.insert("recipient".to_owned(), Value::from(Map::from_iter([(label.clone(), id)])));
        }
        if let Some(expression) = &self.recipients {
            event.insert("recipients".to_owned(), evaluate("recipients", expression)?);
        }
        if let Some(data) = &self.data {
            event.insert("data".to_owned(), data.value("data", globals)?);
        }
        for (name, expression) in &self.fields {
            let value = evaluate(name, expression)?;
            if !value.is_null() {
                event.insert((*name).to_owned(), value);
            }
        }
        Ok(event)
    }
}

impl Data {
    fn value(&self, field: &str, globals: Globals<'_, '_>) -> Result<Value, Failure> {
        match self {
            Self::Yielded(expression) => {
                let yielded = expression.evaluate(globals.0, globals.1);
                yielded.map_err(|error| (field.to_owned(), error.to_string()))
            }
            Self::Table(members) => {
                let mut made = Map::new();
                for (name, data) in members {
                    let value = data.value(&format!("{field}.{name}"), globals)?;
                    if !value.is_null() {
                        made.insert(name.clone(), value);
                    }
                }
                Ok(Value::Object(made))
            }
        }
    }
}

/// Ids are texts here and often numbers elsewhere.
fn as_text(value: Value) -> Value {
    match value {
        Value::Number(number) => Value::String(number.to_string()),
        other => other,
    }
}

/// A type that is written out: words joined by dots that don't begin at `body` or `headers`.
fn fixed_type(text: &str) -> Option<&str> {
    let first = text.split('.').next().unwrap_or_default();
    let is_path = first == "body" || first == "headers";
    text.parse::<EventTypeName>().ok().filter(|_| !is_path).map(|_| text)
}

struct Checker<'b> {
    problems: Vec<SettingsProblem>,
    budget: &'b Budget,
}

impl Checker<'_> {
    fn note(&mut self, place: &str, code: &'static str, message: &str) {
        self.problems.push(SettingsProblem::new(place, code, message));
    }

    fn source(&mut self, settings: &SourceSettings) {
        for (place, text) in
            settings.allowed_types.iter().flatten().enumerate().filter(|(_, t)| !is_pattern(t))
        {
            let message = format!("`{text}` names no event types");
            let problem = SettingsProblem::new(format!("allowed_types[{place}]"), "bad_type", message);
            self.problems.push(problem.hint("write `order.shipped`, `order.*` for a family, or `*`"));
        }
        if settings.default_locale.as_deref().is_some_and(|locale| !is_locale(locale)) {
            self.note("default_locale", "bad_locale", "a locale is a BCP 47 tag, such as `de` or `de-AT`");
        }
    }

    /// `None` once a problem is noted.
    fn mapping(&mut self, place: &str, settings: &MappingSettings, has_id: bool) -> Option<Mapping> {
        let before = self.problems.len();
        if settings.id.is_none() && !has_id {
            let problem = SettingsProblem::new(
                format!("{place}.id"),
                "required",
                "an event needs an id, so that a repeat is known",
            );
            self.problems.push(problem.hint("such as `body.id`, or a header: `headers['x-delivery-id']`"));
        }
        let recipient = self.recipient(place, settings);
        let event_type = match fixed_type(&settings.r#type) {
            Some(name) => Some(TypeSource::Fixed(name.to_owned())),
            None => self.expression(place, "type", &settings.r#type, Kind::Text).map(TypeSource::Yielded),
        };
        let data = settings.data.as_ref().and_then(|data| {
            let mut leaves = 0;
            self.data(&format!("{place}.data"), data, Kind::Object, &mut leaves)
        });
        let fields = self.fields(place, settings);
        let mut optional = |name: &str, text: &Option<String>, kind: Kind| {
            text.as_ref().and_then(|text| self.expression(place, name, text, kind))
        };
        let (when, id) =
            (optional("when", &settings.when, Kind::Bool), optional("id", &settings.id, Kind::Any));
        let recipients = optional("recipients", &settings.recipients, Kind::List);
        if self.problems.len() > before {
            return None;
        }
        Some(Mapping { when, event_type: event_type?, id, recipient, recipients, data, fields })
    }

    fn fields(&mut self, place: &str, settings: &MappingSettings) -> Vec<(&'static str, Expression)> {
        let texts = [
            ("time", &settings.time, Kind::Text),
            ("locale", &settings.locale, Kind::Text),
            ("send_after", &settings.send_after, Kind::Text),
            ("expires_at", &settings.expires_at, Kind::Text),
            ("cancellation_key", &settings.cancellation_key, Kind::Text),
            ("collapse_key", &settings.collapse_key, Kind::Text),
            ("sequence", &settings.sequence, Kind::Number),
            ("ordering_key", &settings.ordering_key, Kind::Text),
        ];
        let given = texts.into_iter().filter_map(|(name, text, kind)| Some((name, text.as_ref()?, kind)));
        given
            .filter_map(|(name, text, kind)| Some((name, self.expression(place, name, text, kind)?)))
            .collect()
    }

    fn recipient(&mut self, place: &str, settings: &MappingSettings) -> Option<(String, Expression)> {
        let labels = settings.recipient.as_ref()?;
        let place = format!("{place}.recipient");
        if settings.recipients.is_some() {
            self.note(&place, "bad_recipient", "use `recipient` or `recipients`, not both");
        }
        let (Some((label, text)), 1) = (labels.first_key_value(), labels.len()) else {
            self.note(&place, "bad_recipient", "a recipient is one label with one expression");
            return None;
        };
        Some((label.clone(), self.expression(&place, label, text, Kind::Any)?))
    }

    fn data(&mut self, place: &str, data: &Value, kind: Kind, leaves: &mut usize) -> Option<Data> {
        *leaves += 1;
        if *leaves > MAX_LEAVES {
            self.note(place, "too_complex", "there are too many expressions here");
            return None;
        }
        match data {
            Value::String(text) => {
                let (place, name) = place.rsplit_once('.').unwrap_or(("", place));
                self.expression(place, name, text, kind).map(Data::Yielded)
            }
            Value::Object(members) => {
                let made = members.iter().map(|(name, data)| {
                    Some((name.clone(), self.data(&format!("{place}.{name}"), data, Kind::Any, leaves)?))
                });
                Some(Data::Table(made.collect::<Option<_>>()?))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) => {
                let problem =
                    SettingsProblem::new(place, "syntax", "this is an expression, or a table of them");
                self.problems.push(problem.hint("write it as text: `\"1\"`, `\"'DHL'\"`, `\"[1, 2]\"`"));
                None
            }
        }
    }

    fn expression(&mut self, place: &str, name: &str, text: &str, kind: Kind) -> Option<Expression> {
        let place = format!("{place}.{name}");
        let (parsed, found) = match Expression::parse(text, self.budget) {
            Ok(expression) => {
                let found = expression.check(&[("body", None), ("headers", None)], kind, self.budget);
                (Some(expression), found)
            }
            Err(problem) => (None, vec![problem]),
        };
        for problem in found {
            let message = format!("{} (line {}, column {})", problem.message, problem.line, problem.column);
            let noted = SettingsProblem::new(&place, problem.code, message);
            self.problems.push(SettingsProblem { hint: problem.hint, ..noted });
        }
        parsed
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn settings(text: &str) -> SourceSettings {
        toml::from_str(text).unwrap()
    }

    const SHOP: &str = r#"
        [webhook]
        auth = "standard_webhooks"
        [[mapping]]
        when = "body.topic == 'orders/fulfilled'"
        type = "order.shipped"
        id = "body.id"
        recipient = {external_id = "body.customer.id"}
        data = {order_id = "string(body.number)", carrier = "body.shipping.company", name = "body.customer.?name.orValue(null)"}
        [[mapping]]
        when = "headers['x-topic'].startsWith('carts/')"
        type = "'cart.' + body.state"
        data = "body.cart"
        recipients = "body.watchers.map(w, {'external_id': w})"
    "#;

    #[test]
    fn the_first_mapping_that_holds_makes_the_event() {
        let webhook = Webhook::new(&settings(SHOP), &Budget::default()).unwrap();
        let body = json!({"topic": "orders/fulfilled", "id": 77, "number": 1001, "customer": {"id": 42},
            "shipping": {"company": "DHL"}});
        let event = json!({"type": "order.shipped", "id": "77", "recipient": {"external_id": "42"},
            "data": {"order_id": "1001", "carrier": "DHL"}});
        let mapped = webhook.map(&body, &Headers::new(), Some("msg_1"), &Budget::default());
        assert_eq!(mapped, Mapped::Event { mapping: 0, event: event.as_object().unwrap().clone() });

        let headers = Headers::from([("x-topic".to_owned(), "carts/left".to_owned())]);
        let body = json!({"state": "left", "cart": {"items": 2}, "watchers": ["a", "b"]});
        let Mapped::Event { mapping: 1, event } =
            webhook.map(&body, &headers, Some("msg_2"), &Budget::default())
        else {
            panic!()
        };
        assert_eq!((&event["type"], &event["id"]), (&json!("cart.left"), &json!("msg_2")));
        assert_eq!(event["recipients"], json!([{"external_id": "a"}, {"external_id": "b"}]));
    }

    #[test]
    fn a_body_of_another_kind_is_unmatched_and_a_hole_names_its_field() {
        let webhook = Webhook::new(&settings(SHOP), &Budget::default()).unwrap();
        let map = |body: Value| webhook.map(&body, &Headers::new(), None, &Budget::default());
        assert_eq!(map(json!({"topic": "refunds"})), Mapped::Unmatched { detail: String::new() });
        assert!(matches!(map(json!([])), Mapped::Unmatched { detail } if detail.contains("mapping[0].when")));
        let failed = map(json!({"topic": "orders/fulfilled", "id": 1, "number": 2, "customer": {"id": 3}}));
        let Mapped::Failed { mapping: 0, field, detail } = failed else { panic!("{failed:?}") };
        assert_eq!((field.as_str(), detail.as_str()), ("data.carrier", "the data has no `body.shipping`"));
    }

    #[test]
    fn what_makes_no_sense_is_said_all_at_once_with_its_place() {
        let wrong = settings(
            r#"
            allowed_types = ["Order Shipped"]
            [webhook]
            auth = "hmac"
            [[mapping]]
            when = "body.total > "
            type = "order.shipped"
            recipient = {external_id = "customer.id", email = "body.mail"}
            [[mapping]]
            type = "body.kind"
            id = "bdy.id"
            data = {total = 3, name = "lower(body.name)"}
            sequence = "'a'"
            "#,
        );
        let problems = Webhook::new(&wrong, &Budget::default()).unwrap_err();
        let places: Vec<&str> = problems.iter().map(|problem| problem.place.as_str()).collect();
        assert_eq!(
            places,
            [
                "allowed_types[0]",
                "webhook.header",
                "mapping[0].id",
                "mapping[0].recipient",
                "mapping[0].when",
                "mapping[1].data.name",
                "mapping[1].data.total",
                "mapping[1].sequence",
                "mapping[1].id",
            ]
        );
        assert_eq!(problems[8].hint.as_deref(), Some("did you mean `body`?"));
    }
}
