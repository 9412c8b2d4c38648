//! Rewrites a field: what needs the event becomes slots that Herald fills, the rest stays Liquid.

mod expressions;

use std::collections::BTreeSet;

use super::checks::{LOOKUP_NAME, check_loop};
use super::dataflow::{Origin, Origins, bodies, has_jump};
use super::escape::{Place, Places, literal};
use super::plan::{Choice, Need, Op};
use super::problems::Problems;
use super::slots::Slots;
use super::usage::{self, Reads};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::template::FieldKind;
use crate::templating::liquid::ast::{
    Branch, Case, Condition, Expr, Filtered, For, If, Join, Literal, Node, Operator, Span, Test, When,
};
use crate::templating::liquid::render::{Escape, Evaluator, Manner};

/// The longest literal text, in bytes, that is worth sending with each event to save a slot of its own.
const LITERAL_WORTH_A_SLOT: usize = 32;

/// Where slots of the nodes at hand are kept.
struct Scope {
    /// The Liquid name of the entry.
    name: String,
    slots: Slots,
}

/// Rewrites one field.
pub struct Rewriter<'f> {
    source: &'f str,
    kind: FieldKind,
    channel: Channel,
    origins: Origins,
    places: &'f Places,
    problems: Problems<'f>,
    reads: Reads,
    scopes: Vec<Scope>,
    budget: &'f Budget,
    /// Whether anything reads the event's entry.
    pub uses_entry: bool,
}

