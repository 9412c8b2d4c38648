//! What the reference engine, and therefore OneSignal, can't parse or reads differently although it is valid here.

use super::ast::Span;
use super::lexer::{Token, tokens};

/// Tags with an end.
const BLOCKS: [&str; 6] = ["if", "unless", "case", "for", "capture", "comment"];

/// One thing that the reference engine can't parse or reads otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issue {
    /// Its byte offset.
    pub at: usize,
    /// What is wrong.
    pub message: String,
    /// What to write instead.
    pub hint: &'static str,
}

/// What the reference engine can't parse: then nothing of the field is rendered.
pub fn unparsable(source: &str) -> Vec<Issue> {
    let mut found = Vec::new();
    // The blocks that are open within the comment at hand, which is the first of them.
    let mut open: Vec<&str> = Vec::new();
    for mark in marks(source) {
        if mark.is_output {
            found.extend(brace_in(source, &mark));
            continue;
        }
        let (name, arguments) = mark.tag(source);
        if open.is_empty() {
            open.extend((name == "comment").then_some("comment"));
            continue;
        }
        match name.strip_prefix("end") {
            Some(ended) if open.last() == Some(&ended) => drop(open.pop()),
            Some(_) if open.len() > 1 => {
                found.push(half_a_block(mark.start));
                open.clear();
            }
            None if BLOCKS.contains(&name) => {
                if arguments.is_empty() && name != "comment" {
                    found.push(half_a_block(mark.start));
                }
                open.push(name);
            }
            Some(_) | None => {}
        }
    }
    found
}

fn half_a_block(at: usize) -> Issue {
    let message =
        "a comment is parsed, too: this tag in it is incomplete, or is not closed within it".to_owned();
    Issue { at, message, hint: "remove the tag from the comment" }
}

fn brace_in(source: &str, mark: &Mark) -> Option<Issue> {
    let inner = &source[mark.start + 2..mark.end - 2];
    let at = mark.start + 2 + inner.find('}')?;
    let message =
        "OneSignal's engine ends an output at the first `}`, and then can't read the field".to_owned();
    let hint = "put the text into a variable first: `{% assign text = \"{…}\" %}`";
    Some(Issue { at, message, hint })
}

/// What the reference engine reads otherwise, in a field that it is given as its author wrote it.
pub fn misread(source: &str) -> Vec<Issue> {
    let mut found = Vec::new();
    let mut in_comment = false;
    for mark in marks(source).filter(|mark| !mark.is_output) {
        let (name, _) = mark.tag(source);
        in_comment = (in_comment || name == "comment") && name != "endcomment";
        if in_comment {
            continue;
        }
        let inner = mark.inner(source);
        let Ok(tokens) = tokens(source, inner) else { continue };
        if matches!(name, "if" | "elsif" | "unless") {
            found.extend(tokens.iter().filter_map(|token| unspaced(source, token)));
        }
        if name == "for" {
            found.extend(late_reversed(&tokens));
        }
        found.extend(wide_space(source, inner, &tokens));
    }
    found
}

/// An operator without surrounding spaces: the engine takes the whole for a name.
fn unspaced(source: &str, (token, span): &(Token, Span)) -> Option<Issue> {
    let Token::Sign("==" | "!=" | "<>" | "<" | "<=" | ">" | ">=") = token else { return None };
    let is_apart = source[..span.start].ends_with(|c: char| c.is_ascii_whitespace())
        && source[span.end..].starts_with(|c: char| c.is_ascii_whitespace());
    let operator = span.of(source);
    let message = format!("OneSignal's engine reads `{operator}` only with a space on both sides");
    (!is_apart).then_some(Issue { at: span.start, message, hint: "put a space before and after it" })
}

/// `reversed` is recognized only directly after the list.
fn late_reversed(tokens: &[(Token, Span)]) -> Option<Issue> {
    let word = |wanted: &str| {
        tokens.iter().position(|(token, _)| matches!(token, Token::Word(word) if word == wanted))
    };
    let reversed = word("reversed").filter(|at| *at > 2)?;
    let first = [word("limit"), word("offset")].into_iter().flatten().min()?;
    let message = "OneSignal's engine ignores `reversed` after `limit` and `offset`".to_owned();
    let at = tokens.get(reversed)?.1.start;
    (first < reversed).then_some(Issue { at, message, hint: "write it directly after the list" })
}

