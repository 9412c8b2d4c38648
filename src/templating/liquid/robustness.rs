//! Hostile input causes neither panics nor runaway work; where the `liquid` crate is right, the results are equal.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{RenderError, Strictness, Template};
use crate::domain::budget::{Budget, Limits};
use crate::domain::clock::Deadline;

fn render(source: &str, data: &Value, budget: &Budget) -> Result<String, RenderError> {
    let template = Template::parse(source, &Budget::default()).expect("the template is one");
    template.render(&[("d", data)], Strictness::Lenient, budget).map(|rendered| rendered.text)
}

fn too_much(source: &str, data: &Value) -> &'static str {
    match render(source, data, &Budget::default()) {
        Err(RenderError::TooMuch { what, .. }) => what,
        other => panic!("{source:.60}: {other:?}"),
    }
}

#[test]
fn texts_that_double_hit_a_limit() {
    let data = json!({"x": "abcdefgh"});
    let double = |step: &str| "{% assign x = d.x %}".to_owned() + &step.repeat(40) + "{{ x }}";
    assert_eq!(too_much(&double("{% assign x = x | append: x %}"), &data), "output");
    assert_eq!(too_much(&double("{% assign x = x | replace: 'a', x %}"), &data), "output");
    assert_eq!(too_much(&double("{% capture x %}{{ x }}{{ x }}{% endcapture %}"), &data), "output");
    let list = "{% assign l = d.x | split: '' %}".to_owned() + &"{% assign x = l | join: x %}".repeat(40);
    assert_eq!(too_much(&list, &data), "output");
}

#[test]
fn a_replacement_that_multiplies_is_refused_before_it_is_made() {
    let data = json!({"a": "a".repeat(200_000), "b": "b".repeat(200_000)});
    let start = Instant::now();
    assert_eq!(too_much("{{ d.a | replace: 'a', d.b }}", &data), "output");
    assert_eq!(too_much("{{ d.a | replace: '', d.b }}", &data), "output");
    assert!(start.elapsed() < Duration::from_secs(2));
}

#[test]
fn loops_within_loops_hit_a_limit() {
    let data = json!({"l": vec![1; 100]});
    let nested = "{% for a in d.l %}".repeat(10) + "x" + &"{% endfor %}".repeat(10);
    assert_eq!(too_much(&nested, &data), "steps");
    let long = json!({"l": vec![1; 60_000], "t": "x".repeat(250_000)});
    assert_eq!(too_much("{% for a in d.l %}{% if d.l contains 2 %}{% endif %}{% endfor %}", &long), "steps");
    assert_eq!(
        too_much("{% for a in d.l %}{% if d.t contains 'y' %}{% endif %}{% endfor %}", &long),
        "work on text"
    );
    assert_eq!(
        too_much("{% for a in d.l %}{% assign u = d.t | upcase %}{% endfor %}", &long),
        "work on text"
    );
    assert_eq!(too_much("{% for a in d.l %}{{ d.t }}{% endfor %}", &long), "output");
}

#[test]
fn a_deadline_that_has_passed_ends_the_work() {
    let budget = Budget::new(Limits::JOB.until(Deadline::after(Duration::ZERO)));
    let data = json!({"l": vec![1; 1_000]});
    let result = render("{% for a in d.l %}{{ a }}{% endfor %}", &data, &budget);
    assert!(matches!(result, Err(RenderError::TooMuch { what: "time", .. })), "{result:?}");
}

