//! Whether an event's values fit into `custom_data`.

use serde_json::{Map, Value};

use super::shape::{Items, Shape};
use super::text::{Chance, Text};
use super::{EventShape, Finding, Severity, schema};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::templating::compile::CompiledContent;

/// From how many percent of the limit real events are worth a warning.
const NEAR_PERCENT: usize = 80;
/// How deep a smallest event is built; what is deeper is left out, so that it only gets smaller.
const MAX_LEVELS: usize = 12;
/// Of how many characters and values a smallest event is built at most.
const MAX_PIECES: usize = 50_000;

/// Whether the values of an event of this type are, or may be, too large for OneSignal.
pub fn check(
    channel: Channel,
    content: &CompiledContent,
    event: &EventShape<'_>,
    budget: &Budget,
) -> Option<Finding> {
    let limit = channel.custom_data_limit();
    let measure = |data: &Value| {
        let values = content.values(data, budget).ok()?;
        // The shape for all recipients, as the pipeline measures a delivery that is sent alone.
        Some(r#"{"all":}"#.len() + Value::Object(values).to_string().len())
    };
    let name = event.name;
    let instead = if content.reads_provider() {
        "it will be held: the copy reads `user.`, so Herald can't render it"
    } else {
        "Herald renders it instead, with one call per recipient"
    };
    let hint = "read fewer or shorter values, or limit them in the schema with `maxLength` and `maxItems`";
    let smallest = smallest(&schema::data_of(event.schema), MAX_LEVELS, &mut MAX_PIECES.clone())
        .and_then(|data| measure(&data));
    if let Some(bytes) = smallest.filter(|bytes| *bytes > limit) {
        let severity = if content.reads_provider() { Severity::Error } else { Severity::Warning };
        let message = format!(
            "even the smallest event of type `{name}` has {bytes} bytes of values, but OneSignal accepts at most {limit}; {instead}"
        );
        return Some(Finding::new("too_large", severity, message).hint(hint));
    }
    let samples = event.samples.iter().filter_map(|(name, data)| Some((name, measure(data)?)));
    if let Some((sample, bytes)) = samples.max_by_key(|(_, bytes)| *bytes).filter(|(_, bytes)| *bytes > limit)
    {
        let message = format!(
            "with the sample `{sample}` of `{name}` there are {bytes} bytes of values, but OneSignal accepts at most {limit}; {instead}"
        );
        return Some(Finding::new("may_be_too_large", Severity::Warning, message).hint(hint));
    }
    let observed = event.observed.filter(|seen| seen.p99_bytes * 100 > limit * NEAR_PERCENT)?;
    let message = format!(
        "of {} events of type `{name}`, 1 % had {} bytes of values or more, but OneSignal accepts at most {limit}; above that, {instead}",
        observed.events, observed.p99_bytes
    );
    Some(Finding::new("may_be_too_large", Severity::Warning, message).hint(hint))
}

/// A smallest value that a shape allows and a message can use; `None` if there is none.
fn smallest(shape: &Shape<'_>, levels: usize, left: &mut usize) -> Option<Value> {
    *left = left.saturating_sub(1);
    if levels == 0 || *left == 0 {
        return None;
    }
    if let Some(text) = &shape.text {
        let text = smallest_text(text, *left);
        *left = left.saturating_sub(text.len());
        return Some(text.into());
    }
    if shape.number.is_some() {
        return Some(1.into());
    }
    if shape.boolean {
        return Some(true.into());
    }
    if let Some(list) = shape.lists.iter().min_by_key(|list| list.min) {
        let Items::Listed(conj) = &list.items else { return None };
        let count = list.min.min(*left);
        let element = |index| smallest(&conj.element(Some(index)), levels - 1, left);
        return Some((0..count).filter_map(element).collect());
    }
    let object = shape.objects.first()?;
    let required = object.keys().map(|key| (key, object.member(key))).filter(|(_, member)| !member.absent);
    let members =
        required.filter_map(|(key, member)| Some((key.to_owned(), smallest(&member, levels - 1, left)?)));
    Some(Value::Object(members.collect::<Map<String, Value>>()))
}

fn smallest_text(text: &Text, max: usize) -> String {
    let shortest = text.values.as_ref().and_then(|values| values.iter().min_by_key(|value| value.len()));
    match shortest {
        Some(shortest) => shortest.clone(),
        None if text.date == Chance::Always => "2000-01-01".to_owned(),
        // A blank would be held.
        None => "x".repeat(text.min.clamp(1, max.max(1))),
    }
}
