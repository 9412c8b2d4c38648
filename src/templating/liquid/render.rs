//! Runs a parsed template against values.

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::Value as Json;

use super::ast::{
    Assign, Call, Capture, Case, Condition, Expr, Filtered, For, If, Join, Node, Operator, Path, Span, Step,
    Test,
};
use super::budget::{Budget, Limits, Spent};
use super::filters::{self, Bench, Fault, Filter};
use super::position::line_and_column;
use super::value::{Loop, Val};

/// What becomes of a path that leads to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strictness {
    /// It renders as nothing, as at OneSignal, and so does what a filter can't work on.
    Lenient,
    /// In an output, a filter or a loop it is an error, unless a `default` (or the loop's `else`) stands in for
    /// it; conditions may test it. Comparing a text with a number and filters on the wrong kind are errors too.
    Strict,
}

/// What a rendering yields.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rendered {
    /// The text.
    pub text: String,
    /// The paths, as written and each once, that an output found to be nothing.
    pub blanks: Vec<String>,
}

/// Why there is no text. No variant holds a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// A path that is needed leads to nothing.
    #[error("`{path}` (line {line}, column {column}) has no value")]
    Missing {
        /// The path as written.
        path: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// A budget is spent.
    #[error("the template takes too much {what} (line {line}, column {column})")]
    TooMuch {
        /// Which budget: `output`, `steps`, `work on text` or `time`.
        what: &'static str,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
    /// A value is not what it is used as, or may not stand where it would.
    #[error("{what} (line {line}, column {column})")]
    Unusable {
        /// Plain words.
        what: String,
        /// From 1.
        line: usize,
        /// From 1, in characters.
        column: usize,
    },
}

/// Makes the text of an output safe for where it stands.
pub(in crate::templating) trait Escape {
    /// The escaped text of the output at `place`; `captured` says that it is markup, escaped already.
    ///
    /// # Errors
    /// Plain words, without the text, if it may not stand there.
    fn escape<'t>(
        &self,
        place: Span,
        text: Cow<'t, str>,
        captured: bool,
    ) -> Result<Cow<'t, str>, &'static str>;
}

/// How an evaluation treats values.
#[derive(Clone, Copy)]
pub(in crate::templating) struct Manner<'a> {
    /// Whether missing and unusable values are errors.
    pub strict: bool,
    /// Whether, on top, an output that comes to nothing but whitespace counts as missing.
    pub refuse_blank: bool,
    /// What makes outputs safe; none leaves them as they are.
    pub escape: Option<&'a dyn Escape>,
}

enum Stop {
    Missing(Span),
    Spent(Spent, Span),
    Unusable(Cow<'static, str>, Span),
}

enum Flow {
    Next,
    Break,
    Continue,
}

struct Variable<'a> {
    name: &'a str,
    value: Val<'a>,
    /// Whether the value came from the globals and not from the template.
    given: bool,
}

struct Frame<'a> {
    element: Variable<'a>,
    place: Loop,
}

/// Runs nodes one after the other; variables live as long as it does.
pub(in crate::templating) struct Evaluator<'a> {
    source: &'a str,
    globals: &'a [(&'a str, &'a Json)],
    variables: Vec<Variable<'a>>,
    frames: Vec<Frame<'a>>,
    budget: Budget,
    manner: Manner<'a>,
    blanks: Vec<&'a str>,
}

impl<'a> Evaluator<'a> {
    /// An evaluator without variables.
    pub fn new(
        source: &'a str,
        globals: &'a [(&'a str, &'a Json)],
        manner: Manner<'a>,
        limits: &Limits,
    ) -> Self {
        let budget = Budget::new(limits);
        Self {
            source,
            globals,
            variables: Vec::new(),
            frames: Vec::new(),
            budget,
            manner,
            blanks: Vec::new(),
        }
    }

    /// Renders `nodes` onto the end of `out`.
    ///
    /// # Errors
    /// [`RenderError`]; what was rendered so far stays in `out`.
    pub fn render(&mut self, nodes: &'a [Node], out: &mut String) -> Result<(), RenderError> {
        self.block(nodes, out).map(drop).map_err(|stop| self.error(stop))
    }

