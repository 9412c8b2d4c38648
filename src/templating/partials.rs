//! Partials and layouts: pieces of copy that a field includes, expanded before it is compiled.
//!
//! `{% include 'footer' %}` stands for the text of the partial `footer`; a layout is a partial in which `{{ content }}`
//! stands for an email's body. The result is one text, with a map back to where each part of it was written.

use std::collections::BTreeMap;

use crate::domain::budget::Budget;
use crate::domain::template::Fields;

/// How deep partials may include each other.
const MAX_DEEP: usize = 5;
/// How long a field may become, in bytes: as long as the language takes.
const MAX_BYTES: usize = 64 * 1024;
/// Where a layout takes the body.
const CONTENT: &str = "content";

/// A field with its partials expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expanded {
    /// The text.
    pub text: String,
    parts: Vec<Part>,
}

/// A stretch of the text that was written in one place.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Part {
    /// Where it begins in the text.
    at: usize,
    /// The partial; `None` for the field itself.
    partial: Option<String>,
    /// Where it begins there: line and column, from 1.
    line: usize,
    column: usize,
}

/// Why partials can't be expanded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IncludeProblem {
    /// A stable code.
    pub code: &'static str,
    /// The partial that contains it; `None` for the field itself.
    pub partial: Option<String>,
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: String,
}

impl Expanded {
    /// Where the character at `line` and `column` of the text was written: in which partial, if in one, at which line
    /// and column there.
    pub fn origin(&self, line: usize, column: usize) -> (Option<&str>, usize, usize) {
        let offset = offset_of(&self.text, line, column);
        let Some(part) = self.parts.iter().rev().find(|part| part.at <= offset) else {
            return (None, line, column);
        };
        let (down, right) = place_of(&self.text[part.at..], offset - part.at);
        let column = if down == 1 { part.column + right - 1 } else { right };
        (part.partial.as_deref(), part.line + down - 1, column)
    }
}

/// Puts the partials into one locale's fields, and an email's body into its layout.
///
/// # Errors
/// The first [`IncludeProblem`] of each field, with the field's name; the author has to fix it.
pub fn expand(
    fields: &Fields,
    layout: Option<&str>,
    partials: &BTreeMap<String, String>,
    budget: &Budget,
) -> Result<BTreeMap<String, Expanded>, Vec<(String, IncludeProblem)>> {
    let (mut expanded, mut problems) = (BTreeMap::new(), Vec::new());
    for (name, text) in fields {
        let layout = layout.filter(|_| name == "body");
        match expand_field(text, layout, partials, budget) {
            Ok(done) => drop(expanded.insert(name.clone(), done)),
            Err(problem) => problems.push((name.clone(), problem)),
        }
    }
    if problems.is_empty() { Ok(expanded) } else { Err(problems) }
}

/// The expanded texts of [`expand`]; a field whose partials can't be expanded stays unchanged.
pub fn expanded_fields(
    fields: &Fields,
    layout: Option<&str>,
    partials: &BTreeMap<String, String>,
    budget: &Budget,
) -> Fields {
    let expand = |(name, text): (&String, &String)| {
        let layout = layout.filter(|_| name == "body");
        let done = expand_field(text, layout, partials, budget);
        let done = done.map_or_else(|_| text.clone(), |done| done.text);
        (name.clone(), done)
    };
    fields.iter().map(expand).collect()
}

/// The partials that a text includes itself, by key.
pub fn included(text: &str) -> Vec<String> {
    let mut keys: Vec<String> = tags(text)
        .filter_map(|tag| match tag.what {
            What::Include(key) => Some(key.to_owned()),
            What::Content => None,
        })
        .collect();
    keys.sort_unstable();
    keys.dedup();
    keys
}

/// Everything that fields and a layout need of `partials`, with what those include in turn.
pub fn needed<'a>(
    fields: impl Iterator<Item = &'a Fields>,
    layout: Option<&str>,
    partials: &BTreeMap<String, String>,
) -> BTreeMap<String, String> {
    let mut wanted: Vec<String> = layout.map(str::to_owned).into_iter().collect();
    wanted.extend(fields.flat_map(|fields| fields.values()).flat_map(|text| included(text)));
    let mut found = BTreeMap::new();
    while let Some(key) = wanted.pop() {
        let Some(body) = partials.get(&key).filter(|_| !found.contains_key(&key)) else { continue };
        wanted.extend(included(body));
        found.insert(key, body.clone());
    }
    found
}

