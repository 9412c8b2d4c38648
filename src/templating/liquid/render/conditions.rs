//! Conditions: what holds, and what can be compared.

use serde_json::Value as Json;

use super::{Evaluator, Stop};
use crate::templating::liquid::ast::{Condition, Join, Operator, Span, Test};
use crate::templating::liquid::value::Val;

impl<'a> Evaluator<'a> {
    /// `a and b or c` is `a and (b or c)`; what can't change the result isn't evaluated.
    pub(super) fn condition(&mut self, condition: &'a Condition) -> Result<bool, Stop> {
        let mut joins = condition.joins.iter();
        for test in &condition.tests {
            let holds = self.test(test)?;
            let goes_on = match joins.next() {
                Some(Join::And) => holds,
                Some(Join::Or) => !holds,
                None => false,
            };
            if !goes_on {
                return Ok(holds);
            }
        }
        Ok(false)
    }

    fn test(&mut self, test: &'a Test) -> Result<bool, Stop> {
        self.budget.steps(1).map_err(|spent| Stop::Spent(spent, test.span))?;
        let left = self.expr(&test.left)?;
        let Some((operator, right)) = &test.right else { return Ok(left.is_true()) };
        let right = self.expr(right)?;
        let bytes = left.as_str().map_or(0, str::len).saturating_add(right.as_str().map_or(0, str::len));
        self.budget.work(bytes).map_err(|spent| Stop::Spent(spent, test.span))?;
        match operator {
            Operator::Equal => Ok(self.equals(&left, &right)),
            Operator::Unequal => Ok(!self.equals(&left, &right)),
            Operator::Contains => self.contains(&left, &right, test.span),
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => {
                self.compare(*operator, &left, &right, test.span)
            }
        }
    }

    /// If blank values count as missing, `blank` is what has no visible character.
    fn equals(&self, left: &Val<'a>, right: &Val<'a>) -> bool {
        match (left, right) {
            (Val::Blank, value) | (value, Val::Blank)
                if self.manner.refuse_blank && value.is_blank_text() =>
            {
                true
            }
            (left, right) => left.equals(right),
        }
    }

    fn contains(&mut self, left: &Val<'a>, right: &Val<'a>, span: Span) -> Result<bool, Stop> {
        if !left.is_true() || !right.is_true() {
            return Ok(false);
        }
        if let Some(text) = left.as_str() {
            return Ok(text.contains(right.to_filtered_text().as_ref()));
        }
        match left {
            Val::Json(Json::Object(members)) => {
                Ok(right.as_str().is_some_and(|key| members.contains_key(key)))
            }
            // `blank` and `empty` can't be elements of a list.
            Val::Json(_) | Val::List(_) if matches!(right, Val::Blank | Val::Empty) => Ok(false),
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
        let order = match left.compare(right) {
            Ok(Some(order)) => order,
            Err(why) if !self.manner.strict => return Err(Stop::Reported(why.into(), span)),
            Ok(None) if !self.manner.strict => return Ok(false),
            Ok(None) | Err(_) => {
                let what = format!(
                    "`{}` compares two numbers or two strings, but the types differ here",
                    operator.as_str()
                );
                return Err(Stop::Unusable(what.into(), span));
            }
        };
        Ok(match operator {
            Operator::Less => order.is_lt(),
            Operator::AtMost => order.is_le(),
            Operator::More => order.is_gt(),
            _ => order.is_ge(),
        })
    }
}
