//! Reads Rust just well enough: code apart from comments and literals, and the paths that code names.

use std::iter::Peekable;
use std::str::CharIndices;

/// A file's code with comments and literals blanked out, line for line, and its literals with their lines.
pub struct Reading {
    /// The code alone.
    pub code: String,
    /// Each text literal, with the line it begins on.
    pub literals: Vec<(usize, String)>,
}

type Chars<'a> = Peekable<CharIndices<'a>>;

/// Takes a file apart.
pub fn read(text: &str) -> Reading {
    let mut reading = Reading { code: String::new(), literals: Vec::new() };
    let mut at = 0;
    while let Some(first) = text[at..].chars().next() {
        let rest = &text[at..];
        let (length, literal) = if rest.starts_with("//") {
            (rest.find('\n').unwrap_or(rest.len()), None)
        } else if rest.starts_with("/*") {
            (block_comment(rest), None)
        } else if let Some((length, inside)) = text_literal(rest).filter(|_| !ends_in_word(&reading.code)) {
            (length, Some(inside))
        } else if let Some(length) = char_literal(rest) {
            (length, None)
        } else {
            reading.code.push(first);
            at += first.len_utf8();
            continue;
        };
        if let Some(inside) = literal {
            reading.literals.push((line_at(text, at), inside.to_owned()));
        }
        reading.code.extend(rest[..length].chars().map(|c| if c == '\n' { c } else { ' ' }));
        at += length;
    }
    reading
}

/// The line, from 1, that a place in a text lies on.
pub fn line_at(text: &str, at: usize) -> usize {
    text[..at].matches('\n').count() + 1
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn ends_in_word(code: &str) -> bool {
    code.chars().next_back().is_some_and(is_word)
}

/// The length of a comment in stars, which may hold others.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let rest = &text[at..];
        if rest.starts_with("/*") {
            depth += 1;
            at += 2;
        } else if rest.starts_with("*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                return at;
            }
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
        }
    }
    at
}

/// The length of the text literal that `text` begins with, plain, raw or of bytes, and what is inside.
fn text_literal(text: &str) -> Option<(usize, &str)> {
    let unprefixed = text.strip_prefix('b').or_else(|| text.strip_prefix('c')).unwrap_or(text);
    let raw = unprefixed.strip_prefix('r').map(|rest| (rest, rest.chars().take_while(|c| *c == '#').count()));
    if let Some((rest, hashes)) = raw {
        let inside = rest[hashes..].strip_prefix('"')?;
        let end = inside.find(&format!("\"{}", "#".repeat(hashes)))?;
        let begin = text.len() - inside.len();
        return Some((begin + end + 1 + hashes, &inside[..end]));
    }
    let inside = unprefixed.strip_prefix('"')?;
    let mut escaped = false;
    for (at, c) in inside.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            '"' => return Some((text.len() - inside.len() + at + 1, &inside[..at])),
            _ => {}
        }
    }
    None
}

/// The length of the character literal that `text` begins with; a lifetime is none.
fn char_literal(text: &str) -> Option<usize> {
    let inside = text.strip_prefix('\'')?;
    let first = inside.chars().next()?;
    if first == '\\' {
        let end = inside[2..].find('\'')?;
        return Some(1 + 2 + end + 1);
    }
    inside[first.len_utf8()..].starts_with('\'').then(|| first.len_utf8() + 2)
}

/// The paths that follow each `root::` in code, with their lines; groups are opened.
pub fn paths(code: &str, root: &str) -> Vec<(usize, String)> {
    let start = format!("{root}::");
    let mut found = Vec::new();
    for (at, _) in code.match_indices(&start) {
        let before = code[..at].chars().next_back();
        if before.is_some_and(|c| is_word(c) || c == ':') {
            continue;
        }
        let begin = at + start.len();
        open(code, begin, &mut code[begin..].char_indices().peekable(), "", &mut found);
    }
    found
}

/// Reads one path, or a group of them, and adds what it names to `found`.
fn open(code: &str, begin: usize, chars: &mut Chars, prefix: &str, found: &mut Vec<(usize, String)>) {
    while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {}
    let at = begin + chars.peek().map_or(0, |(at, _)| *at);
    let mut path = prefix.to_owned();
    while let Some((_, c)) = chars.next_if(|(_, c)| is_word(*c) || *c == ':' || *c == '*') {
        path.push(c);
    }
    if chars.next_if(|(_, c)| *c == '{').is_none() {
        found.push((line_at(code, at), path.trim_end_matches(':').to_owned()));
        return;
    }
    loop {
        while chars.next_if(|(_, c)| c.is_whitespace() || *c == ',').is_some() {}
        if chars.peek().is_none() || chars.next_if(|(_, c)| *c == '}').is_some() {
            return;
        }
        open(code, begin, chars, &path, found);
        // What follows a name here is `as …`, or nothing.
        while chars.next_if(|(_, c)| !",}".contains(*c)).is_some() {}
    }
}

/// The paths that climb out of a file's room by `super::`, with their lines. `depth` counts the modules from the
/// crate's root down to the file's own; a module within the file is one more.
pub fn climbs(code: &str, depth: usize) -> Vec<(usize, String)> {
    let inner = code.find("mod tests {").unwrap_or(code.len());
    let mut found = Vec::new();
    let mut at = 0;
    while let Some(step) = code[at..].find("super::") {
        let begin = at + step;
        let mut end = begin;
        let mut steps = 0;
        while code[end..].starts_with("super::") {
            end += "super::".len();
            steps += 1;
        }
        if steps >= depth + usize::from(begin > inner) {
            open(code, end, &mut code[end..].char_indices().peekable(), "", &mut found);
        }
        at = end;
    }
    found
}
