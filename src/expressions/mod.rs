//! The language of rule conditions and webhook mappings: CEL, the Common Expression Language.
//!
//! An [`Expression`] is parsed once, checked against the JSON Schemas of what it reads, and evaluated against JSON
//! values. Everything here is pure: texts, schemas and values come in as arguments, values and problems go out; no I/O,
//! no clock. It rejects what it can't bound: texts over [`MAX_SOURCE_BYTES`], deep nesting, comprehensions nested three
//! deep, and whatever exceeds a [`Budget`](crate::domain::budget::Budget): steps over lists, bytes compared, bytes
//! produced. Its errors never contain a value from the data.

mod arithmetic;
mod charges;
mod check;
mod evaluate;
mod functions;
mod kinds;
mod limits;
mod operators;
mod parse;
mod paths;
mod schema;
mod syntax;
#[cfg(test)]
mod tests;
mod values;

use std::fmt;
use std::sync::Arc;

pub use evaluate::EvaluationError;
pub use limits::MAX_SOURCE_BYTES;

/// A parsed expression. Cloning it is cheap.
#[derive(Clone)]
pub struct Expression {
    parsed: Arc<parse::Parsed>,
}

/// A problem of an expression, and where; lines and columns count characters from 1.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ExpressionProblem {
    /// A stable word: `syntax`, `too_long`, `too_complex`, `unknown_name`, `unknown_function`, `unknown_path`,
    /// `optional_path`, `type_mismatch`, `wrong_kind`.
    pub code: &'static str,
    /// The line, from 1.
    pub line: usize,
    /// The column within the line, from 1.
    pub column: usize,
    /// What is wrong, in plain words.
    pub message: String,
    /// What to write instead, if known.
    pub hint: Option<String>,
}

/// What an expression must yield.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// `true` or `false`.
    Bool,
    /// A string; a time or a duration is written as a string.
    Text,
    /// A number, whole or not.
    Number,
    /// A list.
    List,
    /// An object.
    Object,
    /// Anything that JSON can hold.
    Any,
}

impl Expression {
    /// The text as written.
    pub fn source(&self) -> &str {
        &self.parsed.source
    }
}

impl fmt::Debug for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Expression").field(&self.source()).finish()
    }
}

impl PartialEq for Expression {
    fn eq(&self, other: &Self) -> bool {
        self.source() == other.source()
    }
}

impl fmt::Display for ExpressionProblem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "line {}, column {}: {}", self.line, self.column, self.message)?;
        match &self.hint {
            Some(hint) => write!(formatter, " ({hint})"),
            None => Ok(()),
        }
    }
}
