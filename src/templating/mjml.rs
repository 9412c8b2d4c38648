//! Email bodies that are written as MJML: converted to HTML before they are compiled, with their Liquid unharmed.
//!
//! Liquid is hidden from the converter behind words and put back behind it. What the converter drops, doubles or moves
//! to another branch or loop is a problem, never a different message.

use htmlparser::{ElementEnd, Token, Tokenizer};
use mrml::prelude::render::RenderOptions;

use super::compile::Problem;
use super::compile::origins::bodies;
use super::liquid::Template;
use super::liquid::ast::Node;
use super::liquid::position::line_and_column;
use crate::domain::budget::Budget;
use crate::domain::stack::on_deep_stack;

/// The field that may be MJML.
const FIELD: &str = "body";
/// Where more is said of MJML.
const MORE: &str = "see mjml.io for what goes where";
/// How deep elements may be nested: the converter works by recursion.
const MOST_NESTING: usize = 64;
/// How long the HTML may become, in bytes, by what is known before it is made.
const MOST_BYTES: usize = 16 * 1024 * 1024;
/// Elements that the converter's parser takes to have no end.
const VOID: [&str; 14] = [
    "area", "base", "br", "col", "embed", "hr", "img", "input", "link", "meta", "param", "source", "track",
    "wbr",
];

/// MJML as HTML, and where its Liquid stood.
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

/// Whether a body is MJML.
pub fn is_mjml(source: &str) -> bool {
    source.trim_start().starts_with("<mjml")
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
    // The tokenizer panics at some comments, here as in the parser.
    let unreadable =
        || problem(source, 0, "this is no MJML: a tag or comment can't be read".to_owned(), MORE);
    let measure = on_deep_stack(|| Measure::of(&hidden.text)).ok_or_else(unreadable)?.map_err(|at| {
        let message = format!("elements are nested more than {MOST_NESTING} deep");
        problem(source, hidden.origin(at), message, "nest them less")
    })?;
    let bytes = measure.bytes(&hidden.text);
    if bytes > MOST_BYTES {
        let message = "attributes that every element gets are too long for so many elements".to_owned();
        return Err(problem(source, 0, message, "shorten what `mj-attributes` sets, or use fewer elements"));
    }
    let paid =
        budget.steps(measure.elements).and_then(|()| budget.work(bytes)).and_then(|()| budget.memory(bytes));
    paid.map_err(|spent| problem(source, 0, format!("this can't be converted: {spent}"), "make it shorter"))?;
    // The parser and the renderer recurse; where a level was not counted, a deep stack still holds it.
    let html = on_deep_stack(|| html_of(&hidden.text)).unwrap_or(Err((0, "it can't be made into HTML")));
    let html = html.map_err(|(at, what)| {
        let message = format!("this is no MJML: {what}");
        problem(source, hidden.origin(at), message, MORE)
    })?;
    // Elements that MJML doesn't know are passed on as if they were HTML's.
    if let Some((_, rest)) = html.split_once("<mj-") {
        let name: String = rest.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        let at = hidden.text.find(&format!("<mj-{name}")).unwrap_or(0);
        let message = format!("MJML has no element `mj-{name}`");
        return Err(problem(source, hidden.origin(at), message, "see mjml.io for what there is"));
    }
    hidden.reveal(source, &html)
}

/// The HTML of MJML without Liquid, or where and why there is none.
fn html_of(text: &str) -> Result<String, (usize, &'static str)> {
    let parsed = mrml::parse(text).map_err(|error| explained(&error))?;
    // Fonts from elsewhere would tell a third party who reads what and when.
    let options =
        RenderOptions { fonts: std::iter::empty::<(String, _)>().collect(), ..RenderOptions::default() };
    parsed.element.render(&options).map_err(|_| (0, "it can't be made into HTML"))
}

fn problem(source: &str, at: usize, message: String, hint: &str) -> Problem {
    let (line, column) = line_and_column(source, at);
    Problem { code: "mjml", field: FIELD.to_owned(), line, column, message, hint: Some(hint.to_owned()) }
}

