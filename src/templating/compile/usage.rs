//! Which parts of an expression are read, and how it is written back.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::dataflow::{Origins, bodies};
use super::plan::Used;
use crate::domain::budget::Budget;
use crate::templating::liquid::PathUse;
use crate::templating::liquid::ast::{Call, Condition, Expr, Filtered, Literal, Node, Path, Step};
use crate::templating::liquid::filters::Filter;

/// What a field reads, to cut what travels to it.
#[derive(Debug, Default)]
pub struct Reads {
    uses: Vec<PathUse>,
    /// The paths that are tested somewhere.
    tested: BTreeSet<String>,
    /// What the field names.
    names: Names,
}

/// The names in a field.
#[derive(Debug, Default)]
struct Names {
    /// Where its paths begin.
    roots: BTreeSet<String>,
    /// The keys of its paths, and those that filters are given.
    keys: Arc<BTreeSet<String>>,
    /// Whether it reads keys that it doesn't name.
    dynamic: bool,
}

impl Reads {
    /// Studies a field.
    pub fn of_field(nodes: &[Node], uses: Vec<PathUse>) -> Self {
        let mut names = Names::default();
        collect(nodes, &mut names);
        let tested = uses.iter().filter(|found| found.tested).map(|found| found.path.clone()).collect();
        Self { uses, tested, names }
    }

    /// Whether a path of the field begins with this name.
    pub fn begins_with(&self, root: &str) -> bool {
        self.names.roots.contains(root)
    }

    /// The parts of `value` that are read, if it turns out to be a list or an object.
    pub fn of(&self, value: &Filtered, origins: &Origins, budget: &Budget) -> Used {
        let needed = match &value.expr {
            Expr::Path(path) if value.filters.is_empty() && !origins.is_local(&path.root) => {
                self.needed(path, budget)
            }
            Expr::Path(_) | Expr::Literal(_) => Vec::new(),
        };
        let members = (!self.names.dynamic).then(|| Arc::clone(&self.names.keys));
        Used { members, needed }
    }

    fn needed(&self, path: &Path, budget: &Budget) -> Vec<Vec<Option<String>>> {
        if budget.steps(self.uses.len()).is_err() {
            return Vec::new();
        }
        let mut written = path.root.clone();
        for step in &path.steps {
            match step {
                Step::Key(key) => super::rewrite::push(&mut written, &[".", key]),
                Step::Index(_) | Step::Dynamic(_) => written.push_str("[]"),
            }
        }
        let below = self.uses.iter().filter(|found| found.path.starts_with(&written));
        let below = below.filter(|found| !found.has_default && !self.tested.contains(&found.path));
        // An element that OneSignal picks, `[]` at the very end, may well be missing elsewhere.
        let below = below.filter_map(|found| found.path.strip_prefix(&written));
        below.take_while(|path| budget.memory(path.len()).is_ok()).filter_map(steps).collect()
    }
}

/// `[].name.first` as steps; `None` if it is not a path below, or ends in a property of lists.
fn steps(below: &str) -> Option<Vec<Option<String>>> {
    if !below.starts_with("[].") {
        return None;
    }
    let mut steps = Vec::new();
    for part in below.split('.').filter(|part| !part.is_empty()) {
        let (key, elements) = part.split_once("[]").map_or((part, false), |(key, _)| (key, true));
        if matches!(key, "size" | "first" | "last") {
            return None;
        }
        steps.extend((!key.is_empty()).then(|| Some(key.to_owned())));
        steps.extend(elements.then_some(None));
    }
    Some(steps)
}

fn collect(nodes: &[Node], names: &mut Names) {
    for node in nodes {
        match node {
            Node::Output(output) => collect_filtered(output, names),
            Node::Assign(node) => collect_filtered(&node.value, names),
            Node::If(node) => {
                node.branches.iter().for_each(|branch| collect_condition(&branch.condition, names));
            }
            Node::Case(node) => {
                let values = node.whens.iter().flat_map(|when| &when.values).chain([&node.subject]);
                values.for_each(|value| collect_expr(value, names));
            }
            Node::For(node) => {
                let bounds = [&node.limit, &node.offset].into_iter().flatten().chain([&node.list]);
                bounds.for_each(|bound| collect_expr(bound, names));
            }
            Node::Text(_) | Node::Capture(_) | Node::Break | Node::Continue => {}
        }
        for body in bodies(node) {
            collect(body, names);
        }
    }
}

