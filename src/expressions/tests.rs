//! The language as authors see it: results, messages, rejections.

use std::time::Instant;

use proptest::prelude::*;
use serde_json::{Value as Json, json};

use super::functions::{FUNCTIONS, Style};
use super::{EvaluationError, Expression, ExpressionProblem, Kind};
use crate::domain::budget::{Budget, Limits};

fn parse(source: &str) -> Expression {
    Expression::parse(source, &Budget::default()).unwrap_or_else(|problem| panic!("{source}: {problem}"))
}

fn evaluate(source: &str, data: &Json) -> Result<Json, EvaluationError> {
    parse(source).evaluate(&[("data", data)], &Budget::default())
}

fn schema() -> Json {
    json!({
        "type": "object",
        "required": ["total", "carrier", "items", "address", "eta"],
        "properties": {
            "total": {"type": "number"}, "carrier": {"type": "string"}, "note": {"type": "string"},
            "eta": {"type": "string", "format": "date-time"},
            "gift": {"type": ["boolean", "null"]},
            "address": {"$ref": "#/$defs/address"},
            "items": {"type": "array", "items": {
                "type": "object", "required": ["name"],
                "properties": {"name": {"type": "string"}, "price": {"type": "integer"}}}},
            "free": {"type": "object"}
        },
        "$defs": {"address": {"type": "object", "required": ["city"],
            "properties": {"city": {"type": "string"}, "zip": {"type": "string"}}}}
    })
}

fn check(source: &str, wanted: Kind) -> Vec<ExpressionProblem> {
    parse(source).check(&[("data", Some(&schema())), ("event", None)], wanted, &Budget::default())
}

fn codes(source: &str) -> Vec<&'static str> {
    check(source, Kind::Any).into_iter().map(|problem| problem.code).collect()
}

#[test]
fn a_number_compares_whichever_way_it_was_written() {
    for total in [json!(101), json!(100.5), json!(1.01e2), json!(u64::MAX)] {
        let data = json!({"total": total});
        for source in ["data.total > 100", "data.total >= 100.25", "100 < data.total", "data.total > 100u"] {
            assert_eq!(
                parse(source).holds(&[("data", &data)], &Budget::default()),
                Ok(true),
                "{source} of {data}"
            );
        }
    }
    for total in [json!(100), json!(100.0)] {
        for source in ["data.total == 100", "data.total == 100.0", "data.total in [100]", "data.total <= 100"]
        {
            assert_eq!(evaluate(source, &json!({"total": total})), Ok(json!(true)), "{source} of {total}");
        }
    }
}

#[test]
fn arithmetic_takes_a_whole_number_and_one_with_a_fraction_in_any_place() {
    let big = json!({"n": u64::MAX});
    for (total, source, wanted) in [
        (json!(150.5), "data.n * 2 > 10", json!(true)),
        (json!(150), "data.n * 2.0 > 10.0", json!(true)),
        (json!(150.5), "data.n + 1", json!(151.5)),
        (json!(150.5), "1 - data.n", json!(-149.5)),
        (json!(151), "data.n / 2.0", json!(75.5)),
        (json!(151.5), "data.n / 2", json!(75.75)),
        (json!(151), "data.n / 2", json!(75)),
        (json!(150.0), "data.n % 4", json!(2.0)),
        (json!(150.5), "data.n % 4", json!(2.5)),
        (json!(7), "data.n % 4u + 1u", json!(4)),
        (json!(7), "[1, 2.5].map(x, x * data.n)", json!([7, 17.5])),
        (json!(7), "-data.n + size([1]) * 2.5", json!(-4.5)),
        (json!(u64::MAX), "data.n", json!(u64::MAX)),
        (json!(u64::MAX), "data.n - 1", json!(u64::MAX - 1)),
        (json!(u64::MAX), "string(data.n)", json!("18446744073709551615")),
        (json!(1_u64 << 63), "-data.n", json!(i64::MIN)),
        (json!(i64::MAX), "data.n + 1", json!(1_u64 << 63)),
        (json!(u64::MAX), "data.n > 1 && data.n == 18446744073709551615u && 1.5 < data.n", json!(true)),
    ] {
        assert_eq!(evaluate(source, &json!({"n": total})), Ok(wanted), "{source} of {total}");
    }
    for (source, said) in [
        ("data.n * data.n", "exceeds 64 bits"),
        ("data.n + 1", "exceeds 64 bits"),
        ("1 / (data.n - data.n)", "divides by zero"),
        ("1.5 % 0", "divides by zero"),
        ("data.n + 'x'", "do not match"),
        ("'x' * 2", "do not match"),
    ] {
        let error = evaluate(source, &big).expect_err(source).to_string();
        assert!(error.contains(said), "{source}: {error}");
    }
    let texts = "'a' + 'b' + [1, 2].map(x, string(x)).join('') + string(size([1] + [2]))";
    assert_eq!(evaluate(texts, &json!({})), Ok(json!("ab122")));
    let later = "timestamp('2026-01-01T00:00:00Z') + duration('1h') - duration('30m')";
    assert_eq!(evaluate(later, &json!({})), Ok(json!("2026-01-01T00:30:00Z")));
}

