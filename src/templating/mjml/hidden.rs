//! Hides Liquid from the converter behind placeholder words, and restores it.

use super::{Converted, problem};
use crate::templating::compile::Problem;
use crate::templating::compile::dataflow::bodies;
use crate::templating::liquid::Template;
use crate::templating::liquid::ast::Node;

/// A source whose Liquid is replaced by words.
pub struct Hidden {
    /// The text with words in place of Liquid.
    pub text: String,
    /// How each word begins; the number of the piece and a `q` follow.
    mark: String,
    /// The pieces of Liquid: where each begins in the source and in `text`, and its length in the source.
    pieces: Vec<(usize, usize, usize)>,
}

impl Hidden {
    pub fn of(template: &Template) -> Self {
        let source = template.source();
        let mut mark = "hldq".to_owned();
        while source.contains(&mark) {
            mark.push('z');
        }
        let mut texts = Vec::new();
        collect_texts(template.nodes(), &mut texts);
        texts.push((source.len(), source.len()));
        let mut hidden = Self { text: String::new(), mark, pieces: Vec::new() };
        let mut at = 0;
        for (start, end) in texts {
            if at < start {
                let number = hidden.pieces.len();
                hidden.pieces.push((at, hidden.text.len(), start - at));
                hidden.text.push_str(&format_word(&hidden.mark, number));
            }
            hidden.text.push_str(&source[start..end]);
            at = end;
        }
        hidden
    }

    /// The position in the source of a byte of `text`.
    pub fn origin(&self, at: usize) -> usize {
        let before = self.pieces.iter().enumerate().rev().find(|(_, (_, start, _))| *start <= at);
        let Some((number, (source, start, length))) = before else { return at };
        let word = format_word(&self.mark, number).len();
        source + (at - start).checked_sub(word).map_or(0, |rest| length + rest)
    }

    /// The placeholder words of the Liquid between two bytes of `text`.
    pub fn words(&self, from: usize, to: usize) -> String {
        let within = |(_, (_, start, _)): &(usize, &(usize, usize, usize))| (from..to).contains(start);
        let words = self.pieces.iter().enumerate().filter(within);
        words.map(|(number, _)| format_word(&self.mark, number)).collect()
    }

    /// Where text or a tag begins between two bytes of `text`, apart from Liquid, comments and what declares the document.
    pub fn first_text(&self, from: usize, to: usize) -> Option<usize> {
        let mut at = from;
        while at < to {
            let rest = &self.text[at..to];
            let passed = if let Some(number) = rest.strip_prefix(self.mark.as_str()) {
                self.mark.len() + number.find('q').map_or(number.len(), |end| end + 1)
            } else if rest.starts_with("<!--") {
                rest.find("-->").map_or(rest.len(), |end| end + 3)
            } else if rest.starts_with("<?")
                || rest.get(..9).is_some_and(|begin| begin.eq_ignore_ascii_case("<!doctype"))
            {
                rest.find('>').map_or(rest.len(), |end| end + 1)
            } else {
                let c = rest.chars().next()?;
                if !(c.is_whitespace() || c == '\u{feff}') {
                    return Some(at);
                }
                c.len_utf8()
            };
            at += passed;
        }
        None
    }

    fn liquid<'s>(&self, source: &'s str, number: usize) -> &'s str {
        self.pieces.get(number).map_or("", |(start, _, length)| &source[*start..start + length])
    }

    /// Restores the Liquid, if every piece is still in its branch and loop.
    pub fn reveal(&self, source: &str, html: &str) -> Result<Converted, Problem> {
        let is_tag: Vec<bool> =
            (0..self.pieces.len()).map(|number| self.liquid(source, number).contains("{%")).collect();
        let tags_before: Vec<usize> = is_tag
            .iter()
            .scan(0, |tags, is| Some(std::mem::replace(tags, *tags + usize::from(*is))))
            .collect();
        let mut converted = Converted { html: String::with_capacity(html.len()), pieces: Vec::new() };
        let (mut seen, mut tags, mut rest) = (vec![0_usize; self.pieces.len()], 0, html);
        while let Some((before, after)) = rest.split_once(self.mark.as_str()) {
            let (digits, after) = after.split_once('q').unwrap_or((after, ""));
            let number: usize = digits.parse().unwrap_or(usize::MAX);
            let Some(count) = seen.get_mut(number) else { break };
            *count += 1;
            if tags != tags_before[number] {
                return Err(self.misplaced(source, number));
            }
            tags += usize::from(is_tag[number]);
            converted.html.push_str(before);
            let liquid = self.liquid(source, number);
            converted.pieces.push((converted.html.len(), liquid.len(), self.pieces[number].0));
            converted.html.push_str(liquid);
            rest = after;
        }
        converted.html.push_str(rest);
        match seen.iter().position(|count| *count == 0) {
            Some(lost) => Err(self.misplaced(source, lost)),
            None => Ok(converted),
        }
    }

    fn misplaced(&self, source: &str, number: usize) -> Problem {
        let message = "MJML does not allow Liquid here: it would be lost or moved".to_owned();
        let hint = "put it in `mj-text`, `mj-button`, `mj-table` or an attribute that contains text or a link; \
                    between elements write it in an `mj-raw` of its own";
        let at = self.pieces.get(number).map_or(0, |(start, ..)| *start);
        let liquid = self.liquid(source, number);
        problem(source, at + liquid.len() - liquid.trim_start().len(), message, hint)
    }
}

fn format_word(mark: &str, number: usize) -> String {
    format!("{mark}{number}q")
}

fn collect_texts(nodes: &[Node], texts: &mut Vec<(usize, usize)>) {
    for node in nodes {
        if let Node::Text(span) = node {
            texts.push((span.start, span.end));
        }
        for body in bodies(node) {
            collect_texts(body, texts);
        }
    }
}
