//! Evaluates an event before anything is stored: validated against its type's schema, planned, its secrets cut out.
//!
//! A small event is evaluated on the current thread, within a budget of about a millisecond ([`Limits::INLINE`]); a
//! larger one, and a small one that needs more, on the threads for events.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::compute::{ComputeError, Purpose};
use crate::domain::budget::{Budget as Work, Limits, Spent};
use crate::domain::clock::Timestamp;
use crate::domain::decision::Decision;
use crate::domain::event::{Event, Recipient, RecipientLabel};
use crate::domain::facts::Facts;
use crate::domain::id::IdSource;
use crate::domain::labels;
use crate::pipeline::Pipeline;
use crate::pipeline::compiled::{CompiledCatalog, CompiledVersion};
use crate::pipeline::ingest::{DataError, IngestError};
use crate::pipeline::operator::test_send::plan_test;
use crate::pipeline::plan::message;
use crate::pipeline::plan::message::Message;
use crate::pipeline::plan::redaction;
use crate::pipeline::plan::{Plan, Planner, plan};
use crate::store::Store;
use crate::store::secrets::event_place;
use crate::vault::VaultError;

/// The size of an event's values, in bytes, and the number of recipients up to which it is evaluated inline.
const SMALL_BYTES: usize = 16 * 1024;
const SMALL_RECIPIENTS: usize = 10;

/// What the evaluation needs of the pipeline, so that it can move to another thread.
#[derive(Clone)]
pub(in crate::pipeline) struct Evaluation {
    ids: Arc<IdSource>,
    store: Store,
    default_ttl: Duration,
    urgent_min_remaining: Duration,
    release_over: u32,
}

/// What an event is evaluated against.
#[derive(Clone)]
pub(in crate::pipeline) struct Circumstances {
    pub catalog: Arc<CompiledCatalog>,
    /// If set, a test send of this version is planned instead of the rules.
    pub test_of: Option<Arc<CompiledVersion>>,
    /// What is known of its recipients; nothing, at first.
    pub facts: Arc<Facts>,
    pub now: Timestamp,
}

/// The result of evaluating an event.
pub(in crate::pipeline) struct Evaluated {
    pub plan: Plan,
    /// Its values as they are stored.
    pub data: String,
    /// The sensitive ones, sealed.
    pub sealed: Option<Vec<u8>>,
}

impl Evaluation {
    /// Plans an event, and cuts out its secrets.
    pub fn plan(&self, event: &Event, around: &Circumstances, work: &Work) -> Result<Evaluated, VaultError> {
        let Circumstances { catalog, test_of, facts, now } = around;
        let planner = self.planner(catalog, work);
        let plan = match test_of {
            Some(version) => plan_test(planner, event, version, facts, *now),
            None => plan(planner, event, facts, *now),
        };
        let (data, sealed) = self.without_secrets(event, catalog)?;
        Ok(Evaluated { plan, data, sealed })
    }

    fn evaluate(&self, event: &Event, around: &Circumstances, work: &Work) -> Result<Evaluated, IngestError> {
        check(event, &around.catalog, around.now, work)?;
        self.plan(event, around, work).map_err(|error| IngestError::Refused(Arc::new(error.into())))
    }

    fn planner<'a>(&'a self, catalog: &'a CompiledCatalog, work: &'a Work) -> Planner<'a> {
        Planner {
            catalog,
            ids: &self.ids,
            default_ttl: self.default_ttl,
            urgent_min_remaining: self.urgent_min_remaining,
            release_over: self.release_over,
            work,
        }
    }

    /// The event's data as it is stored, and the sealed sensitive values.
    fn without_secrets(
        &self,
        event: &Event,
        catalog: &CompiledCatalog,
    ) -> Result<(String, Option<Vec<u8>>), VaultError> {
        let pointers =
            catalog.event_type(&event.event_type).map(|t| t.entry.sensitive.as_slice()).unwrap_or_default();
        if pointers.is_empty() {
            return Ok((event.data.to_string(), None));
        }
        let mut data = event.data.clone();
        let values = redaction::cut(&mut data, pointers);
        if values.is_empty() {
            return Ok((data.to_string(), None));
        }
        let plain = Value::Object(values).to_string();
        let sealed = self.store.vault().seal(&event_place(event.id), plain.as_bytes());
        Ok((data.to_string(), Some(sealed?)))
    }
}

