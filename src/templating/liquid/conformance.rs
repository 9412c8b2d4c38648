//! What each construct renders: a table of (template, text) against one set of values.

use serde_json::{Value, json};

use super::{RenderError, Strictness, Template};
use crate::domain::budget::Budget;

fn values() -> Value {
    json!({
        "name": "Ann Lee", "empty": "", "space": "  ", "null": null, "yes": true, "no": false,
        "n": 7, "zero": 0, "minus": -7, "price": 19.99, "whole": 3.0, "huge": u64::MAX, "digits": "12", "pi": "3.14159",
        "list": ["c", "a", "b", "a"], "numbers": [3, 1, 2], "none": [], "nested": [[1, 2], [3]],
        "object": {"first": "own", "key": "value", "size": 99}, "things": {"b": 2, "a": 1},
        "items": [
            {"name": "Tea", "price": 4.5, "kind": "drink", "stock": true},
            {"name": "Bun", "price": 2, "kind": "food"},
            {"name": "Jam", "price": 3.25, "kind": "food", "stock": true}
        ],
        "prices": {"EUR": 10, "USD": 12}, "currency": "EUR", "k": "key",
        "html": "<b>\"R&D\"</b> it's", "lines": "a\nb\r\nc", "emoji": "👍🏽é", "liquid": "{{ n }}{% if %}",
        "when": "2026-11-25T09:05:03+01:00", "day": "2026-11-25", "epoch": 1_700_000_000, "umlaut": "ÄÖü"
    })
}

fn lenient(source: &str) -> Result<String, String> {
    let values = values();
    let template = Template::parse(source, &Budget::default()).map_err(|error| error.to_string())?;
    let rendered = template.render(&[("d", &values)], Strictness::Lenient, &Budget::default());
    rendered.map(|rendered| rendered.text).map_err(|error| error.to_string())
}

fn strict(source: &str) -> Result<String, RenderError> {
    let values = values();
    let template = Template::parse(source, &Budget::default()).expect("the template is one");
    let rendered = template.render(&[("d", &values)], Strictness::Strict, &Budget::default());
    rendered.map(|rendered| rendered.text)
}

