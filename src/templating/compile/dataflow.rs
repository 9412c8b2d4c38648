//! Where values come from: the event, OneSignal, or both; and therefore who computes them.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::budget::Budget;
use crate::templating::liquid::ast::{Call, Condition, Expr, Filtered, For, Node, Path, Step};
use crate::templating::liquid::filters::Filter;

/// The names that OneSignal fills in.
pub const PROVIDER_NAMES: [&str; 5] = ["user", "subscription", "message", "template", "app"];

/// What something depends on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin {
    /// The event, or variables that Herald computes.
    pub event: bool,
    /// What OneSignal alone knows.
    pub provider: bool,
}

const EVENT: Origin = Origin { event: true, provider: false };
const PROVIDER: Origin = Origin { event: false, provider: true };

impl Origin {
    fn and(self, other: Self) -> Self {
        Self { event: self.event || other.event, provider: self.provider || other.provider }
    }
}

/// Determines the origins of values in one field.
#[derive(Debug, Default)]
pub struct Origins {
    /// Variables that OneSignal has to keep, because their value or their assignment depends on it.
    kept_by_provider: BTreeMap<String, Origin>,
    /// Every variable that the field assigns or captures.
    assigned: BTreeSet<String>,
    /// The open loops, with the origin of their elements.
    loops: Vec<(String, Origin)>,
    budget: Budget,
}

impl Origins {
    /// Studies a field. `None` if its variables depend on each other in too long a chain, or the budget is spent.
    pub fn of(nodes: &[Node], budget: &Budget) -> Option<Self> {
        let mut origins = Self { budget: budget.clone(), ..Self::default() };
        origins.collect(nodes);
        // Each round settles at least one more variable, or is the last.
        for _ in 0..64 {
            if !origins.settle(nodes, false) {
                return budget.spent().is_none().then_some(origins);
            }
        }
        None
    }

    /// Whether OneSignal has to keep the variable.
    pub fn is_kept_by_provider(&self, name: &str) -> bool {
        self.kept_by_provider.contains_key(name)
    }

    /// Whether the name is a variable or loop element of the field, rather than a global.
    pub fn is_local(&self, name: &str) -> bool {
        name == "forloop" || self.assigned.contains(name) || self.loops.iter().any(|(known, _)| known == name)
    }

    /// Whether a loop is open.
    pub fn is_in_loop(&self) -> bool {
        !self.loops.is_empty()
    }

    /// Opens a loop over what is of `origin`.
    pub fn enter(&mut self, name: &str, origin: Origin) {
        self.loops.push((name.to_owned(), origin));
    }

    /// Closes the innermost loop.
    pub fn leave(&mut self) {
        self.loops.pop();
    }

    /// The origin of what a name refers to here.
    pub fn root(&self, name: &str) -> Origin {
        if let (true, Some((_, origin))) = (name == "forloop", self.loops.last()) {
            return if origin.provider { PROVIDER } else { EVENT };
        }
        if let Some((_, origin)) = self.loops.iter().rev().find(|(known, _)| known == name) {
            return *origin;
        }
        if let Some(origin) = self.kept_by_provider.get(name) {
            return *origin;
        }
        let provider = PROVIDER_NAMES.contains(&name) && !self.assigned.contains(name);
        if provider { PROVIDER } else { EVENT }
    }

    /// The origin of a path, with the paths in its brackets.
    pub fn path(&self, path: &Path) -> Origin {
        let steps = path.steps.iter().map(|step| self.step(step));
        steps.fold(self.root(&path.root), Origin::and)
    }

    /// The origin of a step of a path.
    pub fn step(&self, step: &Step) -> Origin {
        match step {
            Step::Dynamic(inner) => self.path(inner),
            Step::Key(_) | Step::Index(_) => Origin::default(),
        }
    }

    /// The origin of an expression; a literal has none.
    pub fn expr(&self, expr: &Expr) -> Origin {
        match expr {
            Expr::Path(path) => self.path(path),
            Expr::Literal(_) => Origin::default(),
        }
    }

