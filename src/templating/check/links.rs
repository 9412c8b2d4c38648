//! Where links and images lead, as far as the copy itself shows.

use url::Url;

use super::{Finding, Severity};
use crate::domain::channel::Channel;
use crate::domain::template::{FieldKind, FieldSpec};
use crate::templating::liquid::Template;
use crate::templating::liquid::ast::Node;
use crate::templating::liquid::position::line_and_column;

/// Stands for what an event fills in.
const FILLED: char = '\u{fffc}';
/// Schemes that run something, or lead to nothing of use for the reader.
const HARMFUL: [&str; 4] = ["javascript", "data", "file", "vbscript"];

/// What a link is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Use {
    /// Opened by a tap.
    Opened,
    /// Loaded as an image.
    Loaded,
}

/// What is wrong with the links of a field.
pub fn check(channel: Channel, spec: &FieldSpec, template: &Template) -> Vec<Finding> {
    let mut text = Vec::new();
    flatten(template.source(), template.nodes(), &mut text);
    match spec.kind {
        FieldKind::Link => {
            let used = if spec.name == "url" { Use::Opened } else { Use::Loaded };
            let link: String = text.iter().map(|(c, _)| *c).collect();
            let leading = link.len() - link.trim_start().len();
            let at = text.get(link[..leading].chars().count()).map_or(0, |(_, at)| *at);
            judge(channel, link.trim(), used)
                .map(|verdict| verdict.at(spec, template, at))
                .into_iter()
                .collect()
        }
        FieldKind::Html => {
            let found = attributes(&text).into_iter().filter_map(|(link, used, at)| {
                judge(channel, link.trim(), used).map(|verdict| verdict.at(spec, template, at))
            });
            found.collect()
        }
        FieldKind::Text | FieldKind::Line | FieldKind::Fixed => Vec::new(),
    }
}

/// The text with the places of its characters; of branches the first one, and every output filled in.
fn flatten(source: &str, nodes: &[Node], text: &mut Vec<(char, usize)>) {
    for node in nodes {
        match node {
            Node::Text(span) => {
                text.extend(span.of(source).char_indices().map(|(at, c)| (c, span.start + at)));
            }
            Node::Output(output) => text.push((FILLED, output.span.start)),
            Node::If(node) => {
                // Every branch is read, so that no link in it is passed over.
                let bodies = node.branches.iter().map(|branch| &branch.body).chain(&node.otherwise);
                bodies.for_each(|body| flatten(source, body, text));
            }
            Node::Case(node) => {
                let bodies = node.whens.iter().map(|when| &when.body).chain(&node.otherwise);
                bodies.for_each(|body| flatten(source, body, text));
            }
            Node::For(node) => flatten(source, &node.body, text),
            Node::Capture(_) | Node::Assign(_) | Node::Break | Node::Continue => {}
        }
    }
}

struct Verdict {
    code: &'static str,
    severity: Severity,
    message: String,
    hint: &'static str,
}

impl Verdict {
    fn at(self, spec: &FieldSpec, template: &Template, at: usize) -> Finding {
        let finding = Finding::new(self.code, self.severity, self.message).hint(self.hint);
        finding.in_field(spec.name, line_and_column(template.source(), at))
    }
}

fn judge(channel: Channel, link: &str, used: Use) -> Option<Verdict> {
    // A value that begins a link is checked when the event is known.
    if link.is_empty() || link.starts_with(FILLED) {
        return None;
    }
    if channel == Channel::Email && used == Use::Opened && link.starts_with('#') {
        return None;
    }
    let shown = link.replace(FILLED, "…");
    let bad =
        |message: String, hint| Some(Verdict { code: "bad_link", severity: Severity::Error, message, hint });
    let Ok(url) = Url::parse(&link.replace(FILLED, "x")) else {
        return bad(format!("`{shown}` is not a link"), "write the full URL: `https://…`");
    };
    let scheme = url.scheme();
    let is_web = matches!(scheme, "http" | "https");
    if HARMFUL.contains(&scheme) {
        return bad(format!("a link must not begin with `{scheme}:`"), "write the full URL: `https://…`");
    }
    if used == Use::Loaded && !is_web {
        return bad(format!("`{shown}` can't be loaded as an image"), "host the image at an `https://…` URL");
    }
    if used == Use::Loaded && scheme == "http" {
        // The message is sent and can be read anyway, so it is not an error.
        return Some(Verdict {
            code: "insecure_image",
            severity: Severity::Warning,
            message: format!(
                "iPhones and many mail clients do not load `{shown}` because it is not encrypted"
            ),
            hint: "use `https://…`",
        });
    }
    None
}

/// The values of `href` and `src` in HTML, with where each begins.
fn attributes(text: &[(char, usize)]) -> Vec<(String, Use, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < text.len() {
        if text[at].0 != '<' || !text.get(at + 1).is_some_and(|(c, _)| c.is_ascii_alphabetic()) {
            at += 1;
            continue;
        }
        at += 1;
        let (tag, end) = word(text, at);
        at = read_tag(text, end, &tag, &mut found);
    }
    found
}

