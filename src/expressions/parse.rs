//! Parsing: bounded, with readable errors, and with a count of steps built into each comprehension.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, SourceInfo};
use cel::{Env, ParseErrors, extensions};

use super::charges::charge;
use super::limits::{Excess, MAX_DEPTH, MAX_NESTED_WALKS, MAX_SOURCE_BYTES, measure};
use super::syntax::{Explained, explain};
use super::{Expression, ExpressionProblem};
use crate::domain::budget::Budget;
use crate::domain::stack::on_deep_stack;

/// CEL's standard functions and its extension for texts.
pub(super) static LANGUAGE: LazyLock<Arc<Env>> = LazyLock::new(|| {
    let mut language = Env::stdlib();
    // The extension's names are its own; a test calls one.
    let _ = language.add_extension(extensions::strings);
    Arc::new(language)
});

pub(super) struct Parsed {
    pub source: String,
    /// As written, macros expanded: what checks read.
    pub tree: IdedExpr,
    /// The same with its costs charged: this is evaluated.
    pub charged: IdedExpr,
    /// The maximum recursion depth of the evaluation.
    pub depth: usize,
    pub places: SourceInfo,
}

impl Expression {
    /// Parses an expression of at most [`MAX_SOURCE_BYTES`].
    ///
    /// # Errors
    /// The first problem; parsing the same text again fails the same way.
    pub fn parse(source: &str, budget: &Budget) -> Result<Self, ExpressionProblem> {
        if source.len() > MAX_SOURCE_BYTES {
            let message =
                format!("an expression has at most {MAX_SOURCE_BYTES} bytes; this has {}", source.len());
            return Err(problem(source, 0, "too_long", message));
        }
        if source.trim().is_empty() {
            return Err(problem(source, 0, "syntax", "the expression is empty".to_owned()));
        }
        measure(source)
            .map_err(|Excess { offset, what }| problem(source, offset, "too_complex", what.to_owned()))?;
        // The parser's work grows with the source, which is short.
        let paid = budget.steps(source.len());
        paid.map_err(|spent| {
            problem(source, 0, "too_complex", format!("the expression is too complex: {spent}"))
        })?;
        let parsed = on_deep_stack(|| parse_bounded(source));
        let unreadable = || problem(source, 0, "syntax", "the expression can't be parsed".to_owned());
        Ok(Self { parsed: Arc::new(parsed.unwrap_or_else(|| Err(unreadable()))?) })
    }
}

fn parse_bounded(source: &str) -> Result<Parsed, ExpressionProblem> {
    let parser = LANGUAGE.parser().enable_ident_escape_syntax(true);
    let (tree, places) =
        parser.parse_with_source_info(source).map_err(|errors| from_parser(source, &errors))?;
    refuse_runaways(source, &tree)?;
    let mut charged = tree.clone();
    charge(&mut charged);
    let depth = measure_tree(&charged, 0).depth;
    Ok(Parsed { source: source.to_owned(), tree, charged, depth, places })
}

fn refuse_runaways(source: &str, tree: &IdedExpr) -> Result<(), ExpressionProblem> {
    let refusal = |what: &str| Err(problem(source, 0, "too_complex", what.to_owned()));
    match measure_tree(tree, 0) {
        Size { is_unfinished: true, .. } => {
            Err(problem(source, 0, "syntax", "the expression ends early".to_owned()))
        }
        Size { depth, .. } if depth > MAX_DEPTH => refusal("the expression is nested too deeply"),
        Size { walks, .. } if walks > MAX_NESTED_WALKS => {
            refusal("`all`, `exists`, `filter` and `map` can be nested two deep, but not deeper")
        }
        Size { .. } => Ok(()),
    }
}

/// How deep a tree is, and how deeply its comprehensions are nested.
struct Size {
    depth: usize,
    walks: usize,
    is_unfinished: bool,
}

fn measure_tree(tree: &IdedExpr, depth: usize) -> Size {
    let mut size = Size { depth, walks: 0, is_unfinished: matches!(tree.expr, Expr::Unspecified) };
    for child in children(tree) {
        let child = measure_tree(child, depth + 1);
        size.depth = size.depth.max(child.depth);
        size.walks = size.walks.max(child.walks);
        size.is_unfinished |= child.is_unfinished;
    }
    size.walks += usize::from(matches!(tree.expr, Expr::Comprehension(_)));
    size
}

/// The direct children of a tree.
pub(super) fn children(tree: &IdedExpr) -> Vec<&IdedExpr> {
    match &tree.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Vec::new(),
        Expr::Call(call) => call.target.as_deref().into_iter().chain(&call.args).collect(),
        Expr::Comprehension(walk) => {
            vec![&walk.iter_range, &walk.accu_init, &walk.loop_cond, &walk.loop_step, &walk.result]
        }
        Expr::List(list) => list.elements.iter().collect(),
        Expr::Map(map) => map.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
        Expr::Select(select) => vec![&*select.operand],
        Expr::Struct(made) => made.entries.iter().flat_map(|entry| entry_parts(&entry.expr)).collect(),
    }
}

fn entry_parts(entry: &EntryExpr) -> Vec<&IdedExpr> {
    match entry {
        EntryExpr::StructField(field) => vec![&field.value],
        EntryExpr::MapEntry(entry) => vec![&entry.key, &entry.value],
    }
}

/// A problem at an offset in characters from the start of the text.
pub(super) fn problem(source: &str, offset: usize, code: &'static str, message: String) -> ExpressionProblem {
    let before: Vec<char> = source.chars().take(offset).collect();
    let line = 1 + before.iter().filter(|&&found| found == '\n').count();
    let column = 1 + before.iter().rev().take_while(|&&found| found != '\n').count();
    ExpressionProblem { code, line, column, message, hint: None }
}

fn from_parser(source: &str, errors: &ParseErrors) -> ExpressionProblem {
    let first = errors.errors.first();
    let at = |place: isize| usize::try_from(place).unwrap_or(1).max(1);
    let (line, column) = first.map_or((1, 1), |error| (at(error.pos.0), at(error.pos.1)));
    let raw = first.map_or("", |error| error.msg.trim_start_matches("Syntax error: "));
    let Explained { message, hint } = explain(source, (line, column), raw);
    ExpressionProblem { code: "syntax", line, column, message, hint }
}
