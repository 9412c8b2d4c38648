//! Checks of operators and calls, and what a condition proves for the rest of its expression.

use cel::common::ast::{CallExpr, Expr, IdedExpr, operators as names};

use super::check::Checker;
use super::functions::{self, Function, Style};
use super::kinds::{Fact, Kinds};
use super::paths::{self, Step};

const ADDED: Kinds =
    Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::LIST).or(Kinds::BYTES).or(Kinds::TIME).or(Kinds::DURATION);
const SUBTRACTED: Kinds = Kinds::NUMBER.or(Kinds::TIME).or(Kinds::DURATION);
const ORDERED: Kinds =
    Kinds::NUMBER.or(Kinds::TEXT).or(Kinds::BOOL).or(Kinds::BYTES).or(Kinds::TIME).or(Kinds::DURATION);

impl<'a> Checker<'a> {
    pub(super) fn call(&mut self, tree: &'a IdedExpr, call: &'a CallExpr) -> Fact<'a> {
        let name = call.func_name.as_str();
        match (name, call.args.as_slice()) {
            (names::LOGICAL_AND, [left, right]) => self.both(left, right, true),
            (names::LOGICAL_OR, [left, right]) => self.both(left, right, false),
            (names::CONDITIONAL, [condition, yes, no]) => self.choice(condition, yes, no),
            (names::LOGICAL_NOT | names::NOT_STRICTLY_FALSE, [operand]) => {
                self.expect(operand, Kinds::BOOL);
                Fact::of(Kinds::BOOL)
            }
            (names::NEGATE, [operand]) => {
                self.expect(operand, Kinds::NUMBER.or(Kinds::DURATION));
                Fact::of(Kinds::NUMBER.or(Kinds::DURATION))
            }
            (names::INDEX, [operand, index]) => self.index(tree, operand, index, false),
            (names::OPT_INDEX | names::OPT_SELECT, [operand, index]) => {
                self.index(tree, operand, index, true);
                Fact::of(Kinds::OPTIONAL)
            }
            (names::EQUALS | names::NOT_EQUALS, [left, right]) => self.compare(tree, left, right, Kinds::ANY),
            (names::LESS | names::LESS_EQUALS | names::GREATER | names::GREATER_EQUALS, [left, right]) => {
                self.compare(tree, left, right, ORDERED)
            }
            (names::IN, [_, container]) => {
                self.infer(&call.args[0]);
                self.expect(container, Kinds::LIST.or(Kinds::OBJECT));
                Fact::of(Kinds::BOOL)
            }
            (names::ADD, [left, right]) => self.arithmetic(tree, left, right, ADDED),
            (names::SUBSTRACT, [left, right]) => self.arithmetic(tree, left, right, SUBTRACTED),
            (names::MULTIPLY | names::DIVIDE | names::MODULO, [left, right]) => {
                self.arithmetic(tree, left, right, Kinds::NUMBER)
            }
            _ => self.function(tree, call),
        }
    }

    /// `&&` and `||`: each side relies on what the other lets through. CEL uses the other side's result when one fails.
    fn both(&mut self, left: &'a IdedExpr, right: &'a IdedExpr, is_and: bool) -> Fact<'a> {
        for (side, other) in [(left, right), (right, left)] {
            let depth = self.guarded.len();
            let proven = self.proven(other, is_and);
            self.guarded.extend(proven);
            self.expect(side, Kinds::BOOL);
            self.guarded.truncate(depth);
        }
        Fact::of(Kinds::BOOL)
    }

    fn choice(&mut self, condition: &'a IdedExpr, yes: &'a IdedExpr, no: &'a IdedExpr) -> Fact<'a> {
        self.expect(condition, Kinds::BOOL);
        let mut kinds = Kinds::NONE;
        for (branch, truth) in [(yes, true), (no, false)] {
            let depth = self.guarded.len();
            let proven = self.proven(condition, truth);
            self.guarded.extend(proven);
            kinds = kinds.or(self.infer(branch).kinds);
            self.guarded.truncate(depth);
        }
        Fact::of(kinds)
    }

    /// The paths that certainly exist if `condition` evaluates to `truth`.
    fn proven(&self, condition: &IdedExpr, truth: bool) -> Vec<String> {
        let path = |tree: &IdedExpr| paths::path_of(tree, &self.local_paths());
        match &condition.expr {
            Expr::Select(select) if select.test && truth => {
                let below = path(&select.operand).map(|mut path| {
                    path.push(Step::Member(select.field.clone()));
                    paths::show(&path)
                });
                below.into_iter().collect()
            }
            Expr::Call(call) => match (call.func_name.as_str(), call.args.as_slice()) {
                (names::LOGICAL_NOT, [operand]) => self.proven(operand, !truth),
                (names::LOGICAL_AND, [left, right]) if truth => {
                    [self.proven(left, true), self.proven(right, true)].concat()
                }
                (names::LOGICAL_OR, [left, right]) if !truth => {
                    [self.proven(left, false), self.proven(right, false)].concat()
                }
                (names::IN, [name, container]) if truth => {
                    let (name, path) = (paths::literal_text(name), path(container));
                    let below = name.zip(path).map(|(name, mut path)| {
                        path.push(Step::Member(name.to_owned()));
                        paths::show(&path)
                    });
                    below.into_iter().collect()
                }
                _ => Vec::new(),
            },
            _ => Vec::new(),
        }
    }

    fn index(
        &mut self,
        tree: &'a IdedExpr,
        of: &'a IdedExpr,
        index: &'a IdedExpr,
        may_lack: bool,
    ) -> Fact<'a> {
        let operand = self.infer(of);
        if let Some(name) = paths::literal_text(index) {
            return self.member(tree, &operand, name, may_lack);
        }
        let by = self.infer(index);
        if !operand.kinds.meets(Kinds::LIST.or(Kinds::OBJECT).or(Kinds::OPTIONAL)) {
            let message = format!("this is {} and has no entries", operand.kinds.words());
            self.report(tree, "type_mismatch", message, None);
        }
        let is_place = by.kinds == Kinds::NUMBER && operand.kinds.meets(Kinds::LIST);
        if is_place { operand.entry() } else { Fact::unknown(None) }
    }

    fn compare(&mut self, tree: &IdedExpr, left: &'a IdedExpr, right: &'a IdedExpr, fit: Kinds) -> Fact<'a> {
        let (left, right) = (self.infer(left).kinds, self.infer(right).kinds);
        let is_null_asked = left == Kinds::NULL || right == Kinds::NULL;
        let common = left.and(right).without(Kinds::NULL).and(fit);
        if common == Kinds::NONE && !(is_null_asked && fit == Kinds::ANY) {
            let message = format!("{} can't be compared with {}", left.words(), right.words());
            self.report(tree, "type_mismatch", message, conversion(left, right));
        }
        Fact::of(Kinds::BOOL)
    }

    fn arithmetic(
        &mut self,
        tree: &IdedExpr,
        left: &'a IdedExpr,
        right: &'a IdedExpr,
        fit: Kinds,
    ) -> Fact<'a> {
        let (left, right) = (self.infer(left).kinds, self.infer(right).kinds);
        let spans = Kinds::TIME.or(Kinds::DURATION);
        if left.meets(spans) && right.meets(spans) && fit.meets(spans) {
            return Fact::of(if left.and(right).meets(Kinds::NUMBER) { fit } else { spans });
        }
        let common = left.and(right).and(fit);
        if common == Kinds::NONE {
            let message = format!("{} and {} can't be combined here", left.words(), right.words());
            self.report(tree, "type_mismatch", message, conversion(left, right));
            return Fact::of(fit);
        }
        Fact::of(common)
    }

    fn expect(&mut self, tree: &'a IdedExpr, wanted: Kinds) {
        let found = self.infer(tree).kinds;
        if !found.meets(wanted) {
            let message = format!("this is {}, but {} is required here", found.words(), wanted.words());
            self.report(tree, "type_mismatch", message, None);
        }
    }

    fn function(&mut self, tree: &'a IdedExpr, call: &'a CallExpr) -> Fact<'a> {
        if let Some(known) = spaced(call) {
            return self.arguments(tree, known, call.args.iter().collect());
        }
        let style = if call.target.is_some() { Style::Member } else { Style::Global };
        let values: Vec<&IdedExpr> = call.target.as_deref().into_iter().chain(&call.args).collect();
        if let Some(known) = functions::find(&call.func_name, style) {
            return self.arguments(tree, known, values);
        }
        self.report_unknown_function(tree, &call.func_name, style);
        for value in values {
            self.infer(value);
        }
        Fact::unknown(None)
    }

    fn arguments(&mut self, tree: &IdedExpr, function: &Function, values: Vec<&'a IdedExpr>) -> Fact<'a> {
        for (place, value) in values.into_iter().enumerate() {
            let found = self.infer(value).kinds;
            if place == 0 && !found.meets(function.takes) {
                let message =
                    format!("`{}` takes {}, not {}", function.name, function.takes.words(), found.words());
                self.report(tree, "type_mismatch", message, None);
            }
        }
        Fact::of(function.yields)
    }
}

/// `optional.of(x)` is written like a call on `optional`.
fn spaced(call: &CallExpr) -> Option<&'static Function> {
    let Expr::Ident(space) = &call.target.as_deref()?.expr else { return None };
    functions::find(&format!("{space}.{}", call.func_name), Style::Global)
}

/// How to make the two types match.
fn conversion(left: Kinds, right: Kinds) -> Option<String> {
    let either = left.or(right);
    match () {
        () if either.without(Kinds::NULL) == Kinds::TEXT.or(Kinds::NUMBER) => {
            Some("`string(…)` converts a number to a string, `double(…)` a string to a number".to_owned())
        }
        () if either.without(Kinds::NULL) == Kinds::TEXT.or(Kinds::TIME) => {
            Some("`timestamp(…)` parses a time".to_owned())
        }
        () => None,
    }
}
