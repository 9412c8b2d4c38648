//! Collects what is found in one field.

use std::collections::BTreeSet;

use crate::templating::check::{Finding, Severity};
use crate::templating::liquid::ast::Span;
use crate::templating::liquid::position::line_and_column;

/// How many findings of one field are listed.
const MAX_FINDINGS: usize = 100;

/// The findings of one field, each once.
#[derive(Debug)]
pub struct Report<'f> {
    field: &'f str,
    source: &'f str,
    seen: BTreeSet<(&'static str, usize, String)>,
    /// What was found so far.
    pub found: Vec<Finding>,
}

impl<'f> Report<'f> {
    /// Nothing found yet.
    pub fn new(field: &'f str, source: &'f str) -> Self {
        Self { field, source, seen: BTreeSet::new(), found: Vec::new() }
    }

    /// Notes something at `span`.
    pub fn add(
        &mut self,
        severity: Severity,
        code: &'static str,
        span: Span,
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        let message = message.into();
        if self.found.len() >= MAX_FINDINGS {
            return;
        }
        if !self.seen.insert((code, span.start, message.clone())) {
            return;
        }
        let (line, column) = line_and_column(self.source, span.start);
        let field = Some(self.field);
        self.found.push(Finding {
            field: field.map(str::to_owned),
            line: Some(line),
            column: Some(column),
            hint: Some(hint.into()),
            ..Finding::new(code, severity, message)
        });
    }

    /// Notes something about `what` at its first place only.
    pub fn add_once(
        &mut self,
        code: &'static str,
        (what, span): (&str, Span),
        message: impl Into<String>,
        hint: impl Into<String>,
    ) {
        if self.seen.insert((code, usize::MAX, what.to_owned())) {
            self.add(Severity::Warning, code, span, message, hint);
        }
    }
}
