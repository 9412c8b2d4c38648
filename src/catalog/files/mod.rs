//! The catalog as files: `events/<type>/{schema.json,event.toml,samples/<name>.json}`, `partials/<key>.liquid`,
//! `templates/<key>/{template.toml,<channel>.<locale>.liquid}`, `rules/<key>.toml` and `sources/<name>.toml`.
//!
//! A copy file is its channel's main field; the other fields stand above it as TOML between `+++` lines. What `write`
//! makes of a catalog, `read` makes the same catalog of.

mod read;
mod write;

use std::collections::BTreeMap;

use super::check::CatalogProblem;
use crate::domain::budget::Budget;

pub(super) use read::read;
pub(super) use write::template_files;
pub use write::write;

/// A catalog's files: their paths below its folder, with `/`, and their texts.
pub type Files = BTreeMap<String, String>;

/// Everything that is wrong with these files by themselves; what they refer to outside is not looked at.
pub fn check(files: &Files, budget: &Budget) -> Vec<CatalogProblem> {
    let (document, mut problems) = read(files, budget);
    problems.extend(super::checks::check_document(&document, None, budget));
    problems
}

/// A copy file's front matter and its body.
fn split_front(text: &str) -> (&str, &str) {
    text.strip_prefix("+++\n").and_then(|rest| rest.split_once("\n+++\n")).unwrap_or(("", text))
}

/// Whether a file begins as if fields stood above its body, and never ends them.
fn is_unclosed(text: &str) -> bool {
    let first = text.lines().next().unwrap_or_default().trim_end();
    first == "+++" && split_front(text).1.len() == text.len()
}

/// How many lines of a copy file stand above its body.
fn lines_above_body(text: &str) -> usize {
    let (_, body) = split_front(text);
    text[..text.len() - body.len()].matches('\n').count()
}
