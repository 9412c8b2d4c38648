//! JSON Schema: schemas are accepted within limits, and data is validated within a budget.
//!
//! A schema's references can make a few lines mean millions of comparisons. So their expansion is counted before a
//! schema is accepted ([`Schema::new`]), and each comparison is charged ([`Schema::check`]). A schema that refers to
//! itself is fine: how far it is followed depends on how deep the data is. Everything here is pure.

mod bounds;
mod count;
mod walk;

use std::fmt;

use jsonschema::{PatternOptions, ValidationError, Validator};
use serde_json::Value;

use bounds::Bounds;

use crate::domain::budget::{Budget, Limits, Spent};
use crate::domain::stack::on_deep_stack;

pub use bounds::{MAX_CHAIN, MAX_EXPANSION};

/// The maximum number of errors listed for one value.
pub const SHOWN_ERRORS: usize = 20;
/// How often a pattern with look-around or back-references may try again, for one text.
const PATTERN_TRIES: usize = 100_000;
/// The maximum number of validations to list all errors; above that, only the first one is reported.
const MAX_LISTING_STEPS: u64 = 10_000;
/// The levels of schemas and data that fit on a regular thread's stack.
const SHALLOW_LEVELS: usize = 200;

/// A compiled schema.
pub struct Schema {
    validator: Validator,
    bounds: Bounds,
}

/// Why a schema is rejected.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SchemaError {
    /// It is not a valid JSON Schema, or refers to something that does not exist. The text contains no value of it.
    #[error("this is not a valid JSON Schema: {0}")]
    Unreadable(String),
    /// Its references expand to more than [`MAX_EXPANSION`] schemas.
    #[error("its references expand to more than {MAX_EXPANSION} schemas")]
    TooLarge,
    /// More than [`MAX_CHAIN`] schemas are nested for one value.
    #[error("more than {MAX_CHAIN} schemas are nested for one value")]
    TooDeep,
    /// A schema refers to itself for one and the same value, without a step into it.
    #[error("`{0}` refers to itself without a step into the value")]
    Circular(String),
    /// A part of it has an `$id` of its own.
    #[error("`{0}` has an `$id` of its own")]
    SecondId(String),
    /// It is too complex to read.
    #[error("it is too complex to read: {0}")]
    Spent(#[from] Spent),
}

impl SchemaError {
    /// What to do about it.
    pub fn remedy(&self) -> &'static str {
        match self {
            Self::Unreadable(_) => "see json-schema.org for the allowed keywords",
            Self::TooLarge | Self::Spent(_) => {
                "define common parts once, and let fewer alternatives refer to each other"
            }
            Self::TooDeep => "nest fewer `allOf`, `anyOf`, `oneOf` and `$ref`",
            Self::Circular(_) => "refer to it from `properties` or `items`",
            Self::SecondId(_) => "put it under `$defs` without `$id` and refer to `#/$defs/…`",
        }
    }
}

/// Validation errors, at most [`SHOWN_ERRORS`].
#[derive(Debug)]
pub struct Errors<T> {
    /// Each in the caller's words.
    pub shown: Vec<T>,
    /// Whether there are more.
    pub has_more: bool,
}

impl Schema {
    /// Reads a schema (2020-12 unless it names another draft).
    ///
    /// # Errors
    /// [`SchemaError`]; the author has to change it.
    pub fn new(schema: &Value, budget: &Budget) -> Result<Self, SchemaError> {
        let plan = walk::Plan::of(schema, budget)?;
        let bounds = bounds::check(&plan, budget)?;
        let counted = walk::with_counts(schema, &plan);
        let build = || {
            jsonschema::options()
                .should_validate_formats(true)
                .with_pattern_options(PatternOptions::fancy_regex().backtrack_limit(PATTERN_TRIES))
                .with_keyword(walk::COUNT, |_, _, _| Ok(Box::new(count::Count)))
                .build(&counted)
                .map_err(|error| {
                    SchemaError::Unreadable(format!("{} at `#{}`", error.masked(), error.instance_path()))
                })
        };
        let unreadable = || Err(SchemaError::Unreadable("it can't be compiled".to_owned()));
        let validator = on_deep_stack(build).unwrap_or_else(unreadable)?;
        Ok(Self { validator, bounds })
    }

    /// Validates `data` and maps each error with `describe`; `None` if it is valid. If listing all errors costs too
    /// much, only the first one is returned, or none.
    ///
    /// # Errors
    /// [`Spent`] when validation needs more than [`Limits::VALIDATION`] or than is left.
    pub fn check<T: Send>(
        &self,
        data: &Value,
        budget: &Budget,
        describe: impl Fn(&ValidationError<'_>) -> T + Sync,
    ) -> Result<Option<Errors<T>>, Spent> {
        if self.fits(data, budget)? {
            return Ok(None);
        }
        let list_all = || {
            let mut errors = self.validator.iter_errors(data);
            let shown = errors.by_ref().take(SHOWN_ERRORS).map(|error| describe(&error)).collect();
            Errors { shown, has_more: errors.next().is_some() }
        };
        // The validator collects all errors before it returns the first one, and one for every failing alternative.
        let limits = Limits { steps: MAX_LISTING_STEPS, ..Limits::VALIDATION };
        let listed = self.on_stack(data, || count::within(&budget.part(limits), list_all));
        let list_first = || self.validator.validate(data).map_err(|error| describe(&error)).err();
        let listed = listed.or_else(|_| {
            let first = self.on_stack(data, || count::within(&budget.part(limits), list_first));
            Ok::<_, Spent>(Errors { shown: first.ok().flatten().into_iter().collect(), has_more: true })
        });
        listed.map(Some)
    }

    /// Whether `data` is valid. It is paid for in advance: as often as each value in it may be validated.
    ///
    /// # Errors
    /// As for [`Self::check`].
    pub fn fits(&self, data: &Value, budget: &Budget) -> Result<bool, Spent> {
        let budget = budget.part(Limits::VALIDATION);
        budget.steps(self.bounds.weight.saturating_mul(size_of(data)))?;
        self.on_stack(data, || Ok(self.validator.is_valid(data)))
    }

    fn on_stack<T: Send>(
        &self,
        data: &Value,
        check: impl FnOnce() -> Result<T, Spent> + Send,
    ) -> Result<T, Spent> {
        if self.bounds.chain.saturating_mul(depth_of(data)) <= SHALLOW_LEVELS {
            return check();
        }
        on_deep_stack(check).unwrap_or(Err(Spent("depth")))
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Schema").field("bounds", &self.bounds).finish_non_exhaustive()
    }
}

/// How many values there are in a value, itself included.
fn size_of(value: &Value) -> usize {
    1 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => items.iter().map(size_of).sum(),
        Value::Object(members) => members.values().map(size_of).sum(),
    }
}

/// How deep values are nested; a plain value is one level.
fn depth_of(value: &Value) -> usize {
    1 + match value {
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => 0,
        Value::Array(items) => items.iter().map(depth_of).max().unwrap_or(0),
        Value::Object(members) => members.values().map(depth_of).max().unwrap_or(0),
    }
}

#[cfg(test)]
mod tests;
