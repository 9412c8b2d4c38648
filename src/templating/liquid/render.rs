//! Runs a parsed template against values.

mod conditions;
mod kept;

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::Value as Json;

use super::ast::{Assign, Call, Capture, Case, Condition, Expr, Filtered, For, If, Node, Path, Span, Step};
use super::filters::{self, Bench, Fault, Filter};
use super::outcome::RenderError;
use super::position::line_and_column;
use super::value::{Loop, Val};
use crate::domain::budget::{Budget, Limits, Spent};

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
    /// Whether, on top, a value of the globals that comes to nothing but whitespace counts as missing.
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
    given: Given<'a>,
}

/// Whether a value came from the globals rather than from the template's own text.
#[derive(Clone, Copy)]
enum Given<'a> {
    /// It is the template's.
    No,
    /// It came from the globals: by this path, if it was assigned.
    Yes(Option<&'a Path>),
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
    /// An evaluator without variables, for one field.
    pub fn new(
        source: &'a str,
        globals: &'a [(&'a str, &'a Json)],
        manner: Manner<'a>,
        budget: &Budget,
    ) -> Self {
        let budget = budget.part(Limits::RENDERING);
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

    /// The value of an expression with its filters, as an `assign` would keep it, with the path that brought it from
    /// the globals; none if the template itself says what it is.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn value(&mut self, value: &'a Filtered) -> Result<(Val<'a>, Option<&'a Path>), RenderError> {
        self.filtered(value).map_err(|stop| self.error(stop))
    }

    /// The error of `value` having come to nothing, at `origin` if that is known.
    pub fn missing(&self, value: &Filtered, origin: Option<&Path>) -> RenderError {
        self.error(Stop::Missing(origin.map_or(span_of(&value.expr), |path| path.span)))
    }

    /// The error of a member below `value` having come to nothing; `below` is the path from there, with `[]`.
    pub fn missing_below(&self, value: &Filtered, below: &str) -> RenderError {
        let span = span_of(&value.expr);
        let (line, column) = line_and_column(self.source, span.start);
        RenderError::Missing { path: format!("{}{below}", span.of(self.source)), line, column }
    }

    /// The error of `value` not being fit for its place.
    pub fn unusable(&self, value: &Filtered, why: &'static str) -> RenderError {
        self.error(Stop::Unusable(Cow::Borrowed(why), value.span))
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
                Node::Break => Ok(Flow::Break),
                Node::Continue => Ok(Flow::Continue),
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
        let (value, given) = self.filtered(output)?;
        if let Val::Nil(origin) = &value {
            return self.nothing(*origin, output);
        }
        let text = value.to_text();
        if let (true, true, Some(path)) = (self.manner.refuse_blank, text.trim().is_empty(), given) {
            return Err(Stop::Missing(path.span));
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

    /// The path of an expression whose value came from the globals rather than from the template's own text; of a
    /// variable, the path that it was assigned from.
    fn given_path(&self, expr: &'a Expr) -> Option<&'a Path> {
        let Expr::Path(path) = expr else { return None };
        let framed = self.frames.iter().rev().map(|frame| &frame.element);
        let variable = framed.chain(&self.variables).find(|variable| variable.name == path.root);
        match variable.map(|variable| variable.given) {
            Some(Given::No) => None,
            Some(Given::Yes(Some(origin))) if path.steps.is_empty() => Some(origin),
            Some(Given::Yes(_)) | None => Some(path),
        }
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

    /// Runs `each` for every element that the loop chooses, with the element's name set; tells whether there was one.
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
        let (value, given) = self.filtered(&node.value)?;
        // What is in a list or an object came with it, whatever might have stood in for the whole.
        let given = given.or_else(|| self.given_path(&node.value.expr).filter(|_| value.is_compound()));
        let given = given.map_or(Given::No, |origin| Given::Yes(Some(origin)));
        self.set(&node.name, value, given);
        Ok(())
    }

    fn capture(&mut self, node: &'a Capture) -> Result<Flow, Stop> {
        let mut text = String::new();
        let flow = self.block(&node.body, &mut text)?;
        self.set(&node.name, Val::Captured(Rc::from(text)), Given::No);
        Ok(flow)
    }

    fn set(&mut self, name: &'a str, value: Val<'a>, given: Given<'a>) {
        match self.variables.iter_mut().find(|variable| variable.name == name) {
            Some(variable) => (variable.value, variable.given) = (value, given),
            None => self.variables.push(Variable { name, value, given }),
        }
    }

    fn filtered(&mut self, filtered: &'a Filtered) -> Result<(Val<'a>, Option<&'a Path>), Stop> {
        let mut value = self.expr(&filtered.expr)?;
        let mut given = self.given_path(&filtered.expr);
        for (index, call) in filtered.filters.iter().enumerate() {
            let has_default = has_default(&filtered.filters[index..]);
            if let (Val::Nil(origin), true, false) = (&value, self.manner.strict, has_default) {
                return Err(Stop::Missing(origin.map_or(span_of(&filtered.expr), |path| path.span)));
            }
            if call.filter == Filter::Default
                && self.manner.refuse_blank
                && given.is_some()
                && value.is_blank_text()
            {
                value = Val::Nil(None);
            }
            given = match filters::stand_in(call.filter, &value, call.allow_false) {
                Some(index) => call.args.get(index).and_then(|arg| self.given_path(arg)),
                // Its author has said what to print in its place, so what is kept is right.
                None if call.filter == Filter::Default => None,
                None => given,
            };
            value = self.call(call, value)?;
        }
        Ok((value, given))
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
        let mut bench = Bench { budget: &self.budget, strict: self.manner.strict };
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