impl<'f> Rewriter<'f> {
    /// A rewriter that goes on with the `slots` of the fields before.
    pub fn new(
        source: &'f str,
        (kind, channel): (FieldKind, Channel),
        origins: Origins,
        places: &'f Places,
        problems: Problems<'f>,
        reads: Reads,
        (slots, budget): (Slots, &'f Budget),
    ) -> Self {
        let scopes = vec![Scope { name: LOOKUP_NAME.to_owned(), slots }];
        Self { source, kind, channel, origins, places, problems, reads, scopes, uses_entry: false, budget }
    }

    /// The slots and the problems, when the field is done.
    pub fn finish(mut self) -> (Slots, Problems<'f>) {
        (self.scopes.pop().map(|scope| scope.slots).unwrap_or_default(), self.problems)
    }

    /// Rewrites `nodes` onto the end of `out`; what Herald computes goes to `ops`. Nothing more is written once the budget
    /// is spent.
    pub fn block(&mut self, nodes: &[Node], out: &mut String, ops: &mut Vec<Op>) {
        for node in nodes {
            if self.budget.steps(1).is_err() {
                return;
            }
            match node {
                Node::Text(span) => out.push_str(&literal(span.of(self.source))),
                Node::Output(output) => self.output(output, out, ops),
                Node::If(choice) => self.choice(node, choice, out, ops),
                Node::Case(case) => self.case(node, case, out, ops),
                Node::For(list) => self.repeat(node, list, out, ops),
                Node::Break => out.push_str("{% break %}"),
                Node::Continue => out.push_str("{% continue %}"),
                Node::Assign(assign) if self.origins.is_kept_by_provider(&assign.name) => {
                    let value = self.filtered(&assign.value, Place::in_field(self.kind), ops);
                    push(out, &["{% assign ", &assign.name, " = ", &value, " %}"]);
                }
                Node::Capture(capture) if self.origins.is_kept_by_provider(&capture.name) => {
                    push(out, &["{% capture ", &capture.name, " %}"]);
                    self.block(&capture.body, out, ops);
                    out.push_str("{% endcapture %}");
                }
                Node::Assign(_) | Node::Capture(_) => {
                    self.check_places(std::slice::from_ref(node));
                    ops.push(Op::Run(vec![node.clone()]));
                }
            }
        }
    }

    fn output(&mut self, output: &Filtered, out: &mut String, ops: &mut Vec<Op>) {
        let origin = self.origins.filtered(output);
        let place = self.places.of(output.span);
        if origin == Origin::default() {
            out.push_str(&self.constant(output));
        } else if !origin.provider {
            let node = Node::Output(output.clone());
            self.check_places(std::slice::from_ref(&node));
            let identity = usage::is_global(output).then(|| usage::identity(output));
            self.text_slot(vec![node], identity.map(|identity| (place, identity)), out, ops);
        } else {
            self.open_output(output, origin, place, out, ops);
        }
    }

    /// An output of literals alone: its text, computed now.
    fn constant(&mut self, output: &Filtered) -> String {
        // What the author wrote where nothing is safe is the author's business.
        let is_refused = matches!(self.places.of(output.span), Place::Refused(_));
        let escape = if is_refused { None } else { Some(self.places as &dyn Escape) };
        let manner = Manner { strict: true, refuse_blank: false, escape };
        let mut evaluator = Evaluator::new(self.source, &[], manner, self.budget);
        let computed =
            evaluator.value(output).map_err(|error| error.to_string()).and_then(|(value, _)| match escape {
                None => Ok(value.to_text().into_owned()),
                Some(escape) => escape.encode(output.span, &value.to_marked()).map_err(str::to_owned),
            });
        match computed {
            Ok(text) => literal(&text),
            Err(why) => {
                self.problems.add("unsafe_place", output.span, why, None);
                String::new()
            }
        }
    }

    fn open_output(
        &mut self,
        output: &Filtered,
        origin: Origin,
        place: Place,
        out: &mut String,
        ops: &mut Vec<Op>,
    ) {
        if origin.event && place.is_delicate() && usage::reads_kept(output, &self.origins) {
            let hint = Some("use a value of `data` directly");
            let message =
                "a value in a variable that OneSignal computes can't be made safe in a link or style";
            self.problems.add("unsafe_place", output.span, message, hint);
        }
        if origin.event {
            self.check_place(output.span);
        }
        let text = self.filtered(output, place, ops);
        push(out, &["{{ ", &text, " }}"]);
    }

    fn text_slot(
        &mut self,
        nodes: Vec<Node>,
        identity: Option<(Place, String)>,
        out: &mut String,
        ops: &mut Vec<Op>,
    ) {
        let key = self.slot(identity);
        push(out, &["{{ ", &self.slot_path(&key), " }}"]);
        // A known slot is computed again: the one before may be in a branch that isn't taken.
        ops.push(Op::Text { key, nodes });
    }

    /// A key for what `identity` names. Within a list's entries each is new, for each element has its own.
    fn slot(&mut self, identity: Option<(Place, String)>) -> String {
        self.uses_entry = true;
        let shared = self.scopes.len() == 1;
        let Some(scope) = self.scopes.last_mut() else { return String::new() };
        match identity.filter(|_| shared) {
            Some(identity) => scope.slots.shared(identity),
            None => scope.slots.fresh(),
        }
    }

    /// How Liquid reads the slot.
    fn slot_path(&self, key: &str) -> String {
        let name = self.scopes.last().map(|scope| scope.name.as_str()).unwrap_or_default();
        format!("{name}.{key}")
    }

    fn check_place(&mut self, span: Span) {
        if let Place::Refused(why) = self.places.of(span) {
            self.problems.add("unsafe_place", span, why, None);
        }
    }

    /// Checks the place of every output that Herald computes in `nodes`.
    fn check_places(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Output(output) if self.origins.filtered(output).event => self.check_place(output.span),
                _ => bodies(node).into_iter().for_each(|body| self.check_places(body)),
            }
        }
    }

    /// A `case` as the `if` that it is short for, or as several where more than one alternative may fit.
    fn case(&mut self, node: &Node, case: &Case, out: &mut String, ops: &mut Vec<Op>) {
        if !may_fit_twice(case) {
            return self.choice(node, &as_if(case), out, ops);
        }
        for choice in as_ifs(case) {
            let node = Node::If(choice.clone());
            self.choice(&node, &choice, out, ops);
        }
    }

    fn choice(&mut self, node: &Node, choice: &If, out: &mut String, ops: &mut Vec<Op>) {
        let whole = std::slice::from_ref(node);
        let decided =
            choice.branches.iter().all(|branch| !self.origins.condition(&branch.condition).provider);
        let computable = !self.origins.nodes(whole).provider && !has_jump(whole);
        if computable && literal_bytes(whole) <= LITERAL_WORTH_A_SLOT {
            self.check_places(whole);
            self.text_slot(whole.to_vec(), None, out, ops);
        } else if decided {
            self.decided_choice(choice, out, ops);
        } else {
            self.open_choice(choice, out, ops);
        }
    }

    /// Herald decides, OneSignal prints.
    fn decided_choice(&mut self, choice: &If, out: &mut String, ops: &mut Vec<Op>) {
        let key = self.slot(None);
        let path = self.slot_path(&key);
        let single = choice.branches.len() == 1;
        let mut branches = Vec::new();
        for (index, branch) in choice.branches.iter().enumerate() {
            let number = (index + 1).to_string();
            let tag = if index == 0 { "{% if " } else { "{% elsif " };
            let test = if single { path.clone() } else { format!("{path} == {number}") };
            push(out, &[tag, &test, " %}"]);
            let mut inner = Vec::new();
            self.block(&branch.body, out, &mut inner);
            branches.push(Choice {
                negated: branch.negated,
                condition: branch.condition.clone(),
                ops: inner,
            });
        }
        let mut otherwise = Vec::new();
        if let Some(body) = &choice.otherwise {
            out.push_str("{% else %}");
            self.block(body, out, &mut otherwise);
        }
        out.push_str("{% endif %}");
        ops.push(Op::Choose { key, branches, otherwise });
    }

    /// OneSignal decides; what any branch needs is computed.
    fn open_choice(&mut self, choice: &If, out: &mut String, ops: &mut Vec<Op>) {
        let unless = choice.branches.first().is_some_and(|branch| branch.negated);
        for (index, branch) in choice.branches.iter().enumerate() {
            let condition = self.condition(&branch.condition, ops);
            let tag = match (index, unless) {
                (0, false) => "{% if ",
                (0, true) => "{% unless ",
                (_, _) => "{% elsif ",
            };
            push(out, &[tag, &condition, " %}"]);
            self.block(&branch.body, out, ops);
        }
        if let Some(body) = &choice.otherwise {
            out.push_str("{% else %}");
            self.block(body, out, ops);
        }
        out.push_str(if unless { "{% endunless %}" } else { "{% endif %}" });
    }

    fn condition(&mut self, condition: &Condition, ops: &mut Vec<Op>) -> String {
        let mut text = String::new();
        for (index, test) in condition.tests.iter().enumerate() {
            match index.checked_sub(1).and_then(|at| condition.joins.get(at)) {
                Some(Join::And) => text.push_str(" and "),
                Some(Join::Or) => text.push_str(" or "),
                None => {}
            }
            text.push_str(&self.test(test, ops));
        }
        text
    }

    fn test(&mut self, test: &Test, ops: &mut Vec<Op>) -> String {
        let alone = Condition { tests: vec![test.clone()], joins: Vec::new() };
        if !self.origins.condition(&alone).provider {
            let key = self.slot(None);
            let path = self.slot_path(&key);
            ops.push(Op::Test { key, condition: alone });
            return path;
        }
        let left = self.expr(&test.left, Place::Raw, Need::None, ops);
        let Some((operator, right)) = &test.right else { return left };
        let kept = |expr: &Expr| match expr {
            Expr::Path(path) => self.origins.root(&path.root).event && self.origins.root(&path.root).provider,
            Expr::Literal(_) => false,
        };
        let is_encoded = matches!(self.kind, FieldKind::Html | FieldKind::Link);
        if is_encoded && (kept(&test.left) || kept(right)) {
            let message = "OneSignal would compare a value of `data` that is already encoded for this field";
            let hint = Some("compare the value of `data` itself");
            self.problems.add("encoded_text", test.span, message, hint);
        }
        let right = self.expr(right, Place::Raw, Need::None, ops);
        format!("{left} {} {right}", operator.as_str())
    }

    fn repeat(&mut self, node: &Node, list: &For, out: &mut String, ops: &mut Vec<Op>) {
        let whole = std::slice::from_ref(node);
        let origin = self.origins.list(list);
        if origin.provider {
            return self.open_loop(list, origin, out, ops);
        }
        let computable = !self.origins.nodes(whole).provider && !has_jump(whole);
        let short = self.channel != Channel::Email || literal_bytes(&list.body) <= LITERAL_WORTH_A_SLOT;
        if computable && (short || has_jump(&list.body)) {
            self.check_places(whole);
            return self.text_slot(whole.to_vec(), None, out, ops);
        }
        check_loop(list.span, self.channel, &mut self.problems);
        self.entry_loop(list, out, ops);
    }

    /// Herald computes an entry for each element, OneSignal prints them.
    fn entry_loop(&mut self, list: &For, out: &mut String, ops: &mut Vec<Op>) {
        let key = self.slot(None);
        push(out, &["{% for ", &list.variable, " in ", &self.slot_path(&key), " %}"]);
        self.origins.enter(&list.variable, Origin { event: true, provider: false });
        self.scopes.push(Scope { name: list.variable.clone(), slots: Slots::default() });
        let mut body = Vec::new();
        self.block(&list.body, out, &mut body);
        self.scopes.pop();
        self.origins.leave();
        let mut otherwise = Vec::new();
        if let Some(nodes) = &list.otherwise {
            out.push_str("{% else %}");
            self.block(nodes, out, &mut otherwise);
        }
        out.push_str("{% endfor %}");
        let bare = For {
            body: Vec::new(),
            otherwise: list.otherwise.as_ref().map(|_| Vec::new()),
            list: list.list.clone(),
            limit: list.limit.clone(),
            offset: list.offset.clone(),
            variable: list.variable.clone(),
            ..*list
        };
        ops.push(Op::Each { key, list: bare, body, otherwise });
    }

    /// OneSignal loops over what it knows.
    fn open_loop(&mut self, list: &For, origin: Origin, out: &mut String, ops: &mut Vec<Op>) {
        check_loop(list.span, self.channel, &mut self.problems);
        if self.scopes.iter().any(|scope| scope.name == list.variable) {
            let message = format!("`{}` is already the variable of the enclosing loop", list.variable);
            self.problems.add("reserved_name", list.span, message, Some("choose another name"));
        }
        let need = if list.otherwise.is_some() { Need::Replaceable } else { Need::There };
        let text = self.expr(&list.list, Place::in_field(self.kind), need, ops);
        push(out, &["{% for ", &list.variable, " in ", &text]);
        if list.reversed {
            out.push_str(" reversed");
        }
        for (word, bound) in [(" limit:", &list.limit), (" offset:", &list.offset)] {
            if let Some(bound) = bound {
                let bound = self.expr(bound, Place::Raw, Need::There, ops);
                push(out, &[word, &bound]);
            }
        }
        out.push_str(" %}");
        self.origins.enter(&list.variable, origin);
        self.block(&list.body, out, ops);
        self.origins.leave();
        if let Some(nodes) = &list.otherwise {
            out.push_str("{% else %}");
            self.block(nodes, out, ops);
        }
        out.push_str("{% endfor %}");
    }
}

