//! Which fields may come out as nothing at all, though each value that they print is there.

use crate::domain::visible::is_blank;
use crate::templating::liquid::ast::{Expr, Filtered, Node};

/// Whether nodes show something whatever an event says: text, an output for which `shows` holds, or branches of which one
/// is taken and each shows something.
pub(super) fn always_show(source: &str, nodes: &[Node], shows: fn(&Filtered) -> bool) -> bool {
    let show = |nodes: &Vec<Node>| always_show(source, nodes, shows);
    nodes.iter().any(|node| match node {
        Node::Text(span) => !is_blank(span.of(source)),
        Node::Output(output) => shows(output),
        Node::If(test) => {
            test.otherwise.as_ref().is_some_and(show) && test.branches.iter().all(|branch| show(&branch.body))
        }
        Node::Case(case) => {
            case.otherwise.as_ref().is_some_and(show) && case.whens.iter().all(|when| show(&when.body))
        }
        Node::For(_) | Node::Assign(_) | Node::Capture(_) | Node::Break | Node::Continue => false,
    })
}

/// Whether an output prints a value of the event as it is, which is refused where it is missing or blank. Of anything else
/// nothing may be left.
pub(super) fn is_plain_path(output: &Filtered) -> bool {
    matches!(&output.expr, Expr::Path(path) if path.root == "data") && output.filters.is_empty()
}
