//! Follows an event through a field's copy, with shapes instead of values: which paths may be missing or blank, and
//! which values are used as the wrong kind.

mod env;
mod expressions;
mod filters;
mod guards;
mod report;

use std::rc::Rc;

use super::shape::{Listing, Shape};
use super::{EventShape, Finding, Severity};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::templating::compile::dataflow::Origins;
use crate::templating::liquid::Template;
use crate::templating::liquid::ast::{Assign, Case, Expr, Filtered, For, If, Node, Operator, Span};

use env::{Env, Guard, Known, Variables};
use report::Report;

pub use env::Place;

/// How often a loop's body is followed until its variables settle.
const MAX_ROUNDS: usize = 4;
/// How many nodes are followed before loops are given up on.
const MAX_STEPS: usize = 50_000;

/// Where in `data` a path that is read may lie.
pub struct Reading {
    /// The path.
    pub span: Span,
    /// How many steps it has.
    pub steps: usize,
    /// The places of the whole path.
    pub places: Vec<Place>,
}

impl Reading {
    /// The places of the path's root with its first `steps` steps, if it has that many.
    pub fn beginnings(&self, steps: usize) -> impl Iterator<Item = &[Option<String>]> {
        let left = self.steps.checked_sub(steps);
        self.places.iter().filter_map(move |place| place.get(..place.len().checked_sub(left?)?))
    }
}

/// What following a field brought to light.
pub struct Followed {
    /// What was found.
    pub found: Vec<Finding>,
    /// Every path that was read.
    pub readings: Vec<Reading>,
}

struct Flow<'w, 's> {
    source: &'w str,
    event: &'w EventShape<'w>,
    data: Shape<'s>,
    budget: &'w Budget,
    origins: Origins,
    env: Env<'s>,
    report: Report<'w>,
    readings: Vec<Reading>,
    tokens: usize,
    steps: usize,
    /// The variables where `break` and `continue` leave the innermost loop's body.
    exits: Vec<Variables<'s>>,
    /// How many captures are open: what is written in them isn't shown yet.
    captures: usize,
    /// Whether a sensitive value was written within them.
    tainted: bool,
    /// Whether the field shows on a locked screen.
    shown: bool,
}

/// Follows one field for one event type. `None` if its variables depend on each other too much to be followed.
pub fn follow(
    channel: Channel,
    field: &str,
    template: &Template,
    event: &EventShape<'_>,
    budget: &Budget,
) -> Option<Followed> {
    let mut flow = Flow {
        source: template.source(),
        event,
        data: super::schema::data_of(event.schema),
        budget,
        origins: Origins::of(template.nodes(), budget)?,
        env: Env::default(),
        report: Report::new(field, template.source()),
        readings: Vec::new(),
        tokens: 0,
        steps: 0,
        exits: Vec::new(),
        captures: 0,
        tainted: false,
        shown: channel == Channel::Push && matches!(field, "contents" | "headings" | "subtitle"),
    };
    flow.block(template.nodes());
    Some(Followed { found: flow.report.found, readings: flow.readings })
}

