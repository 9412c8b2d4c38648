//! Cuts a source into text, outputs and tags, and the inside of those into tokens.

use super::ast::Span;
use super::position::SyntaxError;
use super::spaces::trim_start;

/// One piece of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece {
    /// Literal text, with whitespace control applied.
    Text(Span),
    /// The text between `raw` and `endraw`.
    Raw(Span),
    /// `{{ inner }}`
    Output {
        /// The span between the braces.
        inner: Span,
        /// With the braces.
        outer: Span,
    },
    /// `{% inner %}`
    Tag {
        /// The span between the marks.
        inner: Span,
        /// With the marks.
        outer: Span,
    },
}

/// Cuts `source` into pieces. `raw` becomes text and comments vanish here.
///
/// An output ends at the first `}}` and a tag at the first `%}`, within quotes too: that is how OneSignal reads it.
pub fn pieces(source: &str) -> Result<Vec<Piece>, SyntaxError> {
    let mut cutter = Cutter { source, at: 0, trim: false, pieces: Vec::new() };
    while cutter.at < source.len() {
        cutter.next()?;
    }
    Ok(cutter.pieces)
}

struct Cutter<'s> {
    source: &'s str,
    at: usize,
    /// The last mark ended in `-`, so the text that follows loses its leading whitespace.
    trim: bool,
    pieces: Vec<Piece>,
}

impl Piece {
    /// Where it begins.
    pub fn start(self) -> usize {
        match self {
            Self::Text(span) | Self::Raw(span) => span.start,
            Self::Output { outer, .. } | Self::Tag { outer, .. } => outer.start,
        }
    }
}

impl Cutter<'_> {
    fn next(&mut self) -> Result<(), SyntaxError> {
        let rest = &self.source[self.at..];
        let Some(open) = find_mark(rest) else {
            self.text(self.source.len(), false);
            self.at = self.source.len();
            return Ok(());
        };
        let start = self.at + open;
        let output = self.source[start..].starts_with("{{");
        let mark = self.mark(start, if output { "}}" } else { "%}" })?;
        self.text(start, mark.trims_before);
        self.trim = mark.trims_after;
        self.at = mark.outer.end;
        if output {
            self.pieces.push(Piece::Output { inner: mark.inner, outer: mark.outer });
            return Ok(());
        }
        match mark.inner.of(self.source).trim() {
            "raw" => self.raw(start),
            "comment" => self.comment(start),
            _ => {
                self.pieces.push(Piece::Tag { inner: mark.inner, outer: mark.outer });
                Ok(())
            }
        }
    }

    /// Takes the text from here to `end`.
    fn text(&mut self, end: usize, trim_end: bool) {
        let mut span = Span { start: self.at, end };
        if self.trim {
            let text = span.of(self.source);
            span.start += text.len() - trim_start(text).len();
        }
        if trim_end {
            span.end = span.start + super::spaces::trim_end(span.of(self.source)).len();
        }
        if span.start < span.end {
            self.pieces.push(Piece::Text(span));
        }
    }

    fn mark(&self, start: usize, close: &str) -> Result<Mark, SyntaxError> {
        let Some(length) = self.source[start + 2..].find(close) else {
            let open = &self.source[start..start + 2];
            return Err(SyntaxError::at(self.source, start, format!("`{open}` is not closed by `{close}`")));
        };
        let mut inner = Span { start: start + 2, end: start + 2 + length };
        let outer = Span { start, end: inner.end + 2 };
        let trims_before = inner.of(self.source).starts_with('-');
        inner.start += usize::from(trims_before);
        let trims_after = inner.of(self.source).ends_with('-');
        inner.end -= usize::from(trims_after);
        Ok(Mark { inner, outer, trims_before, trims_after })
    }

    /// Takes everything up to `endraw` as it is. As in the reference, the `-` of `{% raw -%}` trims what follows the block,
    /// that of `endraw` does nothing, and `{%- endraw %}` is no end.
    fn raw(&mut self, start: usize) -> Result<(), SyntaxError> {
        let rest = &self.source[self.at..];
        let is_end = |at: &usize| {
            let word = rest[at + 2..].trim_start_matches(|c: char| c.is_ascii_whitespace());
            let after = word.strip_prefix("endraw");
            after.is_some_and(|after| !after.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_'))
        };
        let end = rest.match_indices("{%").map(|(at, _)| at).find(is_end);
        let closed = end.and_then(|end| Some((end, end + rest[end..].find("%}")? + 2)));
        let Some((end, after)) = closed else {
            return Err(SyntaxError::at(self.source, start, "`{% endraw %}` is missing"));
        };
        if end > 0 {
            self.pieces.push(Piece::Raw(Span { start: self.at, end: self.at + end }));
        }
        self.at += after;
        Ok(())
    }

    fn comment(&mut self, start: usize) -> Result<(), SyntaxError> {
        let end = self.end_of_comment(start)?;
        self.trim = end.trims_after;
        self.at = end.outer.end;
        Ok(())
    }

    /// Finds the matching `endcomment`; each nested `comment` needs one more.
    fn end_of_comment(&self, start: usize) -> Result<Mark, SyntaxError> {
        let (mut at, mut open) = (self.at, 1);
        while let Some(found) = self.source[at..].find("{%") {
            let Ok(mark) = self.mark(at + found, "%}") else { break };
            match mark.inner.of(self.source).trim() {
                "comment" => open += 1,
                "endcomment" if open == 1 => return Ok(mark),
                "endcomment" => open -= 1,
                _ => {}
            }
            at += found + 2;
        }
        Err(SyntaxError::at(self.source, start, "`{% endcomment %}` is missing"))
    }
}

