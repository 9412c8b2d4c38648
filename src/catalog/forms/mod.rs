//! The written forms of catalog entries, in files and in the API: durations as `2h`, references by name.

mod digest;
mod event_type;
mod rule;
mod template;

pub use digest::DigestForm;
pub use event_type::EventTypeForm;
pub use rule::{CanaryForm, RuleForm, ThrottleForm, TrackForm};
pub use template::TemplateForm;

/// A problem in a form: code, field, message and hint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormProblem {
    /// A stable code.
    pub code: &'static str,
    /// The field.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// How to fix it.
    pub hint: Option<String>,
}

impl FormProblem {
    fn new(code: &'static str, field: &'static str, message: impl Into<String>) -> Self {
        Self { code, field, message: message.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Translates a deserializer's message about an invalid value, and adds a hint.
pub fn explain_value(words: &str) -> (String, Option<String>) {
    if words.contains("expected a duration") {
        let digits = words.split('"').nth(1).filter(|text| text.parse::<u64>().is_ok());
        return match digits {
            Some(text) => (
                format!("`{text}` has no unit"),
                Some(format!("write `{text}m` for minutes, or use `s`, `h` or `d`")),
            ),
            None => (words.to_owned(), Some("write it as `30s`, `10m`, `2h` or `1d 12h`".to_owned())),
        };
    }
    if words.starts_with("invalid type: null") {
        return (words.to_owned(), Some("send a value, or leave the field out".to_owned()));
    }
    let variant =
        words.strip_prefix("unknown variant `").and_then(|rest| rest.split_once("`, expected one of "));
    match variant {
        Some((name, known)) if known.contains("`stripe`") => {
            let hint = format!("known senders are {known}; for any other sender use `auth`");
            (format!("Herald does not know the sender `{name}`"), Some(hint))
        }
        _ => (words.to_owned(), None),
    }
}
