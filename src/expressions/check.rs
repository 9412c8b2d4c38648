//! Finds in advance what would fail: unknown names, paths that the schema does not have or does not require, mismatched
//! types.

use cel::common::ast::{ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr};
use serde_json::Value as Json;

use super::functions::{self, FUNCTIONS, Style, TYPES, nearest};
use super::kinds::{Fact, Kinds, Node};
use super::parse::{Parsed, problem};
use super::paths::{self, Locals, Step};
use super::schema::{self, Root};
use super::{Expression, ExpressionProblem, Kind};
use crate::domain::budget::Budget;

impl Expression {
    /// Checks an expression against the JSON Schema (2020-12) of each global, or `None` if anything is allowed, and the
    /// kind that it must yield. Empty if there are no problems.
    ///
    /// `optional_path` means that a member may be absent and no `has(…)` guards it: the evaluation then fails with
    /// `Missing`. The caller decides whether that is an error. `too_complex` means that the budget was spent before
    /// everything was checked.
    pub fn check(
        &self,
        globals: &[(&str, Option<&Json>)],
        wanted: Kind,
        budget: &Budget,
    ) -> Vec<ExpressionProblem> {
        let mut checker = Checker::new(&self.parsed, globals, budget);
        let fact = checker.infer(&self.parsed.tree);
        if !fact.kinds.meets(wanted.into()) {
            let message = format!(
                "this yields {}, but {} is required",
                fact.kinds.words(),
                Kinds::from(wanted).words()
            );
            let hint = (fact.kinds == Kinds::OPTIONAL).then(|| "append `.orValue(…)`".to_owned());
            checker.report(&self.parsed.tree, "wrong_kind", message, hint);
        }
        if let Some(spent) = budget.spent() {
            let message = format!("the expression is too complex to check against the schema: {spent}");
            checker.report(&self.parsed.tree, "too_complex", message, None);
        }
        checker.problems
    }
}

pub(super) struct Checker<'a> {
    parsed: &'a Parsed,
    globals: &'a [(&'a str, Option<&'a Json>)],
    budget: &'a Budget,
    problems: Vec<ExpressionProblem>,
    /// The variables of comprehensions, innermost last.
    locals: Vec<(String, Fact<'a>)>,
    /// Paths that certainly exist here.
    pub(super) guarded: Vec<String>,
}

impl<'a> Checker<'a> {
    fn new(parsed: &'a Parsed, globals: &'a [(&'a str, Option<&'a Json>)], budget: &'a Budget) -> Self {
        Self { parsed, globals, budget, problems: Vec::new(), locals: Vec::new(), guarded: Vec::new() }
    }

    pub(super) fn report(
        &mut self,
        tree: &IdedExpr,
        code: &'static str,
        message: String,
        hint: Option<String>,
    ) {
        // The parser counts bytes.
        let start = self.parsed.places.offset_for(tree.id).map_or(0, |(start, _)| start);
        let start = usize::try_from(start).unwrap_or_default();
        let offset = self.parsed.source.char_indices().take_while(|(byte, _)| *byte < start).count();
        let found = ExpressionProblem { hint, ..problem(&self.parsed.source, offset, code, message) };
        if !self.problems.contains(&found) {
            self.problems.push(found);
        }
    }