fn expand_field(
    text: &str,
    layout: Option<&str>,
    partials: &BTreeMap<String, String>,
    budget: &Budget,
) -> Result<Expanded, IncludeProblem> {
    let mut writer =
        Writer { partials, budget, body: None, out: Expanded { text: String::new(), parts: Vec::new() } };
    match layout {
        None => writer.write(text, &mut Vec::new())?,
        Some(key) => {
            let Some(frame) = partials.get(key) else {
                let message = format!("there is no partial `{key}`, which the template names as its layout");
                let hint = known(partials, key);
                return Err(IncludeProblem {
                    code: "unknown_partial",
                    partial: None,
                    line: 1,
                    column: 1,
                    message,
                    hint,
                });
            };
            if !tags(frame).any(|tag| matches!(tag.what, What::Content)) {
                return Err(IncludeProblem {
                    code: "layout_without_content",
                    partial: Some(key.to_owned()),
                    line: 1,
                    column: 1,
                    message: format!("the layout `{key}` has no `{{{{ content }}}}` for the body"),
                    hint: "add `{{ content }}` where the body belongs".to_owned(),
                });
            }
            writer.body = Some(text);
            writer.write(frame, &mut vec![key.to_owned()])?;
        }
    }
    Ok(writer.out)
}

struct Writer<'a> {
    partials: &'a BTreeMap<String, String>,
    budget: &'a Budget,
    body: Option<&'a str>,
    out: Expanded,
}

impl Writer<'_> {
    fn write(&mut self, text: &str, within: &mut Vec<String>) -> Result<(), IncludeProblem> {
        let mut done = 0;
        self.pay(text, within)?;
        for tag in tags(text) {
            // Where it begins is counted from the start of the text.
            self.pay(&text[..tag.start], within)?;
            self.copy(text, done, tag.start, within.last());
            done = tag.end;
            match tag.what {
                What::Include(key) => self.include(text, tag.start, key, within)?,
                What::Content => match self.body.take() {
                    Some(body) => {
                        self.write(body, &mut Vec::new())?;
                        self.body = Some(body);
                    }
                    // Not a layout: an ordinary output of a variable that the compiler will report about.
                    None => self.copy(text, tag.start, tag.end, within.last()),
                },
            }
        }
        self.copy(text, done, text.len(), within.last());
        Ok(())
    }

    fn pay(&self, text: &str, within: &[String]) -> Result<(), IncludeProblem> {
        self.budget.work(text.len()).map_err(|spent| IncludeProblem {
            code: "too_complex",
            partial: within.last().cloned(),
            line: 1,
            column: 1,
            message: format!("the partials are too complex: {spent}"),
            hint: "include fewer of them".to_owned(),
        })
    }

    fn include(
        &mut self,
        text: &str,
        at: usize,
        key: &str,
        within: &mut Vec<String>,
    ) -> Result<(), IncludeProblem> {
        let (line, column) = place_of(text, at);
        let problem = |code, message: String, hint: String| IncludeProblem {
            code,
            partial: within.last().cloned(),
            line,
            column,
            message,
            hint,
        };
        if within.iter().any(|outer| outer == key) {
            let message = format!("the partial `{key}` includes itself");
            return Err(problem("partial_in_itself", message, "remove one of the includes".to_owned()));
        }
        if within.len() >= MAX_DEEP {
            let message = format!("partials include each other more than {MAX_DEEP} deep");
            return Err(problem("partials_too_deep", message, "merge some of the partials".to_owned()));
        }
        let Some(body) = self.partials.get(key) else {
            let message = format!("there is no partial `{key}`");
            return Err(problem("unknown_partial", message, known(self.partials, key)));
        };
        if self.out.text.len() + body.len() > MAX_BYTES {
            let message = "with its partials the field exceeds 64 KiB".to_owned();
            return Err(problem("too_long", message, "shorten the partials".to_owned()));
        }
        within.push(key.to_owned());
        // A partial's last line break belongs to its file, not to its text.
        self.write(body.trim_end_matches('\n'), within)?;
        within.pop();
        Ok(())
    }

    fn copy(&mut self, text: &str, start: usize, end: usize, partial: Option<&String>) {
        if start < end {
            let (line, column) = place_of(text, start);
            let at = self.out.text.len();
            self.out.parts.push(Part { at, partial: partial.cloned(), line, column });
            self.out.text.push_str(&text[start..end]);
        }
    }
}

fn known(partials: &BTreeMap<String, String>, key: &str) -> String {
    let near = partials.keys().min_by_key(|known| strsim::damerau_levenshtein(known, key));
    match near {
        Some(near) if strsim::damerau_levenshtein(near, key) <= 3 => format!("did you mean `{near}`?"),
        Some(_) => {
            format!("known partials: {}", partials.keys().map(String::as_str).collect::<Vec<_>>().join(", "))
        }
        None => "there are no partials yet; create it first".to_owned(),
    }
}

enum What<'t> {
    Include(&'t str),
    Content,
}

struct Tag<'t> {
    start: usize,
    end: usize,
    what: What<'t>,
}

