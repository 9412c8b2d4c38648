//! Each value is encoded once, for the place where it is printed, whatever it went through.

use serde_json::{Value, json};

use super::{codes, compiled, email, push, values};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;

fn data() -> Value {
    json!({"shop": "Tom & Jerry's", "note": "Ring twice\nthen wait", "code": "A B&C/1"})
}

/// An email's body with the values in it, computed by Herald alone.
fn body(source: &str) -> String {
    email(source)
        .render_inline(&data(), &Budget::default())
        .expect("it renders")
        .remove("body")
        .expect("a body")
}

#[test]
fn no_filter_or_capture_makes_a_value_be_encoded_twice() {
    let who = "{% capture who %}{{ data.shop }} team{% endcapture %}";
    let bold = "{% capture w %}<b>{{ data.shop }}</b>{% endcapture %}";
    for (source, wanted) in [
        ("{{ data.shop | escape }}", "Tom &amp; Jerry&#39;s"),
        ("{{ data.shop | escape | escape | upcase }}", "TOM &amp; JERRY&#39;S"),
        ("{{ data.note | newline_to_br }}", "Ring twice<br />\nthen wait"),
        ("{{ data.note | escape | newline_to_br | strip }}", "Ring twice<br />\nthen wait"),
        (&format!("{who}{{{{ who | strip }}}}"), "Tom &amp; Jerry&#39;s team"),
        (&format!("{who}{{{{ who | truncate: 16 }}}}"), "Tom &amp; Jerry&#39;s..."),
        (&format!("{who}{{{{ who | truncate: 5, '' }}}}"), "Tom &amp;"),
        (&format!("{who}{{{{ who | size }}}}"), "18"),
        (&format!("{who}{{{{ who | split: ' ' | last }}}}"), "team"),
        (
            &format!("{who}{{{{ who | split: ' ' | join: '-' | replace: '-', '/' }}}}"),
            "Tom/&amp;/Jerry&#39;s/team",
        ),
        (
            &format!("{who}{{{{ who | append: data.code | prepend: '<' }}}}"),
            "&lt;Tom &amp; Jerry&#39;s teamA B&amp;C/1",
        ),
        (&format!("{bold}{{{{ w | strip }}}}"), "<b>Tom &amp; Jerry&#39;s</b>"),
        (
            &format!("{bold}{{{{ w | replace: '<b>', '<i>' | replace: '</b>', '</i>' }}}}"),
            "<i>Tom &amp; Jerry&#39;s</i>",
        ),
        (&format!("{bold}{{{{ w | replace: 'Tom', data.code }}}}"), "<b>A B&amp;C/1 &amp; Jerry&#39;s</b>"),
        (&format!("{bold}{{{{ w | strip_html }}}}"), "Tom &amp; Jerry&#39;s"),
        (&format!("{bold}{{{{ w | escape }}}}"), "&lt;b&gt;Tom &amp; Jerry&#39;s&lt;/b&gt;"),
        (
            &format!("{bold}{{% capture x %}}{{{{ w | strip }}}}!{{% endcapture %}}{{{{ x | upcase }}}}"),
            "<B>TOM &amp; JERRY&#39;S</B>!",
        ),
        (&format!("{who}<p title=\"{{{{ who | strip }}}}\">"), "<p title=\"Tom &amp; Jerry&#39;s team\">"),
        (
            &format!("{bold}<p title=\"{{{{ w }}}}\">"),
            "<p title=\"&lt;b&gt;Tom &amp; Jerry&#39;s&lt;/b&gt;\">",
        ),
        (
            "<a href=\"https://s.example/t?c={{ data.code | url_encode }}\">",
            "<a href=\"https://s.example/t?c=A+B%26C%2F1\">",
        ),
        (
            "<a href=\"https://s.example/t?c={{ data.code | url_encode | replace: '+', '%20' }}\">",
            "<a href=\"https://s.example/t?c=A%20B%26C%2F1\">",
        ),
        (
            "<a href=\"https://s.example/{{ data.code | url_encode | append: data.shop }}\">",
            "<a href=\"https://s.example/A+B%26C%2F1Tom%20%26%20Jerry%27s\">",
        ),
        (
            "{% capture l %}<a href=\"https://s.example/{{ data.code }}\">{{ data.shop }}</a>{% endcapture %}{{ l | strip }}",
            "<a href=\"https://s.example/A%20B%26C%2F1\">Tom &amp; Jerry&#39;s</a>",
        ),
        (
            "{% capture q %}c={{ data.code }}&d=1{% endcapture %}<a href=\"https://s.example/?{{ q }}\">",
            "<a href=\"https://s.example/?c=A%20B%26C%2F1&d=1\">",
        ),
    ] {
        assert_eq!(body(source), wanted, "{source}");
    }
}

