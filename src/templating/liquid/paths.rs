//! Which paths a template reads, followed through `assign`, `for`, `where` and `map`.

use std::collections::HashSet;

use super::ast::{Call, Condition, Expr, Filtered, For, Literal, Node, Path, Span, Step};
use super::filters::Filter;
use super::position::Cursor;
use crate::domain::budget::Budget;

/// One reading of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathUse {
    /// The path from the globals down; elements of a list are `[]`: `data.items[].name`.
    pub path: String,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// Whether a `default` (or a loop's `else`) covers a missing value.
    pub has_default: bool,
    /// Whether it is only tested, in a condition or by `where`, so that it may lead to nothing.
    pub tested: bool,
    /// Whether it is inside an `if`, `unless`, `case` or `for`, so that it may not be needed at all.
    pub conditional: bool,
    /// Its byte offset in the source.
    pub(in crate::templating) offset: usize,
}

/// The maximum number of paths that a variable may refer to.
const MAX_PATHS: usize = 16;
/// How long such a path may be, in bytes.
const LONGEST_PATH: usize = 512;

/// Finds every reading in `nodes`, in source order.
pub(in crate::templating) fn paths<'n>(
    source: &'n str,
    nodes: &'n [Node],
    budget: &'n Budget,
) -> Vec<PathUse> {
    let mut finder =
        Finder { budget, cursor: Cursor::new(source), uses: Vec::new(), names: Vec::new(), depth: 0 };
    finder.block(nodes);
    finder.uses
}

#[derive(Clone, Copy)]
struct How {
    has_default: bool,
    tested: bool,
}

const NEEDED: How = How { has_default: false, tested: false };
const TESTED: How = How { has_default: false, tested: true };

/// The paths that a variable refers to: none, or several after assignments in branches.
struct Name<'n> {
    name: &'n str,
    stands_for: Vec<String>,
}

struct Finder<'n> {
    budget: &'n Budget,
    cursor: Cursor<'n>,
    uses: Vec<PathUse>,
    names: Vec<Name<'n>>,
    depth: usize,
}

impl<'n> Finder<'n> {
    fn block(&mut self, nodes: &'n [Node]) {
        for node in nodes {
            if self.budget.steps(1 + self.names.len() / 16).is_err() {
                return;
            }
            match node {
                Node::Text(_) | Node::Break | Node::Continue => {}
                Node::Output(output) => drop(self.filtered(output, false)),
                Node::If(node) => {
                    for branch in &node.branches {
                        self.condition(&branch.condition);
                        self.inner(&branch.body);
                    }
                    node.otherwise.iter().for_each(|body| self.inner(body));
                }
                Node::Case(node) => {
                    self.read(&node.subject, TESTED);
                    for when in &node.whens {
                        when.values.iter().for_each(|value| self.read(value, TESTED));
                        self.inner(&when.body);
                    }
                    node.otherwise.iter().for_each(|body| self.inner(body));
                }
                Node::For(node) => self.repeat(node),
                Node::Assign(node) => {
                    let stands_for = self.filtered(&node.value, true);
                    self.define(&node.name, stands_for);
                }
                Node::Capture(node) => {
                    self.block(&node.body);
                    self.define(&node.name, Vec::new());
                }
            }
        }
    }

    fn inner(&mut self, nodes: &'n [Node]) {
        self.depth += 1;
        self.block(nodes);
        self.depth -= 1;
    }

    /// Names derived from each other could stand for an exponential number of paths; a few are enough.
    fn few(mut paths: Vec<String>) -> Vec<String> {
        paths.retain(|path| path.len() <= LONGEST_PATH);
        let mut seen = HashSet::new();
        paths.retain(|path| seen.insert(path.clone()));
        paths.truncate(MAX_PATHS);
        paths
    }

    /// An assignment in a branch may or may not have happened, so the variable then refers to both.
    fn define(&mut self, name: &'n str, stands_for: Vec<String>) {
        let (depth, stands_for) = (self.depth, Self::few(stands_for));
        match self.names.iter_mut().rev().find(|known| known.name == name) {
            Some(known) if depth > 0 => {
                known.stands_for.extend(stands_for);
                known.stands_for = Self::few(std::mem::take(&mut known.stands_for));
            }
            Some(known) => known.stands_for = stands_for,
            None => self.names.push(Name { name, stands_for }),
        }
    }

    fn repeat(&mut self, node: &'n For) {
        let has_default = node.otherwise.is_some();
        self.read(&node.list, How { has_default, tested: false });
        for bound in [&node.limit, &node.offset].into_iter().flatten() {
            self.read(bound, NEEDED);
        }
        let stands_for = self.resolve(&node.list).into_iter().map(|path| format!("{path}[]")).collect();
        self.names.push(Name { name: &node.variable, stands_for });
        self.names.push(Name { name: "forloop", stands_for: Vec::new() });
        let mark = self.names.len();
        self.inner(&node.body);
        // What the body assigned outlives it; the element and `forloop` don't.
        let at = mark - 2;
        self.names.drain(at..mark);
        node.otherwise.iter().for_each(|body| self.inner(body));
    }

