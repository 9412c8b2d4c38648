//! Evaluation: globals in, a JSON value out, within a bound of steps.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cel::{Context, ExecutionError, FunctionContext, Value};
use serde_json::Value as Json;

use super::bounds::{MAX_STEPS, SHALLOW_DEPTH};
use super::parse::{COUNTED, LANGUAGE, roomy};
use super::paths::{self, Step};
use super::{Expression, values};

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

type Function = Box<
    dyn for<'context, 'call> Fn(
            &mut FunctionContext<'context, 'call>,
        )
            -> Result<cel::common::value::CowVal<'context, 'call>, ExecutionError>
        + Send
        + Sync,
>;

impl Expression {
    /// Whether the expression holds for these values.
    ///
    /// # Errors
    /// As [`Self::evaluate`], and `Failed` if it yields anything but true or false.
    pub fn holds(&self, globals: &[(&str, &Json)]) -> Result<bool, EvaluationError> {
        match self.evaluate(globals)? {
            Json::Bool(holds) => Ok(holds),
            other => Err(failed(format!("it yielded {}, not true or false", values::kind_of(&other)))),
        }
    }

    /// What the expression yields for these values.
    ///
    /// # Errors
    /// `Missing` if it reads what is not there, `Failed` if an operation does not fit its values or the walks over lists
    /// take more than [`MAX_STEPS`] steps. The same values fail the same way again.
    pub fn evaluate(&self, globals: &[(&str, &Json)]) -> Result<Json, EvaluationError> {
        if self.parsed.depth <= SHALLOW_DEPTH {
            return self.run(globals);
        }
        let yielded = roomy(|| self.run(globals));
        yielded.unwrap_or_else(|| Err(failed("it could not be evaluated".to_owned())))
    }

    fn run(&self, globals: &[(&str, &Json)]) -> Result<Json, EvaluationError> {
        let mut context = Context::with_env(Arc::clone(&LANGUAGE));
        let read = paths::steps(&self.parsed.tree);
        for (name, value) in globals {
            // What the expression doesn't read needs no copy.
            if read.iter().any(|path| path.first() == Some(&Step::Member((*name).to_owned()))) {
                context.add_variable_from_value(*name, values::to_cel(value));
            }
        }
        let _ = context.add_function(COUNTED, counter());
        let yielded = Value::resolve(&self.parsed.counted, &context);
        let value = yielded.map_err(|error| explain(&error, &read, globals))?;
        values::to_json(&value).map_err(|what| failed(format!("it yielded {what}")))
    }
}

/// Hands a list on while the evaluation's steps last.
fn counter() -> Function {
    let left = AtomicUsize::new(MAX_STEPS);
    Box::new(move |call| {
        let list = call.args.pop().ok_or(ExecutionError::MissingArgumentOrTarget)?;
        let size = list.as_sizer().map_or(0, |sizer| *sizer.size().inner());
        let size = usize::try_from(size).unwrap_or(usize::MAX);
        let is_within =
            left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(size)).is_ok();
        if is_within {
            return Ok(list);
        }
        // Later walks must not slip through once a big one was refused.
        left.store(0, Ordering::Relaxed);
        Err(ExecutionError::function_error(COUNTED, "too many steps"))
    })
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
        ExecutionError::FunctionError { function, .. } if function == COUNTED => {
            failed(format!("it walks over more than {MAX_STEPS} list entries"))
        }
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
