//! A line diff of two contents of a template.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::Serialize;
use similar::{ChangeTag, TextDiff};

use crate::domain::template::Content;

/// The differences in one field or setting.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct FieldDiff {
    /// The locale; `null` for a setting.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The field or setting.
    pub field: String,
    /// The lines of both, in order.
    pub lines: Vec<LineDiff>,
}

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct LineDiff {
    /// `same`, `gone` or `new`.
    pub op: &'static str,
    /// The text.
    pub text: String,
}

/// The differences from `before` to `after`, without identical fields.
pub fn diff(before: &Content, after: &Content) -> Vec<FieldDiff> {
    let mut found = Vec::new();
    let settings = |content: &Content| -> Vec<(&'static str, String)> {
        let text =
            |value: serde_json::Value| value.as_str().map_or_else(|| format!("{value:#}"), str::to_owned);
        vec![
            ("mode", text(serde_json::json!(content.mode))),
            ("default_locale", content.default_locale.clone()),
            ("layout", content.layout.clone().unwrap_or_default()),
            ("options", text(serde_json::json!(content.options))),
        ]
    };
    for ((name, before), (_, after)) in settings(before).into_iter().zip(settings(after)) {
        note(&mut found, None, name, &before, &after);
    }
    let locales: BTreeSet<&String> = before.contents.keys().chain(after.contents.keys()).collect();
    for locale in locales {
        let (old, new) = (before.contents.get(locale), after.contents.get(locale));
        let names: BTreeSet<&String> =
            [old, new].into_iter().flatten().flat_map(|fields| fields.keys()).collect();
        for name in names {
            let text = |fields: Option<&crate::domain::template::Fields>| {
                fields.and_then(|fields| fields.get(name)).cloned().unwrap_or_default()
            };
            note(&mut found, Some(locale), name, &text(old), &text(new));
        }
    }
    found
}

fn note(found: &mut Vec<FieldDiff>, locale: Option<&str>, field: &str, before: &str, after: &str) {
    if before == after {
        return;
    }
    found.push(FieldDiff {
        locale: locale.map(str::to_owned),
        field: field.to_owned(),
        lines: lines(before, after),
    });
}

/// Time limit for the search for the shortest diff; after that the current one is used.
const DIFF_TIME: Duration = Duration::from_millis(200);

/// The lines of two texts, each marked as same, gone or new.
pub fn lines(before: &str, after: &str) -> Vec<LineDiff> {
    let diff = TextDiff::configure().timeout(DIFF_TIME).diff_lines(before, after);
    let line = |change: similar::Change<&str>| LineDiff {
        op: match change.tag() {
            ChangeTag::Equal => "same",
            ChangeTag::Delete => "gone",
            ChangeTag::Insert => "new",
        },
        text: change.value().trim_end_matches('\n').to_owned(),
    };
    diff.iter_all_changes().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::Fields;

    #[test]
    fn only_what_is_different_is_shown_line_by_line() {
        let with = |text: &str| {
            let mut content = Content::default();
            content.contents.insert("en".into(), Fields::from([("body".into(), text.into())]));
            content
        };
        let found = diff(&with("one\ntwo"), &with("one\nthree"));
        assert_eq!(found.len(), 1);
        let ops: Vec<(&str, &str)> = found[0].lines.iter().map(|l| (l.op, l.text.as_str())).collect();
        assert_eq!(ops, [("same", "one"), ("gone", "two"), ("new", "three")]);
        assert!(diff(&with("x"), &with("x")).is_empty());
    }
}
