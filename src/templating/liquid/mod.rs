//! The Liquid subset that OneSignal supports, and a little more: the language only.
//!
//! [`Template::parse`] takes an untrusted source, and [`Template::render`] runs it within a [`Budget`]; neither panics
//! or runs away, whatever the input. Values come as JSON and are borrowed, the result is text. It reads no clock except
//! a given deadline, does no I/O, and knows nothing of events, channels or OneSignal's fields.
//!
//! Where Liquid implementations differ, the Ruby one decides, because OneSignal follows it. Unlike there, what is
//! unknown or malformed is an error with a position and a suggestion, never a blank.

pub(in crate::templating) mod ast;
pub(in crate::templating) mod dates;
pub(in crate::templating) mod dialect;
mod expression;
pub(in crate::templating) mod filters;
mod inspect;
mod lexer;
pub(in crate::templating) mod marked;
pub(in crate::templating) mod number;
mod outcome;
mod parser;
mod paths;
pub(in crate::templating) mod position;
pub(in crate::templating) mod render;
mod spaces;
pub(in crate::templating) mod value;

#[cfg(test)]
mod conformance;
#[cfg(test)]
mod robustness;

use std::sync::Arc;

use serde_json::Value;

use crate::domain::budget::Budget;

pub use outcome::{RenderError, Rendered, Strictness, excess};
pub use parser::TAGS;
pub use paths::PathUse;
pub use position::SyntaxError;

use ast::Node;
use render::{Evaluator, Manner};

/// The name of every filter.
pub fn filter_names() -> impl Iterator<Item = &'static str> {
    filters::Filter::ALL.iter().map(|filter| filter.name())
}

/// A parsed template. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Template {
    parsed: Arc<Parsed>,
}

#[derive(Debug)]
struct Parsed {
    source: String,
    nodes: Vec<Node>,
}

impl Template {
    /// Parses `source`, of at most 64 KiB and with blocks at most 50 deep.
    ///
    /// # Errors
    /// [`SyntaxError`] with position and advice; retrying does not help.
    pub fn parse(source: &str, budget: &Budget) -> Result<Self, SyntaxError> {
        let nodes = parser::parse(source, budget)?;
        Ok(Self { parsed: Arc::new(Parsed { source: source.to_owned(), nodes }) })
    }

    /// Parses what OneSignal is given: what its engine can't parse is an error here, too.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn parse_as_provider(source: &str, budget: &Budget) -> Result<Self, SyntaxError> {
        match dialect::unparsable(source).into_iter().next() {
            Some(issue) => Err(SyntaxError::at(source, issue.at, issue.message)),
            None => Self::parse(source, budget),
        }
    }

    /// The source as it was written.
    pub fn source(&self) -> &str {
        &self.parsed.source
    }

    /// The parsed nodes.
    pub(in crate::templating) fn nodes(&self) -> &[Node] {
        &self.parsed.nodes
    }

    /// Renders against `globals`, the values by their top-level names.
    ///
    /// # Errors
    /// [`RenderError::Missing`] and [`RenderError::Unusable`] with [`Strictness::Strict`] alone;
    /// [`RenderError::TooMuch`] when the budget is spent.
    pub fn render(
        &self,
        globals: &[(&str, &Value)],
        strictness: Strictness,
        budget: &Budget,
    ) -> Result<Rendered, RenderError> {
        let manner = Manner { strict: strictness == Strictness::Strict, refuse_blank: false, escape: None };
        let mut evaluator = Evaluator::new(self.source(), globals, manner, budget);
        let text = evaluator.render(self.nodes())?;
        let (blanks, reported) = evaluator.into_notes();
        Ok(Rendered { text, blanks, reported })
    }

    /// Every reading of a path, through `assign`, `for`, `where` and `map`, in source order; those that the budget lasts for.
    pub fn paths(&self, budget: &Budget) -> Vec<PathUse> {
        paths::paths(self.source(), self.nodes(), budget)
    }
}