/// Reads a tag from after its name; returns where it ends.
fn read_tag(
    text: &[(char, usize)],
    mut at: usize,
    tag: &str,
    found: &mut Vec<(String, Use, usize)>,
) -> usize {
    while let Some((c, _)) = text.get(at) {
        match c {
            '>' => return at + 1,
            c if c.is_ascii_whitespace() || *c == '/' => at += 1,
            _ => {
                let (name, end) = word(text, at);
                // Whatever is not a name, such as a stray quote, is skipped.
                at = end.max(at + 1);
                let Some((value, start, end)) = value(text, at) else { continue };
                at = end;
                let used = match (tag, name.as_str()) {
                    ("a" | "area" | "mj-button" | "mj-navbar-link" | "mj-social-element", "href") => {
                        Use::Opened
                    }
                    ("img" | "mj-image", "src") => Use::Loaded,
                    _ => continue,
                };
                found.push((value, used, start));
            }
        }
    }
    at
}

fn word(text: &[(char, usize)], at: usize) -> (String, usize) {
    let word: String = text[at..]
        .iter()
        .map(|(c, _)| c.to_ascii_lowercase())
        .take_while(|c| !c.is_ascii_whitespace() && !"=>/\"'".contains(*c))
        .collect();
    let end = at + word.chars().count();
    (word, end)
}

/// The value of an attribute, where it begins in the source, and where it ends in `text`.
fn value(text: &[(char, usize)], at: usize) -> Option<(String, usize, usize)> {
    let skip = |mut at: usize| {
        while text.get(at).is_some_and(|(c, _)| c.is_ascii_whitespace()) {
            at += 1;
        }
        at
    };
    let at = skip(at);
    if text.get(at)?.0 != '=' {
        return None;
    }
    let at = skip(at + 1);
    let quote = text.get(at).map(|(c, _)| *c).filter(|c| matches!(c, '"' | '\''));
    let start = at + usize::from(quote.is_some());
    let ends = |c: char| quote.map_or(c.is_ascii_whitespace() || c == '>', |quote| c == quote);
    let length = text[start..].iter().take_while(|(c, _)| !ends(*c)).count();
    let value = text[start..start + length].iter().map(|(c, _)| *c).collect();
    let place = text.get(start).map_or(0, |(_, at)| *at);
    Some((value, place, start + length + usize::from(quote.is_some())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::template::fields_of;

    fn codes(channel: Channel, field: &str, source: &str) -> Vec<&'static str> {
        let spec = fields_of(channel).iter().find(|spec| spec.name == field).expect("a field");
        let template =
            Template::parse(source, &crate::domain::budget::Budget::default()).expect("it is Liquid");
        check(channel, spec, &template).into_iter().map(|finding| finding.code).collect()
    }

    #[test]
    fn a_push_may_lead_into_an_app_but_not_run_a_script() {
        for url in [
            "https://x.io/{{ data.a }}",
            "shop://orders/{{ data.a }}",
            "{{ data.url }}",
            " https://x.io ",
            "tel:1",
        ] {
            assert!(codes(Channel::Push, "url", url).is_empty(), "{url}");
        }
        for url in ["javascript:x", "x.io/a", "/orders", "file:///etc", "https://", "vbscript:x", "DATA:x"] {
            assert_eq!(codes(Channel::Push, "url", url), ["bad_link"], "{url}");
        }
        assert_eq!(codes(Channel::Push, "big_picture", "http://x.io/a.png"), ["insecure_image"]);
        assert_eq!(codes(Channel::Push, "big_picture", "shop://a.png"), ["bad_link"]);
    }

    #[test]
    fn links_and_images_in_html_are_looked_at() {
        for body in [
            "<a href=\"https://x.io/?a={{ data.a }}&b=1\">",
            "<a href='{{ data.url }}'>",
            "<a name=x href=mailto:a@b.c>",
            "<a href='#top'>a < b",
            "<p title='href=javascript:x'>",
            "<img alt=\"\" src=\"https://x.io/a.png\"/>",
            "<link href=\"x.css\">",
            "<a {% if data.a %}href='https://x.io'{% endif %}>",
        ] {
            assert!(codes(Channel::Email, "body", body).is_empty(), "{body}");
        }
        for body in [
            "<A HREF=\"javascript:x\">",
            "<p><a class='b' href = 'www.x.io'>",
            "<img src='cid:1'>",
            "<img src='data:image/png;base64,AA'>",
            "{% if data.a %}<a href='x'>{% else %}<b>{% endif %}",
            "{% for i in data.l %}<a href='/{{ i }}'>{% endfor %}",
            "<mjml><mj-body><mj-button href=\"x\">{{ data.a }}</mj-button>",
        ] {
            assert_eq!(codes(Channel::Email, "body", body), ["bad_link"], "{body}");
        }
        assert_eq!(codes(Channel::Email, "body", "<img src=\"http://x.io/a.png\">"), ["insecure_image"]);
    }
}