#[test]
fn json_goes_in_and_comes_out_the_same() {
    let data = json!({"a": [1, 2.5, "x", null, true, {"b": -3}], "big": i64::MAX, "text": "Grüße"});
    assert_eq!(evaluate("data", &data), Ok(data.clone()));
    let made = evaluate("{'total': data.a[0] + 1, 'names': data.a.filter(x, x == 'x')}", &data);
    assert_eq!(made, Ok(json!({"total": 2, "names": ["x"]})));
}

#[test]
fn texts_times_and_options_can_be_worked_with() {
    let data = json!({"name": "  Ada Byron ", "at": "2026-11-23T10:00:00+01:00", "id": 7});
    let yields = |source: &str, wanted: Json| assert_eq!(evaluate(source, &data), Ok(wanted), "{source}");
    yields("data.name.trim().lowerAscii().split(' ')[0]", json!("ada"));
    yields("string(data.id) + '-' + data.at.substring(0, 10)", json!("7-2026-11-23"));
    yields("timestamp(data.at)", json!("2026-11-23T09:00:00Z"));
    yields("timestamp(data.at).getHours('Europe/Berlin')", json!(10));
    yields("duration('90s')", json!("90s"));
    yields("data.?nick.orValue('nobody')", json!("nobody"));
    yields("has(data.nick) ? data.nick : data.name.trim()", json!("Ada Byron"));
    yields("data.name.matches('A.a')", json!(true));
}

#[test]
fn what_is_missing_is_named() {
    let data = json!({"address": {"city": "Ulm"}, "items": [{"name": "a"}]});
    let missing = |source: &str| evaluate(source, &data).expect_err(source);
    for (source, path) in [
        ("data.total > 1", "data.total"),
        ("data.address.zip == ''", "data.address.zip"),
        ("data.address.geo.lat > 1.0", "data.address.geo"),
        ("data['x-y'] == 1", "data[\"x-y\"]"),
        ("data.items.map(i, i.price)", "data.items[].price"),
        ("event.type == ''", "event"),
    ] {
        assert_eq!(missing(source), EvaluationError::Missing { path: path.to_owned() }, "{source}");
    }
}

