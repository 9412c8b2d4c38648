//! Runs a parsed template against values.

mod conditions;
mod kept;
mod loops;

use std::borrow::Cow;
use std::rc::Rc;

use serde_json::Value as Json;

use super::ast::{Assign, Call, Capture, Case, Condition, Expr, Filtered, If, Node, Path, Span, Step};
use super::filters::{self, Bench, Fault, Filter};
use super::marked::{Kind, Marked};
use super::outcome::RenderError;
use super::position::line_and_column;
use super::value::{Loop, Val};
use crate::domain::budget::{Budget, Limits, Spent};
use crate::domain::visible::is_blank;

/// Makes the text of an output safe for its context.
pub(in crate::templating) trait Escape {
    /// Whether a text that is captured at `place` is to be encoded only where the captured text is printed.
    fn is_encoded_later(&self, place: Span) -> bool;

    /// The text of the output at `place`, encoded for it: values as a whole, markup as it is.
    ///
    /// # Errors
    /// A description, without the text, if it is not allowed there.
    fn encode(&self, place: Span, text: &Marked) -> Result<String, &'static str>;
}

/// How an evaluation treats values.
#[derive(Clone, Copy)]
pub(in crate::templating) struct Manner<'a> {
    /// Whether missing and unusable values are errors.
    pub strict: bool,
    /// Whether, in addition, a blank value of the globals counts as missing.
    pub refuse_blank: bool,
    /// What makes outputs safe; none leaves them as they are.
    pub escape: Option<&'a dyn Escape>,
}

enum Stop {
    Missing(Span),
    Spent(Spent, Span),
    Unusable(Cow<'static, str>, Span),
    /// What the reference engine prints in place of the node, and then goes on.
    Reported(Cow<'static, str>, Span),
}

/// Where nodes are rendered to.
struct Out {
    text: Marked,
    /// Whether it is kept in a variable, so that its values are encoded later.
    is_captured: bool,
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

/// Runs nodes in sequence; variables live as long as it does.
pub(in crate::templating) struct Evaluator<'a> {
    source: &'a str,
    globals: &'a [(&'a str, &'a Json)],
    variables: Vec<Variable<'a>>,
    frames: Vec<Frame<'a>>,
    budget: Budget,
    manner: Manner<'a>,
    blanks: Vec<&'a str>,
    reported: Vec<String>,
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
            reported: Vec::new(),
        }
    }

