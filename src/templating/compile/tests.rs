//! What the compiler makes of what authors write.

mod blanks;
mod encoding;

use serde_json::{Value, json};

use super::{CompiledContent, LOOKUP, Problem, ValueError, compile};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;
use crate::domain::template::Fields;

fn fields(fields: &[(&str, &str)]) -> Fields {
    fields.iter().map(|(name, text)| ((*name).to_owned(), (*text).to_owned())).collect()
}

fn compiled(channel: Channel, given: &[(&str, &str)]) -> CompiledContent {
    compile(channel, &fields(given), &Budget::default()).expect("it compiles")
}

fn push(contents: &str) -> CompiledContent {
    compiled(Channel::Push, &[("contents", contents)])
}

fn email(body: &str) -> CompiledContent {
    compiled(Channel::Email, &[("body", body)])
}

/// The compiled main field, without the look-up.
fn text(content: &CompiledContent) -> &str {
    let field = content.template_fields().values().next().expect("there is a field");
    field.strip_prefix(LOOKUP).unwrap_or(field)
}

fn values(content: &CompiledContent, data: &Value) -> Result<Value, ValueError> {
    content.values(data, &Budget::default()).map(Value::Object)
}

fn problems(channel: Channel, given: &[(&str, &str)]) -> Vec<Problem> {
    compile(channel, &fields(given), &Budget::default()).expect_err("it has problems")
}

fn codes(channel: Channel, given: &[(&str, &str)]) -> Vec<&'static str> {
    problems(channel, given).into_iter().map(|problem| problem.code).collect()
}

#[test]
fn an_output_of_the_event_becomes_a_slot_and_the_text_stays() {
    let content = push("Order {{ data.order_id | upcase }} left.");
    let wanted = format!("{LOOKUP}Order {{{{ herald.a }}}} left.");
    assert_eq!(content.template_fields()["contents"], wanted);
    assert_eq!(values(&content, &json!({"order_id": "a-1", "unused": "x"})), Ok(json!({"a": "A-1"})));
    assert!(content.needs_values() && !content.reads_provider());
}

#[test]
fn a_field_without_event_values_stays_as_it_was_written() {
    let source =
        "Hi {{- user.tags.name | default: 'you' }}, {% raw %}{{{% endraw %}{% if app.name %}!{% endif %}";
    let content = push(source);
    assert_eq!(content.template_fields()["contents"], source);
    assert!(!content.needs_values() && content.reads_provider());
    assert_eq!(values(&content, &json!({})), Ok(json!({})));
}

#[test]
fn fields_that_templates_cannot_hold_travel_with_the_call_and_share_slots() {
    let content = compiled(
        Channel::Push,
        &[
            ("contents", "{{ data.id }}"),
            ("headings", "{{ data.id }}"),
            ("subtitle", "{{data.id}}"),
            ("url", "https://x.io/{{ data.id }}"),
        ],
    );
    assert_eq!(content.call_fields()["url"], format!("{LOOKUP}https://x.io/{{{{ herald.c }}}}"));
    assert_eq!(content.template_fields()["headings"], content.template_fields()["subtitle"]);
    let wanted = json!({"a": "1/2\n3", "b": "1/2 3", "c": "1%2F2%0A3"});
    assert_eq!(values(&content, &json!({"id": "1/2\n3"})), Ok(wanted));
}

#[test]
fn a_short_block_is_one_slot_and_so_is_a_loop_in_a_push() {
    let content = push(
        "{% if data.vip %}VIP {{ data.name }}{% endif %}: {% for i in data.items %}{{ i.n }};{% endfor %}",
    );
    assert_eq!(text(&content), "{{ herald.a }}: {{ herald.b }}");
    let data = json!({"vip": true, "name": "Ann", "items": [{"n": 1}, {"n": 2}]});
    assert_eq!(values(&content, &data), Ok(json!({"a": "VIP Ann", "b": "1;2;"})));
}

