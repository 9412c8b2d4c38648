//! What is accepted, what is not, and what holding data against a schema may cost.

use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Errors, SHOWN_ERRORS, Schema, SchemaError};
use crate::domain::budget::{Budget, Limits, Spent};

fn accept(schema: &Value) -> Result<Schema, SchemaError> {
    Schema::new(schema, &Budget::default())
}

fn errors(schema: &Value, data: &Value) -> Option<Errors<String>> {
    let schema = accept(schema).expect("a schema");
    schema.check(data, &Budget::default(), |error| error.instance_path().to_string()).expect("within budget")
}

/// `levels` schemas, each of which offers the next one twice.
fn doubling(levels: usize, word: &str) -> Value {
    let mut parts: serde_json::Map<String, Value> = (0..levels)
        .map(|level| {
            let next = json!({"$ref": format!("#/$defs/d{}", level + 1)});
            (format!("d{level}"), json!({ word: [next.clone(), next] }))
        })
        .collect();
    parts.insert(format!("d{levels}"), json!({"type": "string", "minLength": 9}));
    json!({"$ref": "#/$defs/d0", "$defs": parts})
}

fn tree() -> Value {
    json!({
        "type": "object", "required": ["name"], "$defs": {"self": {"$ref": "#"}},
        "properties": {"name": {"type": "string"}, "left": {"$ref": "#"}, "right": {"$ref": "#/$defs/self"}},
    })
}

#[test]
fn references_that_double_are_refused_when_there_are_too_many() {
    for word in ["anyOf", "oneOf", "allOf"] {
        assert!(accept(&doubling(8, word)).is_ok(), "{word}");
        assert_eq!(accept(&doubling(14, word)).expect_err(word), SchemaError::TooLarge);
        assert_eq!(accept(&doubling(25, word)).expect_err(word), SchemaError::TooDeep);
    }
    let mut hidden = doubling(14, "anyOf");
    hidden["$ref"] = json!("#/x/d0");
    hidden["x"] = serde_json::from_str(&hidden["$defs"].to_string().replace("$defs", "x")).unwrap();
    assert_eq!(accept(&hidden).expect_err("elsewhere than in $defs"), SchemaError::TooLarge);
}