    /// The type of a tree's value; reports its problems.
    pub(super) fn infer(&mut self, tree: &'a IdedExpr) -> Fact<'a> {
        match &tree.expr {
            Expr::Unspecified => Fact::unknown(None),
            Expr::Literal(literal) => Fact::of(literal_kind(literal)),
            Expr::Ident(name) => self.name(tree, name),
            Expr::Select(select) => self.select(tree, select),
            Expr::Call(call) => self.call(tree, call),
            Expr::Comprehension(walk) => self.walk(tree, walk),
            Expr::List(list) => {
                list.elements.iter().for_each(|element| drop(self.infer(element)));
                Fact::of(Kinds::LIST)
            }
            Expr::Map(map) => {
                for entry in &map.entries {
                    if let EntryExpr::MapEntry(entry) = &entry.expr {
                        self.infer(&entry.key);
                        self.infer(&entry.value);
                    }
                }
                Fact::of(Kinds::OBJECT)
            }
            Expr::Struct(made) => {
                let message = format!("there is no type `{}`", made.type_name);
                self.report(
                    tree,
                    "unknown_name",
                    message,
                    Some("write an object: `{\"name\": …}`".to_owned()),
                );
                Fact::of(Kinds::OBJECT)
            }
        }
    }

    fn name(&mut self, tree: &IdedExpr, name: &str) -> Fact<'a> {
        let name = name.trim_start_matches('.');
        if let Some((_, fact)) = self.locals.iter().rev().find(|(local, _)| local == name) {
            return fact.clone();
        }
        let path = Some(vec![Step::Member(name.to_owned())]);
        match self.globals.iter().find(|(global, _)| *global == name) {
            Some((_, Some(root))) => {
                let root = Root { document: root, budget: self.budget };
                Fact::described(Node { root, any_of: vec![root.document] }, path)
            }
            Some((_, None)) => Fact::unknown(path),
            None if TYPES.contains(&name) => Fact::of(Kinds::TYPE),
            None => {
                let known: Vec<&str> = self.globals.iter().map(|(global, _)| *global).collect();
                let hint = match nearest(name, known.iter().copied()) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known names: {}; strings need quotes", known.join(", ")),
                };
                self.report(tree, "unknown_name", format!("there is no `{name}`"), Some(hint));
                Fact::unknown(None)
            }
        }
    }

    fn select(&mut self, tree: &IdedExpr, select: &'a SelectExpr) -> Fact<'a> {
        let operand = self.infer(&select.operand);
        let found = self.member(tree, &operand, &select.field, select.test);
        if select.test { Fact::of(Kinds::BOOL) } else { found }
    }

    /// The member of a value; `may_lack` if its absence is handled.
    pub(super) fn member(&mut self, tree: &IdedExpr, of: &Fact<'a>, name: &str, may_lack: bool) -> Fact<'a> {
        let path = of.path.clone().map(|mut path| {
            path.push(Step::Member(name.to_owned()));
            path
        });
        let shown = |path: &Option<Vec<Step>>| path.as_deref().map_or_else(|| name.to_owned(), paths::show);
        if !of.kinds.meets(Kinds::OBJECT.or(Kinds::OPTIONAL)) {
            let owner = of
                .path
                .as_deref()
                .map_or_else(|| "this".to_owned(), |path| format!("`{}`", paths::show(path)));
            let message = format!("{owner} is {}, which has no member `{name}`", of.kinds.words());
            self.report(tree, "type_mismatch", message, None);
            return Fact::unknown(path);
        }
        let Some(node) = &of.node else { return Fact::unknown(path) };
        let mut said = schema::Member { is_required: true, ..schema::Member::default() };
        for part in &node.any_of {
            let one = schema::member(node.root, part, name);
            said.any_of.extend(one.any_of);
            said.is_required &= one.is_required;
            said.is_absent |= one.is_absent;
            said.is_open |= one.is_open;
        }
        if said.any_of.is_empty() && said.is_absent && !said.is_open {
            self.report_lacking(tree, node, &shown(&path), name);
            return Fact::unknown(path);
        }
        let is_known = said.is_required || may_lack || self.guarded.contains(&shown(&path));
        // Without a description of the members there is nothing to report.
        if !is_known && !said.any_of.is_empty() {
            self.report_optional(tree, shown(&path));
        }
        Fact::described(Node { root: node.root, any_of: said.any_of }, path)
    }

    fn report_lacking(&mut self, tree: &IdedExpr, node: &Node<'a>, shown: &str, name: &str) {
        let known: Vec<&str> = node.any_of.iter().flat_map(|part| schema::names(node.root, part)).collect();
        let hint = match nearest(name, known.iter().copied()) {
            Some(near) => Some(format!("did you mean `{near}`?")),
            None if known.is_empty() || known.len() > 12 => None,
            None => Some(format!("known: {}", known.join(", "))),
        };
        self.report(tree, "unknown_path", format!("the schema has no `{shown}`"), hint);
    }

    fn report_optional(&mut self, tree: &IdedExpr, shown: String) {
        let message = format!("`{shown}` may be absent; the expression then fails");
        let hint = format!("guard it: `has({shown}) && …`, or `has({shown}) ? {shown} : …`");
        self.report(tree, "optional_path", message, Some(hint));
        // One report is enough.
        self.guarded.push(shown);
    }

    fn walk(&mut self, tree: &IdedExpr, walk: &'a ComprehensionExpr) -> Fact<'a> {
        let range = self.infer(&walk.iter_range);
        if !range.kinds.meets(Kinds::LIST.or(Kinds::OBJECT)) {
            let message = format!("this needs a list or an object, but it is {}", range.kinds.words());
            self.report(tree, "type_mismatch", message, None);
        }
        let is_list = range.kinds.meets(Kinds::LIST);
        let entry = if is_list { range.entry() } else { Fact::of(Kinds::TEXT) };
        let result = self.infer(&walk.accu_init);
        let depth = self.locals.len();
        self.locals.push((walk.iter_var.clone(), entry));
        self.locals.extend(walk.iter_var2.iter().map(|name| (name.clone(), Fact::unknown(None))));
        self.locals.push((walk.accu_var.clone(), Fact::of(result.kinds)));
        self.infer(&walk.loop_cond);
        self.infer(&walk.loop_step);
        let result = self.infer(&walk.result);
        self.locals.truncate(depth);
        result
    }

    /// The paths of the variables of comprehensions, if they have one.
    pub(super) fn local_paths(&self) -> Locals {
        self.locals.iter().map(|(name, fact)| (name.clone(), fact.path.clone())).collect()
    }

    pub(super) fn report_unknown_function(&mut self, tree: &IdedExpr, name: &str, style: Style) {
        let is_elsewhere = FUNCTIONS.iter().any(|function| function.name == name);
        let known = FUNCTIONS.iter().map(|function| function.name).chain(functions::MACROS);
        let hint = match style {
            Style::Member if is_elsewhere => Some(format!("write `{name}(…)`")),
            Style::Global if is_elsewhere => Some(format!("write `….{name}()`")),
            _ => nearest(name, known).map(|near| format!("did you mean `{near}`?")),
        };
        self.report(
            tree,
            "unknown_function",
            format!("there is no function `{name}` that can be called like this"),
            hint,
        );
    }
}

fn literal_kind(literal: &LiteralValue) -> Kinds {
    match literal {
        LiteralValue::Boolean(_) => Kinds::BOOL,
        LiteralValue::Bytes(_) => Kinds::BYTES,
        LiteralValue::Double(_) | LiteralValue::Int(_) | LiteralValue::UInt(_) => Kinds::NUMBER,
        LiteralValue::Null => Kinds::NULL,
        LiteralValue::String(_) => Kinds::TEXT,
    }
}
