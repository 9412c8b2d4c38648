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

/// Why an expression yielded nothing; no variant holds a value from the data.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// The expression reads something that the data does not have.
    #[error("the data has no `{path}`")]
    Missing {
        /// What is not there, as the expression writes it.
        path: String,
    },
    /// Anything else, in plain words.
    #[error("{detail}")]
    Failed {
        /// In plain words.
        detail: String,
    },
}

impl Expression {
    /// Whether the expression holds for these values.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and `Failed` if it yields anything but true or false.
    pub fn holds(&self, globals: &[(&str, &Json)], budget: &Budget) -> Result<bool, EvaluationError> {
        match self.evaluate(globals, budget)? {
            Json::Bool(holds) => Ok(holds),
            other => Err(failed(format!("it yielded {}, not true or false", values::kind_of(&other)))),
        }
    }

    /// What the expression yields for these values.
    ///
    /// # Errors
    /// `Missing` if it reads what is not there, `Failed` if an operation does not fit its values or takes more than
    /// [`Limits::EXPRESSION`] or than is left of `budget`. The same values fail the same way again.
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
            // What the expression doesn't read needs no copy.
            if read.iter().any(|path| path.first() == Some(&Step::Member((*name).to_owned()))) {
                context.add_variable_from_value(*name, values::to_cel(value));
            }
        }
        charges::add_to(&mut context, budget);
        let yielded = Value::resolve(&self.parsed.charged, &context);
        let value = match (yielded, budget.spent()) {
            // Logic operators pass over a side that fails; what is spent is no side.
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
            "`{}` does not take {}",
            call.function().trim_matches('_').trim_start_matches('@'),
            call.argument_types().iter().map(|kind| words(kind)).collect::<Vec<_>>().join(" and ")
        )),
        ExecutionError::FunctionError { function, .. } => {
            failed(format!("`{function}` can't read what it was given"))
        }
        ExecutionError::DivisionByZero(_) | ExecutionError::RemainderByZero(_) => {
            failed("it divides by zero".to_owned())
        }
        ExecutionError::Overflow(..) => failed("a number goes beyond 64 bits".to_owned()),
        ExecutionError::IndexOutOfBounds(_) => failed("a list has no entry at that place".to_owned()),
        // The others may quote values; the crate may also learn new ones.
        _ => failed("its values do not fit together".to_owned()),
    }
}

/// A type's name at CEL in our words.
fn words(kind: &str) -> &str {
    match kind {
        "string" => "text",
        "int" => "a whole number",
        "uint" => "a `u` number",
        "double" => "a number with a fraction",
        "bool" => "true or false",
        "list" => "a list",
        "map" => "an object",
        "null_type" => "null",
        "google.protobuf.Timestamp" | "timestamp" => "a time",
        "google.protobuf.Duration" | "duration" => "a duration",
        other => other,
    }
}

/// Which path lacks that key. A key that no path names came from the data, so it stays unsaid.
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