#[test]
fn no_error_quotes_the_data() {
    let data = json!({"secret": "hunter2", "n": 1, "list": [1], "o": {}, "zone": "hunter2"});
    for source in [
        "data.secret > 1",
        "data.secret + 1",
        "int(data.secret)",
        "data.o[data.secret]",
        "data.secret.size",
        "-data.secret",
        "timestamp(data.secret)",
        "duration(data.secret)",
        "data.list[data.n]",
        "data.secret ? 1 : 2",
        "data.secret && true",
        "{data.secret: 1, data.secret: 2}",
        "'x'.matches('[' + data.secret)",
        "{data.o: 1}",
        "data.secret.hunter2x()",
        "timestamp('2026-01-01T00:00:00Z').getHours(data.zone)",
        "data.secret.map(x, x)",
        "data.n / 0",
        "optional.none().value()",
        "data.secret.charAt(99)",
        "data.secret in data.n",
    ] {
        let error = evaluate(source, &data).expect_err(source).to_string();
        assert!(!error.contains("hunter2") || source.contains("hunter2x"), "{source}: {error}");
    }
    let other = parse("data.secret").holds(&[("data", &data)], &Budget::default());
    assert_eq!(
        other,
        Err(EvaluationError::Failed { detail: "it yielded a string, not a boolean".to_owned() })
    );
}

#[test]
fn an_expression_says_what_it_reads() {
    let read = |source: &str| parse(source).paths();
    assert_eq!(read("data.total > 100 && event.type == 'a' && data.total < 5"), ["data.total", "event.type"]);
    assert_eq!(read("has(data.note) && data.note.startsWith('x')"), ["data.note"]);
    assert_eq!(
        read("data.items.exists(i, i.price > data.limit)"),
        ["data.items", "data.items[].price", "data.limit"]
    );
    assert_eq!(read("headers['x-shop'] + data.?nick.orValue('')"), ["headers[\"x-shop\"]", "data.nick"]);
    assert_eq!(read("data.items[data.place].name"), ["data.items[].name", "data.place"]);
    assert_eq!(read("size('x') == 1"), Vec::<String>::new());
}

#[test]
fn what_fits_its_schema_is_not_touched() {
    for source in [
        "data.total > 100",
        "data.address.city == 'Ulm'",
        "has(data.note) && data.note == 'x'",
        "has(data.note) ? data.note == 'x' : false",
        "!has(data.note) || data.note == 'x'",
        "data.carrier in ['DHL', 'UPS']",
        "data.items.exists(i, has(i.price) && i.price > 10)",
        "data.items.all(i, i.name != '')",
        "data.items[0].name == 'x'",
        "event.whatever.it.is > 3",
        "data.gift == null || !has(data.gift)",
        "timestamp(data.eta) > timestamp('2026-01-01T00:00:00Z')",
        "size(data.items) > 2 && data.items.size() < 9",
        "!(has(data.note) && data.note == '')",
        "'note' in data && data.note == 'x'",
        "data.?note.orValue('') == ''",
        "timestamp(data.eta) - timestamp('2026-01-01T00:00:00Z') > duration('1h')",
        "type(data.total) == int",
        "data.items.filter(i, i.name == 'a').size() > 0",
        "data.note == '' && has(data.note)",
        "has(data.free) && data.free.anything == 1",
        "data.carrier.lowerAscii() == 'dhl' && strings.quote('a') != ''",
    ] {
        let source = source.replace("data.gift == null", "true");
        assert_eq!(check(&source, Kind::Bool), [], "{source}");
    }
    assert_eq!(check("data.items.map(i, i.name)", Kind::List), []);
    assert_eq!(check("has(data.note) ? data.note : data.carrier + '!'", Kind::Text), []);
    assert_eq!(check("{'a': data.total * 2.0}", Kind::Object), []);
}