#[test]
fn a_value_that_a_filter_puts_into_a_tag_is_encoded_for_that_place() {
    let shown = |source: &str, x: &str| {
        let content = email(source);
        content.render_inline(&json!({"x": x}), &Budget::default()).map(|fields| fields["body"].clone())
    };
    let link = "{% capture l %}<a href=\"X\" title=\"Y\">Z</a>{% endcapture %}";
    let replaced = format!("{link}{{{{ l | replace: 'X', data.x }}}}");
    assert_eq!(
        shown(&replaced, "https://x.io/?a=1&b").unwrap(),
        "<a href=\"https://x.io/?a=1&amp;b\" title=\"Y\">Z</a>"
    );
    let titled = format!("{link}{{{{ l | split: 'Y' | join: data.x }}}}");
    assert_eq!(
        shown(&titled, "\" onclick=\"f").unwrap(),
        "<a href=\"X\" title=\"&quot; onclick=&quot;f\">Z</a>"
    );
    for source in [
        replaced.clone(),
        format!("{link}{{{{ l | split: 'X' | join: data.x }}}}"),
        format!("{link}{{{{ l | slice: 0, 9 | append: data.x }}}}"),
        format!("{link}{{{{ l | slice: 0, 9 }}}}{{{{ data.x }}}}"),
        format!("{link}{{{{ l | truncate: 26, data.x }}}}"),
        format!("{link}{{{{ l | replace: '<a ', data.x }}}}"),
        "{% capture l %}<p onclick=\"X\">{% endcapture %}{{ l | replace: 'X', data.x }}".to_owned(),
        "{% capture l %}<script>X</script>{% endcapture %}{{ l | replace: 'X', data.x }}".to_owned(),
    ] {
        let found = shown(&source, "javascript:alert(1)");
        let is_text = found.as_ref().is_ok_and(|html| html.contains("javascript:alert(1)href"));
        assert!(found.is_err() || is_text, "{source}: {found:?}");
    }
}

#[test]
fn a_value_that_is_encoded_for_a_link_is_not_encoded_again_whatever_filter_follows() {
    let wanted = "<a href=\"https://s.example/t?c=A+B%26C%2F1\">";
    for filters in ["url_encode", "url_encode | escape", "escape | url_encode", "url_encode | escape | strip"]
    {
        let source = format!("<a href=\"https://s.example/t?c={{{{ data.code | {filters} }}}}\">");
        assert_eq!(body(&source), wanted, "{filters}");
    }
}

#[test]
fn literals_are_encoded_once_too_and_url_encode_shows_its_result_outside_of_links() {
    assert_eq!(body("{{ 'a & b' | escape }}{{ data.shop | url_encode }}"), "a &amp; bTom+%26+Jerry%27s");
}