/// The includes and the content outputs of a text, in order; everything between `raw` and `endraw` is text.
fn tags(text: &str) -> impl Iterator<Item = Tag<'_>> {
    let mut rest = 0;
    std::iter::from_fn(move || {
        loop {
            let marks = text.as_bytes().get(rest..)?.windows(2);
            let open = rest + marks.enumerate().find(|(_, pair)| matches!(*pair, [b'{', b'%' | b'{']))?.0;
            let closer = if text[open..].starts_with("{%") { "%}" } else { "}}" };
            let end = open + text[open..].find(closer)? + closer.len();
            let inside = text[open + 2..end - 2].trim_matches('-').trim();
            rest = end;
            if closer == "}}" {
                if inside == CONTENT {
                    return Some(Tag { start: open, end, what: What::Content });
                }
                continue;
            }
            if inside == "raw" {
                rest = raw_end(text, end);
                continue;
            }
            let key =
                inside.strip_prefix("include").filter(|key| key.starts_with([' ', '\'', '"', '\t', '\n']));
            if let Some(key) = key {
                let key = key.trim().trim_matches(['\'', '"']);
                return Some(Tag { start: open, end, what: What::Include(key) });
            }
        }
    })
}

/// Where the tag begins that ends a raw text, or the end of all.
fn raw_end(text: &str, from: usize) -> usize {
    let ends = |at: &usize| {
        let tag = text[*at + 2..].trim_start_matches('-').trim_start_matches(' ');
        tag.starts_with("endraw")
    };
    let marks = text.as_bytes()[from..].windows(2).enumerate();
    let starts = marks.filter(|(_, pair)| *pair == b"{%").map(|(at, _)| from + at);
    starts.into_iter().find(ends).unwrap_or(text.len())
}

/// Line and column of a byte, from 1; columns in characters.
fn place_of(text: &str, offset: usize) -> (usize, usize) {
    let before = &text[..offset.min(text.len())];
    let line = before.matches('\n').count() + 1;
    (line, before.rsplit('\n').next().unwrap_or_default().chars().count() + 1)
}

fn offset_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line - 1).map(str::len).sum();
    let rest = &text[start..];
    start + rest.char_indices().nth(column - 1).map_or(rest.len(), |(at, _)| at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn partials(entries: &[(&str, &str)]) -> BTreeMap<String, String> {
        entries.iter().map(|(key, body)| ((*key).to_owned(), (*body).to_owned())).collect()
    }

    #[test]
    fn a_partial_is_put_where_it_is_included_and_found_again() {
        let partials = partials(&[("footer", "Yours,\n{{ data.shop }}\n")]);
        let done = expand_field("Hi.\n{% include 'footer' %}!", None, &partials, &Budget::default()).unwrap();
        assert_eq!(done.text, "Hi.\nYours,\n{{ data.shop }}!");
        assert_eq!(done.origin(3, 4), (Some("footer"), 2, 4));
        assert_eq!(done.origin(1, 2), (None, 1, 2));
        assert_eq!(done.origin(3, 16), (None, 2, 23));
    }

    #[test]
    fn a_layout_takes_the_body_with_its_own_partials() {
        let partials =
            partials(&[("shop", "<html>{{ content }}{% include \"end\" %}</html>"), ("end", "bye")]);
        let fields = Fields::from([("body".to_owned(), "Hi {{ data.x }}".to_owned())]);
        let done = expand(&fields, Some("shop"), &partials, &Budget::default()).unwrap();
        assert_eq!(done["body"].text, "<html>Hi {{ data.x }}bye</html>");
        assert_eq!(done["body"].origin(1, 10), (None, 1, 4));
        assert_eq!(needed([&fields].into_iter(), Some("shop"), &partials).len(), 2);
    }

    #[test]
    fn what_is_wrong_with_an_include_is_said_with_its_place() {
        let partials =
            partials(&[("a", "{% include 'b' %}"), ("b", "x{% include 'a' %}"), ("frame", "<html>")]);
        let code =
            |text: &str, layout| expand_field(text, layout, &partials, &Budget::default()).unwrap_err();
        let problem = code("\n {% include 'foo' %}", None);
        assert_eq!((problem.code, problem.line, problem.column), ("unknown_partial", 2, 2));
        assert_eq!(code("{% include 'a' %}", None).code, "partial_in_itself");
        assert_eq!(code("Hi", Some("frame")).code, "layout_without_content");
        assert_eq!(code("Hi", Some("farme")).hint, "did you mean `frame`?");
    }

    #[test]
    fn raw_text_and_broken_tags_are_left_to_the_compiler() {
        for text in ["{% raw %}{% include 'x' %}{% endraw %}", "{% include 'x'", "{{ data.content }}", "{{"] {
            assert_eq!(expand_field(text, None, &BTreeMap::new(), &Budget::default()).unwrap().text, text);
        }
    }

    #[test]
    fn partials_that_double_each_other_stop_at_the_limit() {
        let body = "{% include 'b' %}".repeat(10);
        let partials = partials(&[("a", &body), ("b", &"x".repeat(20_000))]);
        assert_eq!(
            expand_field("{% include 'a' %}", None, &partials, &Budget::default()).unwrap_err().code,
            "too_long"
        );
    }
}
