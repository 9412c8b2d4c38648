//! What becomes of MJML, and what is refused.

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
    let problem = html(&body("<mj-image src=\"https://x.io\" width=\"{{ data.w }}\" />")).expect_err("lost");
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
fn mjml_is_converted_whatever_stands_before_it() {
    let mjml = body("<mj-text>Hi {{ data.name }}</mj-text>");
    for before in [
        "{% assign shop = 'x' %}\n",
        "{% comment %} spring {% endcomment %}",
        "<!-- spring -->\n",
        "<!doctype mjml>\n",
        "<?xml version=\"1.0\"?>\n",
        "\u{feff}",
        "  \n",
        "<!-- <mjml> -->{% capture a %}{{ data.name }}{% endcapture %}",
        "{% if data.vip %}{% endif %}",
    ] {
        let fields = [("body".to_owned(), format!("{before}{mjml}\n<!-- end -->\n"))].into();
        let content = compile(Channel::Email, &fields, &Budget::default());
        let content = content.unwrap_or_else(|problems| panic!("{before}: {problems:?}"));
        let html = &content.template_fields()["body"];
        assert!(html.contains("<!doctype html>") && !html.contains("<mj"), "{before}: {html}");
    }
    let capitals = mjml.replace("mjml", "MJML").replace("mj-", "Mj-");
    assert!(html(&capitals).is_ok_and(|html| !html.to_lowercase().contains("<mj")), "capitals");
    let chosen = format!("{{% if data.vip %}}{mjml}{{% endif %}}");
    assert!(
        html(&chosen)
            .is_ok_and(|html| html.starts_with("{% if data.vip %}") && html.ends_with("{% endif %}"))
    );
}

#[test]
fn what_stands_beside_the_mjml_is_a_problem() {
    let mjml = body("<mj-text>Hi</mj-text>");
    for source in
        [format!("Hi {mjml}"), format!("<html>{mjml}</html>"), format!("{mjml}<p>"), format!("{mjml}{mjml}")]
    {
        assert_eq!(html(&source).expect_err(&source).code, "mjml");
    }
    assert!(
        html(&body("<mj-text>a</mj-text><!-- <mj-text>old</mj-text> -->")).is_ok(),
        "a comment is no element"
    );
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
    let problem = html(&body("<mj-text>{{ data.x }}</mj-text><mj-txt></mj-txt>")).expect_err("no element");
    assert_eq!((problem.code, problem.line), ("mjml", 2), "{problem:?}");
    assert!(html("<mjml><mj-body>").is_err());
    let nested = |levels: usize| {
        body(&format!("<mj-text>{}{}</mj-text>", "<div>".repeat(levels), "</div>".repeat(levels)))
    };
    assert!(html(&nested(MAX_NESTING - 10)).is_ok());
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