#[test]
fn plain_text_is_not_encoded_for_html_and_a_link_is_encoded_once() {
    let text =
        |source: &str| push(source).render_inline(&data(), &Budget::default()).unwrap()["contents"].clone();
    assert_eq!(text("{{ data.shop | escape }}"), "Tom & Jerry's");
    assert_eq!(
        text("{% capture c %}<{{ data.shop | escape }}>{% endcapture %}{{ c | strip }}"),
        "<Tom & Jerry's>"
    );
    let link = |source: &str| {
        let content = compiled(Channel::Push, &[("contents", "x"), ("url", source)]);
        content.render_inline(&data(), &Budget::default()).map(|fields| fields["url"].clone())
    };
    assert_eq!(
        link("https://s.example/t?c={{ data.code | url_encode }}").unwrap(),
        "https://s.example/t?c=A+B%26C%2F1"
    );
    assert_eq!(
        link("https://s.example/t?c={{ data.code | escape }}").unwrap(),
        "https://s.example/t?c=A%20B%26C%2F1"
    );
    let captured = "{% capture u %}https://s.example/{{ data.code }}?a=1{% endcapture %}{{ u | strip }}";
    assert_eq!(link(captured).unwrap(), "https://s.example/A%20B%26C%2F1?a=1");
    assert!(link("{% capture u %}javascript:{{ data.code }}{% endcapture %}{{ u }}").is_err());
}

#[test]
fn what_onesignal_completes_gets_its_values_encoded_part_by_part() {
    let content = email("{% assign v = data.note | newline_to_br %}{{ v | append: user.tags.x }}");
    assert_eq!(values(&content, &data()), Ok(json!({"a": "Ring twice<br />\nthen wait"})));
    let content = email("{% capture w %}<b>{{ data.shop }}</b>{% endcapture %}{{ w | append: user.tags.x }}");
    assert_eq!(values(&content, &data()), Ok(json!({"a": "<b>Tom &amp; Jerry&#39;s</b>"})));
}

#[test]
fn onesignal_is_not_left_to_cut_or_search_an_encoded_value() {
    for source in [
        "{{ data.shop | append: user.tags.x | truncate: 9 }}",
        "{{ user.tags.x | default: data.shop | replace: 'a', 'b' }}",
        "{% capture w %}{{ data.shop }}{{ user.tags.x }}{% endcapture %}{{ w | truncate: 16 }}",
        "{% assign g = 'x' %}{% if user.vip %}{% assign g = data.shop %}{% endif %}{% if g == 'Tom & Jerry' %}y{% endif %}",
    ] {
        assert_eq!(codes(Channel::Email, &[("body", source)]), ["encoded_text"], "{source}");
        push(source);
    }
    for source in [
        "{{ data.shop | truncate: 9 | append: user.tags.x }}",
        "{{ user.tags.x | truncate: 9 | append: data.shop }}",
        "{{ data.shop | append: user.tags.x | upcase | strip }}",
    ] {
        email(source);
    }
}

#[test]
fn every_alternative_of_a_case_that_fits_is_printed() {
    let long = "A sentence that is long enough to stay in the template. ";
    let source = format!(
        "{{% case data.code %}}{{% when 'x' %}}{long}1{{% when 'y', 'x' %}}{long}2{{% else %}}{long}3{{% endcase %}}"
    );
    let shown = |code: &str| {
        push(&source).render_inline(&json!({"code": code}), &Budget::default()).unwrap()["contents"].clone()
    };
    assert_eq!(shown("x"), format!("{long}1{long}2"));
    let content = push(&source);
    assert_eq!(
        values(&content, &json!({"code": "x"})),
        Ok(json!({"a": true, "b": false, "c": true, "d": false}))
    );
    assert_eq!(
        values(&content, &json!({"code": "z"})),
        Ok(json!({"a": false, "b": false, "c": false, "d": true}))
    );
}

#[test]
fn an_output_of_literals_is_computed_even_where_onesignal_lacks_the_filter() {
    let content = push("{{ 0.1 | times: 3 }} for {{ user.tags.name }}");
    assert_eq!(content.template_fields()["contents"], "0.3 for {{ user.tags.name }}");
    assert!(!content.needs_values());
}
