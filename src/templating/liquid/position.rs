//! Lines and columns, and the error of a template that can't be parsed.

/// Why a template can't be parsed, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {message}")]
pub struct SyntaxError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong and what to do about it.
    pub message: String,
}

impl SyntaxError {
    /// An error at byte `offset` of `source`.
    pub(in crate::templating) fn at(source: &str, offset: usize, message: impl Into<String>) -> Self {
        let (line, column) = line_and_column(source, offset);
        Self { line, column, message: message.into() }
    }
}

/// The line and the column in characters, both from 1, of byte `offset`.
pub(in crate::templating) fn line_and_column(source: &str, offset: usize) -> (usize, usize) {
    let mut offset = offset.min(source.len());
    while !source.is_char_boundary(offset) {
        offset -= 1;
    }
    let before = source.get(..offset).unwrap_or_default();
    let line_start = before.rfind('\n').map_or(0, |at| at + 1);
    let line = before.bytes().filter(|byte| *byte == b'\n').count() + 1;
    let column = before.get(line_start..).unwrap_or_default().chars().count() + 1;
    (line, column)
}

/// Computes lines and columns of mostly growing offsets, without reading the source from its start each time.
#[derive(Debug)]
pub(in crate::templating) struct Cursor<'s> {
    source: &'s str,
    offset: usize,
    line: usize,
    column: usize,
}

impl<'s> Cursor<'s> {
    /// A cursor at the start of `source`.
    pub fn new(source: &'s str) -> Self {
        Self { source, offset: 0, line: 1, column: 1 }
    }

    /// The line and the column in characters, both from 1, of byte `offset`.
    pub fn at(&mut self, offset: usize) -> (usize, usize) {
        if offset < self.offset {
            (self.offset, self.line, self.column) = (0, 1, 1);
        }
        for c in self.source.get(self.offset..offset).unwrap_or_default().chars() {
            (self.line, self.column) =
                if c == '\n' { (self.line + 1, 1) } else { (self.line, self.column + 1) };
            self.offset += c.len_utf8();
        }
        (self.line, self.column)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_count_characters_and_lines_begin_at_one() {
        assert_eq!(line_and_column("äö{{", 4), (1, 3));
        assert_eq!(line_and_column("a\nbc", 3), (2, 2));
        let mut cursor = Cursor::new("ä\nbc");
        assert_eq!([cursor.at(4), cursor.at(2), cursor.at(3)], [(2, 2), (1, 2), (2, 1)]);
        assert_eq!(line_and_column("ä", 1), (1, 1), "an offset within a character is that character's");
    }
}