#[test]
fn what_does_not_fit_is_found_with_its_place_and_a_way_out() {
    let found = check("data.total > 1 &&\n  data.carier == 'x'", Kind::Bool).remove(0);
    assert_eq!((found.code, found.line, found.column), ("unknown_path", 2, 7));
    assert_eq!(found.hint.as_deref(), Some("did you mean `carrier`?"));
    assert_eq!(found.message, "the schema has no `data.carier`");
    for (source, code) in [
        ("data.note == 'x'", "optional_path"),
        ("data.address.zip == 'x'", "optional_path"),
        ("data.items.exists(i, i.price > 10)", "optional_path"),
        ("data.items.exists(i, i.prize > 10)", "unknown_path"),
        ("data.total == '100'", "type_mismatch"),
        ("data.total > 'x'", "type_mismatch"),
        ("data.carrier + 1", "type_mismatch"),
        ("data.eta > timestamp('2026-01-01T00:00:00Z')", "type_mismatch"),
        ("data.total.amount", "type_mismatch"),
        ("data.total && true", "type_mismatch"),
        ("data.total.startsWith('1')", "type_mismatch"),
        ("data.total.map(x, x)", "type_mismatch"),
        ("dat.total == 1", "unknown_name"),
        ("carrier == 'x'", "unknown_name"),
        ("data.carrier.startWith('x')", "unknown_function"),
        ("now()", "unknown_function"),
        ("Order{id: 1}", "unknown_name"),
        ("has(data.nope)", "unknown_path"),
    ] {
        assert_eq!(codes(source), [code], "{source}");
    }
    assert_eq!(check("data.total", Kind::Bool)[0].code, "wrong_kind");
    assert_eq!(check("data.?note", Kind::Text)[0].hint.as_deref(), Some("append `.orValue(…)`"));
}

#[test]
fn combined_schemas_are_read_as_they_are_meant() {
    let schema = json!({
        "allOf": [{"properties": {"a": {"type": "string"}}, "required": ["a"]}, {"$ref": "#/$defs/b"}],
        "oneOf": [{"properties": {"kind": {"const": "x"}, "x": {"type": "number"}}, "required": ["kind", "x"]},
                  {"properties": {"kind": {"const": "y"}}, "required": ["kind"]}],
        "$defs": {"b": {"properties": {"b": {"type": "number"}, "self": {"$ref": "#"}}, "required": ["b"]}}
    });
    let codes = |source: &str| -> Vec<&str> {
        let found = parse(source).check(&[("data", Some(&schema))], Kind::Any, &Budget::default());
        found.into_iter().map(|problem| problem.code).collect()
    };
    assert!(codes("data.a == 'x' && data.b > 1 && data.kind == 'x'").is_empty());
    assert_eq!(codes("data.x > 1"), ["optional_path"]);
    assert_eq!(codes("data.c"), ["unknown_path"]);
    assert_eq!(codes("has(data.self) && has(data.self.self) && data.self.self.c == 1"), ["unknown_path"]);
    let endless = json!({"$ref": "#"});
    assert_eq!(parse("data.x.y").check(&[("data", Some(&endless))], Kind::Any, &Budget::default()), []);
}

#[test]
fn every_function_of_the_table_can_be_called_as_it_says() {
    for function in FUNCTIONS {
        let name = function.name;
        let globally = [format!("{name}()"), format!("{name}(1)")];
        let on_a_value = [format!("''.{name}()"), format!("''.{name}('')"), format!("''.{name}('', '')")];
        let calls = match function.style {
            Style::Global => globally.to_vec(),
            Style::Member => on_a_value.to_vec(),
            Style::Either => [globally.to_vec(), on_a_value.to_vec()].concat(),
        };
        for call in calls {
            if let Err(EvaluationError::Failed { detail }) = evaluate(&call, &json!({})) {
                assert!(!detail.contains("there is no function"), "{call}: {detail}");
            }
            assert!(!codes(&call).contains(&"unknown_function"), "{call}");
        }
    }
    assert_eq!(check("'a'.string()", Kind::Any)[0].hint.as_deref(), Some("write `string(…)`"));
    assert_eq!(check("trim('a')", Kind::Any)[0].hint.as_deref(), Some("write `….trim()`"));
}

#[test]
fn a_mistake_is_shown_where_it_is() {
    let problem = |source: &str| Expression::parse(source, &Budget::default()).expect_err(source);
    let found = problem("data.a ==\n  ) 1");
    assert_eq!((found.code, found.line, found.column), ("syntax", 2, 3));
    assert_eq!(problem("data.a = 1").hint.as_deref(), Some("write `==` to compare"));
    assert_eq!(problem("data.a and data.b").hint.as_deref(), Some("write `&&`"));
    assert_eq!(problem(" ").code, "syntax");
    assert_eq!(problem(&format!("'{}'", "x".repeat(4096))).code, "too_long");
    let after_umlauts = check("'äöü€😀' == data.carier", Kind::Any).remove(0);
    assert_eq!(after_umlauts.column, 16);
}

