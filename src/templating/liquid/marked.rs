//! A text that knows which of its parts are values and which are markup, so that each is encoded once, where it is printed.

use std::ops::Range;

/// What a part of a text is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Text as its reader is to read it.
    Plain,
    /// Copy as its author wrote it outside of `{{ }}`, or markup that a filter made of it.
    Markup,
    /// Encoded by the author for use within a link.
    Url,
}

/// A text in parts. Its own text is what the reference engine would have, so that filters need not know of the parts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Marked {
    text: String,
    /// Where each part ends, in bytes.
    runs: Vec<(usize, Kind)>,
}

impl Marked {
    /// A text that is all of one kind.
    pub fn new(text: impl Into<String>, kind: Kind) -> Self {
        let text = text.into();
        let runs = if text.is_empty() { Vec::new() } else { vec![(text.len(), kind)] };
        Self { text, runs }
    }

    /// The whole text.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The whole text, without its parts.
    pub fn into_string(self) -> String {
        self.text
    }

    /// Whether all of it is plain.
    pub fn is_plain(&self) -> bool {
        self.runs.iter().all(|(_, kind)| *kind == Kind::Plain)
    }

    /// How many parts there are.
    pub fn parts(&self) -> usize {
        self.runs.len()
    }

    /// The parts in order.
    pub fn runs(&self) -> impl Iterator<Item = (Kind, &str)> {
        let mut start = 0;
        self.runs.iter().map(move |(end, kind)| {
            let range = std::mem::replace(&mut start, *end)..*end;
            (*kind, self.text.get(range).unwrap_or_default())
        })
    }

    /// Adds a text at the end.
    pub fn push(&mut self, text: &str, kind: Kind) {
        if text.is_empty() {
            return;
        }
        self.text.push_str(text);
        match self.runs.last_mut() {
            Some((end, last)) if *last == kind => *end = self.text.len(),
            _ => self.runs.push((self.text.len(), kind)),
        }
    }

    /// Appends the part of another text within `range`.
    pub fn push_part(&mut self, other: &Self, range: Range<usize>) {
        let first = other.runs.partition_point(|(end, _)| *end <= range.start);
        let mut start = range.start;
        for (end, kind) in other.runs.get(first..).unwrap_or_default() {
            if start >= range.end {
                break;
            }
            let end = range.end.min(*end);
            self.push(other.text.get(start..end).unwrap_or_default(), *kind);
            start = end;
        }
    }

    /// Adds another text at the end.
    pub fn push_all(&mut self, other: &Self) {
        self.push_part(other, 0..other.text.len());
    }

    /// The part within `range`.
    pub fn part(&self, range: Range<usize>) -> Self {
        let mut part = Self::default();
        part.push_part(self, range);
        part
    }

    /// The kind of everything in `range`, if it is all of one; that of the character before where the range is empty.
    pub fn kind_in(&self, range: &Range<usize>) -> Option<Kind> {
        let from = if range.is_empty() { range.start.saturating_sub(1) } else { range.start };
        let first = self.runs.partition_point(|(end, _)| *end <= from);
        let (end, kind) = self.runs.get(first)?;
        (range.end <= *end).then_some(*kind)
    }

    /// The same text, with what was markup as plain text; what is encoded for a link stays so.
    pub fn without_markup(&self) -> Self {
        let mut plain = Self::default();
        for (kind, text) in self.runs() {
            plain.push(text, if kind == Kind::Url { Kind::Url } else { Kind::Plain });
        }
        plain
    }

    /// The same parts, each with other characters.
    pub fn map(&self, mut change: impl FnMut(&str) -> String) -> Self {
        let mut changed = Self::default();
        for (kind, text) in self.runs() {
            changed.push(&change(text), kind);
        }
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_keeps_the_kinds_of_what_it_is_cut_from() {
        let mut text = Marked::new("<b>", Kind::Markup);
        text.push("Tom & Jerry", Kind::Plain);
        text.push("</b>", Kind::Markup);
        let part = text.part(2..7);
        assert_eq!(part.runs().collect::<Vec<_>>(), [(Kind::Markup, ">"), (Kind::Plain, "Tom ")]);
        assert_eq!((part.as_str(), part.parts(), text.part(4..4).parts()), (">Tom ", 2, 0));
    }

    #[test]
    fn neighbours_of_a_kind_are_one_part() {
        let mut text = Marked::new("a", Kind::Plain);
        text.push("", Kind::Markup);
        text.push("b", Kind::Plain);
        assert!(text.is_plain() && text.parts() == 1);
        text.push("+", Kind::Url);
        assert_eq!(
            (text.kind_in(&(0..2)), text.kind_in(&(1..3)), text.kind_in(&(2..3))),
            (Some(Kind::Plain), None, Some(Kind::Url))
        );
        assert_eq!(text.map(str::to_uppercase).as_str(), "AB+");
    }
}