    /// The origin of an expression with filters.
    pub fn filtered(&self, filtered: &Filtered) -> Origin {
        filtered.filters.iter().fold(self.expr(&filtered.expr), |origin, call| {
            // Only OneSignal can shorten a link.
            let own = if call.filter == Filter::TrackLink { PROVIDER } else { Origin::default() };
            call.args.iter().map(|arg| self.expr(arg)).fold(origin.and(own), Origin::and)
        })
    }

    /// How many of its filters Herald computes where OneSignal completes the expression.
    pub fn computed(&self, filtered: &Filtered) -> usize {
        let head = self.expr(&filtered.expr);
        if head.provider || !head.event {
            return 0;
        }
        let ours = |call: &&Call| {
            call.filter != Filter::TrackLink && call.args.iter().all(|arg| !self.expr(arg).provider)
        };
        filtered.filters.iter().take_while(ours).count()
    }

    /// The origin of a condition.
    pub fn condition(&self, condition: &Condition) -> Origin {
        let sides = condition.tests.iter().flat_map(|test| {
            let right = test.right.as_ref().map(|(_, right)| self.expr(right));
            [self.expr(&test.left), right.unwrap_or_default()]
        });
        sides.fold(Origin::default(), Origin::and)
    }

    /// The origin of what a loop goes through.
    pub fn list(&self, node: &For) -> Origin {
        let bounds = [&node.limit, &node.offset].into_iter().flatten();
        bounds.map(|bound| self.expr(bound)).fold(self.expr(&node.list), Origin::and)
    }

    /// The origin of everything in `nodes`. Setting a variable that OneSignal keeps is OneSignal's business.
    pub fn nodes(&mut self, nodes: &[Node]) -> Origin {
        nodes.iter().fold(Origin::default(), |origin, node| origin.and(self.node(node)))
    }

    fn node(&mut self, node: &Node) -> Origin {
        if self.budget.steps(1 + self.loops.len()).is_err() {
            return Origin::default();
        }
        let kept = |origins: &Self, name: &str| {
            if origins.is_kept_by_provider(name) { PROVIDER } else { Origin::default() }
        };
        match node {
            Node::Text(_) | Node::Break | Node::Continue => Origin::default(),
            Node::Output(output) => self.filtered(output),
            Node::Assign(node) => self.filtered(&node.value).and(kept(self, &node.name)),
            Node::Capture(node) => self.nodes(&node.body).and(kept(self, &node.name)),
            Node::If(node) => {
                let bodies = node.branches.iter().map(|branch| &branch.body).chain(&node.otherwise);
                let bodies = bodies.fold(Origin::default(), |origin, body| origin.and(self.nodes(body)));
                node.branches.iter().map(|branch| self.condition(&branch.condition)).fold(bodies, Origin::and)
            }
            Node::Case(node) => {
                let bodies = node.whens.iter().map(|when| &when.body).chain(&node.otherwise);
                let bodies = bodies.fold(Origin::default(), |origin, body| origin.and(self.nodes(body)));
                let values = node.whens.iter().flat_map(|when| &when.values).chain([&node.subject]);
                values.map(|value| self.expr(value)).fold(bodies, Origin::and)
            }
            Node::For(node) => {
                let list = self.list(node);
                self.enter(&node.variable, Self::element(list));
                let body = self.nodes(&node.body);
                self.leave();
                let otherwise = node.otherwise.as_ref().map(|body| self.nodes(body)).unwrap_or_default();
                list.and(body).and(otherwise)
            }
        }
    }

    /// The origin of the elements of a list of `origin`; elements of a literal are Herald's.
    pub fn element(origin: Origin) -> Origin {
        if origin.provider { origin } else { EVENT }
    }