#[test]
fn what_would_run_away_is_refused() {
    let code = |source: &str| Expression::parse(source, &Budget::default()).expect_err(source).code;
    assert_eq!(code("data.map(a, data.map(b, data.map(c, c)))"), "too_complex");
    for hostile in
        ["(", "[", "{1:", "!", "-", "a?", "a.", "a[", "1+", "f(", "has(", "a.map(x,", "\"", "'''", "`", "\\"]
    {
        for closing in ["", "1", ")", "]", "a:b"] {
            let source = format!("{}{closing}", hostile.repeat(4000 / hostile.len()));
            assert!(Expression::parse(&source, &Budget::default()).is_err(), "{hostile}");
        }
    }
    let deep = format!("{}1", "1+".repeat(100));
    assert_eq!(code(&deep), "too_complex");
}

#[test]
fn the_deepest_that_is_taken_fits_a_small_stack() {
    let sources = [
        format!("{}1", "1+".repeat(38)),
        format!("{}1", "1+".repeat(9)),
        format!("{}1", "data.a ? 1 : ".repeat(38)),
        format!("{}1{}", "[".repeat(15), "]".repeat(15)),
        format!("{}1{}", "(".repeat(15), ")".repeat(15)),
        format!("data{}", ".a".repeat(38)),
        format!("data{}", "[0]".repeat(38)),
        format!("{}{}", "data.a || ".repeat(90), "true"),
    ];
    let run = move || {
        for source in &sources {
            let expression = parse(source);
            let _ = expression.evaluate(&[("data", &json!({"a": true}))], &Budget::default());
            expression.check(&[("data", Some(&schema()))], Kind::Any, &Budget::default());
        }
    };
    std::thread::Builder::new()
        .stack_size(1024 * 1024)
        .spawn(run)
        .expect("a thread")
        .join()
        .expect("no overflow");
}

#[test]
fn a_walk_within_a_walk_ends_soon() {
    let data = json!({"items": vec![1; 20_000]});
    let start = Instant::now();
    let error = evaluate("data.items.all(a, data.items.all(b, a == b))", &data).expect_err("bounded");
    assert!(error.to_string().contains("too many steps"), "{error}");
    let _ = evaluate("data.items.exists(a, data.items.all(b, a != b) || true)", &data);
    let _ = evaluate("data.items.map(a, data.items.filter(b, a != b).size())", &data);
    assert!(start.elapsed().as_secs() < 20, "{:?}", start.elapsed());
    assert_eq!(evaluate("data.items.map(a, a + 1).size()", &data), Ok(json!(20_000)));
}

#[test]
fn what_grows_is_paid_for_before_it_is_huge() {
    let data = json!({"s": "x".repeat(200_000), "l": vec!["y"; 20_000]});
    for source in [
        "data.l.map(x, data.s + data.s + data.s + data.s).size() > 0",
        "data.l.map(x, data.s).size()",
        "data.l.map(x, data).size()",
        "data.l.map(x, data.l).size()",
        "data.l.map(x, {'a': data.s}).size()",
        "data.l.filter(x, data.s + x != '').size()",
        "data.s.replace('', data.s)",
        "data.s.replace('x', data.s, 1000)",
        "data.l.join(data.s)",
        "data.l.map(x, data.s.reverse()).size()",
        "data.l.map(x, '%s%s'.format([data.s, data.s])).size()",
        "data.l.map(x, data.s.split('')).size()",
        "[data.s, data.s, data.s, data.s, data.s, data.s, data.s]",
        "data.l.map(x, strings.quote(data.s)).size()",
        "data.l.map(x, optional.of(data.s)).size()",
        "data.l.map(x, string(data.s)).size()",
    ] {
        let budget = Budget::default();
        let error = parse(source).evaluate(&[("data", &data)], &budget).expect_err(source).to_string();
        assert!(error.contains("too much") || error.contains("yield"), "{source}: {error}");
        assert!(budget.paid().2 <= Limits::EXPRESSION.memory, "{source}: {budget:?}");
        assert_eq!(budget.spent(), None, "{source}");
    }
}

