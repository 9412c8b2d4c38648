//! Email bodies written as MJML: converted to HTML before they are compiled, with their Liquid intact.
//!
//! Liquid is hidden from the converter behind placeholder words and restored afterwards. If the converter drops,
//! duplicates or moves Liquid to another branch or loop, that is a problem, never a different message.

mod document;
mod hidden;
mod measure;

#[cfg(test)]
mod tests;

use mrml::prelude::render::RenderOptions;

use super::compile::Problem;
use super::liquid::Template;
use super::liquid::position::line_and_column;
use crate::domain::budget::Budget;
use crate::domain::stack::on_deep_stack;

pub(super) use document::element_in;
use document::{Document, find_tag};
use hidden::Hidden;
use measure::Measure;

/// The field that may be MJML.
const FIELD: &str = "body";
/// Where MJML is documented.
const MORE: &str = "see mjml.io for the allowed elements";
/// How deep elements may be nested: the converter works by recursion.
const MAX_NESTING: usize = 64;
/// How long the HTML may become, in bytes, by what is known before it is made.
const MAX_BYTES: usize = 16 * 1024 * 1024;
/// Elements that the converter's parser takes to have no end.
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// MJML as HTML, with the positions of its Liquid.
#[derive(Debug, Clone)]
pub(super) struct Converted {
    /// The HTML, with the author's Liquid in it.
    pub html: String,
    /// Pieces of Liquid: where each begins in the HTML, how long it is, and where it begins in the MJML.
    pieces: Vec<(usize, usize, usize)>,
}

impl Converted {
    /// The line and column in the MJML that those in the HTML came from; of what the converter wrote, those of the
    /// Liquid before it.
    pub fn origin(&self, source: &str, (line, column): (usize, usize)) -> (usize, usize) {
        line_and_column(source, self.origin_byte(byte_of(&self.html, line, column)))
    }

    fn origin_byte(&self, at: usize) -> usize {
        let before = self.pieces.iter().rev().find(|(start, ..)| *start <= at);
        before.map_or(0, |(start, length, source)| source + (at - start).min(*length))
    }
}

/// The byte of a line and a column in characters, both from 1.
fn byte_of(text: &str, line: usize, column: usize) -> usize {
    let start: usize = text.split_inclusive('\n').take(line.saturating_sub(1)).map(str::len).sum();
    let before = text[start..].chars().take(column.saturating_sub(1));
    start + before.map(char::len_utf8).sum::<usize>()
}

/// Whether a body is MJML: it contains an `mjml` element, whatever precedes that.
pub fn is_mjml(template: &Template) -> bool {
    find_tag(&Hidden::of(template).text, "mjml").is_some()
}

/// The HTML of an MJML body, with its Liquid as it was.
///
/// # Errors
/// A [`Problem`] with its place in `source`: what isn't Liquid or MJML, or Liquid that the HTML has no place for.
pub fn to_html(source: &str, budget: &Budget) -> Result<String, Problem> {
    let template = Template::parse(source, budget).map_err(|error| Problem::from_syntax(FIELD, error))?;
    Ok(convert(&template, budget)?.html)
}

/// The same for a template that is parsed already.
pub(super) fn convert(template: &Template, budget: &Budget) -> Result<Converted, Problem> {
    let source = template.source();
    let hidden = Hidden::of(template);
    let document = Document::find(&hidden).map_err(|(at, what)| {
        problem(source, hidden.origin(at), format!("this is not valid MJML: {what}"), MORE)
    })?;
    // The tokenizer panics at some comments, here as in the parser.
    let unreadable =
        || problem(source, 0, "this is not valid MJML: a tag or comment can't be parsed".to_owned(), MORE);
    let origin = |at: usize| hidden.origin(document.start + at);
    let measure = on_deep_stack(|| Measure::of(&document.text)).ok_or_else(unreadable)?.map_err(|at| {
        let message = format!("elements are nested more than {MAX_NESTING} deep");
        problem(source, origin(at), message, "reduce the nesting")
    })?;
    let bytes = measure.bytes(&document.text);
    if bytes > MAX_BYTES {
        let message =
            "the attributes that apply to every element are too long for so many elements".to_owned();
        return Err(problem(source, 0, message, "shorten what `mj-attributes` sets, or use fewer elements"));
    }
    let paid =
        budget.steps(measure.elements).and_then(|()| budget.work(bytes)).and_then(|()| budget.memory(bytes));
    paid.map_err(|spent| problem(source, 0, format!("the MJML is too complex: {spent}"), "shorten it"))?;
    // The parser and the renderer recurse; where a level was not counted, a deep stack still holds it.
    let html = on_deep_stack(|| html_of(&document.text)).unwrap_or(Err((0, "it can't be converted to HTML")));
    let html = html.map_err(|(at, what)| {
        let message = format!("this is not valid MJML: {what}");
        problem(source, origin(at), message, MORE)
    })?;
    // Elements that MJML doesn't know are passed on as if they were HTML's.
    if let Some(found) = find_tag(&html, "mj-") {
        let rest = &html[found + "<mj-".len()..];
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let at = find_tag(&document.text, &format!("mj-{name}")).unwrap_or(0);
        let message = format!("MJML has no element `mj-{name}`");
        return Err(problem(source, origin(at), message, "see mjml.io for the known elements"));
    }
    let html =
        [hidden.words(0, document.start), html, hidden.words(document.end, hidden.text.len())].concat();
    hidden.reveal(source, &html)
}

/// The HTML of MJML without Liquid, or where and why it can't be converted.
fn html_of(text: &str) -> Result<String, (usize, &'static str)> {
    let parsed = mrml::parse(text).map_err(|error| explained(&error))?;
    // Fonts loaded from elsewhere would let a third party track who opens the message.
    let options =
        RenderOptions { fonts: std::iter::empty::<(String, _)>().collect(), ..RenderOptions::default() };
    parsed.element.render(&options).map_err(|_| (0, "it can't be converted to HTML"))
}

fn problem(source: &str, at: usize, message: String, hint: &str) -> Problem {
    let (line, column) = line_and_column(source, at);
    Problem { code: "mjml", field: FIELD.to_owned(), line, column, message, hint: Some(hint.to_owned()) }
}

fn explained(error: &mrml::prelude::parser::Error) -> (usize, &'static str) {
    use mrml::prelude::parser::Error;
    match error {
        Error::UnexpectedElement { position, .. } => (position.start, "this element is not allowed here"),
        Error::UnexpectedToken { position, .. } => (position.start, "this is not allowed here"),
        Error::MissingAttribute { position, .. } => (position.start, "an attribute is missing"),
        Error::InvalidAttribute { position, .. } => (position.start, "this attribute can't be parsed"),
        Error::InvalidFormat { position, .. } => (position.start, "this can't be parsed"),
        Error::IncludeLoaderError { position, .. } => (position.start, "includes are not supported"),
        Error::EndOfStream { .. } => (0, "an element is not closed"),
        Error::SizeLimit { .. } => (0, "it is too long"),
        Error::ParserError { .. } => (0, "a tag or attribute can't be parsed"),
        Error::NoRootNode => (0, "there is no `mjml` element"),
    }
}