fn literal_bytes(nodes: &[Node]) -> usize {
    let own = |node: &Node| match node {
        Node::Text(span) => span.end - span.start,
        other => bodies(other).into_iter().map(literal_bytes).sum(),
    };
    nodes.iter().map(own).sum()
}

/// Whether more than one value of a `case` may fit: each that does prints its alternative.
fn may_fit_twice(case: &Case) -> bool {
    let values: Vec<&Expr> = case.whens.iter().flat_map(|when| &when.values).collect();
    let written = |value: &Expr| match value {
        Expr::Literal(literal @ (Literal::Text(_) | Literal::Int(_) | Literal::Bool(_))) => {
            Some(usage::print_literal(literal))
        }
        Expr::Literal(_) | Expr::Path(_) => None,
    };
    let known: Option<BTreeSet<String>> = values.iter().map(|value| written(value)).collect();
    values.len() > 1 && known.is_none_or(|known| known.len() < values.len())
}

fn test_of(case: &Case, value: &Expr) -> Test {
    Test { left: case.subject.clone(), right: Some((Operator::Equal, value.clone())), span: case.span }
}

/// A `case` as an `if` for each of its values, and one for what is left.
fn as_ifs(case: &Case) -> Vec<If> {
    let branch = |negated, tests: Vec<Test>, body: &Vec<Node>| {
        let joins = vec![Join::Or; tests.len().saturating_sub(1)];
        let condition = Condition { tests, joins };
        If { branches: vec![Branch { negated, condition, body: body.clone() }], otherwise: None }
    };
    let each = |when: &When| {
        let one = |value: &Expr| branch(false, vec![test_of(case, value)], &when.body);
        when.values.iter().map(one).collect::<Vec<If>>()
    };
    let mut choices: Vec<If> = case.whens.iter().flat_map(each).collect();
    let values = case.whens.iter().flat_map(|when| &when.values);
    let tests: Vec<Test> = values.map(|value| test_of(case, value)).collect();
    choices.extend(case.otherwise.as_ref().map(|body| branch(true, tests, body)));
    choices
}

/// A `case` as the `if` that it is short for.
fn as_if(case: &Case) -> If {
    let test = |value: &Expr| test_of(case, value);
    let branch = |when: &When| Branch {
        negated: false,
        condition: Condition {
            tests: when.values.iter().map(test).collect(),
            joins: vec![Join::Or; when.values.len().saturating_sub(1)],
        },
        body: when.body.clone(),
    };
    If { branches: case.whens.iter().map(branch).collect(), otherwise: case.otherwise.clone() }
}

/// Puts the parts onto the end of `out`.
pub(super) fn push(out: &mut String, parts: &[&str]) {
    for part in parts {
        out.push_str(part);
    }
}