#[test]
fn what_is_compared_and_searched_is_paid_for() {
    let data = json!({"s": "x".repeat(200_000), "t": "x".repeat(200_000), "l": vec!["y"; 20_000]});
    for source in [
        "data.l.all(x, data.s == data.t)",
        "data.l.all(x, data.s.contains('y') || true)",
        "data.l.all(x, !data.s.matches('(x+x+)+y'))",
        "data.l.all(x, !(data.s in [data.t + 'y']))",
        "data.l.all(x, data.s <= data.t)",
        "data.l.all(x, data == data)",
        "data.l.all(x, data.s.size() > 0)",
    ] {
        let budget = Budget::default();
        let error = parse(source).evaluate(&[("data", &data)], &budget).expect_err(source).to_string();
        assert!(error.contains("too much"), "{source}: {error}");
        let (steps, work, memory) = budget.paid();
        let Limits { steps: max_steps, work: max_work, memory: max_memory, .. } = Limits::EXPRESSION;
        assert!(steps <= max_steps && work <= max_work && memory <= max_memory, "{source}: {budget:?}");
    }
}

#[test]
fn a_usual_condition_costs_next_to_nothing() {
    let data = json!({"total": 3, "note": "hello", "items": [{"n": 1}, {"n": 2}]});
    let budget = Budget::default();
    let expression = parse("data.total > 2 && data.note.startsWith('he') && data.items.exists(i, i.n == 2)");
    assert_eq!(expression.holds(&[("data", &data)], &budget), Ok(true));
    let (steps, work, memory) = budget.paid();
    assert!(steps <= 4 && work <= 200 && memory <= 64, "{budget:?}");
}

#[test]
fn schemas_that_lead_to_themselves_twice_do_not_double_with_a_path() {
    let next = json!({"properties": {"a": {"$ref": "#"}}});
    let schema = json!({"anyOf": [next.clone(), next]});
    let budget = Budget::default();
    let source = format!("data{} == 1", ".a".repeat(36));
    let found = parse(&source).check(&[("data", Some(&schema))], Kind::Bool, &budget);
    assert!(found.iter().all(|problem| problem.code == "optional_path"), "{found:?}");
    assert!(budget.paid().0 < 100_000, "{budget:?}");
}

/// Words that make up nearly right expressions.
const WORDS: &str = r#"data . total items has( ) ( [ ] { } 'a' " 1 1.5 0x 2u - ! && || == < in ? : , .map( .all(x, x
 size( \ // r' b' ` null true .? [? + % / duration('1h') timestamp( 9223372036854775807 -9223372036854775808 1e999 '\u'
 ä .matches('(') Foo{ optional.of( .orValue( .format([ '%d' .substring( .split('') 🙂 _ . ( data"#;

fn words() -> impl Strategy<Value = String> {
    let word = prop::sample::select(WORDS.split_whitespace().collect::<Vec<_>>());
    prop::collection::vec((word, prop_oneof!["", " ", "\n"]), 0..24)
        .prop_map(|words| words.into_iter().map(|(word, space)| [word.to_owned(), space].concat()).collect())
}

proptest! {
    #[test]
    fn no_text_makes_it_panic(source in prop_oneof![words(), any::<String>(), "[ -~]{0,60}"]) {
        if let Ok(expression) = Expression::parse(&source, &Budget::default()) {
            let data = json!({"total": 1, "items": [1, "a", null, {"x": []}]});
            let _ = expression.holds(&[("data", &data)], &Budget::default());
            let _ = expression.evaluate(&[("data", &data), ("x", &json!("x"))], &Budget::default());
            expression.paths();
            expression.check(&[("data", Some(&schema()))], Kind::Bool, &Budget::default());
        }
    }
}
