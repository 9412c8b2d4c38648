//! Problems that don't depend on how a field is compiled: names, and what OneSignal can't run.

use super::dataflow::{Origin, Origins, PROVIDER_NAMES, bodies};
use super::problems::Problems;
use crate::domain::channel::Channel;
use crate::templating::liquid::ast::{Condition, Expr, Filtered, Node, Path, Span, Step};
use crate::templating::liquid::filters::Filter;

/// The variable that compiled templates use.
pub const LOOKUP_NAME: &str = "herald";

/// The members of `forloop`.
const LOOP_MEMBERS: [&str; 7] = ["index", "index0", "rindex", "rindex0", "length", "first", "last"];

/// Checks every name in a field.
pub fn check_names(nodes: &[Node], origins: &mut Origins, problems: &mut Problems<'_>) {
    for node in nodes {
        match node {
            Node::Text(_) | Node::Break | Node::Continue => {}
            Node::Output(output) => check_filtered(output, origins, problems),
            Node::Assign(node) => {
                check_filtered(&node.value, origins, problems);
                check_new_name(&node.name, node.span, problems);
            }
            Node::Capture(node) => check_new_name(&node.name, node.span, problems),
            Node::If(node) => {
                node.branches.iter().for_each(|branch| check_condition(&branch.condition, origins, problems));
            }
            Node::Case(node) => {
                check_expr(&node.subject, origins, problems);
                let values = node.whens.iter().flat_map(|when| &when.values);
                values.for_each(|value| check_expr(value, origins, problems));
            }
            Node::For(node) => {
                let bounds = [&node.limit, &node.offset].into_iter().flatten();
                bounds.chain([&node.list]).for_each(|expr| check_expr(expr, origins, problems));
                check_new_name(&node.variable, node.span, problems);
                origins.enter(&node.variable, Origins::element(origins.list(node)));
                check_names(&node.body, origins, problems);
                origins.leave();
                node.otherwise.iter().for_each(|body| check_names(body, origins, problems));
                continue;
            }
        }
        for body in bodies(node) {
            check_names(body, origins, problems);
        }
    }
}

fn check_new_name(name: &str, span: Span, problems: &mut Problems<'_>) {
    if name == "data" || name == LOOKUP_NAME || name == "forloop" || PROVIDER_NAMES.contains(&name) {
        let message = format!("`{name}` is reserved by Herald or OneSignal");
        problems.add("reserved_name", span, message, Some("choose another name"));
    }
}

fn check_condition(condition: &Condition, origins: &Origins, problems: &mut Problems<'_>) {
    for test in &condition.tests {
        check_expr(&test.left, origins, problems);
        test.right.iter().for_each(|(_, right)| check_expr(right, origins, problems));
    }
}

fn check_filtered(filtered: &Filtered, origins: &Origins, problems: &mut Problems<'_>) {
    check_expr(&filtered.expr, origins, problems);
    let args = filtered.filters.iter().flat_map(|call| &call.args);
    args.for_each(|arg| check_expr(arg, origins, problems));
}

fn check_expr(expr: &Expr, origins: &Origins, problems: &mut Problems<'_>) {
    if let Expr::Path(path) = expr {
        check_path(path, origins, problems);
    }
}

fn check_path(path: &Path, origins: &Origins, problems: &mut Problems<'_>) {
    let root = path.root.as_str();
    if root == "forloop" {
        check_loop_member(path, origins, problems);
    }
    let custom_data = matches!(path.steps.first(), Some(Step::Key(key)) if key == "custom_data");
    if root == "message" && custom_data {
        let hint = Some("write `data.…`; Herald fills in `custom_data`");
        problems.add("unknown_name", path.span, "`message.custom_data` is reserved by Herald", hint);
    } else if !origins.is_local(root) && root != "data" && !PROVIDER_NAMES.contains(&root) {
        let hint = if root == "event" {
            "copy reads `data` and `user`; `event` is for rules only"
        } else {
            "copy reads `data` (the event's values) and `user` (the person)"
        };
        problems.add("unknown_name", path.span, unknown_name(root), Some(hint));
    }
    for step in &path.steps {
        if let Step::Dynamic(inner) = step {
            check_path(inner, origins, problems);
        }
    }
}

/// The message about a name that copy does not have.
pub fn unknown_name(name: &str) -> String {
    format!("there is no `{name}`")
}

fn check_loop_member(path: &Path, origins: &Origins, problems: &mut Problems<'_>) {
    let known = match path.steps.as_slice() {
        [Step::Key(key)] => LOOP_MEMBERS.contains(&key.as_str()),
        _ => false,
    };
    if !origins.is_in_loop() {
        let hint = Some("use it between `for` and `endfor`");
        problems.add("unknown_name", path.span, "there is no `forloop` outside a loop", hint);
    } else if !known {
        let hint = format!("known members: `forloop.{}`", LOOP_MEMBERS.join("`, `forloop."));
        problems.add("unknown_name", path.span, "`forloop` has no such member", Some(&hint));
    }
}

/// Checks that OneSignal can run nodes that are passed to it unchanged.
pub fn check_runnable(nodes: &[Node], channel: Channel, problems: &mut Problems<'_>) {
    for node in nodes {
        match node {
            Node::Output(output) => check_filters(output, 0, problems),
            Node::Assign(node) => check_filters(&node.value, 0, problems),
            Node::For(node) => check_loop(node.span, channel, problems),
            Node::Text(_) | Node::If(_) | Node::Case(_) | Node::Capture(_) | Node::Break | Node::Continue => {
            }
        }
        for body in bodies(node) {
            check_runnable(body, channel, problems);
        }
    }
}

/// Whether an output of literals alone has a filter that OneSignal lacks: Herald computes it at compile time.
pub fn has_computed_constant(nodes: &[Node], origins: &Origins) -> bool {
    nodes.iter().any(|node| match node {
        Node::Output(output) => {
            origins.filtered(output) == Origin::default()
                && output.filters.iter().any(|call| !call.filter.is_documented())
        }
        other => bodies(other).into_iter().any(|body| has_computed_constant(body, origins)),
    })
}

/// Checks that OneSignal has the filters from the one at `first` on.
pub fn check_filters(filtered: &Filtered, first: usize, problems: &mut Problems<'_>) {
    let unknown = |filter: Filter| !filter.is_documented();
    for call in filtered.filters.iter().skip(first).filter(|call| unknown(call.filter)) {
        let name = call.filter.name();
        let reads = |expr: &Expr| matches!(expr, Expr::Path(_));
        let is_constant = !reads(&filtered.expr)
            && filtered.filters.iter().flat_map(|call| &call.args).all(|arg| !reads(arg));
        let (message, hint) = if is_constant {
            (format!("OneSignal has no filter `{name}`"), "write the result instead")
        } else {
            let message = format!("OneSignal has no filter `{name}`, and only it can compute this");
            (message, "apply it to `data` only, or choose another filter")
        };
        problems.add("filter_unavailable", call.span, message, Some(hint));
    }
}

/// Checks that OneSignal can run a loop.
pub fn check_loop(span: Span, channel: Channel, problems: &mut Problems<'_>) {
    if channel == Channel::Push {
        let message = "OneSignal does not run `for` in push messages, and this loop reads values that only OneSignal has";
        problems.add(
            "loop_in_push",
            span,
            message,
            Some("loop over `data` only, or move those values out of the loop"),
        );
    }
}
