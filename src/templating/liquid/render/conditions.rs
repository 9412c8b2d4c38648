//! Conditions: what holds, and what can be compared.

use serde_json::Value as Json;

use super::{Evaluator, Stop};
use crate::templating::liquid::ast::{Condition, Join, Operator, Span, Test};
use crate::templating::liquid::value::Val;

impl<'a> Evaluator<'a> {
    /// Right to left: each test is joined to the result of all that follow it.
    pub(super) fn condition(&mut self, condition: &'a Condition) -> Result<bool, Stop> {
        let mut tests = condition.tests.iter().rev();
        let mut result = tests.next().map_or(Ok(false), |test| self.test(test))?;
        for (test, join) in tests.zip(condition.joins.iter().rev()) {
            let holds = self.test(test)?;
            result = match join {
                Join::And => holds && result,
                Join::Or => holds || result,
            };
        }
        Ok(result)
    }

    fn test(&mut self, test: &'a Test) -> Result<bool, Stop> {
        self.budget.steps(1).map_err(|spent| Stop::Spent(spent, test.span))?;
        let left = self.expr(&test.left)?;
        let Some((operator, right)) = &test.right else { return Ok(left.is_true()) };
        let right = self.expr(right)?;
        let bytes = left.as_str().map_or(0, str::len).saturating_add(right.as_str().map_or(0, str::len));
        self.budget.work(bytes).map_err(|spent| Stop::Spent(spent, test.span))?;
        match operator {
            Operator::Equal => Ok(left.equals(&right)),
            Operator::Unequal => Ok(!left.equals(&right)),
            Operator::Contains => self.contains(&left, &right, test.span),
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => {
                self.compare(*operator, &left, &right, test.span)
            }
        }
    }

    fn contains(&mut self, left: &Val<'a>, right: &Val<'a>, span: Span) -> Result<bool, Stop> {
        if left.is_nil() || right.is_nil() {
            return Ok(false);
        }
        if let Some(text) = left.as_str() {
            return Ok(text.contains(right.to_text().as_ref()));
        }
        match left {
            Val::Json(Json::Object(members)) => {
                Ok(right.as_str().is_some_and(|key| members.contains_key(key)))
            }
            Val::Json(_) | Val::List(_) => {
                let elements = left.elements();
                self.budget.steps(elements.len()).map_err(|spent| Stop::Spent(spent, span))?;
                Ok(elements.iter().any(|element| element.equals(right)))
            }
            _ => Ok(false),
        }
    }

    fn compare(&self, operator: Operator, left: &Val<'a>, right: &Val<'a>, span: Span) -> Result<bool, Stop> {
        if left.is_nil() || right.is_nil() {
            return Ok(false);
        }
        match left.compare(right) {
            Some(order) => Ok(match operator {
                Operator::Less => order.is_lt(),
                Operator::AtMost => order.is_le(),
                Operator::More => order.is_gt(),
                _ => order.is_ge(),
            }),
            None if self.manner.strict => {
                let what = format!(
                    "`{}` compares two numbers or two texts, and here the kinds differ",
                    operator.as_str()
                );
                Err(Stop::Unusable(what.into(), span))
            }
            None => Ok(false),
        }
    }
}
