//! The content of a delivery: its event's values, reduced to what the pinned copy uses.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use crate::domain::budget::{Budget as Work, Limits};
use crate::domain::channel::{Channel, PUSH_BYTES};
use crate::domain::clock::Deadline;
use crate::domain::decision::{Decision, DecisionCode};
use crate::domain::template::Mode;
use crate::pipeline::compiled::CompiledVersion;
use crate::templating::{CompiledContent, ValueError};

/// How long rendering one delivery may take.
const RENDER_TIME: Duration = Duration::from_millis(100);

/// The content of a delivery.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// The uploaded template, without values.
    Plain,
    /// The uploaded template, with these values.
    Values {
        /// The entry in `custom_data`.
        values: Arc<Value>,
        /// The entry as JSON text, for its size and for comparison.
        text: Arc<str>,
    },
    /// The contents themselves, by Herald's field names.
    Inline(Arc<BTreeMap<String, String>>),
}

impl Message {
    /// The size of the whole `custom_data`, in bytes, if this entry is the only one and is shared by all recipients.
    pub fn alone_bytes(&self) -> usize {
        match self {
            Self::Values { text, .. } => r#"{"all":}"#.len() + text.len(),
            Self::Plain | Self::Inline(_) => 0,
        }
    }

    /// Whether the contents are in the request instead of an uploaded template.
    pub fn is_inline(&self) -> bool {
        matches!(self, Self::Inline(_))
    }
}

/// Composes what `version` says in `locale` with `data`.
///
/// # Errors
/// The decision to hold the delivery: which value is missing, does not fit, or is too large. It contains no value.
pub fn compose(
    version: &CompiledVersion,
    locale: &str,
    data: &Value,
    work: &Work,
) -> Result<Message, Box<Decision>> {
    let Some(content) = version.content(locale) else {
        let detail = format!("template {} has no valid copy for locale {locale}", version.version.template);
        return Err(Box::new(Decision::new(DecisionCode::NoLiveVersion, detail)));
    };
    // A panic in rendering affects this delivery only.
    catch_unwind(AssertUnwindSafe(|| compose_content(version, content, data, work))).unwrap_or_else(|_| {
        Err(Box::new(Decision::new(
            DecisionCode::Poisonous,
            "rendering it failed because of an internal error",
        )))
    })
}

fn compose_content(
    version: &CompiledVersion,
    content: &CompiledContent,
    data: &Value,
    work: &Work,
) -> Result<Message, Box<Decision>> {
    let work = work.part(Limits::JOB.until(Deadline::after(RENDER_TIME)));
    let message = compose_unmeasured(version, content, data, &work)?;
    check_push(version, content, &message, data, &work)?;
    Ok(message)
}

/// Holds a push that exceeds the size limit of the push services: it would be cut or not arrive.
fn check_push(
    version: &CompiledVersion,
    content: &CompiledContent,
    message: &Message,
    data: &Value,
    work: &Work,
) -> Result<(), Box<Decision>> {
    let values = match message {
        Message::Values { text, .. } => text.len(),
        Message::Plain | Message::Inline(_) => 0,
    };
    let bytes_of = |texts: &BTreeMap<String, String>| texts.values().map(String::len).sum::<usize>();
    let bytes = match message {
        _ if version.version.channel != Channel::Push => return Ok(()),
        Message::Inline(texts) => bytes_of(texts),
        // Values that only OneSignal knows are not counted.
        Message::Plain | Message::Values { .. } => match content.max_bytes(values) {
            max if max <= PUSH_BYTES || content.reads_provider() => return Ok(()),
            _ => {
                bytes_of(&content.render_inline(data, work).map_err(|error| Box::new(held(version, &error)))?)
            }
        },
    };
    if bytes <= PUSH_BYTES {
        return Ok(());
    }
    let detail = format!("the push has {bytes} bytes of text; push services accept at most {PUSH_BYTES}");
    let decision = Decision::new(DecisionCode::TooLarge, detail);
    Err(Box::new(decision.with("bytes", bytes).with("limit", PUSH_BYTES)))
}

fn compose_unmeasured(
    version: &CompiledVersion,
    content: &CompiledContent,
    data: &Value,
    work: &Work,
) -> Result<Message, Box<Decision>> {
    let held = |error: ValueError| Box::new(held(version, &error));
    let inline = || -> Result<Message, Box<Decision>> {
        Ok(Message::Inline(Arc::new(content.render_inline(data, work).map_err(held)?)))
    };
    match version.version.content.mode {
        Mode::Inline if content.reads_provider() => Err(Box::new(Decision::new(
            DecisionCode::TooLarge,
            "its copy reads values that only OneSignal knows, so it can't be rendered here",
        ))),
        Mode::Inline => inline(),
        Mode::Provider if !content.needs_values() => Ok(Message::Plain),
        Mode::Provider => {
            let values = Value::Object(content.values(data, work).map_err(held)?);
            let text: Arc<str> = values.to_string().into();
            let message = Message::Values { values: Arc::new(values), text };
            let limit = version.version.channel.custom_data_limit();
            if message.alone_bytes() <= limit {
                return Ok(message);
            }
            if content.reads_provider() {
                let detail = format!(
                    "its values have {} bytes and OneSignal accepts at most {limit}; the copy reads `user.`, so Herald can't render it",
                    message.alone_bytes()
                );
                return Err(Box::new(
                    Decision::new(DecisionCode::TooLarge, detail)
                        .with("bytes", message.alone_bytes())
                        .with("limit", limit),
                ));
            }
            inline()
        }
    }
}

/// How a version is named after its template: a draft has no number yet.
fn version_words(number: i32) -> String {
    if number > 0 { format!(" version {number}") } else { "'s draft".to_owned() }
}

fn held(version: &CompiledVersion, error: &ValueError) -> Decision {
    let template = &version.version.template;
    let number = version.version.number;
    match error {
        ValueError::Missing { path, field } => Decision::new(
            DecisionCode::MissingValue,
            format!(
                "`{path}` is missing in the event, and `{field}` of {template}{} has no default for it",
                version_words(number)
            ),
        )
        .with("path", path.as_str())
        .with("field", field.as_str()),
        ValueError::Blank { field } => Decision::new(
            DecisionCode::MissingValue,
            format!("`{field}` of {template}{} is blank with this event", version_words(number)),
        )
        .with("field", field.as_str()),
        ValueError::Unsafe { field, .. } => {
            Decision::new(DecisionCode::UnsafeValue, error.to_string()).with("field", field.as_str())
        }
        ValueError::Limit { field, .. } => {
            Decision::new(DecisionCode::TooLarge, error.to_string()).with("field", field.as_str())
        }
    }
}
