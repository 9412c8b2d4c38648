//! A side-by-side diff.

use maud::{Markup, html};

use super::fields::label;
use crate::catalog::diff::{FieldDiff, LineDiff};

/// Both texts of each field that differs.
pub(super) fn diff_view(changes: &[FieldDiff]) -> Markup {
    html! {
        @for change in changes {
            @let (before, after) = (lines(change, "gone"), lines(change, "new"));
            // Replaced lines are compared with each other.
            @let pairs = before.len() == after.len();
            div.diff {
                p.soft { (change.locale.as_deref().unwrap_or("setting")) " · " (label(&change.field)) }
                div.sides {
                    (side(change, "gone", &after, pairs))
                    (side(change, "new", &before, pairs))
                }
            }
        }
    }
}

fn lines<'a>(change: &'a FieldDiff, op: &str) -> Vec<&'a LineDiff> {
    change.lines.iter().filter(|line| line.op == op).collect()
}

/// The lines of one side: unchanged ones, and its own ones compared with their counterparts.
fn side(change: &FieldDiff, own: &str, others: &[&LineDiff], pairs: bool) -> Markup {
    let mut counterparts = others.iter();
    html! {
        pre {
            @for line in change.lines.iter().filter(|line| line.op == "same" || line.op == own) {
                @if line.op == "same" { span.same { (line.text) "\n" } } @else {
                    @match counterparts.next().filter(|_| pairs) {
                        Some(other) => {
                            @let (start, differs, end) = differing(&line.text, &other.text);
                            span.(own) { (start) @if !differs.is_empty() { mark { (differs) } } (end) "\n" }
                        },
                        None => span.(own) { (line.text) "\n" },
                    }
                }
            }
        }
    }
}

/// A text in three parts: common prefix, difference, common suffix.
fn differing<'a>(text: &'a str, other: &str) -> (&'a str, &'a str, &'a str) {
    let same = |(mine, theirs): &(char, char)| mine == theirs;
    let start: usize = text.chars().zip(other.chars()).take_while(same).map(|(c, _)| c.len_utf8()).sum();
    let (head, rest) = text.split_at(start);
    let other_rest = other.get(start..).unwrap_or_default();
    let end: usize =
        rest.chars().rev().zip(other_rest.chars().rev()).take_while(same).map(|(c, _)| c.len_utf8()).sum();
    let (differs, tail) = rest.split_at(rest.len() - end);
    (head, differs, tail)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_what_stands_between_the_same_beginning_and_the_same_end() {
        assert_eq!(differing("Hi Anna, bye", "Hi Ben, bye"), ("Hi ", "Anna", ", bye"));
        assert_eq!(differing("order.", "order. Thanks!"), ("order.", "", ""));
        assert_eq!(differing("order. Thanks!", "order."), ("order.", " Thanks!", ""));
        assert_eq!(differing("größer", "größter"), ("größ", "", "er"));
        assert_eq!(differing("aaa", "aa"), ("aa", "a", ""));
    }
}
