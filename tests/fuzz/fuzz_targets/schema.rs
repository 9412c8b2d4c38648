//! JSON Schema: the first half of the input is a schema, the second data.
#![no_main]

use herald::domain::budget::Budget;
use herald::schemas::Schema;
use libfuzzer_sys::fuzz_target;
use serde_json::Value;

fuzz_target!(|input: &str| {
    let (schema, data) = input.split_once('\n').unwrap_or((input, "{}"));
    let Ok(schema) = serde_json::from_str::<Value>(schema) else { return };
    let budget = Budget::default();
    let Ok(schema) = Schema::new(&schema, &budget) else { return };
    let data: Value = serde_json::from_str(data).unwrap_or(Value::Null);
    let _ = schema.check(&data, &budget, |error| error.to_string());
    let nested = (0..30).fold(data, |data, _| serde_json::json!({"a": data, "b": [1, "x"]}));
    let _ = schema.check(&nested, &budget, |error| error.masked().to_string());
});