fn explained(error: &mrml::prelude::parser::Error) -> (usize, &'static str) {
    use mrml::prelude::parser::Error;
    match error {
        Error::UnexpectedElement { position, .. } => (position.start, "this element can't stand here"),
        Error::UnexpectedToken { position, .. } => (position.start, "this can't stand here"),
        Error::MissingAttribute { position, .. } => (position.start, "an attribute is missing"),
        Error::InvalidAttribute { position, .. } => (position.start, "this attribute can't be read"),
        Error::InvalidFormat { position, .. } => (position.start, "this can't be read"),
        Error::IncludeLoaderError { position, .. } => (position.start, "nothing can be included"),
        Error::EndOfStream { .. } => (0, "an element isn't closed"),
        Error::SizeLimit { .. } => (0, "it is too long"),
        Error::ParserError { .. } => (0, "a tag or attribute can't be read"),
        Error::NoRootNode => (0, "there is no `mjml` element"),
    }
}

/// What the converter will do with a text, counted by the tokens that it reads.
#[derive(Debug, Default)]
struct Measure {
    /// Elements, opened or empty.
    elements: usize,
    /// Bytes of the attributes that every element gets.
    shared: usize,
    /// Bytes of the attributes of the element that has most of them: some hand theirs on to each child.
    longest: usize,
}

impl Measure {
    /// Counts as the converter's parser does: whatever its tokenizer takes for a start is a level, unless it is empty
    /// or of an element without an end; any end closes one.
    ///
    /// # Errors
    /// Where elements are nested more than [`MOST_NESTING`] deep.
    fn of(text: &str) -> Result<Self, usize> {
        let mut measure = Self::default();
        let (mut depth, mut name, mut attributes, mut shared_from) = (0_usize, "", 0, None);
        // What the tokenizer can't read the converter refuses.
        for token in Tokenizer::from(text).map_while(Result::ok) {
            match token {
                Token::ElementStart { local, span, .. } => {
                    (name, attributes) = (local.as_str(), 0);
                    measure.elements += 1;
                    if depth >= MOST_NESTING && !VOID.contains(&name) {
                        return Err(span.start());
                    }
                }
                Token::Attribute { span, .. } => {
                    attributes += span.as_str().len();
                    measure.shared += shared_from.map_or(0, |_| span.as_str().len());
                    measure.longest = measure.longest.max(attributes);
                }
                Token::ElementEnd { end: ElementEnd::Open, .. } if !VOID.contains(&name) => {
                    depth += 1;
                    if name == "mj-attributes" {
                        shared_from = shared_from.or(Some(depth));
                    }
                }
                Token::ElementEnd { end: ElementEnd::Close(..), .. } => {
                    shared_from = shared_from.filter(|from| depth > *from);
                    depth = depth.saturating_sub(1);
                }
                _ => {}
            }
        }
        Ok(measure)
    }

    /// Bytes that the HTML may come to: every element with the attributes that it may be given.
    fn bytes(&self, text: &str) -> usize {
        (self.shared + self.longest).saturating_mul(self.elements).saturating_add(text.len())
    }
}

/// A source whose Liquid is replaced by words.
struct Hidden {
    text: String,
    /// How each word begins; the number of the piece and a `q` follow.
    mark: String,
    /// The pieces of Liquid: where each begins in the source and in `text`, and its length in the source.
    pieces: Vec<(usize, usize, usize)>,
}