#[test]
fn long_text_stays_in_the_template_and_the_choice_travels() {
    let content = push(
        "{% if data.paid %}Thank you, we received the payment in full. {{ data.sum }}{% else %}Please pay {{ data.due }}.{% endif %}",
    );
    let wanted = "{% if herald.a %}Thank you, we received the payment in full. {{ herald.b }}{% else %}Please pay {{ herald.c }}.{% endif %}";
    assert_eq!(text(&content), wanted);
    assert_eq!(
        values(&content, &json!({"paid": true, "sum": 5})),
        Ok(json!({"a": true, "b": "5"})),
        "the other branch needs nothing"
    );
    assert_eq!(values(&content, &json!({"due": 7})), Ok(json!({"a": false, "c": "7"})));
}

#[test]
fn a_choice_of_several_travels_as_a_number() {
    let content = push(
        "{% case data.state %}{% when 'a', 'b' %}It has been packed by our people{% when 'c' %}It has been shipped{% endcase %}",
    );
    assert_eq!(
        text(&content),
        "{% if herald.a == 1 %}It has been packed by our people{% elsif herald.a == 2 %}It has been shipped{% endif %}"
    );
    assert_eq!(values(&content, &json!({"state": "b"})), Ok(json!({"a": 1})));
    let none = ValueError::Blank { field: "contents".into() };
    assert_eq!(values(&content, &json!({"state": "x"})), Err(none));
}

#[test]
fn a_condition_of_the_event_around_what_onesignal_knows_becomes_true_or_false() {
    let content = push(
        "{% if data.vip and user.tags.x == '1' %}{{ user.tags.name }}{% endif %}{% unless data.n > 3 %}{{ app.name }}{% endunless %}",
    );
    let wanted = "{% if herald.a and user.tags.x == \"1\" %}{{ user.tags.name }}{% endif %}{% if herald.b %}{{ app.name }}{% endif %}";
    assert_eq!(text(&content), wanted);
    assert_eq!(values(&content, &json!({"n": 5})), Ok(json!({"a": false, "b": false})));
}

#[test]
fn a_mixed_expression_stays_liquid_with_the_event_value_beside_it() {
    let content = push(
        "{{ user.tags.name | default: data.name }} {{ data.title | upcase | append: user.tags.name | truncate: 9 }}",
    );
    assert_eq!(
        text(&content),
        "{{ user.tags.name | default: herald.a }} {{ herald.b | append: user.tags.name | truncate: 9 }}"
    );
    assert_eq!(values(&content, &json!({"name": "you", "title": "dr"})), Ok(json!({"a": "you", "b": "DR"})));
}

#[test]
fn variables_are_herald_s_unless_onesignal_decides_about_them() {
    let content = push("{% assign n = data.name | upcase %}{{ n }}");
    assert_eq!(
        (text(&content), values(&content, &json!({"name": "x"}))),
        ("{{ herald.a }}", Ok(json!({"a": "X"})))
    );
    let content =
        push("{% assign g = 'Hi' %}{% if user.tags.vip %}{% assign g = data.greeting %}{% endif %}{{ g }}");
    assert_eq!(
        text(&content),
        "{% assign g = \"Hi\" %}{% if user.tags.vip %}{% assign g = herald.a %}{% endif %}{{ g }}"
    );
    assert_eq!(values(&content, &json!({"greeting": "Dear"})), Ok(json!({"a": "Dear"})));
}

#[test]
fn a_loop_in_an_email_that_needs_onesignal_gets_an_entry_per_element() {
    let content =
        email("{% for i in data.items limit:2 %}<b>{{ i.name | upcase }}</b>{{ user.tags.x }}{% endfor %}");
    assert_eq!(text(&content), "{% for i in herald.a %}<b>{{ i.a }}</b>{{ user.tags.x }}{% endfor %}");
    let data = json!({"items": [{"name": "a&b", "secret": 1}, {"name": "c"}, {"name": "d"}]});
    assert_eq!(values(&content, &data), Ok(json!({"a": [{"a": "A&amp;B"}, {"a": "C"}]})));
}

