//! A keyword that is added to each part of a schema: it charges for each validation of the part.

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use jsonschema::{Keyword, ValidationError};
use serde_json::Value;

use crate::domain::budget::{Budget, Spent};

thread_local! {
    /// What this thread currently pays from.
    static PAYER: RefCell<Option<Budget>> = const { RefCell::new(None) };
}

/// Valid for every value; charges a step.
pub(super) struct Count;

impl<'i> Keyword<'i> for Count {
    fn validate(&self, _: &'i Value) -> Result<(), ValidationError<'i>> {
        pay();
        Ok(())
    }

    fn is_valid(&self, _: &'i Value) -> bool {
        pay();
        true
    }
}

/// The validator can't be stopped otherwise: it is unwound, without a panic message.
fn pay() {
    let paid = PAYER.with_borrow(|payer| payer.as_ref().map_or(Ok(()), |budget| budget.steps(1)));
    if let Err(spent) = paid {
        resume_unwind(Box::new(spent));
    }
}

/// Runs `check` and charges `budget` for it.
///
/// # Errors
/// [`Spent`] when it was stopped.
pub(super) fn within<T>(budget: &Budget, check: impl FnOnce() -> T) -> Result<T, Spent> {
    let before = PAYER.replace(Some(budget.clone()));
    let checked = catch_unwind(AssertUnwindSafe(check));
    PAYER.set(before);
    checked.map_err(|stopped| match stopped.downcast::<Spent>() {
        Ok(spent) => *spent,
        Err(panic) => resume_unwind(panic),
    })
}