impl Pipeline {
    pub(in crate::pipeline) fn evaluation(&self) -> Evaluation {
        Evaluation {
            ids: Arc::clone(&self.ids),
            store: self.store.clone(),
            default_ttl: self.limits.default_ttl,
            urgent_min_remaining: self.limits.urgent_min_remaining,
            release_over: self.limits.release_over,
        }
    }

    /// Evaluates an event. Events of a batch are never evaluated inline: many small ones together take long.
    ///
    /// # Errors
    /// As for [`Pipeline::accept`].
    pub(in crate::pipeline) async fn evaluate_event(
        &self,
        event: &Arc<Event>,
        around: &Circumstances,
        is_of_batch: bool,
    ) -> Result<Evaluated, IngestError> {
        if !is_of_batch && is_small(event) {
            let work = Work::new(Limits::INLINE);
            let evaluated = self.evaluation().evaluate(event, around, &work);
            if work.spent().is_none() {
                return evaluated;
            }
        }
        let (evaluation, event, around) = (self.evaluation(), Arc::clone(event), around.clone());
        let evaluate = move |work: &Work| {
            let evaluated = evaluation.evaluate(&event, &around, work)?;
            work.spent().map_or(Ok(evaluated), |spent| Err(IngestError::TooComplex(spent)))
        };
        self.compute.run(Purpose::Events, evaluate).await?
    }

    /// What a version renders in a locale with some values.
    ///
    /// # Errors
    /// As [`message::compose`].
    pub(in crate::pipeline) async fn compose(
        &self,
        version: &Arc<CompiledVersion>,
        locale: &str,
        data: &Value,
    ) -> Result<Message, Box<Decision>> {
        let work = Work::new(Limits::INLINE);
        if weight(data) <= SMALL_BYTES {
            let composed = message::compose(version, locale, data, &work);
            if work.spent().is_none() {
                return composed;
            }
        }
        let (shared, owned, values) = (Arc::clone(version), locale.to_owned(), data.clone());
        let compose = move |work: &Work| message::compose(&shared, &owned, &values, work);
        match self.compute.run(Purpose::Events, compose).await {
            Ok(composed) => composed,
            // Its time is bounded, and a delivery, unlike a client, can't be asked to retry.
            Err(ComputeError::Full | ComputeError::Panicked) => {
                message::compose(version, locale, data, &Work::default())
            }
        }
    }
}

fn is_small(event: &Event) -> bool {
    event.recipients.len() <= SMALL_RECIPIENTS && weight(&event.data) <= SMALL_BYTES
}

/// About how many bytes a value has as JSON; counting stops once it is known to be large.
pub(in crate::pipeline) fn weight(value: &Value) -> usize {
    fn add(value: &Value, sum: &mut usize) {
        if *sum > SMALL_BYTES {
            return;
        }
        *sum += 8;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
            Value::String(text) => *sum += text.len(),
            Value::Array(items) => items.iter().for_each(|item| add(item, sum)),
            Value::Object(members) => members.iter().for_each(|(name, member)| {
                *sum += name.len();
                add(member, sum);
            }),
        }
    }
    let mut sum = 0;
    add(value, &mut sum);
    sum
}

