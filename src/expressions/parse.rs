//! From text to a tree: bounded, with readable problems, and with a count of steps built into each walk over a list.

use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr, SourceInfo};
use cel::{Env, ParseErrors, extensions};

use super::charges::charge;
use super::limits::{Excess, MAX_DEPTH, MAX_NESTED_WALKS, MAX_SOURCE_BYTES, measure};
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
    /// The same with all that costs something paid for: what is evaluated.
    pub charged: IdedExpr,
    /// How many levels the evaluation recurses at most.
    pub depth: usize,
    pub places: SourceInfo,
}

impl Expression {
    /// Reads an expression of at most [`MAX_SOURCE_BYTES`].
    ///
    /// # Errors
    /// The first thing that is wrong with it; another try with the same text fails the same way.
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
        paid.map_err(|spent| problem(source, 0, "too_complex", format!("it can't be read: {spent}")))?;
        let parsed = on_deep_stack(|| parse_bounded(source));
        let unreadable = || problem(source, 0, "syntax", "the expression can't be read".to_owned());
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
        Size { depth, .. } if depth > MAX_DEPTH => refusal("the expression is nested too deep"),
        Size { walks, .. } if walks > MAX_NESTED_WALKS => {
            refusal("a list may be walked within a list, but not deeper")
        }
        Size { .. } => Ok(()),
    }
}

/// How deep a tree is, and how deep its walks lie within one another.
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

/// The expressions right below one.
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

/// A problem at a place given in characters from the text's start.
pub(super) fn problem(source: &str, offset: usize, code: &'static str, message: String) -> ExpressionProblem {
    let before: Vec<char> = source.chars().take(offset).collect();
    let line = 1 + before.iter().filter(|&&found| found == '\n').count();
    let column = 1 + before.iter().rev().take_while(|&&found| found != '\n').count();
    ExpressionProblem { code, line, column, message, hint: None }
}

fn from_parser(source: &str, errors: &ParseErrors) -> ExpressionProblem {
    let first = errors.errors.first();
    let position = first.map_or((1, 1), |error| error.pos);
    let said = first.map_or("the expression can't be read", |error| error.msg.as_str());
    let message = said.trim_start_matches("Syntax error: ").replace("<EOF>", "the end");
    ExpressionProblem {
        code: "syntax",
        line: usize::try_from(position.0).unwrap_or(1).max(1),
        column: usize::try_from(position.1).unwrap_or(1).max(1),
        message,
        hint: hint(source),
    }
}

/// What people from other languages write, and what CEL calls it.
fn hint(source: &str) -> Option<String> {
    let words: Vec<&str> = source.split_whitespace().collect();
    let said = match () {
        () if words.contains(&"and") => "CEL writes `and` as `&&`",
        () if words.contains(&"or") => "CEL writes `or` as `||`",
        () if words.contains(&"not") => "CEL writes `not` as `!`",
        () if words.contains(&"=") => "CEL compares with `==`",
        () if words.contains(&"===") => "CEL compares with `==`",
        () => return None,
    };
    Some(said.to_owned())
}
