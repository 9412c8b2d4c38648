//! The catalog as files: `events/<type>/{schema.json,event.toml,samples/<name>.json}`, `partials/<key>.liquid`,
//! `templates/<key>/{template.toml,<channel>.<locale>.liquid}`, `rules/<key>.toml` and `sources/<name>.toml`.
//!
//! A content file contains its channel's main field; the other fields are above it as TOML between `+++` lines. Reading
//! the output of `write` gives the same catalog.

mod read;
mod write;

use std::collections::BTreeMap;

use super::check::CatalogProblem;
use crate::domain::budget::Budget;

pub(super) use read::read;
pub(super) use write::template_files;
pub use write::write;

/// A catalog's files: relative paths with `/`, and contents.
pub type Files = BTreeMap<String, String>;

/// All problems in these files, without external references.
pub fn check(files: &Files, budget: &Budget) -> Vec<CatalogProblem> {
    let (document, mut problems) = read(files, budget);
    problems.extend(super::checks::check_document(&document, None, budget));
    problems
}

/// Whether a file belongs to an editor, the operating system or version control, and not to the catalog.
pub fn is_leftover(path: &str) -> bool {
    let is_one = |name: &str| {
        let lower = name.to_ascii_lowercase();
        name.starts_with('.')
            || name.ends_with('~')
            || name.starts_with("~$")
            || (name.starts_with('#') && name.ends_with('#'))
            || matches!(lower.as_str(), "thumbs.db" | "ehthumbs.db" | "desktop.ini" | "icon\r" | "__macosx")
            || [".bak", ".orig", ".rej", ".swp", ".swo", ".tmp", ".ds_store"]
                .iter()
                .any(|end| lower.ends_with(end))
    };
    path.split('/').any(is_one)
}

/// The parts of a content file.
struct CopyFile<'t> {
    /// The fields above the body, as TOML.
    front: &'t str,
    /// The main field.
    body: &'t str,
    /// The number of lines above the body.
    lines_above: usize,
    /// The line of an unclosed `+++`, from 1.
    unclosed: Option<usize>,
}

/// Splits a content file into fields and body. The fields are between two `+++` lines; empty lines may precede the
/// first.
fn split_front(text: &str) -> CopyFile<'_> {
    let whole = CopyFile { front: "", body: text, lines_above: 0, unclosed: None };
    let is_fence = |line: &str| line.trim() == "+++";
    let (mut at, mut opened) = (0, None);
    for (number, line) in text.split_inclusive('\n').enumerate() {
        let start = at;
        at += line.len();
        match opened {
            None if line.trim().is_empty() => {}
            None if is_fence(line) => opened = Some((number + 1, at)),
            None => return whole,
            Some((_, from)) if is_fence(line) => {
                let (front, body) = (&text[from..start], &text[at..]);
                return CopyFile { front, body, lines_above: number + 1, unclosed: None };
            }
            Some(_) => {}
        }
    }
    CopyFile { unclosed: opened.map(|(line, _)| line), ..whole }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::plain_lines;

    #[test]
    fn fields_above_a_body_are_found_however_their_file_was_written() {
        for text in [
            "+++\nheadings = \"On its way\"\n+++\nOrder {{ data.id }}",
            "\u{feff}+++\nheadings = \"On its way\"\n+++\nOrder {{ data.id }}",
            "\n \n+++\nheadings = \"On its way\"\n+++\nOrder {{ data.id }}",
            "\u{feff}\r\n+++\r\nheadings = \"On its way\"\r\n+++\r\nOrder {{ data.id }}",
            "+++ \nheadings = \"On its way\"\n+++\t \nOrder {{ data.id }}",
        ] {
            let text = plain_lines(text);
            let file = split_front(&text);
            let found = (file.front.trim_end(), file.body, file.unclosed);
            assert_eq!(found, ("headings = \"On its way\"", "Order {{ data.id }}", None), "{text:?}");
            let above = text[..text.len() - file.body.len()].matches('\n').count();
            assert_eq!(file.lines_above, above, "{text:?}");
        }
        let file = split_front("+++\n+++");
        assert_eq!((file.front, file.body, file.lines_above), ("", "", 2));
        assert_eq!(split_front("Order\n+++\n").body, "Order\n+++\n");
        assert_eq!(split_front("\n+++\nheadings = 1\nOrder").unclosed, Some(2));
    }

    #[test]
    fn files_of_editors_and_systems_are_no_part_of_a_catalog() {
        for path in [
            "templates/x/push.en.liquid~",
            "templates/Thumbs.db",
            ".DS_Store",
            "rules/.x.toml.swp",
            "partials/#footer.liquid#",
            "rules/x.toml.orig",
            "desktop.ini",
            "__MACOSX/rules/x.toml",
            "templates/x/.git/config",
            "rules/x.toml.bak",
        ] {
            assert!(is_leftover(path), "{path}");
        }
        for path in
            ["templates/x/push.en.liquid", "rules/x.toml", "events/a.b/samples/one.json", "readme.txt"]
        {
            assert!(!is_leftover(path), "{path}");
        }
    }
}
