//! Properties of encoding: whatever filters and captures a value passes through, its reader sees the value.
//!
//! The HTML is read as a mail program reads it, links are taken apart as a browser does, and both are compared with what the
//! filters make of the plain value. The source text is never compared.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{CompiledContent, compile};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::template::Fields;
use crate::templating::preview::{Person, preview};

/// A filter, with what it makes of a text.
type Step = (&'static str, fn(&str, &str) -> String);

/// The second argument is another value of the event.
const STEPS: [Step; 18] = [
    ("upcase", |text, _| text.to_uppercase()),
    ("downcase", |text, _| text.chars().flat_map(char::to_lowercase).collect()),
    ("strip", |text, _| text.trim_matches(is_space).to_owned()),
    ("lstrip", |text, _| text.trim_start_matches(is_space).to_owned()),
    ("rstrip", |text, _| text.trim_end_matches(is_space).to_owned()),
    ("escape", |text, _| text.to_owned()),
    ("append: ' & <i>'", |text, _| format!("{text} & <i>")),
    ("append: data.b", |text, other| format!("{text}{other}")),
    ("prepend: data.b", |text, other| format!("{other}{text}")),
    ("truncate: 6", |text, _| cut(text, 6, "...")),
    ("truncate: 9, '&amp;'", |text, _| cut(text, 9, "&amp;")),
    ("slice: 1, 7", |text, _| text.chars().skip(1).take(7).collect()),
    ("replace: '&', 'and'", |text, _| text.replace('&', "and")),
    ("replace: 'a', data.b", |text, other| text.replace('a', &other.replace('\\', ""))),
    ("remove: ' '", |text, _| text.replace(' ', "")),
    ("replace_first: '<', '\"'", |text, _| text.replacen('<', "\"", 1)),
    ("split: '&' | join: '&amp;'", |text, _| {
        text.trim_end_matches('&').split('&').collect::<Vec<_>>().join("&amp;")
    }),
    ("default: 'nothing'", |text, _| text.to_owned()),
];

fn is_space(c: char) -> bool {
    matches!(c, '\0' | '\t'..='\r' | ' ')
}

fn cut(text: &str, max: usize, end: &str) -> String {
    if text.chars().count() <= max {
        return text.to_owned();
    }
    text.chars().take(max.saturating_sub(end.chars().count())).collect::<String>() + end
}

/// How the value reaches the filters: by itself, or within a captured text.
const WAYS: [(&str, &str, &str, &str); 4] = [
    ("", "data.a", "", ""),
    ("{% assign v = data.a %}", "v", "", ""),
    ("{% capture v %}{{ data.a }} team{% endcapture %}", "v", "", " team"),
    (
        "{% capture u %}-{{ data.a | escape }}{% endcapture %}{% capture v %}{{ u }}{% endcapture %}",
        "v",
        "-",
        "",
    ),
];

fn steps() -> impl Strategy<Value = Vec<usize>> {
    proptest::collection::vec(0..STEPS.len(), 0..5)
}

fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("Tom & Jerry's"),
        Just("<b>"),
        Just("</p>"),
        Just("\" x=\"y"),
        Just("&amp;"),
        Just("&lt;"),
        Just("{{ x }}"),
        Just("{% if %}"),
        Just("+"),
        Just("%2F"),
        Just("a"),
        Just(" "),
        Just("é🎉"),
        Just("?c=1&d=2#e"),
        Just("'"),
        Just("<script>alert(1)</script>"),
    ];
    (proptest::collection::vec(piece, 0..4), "[a-y]{2,4}")
        .prop_map(|(pieces, letters)| letters.clone() + &pieces.concat() + &letters)
}

/// The text between the tags and the values of attributes, as a reader of the HTML has them.
fn read_html(html: &str) -> (String, BTreeMap<String, String>) {
    let (mut text, mut attributes, mut rest) = (String::new(), BTreeMap::new(), html);
    while let Some((before, after)) = rest.split_once('<') {
        text.push_str(before);
        let mut end = 0;
        let mut quote = None;
        for (at, c) in after.char_indices() {
            end = at;
            match quote {
                None if c == '>' => break,
                None if c == '"' => quote = Some(at + 1),
                Some(from) if c == '"' => {
                    let name = after[..from - 2].rsplit(' ').next().unwrap_or_default();
                    attributes.insert(name.to_owned(), decoded(&after[from..at]));
                    quote = None;
                }
                None | Some(_) => {}
            }
        }
        if after.starts_with("br") {
            text.push('\n');
        }
        rest = &after[end + 1..];
    }
    text.push_str(rest);
    (decoded(&text), attributes)
}

fn decoded(text: &str) -> String {
    let (mut out, mut rest) = (String::new(), text);
    while let Some((before, after)) = rest.split_once('&') {
        out.push_str(before);
        let known = [("amp;", '&'), ("lt;", '<'), ("gt;", '>'), ("quot;", '"'), ("#39;", '\'')];
        let (c, length) = known
            .iter()
            .find(|(name, _)| after.starts_with(name))
            .map_or(('&', 0), |(name, c)| (*c, name.len()));
        out.push(c);
        rest = &after[length..];
    }
    out + rest
}

