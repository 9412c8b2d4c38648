//! Loops: what they go through, and each round.

use super::{Evaluator, Flow, Frame, Given, Out, Stop, Variable, span_of};
use crate::templating::liquid::ast::{Expr, For};
use crate::templating::liquid::filters::whole;
use crate::templating::liquid::number::Number;
use crate::templating::liquid::outcome::RenderError;
use crate::templating::liquid::value::{Loop, Val};

impl<'a> Evaluator<'a> {
    pub(super) fn repeat(&mut self, node: &'a For, out: &mut Out) -> Result<Flow, Stop> {
        let chosen = self.chosen(node)?;
        if chosen.is_empty() {
            return node.otherwise.as_ref().map_or(Ok(Flow::Next), |body| self.block(body, out));
        }
        let given = self.given_path(&node.list).map_or(Given::No, |_| Given::Yes(None));
        let length = chosen.len();
        for (index, value) in chosen.into_iter().enumerate() {
            self.enter(node, value, given, Loop { index, length })?;
            let flow = self.block(&node.body, out);
            self.frames.pop();
            match flow? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
            }
        }
        Ok(Flow::Next)
    }

    /// Runs `each` for every element that the loop selects, with the element's name set; returns whether there was one.
    ///
    /// # Errors
    /// [`RenderError`], of the loop itself or of `each`.
    pub fn each(
        &mut self,
        node: &'a For,
        each: &mut dyn FnMut(&mut Self) -> Result<(), RenderError>,
    ) -> Result<bool, RenderError> {
        let chosen = self.chosen(node).map_err(|stop| self.error(stop))?;
        let given = self.given_path(&node.list).map_or(Given::No, |_| Given::Yes(None));
        let length = chosen.len();
        for (index, value) in chosen.into_iter().enumerate() {
            self.enter(node, value, given, Loop { index, length }).map_err(|stop| self.error(stop))?;
            let result = each(self);
            self.frames.pop();
            result?;
        }
        Ok(length > 0)
    }

    fn enter(&mut self, node: &'a For, value: Val<'a>, given: Given<'a>, place: Loop) -> Result<(), Stop> {
        self.budget.steps(1).map_err(|spent| Stop::Spent(spent, node.span))?;
        self.frames.push(Frame { element: Variable { name: &node.variable, value, given }, place });
        Ok(())
    }

    /// The elements that a loop goes through, in its order.
    fn chosen(&mut self, node: &'a For) -> Result<Vec<Val<'a>>, Stop> {
        let list = self.expr(&node.list)?;
        if let (Val::Nil(_), Expr::Path(path), true, None) =
            (&list, &node.list, self.manner.strict, &node.otherwise)
        {
            return Err(Stop::Missing(path.span));
        }
        let offset = self.bound(node.offset.as_ref())?.unwrap_or(0);
        let limit = self.bound(node.limit.as_ref())?.unwrap_or(usize::MAX);
        // A text is gone through as a whole, whatever the bounds.
        let (offset, limit) = if list.as_str().is_some() { (0, usize::MAX) } else { (offset, limit) };
        let size = list.size().filter(|_| list.is_compound()).unwrap_or(1);
        self.budget.steps(size).map_err(|spent| Stop::Spent(spent, node.span))?;
        let mut chosen: Vec<Val<'a>> = list.elements().iter().skip(offset).take(limit).cloned().collect();
        if node.reversed {
            chosen.reverse();
        }
        Ok(chosen)
    }

    /// The value of `limit:` or `offset:`.
    fn bound(&mut self, expr: Option<&'a Expr>) -> Result<Option<usize>, Stop> {
        let Some(expr) = expr else { return Ok(None) };
        let value = self.expr(expr)?;
        let span = span_of(expr);
        if value.is_nil() {
            return if self.manner.strict { Err(Stop::Missing(span)) } else { Ok(None) };
        }
        let number = match &value {
            Val::Number(number @ Number::Float(_)) => self.manner.strict.then(|| number.as_i64()),
            Val::Number(number) => Some(number.as_i64()),
            other => other.as_str().and_then(whole),
        };
        match number {
            Some(number) => Ok(Some(usize::try_from(number).unwrap_or(0))),
            None if self.manner.strict => {
                Err(Stop::Unusable("the limit or offset is not a number".into(), span))
            }
            None => Err(Stop::Reported("invalid integer".into(), span)),
        }
    }
}
