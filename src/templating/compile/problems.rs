//! Problems of a field, for its author.

use crate::templating::liquid::SyntaxError;
use crate::templating::liquid::ast::Span;
use crate::templating::liquid::position::line_and_column;

/// One thing that keeps a template from being compiled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// What kind of thing, for programs: `liquid_syntax`, `unknown_name`, `unknown_field`, `fixed_field`,
    /// `loop_in_push`, `filter_unavailable`, `unsafe_place`, `reserved_name`, `too_entangled` or `mjml`.
    pub code: &'static str,
    /// The field, by Herald's name.
    pub field: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
}

/// The maximum number of problems reported for one field.
const MAX_PROBLEMS: usize = 50;

/// Collects the problems of one field.
#[derive(Debug)]
pub struct Problems<'f> {
    field: &'f str,
    source: &'f str,
    /// What was found so far.
    pub found: Vec<Problem>,
}

impl<'f> Problems<'f> {
    /// No problems yet.
    pub fn new(field: &'f str, source: &'f str) -> Self {
        Self { field, source, found: Vec::new() }
    }

    /// Notes a problem at `span`, once.
    pub fn add(&mut self, code: &'static str, span: Span, message: impl Into<String>, hint: Option<&str>) {
        if self.found.len() >= MAX_PROBLEMS {
            return;
        }
        let (line, column) = line_and_column(self.source, span.start);
        let hint = hint.map(str::to_owned);
        let problem =
            Problem { code, field: self.field.to_owned(), line, column, message: message.into(), hint };
        if !self.found.contains(&problem) {
            self.found.push(problem);
        }
    }
}

impl Problem {
    /// A problem with the language itself.
    pub fn from_syntax(field: &str, error: SyntaxError) -> Self {
        let SyntaxError { line, column, message } = error;
        Self { code: "liquid_syntax", field: field.to_owned(), line, column, message, hint: None }
    }
}