/// The field as OneSignal prints it and as Herald renders it inline; nothing if the event is held.
fn shown(channel: Channel, field: &str, source: &str, data: &Value) -> Option<[String; 2]> {
    let fields = Fields::from([(field.to_owned(), source.to_owned())]);
    let content: CompiledContent = compile(channel, &fields, &Budget::default())
        .unwrap_or_else(|problems| panic!("{source}\n{problems:?}"));
    let printed =
        preview(&content, data, &Person::default(), &Budget::default()).ok()?.fields.remove(field)?;
    let inline = content.render_inline(data, &Budget::default()).ok()?.remove(field)?;
    // What looks like Liquid is escaped so that OneSignal prints it.
    Some([printed, inline.replace("{{ \"{\" }}", "{")])
}

#[test]
fn the_laws_below_compare_something_for_each_filter_and_way() {
    let data = json!({"a": "Tom & <b>", "b": "x"});
    for (before, name, ..) in WAYS {
        for (filter, _) in STEPS {
            let output = format!("{{{{ {name} | {filter} }}}}");
            for (channel, field, source) in [
                (Channel::Email, "body", format!("{before}<p title=\"{output}\">{output}</p>")),
                (Channel::Push, "contents", format!("{before}{output}")),
                (Channel::Push, "url", format!("{before}https://x.io/?c={output}")),
            ] {
                assert!(shown(channel, field, &source, &data).is_some(), "{source}");
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_reads_what_the_filters_make_of_the_value(
        steps in steps(), way in 0..WAYS.len(), a in hostile(), b in hostile(),
    ) {
        let (before, name, left, right) = WAYS[way];
        let data = json!({"a": a, "b": b});
        let filters = steps.iter().map(|step| [" | ", STEPS[*step].0].concat()).collect::<Vec<_>>().concat();
        let wanted = steps.iter().fold(format!("{left}{a}{right}"), |text, step| STEPS[*step].1(&text, &b));
        let output = format!("{{{{ {name}{filters} }}}}");
        let html = format!("{before}<p title=\"{output}\">[{output}]</p><a href=\"https://x.io/?c={output}&d=1\">");
        if let Some(shown) = shown(Channel::Email, "body", &html, &data) {
            for html in shown {
                let (text, attributes) = read_html(&html);
                prop_assert_eq!(&text, &format!("[{wanted}]"), "{}", html);
                prop_assert_eq!(&attributes["title"], &wanted, "{}", html);
                let link = url::Url::parse(&attributes["href"]).expect("a link");
                let pairs: Vec<_> = link.query_pairs().into_owned().collect();
                prop_assert_eq!(&pairs, &[("c".to_owned(), wanted.clone()), ("d".to_owned(), "1".to_owned())], "{}", html);
            }
        }
        if let Some(shown) = shown(Channel::Push, "contents", &format!("{before}[{output}]"), &data) {
            prop_assert_eq!(shown, [format!("[{wanted}]"), format!("[{wanted}]")]);
        }
        for encoding in ["", " | url_encode", " | url_encode | replace: '+', '%20'"] {
            let url = format!("{before}https://x.io/?c={{{{ {name}{filters}{encoding} }}}}&d=1");
            if let Some(shown) = shown(Channel::Push, "url", &url, &data) {
                for link in shown {
                    let link = url::Url::parse(&link).expect("a link");
                    let pairs: Vec<_> = link.query_pairs().into_owned().collect();
                    prop_assert_eq!(&pairs, &[("c".to_owned(), wanted.clone()), ("d".to_owned(), "1".to_owned())], "{}", link);
                }
            }
        }
    }

    #[test]
    fn captured_markup_stays_markup_and_its_values_stay_text(a in hostile(), b in hostile(), step in 0..6_usize) {
        // These leave the tags of a captured text as they are.
        let filter = ["strip", "append: data.b", "prepend: data.b", "replace: 'zzzz', '<u>'", "split: 'zzzz' | join: 'y'", "newline_to_br"][step];
        let data = json!({"a": a, "b": b});
        let source = format!(
            "{{% capture w %}}<b title=\"{{{{ data.a }}}}\">{{{{ data.a }}}}</b>{{% endcapture %}}{{{{ w | {filter} }}}}"
        );
        if let Some(shown) = shown(Channel::Email, "body", &source, &data) {
            let wanted = match step { 1 => format!("{a}{b}"), 2 => format!("{b}{a}"), _ => a.clone() };
            for html in shown {
                let (text, attributes) = read_html(&html);
                prop_assert!(html.contains("<b title=") && html.contains("</b>"), "{html}");
                prop_assert_eq!((&text, &attributes["title"]), (&wanted, &a), "{}", html);
            }
        }
    }
}