    /// Renders `nodes`.
    ///
    /// # Errors
    /// [`RenderError`].
    pub fn render(&mut self, nodes: &'a [Node]) -> Result<String, RenderError> {
        let mut out = Out { text: Marked::default(), is_captured: false };
        match self.block(nodes, &mut out) {
            Ok(_) => Ok(out.text.into_string()),
            Err(stop) => Err(self.error(stop)),
        }
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

    /// The error of a missing `value`, at `origin` if that is known.
    pub fn missing(&self, value: &Filtered, origin: Option<&Path>) -> RenderError {
        self.error(Stop::Missing(origin.map_or(span_of(&value.expr), |path| path.span)))
    }

    /// The error of a missing member below `value`; `below` is the path from there, with `[]`.
    pub fn missing_below(&self, value: &Filtered, below: &str) -> RenderError {
        let span = span_of(&value.expr);
        let (line, column) = line_and_column(self.source, span.start);
        RenderError::Missing { path: format!("{}{below}", span.of(self.source)), line, column }
    }

    /// The error of `value` not being fit for its place.
    pub fn unusable(&self, value: &Filtered, why: &'static str) -> RenderError {
        self.error(Stop::Unusable(Cow::Borrowed(why), value.span))
    }

    /// The paths, as written, that outputs found to be nothing, and what the reference engine would report.
    pub fn into_notes(self) -> (Vec<String>, Vec<String>) {
        (self.blanks.into_iter().map(str::to_owned).collect(), self.reported)
    }

    fn error(&self, stop: Stop) -> RenderError {
        let (Stop::Missing(span) | Stop::Spent(_, span) | Stop::Unusable(_, span) | Stop::Reported(_, span)) =
            &stop;
        let (line, column) = line_and_column(self.source, span.start);
        match stop {
            Stop::Missing(span) => {
                RenderError::Missing { path: span.of(self.source).to_owned(), line, column }
            }
            Stop::Spent(Spent(what), _) => RenderError::TooMuch { what, line, column },
            Stop::Unusable(what, _) | Stop::Reported(what, _) => {
                RenderError::Unusable { what: what.into_owned(), line, column }
            }
        }
    }

    fn block(&mut self, nodes: &'a [Node], out: &mut Out) -> Result<Flow, Stop> {
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
            };
            let flow = match flow {
                Err(Stop::Reported(what, span)) if !self.manner.strict => {
                    self.report(node, &what, span, out)?;
                    Flow::Next
                }
                other => other?,
            };
            match flow {
                Flow::Next => {}
                Flow::Break | Flow::Continue => return Ok(flow),
            }
        }
        Ok(Flow::Next)
    }

    /// Prints what the reference engine prints in place of a node that it can't run.
    fn report(&mut self, node: &Node, what: &str, span: Span, out: &mut Out) -> Result<(), Stop> {
        let text = format!("Liquid error: {what}");
        if !is_silent(node) {
            self.write(out, &text, span)?;
        }
        if !self.reported.contains(&text) {
            self.budget.memory(text.len()).map_err(|spent| Stop::Spent(spent, span))?;
            self.reported.push(text);
        }
        Ok(())
    }

    fn write(&mut self, out: &mut Out, text: &str, span: Span) -> Result<(), Stop> {
        self.pay_for(out, text.len(), 1, span)?;
        out.text.push(text, Kind::Markup);
        Ok(())
    }

    fn pay_for(&self, out: &Out, bytes: usize, steps: usize, span: Span) -> Result<(), Stop> {
        let spent = |spent| Stop::Spent(spent, span);
        self.budget.steps(steps).map_err(spent)?;
        self.budget.length(out.text.as_str().len().saturating_add(bytes)).map_err(spent)?;
        self.budget.work(bytes).map_err(spent)
    }

    fn output(&mut self, output: &'a Filtered, out: &mut Out) -> Result<(), Stop> {
        let (value, given) = self.filtered(output)?;
        if let Val::Nil(origin) = &value {
            return self.nothing(*origin, output);
        }
        let text = value.to_marked();
        if let (true, true, Some(path)) = (self.manner.refuse_blank, is_blank(text.as_str()), given) {
            return Err(Stop::Missing(path.span));
        }
        match self.manner.escape {
            None => self.write(out, text.as_str(), output.span),
            Some(escape) if out.is_captured && escape.is_encoded_later(output.span) => {
                self.pay_for(out, text.as_str().len(), text.parts(), output.span)?;
                out.text.push_all(&text);
                Ok(())
            }
            Some(escape) => {
                let encoded = escape.encode(output.span, &text);
                let encoded = encoded.map_err(|what| Stop::Unusable(Cow::Borrowed(what), output.span))?;
                self.write(out, &encoded, output.span)
            }
        }
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

    fn choose_if(&mut self, node: &'a If, out: &mut Out) -> Result<Flow, Stop> {
        for branch in &node.branches {
            if self.condition(&branch.condition)? != branch.negated {
                return self.block(&branch.body, out);
            }
        }
        node.otherwise.as_ref().map_or(Ok(Flow::Next), |body| self.block(body, out))
    }

    /// Every alternative that fits is taken, once for each value that fits, as in the reference engine.
    fn choose_case(&mut self, node: &'a Case, out: &mut Out) -> Result<Flow, Stop> {
        let subject = self.expr(&node.subject)?;
        let mut fits = false;
        for when in &node.whens {
            for value in &when.values {
                if !self.expr(value)?.equals(&subject) {
                    continue;
                }
                fits = true;
                match self.block(&when.body, out)? {
                    Flow::Next => {}
                    flow => return Ok(flow),
                }
            }
        }
        match &node.otherwise {
            Some(body) if !fits => self.block(body, out),
            Some(_) | None => Ok(Flow::Next),
        }
    }

    fn assign(&mut self, node: &'a Assign) -> Result<(), Stop> {
        let (value, given) = self.filtered(&node.value)?;
        // The contents of a list or an object came with it, whatever default could have replaced the whole.
        let given = given.or_else(|| self.given_path(&node.value.expr).filter(|_| value.is_compound()));
        let given = given.map_or(Given::No, |origin| Given::Yes(Some(origin)));
        self.set(&node.name, value, given);
        Ok(())
    }

    fn capture(&mut self, node: &'a Capture) -> Result<Flow, Stop> {
        let mut out = Out { text: Marked::default(), is_captured: true };
        let flow = self.block(&node.body, &mut out)?;
        let value = match self.manner.escape {
            Some(_) => Val::Marked(Rc::new(out.text)),
            None => Val::made(out.text.into_string()),
        };
        self.set(&node.name, value, Given::No);
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
        let written = |index| call.args.get(index).is_some_and(|arg| !is_path(arg));
        let mut bench = Bench {
            budget: &self.budget,
            strict: self.manner.strict,
            encodes: self.manner.escape.is_some(),
            literal: [written(0), written(1)],
        };
        filters::apply(call.filter, input, args, call.allow_false, &mut bench).map_err(|fault| match fault {
            Fault::Spent(spent) => Stop::Spent(spent, call.span),
            Fault::Reported(what) => Stop::Reported(what, call.span),
            Fault::Unusable(why) => {
                Stop::Unusable(format!("`{}` failed: {why}", call.filter.name()).into(), call.span)
            }
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

/// Whether a node prints nothing by itself: then nothing is printed in its place either.
fn is_silent(node: &Node) -> bool {
    let all = |nodes: &[Node]| nodes.iter().all(is_silent);
    match node {
        Node::Text(_) | Node::Output(_) | Node::Break | Node::Continue => false,
        Node::Assign(_) | Node::Capture(_) => true,
        Node::If(node) => {
            node.branches.iter().all(|branch| all(&branch.body)) && node.otherwise.as_deref().is_none_or(all)
        }
        Node::Case(node) => {
            node.whens.iter().all(|when| all(&when.body)) && node.otherwise.as_deref().is_none_or(all)
        }
        Node::For(node) => all(&node.body) && node.otherwise.as_deref().is_none_or(all),
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