struct Mark {
    inner: Span,
    outer: Span,
    trims_before: bool,
    trims_after: bool,
}

fn find_mark(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    bytes.windows(2).position(|pair| pair == b"{{" || pair == b"{%")
}

/// One token inside an output or a tag.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name or a word.
    Word(String),
    /// A quoted text.
    Text(String),
    /// A whole number.
    Int(i128),
    /// A number with a fraction.
    Float(f64),
    /// `| : , . [ ] = == != <> < <= > >=`
    Sign(&'static str),
}

const SIGNS: [&str; 14] = ["==", "!=", "<>", "<=", ">=", "<", ">", "=", "|", ":", ",", ".", "[", "]"];

/// Cuts the inside of an output or a tag into tokens with their places.
pub fn tokens(source: &str, inner: Span) -> Result<Vec<(Token, Span)>, SyntaxError> {
    let mut tokens: Vec<(Token, Span)> = Vec::new();
    let mut at = inner.start;
    let text = &source[..inner.end];
    while let Some(first) = text[at..].chars().next() {
        if first.is_whitespace() {
            at += first.len_utf8();
            continue;
        }
        let is_key = first.is_ascii_digit() && matches!(tokens.last(), Some((Token::Sign("."), _)));
        let (token, length) = if is_key { word(text, at) } else { token(text, at)? };
        tokens.push((token, Span { start: at, end: at + length }));
        at += length;
    }
    Ok(tokens)
}

fn token(text: &str, at: usize) -> Result<(Token, usize), SyntaxError> {
    let rest = &text[at..];
    let first = rest.as_bytes().first().copied().unwrap_or_default();
    if first == b'"' || first == b'\'' {
        return quoted(text, at, char::from(first));
    }
    if first.is_ascii_digit() || (first == b'-' && rest.as_bytes().get(1).is_some_and(u8::is_ascii_digit)) {
        return number(text, at);
    }
    if first.is_ascii_alphabetic() || first == b'_' {
        return Ok(word(text, at));
    }
    if let Some(sign) = SIGNS.into_iter().find(|sign| rest.starts_with(sign)) {
        return Ok((Token::Sign(sign), sign.len()));
    }
    Err(SyntaxError::at(text, at, unexpected(rest.chars().next().unwrap_or(' '))))
}

/// A name; after a dot it may begin with a digit.
fn word(text: &str, at: usize) -> (Token, usize) {
    let rest = &text[at..];
    let ends = |c: char| !(c.is_ascii_alphanumeric() || c == '_' || c == '-');
    let length = rest.find(ends).unwrap_or(rest.len());
    (Token::Word(rest[..length].to_owned()), length)
}

fn unexpected(c: char) -> String {
    match c {
        '(' | ')' => "parentheses are not supported; conditions are read right to left".to_owned(),
        '+' | '*' | '/' | '-' => {
            format!("`{c}` is not supported; use the filters `plus`, `minus`, `times`, `divided_by`")
        }
        '&' => "`&` is not supported; write `and`".to_owned(),
        '#' => "`#` is not supported; comments are written `{% comment %}…{% endcomment %}`".to_owned(),
        '!' => "`!` is not supported; write `unless` or `== false`".to_owned(),
        '“' | '”' | '„' | '‘' | '’' => format!("`{c}` is a typographic quote; write `\"`"),
        c if c.is_alphabetic() => format!("`{c}` can't be part of a name; write `['{c}…']`"),
        c => format!("`{c}` is not expected here"),
    }
}

fn quoted(text: &str, at: usize, quote: char) -> Result<(Token, usize), SyntaxError> {
    let Some(length) = text[at + 1..].find(quote) else {
        let message =
            format!("the string that begins with {quote} is not closed (it can't contain `}}}}` or `%}}`)");
        return Err(SyntaxError::at(text, at, message));
    };
    Ok((Token::Text(text[at + 1..at + 1 + length].to_owned()), length + 2))
}

fn number(text: &str, at: usize) -> Result<(Token, usize), SyntaxError> {
    let rest = &text[at..];
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let sign = usize::from(rest.starts_with('-'));
    let mut length = sign + digits(&rest[sign..]);
    let fraction = rest[length..].strip_prefix('.').map_or(0, digits);
    if fraction > 0 {
        length += 1 + fraction;
    }
    if rest[length..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_') {
        return Err(SyntaxError::at(text, at, "a name can't begin with a digit"));
    }
    let written = &rest[..length];
    let token = match written.parse::<i128>() {
        Ok(int) if fraction == 0 => Token::Int(int),
        _ => Token::Float(written.parse().unwrap_or(f64::MAX)),
    };
    Ok((token, length))
}
