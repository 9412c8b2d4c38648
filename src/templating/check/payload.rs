//! Whether a push fits the size limit of the push services.

use serde_json::{Value, json};

use super::{EventShape, Finding, Severity};
use crate::domain::budget::Budget;
use crate::domain::channel::{Channel, PUSH_BYTES};
use crate::domain::template::FieldSpec;
use crate::templating::liquid::{Strictness, Template};

/// Reports a push whose texts are too long: its own text, or that of the longest sample.
pub fn check(
    channel: Channel,
    fields: &[(&'static FieldSpec, Template)],
    events: &[EventShape<'_>],
    budget: &Budget,
) -> Option<Finding> {
    if channel != Channel::Push {
        return None;
    }
    let measure = |data: &Value| -> usize {
        let rendered = fields
            .iter()
            .filter_map(|(_, template)| template.render(&[("data", data)], Strictness::Lenient, budget).ok());
        rendered.map(|rendered| rendered.text.len()).sum()
    };
    let hint = "shorten the text, and link to the rest";
    let found = |severity, message: String| {
        Some(Finding::new("push_too_long", severity, message).hint(hint).in_field("contents", (1, 1)))
    };
    let own = measure(&json!({}));
    if own > PUSH_BYTES {
        let message = format!(
            "the push has {own} bytes of text, but push services accept at most {PUSH_BYTES}: it would be held"
        );
        return found(Severity::Error, message);
    }
    let samples = events.iter().flat_map(|event| event.samples.iter());
    let longest = samples.map(|(name, data)| (measure(data), name)).max()?;
    let (bytes, name) = longest;
    if bytes <= PUSH_BYTES {
        return None;
    }
    found(
        Severity::Warning,
        format!(
            "with the sample `{name}` the push has {bytes} bytes of text, but push services accept at most {PUSH_BYTES}: it would be held"
        ),
    )
}
