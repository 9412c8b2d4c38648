//! What an expression reads: the paths from its globals down, including entries of the lists that it iterates over.

use std::fmt::Write;

use cel::common::ast::{CallExpr, ComprehensionExpr, Expr, IdedExpr, LiteralValue, operators};
use serde_json::Value as Json;

use super::Expression;
use super::parse::children;

/// One step down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Step {
    /// A member of an object; the first one is the global's name.
    Member(String),
    /// An entry of a list, or a member whose name is not known.
    Entry,
}

/// The variables of comprehensions, innermost last, with what they stand for.
pub(super) type Locals = Vec<(String, Option<Vec<Step>>)>;

impl Expression {
    /// What the expression reads, each path once, in the order of reading: `data.total`, `event.type`; an entry of a
    /// list is `data.items[]`, a member with an odd name `headers["x-shop"]`.
    pub fn paths(&self) -> Vec<String> {
        let mut shown: Vec<String> = Vec::new();
        for path in steps(&self.parsed.tree) {
            let path = show(&path);
            if !shown.contains(&path) {
                shown.push(path);
            }
        }
        shown
    }
}

impl Expression {
    /// The first of these places that the expression reads: the place itself, something in it, or something that it is
    /// in. A place is the path from a global down; an entry of a list is any text.
    pub fn first_read<'a>(&self, mut places: impl Iterator<Item = &'a [String]>) -> Option<&'a [String]> {
        let first = places.next()?;
        let read = steps(&self.parsed.tree);
        let fits = |(step, part): (&Step, &String)| match step {
            Step::Member(name) => name == part,
            Step::Entry => true,
        };
        let is_read = |place: &&[String]| read.iter().any(|path| path.iter().zip(*place).all(fits));
        std::iter::once(first).chain(places).find(is_read)
    }
}

/// All paths that a tree reads.
pub(super) fn steps(tree: &IdedExpr) -> Vec<Vec<Step>> {
    let mut found = Vec::new();
    collect(tree, &mut Vec::new(), &mut found);
    found
}

fn collect(tree: &IdedExpr, locals: &mut Locals, found: &mut Vec<Vec<Step>>) {
    if let Expr::Comprehension(walk) = &tree.expr {
        return collect_walk(walk, locals, found);
    }
    let Some(path) = path_of(tree, locals) else {
        for child in children(tree) {
            collect(child, locals, found);
        }
        return;
    };
    found.push(path);
    collect_indices(tree, locals, found);
}

/// `data.items[data.place]` reads `data.place` as well.
fn collect_indices(tree: &IdedExpr, locals: &mut Locals, found: &mut Vec<Vec<Step>>) {
    match &tree.expr {
        Expr::Select(select) => collect_indices(&select.operand, locals, found),
        Expr::Call(call) if call.args.len() == 2 => {
            collect_indices(&call.args[0], locals, found);
            collect(&call.args[1], locals, found);
        }
        _ => {}
    }
}

fn collect_walk(walk: &ComprehensionExpr, locals: &mut Locals, found: &mut Vec<Vec<Step>>) {
    collect(&walk.iter_range, locals, found);
    collect(&walk.accu_init, locals, found);
    let depth = locals.len();
    bind(walk, locals);
    for part in [&walk.loop_cond, &walk.loop_step, &walk.result] {
        collect(part, locals, found);
    }
    locals.truncate(depth);
}

/// Adds the variables of a comprehension.
pub(super) fn bind(walk: &ComprehensionExpr, locals: &mut Locals) {
    let entry = path_of(&walk.iter_range, locals).map(|mut path| {
        path.push(Step::Entry);
        path
    });
    locals.push((walk.iter_var.clone(), entry));
    locals.extend(walk.iter_var2.iter().map(|name| (name.clone(), None)));
    locals.push((walk.accu_var.clone(), None));
}

/// The path that an expression spells out, if it is one: names, members, entries, and nothing else.
pub(super) fn path_of(tree: &IdedExpr, locals: &Locals) -> Option<Vec<Step>> {
    match &tree.expr {
        Expr::Ident(name) => match locals.iter().rev().find(|(local, _)| local == name) {
            Some((_, path)) => path.clone(),
            None => Some(vec![Step::Member(name.trim_start_matches('.').to_owned())]),
        },
        Expr::Select(select) => below(&select.operand, Step::Member(select.field.clone()), locals),
        Expr::Call(call) => match index_of(call)? {
            (operand, Some(name)) => below(operand, Step::Member(name.to_owned()), locals),
            (operand, None) => below(operand, Step::Entry, locals),
        },
        _ => None,
    }
}

fn below(operand: &IdedExpr, step: Step, locals: &Locals) -> Option<Vec<Step>> {
    let mut path = path_of(operand, locals)?;
    path.push(step);
    Some(path)
}

/// `a["b"]`, `a[0]`, `a.?b`, `a[?"b"]`: what is looked into, and the name where it is written out.
pub(super) fn index_of(call: &CallExpr) -> Option<(&IdedExpr, Option<&str>)> {
    let is_index =
        [operators::INDEX, operators::OPT_INDEX, operators::OPT_SELECT].contains(&call.func_name.as_str());
    match call.args.as_slice() {
        [operand, index] if is_index => Some((operand, literal_text(index))),
        _ => None,
    }
}

/// The text that a literal holds.
pub(super) fn literal_text(tree: &IdedExpr) -> Option<&str> {
    match &tree.expr {
        Expr::Literal(LiteralValue::String(text)) => Some(text.inner()),
        _ => None,
    }
}

/// A path as an author would write it.
pub(super) fn show(path: &[Step]) -> String {
    let mut shown = String::new();
    for step in path {
        match step {
            Step::Entry => shown.push_str("[]"),
            Step::Member(name) if is_plain(name) => {
                shown.push_str(if shown.is_empty() { "" } else { "." });
                shown.push_str(name);
            }
            Step::Member(name) => {
                let _ = write!(shown, "[{name:?}]");
            }
        }
    }
    shown
}

fn is_plain(name: &str) -> bool {
    let is_word = |found: char| found.is_ascii_alphanumeric() || found == '_';
    !name.is_empty() && name.chars().all(is_word) && !name.starts_with(|found: char| found.is_ascii_digit())
}

/// The shortest prefix of a path that these values do not have; entries of lists are searched together.
pub(super) fn first_missing(path: &[Step], globals: &[(&str, &Json)]) -> Option<String> {
    let (Some(Step::Member(global)), mut depth) = (path.first(), 1) else { return None };
    let mut here: Vec<&Json> =
        globals.iter().filter(|(name, _)| name == global).map(|(_, value)| *value).collect();
    while depth < path.len() {
        let step = &path[depth];
        depth += 1;
        here = match step {
            Step::Entry => here.iter().flat_map(|value| entries(value)).collect(),
            Step::Member(name) if here.iter().any(|value| value.get(name).is_none()) => {
                return Some(show(&path[..depth]));
            }
            Step::Member(name) => here.iter().filter_map(|value| value.get(name)).collect(),
        };
    }
    None
}

fn entries(value: &Json) -> Vec<&Json> {
    match value {
        Json::Array(items) => items.iter().collect(),
        Json::Object(members) => members.values().collect(),
        Json::Null | Json::Bool(_) | Json::Number(_) | Json::String(_) => Vec::new(),
    }
}