#[test]
fn fifty_levels_fit_a_small_stack_and_more_are_refused() {
    let work = || {
        let blocks = [
            ("{% if d.y %}", "{% endif %}"),
            ("{% for a in d.l %}", "{% endfor %}"),
            ("{% capture c %}", "{% endcapture %}"),
            ("{% case d.y %}{% when true %}", "{% endcase %}"),
        ];
        for (open, close) in blocks {
            let nested = |depth: usize| open.repeat(depth) + "x" + &close.repeat(depth);
            let data = json!({"y": true, "l": [1]});
            let template = Template::parse(&nested(50), &Budget::default()).expect("50 levels are fine");
            template.paths(&Budget::default());
            template.render(&[("d", &data)], Strictness::Strict, &Budget::default()).expect("it renders");
            for depth in [51, 2_000] {
                assert!(
                    Template::parse(&nested(depth), &Budget::default()).is_err(),
                    "{depth} levels of {open}"
                );
            }
        }
        let brackets = "{{ ".to_owned() + &"d[".repeat(5_000) + "d" + &"]".repeat(5_000) + "}}";
        assert!(Template::parse(&brackets, &Budget::default()).is_err());
        let long = "{{ d".to_owned() + &".a".repeat(32) + "}}";
        let template = Template::parse(&long, &Budget::default()).expect("a long path is fine");
        template.render(&[], Strictness::Lenient, &Budget::default()).expect("it renders");
        let longer = "ab\n {{ d".to_owned() + &".a".repeat(33) + "}}";
        let error = Template::parse(&longer, &Budget::default()).expect_err("no event is nested so deep");
        assert_eq!((error.line, error.column), (2, 5), "{error}");
        assert!(error.message.contains("at most 32 steps"), "{error}");
    };
    let thread =
        std::thread::Builder::new().stack_size(2 * 1024 * 1024).spawn(work).expect("a thread starts");
    thread.join().expect("the stack is big enough");
}

#[test]
fn a_source_that_is_too_long_is_refused() {
    assert!(Template::parse(&"x".repeat(64 * 1024), &Budget::default()).is_ok());
    assert!(Template::parse(&"x".repeat(64 * 1024 + 1), &Budget::default()).is_err());
}

#[test]
fn templates_are_shared_between_threads() {
    fn shared<T: Send + Sync + Clone>(_: &T) {}
    shared(&Template::parse("x", &Budget::default()).expect("it parses"));
}

/// Outputs on which the `liquid` crate is right: it counts bytes where characters are meant, so these are ASCII, and
/// it keeps the empty ends of what is split.
fn expression() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        Just("d.n"),
        Just("d.t"),
        Just("d.list[1]"),
        Just("d.o.k"),
        Just("'x y'"),
        Just("12"),
        Just("-3"),
        Just("d.list.size"),
        Just("d['t']"),
    ];
    let filter = prop_oneof![
        Just(" | upcase"),
        Just(" | downcase"),
        Just(" | append: 'e'"),
        Just(" | prepend: d.t"),
        Just(" | strip"),
        Just(" | lstrip"),
        Just(" | rstrip"),
        Just(" | replace: 'a', 'bb'"),
        Just(" | replace_first: 'a', 'b'"),
        Just(" | remove: 'a'"),
        Just(" | remove_first: 'a'"),
        Just(" | truncate: 6"),
        Just(" | escape"),
        Just(" | default: 'q'"),
        Just(" | split: 'B' | join: '-'"),
        Just(" | slice: 1, 2"),
    ];
    (value, proptest::collection::vec(filter, 0..4))
        .prop_map(|(value, filters)| format!("{{{{ {value}{} }}}}", filters.concat()))
}

fn template() -> impl Strategy<Value = String> {
    let condition = prop_oneof![
        Just("d.yes"),
        Just("d.no"),
        Just("d.n > 3"),
        Just("d.n == 7 and d.no"),
        Just("d.no or d.no or d.yes"),
        Just("d.t contains 'a'"),
        Just("d.list contains 'b'"),
        Just("d.t == 'x'"),
        Just("d.n <= 7 or d.no and d.no"),
    ];
    let leaf = prop_oneof![
        Just("text ".to_owned()),
        Just(" { ".to_owned()),
        expression(),
        Just("{% assign v = d.n | plus: 2 %}{{ v }}".to_owned())
    ];
    leaf.prop_recursive(3, 20, 3, move |inner| {
        let block = || proptest::collection::vec(inner.clone(), 0..3).prop_map(|parts| parts.join("."));
        prop_oneof![
            (condition.clone(), block(), block()).prop_map(|(c, a, b)| format!("{{% if {c} %}}{a}{{% else %}}{b}{{% endif %}}")),
            (condition.clone(), block()).prop_map(|(c, a)| format!(" {{%- unless {c} -%}} {a} {{%- endunless -%}} ")),
            block().prop_map(|a| format!("{{% for i in d.list limit:2 %}}{{{{ forloop.index }}}}{{{{ i }}}}{a}{{% endfor %}}")),
            block().prop_map(|a| format!("{{% for i in d.list reversed %}}{{% if forloop.last %}}{{% break %}}{{% endif %}}{a}{{% endfor %}}")),
            block().prop_map(|a| format!("{{% capture c %}}{a}{{% endcapture %}}{{{{ c | upcase }}}}")),
            block().prop_map(|a| format!("{{% case d.n %}}{{% when 1 %}}no{{% when 7 %}}{a}{{% endcase %}}")),
        ]
    })
}