#[test]
fn a_list_that_onesignal_filters_travels_with_what_is_looked_at() {
    let source = "{% assign mine = data.items | where: 'kind', user.tags.kind %}{% for i in mine %}{{ i.name }}{% endfor %}";
    let content = email(source);
    let wanted = "{% assign mine = herald.a | where: \"kind\", user.tags.kind %}{% for i in mine %}{{ i.name }}{% endfor %}";
    assert_eq!(text(&content), wanted);
    let data = json!({"items": [{"name": "<T>", "kind": "d", "secret": "s"}]});
    assert_eq!(values(&content, &data), Ok(json!({"a": [{"name": "&lt;T&gt;", "kind": "d"}]})));
    let missing = ValueError::Missing { path: "data.items[].name".into(), field: "body".into() };
    assert_eq!(values(&content, &json!({"items": [{"kind": "d"}]})), Err(missing));
}

#[test]
fn values_in_html_are_escaped_for_their_place() {
    let content = email(
        r#"<a href="https://x.io/?q={{ data.q }}" title='{{ data.q }}' style="width: {{ data.w }}">{{ data.q }}</a><a href="{{ data.link }}">"#,
    );
    let data = json!({"q": "<a&'\">", "w": "3%", "link": "https://y.io/?a=1&b=2"});
    let wanted = json!({"a": "%3Ca%26%27%22%3E", "b": "&lt;a&amp;&#39;&quot;&gt;", "c": "3%", "d": "&lt;a&amp;&#39;&quot;&gt;", "e": "https://y.io/?a=1&amp;b=2"});
    assert_eq!(values(&content, &data), Ok(wanted));
    for link in [
        "javascript:alert(1)",
        "JaVaScRiPt:x",
        "//evil.io",
        "data:text/html,x",
        "https:/x",
        " https://x.io",
        "x",
        "https://x.io/\" onclick=\"",
        "http://",
    ] {
        let error =
            content.values(&json!({"q": "q", "w": "1", "link": link}), &Budget::default()).expect_err(link);
        assert!(matches!(&error, ValueError::Unsafe { field, .. } if field == "body"), "{link}: {error}");
        assert!(!error.to_string().contains("evil"), "{error}");
    }
    let error = values(&content, &json!({"q": "q", "w": "1;background:url(x)", "link": "https://y.io"}));
    assert!(matches!(error, Err(ValueError::Unsafe { .. })));
}

#[test]
fn a_value_where_html_cannot_be_made_safe_is_a_problem() {
    let unsafe_bodies = [
        "<script>var x = '{{ data.x }}'</script>",
        "<style>a { color: {{ data.x }} }</style>",
        "<a href={{ data.x }}>",
        "<p {{ data.x }}>",
        "<p onclick=\"f('{{ data.x }}')\">",
        "<{{ data.x }}>",
        "<p{{ data.x }}>",
        "<!-- {{ data.x }} -->",
        "<iframe srcdoc=\"{{ data.x }}\">",
        "{% if data.a %}<a href=\"{% endif %}{{ data.x }}\">",
        "{% for i in data.l %}{{ i }}<a href=\"{% endfor %}",
        "<SCRIPT >{{ data.x }}</SCRIPT>",
        "{% capture c %}<a href=\"{% endcapture %}{{ c }}{{ data.x }}",
        "<script>{% for i in data.l %}{{ i }}{% endfor %}</script>",
        "{% for i in data.l %}<a href=\"{% if i.x %}{% break %}{% endif %}\">{{ i.y }}{% endfor %}",
        "<meta content=\"0;{{ data.x }}\">",
        "{% assign g = data.x %}{% if user.y %}{% assign g = data.z %}{% endif %}<a href=\"{{ g }}\">",
    ];
    for body in unsafe_bodies {
        assert!(codes(Channel::Email, &[("body", body)]).contains(&"unsafe_place"), "{body}");
    }
    let safe_bodies = [
        "<script>x</script>{{ data.x }}",
        "<p class=\"{% if data.a %}a{% else %}b{% endif %}\">{{ data.x }}",
        "a < b {{ data.x }}",
        "<!-- x --><br/>{{ data.x }}",
        "<p a=b c>{{ data.x }}",
        "{% if data.a %}<b>{% else %}<i>{% endif %}{{ data.x }}",
        "<script>{{ app.name }}{{ 'x' }}</script>{{ data.x }}",
        "<!doctype html><p>{{ data.x }}",
    ];
    for body in safe_bodies {
        assert!(
            compile(Channel::Email, &fields(&[("body", body)]), &Budget::default()).is_ok(),
            "{body}: {:?}",
            compile(Channel::Email, &fields(&[("body", body)]), &Budget::default())
        );
    }
}