fn collect_condition(condition: &Condition, names: &mut Names) {
    for test in &condition.tests {
        collect_expr(&test.left, names);
        test.right.iter().for_each(|(_, right)| collect_expr(right, names));
    }
}

fn collect_filtered(filtered: &Filtered, names: &mut Names) {
    collect_expr(&filtered.expr, names);
    for call in &filtered.filters {
        call.args.iter().for_each(|arg| collect_expr(arg, names));
        let Some(Expr::Literal(Literal::Text(key))) = call.args.first() else { continue };
        if matches!(call.filter, Filter::Where | Filter::Map | Filter::Sort) {
            Arc::make_mut(&mut names.keys).insert(key.clone());
        }
    }
}

fn collect_expr(expr: &Expr, names: &mut Names) {
    if let Expr::Path(path) = expr {
        collect_path(path, names);
    }
}

fn collect_path(path: &Path, names: &mut Names) {
    names.roots.insert(path.root.clone());
    for step in &path.steps {
        match step {
            Step::Key(key) => drop(Arc::make_mut(&mut names.keys).insert(key.clone())),
            Step::Index(_) => {}
            Step::Dynamic(inner) => {
                names.dynamic = true;
                collect_path(inner, names);
            }
        }
    }
}

/// Whether the expression reads only the event, so that it means the same everywhere.
pub fn is_global(filtered: &Filtered) -> bool {
    let args = filtered.filters.iter().flat_map(|call| &call.args);
    args.chain([&filtered.expr]).all(|expr| match expr {
        Expr::Path(path) => is_global_path(path),
        Expr::Literal(_) => true,
    })
}

fn is_global_path(path: &Path) -> bool {
    let inner = |step: &Step| match step {
        Step::Dynamic(inner) => is_global_path(inner),
        Step::Key(_) | Step::Index(_) => true,
    };
    path.root == "data" && path.steps.iter().all(inner)
}

/// A text that is the same for expressions that are the same.
pub fn identity(filtered: &Filtered) -> String {
    format!(
        "{}|{}",
        print_identity(&filtered.expr),
        filtered.filters.iter().map(call_identity).collect::<String>()
    )
}

fn call_identity(call: &Call) -> String {
    let args: Vec<String> = call.args.iter().map(print_identity).collect();
    format!("{}:{}:{}|", call.filter.name(), args.join(","), call.allow_false)
}

fn print_identity(expr: &Expr) -> String {
    match expr {
        Expr::Literal(literal) => format!("{literal:?}"),
        Expr::Path(path) => path_identity(path),
    }
}

fn path_identity(path: &Path) -> String {
    let steps: Vec<String> = path
        .steps
        .iter()
        .map(|step| match step {
            Step::Key(key) => format!("{key:?}"),
            Step::Index(index) => index.to_string(),
            Step::Dynamic(inner) => format!("[{}]", path_identity(inner)),
        })
        .collect();
    format!("{}.{}", path.root, steps.join("."))
}

/// Whether the expression reads a variable or element that OneSignal keeps and that holds something of the event.
pub fn reads_kept(filtered: &Filtered, origins: &Origins) -> bool {
    let args = filtered.filters.iter().flat_map(|call| &call.args);
    args.chain([&filtered.expr]).any(|expr| match expr {
        Expr::Path(path) => {
            let root = origins.root(&path.root);
            root.event && root.provider
        }
        Expr::Literal(_) => false,
    })
}

/// A literal as Liquid.
pub fn print_literal(literal: &Literal) -> String {
    match literal {
        Literal::Nil => "nil".to_owned(),
        Literal::Bool(bool) => bool.to_string(),
        Literal::Int(int) => int.to_string(),
        Literal::Float(float) => float.to_string(),
        Literal::Text(text) => quote(text),
        Literal::Blank => "blank".to_owned(),
        Literal::Empty => "empty".to_owned(),
    }
}

/// A text in quotes; one that was read from a template has at most one kind of quote in it.
pub fn quote(text: &str) -> String {
    if text.contains('"') { format!("'{text}'") } else { format!("\"{text}\"") }
}

/// Whether a key can be written after a dot.
pub fn is_name(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