fn by_the_crate(source: &str) -> Option<String> {
    let parser = liquid::ParserBuilder::with_stdlib().build().ok()?;
    let globals = liquid::object!({"d": {"n": 7, "t": " Banana A a ", "yes": true, "no": false, "list": ["b", "a c", "c"], "o": {"k": "v<&>"}}});
    parser.parse(source).ok()?.render(&globals).ok()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn it_says_what_the_liquid_crate_says(source in template()) {
        let data = json!({"n": 7, "t": " Banana A a ", "yes": true, "no": false, "list": ["b", "a c", "c"], "o": {"k": "v<&>"}});
        let Some(wanted) = by_the_crate(&source) else { return Ok(()) };
        prop_assert_eq!(render(&source, &data, &Budget::default()).expect("it renders"), wanted, "{}", source);
    }

    #[test]
    fn no_text_makes_it_panic(source in "(?s).{0,200}") {
        let _ = Template::parse(&source, &Budget::default());
    }

    #[test]
    fn no_heap_of_liquid_makes_it_panic(
        source in "(\\{\\{-?|-?\\}\\}|\\{%-?|-?%\\}| |d|x|\\.|\\||if|endif|else|for|in|endfor|case|when|assign|=|raw|endraw|comment|'|\"|\\[|\\]|:|,|[0-9]{1,40}|-|split|slice|round|é|👍|\n){0,60}",
        strict in any::<bool>(),
    ) {
        if let Ok(template) = Template::parse(&source, &Budget::default()) {
            let strictness = if strict { Strictness::Strict } else { Strictness::Lenient };
            template.paths(&Budget::default());
            let _ = template.render(&[("d", &json!({"x": [1, "é", null, {"x": 2.5}]}))], strictness, &Budget::default());
        }
    }

    #[test]
    fn no_filter_panics_on_any_value(
        filter in proptest::sample::select(super::filters::Filter::ALL),
        input in 0usize..12,
        args in (0usize..12, 0usize..12),
        strict in any::<bool>(),
    ) {
        let values = ["nil", "true", "''", "'é👍x'", "'%^%3N%+%'", "0", "-9223372036854775808", "170141183460469231731687303715884105727", "1.5e1", "d.l", "d.o", "0.000001"];
        let values = values.map(|value| if value == "1.5e1" { "15.25" } else { value });
        let chosen = [values[args.0], values[args.1]];
        let count = filter.arity().1;
        let args = if count == 0 { String::new() } else { format!(": {}", chosen[..count].join(", ")) };
        let template = Template::parse(&format!("{{{{ {} | {}{args} }}}}", values[input], filter.name()), &Budget::default()).expect("it parses");
        let strictness = if strict { Strictness::Strict } else { Strictness::Lenient };
        let data = json!({"l": [1, "é", null, [2], {"x": 1}, 1.5, true], "o": {"x": "y"}});
        let _ = template.render(&[("d", &data)], strictness, &Budget::default());
    }

    #[test]
    fn the_output_limit_holds(source in template(), max in 0usize..40) {
        let budget = Budget::new(Limits { length: max, ..Limits::JOB });
        let data = json!({"n": 7, "t": "Banana", "yes": true, "list": ["b", "a", "c"], "o": {"k": "v"}});
        if let Ok(text) = render(&source, &data, &budget) {
            prop_assert!(text.len() <= max);
        }
    }
}