/// Validates an event against the catalog.
fn check(event: &Event, catalog: &CompiledCatalog, now: Timestamp, work: &Work) -> Result<(), IngestError> {
    let Some(event_type) = catalog.event_type(&event.event_type) else {
        return Err(IngestError::UnknownType {
            name: event.event_type.to_string(),
            nearest: catalog.nearest_type(event.event_type.as_str()),
        });
    };
    let bad = |errors, has_more| {
        let event_type = event.event_type.to_string();
        Err(IngestError::BadData { event_type, errors, has_more })
    };
    let of_schema = |detail: &str, hint: &str| DataError {
        pointer: String::new(),
        code: "schema".into(),
        detail: detail.into(),
        hint: Some(hint.into()),
    };
    let Some(schema) = &event_type.schema else {
        return bad(
            vec![of_schema("the event type's schema is invalid", "repair the schema in the catalog")],
            false,
        );
    };
    match schema.check(&event.data, work, |error| data_error(error, &event.data)) {
        Ok(None) => {}
        Ok(Some(errors)) if errors.shown.is_empty() => {
            let detail = "it does not match the event type's schema; there are too many errors to list";
            return bad(vec![of_schema(detail, "send less data to see the errors")], true);
        }
        Ok(Some(errors)) => return bad(errors.shown, errors.has_more),
        Err(spent) => {
            let detail = format!("it can't be validated against the event type's schema: {spent}");
            return bad(vec![of_schema(&detail, "send less data, or simplify the schema")], false);
        }
    }
    if event.expires_at.is_some_and(|expires_at| expires_at <= now) {
        return Err(IngestError::Expired);
    }
    check_labels(event, catalog)?;
    let names_audience =
        |rule: &Arc<crate::pipeline::compiled::rules::CompiledRule>| rule.rule.names_audience();
    if event.recipients.is_empty() && !catalog.rules_for(&event.event_type).iter().any(names_audience) {
        return Err(IngestError::NoRecipient);
    }
    Ok(())
}

/// Refuses a recipient that no app of this event type's rules can find by that label.
fn check_labels(event: &Event, catalog: &CompiledCatalog) -> Result<(), IngestError> {
    let is_alias = |recipient: &&Recipient| matches!(recipient.label, RecipientLabel::Alias(_));
    if !event.recipients.iter().any(|recipient| is_alias(&recipient)) {
        return Ok(());
    }
    let apps = catalog.apps_of(&event.event_type);
    let is_unknown = |recipient: &Recipient| !apps.iter().any(|app| app.takes(&recipient.label));
    let Some(index) = event.recipients.iter().position(is_unknown).filter(|_| !apps.is_empty()) else {
        return Ok(());
    };
    let label = event.recipients[index].label.as_str();
    let declared = apps.iter().flat_map(|app| app.alias_labels.iter().flatten()).map(String::as_str);
    let meant = labels::meant(label, declared).map(str::to_owned);
    let is_of_many = event.recipients.len() > 1;
    Err(IngestError::UnknownLabel { is_of_many, label: label.to_owned(), meant })
}

/// The maximum number of characters of a name in an error: names come from the event.
const MAX_CHARACTERS: usize = 300;
/// The maximum number of names that an error quotes.
const MAX_NAMES: usize = 5;
/// The maximum number of members among which a misspelt name is looked for.
const MAX_MEMBERS: usize = 1_000;

fn data_error(error: &jsonschema::ValidationError<'_>, data: &Value) -> DataError {
    use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
    let mut pointer = error.instance_path().to_string();
    let hint = match error.kind() {
        Kind::Required { property } => {
            let name = property.as_str().unwrap_or_default();
            let hint = near_miss(data.pointer(&pointer), name).map_or_else(
                || format!("add `{name}`"),
                |near| format!("if `{near}` is meant, rename it to `{name}`"),
            );
            pointer = format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"));
            Some(hint)
        }
        Kind::AdditionalProperties { unexpected } => {
            Some(format!("leave out {}, or allow it in the schema", quoted(unexpected)))
        }
        Kind::Type { kind: TypeKind::Single(kind) } => Some(format!("send a value of type {kind}")),
        Kind::Format { format } => example_of(format).map(|example| format!("write it as {example}")),
        Kind::Enum { options } => Some(format!("use one of {options}")),
        _ => None,
    };
    DataError {
        pointer: clipped(pointer),
        code: error.kind().keyword().to_owned(),
        detail: clipped(error.masked().to_string()),
        hint: hint.map(clipped),
    }
}