/// Whitespace that the engine does not recognize, outside of quotes.
fn wide_space(source: &str, inner: Span, tokens: &[(Token, Span)]) -> Option<Issue> {
    let text = inner.of(source);
    let is_wide = |(_, c): &(usize, char)| c.is_whitespace() && !c.is_ascii();
    let within = |at: usize| tokens.iter().any(|(_, span)| (span.start..span.end).contains(&at));
    let mut wide = text.char_indices().filter(is_wide).map(|(at, _)| inner.start + at);
    let at = wide.find(|at| !within(*at))?;
    let message =
        "this space is a no-break or wide one, which OneSignal's engine takes for part of a name".to_owned();
    Some(Issue { at, message, hint: "use a plain space" })
}

/// An output or a tag, from its first to its last brace.
struct Mark {
    start: usize,
    end: usize,
    is_output: bool,
}

impl Mark {
    fn inner(&self, source: &str) -> Span {
        let text = &source[self.start + 2..self.end - 2];
        let start = self.start + 2 + usize::from(text.starts_with('-'));
        let end = self.end - 2 - usize::from(text.len() > 1 && text.ends_with('-'));
        Span { start, end: end.max(start) }
    }

    /// A tag's name, and what follows it.
    fn tag<'s>(&self, source: &'s str) -> (&'s str, &'s str) {
        let inner = self.inner(source).of(source).trim();
        inner.split_once(|c: char| c.is_whitespace()).map_or((inner, ""), |(name, rest)| (name, rest.trim()))
    }
}

/// The outputs and tags of a source, except those between `raw` and `endraw`.
fn marks(source: &str) -> impl Iterator<Item = Mark> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let pairs = source.as_bytes().get(at..)?.windows(2);
            let start = at + pairs.enumerate().find(|(_, pair)| matches!(*pair, [b'{', b'{' | b'%']))?.0;
            let is_output = source[start..].starts_with("{{");
            let close = if is_output { "}}" } else { "%}" };
            let end = start + 2 + source[start + 2..].find(close)? + 2;
            let mark = Mark { start, end, is_output };
            at = end;
            if !is_output && mark.tag(source).0 == "raw" {
                at = source[end..].find("endraw").map_or(source.len(), |found| end + found);
                continue;
            }
            return Some(mark);
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn places(found: &[Issue]) -> Vec<usize> {
        found.iter().map(|issue| issue.at).collect()
    }

    #[test]
    fn a_brace_within_an_output_and_half_a_block_within_a_comment_are_reported() {
        let one = "{{ user.nick | default: \"{friend}\" }}";
        assert_eq!(places(&unparsable(one)), [one.find('}').unwrap()]);
        assert_eq!(unparsable("{% comment %}{{ x } y }}{% if %}{% endif %}{% endcomment %}").len(), 2);
        assert_eq!(places(&unparsable("{% comment %}{% if x %}{% endcomment %}")), [23]);
        for fine in [
            "{{ x }}}",
            "{% assign x = \"{y}\" %}",
            "{% raw %}{{ '}' }}{% endraw %}{{ x }}",
            "{% comment %}{% endif %}{% foo %}{% endcomment %}",
            "{% comment %}{% comment %}x{% endcomment %}{% if x %}{% endif %}{% endcomment %}{% if x %}{% endif %}",
            "{{ '{%' }}",
            "{{",
        ] {
            assert_eq!(unparsable(fine), [], "{fine}");
        }
    }

    #[test]
    fn what_the_engine_reads_differently_is_reported() {
        for (source, at) in [
            ("{% if user.a==1 %}{% endif %}", 12),
            ("{% if a > 1 and b< 2 %}{% endif %}", 17),
            ("{% for x in y limit:2 reversed %}{% endfor %}", 22),
            ("{% if\u{a0}x %}{% endif %}", 5),
        ] {
            assert_eq!(places(&misread(source)), [at], "{source}");
        }
        for fine in [
            "{% if a == '<b>' %}{% endif %}",
            "{% for x in y reversed limit:2 %}{% endfor %}",
            "{% if a == '\u{a0}' %}{% endif %}",
            "{% comment %}{% if a==1 %}{% endif %}{% endcomment %}",
            "{% raw %}{% if a==1 %}{% endraw %}",
            "{% assign x = 1 %}",
        ] {
            assert_eq!(misread(fine), [], "{fine}");
        }
    }
}