    fn condition(&mut self, condition: &'n Condition) {
        for test in &condition.tests {
            self.read(&test.left, TESTED);
            if let Some((_, right)) = &test.right {
                self.read(right, TESTED);
            }
        }
    }

    /// Notes the readings of an expression with filters; returns what the result still stands for. An assignment
    /// that merely renames a path does not read it.
    fn filtered(&mut self, filtered: &'n Filtered, assigned: bool) -> Vec<String> {
        let has_default = filtered.filters.iter().any(|call| call.filter == Filter::Default);
        if !(assigned && filtered.filters.is_empty()) {
            self.read(&filtered.expr, How { has_default, tested: false });
        } else if let Expr::Path(path) = &filtered.expr {
            self.read_keys(path);
        }
        let mut stands_for = self.resolve(&filtered.expr);
        for (index, call) in filtered.filters.iter().enumerate() {
            // A default may itself be missing, unless another one follows.
            let is_default = |call: &Call| call.filter == Filter::Default;
            let has_default = is_default(call) && filtered.filters[index + 1..].iter().any(is_default);
            for arg in &call.args {
                self.read(arg, How { has_default, tested: false });
            }
            stands_for = Self::few(self.after(call, stands_for));
        }
        stands_for
    }

    fn after(&mut self, call: &'n Call, mut stands_for: Vec<String>) -> Vec<String> {
        let key = match call.args.first() {
            Some(Expr::Literal(Literal::Text(key))) => Some(key),
            Some(Expr::Literal(_) | Expr::Path(_)) | None => None,
        };
        let members =
            |paths: &[String], key: &String| paths.iter().map(|path| format!("{path}[].{key}")).collect();
        match (call.filter, key) {
            (Filter::Where | Filter::Sort, Some(key)) => {
                let tested: Vec<String> = members(&stands_for, key);
                for path in tested {
                    self.note(path, call.span, TESTED);
                }
                stands_for
            }
            (Filter::Map, Some(key)) => {
                let members: Vec<String> = members(&stands_for, key);
                for path in members {
                    self.note(path, call.span, NEEDED);
                }
                // The result is a list of members, so a step into it must not repeat the `[]`.
                Vec::new()
            }
            (Filter::Default, _) => {
                if let Some(Expr::Path(path)) = call.args.first() {
                    stands_for.extend(self.resolve_path(path));
                }
                stands_for
            }
            (Filter::First | Filter::Last, _) => {
                stands_for.into_iter().map(|path| format!("{path}[]")).collect()
            }
            (Filter::Compact | Filter::Reverse | Filter::Sort | Filter::Uniq | Filter::Slice, _) => {
                stands_for
            }
            _ => Vec::new(),
        }
    }

    fn read(&mut self, expr: &'n Expr, how: How) {
        let Expr::Path(path) = expr else { return };
        for resolved in self.resolve_path(path) {
            self.note(resolved, path.span, how);
        }
        self.read_keys(path);
    }

    /// The paths within brackets are read to find the element.
    fn read_keys(&mut self, path: &'n Path) {
        for step in &path.steps {
            if let Step::Dynamic(inner) = step {
                self.resolve_path(inner)
                    .into_iter()
                    .for_each(|resolved| self.note(resolved, inner.span, NEEDED));
                self.read_keys(inner);
            }
        }
    }

    fn note(&mut self, path: String, span: Span, how: How) {
        if self.budget.memory(path.len()).is_err() {
            return;
        }
        let (line, column) = self.cursor.at(span.start);
        let How { has_default, tested } = how;
        let conditional = self.depth > 0;
        self.uses.push(PathUse { path, line, column, has_default, tested, conditional, offset: span.start });
    }

    fn resolve(&self, expr: &Expr) -> Vec<String> {
        match expr {
            Expr::Path(path) => self.resolve_path(path),
            Expr::Literal(_) => Vec::new(),
        }
    }

    fn resolve_path(&self, path: &Path) -> Vec<String> {
        let known = self.names.iter().rev().find(|known| known.name == path.root);
        let roots = known.map_or_else(|| vec![path.root.clone()], |known| known.stands_for.clone());
        let steps: String = path
            .steps
            .iter()
            .map(|step| match step {
                Step::Key(key) => format!(".{key}"),
                Step::Index(_) | Step::Dynamic(_) => "[]".to_owned(),
            })
            .collect();
        roots.into_iter().map(|root| root + &steps).collect()
    }
}
