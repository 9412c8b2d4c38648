//! Charges for values and texts that are stored besides the rendered text.

use serde_json::Value as Json;

use super::{Evaluator, Stop};
use crate::domain::budget::{Budget, Spent};
use crate::templating::liquid::ast::{Filtered, Span};
use crate::templating::liquid::outcome::RenderError;

impl Evaluator<'_> {
    /// Charges for a value that is stored besides the text; `value` is its position.
    ///
    /// # Errors
    /// [`RenderError::TooMuch`].
    pub fn made_value(&self, made: &Json, value: &Filtered) -> Result<(), RenderError> {
        let paid = pay_for(made, &self.budget);
        paid.map_err(|spent| self.error(Stop::Spent(spent, value.span)))
    }

    /// Charges for a text of `bytes` bytes that is stored besides the others.
    ///
    /// # Errors
    /// [`RenderError::TooMuch`].
    pub fn made_text(&self, bytes: usize) -> Result<(), RenderError> {
        let start = Span { start: 0, end: 0 };
        self.budget.memory(bytes).map_err(|spent| self.error(Stop::Spent(spent, start)))
    }
}

/// Pays for a value and all that is in it.
fn pay_for(value: &Json, budget: &Budget) -> Result<(), Spent> {
    match value {
        Json::Null | Json::Bool(_) | Json::Number(_) => budget.memory(8),
        Json::String(text) => budget.memory(text.len()),
        Json::Array(items) => items.iter().try_for_each(|item| pay_for(item, budget)),
        Json::Object(members) => members
            .iter()
            .try_for_each(|(name, member)| budget.memory(name.len()).and_then(|()| pay_for(member, budget))),
    }
}
