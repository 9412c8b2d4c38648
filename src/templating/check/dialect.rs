//! Copy that OneSignal's engine can't parse or reads differently, and date patterns that print letters.

use super::{Finding, Severity};
use crate::domain::template::FieldSpec;
use crate::templating::compile::dataflow::{PROVIDER_NAMES, bodies};
use crate::templating::liquid::Template;
use crate::templating::liquid::ast::{Condition, Expr, Filtered, Literal, Node, Operator, Path, Span, Test};
use crate::templating::liquid::dates;
use crate::templating::liquid::dialect::{Issue, misread, unparsable};
use crate::templating::liquid::filters::Filter;
use crate::templating::liquid::position::line_and_column;

/// Reports what is wrong with a field; `is_kept` means that OneSignal gets it unchanged.
pub fn check(spec: &FieldSpec, template: &Template, is_kept: bool) -> Vec<Finding> {
    let source = template.source();
    let mut found = Found { field: spec.name, source, findings: Vec::new() };
    let mut issues = unparsable(source);
    if is_kept {
        issues.extend(misread(source));
    }
    for Issue { at, message, hint } in issues {
        found.add("provider_syntax", Severity::Error, Span { start: at, end: at }, message, hint);
    }
    if matches!(spec.name, "contents" | "body") && is_front_matter(source) {
        let message = "the copy begins with `+++`: front matter belongs in files only".to_owned();
        let hint = "save each field separately, without the `+++` lines";
        found.add("front_matter", Severity::Error, Span { start: 0, end: 0 }, message, hint);
    }
    each_expression(template.nodes(), &mut |expression| match expression {
        Expression::Value(filtered) => found.dates(filtered),
        Expression::Condition(condition) => condition.tests.iter().for_each(|test| found.comparison(test)),
    });
    found.findings
}

/// Whether a text begins like a copy file, with front matter between two `+++` lines.
pub fn is_front_matter(source: &str) -> bool {
    let text = source.trim_start_matches(['\u{feff}', '\n', '\r', ' ']);
    let mut fences = text.lines().enumerate().filter(|(_, line)| line.trim() == "+++");
    fences.next().is_some_and(|(number, _)| number == 0) && fences.next().is_some()
}

struct Found<'f> {
    field: &'f str,
    source: &'f str,
    findings: Vec<Finding>,
}

impl Found<'_> {
    fn add(&mut self, code: &'static str, severity: Severity, span: Span, message: String, hint: &str) {
        let finding = Finding::new(code, severity, message).hint(hint);
        self.findings.push(finding.in_field(self.field, line_and_column(self.source, span.start)));
    }

    /// Reports patterns of `date` that print the same for every date, and unknown directives.
    fn dates(&mut self, filtered: &Filtered) {
        for call in filtered.filters.iter().filter(|call| call.filter == Filter::Date) {
            let Some(Expr::Literal(Literal::Text(pattern))) = call.args.first() else { continue };
            let (known, unknown) = dates::directives(pattern);
            if known == 0 && !pattern.is_empty() {
                let message = format!("`{pattern}` has no directive, so it prints the same for every date");
                self.add(
                    "date_pattern",
                    Severity::Error,
                    call.span,
                    message,
                    "write a pattern such as `%d.%m.%Y`",
                );
            } else if dates::is_cut_off(pattern) {
                let message = format!("`{pattern}` ends in the middle of a directive");
                self.add(
                    "date_pattern",
                    Severity::Error,
                    call.span,
                    message,
                    "complete it, or write `%%` for a percent sign",
                );
            } else if let Some(unknown) = unknown {
                let message = format!("`{unknown}` is not a date directive and is printed unchanged");
                self.add(
                    "date_pattern",
                    Severity::Warning,
                    call.span,
                    message,
                    "see strftime for the directives",
                );
            }
        }
    }

    /// Reports comparisons of OneSignal's text values with a number: they fail, or are never true.
    fn comparison(&mut self, test: &Test) {
        let Some((operator, right)) = &test.right else { return };
        let (path, number) = match (&test.left, right) {
            (Expr::Path(path), Expr::Literal(Literal::Int(_) | Literal::Float(_))) => (path, right),
            (Expr::Literal(Literal::Int(_) | Literal::Float(_)), Expr::Path(path)) => (path, &test.left),
            _ => return,
        };
        if !is_text_of_provider(path) {
            return;
        }
        let written = path.span.of(self.source);
        let number = match number {
            Expr::Literal(Literal::Int(int)) => int.to_string(),
            Expr::Literal(Literal::Float(float)) => float.to_string(),
            Expr::Literal(_) | Expr::Path(_) => return,
        };
        let (what, hint) = match operator {
            Operator::Contains => return,
            Operator::Equal | Operator::Unequal => {
                ("is never equal to", format!("compare it with the string `\"{number}\"`"))
            }
            Operator::Less | Operator::AtMost | Operator::More | Operator::AtLeast => (
                "can't be compared with",
                format!("convert it first: `{{% assign number = {written} | plus: 0 %}}`"),
            ),
        };
        let message = format!("`{written}` is a string at OneSignal, which {what} the number {number}");
        self.add("text_comparison", Severity::Error, test.span, message, &hint);
    }
}

/// Whether a path leads to a value that OneSignal stores as text: tags, ids, addresses.
fn is_text_of_provider(path: &Path) -> bool {
    PROVIDER_NAMES.contains(&path.root.as_str()) && path.root != "message" && !path.steps.is_empty()
}

/// An expression of a template.
pub enum Expression<'n> {
    /// A value with its filters: an output or an assignment.
    Value(&'n Filtered),
    /// A condition.
    Condition(&'n Condition),
}

/// Visits every value and condition in `nodes`.
pub fn each_expression<'n>(nodes: &'n [Node], visit: &mut dyn FnMut(Expression<'n>)) {
    for node in nodes {
        match node {
            Node::Output(output) => visit(Expression::Value(output)),
            Node::Assign(node) => visit(Expression::Value(&node.value)),
            Node::If(node) => {
                node.branches.iter().for_each(|branch| visit(Expression::Condition(&branch.condition)));
            }
            Node::Text(_)
            | Node::Case(_)
            | Node::For(_)
            | Node::Capture(_)
            | Node::Break
            | Node::Continue => {}
        }
        for body in bodies(node) {
            each_expression(body, visit);
        }
    }
}