    /// Whether `condition` holds.
    ///
    /// # Errors
    /// [`RenderError::TooMuch`], or [`RenderError::Unusable`] when strict.
    pub fn decide(&mut self, condition: &'a Condition) -> Result<bool, RenderError> {
        self.condition(condition).map_err(|stop| self.error(stop))
    }

    /// The value of an expression without filters; a missing one is nothing.
    ///
    /// # Errors
    /// [`RenderError::TooMuch`].
    pub fn look_up(&mut self, expr: &'a Expr) -> Result<Val<'a>, RenderError> {
        self.expr(expr).map_err(|stop| self.error(stop))
    }

    /// The value of an expression with its filters, as an `assign` would keep it.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn value(&mut self, value: &'a Filtered) -> Result<Val<'a>, RenderError> {
        self.filtered(value).map_err(|stop| self.error(stop))
    }

    /// The paths, as written, that outputs found to be nothing.
    pub fn into_blanks(self) -> Vec<String> {
        self.blanks.into_iter().map(str::to_owned).collect()
    }

    fn error(&self, stop: Stop) -> RenderError {
        let (Stop::Missing(span) | Stop::Spent(_, span) | Stop::Unusable(_, span)) = &stop;
        let (line, column) = line_and_column(self.source, span.start);
        match stop {
            Stop::Missing(span) => {
                RenderError::Missing { path: span.of(self.source).to_owned(), line, column }
            }
            Stop::Spent(Spent(what), _) => RenderError::TooMuch { what, line, column },
            Stop::Unusable(what, _) => RenderError::Unusable { what: what.into_owned(), line, column },
        }
    }