#[test]
fn references_that_lead_nowhere_but_round_are_refused() {
    let circle = json!({"$ref": "#/$defs/a", "$defs": {"a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"$ref": "#/$defs/a"}}});
    assert!(matches!(accept(&circle), Err(SchemaError::Circular(_))), "{:?}", accept(&circle));
    assert!(matches!(accept(&json!({"not": {"$ref": "#"}})), Err(SchemaError::Circular(_))));
    let anchored = json!({"$anchor": "a", "anyOf": [{"$ref": "#a"}, {"type": "string"}]});
    assert!(matches!(accept(&anchored), Err(SchemaError::Circular(_))));
    let chain: serde_json::Map<String, Value> = (0..40)
        .map(|level| (format!("d{level}"), json!({"$ref": format!("#/$defs/d{}", level + 1)})))
        .chain([("d40".to_owned(), json!(true))])
        .collect();
    assert_eq!(
        accept(&json!({"$ref": "#/$defs/d0", "$defs": chain})).expect_err("long"),
        SchemaError::TooDeep
    );
    let second = json!({"properties": {"a": {"$id": "https://a.example/", "type": "string"}}});
    assert!(matches!(accept(&second), Err(SchemaError::SecondId(_))));
}

#[test]
fn a_schema_may_refer_to_itself_from_what_is_in_it() {
    assert!(errors(&tree(), &json!({"name": "a", "left": {"name": "b", "right": {"name": "c"}}})).is_none());
    let wrong =
        errors(&tree(), &json!({"name": "a", "left": {"name": "b", "right": {"name": 1}}})).expect("wrong");
    assert_eq!(wrong.shown, ["/left/right/name"]);
    let mut deep = json!({"name": "x"});
    for _ in 0..30 {
        deep = json!({"name": "x", "left": deep});
    }
    assert!(errors(&tree(), &deep).is_none());
}

#[test]
fn a_recursion_that_doubles_with_the_data_s_depth_does_not_double_the_work() {
    let next = json!({"properties": {"next": {"$ref": "#"}, "end": {"const": 1}}});
    let schema = accept(&json!({"anyOf": [next.clone(), next]})).expect("it is small");
    let mut data = json!({"end": 2});
    for _ in 0..30 {
        data = json!({ "next": data });
    }
    let budget = Budget::default();
    assert_eq!(schema.fits(&data, &budget), Ok(false));
    assert!(budget.paid().0 < 1_000, "{budget:?}");
    let errors = schema.check(&data, &budget, |_| ()).expect("it ends").expect("it does not fit");
    assert!(errors.shown.len() == 1 || errors.has_more, "{errors:?}");
    assert!(budget.paid().0 <= 21_000, "no more is listed than the budget lasts for: {budget:?}");
    assert_eq!(budget.spent(), None, "the job has more left");
}

#[test]
fn data_is_paid_for_before_it_is_looked_at() {
    let schema = accept(&doubling(11, "anyOf")).expect("just small enough");
    let budget = Budget::default();
    assert_eq!(schema.fits(&json!(vec!["x"; 60_000]), &budget), Err(Spent("steps")));
    assert_eq!(schema.fits(&json!("long enough"), &budget), Ok(true));
    let flat: serde_json::Map<String, Value> =
        (0..2_000).map(|n| (format!("p{n}"), json!({"type": "string"}))).collect();
    let wide = json!({"properties": flat, "additionalProperties": {"items": {"type": "number"}}});
    let budget = Budget::default();
    assert_eq!(accept(&wide).unwrap().fits(&json!({"list": vec![1; 60_000]}), &budget), Ok(true));
    assert!(budget.paid().0 < 200_000, "many members do not make each of them dearer: {budget:?}");
}

#[test]
fn at_most_twenty_errors_are_listed() {
    let schema = json!({"items": {"type": "string"}});
    let wrong = |count: usize| errors(&schema, &json!(vec![1; count])).expect("wrong");
    assert_eq!((wrong(20).shown.len(), wrong(20).has_more), (20, false));
    assert_eq!((wrong(5_000).shown.len(), wrong(5_000).has_more), (SHOWN_ERRORS, true));
    assert_eq!((wrong(60_000).shown.len(), wrong(60_000).has_more), (1, true));
}

fn part() -> impl Strategy<Value = Value> {
    let places = prop_oneof![
        Just("#"),
        Just("#/$defs/a"),
        Just("#/$defs/b"),
        Just("#/$defs/c"),
        Just("#/properties/x"),
        Just("#n"),
    ];
    let leaf = prop_oneof![
        places.prop_map(|place| json!({"$ref": place})),
        Just(json!({"type": "string"})),
        Just(json!({"const": 1})),
        Just(json!(true)),
    ];
    leaf.prop_recursive(4, 24, 3, |inner| {
        let one = prop_oneof![
            Just("not"),
            Just("items"),
            Just("contains"),
            Just("additionalProperties"),
            Just("propertyNames"),
            Just("if"),
        ];
        let many = prop_oneof![Just("allOf"), Just("anyOf"), Just("oneOf"), Just("prefixItems")];
        prop_oneof![
            (one, inner.clone()).prop_map(|(word, part)| json!({ word: part })),
            (many, proptest::collection::vec(inner.clone(), 1..3))
                .prop_map(|(word, parts)| json!({ word: parts })),
            (inner.clone(), inner.clone()).prop_map(|(x, y)| json!({"properties": {"x": x, "y": y}})),
            (inner.clone(), inner)
                .prop_map(|(x, y)| json!({"$anchor": "n", "allOf": [x], "properties": {"y": y}})),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_schema_overflows_and_none_takes_more_than_its_budget(
        whole in part(), parts in [part(), part(), part()], depth in 0_usize..30,
    ) {
        let [a, b, c] = parts;
        let mut schema = json!({"allOf": [whole], "$defs": {"a": a, "b": b, "c": c}});
        schema["properties"] = json!({"x": {"$ref": "#/$defs/a"}});
        if let Ok(schema) = accept(&schema) {
            let mut data = json!([1, "x"]);
            for _ in 0..depth {
                data = json!({"x": data, "y": [data]});
                if data.to_string().len() > 20_000 { break; }
            }
            let budget = Budget::default();
            let _ = schema.check(&data, &budget, |_| ());
            prop_assert!(budget.paid().0 <= Limits::VALIDATION.steps + 20_000);
        }
    }
}
