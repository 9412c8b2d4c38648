//! JSON into CEL and back. A whole number of 64 bits becomes an `int`, or a `uint` where only that holds it, any other
//! number a `double`. Comparisons hold whichever way a number was written, and no digit of a whole number is lost.

use std::collections::HashMap;
use std::sync::Arc;

use cel::Value;
use cel::objects::{Key, Map};
use chrono::SecondsFormat;
use serde_json::{Number, Value as Json};

use crate::domain::budget::Budget;

/// A JSON value as CEL sees it.
pub(super) fn to_cel(json: &Json) -> Value {
    match json {
        Json::Null => Value::Null,
        Json::Bool(value) => Value::Bool(*value),
        Json::Number(number) => number_to_cel(number),
        Json::String(text) => Value::String(Arc::new(text.clone())),
        Json::Array(items) => Value::List(Arc::new(items.iter().map(to_cel).collect())),
        Json::Object(members) => {
            let members =
                members.iter().map(|(name, value)| (Key::String(Arc::new(name.clone())), to_cel(value)));
            Value::Map(Map { map: Arc::new(members.collect::<HashMap<_, _>>()) })
        }
    }
}

fn number_to_cel(number: &Number) -> Value {
    match (number.as_i64(), number.as_u64()) {
        (Some(whole), _) => Value::Int(whole),
        (None, Some(whole)) => Value::UInt(whole),
        (None, None) => Value::Float(number.as_f64().unwrap_or(f64::NAN)),
    }
}

/// CEL's result as JSON, or why JSON has no such value. Times are RFC 3339 in UTC, durations seconds with an `s`, as
/// CEL writes them. A value that occurs twice is written, and charged, twice.
pub(super) fn to_json(value: &Value, budget: &Budget) -> Result<Json, &'static str> {
    let bytes = match value {
        Value::String(text) => text.len(),
        _ => 8,
    };
    budget.memory(bytes).map_err(|_| "more than an expression may yield")?;
    match value {
        Value::Null => Ok(Json::Null),
        Value::Bool(value) => Ok(Json::Bool(*value)),
        Value::Int(whole) => Ok(Json::from(*whole)),
        Value::UInt(whole) => Ok(Json::from(*whole)),
        Value::Float(number) => {
            Number::from_f64(*number).map(Json::Number).ok_or("a number that is not finite")
        }
        Value::String(text) => Ok(Json::String(text.as_ref().clone())),
        Value::List(items) => {
            items.iter().map(|item| to_json(item, budget)).collect::<Result<_, _>>().map(Json::Array)
        }
        Value::Map(map) => {
            let members = map.map.iter().map(|(name, value)| Ok((name.to_string(), to_json(value, budget)?)));
            members.collect::<Result<_, _>>().map(Json::Object)
        }
        Value::Timestamp(time) => {
            Ok(Json::String(time.to_utc().to_rfc3339_opts(SecondsFormat::AutoSi, true)))
        }
        Value::Duration(duration) => {
            let seconds = duration.num_milliseconds().to_string().parse::<f64>().unwrap_or(f64::NAN) / 1000.0;
            Ok(Json::String(format!("{seconds}s")))
        }
        Value::Bytes(_) => Err("bytes, which JSON can't represent"),
        Value::Opaque(_) => Err("an optional; append `.orValue(…)`"),
        Value::Function(..) | Value::Struct(_) => Err("something that JSON can't represent"),
    }
}

/// A value's type in plain words; never the value.
pub(super) fn kind_of(value: &Json) -> &'static str {
    match value {
        Json::Null => "null",
        Json::Bool(_) => "a boolean",
        Json::Number(_) => "a number",
        Json::String(_) => "a string",
        Json::Array(_) => "a list",
        Json::Object(_) => "an object",
    }
}