#[test]
fn captured_html_stays_html_and_its_values_are_escaped_once() {
    let content = email("{% capture c %}<b>{{ data.x }}</b>{% endcapture %}{{ c }}");
    assert_eq!(values(&content, &json!({"x": "a&b"})), Ok(json!({"a": "<b>a&amp;b</b>"})));
}

#[test]
fn a_link_field_escapes_parts_and_checks_beginnings() {
    let content =
        compiled(Channel::Push, &[("contents", "x"), ("url", "{{ data.base }}/o?id={{ data.id }}")]);
    let data = json!({"base": "https://shop.io", "id": "a b&c=ü"});
    assert_eq!(values(&content, &data), Ok(json!({"a": "https://shop.io", "b": "a%20b%26c%3D%C3%BC"})));
    assert!(matches!(
        values(&content, &json!({"base": "javascript:x", "id": 1})),
        Err(ValueError::Unsafe { .. })
    ));
}

#[test]
fn problems_say_where_and_what_to_do() {
    let found = problems(Channel::Push, &[("contents", "Hi\n {{ order_id }}")]);
    let wanted = Problem {
        code: "unknown_name",
        field: "contents".into(),
        line: 2,
        column: 5,
        message: "there is no `order_id`".into(),
        hint: Some("copy reads `data` (the event's values) and `user` (the person)".into()),
    };
    assert_eq!(found, [wanted]);
    assert_eq!(codes(Channel::Push, &[("contents", "{{ data.x | upcas }}")]), ["liquid_syntax"]);
    assert_eq!(codes(Channel::Push, &[("contents", "x"), ("small_icon", "{{ data.x }}")]), ["fixed_field"]);
    assert_eq!(codes(Channel::Push, &[("contents", "x"), ("body", "x")]), ["unknown_field"]);
    assert_eq!(codes(Channel::Push, &[("contents", "{{ message.custom_data.x }}")]), ["unknown_name"]);
    assert_eq!(codes(Channel::Push, &[("contents", "{% assign data = 1 %}{{ data.x }}")]), ["reserved_name"]);
    assert_eq!(
        codes(Channel::Push, &[("contents", "{% for i in data.l %}{{ i }}{{ user.tags.x }}{% endfor %}")]),
        ["loop_in_push"]
    );
    assert_eq!(
        codes(Channel::Push, &[("contents", "{% for i in user.l %}{{ i }}{% endfor %}")]),
        ["loop_in_push"]
    );
    assert_eq!(
        codes(Channel::Push, &[("contents", "{{ user.tags.x | times: data.n }}")]),
        ["filter_unavailable"]
    );
    assert_eq!(codes(Channel::Push, &[("contents", "{{ user.tags.x | escape }}")]), ["filter_unavailable"]);
}

#[test]
fn inline_text_prints_what_looks_like_liquid_as_it_is() {
    let content = push("{% raw %}{{ x }}{% endraw %} {{ data.x }}{");
    let rendered = content
        .render_inline(&json!({"x": "{{ user.email }}{% if %}{"}), &Budget::default())
        .expect("it renders");
    let template = crate::templating::liquid::Template::parse(&rendered["contents"], &Budget::default())
        .expect("it is Liquid");
    let printed = template
        .render(&[], crate::templating::liquid::Strictness::Lenient, &Budget::default())
        .expect("it renders");
    assert_eq!(printed.text, "{{ x }} {{ user.email }}{% if %}{{");
}

#[test]
fn what_reads_onesignal_cannot_be_rendered_inline() {
    let error =
        push("{{ user.tags.x }}").render_inline(&json!({}), &Budget::default()).expect_err("it can't");
    assert!(matches!(error, ValueError::Unsafe { .. }));
}

