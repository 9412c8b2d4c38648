//! Finds the MJML in a body, and what may be beside it.

use super::hidden::Hidden;

/// Where an element of MJML begins in a text.
pub fn element_in(text: &str) -> Option<usize> {
    [find_tag(text, "mjml"), find_tag(text, "mj-")].into_iter().flatten().min()
}

/// Where a tag begins whose name is or, with a `-` at its end, begins with `name`; in any case, outside of comments.
pub fn find_tag(text: &str, name: &str) -> Option<usize> {
    let mut at = 0;
    while let Some(found) = text[at..].find('<').map(|found| at + found) {
        let rest = &text[found..];
        if rest.starts_with("<!--") {
            at = found + rest.find("-->").map_or(rest.len(), |end| end + 3);
            continue;
        }
        let begins = rest[1..].get(..name.len()).is_some_and(|begin| begin.eq_ignore_ascii_case(name));
        let ends = name.ends_with('-')
            || !rest[1..]
                .get(name.len()..)
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '-'));
        if begins && ends {
            return Some(found);
        }
        at = found + 1;
    }
    None
}

/// The stretch of a text that is MJML, with the names of its tags in lower case.
pub struct Document {
    /// Its first byte.
    pub start: usize,
    /// The text.
    pub text: String,
    /// One past its last byte.
    pub end: usize,
}

impl Document {
    /// Finds it in a text whose Liquid is hidden.
    ///
    /// # Errors
    /// The position of something that is not allowed beside it, and what it is.
    pub fn find(hidden: &Hidden) -> Result<Self, (usize, &'static str)> {
        let text = &hidden.text;
        let start = find_tag(text, "mjml").unwrap_or(0);
        let lower = text[start..].to_ascii_lowercase();
        let end = lower.rfind("</mjml").and_then(|at| Some(start + at + text[start + at..].find('>')? + 1));
        let end = end.unwrap_or(text.len());
        if let Some(at) = find_tag(&text[start + 1..end], "mjml") {
            return Err((start + 1 + at, "there is a second `<mjml>`"));
        }
        for (from, to) in [(0, start), (end, text.len())] {
            if let Some(at) = hidden.first_text(from, to) {
                return Err((at, "text and tags must be inside `<mjml>`"));
            }
        }
        Ok(Self { start, text: lower_tags(&text[start..end]), end })
    }
}

/// The text with the names of MJML's tags in lower case, which is what the converter knows; of the same length.
fn lower_tags(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('<') {
        let name = at + 1 + usize::from(rest[at + 1..].starts_with('/'));
        out.push_str(&rest[..name]);
        rest = &rest[name..];
        if rest.get(..2).is_some_and(|begin| begin.eq_ignore_ascii_case("mj")) {
            let length = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-')).unwrap_or(rest.len());
            out.push_str(&rest[..length].to_ascii_lowercase());
            rest = &rest[length..];
        }
    }
    out + rest
}
