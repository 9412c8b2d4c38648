//! The catalog's things as people write them, in files and in the API alike: durations as `2h`, references by name.

mod digest;
mod event_type;
mod rule;
mod template;

pub use digest::DigestForm;
pub use event_type::EventTypeForm;
pub use rule::{CanaryForm, RuleForm, ThrottleForm, TrackForm};
pub use template::TemplateForm;

/// What is wrong with a form: a code, the field, words and a remedy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FormProblem {
    /// A stable code.
    pub code: &'static str,
    /// The field, as it is written.
    pub field: &'static str,
    /// What is wrong.
    pub message: String,
    /// What to do.
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

/// How a duration is written, where a reader's words say that one was expected.
pub fn duration_hint(words: &str) -> Option<&'static str> {
    words.contains("expected a duration").then_some("write it as `30s`, `10m`, `2h` or `1d 12h`")
}