impl Hidden {
    fn of(template: &Template) -> Self {
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

    /// Where a byte of `text` stood in the source.
    fn origin(&self, at: usize) -> usize {
        let before = self.pieces.iter().enumerate().rev().find(|(_, (_, start, _))| *start <= at);
        let Some((number, (source, start, length))) = before else { return at };
        let word = format_word(&self.mark, number).len();
        source + (at - start).checked_sub(word).map_or(0, |rest| length + rest)
    }

    fn liquid<'s>(&self, source: &'s str, number: usize) -> &'s str {
        self.pieces.get(number).map_or("", |(start, _, length)| &source[*start..start + length])
    }

    /// Puts the Liquid back, if every piece still stands in its branch and loop.
    fn reveal(&self, source: &str, html: &str) -> Result<Converted, Problem> {
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
        let message = "MJML has no place for Liquid here, so it would be lost or moved".to_owned();
        let hint = "put it within `mj-text`, `mj-button`, `mj-table` or an attribute that holds text or a link; \
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::channel::Channel;
    use crate::templating::compile;

    fn html(source: &str) -> Result<String, Problem> {
        to_html(source, &Budget::default())
    }

    fn body(inner: &str) -> String {
        format!("<mjml>\n<mj-body><mj-section><mj-column>{inner}</mj-column></mj-section></mj-body>\n</mjml>")
    }

    #[test]
    fn liquid_in_texts_and_attributes_survives() {
        let source = body(
            "<mj-text>Hi {{ data.name | default: \"<you>\" }}{% for i in data.items %}<b>{{ i.a }}</b> &amp; {% endfor %}</mj-text>\
             <mj-button href=\"https://x.io/{{ data.id }}?a=1&amp;b={{ data.b }}\">{{ data.label }}</mj-button>\
             <mj-image src=\"https://x.io/{{ data.pic }}.png\" alt=\"{{ data.alt }}\" />\
             <mj-table>{% for i in data.items %}<tr><td>{{ i.b }}</td></tr>{% endfor %}</mj-table>\
             <mj-raw>{% raw %}{{ raw }}{% endraw %}</mj-raw>",
        );
        let found = html(&source).expect("it converts");
        for liquid in [
            "Hi {{ data.name | default: \"<you>\" }}{% for i in data.items %}<b>{{ i.a }}</b>",
            "href=\"https://x.io/{{ data.id }}?a=1",
            "b={{ data.b }}\"",
            "src=\"https://x.io/{{ data.pic }}.png\"",
            "alt=\"{{ data.alt }}\"",
            "{% for i in data.items %}<tr><td>{{ i.b }}</td></tr>{% endfor %}",
            "{% raw %}{{ raw }}{% endraw %}",
        ] {
            assert!(found.contains(liquid), "{liquid}\n{found}");
        }
        assert!(!found.contains("hldq") && !found.contains("fonts.googleapis"), "{found}");
        Template::parse(&found, &Budget::default()).expect("it is still Liquid");
    }

    #[test]
    fn a_loop_around_elements_goes_into_mj_raw() {
        let good = "<mjml><mj-body><mj-raw>{% if data.vip %}</mj-raw><mj-section><mj-column><mj-text>x</mj-text>\
                    </mj-column></mj-section><mj-raw>{% endif %}</mj-raw></mj-body></mjml>";
        let found = html(good).expect("it converts");
        assert!(found.find("{% if data.vip %}") < found.find("{% endif %}"), "{found}");
    }

    #[test]
    fn liquid_that_would_be_lost_is_a_problem_with_its_place() {
        let problem =
            html(&body("<mj-image src=\"https://x.io\" width=\"{{ data.w }}\" />")).expect_err("lost");
        assert_eq!((problem.code, problem.line, problem.column), ("mjml", 2, 69), "{problem:?}");
        assert!(problem.hint.is_some_and(|hint| hint.contains("mj-raw")));
    }

    #[test]
    fn what_the_converter_keeps_is_compiled_and_what_it_moves_is_a_problem() {
        let head = |inner: &str| {
            format!("<mjml><mj-head>{inner}</mj-head><mj-body><mj-section></mj-section></mj-body></mjml>")
        };
        let in_body = |inner: &str| format!("<mjml><mj-body>{inner}</mj-body></mjml>");
        let loops = "<mj-social>{% for i in data.x %}<mj-social-element href='{{ i }}'>x</mj-social-element>{% endfor %}</mj-social>";
        let cases = [
            (in_body("{% if data.a %}<mj-section></mj-section>{% endif %}"), None),
            (in_body("<mj-section>{% if data.a %}<mj-column></mj-column>{% endif %}</mj-section>"), None),
            (head("<mj-preview>{{ data.x }}</mj-preview><mj-title>{{ data.t }}</mj-title>"), None),
            (head("{% if data.a %}<mj-title>x</mj-title>{% endif %}"), Some("mjml")),
            (head("<mj-style>.a { color: {{ data.c }} }</mj-style>"), Some("unsafe_place")),
            (in_body("<mj-section background-url=\"{{ data.u }}\"></mj-section>"), Some("unsafe_place")),
            (in_body("<!-- {{ data.c }} -->"), Some("unsafe_place")),
            (body(loops), Some("mjml")),
        ];
        for (source, wanted) in cases {
            let fields = [("body".to_owned(), source.clone())].into();
            let found = compile(Channel::Email, &fields, &Budget::default()).err().unwrap_or_default();
            assert_eq!(found.first().map(|problem| problem.code), wanted, "{source}\n{found:?}");
        }
    }

    #[test]
    fn problems_after_the_conversion_point_into_the_mjml() {
        let fields = [("body".to_owned(), body("<mj-text>\n {{ name }}</mj-text>"))].into();
        let found = compile(Channel::Email, &fields, &Budget::default()).expect_err("there is no such name");
        assert_eq!((found[0].code, found[0].line, found[0].column), ("unknown_name", 3, 5));
    }

    #[test]
    fn what_is_no_mjml_or_liquid_is_explained_with_its_place() {
        let problem = html(&body("<mj-text>{{ data.x | upcas }}</mj-text>")).expect_err("no filter");
        assert_eq!((problem.code, problem.line, problem.column), ("liquid_syntax", 2, 54));
        let problem =
            html(&body("<mj-text>{{ data.x }}</mj-text><mj-txt></mj-txt>")).expect_err("no element");
        assert_eq!((problem.code, problem.line), ("mjml", 2), "{problem:?}");
        assert!(html("<mjml><mj-body>").is_err());
        let nested = |levels: usize| {
            body(&format!("<mj-text>{}{}</mj-text>", "<div>".repeat(levels), "</div>".repeat(levels)))
        };
        assert!(html(&nested(MOST_NESTING - 10)).is_ok());
        let wrapped =
            format!("<mjml><mj-body>{}{}</mj-body></mjml>", "<mj-raw>".repeat(60), "</mj-raw>".repeat(60));
        let _ = html(&wrapped);
        let deep = body(&("<mj-raw>".to_owned() + &"<div>".repeat(3_000) + "</mj-raw>"));
        assert!(html(&deep).expect_err("deep").message.contains("nested"));
    }
    #[test]
    fn no_spelling_of_depth_reaches_the_converter() {
        let deep = [
            ("<_>", "</_>"),
            ("<a b='/>'>", "</a>"),
            ("<a b=\"x>\">", "</a>"),
            ("<a:b>", "</a:b>"),
            ("<é>", "</é>"),
            ("<div>", ""),
            ("<mj-raw>", "</mj-raw>"),
            ("<p\n>", "</p>"),
            ("<BR>", "</BR>"),
            ("<!--[if mso]><i><![endif]-->", ""),
        ];
        for (open, close) in deep {
            let text = format!("<mj-text>{}x{}</mj-text>", open.repeat(2_000), close.repeat(2_000));
            let problem = html(&body(&text)).expect_err(open);
            assert!(problem.message.contains("nested"), "{open}: {problem:?}");
            // What is just below the limit is converted, or refused, without a deeper stack.
            let near = format!("<mj-text>{}x{}</mj-text>", open.repeat(58), close.repeat(58));
            let _ = html(&body(&near));
        }
    }

    #[test]
    fn a_comment_at_which_the_tokenizer_panics_is_a_problem() {
        for comment in ["<![endif`-->", "<!--[if mso]><p><![endif`-->"] {
            let found = html(&body(&format!("<mj-text>{comment}</mj-text>")));
            assert!(found.as_ref().is_err_and(|problem| problem.code == "mjml"), "{comment}: {found:?}");
        }
    }

    #[test]
    fn attributes_for_every_element_can_not_multiply() {
        let long = "x".repeat(20_000);
        let source = format!(
            "<mjml><mj-head><mj-attributes><mj-all css-class='{long}' /></mj-attributes></mj-head><mj-body>{}</mj-body></mjml>",
            "<mj-raw/>".repeat(3_000)
        );
        assert!(html(&source).expect_err("too much").message.contains("too long for so many"));
    }
}
