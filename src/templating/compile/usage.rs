//! What of an expression is looked at, and how it is written again.

use super::origins::{Origins, bodies};
use super::plan::Used;
use crate::templating::liquid::PathUse;
use crate::templating::liquid::ast::{Call, Condition, Expr, Filtered, Literal, Node, Path, Step};
use crate::templating::liquid::filters::Filter;

/// What a field reads, to cut what travels to it.
#[derive(Debug, Default)]
pub struct Reads {
    uses: Vec<PathUse>,
    /// Every key that the field names, or none if it looks keys up that only OneSignal knows.
    keys: Option<Vec<String>>,
}

impl Reads {
    /// Studies a field.
    pub fn of_field(nodes: &[Node], uses: Vec<PathUse>) -> Self {
        let mut keys = Some(Vec::new());
        collect(nodes, &mut keys);
        Self { uses, keys }
    }

    /// What of `value` is looked at, if it turns out to be a list or an object.
    pub fn of(&self, value: &Filtered, origins: &Origins) -> Used {
        let needed = match &value.expr {
            Expr::Path(path) if value.filters.is_empty() && !origins.is_local(&path.root) => {
                self.needed(path)
            }
            Expr::Path(_) | Expr::Literal(_) => Vec::new(),
        };
        Used { members: self.keys.clone(), needed }
    }

    fn needed(&self, path: &Path) -> Vec<Vec<Option<String>>> {
        let mut written = path.root.clone();
        for step in &path.steps {
            match step {
                Step::Key(key) => super::rewrite::push(&mut written, &[".", key]),
                Step::Index(_) | Step::Dynamic(_) => written.push_str("[]"),
            }
        }
        let is_tested = |path: &str| self.uses.iter().any(|other| other.path == path && other.tested);
        let below = self.uses.iter().filter(|found| !found.has_default && !is_tested(&found.path));
        // An element that OneSignal picks, `[]` at the very end, may well be missing elsewhere.
        below.filter_map(|found| found.path.strip_prefix(&written)).filter_map(steps).collect()
    }
}

/// `[].name.first` as steps; `None` if it is no path below, or ends in what lists themselves answer.
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

fn collect(nodes: &[Node], keys: &mut Option<Vec<String>>) {
    for node in nodes {
        match node {
            Node::Output(output) => collect_filtered(output, keys),
            Node::Assign(node) => collect_filtered(&node.value, keys),
            Node::If(node) => {
                node.branches.iter().for_each(|branch| collect_condition(&branch.condition, keys));
            }
            Node::Case(node) => {
                let values = node.whens.iter().flat_map(|when| &when.values).chain([&node.subject]);
                values.for_each(|value| collect_expr(value, keys));
            }
            Node::For(node) => {
                let bounds = [&node.limit, &node.offset].into_iter().flatten().chain([&node.list]);
                bounds.for_each(|bound| collect_expr(bound, keys));
            }
            Node::Text(_) | Node::Capture(_) | Node::Break | Node::Continue => {}
        }
        for body in bodies(node) {
            collect(body, keys);
        }
    }
}

fn collect_condition(condition: &Condition, keys: &mut Option<Vec<String>>) {
    for test in &condition.tests {
        collect_expr(&test.left, keys);
        test.right.iter().for_each(|(_, right)| collect_expr(right, keys));
    }
}

fn collect_filtered(filtered: &Filtered, keys: &mut Option<Vec<String>>) {
    collect_expr(&filtered.expr, keys);
    for call in &filtered.filters {
        call.args.iter().for_each(|arg| collect_expr(arg, keys));
        let (Some(Expr::Literal(Literal::Text(key))), Some(keys)) = (call.args.first(), keys.as_mut()) else {
            continue;
        };
        if matches!(call.filter, Filter::Where | Filter::Map | Filter::Sort) {
            keys.push(key.clone());
        }
    }
}

fn collect_expr(expr: &Expr, keys: &mut Option<Vec<String>>) {
    let Expr::Path(path) = expr else { return };
    for step in &path.steps {
        match (step, keys.as_mut()) {
            (Step::Key(key), Some(keys)) if !keys.contains(key) => keys.push(key.clone()),
            (Step::Dynamic(_), _) => *keys = None,
            (Step::Key(_) | Step::Index(_), _) => {}
        }
    }
}

/// Whether the expression reads nothing but the event, so that it means the same wherever it stands.
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

/// Whether a key can stand after a dot.
pub fn is_name(key: &str) -> bool {
    key.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b'-')
}