    fn collect(&mut self, nodes: &[Node]) {
        for node in nodes {
            match node {
                Node::Assign(node) => drop(self.assigned.insert(node.name.clone())),
                Node::Capture(node) => {
                    self.assigned.insert(node.name.clone());
                    self.collect(&node.body);
                }
                other => bodies(other).into_iter().for_each(|body| self.collect(body)),
            }
        }
    }

    /// Finds variables that OneSignal has to keep; whether another was found. `controlled`: OneSignal decides whether
    /// these nodes are reached.
    fn settle(&mut self, nodes: &[Node], controlled: bool) -> bool {
        let mut changed = false;
        for node in nodes {
            if self.budget.steps(1 + self.loops.len()).is_err() {
                return false;
            }
            changed |= match node {
                Node::Text(_) | Node::Output(_) | Node::Break | Node::Continue => false,
                Node::Assign(node) => self.settle_name(&node.name, self.filtered(&node.value), controlled),
                Node::Capture(node) => {
                    let origin = self.nodes(&node.body);
                    self.settle(&node.body, controlled) | self.settle_name(&node.name, origin, controlled)
                }
                Node::If(_) | Node::Case(_) => {
                    let controlled = controlled || self.chooses(node).provider;
                    bodies(node)
                        .into_iter()
                        .fold(false, |changed, body| self.settle(body, controlled) | changed)
                }
                Node::For(node) => self.settle_loop(node, controlled),
            };
        }
        changed
    }

    fn settle_loop(&mut self, node: &For, controlled: bool) -> bool {
        let list = self.list(node);
        self.enter(&node.variable, Self::element(list));
        // Where OneSignal may leave the loop early, only it knows what was assigned last.
        let jumps = has_jump(&node.body) && self.nodes(&node.body).provider;
        let changed = self.settle(&node.body, controlled || list.provider || jumps);
        self.leave();
        node.otherwise.as_ref().is_some_and(|body| self.settle(body, controlled || list.provider)) | changed
    }

    fn settle_name(&mut self, name: &str, origin: Origin, controlled: bool) -> bool {
        let known = self.kept_by_provider.get(name).copied();
        if !controlled && !origin.provider && known.is_none() {
            return false;
        }
        let new = known.unwrap_or_default().and(origin).and(PROVIDER);
        self.kept_by_provider.insert(name.to_owned(), new);
        known != Some(new)
    }

    /// The origin of what decides between the branches of an `if` or `case`.
    fn chooses(&self, node: &Node) -> Origin {
        match node {
            Node::If(node) => node
                .branches
                .iter()
                .map(|branch| self.condition(&branch.condition))
                .fold(Origin::default(), Origin::and),
            Node::Case(node) => {
                let values = node.whens.iter().flat_map(|when| &when.values).chain([&node.subject]);
                values.map(|value| self.expr(value)).fold(Origin::default(), Origin::and)
            }
            _ => Origin::default(),
        }
    }
}

/// The bodies within a node.
pub fn bodies(node: &Node) -> Vec<&[Node]> {
    match node {
        Node::If(node) => node
            .branches
            .iter()
            .map(|branch| branch.body.as_slice())
            .chain(node.otherwise.as_deref())
            .collect(),
        Node::Case(node) => {
            node.whens.iter().map(|when| when.body.as_slice()).chain(node.otherwise.as_deref()).collect()
        }
        Node::For(node) => [node.body.as_slice()].into_iter().chain(node.otherwise.as_deref()).collect(),
        Node::Capture(node) => vec![&node.body],
        Node::Text(_) | Node::Output(_) | Node::Assign(_) | Node::Break | Node::Continue => Vec::new(),
    }
}

/// Whether `nodes` leave a loop that is open around them.
pub fn has_jump(nodes: &[Node]) -> bool {
    nodes.iter().any(|node| match node {
        Node::Break | Node::Continue => true,
        Node::For(node) => node.otherwise.as_deref().is_some_and(has_jump),
        other => bodies(other).into_iter().any(has_jump),
    })
}