#[rustfmt::skip]
const CASES: &[(&str, &str)] = &[
    // Text and outputs
    ("", ""), ("plain", "plain"), ("a { b } c", "a { b } c"), ("100 % sure }} %}", "100 % sure }} %}"),
    ("{{ d.name }}", "Ann Lee"), ("{{d.name}}", "Ann Lee"), ("{{ 'x' }}{{ \"y\" }}", "xy"), ("{{ 'it\"s' }}", "it\"s"),
    ("{{ 1 }}{{ -2 }}{{ 1.50 }}", "1-21.5"), ("{{ true }}{{ false }}{{ nil }}{{ null }}", "truefalse"),
    ("{{ blank }}{{ empty }}", ""), ("{{ d.n }}/{{ d.price }}/{{ d.whole }}", "7/19.99/3.0"),
    ("{{ d.huge }}", "18446744073709551615"), ("{{ d.missing }}", ""), ("{{ d.missing.deeper[0].x }}", ""),
    ("{{ unknown }}", ""), ("{{ d.null }}", ""), ("{{ d.list }}", "caba"), ("{{ d.nested }}", "123"),
    ("{{ d.things }}", r#"{"a"=>1, "b"=>2}"#), ("{{ d.liquid }}", "{{ n }}{% if %}"), ("{{ '{{' }}{{ '{' }}", "{{{"),
    // Paths
    ("{{ d.list[0] }}{{ d.list[-1] }}{{ d.list[9] }}", "ca"), ("{{ d['name'] }}{{ d[\"n\"] }}", "Ann Lee7"),
    ("{{ d.prices[d.currency] }}", "10"), ("{{ d.object[d.k] }}", "value"), ("{{ d.list[d.zero] }}", "c"),
    ("{{ d.list.size }}{{ d.list.first }}{{ d.list.last }}", "4ca"), ("{{ d.name.size }}", "7"), ("{{ d.things.size }}", "2"),
    ("{{ d.object.first }}{{ d.object.size }}", "own99"), ("{{ d.items[1].name }}", "Bun"), ("{{ d.items.first.name }}", "Tea"),
    ("{{ d.none.first }}{{ d.none.size }}", "0"), ("{{ d.nested[0][1] }}", "2"), ("{{ d.emoji.size }}", "3"),
    // Truth and conditions
    ("{% if d.yes %}y{% endif %}", "y"), ("{% if d.no %}y{% else %}n{% endif %}", "n"), ("{% if d.zero %}y{% endif %}", "y"),
    ("{% if d.empty %}y{% endif %}", "y"), ("{% if d.none %}y{% endif %}", "y"), ("{% if d.null %}y{% else %}n{% endif %}", "n"),
    ("{% if d.missing %}y{% else %}n{% endif %}", "n"), ("{% unless d.missing %}u{% endunless %}", "u"),
    ("{% unless d.yes %}u{% else %}e{% endunless %}", "e"), ("{% unless d.yes %}u{% elsif d.yes %}e{% endunless %}", "e"),
    ("{% if d.no %}a{% elsif d.n == 7 %}b{% else %}c{% endif %}", "b"), ("{% if d.n != 7 %}a{% endif %}", ""),
    ("{% if d.n <> 8 %}a{% endif %}", "a"), ("{% if d.n > 6 and d.n < 8 %}a{% endif %}", "a"),
    ("{% if d.n >= 7 and d.n <= 7 %}a{% endif %}", "a"), ("{% if d.n == 7.0 %}a{% endif %}", "a"),
    ("{% if d.digits == 12 %}a{% else %}b{% endif %}", "b"), ("{% if d.name > 'Abc' %}a{% endif %}", "a"),
    ("{% if d.missing > 1 %}a{% else %}b{% endif %}", "b"), ("{% if d.missing == nil %}a{% endif %}", "a"),
    ("{% if true or false and false %}t{% endif %}", "t"), ("{% if false and false or true %}t{% else %}f{% endif %}", "f"),
    ("{% if true and false or true %}t{% endif %}", "t"), ("{% if d.name contains 'Lee' %}c{% endif %}", "c"),
    ("{% if d.list contains 'b' %}c{% endif %}", "c"), ("{% if d.list contains 'z' %}c{% endif %}", ""),
    ("{% if d.things contains 'a' %}c{% endif %}", "c"), ("{% if d.missing contains 'a' %}c{% endif %}", ""),
    ("{% if d.empty == blank %}b{% endif %}", "b"), ("{% if d.space == blank %}b{% endif %}", "b"),
    ("{% if d.space == empty %}e{% else %}n{% endif %}", "n"), ("{% if d.none == empty %}e{% endif %}", "e"),
    ("{% if d.missing == blank %}b{% endif %}", "b"), ("{% if d.missing == empty %}e{% else %}n{% endif %}", "n"),
    ("{% if d.no == blank %}b{% endif %}", "b"), ("{% if d.zero == blank %}b{% else %}n{% endif %}", "n"),
    ("{% if d.list == d.list %}s{% endif %}", "s"), ("{% if d.digits > 3 %}a{% endif %}", "Liquid error: comparison of String with 3 failed"),
    // case
    ("{% case d.n %}{% when 1 %}a{% when 7 %}b{% else %}c{% endcase %}", "b"), ("{% case d.n %} x {% when 1, 7 %}b{% endcase %}", "b"),
    ("{% case d.name %}{% when 'x' or 'Ann Lee' %}b{% endcase %}", "b"), ("{% case d.n %}{% when 1 %}a{% else %}c{% endcase %}", "c"),
    ("{% case d.missing %}{% when nil %}none{% endcase %}", "none"),
    // for
    ("{% for x in d.list %}{{ x }},{% endfor %}", "c,a,b,a,"), ("{% for x in d.none %}x{% else %}none{% endfor %}", "none"),
    ("{% for x in d.missing %}x{% else %}none{% endfor %}", "none"), ("{% for x in d.list limit:2 %}{{ x }}{% endfor %}", "ca"),
    ("{% for x in d.list offset:2 %}{{ x }}{% endfor %}", "ba"), ("{% for x in d.list limit:2 offset:1 %}{{ x }}{% endfor %}", "ab"),
    ("{% for x in d.list reversed %}{{ x }}{% endfor %}", "abac"), ("{% for x in d.list reversed limit: 2 %}{{ x }}{% endfor %}", "ac"),
    ("{% for x in d.list offset: 9 %}x{% else %}e{% endfor %}", "e"), ("{% for x in d.list limit: d.zero %}x{% else %}e{% endfor %}", "e"),
    ("{% for x in d.list %}{{ forloop.index }}{{ forloop.index0 }}{% endfor %}", "10213243"),
    ("{% for x in d.numbers %}{{ forloop.rindex }}{{ forloop.rindex0 }}{% endfor %}", "322110"),
    ("{% for x in d.list %}{% if forloop.first %}[{% endif %}{{ x }}{% if forloop.last %}]{% else %}, {% endif %}{% endfor %}", "[c, a, b, a]"),
    ("{% for x in d.list %}{{ forloop.length }}{% break %}{% endfor %}", "4"), ("{% for x in d.list %}{% if x == 'a' %}{% continue %}{% endif %}{{ x }}{% endfor %}", "cb"),
    ("{% for p in d.things %}{{ p[0] }}={{ p[1] }};{% endfor %}", "a=1;b=2;"), ("{% for c in d.name %}{{ c }}!{% endfor %}", "Ann Lee!"),
    ("{% for a in d.nested %}{% for b in a %}{{ forloop.index }}{{ b }}{% endfor %}|{{ forloop.index }}{% endfor %}", "1122|113|2"),
    ("{% for i in d.items %}{{ i.name }} {{ i.price }};{% endfor %}", "Tea 4.5;Bun 2;Jam 3.25;"),
    ("{% for x in d.list %}{% assign y = x %}{% endfor %}{{ y }}{{ x }}", "a"),
    // assign and capture
    ("{% assign a = d.n %}{{ a }}", "7"), ("{% assign a = d.n | plus: 1 %}{{ a }}{{ a | plus: 1 }}", "89"),
    ("{% assign a = d.items %}{{ a[0].name }}", "Tea"), ("{% assign a = 'x' %}{% assign a = a | append: 'y' %}{{ a }}", "xy"),
    ("{% capture c %}Hi {{ d.name }}{% endcapture %}{{ c }}{{ c.size }}", "Hi Ann Lee10"), ("{% capture 'c' %}x{% endcapture %}{{ c | upcase }}", "X"),
    ("{% assign x = d.missing %}{{ x | default: 'z' }}", "z"), ("{% assign d = 'shadow' %}{{ d }}", "shadow"),
    // raw, comment, whitespace control
    ("{% raw %}{{ d.n }}{% if %}{% endraw %}", "{{ d.n }}{% if %}"), ("{% raw %}{{{% endraw %}{", "{{{"), ("a{% comment %}{{ {% x %}{% endcomment %}b", "ab"),
    ("{% comment %}a{% comment %}b{% endcomment %}c{% endcomment %}d", "d"), ("a {{- d.n -}} b", "a7b"), ("a {{ d.n }} b", "a 7 b"),
    ("a \n{%- if d.yes -%}\n x \n{%- endif -%}\n b", "axb"), ("{% raw -%} x {% endraw %} y", " x y"), ("a {%- comment -%} x {%- endcomment -%} b", "ab"),
    ("{%- assign a = 1 -%} {{- a -}} ", "1"),
    // Filters on texts
    ("{{ d.name | upcase }}{{ d.name | downcase }}", "ANN LEEann lee"), ("{{ 'hELLO wORLD' | capitalize }}", "Hello world"), ("{{ d.umlaut | downcase | capitalize }}", "Äöü"),
    ("{{ 'a' | append: 'b' | prepend: 'c' }}", "cab"), ("{{ ' x ' | strip }}|{{ ' x ' | lstrip }}|{{ ' x ' | rstrip }}", "x|x | x"),
    ("{{ 'aXbXc' | replace: 'X', '-' }}{{ 'aXbXc' | replace_first: 'X', '-' }}", "a-b-ca-bXc"), ("{{ 'aXbX' | remove: 'X' }}{{ 'aXbX' | remove_first: 'X' }}", "ababX"),
    ("{{ 'Ground control' | truncate: 9 }}", "Ground..."), ("{{ 'Ground' | truncate: 9 }}", "Ground"), ("{{ 'Ground control' | truncate: 7, '' }}", "Ground "),
    ("{{ 'Ground' | truncate: 2 }}", "..."), ("{{ 'äöüäöü' | truncate: 5, '…' }}", "äöüä…"), ("{{ 'a b c d' | truncatewords: 2 }}", "a b..."), ("{{ 'a b' | truncatewords: 2 }}", "a b"),
    ("{{ 'a b c' | truncatewords: 1, '--' }}", "a--"), ("{{ d.html | escape }}", "&lt;b&gt;&quot;R&amp;D&quot;&lt;/b&gt; it&#39;s"), ("{{ d.html | strip_html }}", "\"R&D\" it's"),
    ("{{ 'a<script>x<y</script>b<!-- <i> -->c<br/>d' | strip_html }}", "abcd"), ("{{ 'a < b' | strip_html }}", "a < b"), ("{{ 'a b&c/ü~' | url_encode }}", "a+b%26c%2F%C3%BC~"),
    ("{{ 'a+b%26c%C3%BC%zz' | url_decode }}", "a b&cü%zz"), ("{{ d.lines | newline_to_br }}", "a<br />\nb<br />\nc"), ("{{ 'hello' | slice: 1 }}{{ 'hello' | slice: 1, 3 }}", "eell"),
    ("{{ 'hello' | slice: -3, 2 }}{{ 'hello' | slice: 9, 2 }}", "ll"), ("{{ d.emoji | slice: 1, 2 }}", "🏽é"), ("{{ 'a,b,,' | split: ',' | join: '-' }}", "a-b"),
    ("{{ ' a  b ' | split: ' ' | join: '-' }}", "a-b"), ("{{ 'abc' | split: '' | join: '.' }}", "a.b.c"), ("{{ d.things | json }}{{ d.name | json }}{{ d.list | json }}", r#"{"a":1,"b":2}"Ann Lee"["c","a","b","a"]"#),
    ("{{ 'http://x' | track_link }}", "http://x"), ("{{ d.n | append: '!' }}", "7!"), ("{{ d.missing | upcase }}", ""), ("{{ 'x' | size }}{{ d.list | size }}{{ d.n | size }}", "148"),
    // default
    ("{{ d.missing | default: 'x' }}{{ d.null | default: 'x' }}{{ d.empty | default: 'x' }}{{ d.no | default: 'x' }}{{ d.none | default: 'x' }}", "xxxxx"),
    ("{{ d.name | default: 'x' }}{{ d.zero | default: 'x' }}{{ d.space | default: 'x' }}", "Ann Lee0  "), ("{{ d.no | default: 'x', allow_false: true }}", "false"),
    ("{{ d.missing | default: d.n }}", "7"), ("{{ d.missing | upcase | default: 'x' }}", "x"),
    // Filters on numbers
    ("{{ d.n | plus: 1 }}{{ d.n | minus: 8 }}{{ d.n | times: 2 }}", "8-114"), ("{{ d.n | divided_by: 2 }}{{ d.minus | divided_by: 2 }}", "3-4"), ("{{ d.n | divided_by: 2.0 }}", "3.5"),
    ("{{ d.n | modulo: 3 }}{{ d.minus | modulo: 3 }}", "12"), ("{{ d.price | times: 3 }}", "59.97"), ("{{ 1.1 | plus: 2.2 }}{{ 0.3 | minus: 0.1 }}", "3.30.2"), ("{{ d.digits | plus: 1 }}", "13"),
    ("{{ d.pi | round: 2 }}{{ 2.675 | round: 2 }}", "3.142.68"), ("{{ 1.5 | round }}{{ 1.2 | ceil }}{{ 1.8 | floor }}", "221"), ("{{ -1.2 | abs }}{{ d.minus | abs }}", "1.27"), ("{{ 1.2 | round: 0 }}", "1"),
    ("{{ d.n | at_least: 9 }}{{ d.n | at_most: 5 }}{{ d.n | at_most: 9 }}", "957"), ("{{ d.n | divided_by: 0 }}", "Liquid error: divided by 0"), ("{{ 'x' | plus: 1 }}", "1"),
    ("{{ 1 | pluralize: 'item', 'items' }}{{ 2 | pluralize: 'item', 'items' }}{{ 0 | pluralize: 'item', 'items' }}", "itemitemsitems"), ("{{ d.huge | times: d.huge }}", "3.402823669209385e+38"),
    ("{{ 170141183460469231731687303715884105727 | plus: 1 }}", "1.7014118346046923e+38"),
    // Filters on lists
    ("{{ d.list | first }}{{ d.list | last }}", "ca"), ("{{ d.list | join }}|{{ d.list | join: ', ' }}", "c a b a|c, a, b, a"), ("{{ d.list | sort | join }}", "a a b c"), ("{{ d.numbers | sort | join }}", "1 2 3"),
    ("{{ d.list | uniq | join }}", "c a b"), ("{{ d.list | reverse | join }}", "a b a c"), ("{{ d.items | map: 'name' | join }}", "Tea Bun Jam"), ("{{ d.items | sort: 'price' | map: 'name' | join }}", "Bun Jam Tea"),
    ("{{ d.items | where: 'kind', 'food' | map: 'name' | join }}", "Bun Jam"), ("{{ d.items | where: 'stock' | map: 'name' | join }}", "Tea Jam"), ("{{ d.items | map: 'stock' | compact | size }}", "2"),
    ("{{ d.list | slice: 1, 2 | join }}", "a b"), ("{{ d.missing | join }}{{ d.missing | size }}", "0"), ("{{ d.items | where: 'kind', 'none' | size }}", "0"), ("{{ d.name | split: ' ' | join: '-' }}", "Ann-Lee"),
    // Dates
    ("{{ d.when | date: '%Y-%m-%d %H:%M:%S %z' }}", "2026-11-25 09:05:03 +0100"), ("{{ d.day | date: '%d.%m.%y' }}", "25.11.26"), ("{{ d.day | date: '%A, %B %-d' }}", "Wednesday, November 25"), ("{{ d.day | date: '%a %b %e %j' }}", "Wed Nov 25 329"),
    ("{{ d.epoch | date: '%Y-%m-%dT%H:%M:%SZ' }}", "2023-11-14T22:13:20Z"), ("{{ '1700000000' | date: '%s' }}", "1700000000"), ("{{ d.when | date: '%I:%M %p %-I %P' }}", "09:05 AM 9 am"), ("{{ d.day | date: '%^b %Q %%' }}", "NOV %Q %"),
    ("{{ 'March 14, 2016' | date: '%b %d, %y' }}", "Mar 14, 16"), ("{{ d.name | date: '%Y' }}", "Ann Lee"), ("{{ d.missing | date: '%Y' }}", ""), ("{{ d.day | date: '' }}", "2026-11-25"), ("{{ d.when | date: '%L %N %3N %' }}", "Liquid error: invalid format: %L %N %3N %"),
    ("{{ '2026-11-25 10:00' | date: '%H:%M %Z' }}", "10:00 UTC"),
];

#[test]
fn every_construct_renders_what_the_table_says() {
    let wrong: Vec<String> = CASES
        .iter()
        .filter_map(|(source, wanted)| {
            let found = lenient(source);
            (found.as_deref() != Ok(*wanted))
                .then(|| format!("{source}\n   wanted {wanted:?}\n   found  {found:?}"))
        })
        .collect();
    assert!(CASES.len() >= 190, "{} cases", CASES.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[rustfmt::skip]
const BROKEN: &[(&str, &str)] = &[
    ("{{ d.x | upcas }}", "line 1, column 10: unknown filter `upcas`; did you mean `upcase`?"),
    ("{{ d.x | trim }}", "line 1, column 10: unknown filter `trim`; did you mean `strip`?"),
    ("ä\nö{{ d.x | xyzzy }}", "line 2, column 11: unknown filter `xyzzy`"),
    ("{% iff x %}", "line 1, column 1: unknown tag `iff`; did you mean `if`?"),
    ("{% if x %}", "line 1, column 1: `if` is not closed by `endif`"),
    ("{% for x in y %}{% endif %}", "line 1, column 17: expected `else` or `endfor`, not `endif`"),
    ("{% endif %}", "line 1, column 1: `endif` has no matching opening tag"),
    ("{% else %}", "line 1, column 1: `else` is outside of `if`, `unless`, `case` and `for`"),
    ("{% break %}", "line 1, column 1: `break` is outside of `for`"),
    ("a {{ x", "line 1, column 3: `{{` is not closed by `}}`"),
    ("{{ }}", "line 1, column 1: this output is empty"),
    ("{% raw %}x", "line 1, column 1: `{% endraw %}` is missing"),
    ("{{ 'x }}", "line 1, column 4: the string that begins with ' is not closed (it can't contain `}}` or `%}`)"),
    ("{{ a b }}", "line 1, column 6: `b` is not expected here"),
    ("{{ a.  }}", "line 1, column 8: expected a name after the dot"),
    ("{{ 1 | plus }}", "line 1, column 8: `plus` takes 1 argument, not 0"),
    ("{{ 'x' | upcase: 1 }}", "line 1, column 10: `upcase` takes no argument"),
    ("{{ 'now' | date: '%Y' }}", "line 1, column 12: `date` does not support `now`; put the time in the event"),
    ("{% if (a or b) %}{% endif %}", "line 1, column 7: parentheses are not supported; conditions are read right to left"),
    ("{% if a = b %}{% endif %}", "line 1, column 9: `=` is not a comparison; write `==`"),
    ("{% if a && b %}{% endif %}", "line 1, column 9: `&` is not supported; write `and`"),
    ("{{ a | default: “x” }}", "line 1, column 17: `“` is a typographic quote; write `\"`"),
    ("{% for x in (1..3) %}{% endfor %}", "line 1, column 13: parentheses are not supported; conditions are read right to left"),
];

#[test]
fn what_is_broken_is_refused_with_a_place_and_advice() {
    for (source, wanted) in BROKEN {
        assert_eq!(
            Template::parse(source, &Budget::default()).map(drop).map_err(|error| error.to_string()),
            Err((*wanted).to_owned())
        );
    }
}

#[test]
fn strict_rendering_names_what_is_missing() {
    let missing = |path: &str, column| Err(RenderError::Missing { path: path.into(), line: 1, column });
    assert_eq!(strict("Hi {{ d.missing }}"), missing("d.missing", 7));
    assert_eq!(strict("{{ d.null | upcase }}"), missing("d.null", 4));
    assert_eq!(strict("{{ 'a' | append: d.missing }}"), missing("d.missing", 18));
    assert_eq!(strict("{% assign x = d.missing %}{{ x }}"), missing("d.missing", 15));
    assert_eq!(strict("{% for x in d.missing %}{% endfor %}"), missing("d.missing", 13));
    assert_eq!(strict("{% for i in d.items %}{{ i.stock }}{% endfor %}"), missing("i.stock", 26));
    assert_eq!(strict("{{ d.missing | default: d.null }}"), missing("d.null", 25));
}

#[test]
fn strict_rendering_lets_conditions_and_defaults_stand() {
    assert_eq!(strict("{% if d.missing %}{{ d.missing }}{% else %}none{% endif %}"), Ok("none".into()));
    assert_eq!(strict("{{ d.missing | upcase | default: 'x' }}"), Ok("x".into()));
    assert_eq!(strict("{% for x in d.missing %}{% else %}e{% endfor %}"), Ok("e".into()));
    assert_eq!(strict("{% assign x = d.missing %}{% if x %}{{ x }}{% endif %}"), Ok(String::new()));
    assert_eq!(strict("{% if d.missing > 3 %}a{% endif %}"), Ok(String::new()));
}

#[test]
fn strict_rendering_refuses_values_of_the_wrong_kind_without_telling_them() {
    for source in [
        "{{ d.name | plus: 1 }}",
        "{% if d.name > 3 %}{% endif %}",
        "{{ d.name | date: '%Y' }}",
        "{{ 1 | divided_by: 0 }}",
    ] {
        let error = strict(source).expect_err("the value is of the wrong kind");
        assert!(matches!(error, RenderError::Unusable { .. }), "{source}: {error}");
        assert!(!error.to_string().contains("Ann"), "{error}");
    }
}

#[test]
fn blanks_are_listed_once_and_as_written() {
    let values = values();
    let template =
        Template::parse("{{ d.a }}{{ d.a }}{{ d.b.c | upcase }}{{ d.e | default: '' }}", &Budget::default())
            .expect("it parses");
    let rendered =
        template.render(&[("d", &values)], Strictness::Lenient, &Budget::default()).expect("it renders");
    assert_eq!(rendered.blanks, ["d.a"]);
}

#[test]
fn paths_are_followed_through_names_of_the_template() {
    let source = "{% assign items = data.items | where: 'kind', data.wanted %}{% for i in items %}{{ i.name }}\
                  {{ i.price | default: 0 }}{% endfor %}{% if data.vip %}{{ user.tags.x }}{% endif %}{{ data.a[0].b }}\
                  {% assign s = data.shop %}{{ s.city }}{{ data.prices[data.currency] }}";
    let uses = Template::parse(source, &Budget::default()).expect("it parses").paths(&Budget::default());
    let found: Vec<&str> = uses.iter().map(|found| found.path.as_str()).collect();
    let wanted = [
        "data.items",
        "data.wanted",
        "data.items[].kind",
        "data.items",
        "data.items[].name",
        "data.items[].price",
        "data.vip",
        "user.tags.x",
        "data.a[].b",
        "data.shop.city",
        "data.prices[]",
        "data.currency",
    ];
    assert_eq!(found, wanted);
    let by_path = |path: &str| uses.iter().find(|found| found.path == path).expect("it is read");
    assert!(
        by_path("data.items[].price").has_default
            && by_path("data.vip").tested
            && !by_path("data.items").tested
    );
}
