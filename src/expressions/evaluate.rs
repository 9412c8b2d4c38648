//! Evaluation: globals in, a JSON value out, within a budget.

use std::sync::Arc;

use cel::{Context, ExecutionError, Value};
use serde_json::Value as Json;

use super::charges;
use super::limits::SHALLOW_DEPTH;
use super::parse::LANGUAGE;
use super::paths::{self, Step};
use super::{Expression, values};
use crate::domain::budget::{Budget, Limits};
use crate::domain::stack::on_deep_stack;

/// Why an expression has no value; no variant contains a value from the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The expression reads something that the data does not have.
    #[error("the data has no `{path}`")]
    Missing {
        /// The missing path, as the expression writes it.
        path: String,
    },
    /// Any other error.
    #[error("{detail}")]
    Failed {
        /// A description.
        detail: String,
    },
}

impl Expression {
    /// Whether the expression is true for these values.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and `Failed` if it yields anything but a boolean.
    pub fn holds(&self, globals: &[(&str, &Json)], budget: &Budget) -> Result<bool, EvaluationError> {
        match self.evaluate(globals, budget)? {
            Json::Bool(holds) => Ok(holds),
            other => Err(failed(format!("it yielded {}, not a boolean", values::kind_of(&other)))),
        }
    }

    /// The value of the expression for these globals.
    ///
    /// # Errors
    /// `Missing` if it reads what does not exist, `Failed` if an operation does not accept its values or exceeds
    /// [`Limits::EXPRESSION`] or what is left of `budget`. The same values fail the same way again.
    pub fn evaluate(&self, globals: &[(&str, &Json)], budget: &Budget) -> Result<Json, EvaluationError> {
        let budget = budget.part(Limits::EXPRESSION);
        if self.parsed.depth <= SHALLOW_DEPTH {
            return self.run(globals, &budget);
        }
        let yielded = on_deep_stack(|| self.run(globals, &budget));
        yielded.unwrap_or_else(|| Err(failed("it could not be evaluated".to_owned())))
    }

    fn run(&self, globals: &[(&str, &Json)], budget: &Budget) -> Result<Json, EvaluationError> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        let read = paths::steps(&self.parsed.tree);
        for (name, value) in globals {
            // Globals that the expression doesn't read need no copy.
            if read.iter().any(|path| path.first() == Some(&Step::Member((*name).to_owned()))) {
                context.add_variable_from_value(*name, values::to_cel(value));
            }
        }
        charges::add_to(&mut context, budget);
        let yielded = Value::resolve(&self.parsed.charged, &context);
        let value = match (yielded, budget.spent()) {
            // Logical operators ignore a side that fails; a spent budget must not be ignored.
            (_, Some(spent)) => return Err(failed(spent.to_string())),
            (Ok(value), None) => value,
            (Err(error), None) => return Err(explain(&error, &read, globals)),
        };
        values::to_json(&value, budget).map_err(|what| failed(format!("it yielded {what}")))
    }
}

fn failed(detail: String) -> EvaluationError {
    EvaluationError::Failed { detail }
}

fn explain(error: &ExecutionError, read: &[Vec<Step>], globals: &[(&str, &Json)]) -> EvaluationError {
    match error {
        ExecutionError::NoSuchKey(key) => missing(key, read, globals),
        ExecutionError::UndeclaredReference(name) => unknown(name, read),
        ExecutionError::NoSuchOverload(call) => failed(format!(
            "`{}` does not accept {}",
            call.function().trim_matches('_').trim_start_matches('@'),
            call.argument_types().iter().map(|kind| words(kind)).collect::<Vec<_>>().join(" and ")
        )),
        ExecutionError::FunctionError { function, .. } => {
            failed(format!("`{function}` can't parse its argument"))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            failed("it divides by zero".to_owned())
        }
        ExecutionError::Overflow(..) => failed("a number exceeds 64 bits".to_owned()),
        ExecutionError::IndexOutOfBounds(_) => failed("a list index is out of range".to_owned()),
        // The others may quote values, and the crate may add new ones.
        _ => failed("its operands do not match".to_owned()),
    }
}

/// A CEL type in plain words.
fn words(kind: &str) -> &str {
    match kind {
        "string" => "a string",
        "int" => "an integer",
        "uint" => "an unsigned integer",
        "double" => "a number with a fraction",
        "bool" => "a boolean",
        "list" => "a list",
        "map" => "an object",
        "null_type" => "null",
        "google.protobuf.Timestamp" | "timestamp" => "a time",
        "google.protobuf.Duration" | "duration" => "a duration",
        other => other,
    }
}

/// The path that lacks the key. A key that no path names came from the data and is not shown.
fn missing(key: &str, read: &[Vec<Step>], globals: &[(&str, &Json)]) -> EvaluationError {
    let names = |path: &&Vec<Step>| path.contains(&Step::Member(key.to_owned()));
    let lacking = read.iter().filter(names).find_map(|path| paths::first_missing(path, globals));
    let any = || read.iter().find(names).map(|path| paths::show(path));
    match lacking.or_else(any) {
        Some(path) => EvaluationError::Missing { path },
        None => failed("an object has no such member".to_owned()),
    }
}

fn unknown(name: &str, read: &[Vec<Step>]) -> EvaluationError {
    if read.iter().any(|path| path.first() == Some(&Step::Member(name.to_owned()))) {
        return EvaluationError::Missing { path: name.to_owned() };
    }
    failed(format!("there is no function `{name}`"))
}
