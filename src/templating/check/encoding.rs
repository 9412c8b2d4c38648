//! Manual encoding, although Herald encodes each value for its context; and markup that would be shown as text.

use super::dialect::{Expression, each_expression};
use super::{Finding, Severity};
use crate::domain::template::{FieldKind, FieldSpec};
use crate::templating::compile::dataflow::bodies;
use crate::templating::liquid::Template;
use crate::templating::liquid::ast::{Call, Expr, Filtered, Literal, Node, Span};
use crate::templating::liquid::filters::Filter;
use crate::templating::liquid::position::line_and_column;
use crate::templating::mjml;

/// Reports what is encoded twice, or without effect, in a field.
pub fn check(spec: &FieldSpec, template: &Template) -> Vec<Finding> {
    let mut found = Vec::new();
    let source = template.source();
    let mut report = |code, severity, span: Span, message: String, hint: &str| {
        let finding = Finding::new(code, severity, message).hint(hint);
        found.push(finding.in_field(spec.name, line_and_column(source, span.start)));
    };
    each_expression(template.nodes(), &mut |expression| {
        let Expression::Value(filtered) = expression else { return };
        for call in &filtered.filters {
            if let Some((code, severity, message, hint)) = by_hand(spec.kind, call) {
                report(code, severity, call.span, message.to_owned(), hint);
            }
        }
        if let Some(text) = markup_in_quotes(filtered).filter(|_| spec.kind == FieldKind::Html) {
            let message = format!("`{text}` is a string literal, so the reader sees it as it is written");
            let hint = "write markup outside of `{{ }}` or in a `capture`, and special characters unencoded";
            report("markup_in_quotes", Severity::Warning, filtered.span, message, hint);
        }
    });
    if let (FieldKind::Html, false) = (spec.kind, mjml::is_mjml(template)) {
        left_mjml(source, template.nodes(), &mut |at| {
            let message = "this MJML element would be sent unchanged: it is not inside `<mjml>`".to_owned();
            report(
                "mjml_left",
                Severity::Error,
                Span { start: at, end: at },
                message,
                "wrap the whole body in `<mjml>`",
            );
        });
    }
    found
}

/// Reports a filter that encodes, in a field of this kind.
fn by_hand(kind: FieldKind, call: &Call) -> Option<(&'static str, Severity, &'static str, &'static str)> {
    match (call.filter, kind) {
        (Filter::Escape, _) => Some((
            "encoded_by_hand",
            Severity::Warning,
            "Herald encodes each value for its context, so `escape` has no effect",
            "remove it",
        )),
        (Filter::UrlEncode, FieldKind::Link) => Some((
            "encoded_by_hand",
            Severity::Warning,
            "Herald encodes values in links, so `url_encode` is not needed; it also writes a space as `+`",
            "remove it",
        )),
        (Filter::NewlineToBr, FieldKind::Text | FieldKind::Line | FieldKind::Link) => Some((
            "markup_in_text",
            Severity::Error,
            "the reader would see `<br />`: this field is not HTML",
            "remove `newline_to_br`",
        )),
        _ => None,
    }
}

/// A string literal that looks like markup and is printed.
fn markup_in_quotes(filtered: &Filtered) -> Option<&str> {
    let printed = |call: &Call, index: usize| match call.filter {
        Filter::Append | Filter::Prepend | Filter::Default | Filter::Join | Filter::Pluralize => true,
        Filter::Replace | Filter::ReplaceFirst | Filter::Truncate | Filter::Truncatewords => index == 1,
        _ => false,
    };
    let args = filtered.filters.iter().flat_map(|call| {
        call.args.iter().enumerate().filter(move |(index, _)| printed(call, *index)).map(|(_, arg)| arg)
    });
    let mut texts = args.chain([&filtered.expr]).filter_map(|expr| match expr {
        Expr::Literal(Literal::Text(text)) => Some(text.as_str()),
        Expr::Literal(_) | Expr::Path(_) => None,
    });
    texts.find(|text| has_tag(text) || has_entity(text))
}

fn has_tag(text: &str) -> bool {
    let begins = |rest: &str| rest.starts_with(|c: char| c.is_ascii_alphabetic() || c == '/');
    text.match_indices('<').any(|(at, _)| begins(&text[at + 1..]) && text[at..].contains('>'))
}

fn has_entity(text: &str) -> bool {
    text.match_indices('&').any(|(at, _)| {
        let name = text[at + 1..].split_once(';').map(|(name, _)| name.trim_start_matches('#'));
        name.is_some_and(|name| {
            !name.is_empty() && name.len() < 12 && name.bytes().all(|b| b.is_ascii_alphanumeric())
        })
    })
}

/// Reports the first MJML element in each stretch of text.
fn left_mjml(source: &str, nodes: &[Node], report: &mut dyn FnMut(usize)) {
    for node in nodes {
        if let Node::Text(span) = node
            && let Some(at) = mjml::element_in(span.of(source))
        {
            report(span.start + at);
        }
        for body in bodies(node) {
            left_mjml(source, body, report);
        }
    }
}