/// A value of a format.
fn example_of(format: &str) -> Option<&'static str> {
    Some(match format {
        "date" => "2026-11-25",
        "date-time" => "2026-11-25T08:00:00Z",
        "time" => "08:00:00Z",
        "duration" => "PT10M",
        "email" | "idn-email" => "ann@shop.example",
        "hostname" | "idn-hostname" => "shop.example",
        "ipv4" => "192.0.2.1",
        "ipv6" => "2001:db8::1",
        "uri" | "iri" => "https://shop.example/orders/1001",
        "uri-reference" | "iri-reference" => "/orders/1001",
        "uuid" => "0191d2a6-5c1b-7000-8000-000000000000",
        "json-pointer" => "/items/0",
        _ => return None,
    })
}

fn clipped(text: String) -> String {
    match text.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

fn quoted(names: &[String]) -> String {
    let mut quoted: Vec<String> = names.iter().take(MAX_NAMES).map(|name| format!("`{name}`")).collect();
    quoted.extend((names.len() > MAX_NAMES).then(|| format!("{} others", names.len() - MAX_NAMES)));
    quoted.join(", ")
}

/// A member of `parent` whose name is close to `name`: most missing values are misspelt. Short names need an exact
/// match, and names that the schema knows are not misspelt.
fn near_miss<'a>(parent: Option<&'a Value>, name: &str) -> Option<&'a str> {
    let members = parent?.as_object()?.keys().map(String::as_str);
    let is_as_long = |member: &&str| member.len().abs_diff(name.len()) <= 8 && name.len() <= 100;
    members.take(MAX_MEMBERS).filter(is_as_long).find(|member| {
        let distance = strsim::damerau_levenshtein(&member.to_lowercase(), &name.to_lowercase());
        *member != name && distance <= (name.chars().count() / 3).min(2)
    })
}

impl From<ComputeError> for IngestError {
    fn from(error: ComputeError) -> Self {
        match error {
            ComputeError::Full => Self::Busy,
            ComputeError::Panicked => Self::Failed,
        }
    }
}

/// The reason to reject an event when a job has used up its limits.
impl From<Spent> for IngestError {
    fn from(spent: Spent) -> Self {
        Self::TooComplex(spent)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::pipeline::ingest::consider::*;

    fn hint(schema: &Value, data: &Value) -> Option<String> {
        let schema = crate::schemas::Schema::new(schema, &Work::default()).unwrap();
        let errors = schema.check(data, &Work::default(), |error| data_error(error, data)).unwrap().unwrap();
        errors.shown.into_iter().next().and_then(|error| error.hint)
    }

    #[test]
    fn a_hint_is_given_where_it_is_certainly_right_and_nowhere_else() {
        let required = |name: &str| json!({"required": [name]});
        assert_eq!(hint(&required("b"), &json!({"a": 1})).as_deref(), Some("add `b`"));
        assert_eq!(hint(&required("city"), &json!({"time": 1})).as_deref(), Some("add `city`"));
        let near = hint(&required("carrier"), &json!({"carier": "DHL"}));
        assert_eq!(near.as_deref(), Some("if `carier` is meant, rename it to `carrier`"));
        let format = |name: &str| {
            let schema = json!({"properties": {"a": {"format": name}}});
            hint(&schema, &json!({"a": "no such thing"}))
        };
        assert_eq!(format("email").as_deref(), Some("write it as ann@shop.example"));
        assert_eq!(format("date").as_deref(), Some("write it as 2026-11-25"));
    }
}