    fn block(&mut self, nodes: &'a [Node], out: &mut String) -> Result<Flow, Stop> {
        for node in nodes {
            let flow = match node {
                Node::Text(span) => self.write(out, span.of(self.source), *span).map(|()| Flow::Next),
                Node::Output(output) => self.output(output, out).map(|()| Flow::Next),
                Node::If(node) => self.choose_if(node, out),
                Node::Case(node) => self.choose_case(node, out),
                Node::For(node) => self.repeat(node, out),
                Node::Assign(node) => self.assign(node).map(|()| Flow::Next),
                Node::Capture(node) => self.capture(node),
                Node::Break(_) => Ok(Flow::Break),
                Node::Continue(_) => Ok(Flow::Continue),
            }?;
            match flow {
                Flow::Next => {}
                Flow::Break | Flow::Continue => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    fn write(&mut self, out: &mut String, text: &str, span: Span) -> Result<(), Stop> {
        let spent = |spent| Stop::Spent(spent, span);
        self.budget.steps(1).map_err(spent)?;
        self.budget.length(out.len().saturating_add(text.len())).map_err(spent)?;
        self.budget.work(text.len()).map_err(spent)?;
        out.push_str(text);
        Ok(())
    }

    fn output(&mut self, output: &'a Filtered, out: &mut String) -> Result<(), Stop> {
        let value = self.filtered(output)?;
        if let Val::Nil(origin) = &value {
            return self.nothing(*origin, output);
        }
        let text = value.to_text();
        if self.manner.refuse_blank && text.trim().is_empty() {
            if let Some(path) = self.given_path(&output.expr).filter(|_| !has_default(&output.filters)) {
                return Err(Stop::Missing(path.span));
            }
        }
        let text = match self.manner.escape {
            Some(escape) => escape
                .escape(output.span, text, matches!(value, Val::Captured(_)))
                .map_err(|what| Stop::Unusable(Cow::Borrowed(what), output.span))?,
            None => text,
        };
        self.write(out, &text, output.span)
    }

    /// An output came to nothing.
    fn nothing(&mut self, origin: Option<&'a Path>, output: &'a Filtered) -> Result<(), Stop> {
        let path = match (origin, &output.expr) {
            (Some(path), _) | (None, Expr::Path(path)) => path,
            (None, Expr::Literal(_)) => return Ok(()),
        };
        if self.manner.strict {
            return Err(Stop::Missing(path.span));
        }
        let written = path.span.of(self.source);
        if !has_default(&output.filters) && !self.blanks.contains(&written) {
            self.blanks.push(written);
        }
        self.budget.steps(1).map_err(|spent| Stop::Spent(spent, output.span))
    }

    /// The path of an expression whose value came from the globals rather than from the template's own text.
    fn given_path(&self, expr: &'a Expr) -> Option<&'a Path> {
        let Expr::Path(path) = expr else { return None };
        let framed = self.frames.iter().rev().map(|frame| &frame.element);
        let variable = framed.chain(&self.variables).find(|variable| variable.name == path.root);
        variable.is_none_or(|variable| variable.given).then_some(path)
    }

    fn choose_if(&mut self, node: &'a If, out: &mut String) -> Result<Flow, Stop> {
        for branch in &node.branches {
            if self.condition(&branch.condition)? != branch.negated {
                return self.block(&branch.body, out);
            }
        }
        node.otherwise.as_ref().map_or(Ok(Flow::Next), |body| self.block(body, out))
    }

    fn choose_case(&mut self, node: &'a Case, out: &mut String) -> Result<Flow, Stop> {
        let subject = self.expr(&node.subject)?;
        for when in &node.whens {
            for value in &when.values {
                if self.expr(value)?.equals(&subject) {
                    return self.block(&when.body, out);
                }
            }
        }
        node.otherwise.as_ref().map_or(Ok(Flow::Next), |body| self.block(body, out))
    }

    fn repeat(&mut self, node: &'a For, out: &mut String) -> Result<Flow, Stop> {
        let spent = |spent| Stop::Spent(spent, node.span);
        let list = self.expr(&node.list)?;
        if let (Val::Nil(_), Expr::Path(path), true, None) =
            (&list, &node.list, self.manner.strict, &node.otherwise)
        {
            return Err(Stop::Missing(path.span));
        }
        let offset = self.bound(node.offset.as_ref())?.unwrap_or(0);
        let limit = self.bound(node.limit.as_ref())?.unwrap_or(usize::MAX);
        self.budget.steps(list.size().filter(|_| list.is_compound()).unwrap_or(1)).map_err(spent)?;
        let all = list.elements();
        let start = offset.min(all.len());
        let length = limit.min(all.len() - start);
        if length == 0 {
            return node.otherwise.as_ref().map_or(Ok(Flow::Next), |body| self.block(body, out));
        }
        let given = self.given_path(&node.list).is_some();
        for index in 0..length {
            self.budget.steps(1).map_err(spent)?;
            let at = start + if node.reversed { length - 1 - index } else { index };
            let value = all.get(at).cloned().unwrap_or(Val::Nil(None));
            let element = Variable { name: &node.variable, value, given };
            self.frames.push(Frame { element, place: Loop { index, length } });
            let flow = self.block(&node.body, out);
            self.frames.pop();
            match flow? {
                Flow::Next | Flow::Continue => {}
                Flow::Break => break,
            }
        }
        Ok(Flow::Next)
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
            Val::Number(number) => Some(*number),
            other => other.as_str().and_then(super::number::Number::parse),
        };
        match number {
            Some(number) => Ok(Some(usize::try_from(number.as_i64()).unwrap_or(0))),
            None if self.manner.strict => {
                Err(Stop::Unusable("the limit or offset is no number".into(), span))
            }
            None => Ok(None),
        }
    }

    fn assign(&mut self, node: &'a Assign) -> Result<(), Stop> {
        let value = self.filtered(&node.value)?;
        let given = self.given_path(&node.value.expr).is_some();
        self.set(&node.name, value, given);
        Ok(())
    }

    fn capture(&mut self, node: &'a Capture) -> Result<Flow, Stop> {
        let mut text = String::new();
        let flow = self.block(&node.body, &mut text)?;
        self.set(&node.name, Val::Captured(Rc::from(text)), false);
        Ok(flow)
    }

    fn set(&mut self, name: &'a str, value: Val<'a>, given: bool) {
        match self.variables.iter_mut().find(|variable| variable.name == name) {
            Some(variable) => (variable.value, variable.given) = (value, given),
            None => self.variables.push(Variable { name, value, given }),
        }
    }

    fn filtered(&mut self, filtered: &'a Filtered) -> Result<Val<'a>, Stop> {
        let mut value = self.expr(&filtered.expr)?;
        for (index, call) in filtered.filters.iter().enumerate() {
            let has_default = has_default(&filtered.filters[index..]);
            if let (Val::Nil(origin), true, false) = (&value, self.manner.strict, has_default) {
                return Err(Stop::Missing(origin.map_or(span_of(&filtered.expr), |path| path.span)));
            }
            value = self.call(call, value)?;
        }
        Ok(value)
    }

    fn call(&mut self, call: &'a Call, input: Val<'a>) -> Result<Val<'a>, Stop> {
        let mut args = [const { Val::Nil(None) }; 2];
        for (slot, expr) in args.iter_mut().zip(&call.args) {
            *slot = self.expr(expr)?;
            if slot.is_nil() && self.manner.strict && call.filter != Filter::Default && is_path(expr) {
                return Err(Stop::Missing(span_of(expr)));
            }
        }
        let args = &args[..call.args.len().min(2)];
        let mut bench = Bench { budget: &mut self.budget, strict: self.manner.strict };
        filters::apply(call.filter, input, args, call.allow_false, &mut bench).map_err(|fault| match fault {
            Fault::Spent(spent) => Stop::Spent(spent, call.span),
            Fault::Unusable(why) => Stop::Unusable(
                format!("`{}` has nothing to work on: {why}", call.filter.name()).into(),
                call.span,
            ),
        })
    }

    fn expr(&mut self, expr: &'a Expr) -> Result<Val<'a>, Stop> {
        match expr {
            Expr::Literal(literal) => Ok(Val::from(literal)),
            Expr::Path(path) => self.path(path),
        }
    }

    fn path(&mut self, path: &'a Path) -> Result<Val<'a>, Stop> {
        self.budget.steps(1).map_err(|spent| Stop::Spent(spent, path.span))?;
        let mut value = self.root(path);
        for step in &path.steps {
            let next = match step {
                Step::Key(key) => value.get(key),
                Step::Index(index) => value.at(*index),
                Step::Dynamic(inner) => {
                    let key = self.path(inner)?;
                    value.lookup(&key)
                }
            };
            // Past the first gap nothing can be found, but what led there is worth naming.
            value = match next {
                Some(Val::Nil(None)) | None => Val::Nil(Some(path)),
                Some(found) => found,
            };
        }
        Ok(value)
    }

    fn root(&self, path: &'a Path) -> Val<'a> {
        let name = path.root.as_str();
        if let (true, Some(frame)) = (name == "forloop", self.frames.last()) {
            return Val::Loop(frame.place);
        }
        let framed = self.frames.iter().rev().map(|frame| &frame.element);
        if let Some(variable) = framed.chain(&self.variables).find(|variable| variable.name == name) {
            return match &variable.value {
                Val::Nil(None) => Val::Nil(Some(path)),
                value => value.clone(),
            };
        }
        match self.globals.iter().find(|(global, _)| *global == name).map(|(_, value)| Val::from(*value)) {
            Some(Val::Nil(_)) | None => Val::Nil(Some(path)),
            Some(value) => value,
        }
    }

    /// Right to left: each test is joined to the result of all that follow it.
    fn condition(&mut self, condition: &'a Condition) -> Result<bool, Stop> {
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

fn has_default(filters: &[Call]) -> bool {
    filters.iter().any(|call| call.filter == Filter::Default)
}

fn is_path(expr: &Expr) -> bool {
    match expr {
        Expr::Path(_) => true,
        Expr::Literal(_) => false,
    }
}

fn span_of(expr: &Expr) -> Span {
    match expr {
        Expr::Path(path) => path.span,
        Expr::Literal(_) => Span { start: 0, end: 0 },
    }
}
