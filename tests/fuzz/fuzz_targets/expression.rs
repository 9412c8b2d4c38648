//! Expressions: parsed, checked against a schema and evaluated, within their budget.
#![no_main]

use herald::domain::budget::{Budget, Limits};
use herald::expressions::{Expression, Kind};
use libfuzzer_sys::fuzz_target;
use serde_json::json;

fuzz_target!(|source: &str| {
    let budget = Budget::default();
    let Ok(expression) = Expression::parse(source, &budget) else { return };
    let data = json!({"s": "x".repeat(20_000), "l": vec!["y"; 500], "n": 3, "o": {"a": [1, 2.5, null, true]}});
    let schema = json!({"properties": {"s": {"type": "string"}, "l": {"items": {"type": "string"}}, "o": {"$ref": "#"}}});
    expression.check(&[("data", Some(&schema)), ("event", None)], Kind::Any, &budget);
    expression.paths();
    let spent = Budget::default();
    let _ = expression.evaluate(&[("data", &data), ("event", &json!({}))], &spent);
    assert!(spent.paid().2 <= Limits::EXPRESSION.memory);
});