#[test]
fn a_template_that_exceeds_a_limit_is_reported() {
    let doubling =
        "{% assign x = data.x %}".to_owned() + &"{% assign x = x | append: x %}".repeat(30) + "{{ x }}";
    let error = push(&doubling)
        .values(&json!({"x": "abcdefgh"}), &Budget::default())
        .expect_err("it doubles too often");
    assert!(matches!(error, ValueError::Limit { .. }), "{error}");
}

#[test]
fn fifty_levels_are_compiled_on_a_small_stack() {
    let work = || {
        for (open, close) in [
            ("{% if user.a %}{{ data.x }}", "{% endif %}"),
            ("{% for i in data.l %}{{ user.a }}", "{% endfor %}"),
            ("{% capture c %}{{ user.a }}", "{% endcapture %}{{ c }}"),
        ] {
            let source = open.repeat(50) + "{{ data.x }}" + &close.repeat(50);
            let content = email(&source);
            content.values(&json!({"x": "x", "l": [1]}), &Budget::default()).expect("it has values");
        }
    };
    let thread =
        std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).expect("a thread starts");
    thread.join().expect("the stack is big enough");
}

#[test]
fn names_that_are_made_of_each_other_do_not_run_away() {
    let doubling = "{% assign x = x.a | default: x.b %}".repeat(1_500) + "{{ data.y }}";
    let branching = "{% if data.y %}{% assign x = x.a %}{% endif %}".repeat(1_000) + "{{ data.y }}";
    let chained: String =
        (0..1_500).rev().map(|n| format!("{{% assign v{n} = v{} %}}", n + 1)).collect::<Vec<_>>().concat();
    for source in [doubling, branching, chained + "{{ data.y }}{{ user.x }}"] {
        let _ = compile(Channel::Email, &fields(&[("body", &source)]), &Budget::default());
    }
}

#[test]
fn no_roundabout_way_to_the_event_goes_unnoticed() {
    let long = format!("{{% assign x = data.{} %}}{{{{ x }}}}", "k".repeat(600));
    let many: String = (0..20)
        .map(|n| format!("{{% if user.a %}}{{% assign x = user.v{n} %}}{{% endif %}}"))
        .collect::<Vec<_>>()
        .concat();
    for source in [
        long,
        many + "{% if user.a %}{% assign x = data.y %}{% endif %}{{ x }}",
        "{{ user.tags[data.k] }}".to_owned(),
    ] {
        assert!(push(&source).needs_values(), "{source:.60}");
    }
}

#[test]
fn a_link_to_be_tracked_is_left_to_onesignal() {
    let content = compiled(Channel::Sms, &[("contents", "See {{ data.url | track_link }}")]);
    assert_eq!(text(&content), "See {{ herald.a | track_link }}");
}

#[test]
fn paths_name_their_field() {
    let content = push("{{ data.items[0].name | default: 'x' }}");
    let found = &content.paths()[0];
    assert_eq!(
        (found.field.as_str(), found.read.path.as_str(), found.read.has_default),
        ("contents", "data.items[].name", true)
    );
}

#[test]
fn the_keys_go_on_after_z() {
    let source = (0..30).map(|n| format!("{{{{ data.v{n} }}}}")).collect::<Vec<_>>().concat();
    assert!(
        text(&push(&source))
            .ends_with("{{ herald.z }}{{ herald.aa }}{{ herald.ab }}{{ herald.ac }}{{ herald.ad }}")
    );
}

#[test]
fn a_loop_says_only_what_it_knows_and_only_within() {
    for source in [
        "{{ forloop.index }}",
        "{% for i in data.l %}{{ forloop.lenght }}{% endfor %}",
        "{% for i in data.l %}{{ i }}{% else %}{{ forloop.last }}{% endfor %}",
        "{% for i in data.l %}{{ forloop }}{% endfor %}",
        "{% if forloop.first %}x{% endif %}{{ data.x }}",
    ] {
        assert_eq!(codes(Channel::Push, &[("contents", source)]), ["unknown_name"], "{source}");
    }
    push(
        "{% for i in data.l %}{% for j in i %}{{ forloop.rindex0 }}{% endfor %}{{ forloop.index }}{% endfor %}",
    );
}