impl<'s> Flow<'_, 's> {
    fn block(&mut self, nodes: &[Node]) {
        for node in nodes {
            self.steps += 1;
            if self.budget.steps(1 + self.env.guards.len() / 16).is_err() {
                return;
            }
            match node {
                Node::Text(_) => {}
                Node::Output(output) => self.output(output),
                Node::If(node) => self.choice(node),
                Node::Case(node) => self.case(node),
                Node::For(node) => self.repeat(node),
                Node::Assign(node) => self.assign(node),
                Node::Capture(node) => {
                    let tainted = std::mem::take(&mut self.tainted);
                    self.captures += 1;
                    self.block(&node.body);
                    self.captures -= 1;
                    let text = Shape::text(super::text::Text::any());
                    let sensitive = std::mem::replace(&mut self.tainted, tainted);
                    let captured = Known { sensitive, ..Known::own(text, self.fresh()) };
                    self.env.set(&node.name, captured);
                }
                Node::Break | Node::Continue => self.exits.push(Rc::clone(&self.env.variables)),
            }
        }
    }

    fn fresh(&mut self) -> String {
        self.tokens += 1;
        format!("#{}", self.tokens)
    }

    fn output(&mut self, output: &Filtered) {
        let known = self.filtered(output);
        let Expr::Path(path) = &output.expr else { return };
        let known = self.need(known, path);
        self.check_secret(&known, output.span);
        if known.shape.foreign {
            return;
        }
        if known.shape.may_be_compound() {
            let written = path.span.of(self.source);
            let message = format!("`{written}` is {} and can't be printed", known.shape.kinds());
            let hint = "write one of its members, loop over it, or `join` it";
            self.wrong_type(!known.shape.may_be_plain(), output.span, message, hint);
        } else {
            self.check_given(&known, &output.expr);
        }
    }

    fn assign(&mut self, node: &Assign) {
        let known = self.filtered(&node.value);
        let known = match &node.value.expr {
            // OneSignal is sent the value, whether it is used or not.
            Expr::Path(path) if self.origins.is_kept_by_provider(&node.name) => {
                self.check_given(&known, &node.value.expr);
                self.need(known, path)
            }
            Expr::Path(_) | Expr::Literal(_) => known,
        };
        let given =
            known.given || (known.shape.may_be_compound() && matches!(node.value.expr, Expr::Path(_)));
        self.env.set(&node.name, Known { given, ..known });
    }

    fn choice(&mut self, node: &If) {
        // Where OneSignal decides, Herald computes what any branch needs.
        let decided = node.branches.iter().all(|branch| !self.origins.condition(&branch.condition).provider);
        let before = self.env.clone();
        let mut ends: Vec<Variables<'s>> = Vec::new();
        for branch in &node.branches {
            let outcomes = self.condition(&branch.condition);
            let rest = self.env.clone();
            self.assume(outcomes.when(!branch.negated), decided);
            self.block(&branch.body);
            ends.push(std::mem::replace(&mut self.env, rest).variables);
            self.assume(outcomes.when(branch.negated), decided);
        }
        node.otherwise.iter().for_each(|body| self.block(body));
        self.meet(before, ends);
    }

    fn case(&mut self, node: &Case) {
        let values = node.whens.iter().flat_map(|when| &when.values).chain([&node.subject]);
        let decided = !values.into_iter().any(|value| self.origins.expr(value).provider);
        let before = self.env.clone();
        let subject = self.expr(&node.subject).shape;
        let mut ends: Vec<Variables<'s>> = Vec::new();
        for when in &node.whens {
            for value in &when.values {
                let shape = self.expr(value).shape;
                let span = span_of(value).unwrap_or(node.span);
                self.check_kinds(Operator::Equal, (&node.subject, &subject), (value, &shape), span);
            }
            let guards = self.chosen(&node.subject, &when.values);
            let rest = self.env.clone();
            self.assume(&guards, decided);
            self.block(&when.body);
            ends.push(std::mem::replace(&mut self.env, rest).variables);
        }
        node.otherwise.iter().for_each(|body| self.block(body));
        self.meet(before, ends);
    }

    fn assume(&mut self, guards: &[Guard], decided: bool) {
        self.env.guards.extend(guards.iter().filter(|guard| decided || guard.by_provider).cloned());
    }

    /// Goes on where the branches come together again: at `self.env` and at `ends`, of which only the variables are kept.
    fn meet(&mut self, before: Env<'s>, ends: Vec<Variables<'s>>) {
        let last = std::mem::replace(&mut self.env, before);
        self.env.variables = last.variables;
        for end in ends {
            self.join(&end);
        }
    }

    fn join(&mut self, other: &Variables<'s>) {
        let names = self.env.variables.len() + other.len();
        if !Rc::ptr_eq(&self.env.variables, other) && self.budget.steps(names).is_err() {
            return;
        }
        let mut tokens = self.tokens;
        self.env.join(other, || {
            tokens += 1;
            format!("#{tokens}")
        });
        self.tokens = tokens;
    }

    fn repeat(&mut self, node: &For) {
        let list = self.expr(&node.list);
        let list = match &node.list {
            Expr::Path(path) if node.otherwise.is_none() => self.need(list, path),
            Expr::Path(_) | Expr::Literal(_) => list,
        };
        for bound in [&node.limit, &node.offset].into_iter().flatten() {
            let known = self.needed(bound);
            if !known.shape.foreign && known.shape.numeric() != super::text::Chance::Always {
                let surely = known.shape.numeric() == super::text::Chance::Never;
                let message = format!("the loop's limit or offset is {}", known.shape.kinds());
                self.wrong_type(surely, span_of(bound).unwrap_or(node.span), message, "use a number");
            }
        }
        let shape = &list.shape;
        if !shape.foreign && !shape.may_be_compound() && shape.may_be_plain() {
            let message = format!("the loop runs over {}, not a list", shape.kinds());
            let hint = "loop over a list, or remove `for` if it is a single value";
            self.wrong_type(true, span_of(&node.list).unwrap_or(node.span), message, hint);
        }
        let element = self.element(node, &list);
        let origin = Origins::element(self.origins.list(node));
        let before = self.env.clone();
        self.origins.enter(&node.variable, origin);
        self.rounds(node, &element);
        self.origins.leave();
        self.env.elements.clone_from(&before.elements);
        self.env.guards.clone_from(&before.guards);
        if let Some(body) = &node.otherwise {
            let looped = std::mem::replace(&mut self.env, before);
            self.block(body);
            self.join(&looped.variables);
        }
    }

    fn element(&mut self, node: &For, list: &Known<'s>) -> Known<'s> {
        let mut shape = list.shape.elements();
        if shape.listing == Listing::Open && !shape.foreign {
            let written = span_of(&node.list).map_or("the list", |span| span.of(self.source));
            let event = self.event.name;
            let message = format!("the schema of `{event}` does not describe the elements of `{written}`");
            let what = format!("{event} {written}[]");
            let span = span_of(&node.list).unwrap_or(node.span);
            self.report.add_once("unlisted_path", (&what, span), message, "add `items` to the schema");
            shape = Shape::foreign();
        }
        let mut places = list.places.clone();
        for place in &mut places {
            place.push(None);
        }
        let sensitive = list.sensitive || self.is_sensitive(&places);
        Known { shape, token: self.fresh(), places, given: list.given, sensitive }
    }

    /// Follows a loop's body until its variables can be no more than is known of them.
    fn rounds(&mut self, node: &For, element: &Known<'s>) {
        let guards = self.env.guards.clone();
        for _ in 0..MAX_ROUNDS {
            self.steps += 1 + self.env.variables.len() / 8;
            if self.steps > MAX_STEPS {
                break;
            }
            let start = self.env.clone();
            let outer = std::mem::take(&mut self.exits);
            let element = Known { token: self.fresh(), ..element.clone() };
            self.env.elements.push((node.variable.clone(), element));
            self.block(&node.body);
            self.env.elements.pop();
            let exits = std::mem::replace(&mut self.exits, outer);
            for exit in exits {
                self.join(&exit);
            }
            self.join(&start.variables);
            self.env.guards.clone_from(&guards);
            if self.env.has_same_variables(&start) {
                return;
            }
        }
        self.give_up(node.span);
    }

    /// Reports that a field is too complex to follow; no further findings about its variables.
    fn give_up(&mut self, span: Span) {
        let message = "this is too complex to be checked in advance";
        let hint = "nest fewer loops, and derive fewer variables from each other";
        self.report.add(Severity::Warning, "too_entangled", span, message, hint);
        for known in Rc::make_mut(&mut self.env.variables).values_mut() {
            *known = Rc::new(Known::foreign());
        }
    }

    fn is_sensitive(&self, places: &[Place]) -> bool {
        super::sensitive::is_within(places, self.event.sensitive)
    }

    /// Reports a list or object that is printed whole although a part of it is sensitive.
    fn check_whole(&mut self, places: &[Place], span: Span) {
        if let Some(pointer) = super::sensitive::first_below(places, self.event.sensitive) {
            let event = self.event.name;
            let message =
                format!("`{pointer}` of `{event}` is sensitive, and this prints the whole value around it");
            let hint = "print only the members that the message needs";
            self.report.add(Severity::Error, "sensitive_subtree", span, message, hint);
        }
    }

    fn check_secret(&mut self, known: &Known<'s>, span: Span) {
        self.check_whole(&known.places, span);
        self.tainted |= known.sensitive;
        if known.sensitive && self.shown && self.captures == 0 {
            let message =
                format!("a sensitive value of `{}` would be visible on the lock screen", self.event.name);
            let hint = "send it by email or SMS, or ask the reader to open the app";
            self.report.add(Severity::Warning, "sensitive_on_lock_screen", span, message, hint);
        }
    }
}

fn span_of(expr: &Expr) -> Option<Span> {
    match expr {
        Expr::Path(path) => Some(path.span),
        Expr::Literal(_) => None,
    }
}
