//! Tags: names and values as OneSignal takes them. Its values are texts, and its conditions compare them as numbers,
//! times or texts.

use chrono::{DateTime, NaiveDate};
use serde_json::{Number, Value};

/// Names that OneSignal's Liquid uses for something else.
const RESERVED: [&str; 11] = [
    "message",
    "notification",
    "subscription",
    "user",
    "template",
    "app",
    "org",
    "dynamic_content",
    "data_feed",
    "journey",
    "custom_data",
];
/// The maximum length of a tag's name, in characters.
const MAX_NAME_CHARS: usize = 128;
/// The maximum length of a tag's value, in characters.
const MAX_VALUE_CHARS: usize = 1_024;

/// Why a tag can't be written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TagError {
    /// The name is empty, too long, or has spaces around it or control characters.
    #[error(
        "a tag's name has 1 to {MAX_NAME_CHARS} characters, without control characters or surrounding spaces"
    )]
    BadName,
    /// OneSignal uses the name for something else.
    #[error("`{0}` is reserved by OneSignal; choose another name")]
    Reserved(String),
    /// An array, or an object that is not a date.
    #[error(
        "a tag's value is a text, a number, `true`, `false`, `null`, or a date as {{\"date\": \"2026-01-31\"}}"
    )]
    BadValue,
    /// Not a date.
    #[error("`{0}` is not a date: write 2026-01-31, or 2026-01-31T08:00:00Z")]
    BadDate(String),
    /// Too long, or with a NUL character.
    #[error("a tag's value has at most {MAX_VALUE_CHARS} characters, without NUL characters")]
    LongValue,
}

/// Checks a tag's name.
///
/// # Errors
/// [`TagError::BadName`], [`TagError::Reserved`].
pub fn check_name(name: &str) -> Result<(), TagError> {
    let is_plain = !name.is_empty() && name.trim() == name && !name.chars().any(char::is_control);
    if !is_plain || name.chars().count() > MAX_NAME_CHARS {
        return Err(TagError::BadName);
    }
    if RESERVED.contains(&name) { Err(TagError::Reserved(name.to_owned())) } else { Ok(()) }
}

/// A tag's value as the text that OneSignal's conditions expect. Numbers have no exponent and no separators; dates
/// (`{"date": "…"}`) are Unix seconds; `null` is the empty text, which removes the tag.
///
/// # Errors
/// [`TagError`].
pub fn text_of(value: &Value) -> Result<String, TagError> {
    let text = match value {
        Value::Null => String::new(),
        Value::Bool(is) => is.to_string(),
        Value::Number(number) => number_text(number),
        Value::String(text) => text.clone(),
        Value::Object(object) => match (object.len(), object.get("date")) {
            (1, Some(Value::String(date))) => date_text(date)?,
            (1, Some(Value::Number(seconds))) => number_text(seconds),
            _ => return Err(TagError::BadValue),
        },
        Value::Array(_) => return Err(TagError::BadValue),
    };
    if text.chars().count() > MAX_VALUE_CHARS || text.contains('\0') {
        return Err(TagError::LongValue);
    }
    Ok(text)
}

fn number_text(number: &Number) -> String {
    match (number.as_i64(), number.as_u64(), number.as_f64()) {
        (Some(whole), _, _) => whole.to_string(),
        (_, Some(whole), _) => whole.to_string(),
        // Rust writes no exponent; -0 is 0.
        (_, _, Some(value)) => (value + 0.0).to_string(),
        (None, None, None) => number.to_string(),
    }
}

fn date_text(date: &str) -> Result<String, TagError> {
    let day =
        || NaiveDate::parse_from_str(date, "%Y-%m-%d").ok()?.and_hms_opt(0, 0, 0).map(|time| time.and_utc());
    let time = DateTime::parse_from_rfc3339(date).map(|time| time.to_utc()).ok();
    let time = time.or_else(day).ok_or_else(|| TagError::BadDate(date.to_owned()))?;
    Ok(time.timestamp().to_string())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_value_is_the_text_that_onesignals_conditions_compare() {
        for (value, text) in [
            (json!("gold"), "gold"),
            (json!(""), ""),
            (Value::Null, ""),
            (json!(7), "7"),
            (json!(-7), "-7"),
            (json!(u64::MAX), "18446744073709551615"),
            (json!(1e6), "1000000"),
            (json!(1_234_567.5), "1234567.5"),
            (json!(1e-7), "0.0000001"),
            (json!(-0.0), "0"),
            (json!(19.90), "19.9"),
            (json!(true), "true"),
            (json!(false), "false"),
            (json!({"date": "2026-01-31"}), "1769817600"),
            (json!({"date": "2026-01-31T01:00:00+01:00"}), "1769817600"),
            (json!({"date": 1_769_817_600}), "1769817600"),
            (json!("2026-01-31"), "2026-01-31"),
        ] {
            assert_eq!(text_of(&value).as_deref(), Ok(text), "{value}");
        }
    }

    #[test]
    fn what_no_condition_can_compare_is_refused() {
        for value in
            [json!([1]), json!({}), json!({"date": true}), json!({"date": "2026-01-31", "zone": "x"})]
        {
            assert_eq!(text_of(&value), Err(TagError::BadValue), "{value}");
        }
        assert_eq!(text_of(&json!({"date": "31.1.2026"})), Err(TagError::BadDate("31.1.2026".into())));
        assert_eq!(text_of(&json!("x".repeat(1_025))), Err(TagError::LongValue));
        assert_eq!(text_of(&json!("a\0b")), Err(TagError::LongValue));
    }

    #[test]
    fn names_that_onesignal_uses_itself_are_refused() {
        assert_eq!(check_name("user"), Err(TagError::Reserved("user".into())));
        for name in ["", " plan", "plan ", "a\nb"] {
            assert_eq!(check_name(name), Err(TagError::BadName), "{name:?}");
        }
        assert_eq!(check_name("user_plan"), Ok(()));
    }
}
