//! The static OneSignal options that a template may set (the contract, section 4).

use serde_json::{Map, Value};

use super::{Finding, Severity};
use crate::domain::channel::Channel;
use crate::domain::template::fields_of;

/// The values that an option accepts.
#[derive(Clone, Copy)]
enum Takes {
    /// A string of at most this many characters.
    Text(usize),
    /// One of these strings.
    Word(&'static [&'static str]),
    /// An integer in this range.
    Number(i64, i64),
    /// A boolean.
    Flag,
    /// An object of at most this many bytes.
    Object(usize),
    /// A list of at most this many strings.
    Texts(usize),
    /// A list of at most this many objects, each with these members.
    Buttons(usize),
}

use Takes::{Buttons, Flag, Number, Object, Text, Texts, Word};

/// The maximum of options without a limit of their own.
const LONG: usize = 2_048;

const ALL: [(&str, Takes); 3] = [
    ("name", Text(128)),
    ("delayed_option", Word(&["timezone", "last-active"])),
    ("delivery_time_of_day", Text(16)),
];

const PUSH: [(&str, Takes); 38] = [
    ("app_url", Text(LONG)),
    ("web_url", Text(LONG)),
    ("data", Object(2_048)),
    ("buttons", Buttons(3)),
    ("web_buttons", Buttons(2)),
    ("ios_attachments", Object(LONG)),
    ("chrome_web_icon", Text(LONG)),
    ("firefox_icon", Text(LONG)),
    ("chrome_web_badge", Text(LONG)),
    ("priority", Number(5, 10)),
    ("collapse_id", Text(64)),
    ("web_push_topic", Text(64)),
    ("thread_id", Text(LONG)),
    ("android_group", Text(LONG)),
    ("android_channel_id", Text(64)),
    ("existing_android_channel_id", Text(LONG)),
    ("ios_interruption_level", Word(&["active", "passive", "time_sensitive", "critical"])),
    ("ios_sound", Text(LONG)),
    ("ios_badgeType", Word(&["None", "SetTo", "Increase"])),
    ("ios_badgeCount", Number(i64::MIN, i64::MAX)),
    ("ios_category", Text(LONG)),
    ("content_available", Flag),
    ("throttle_rate_per_minute", Number(0, i64::MAX)),
    ("enable_frequency_cap", Flag),
    ("isIos", Flag),
    ("isAndroid", Flag),
    ("isHuawei", Flag),
    ("isAnyWeb", Flag),
    ("isChromeWeb", Flag),
    ("isFirefox", Flag),
    ("isSafari", Flag),
    ("isWP_WNS", Flag),
    ("isAdm", Flag),
    ("android_accent_color", Text(8)),
    ("android_visibility", Number(-1, 1)),
    ("android_sound", Text(LONG)),
    ("huawei_channel_id", Text(64)),
    ("target_content_identifier", Text(LONG)),
];

const EMAIL: [(&str, Takes); 3] =
    [("email_bcc", Texts(5)), ("include_unsubscribed", Flag), ("disable_email_click_tracking", Flag)];

const SMS: [(&str, Takes); 1] = [("sms_media_urls", Texts(10))];

fn options_of(channel: Channel) -> impl Iterator<Item = (&'static str, Takes)> {
    let own: &'static [(&str, Takes)] = match channel {
        Channel::Push => &PUSH,
        Channel::Email => &EMAIL,
        Channel::Sms => &SMS,
    };
    // Text messages can't be delayed by time zone.
    let all = ALL.iter().filter(move |(name, _)| channel != Channel::Sms || *name != "delayed_option");
    all.chain(own).copied()
}

/// What is wrong with a template's options.
pub fn check(channel: Channel, options: &Map<String, Value>) -> Vec<Finding> {
    options.iter().filter_map(|(name, value)| check_one(channel, name, value)).collect()
}

fn check_one(channel: Channel, name: &str, value: &Value) -> Option<Finding> {
    let error = |code, message: String| Finding::new(code, Severity::Error, message);
    let known = options_of(channel).find(|(known, _)| *known == name);
    let finding = if let Some((_, takes)) = known {
        let wanted = refusal(takes, name, value)?;
        error("bad_option", format!("the option `{name}` must be {wanted}")).hint("change the value")
    } else {
        let message = format!("templates for {channel} can't set the option `{name}`");
        error("unknown_option", message).hint(advice(channel, name))
    };
    Some(Finding { field: Some(name.to_owned()), ..finding })
}

fn advice(channel: Channel, name: &str) -> String {
    if let Some(field) = fields_of(channel).iter().find(|field| field.name == name || field.wire == name) {
        return format!("set the field `{}` of the copy instead", field.name);
    }
    let distance = |known: &str| strsim::damerau_levenshtein(&name.to_lowercase(), &known.to_lowercase());
    let nearest = options_of(channel).map(|(known, _)| (distance(known), known)).min();
    match nearest {
        Some((distance, known)) if distance <= 1 + known.len() / 4 => format!("did you mean `{known}`?"),
        _ => {
            let known: Vec<&str> = options_of(channel).map(|(known, _)| known).take(12).collect();
            format!("known options include {}", known.join(", "))
        }
    }
}

/// The values that the option accepts, if `value` is not one of them.
fn refusal(takes: Takes, name: &str, value: &Value) -> Option<String> {
    let (fits, wanted) = match takes {
        Text(max) => (
            value.as_str().is_some_and(|text| !text.is_empty() && text.chars().count() <= max),
            format!("a string of 1 to {max} characters"),
        ),
        Word(words) => {
            (value.as_str().is_some_and(|word| words.contains(&word)), format!("one of {}", words.join(", ")))
        }
        // Between the two there is nothing.
        Number(min, max) if name == "priority" => {
            (value.as_i64().is_some_and(|number| number == min || number == max), "10 or 5".to_owned())
        }
        Number(min, max) => (
            value.as_i64().is_some_and(|number| (min..=max).contains(&number)),
            if max == i64::MAX { "an integer".to_owned() } else { format!("an integer from {min} to {max}") },
        ),
        Flag => (value.is_boolean(), "a boolean".to_owned()),
        Object(max) => {
            (value.is_object() && value.to_string().len() <= max, format!("an object of at most {max} bytes"))
        }
        Texts(max) => (
            value.as_array().is_some_and(|list| list.len() <= max && list.iter().all(Value::is_string)),
            format!("a list of at most {max} strings"),
        ),
        Buttons(max) => (
            value.as_array().is_some_and(|list| list.len() <= max && list.iter().all(is_button)),
            format!("a list of at most {max} objects with the strings `id` and `text`"),
        ),
    };
    (!fits).then_some(wanted)
}

fn is_button(button: &Value) -> bool {
    ["id", "text"]
        .into_iter()
        .all(|key| button.get(key).and_then(Value::as_str).is_some_and(|text| !text.is_empty()))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn options_are_known_by_name_and_value() {
        let good = json!({
            "priority": 10, "ios_interruption_level": "time_sensitive", "collapse_id": "a", "name": "x",
            "buttons": [{"id": "a", "text": "Open"}], "data": {"k": 1}, "isIos": true, "delayed_option": "timezone",
        });
        assert_eq!(check(Channel::Push, good.as_object().expect("an object")), []);
        for (name, value) in [
            ("priority", json!(7)),
            ("priority", json!("10")),
            ("ios_interruption_level", json!("loud")),
            ("collapse_id", json!("x".repeat(65))),
            ("name", json!("")),
            ("buttons", json!([{"id": "a"}])),
            (
                "buttons",
                json!([{"id": "a", "text": "b"}, {"id": "a", "text": "b"}, {"id": "a", "text": "b"}, {"id": "a", "text": "b"}]),
            ),
            ("data", json!({"k": "x".repeat(2_048)})),
            ("isIos", json!(1)),
        ] {
            let found = check_one(Channel::Push, name, &value).expect(name);
            assert_eq!(found.code, "bad_option", "{name} {value}");
        }
        let advice =
            |channel, name| check_one(channel, name, &json!(1)).expect("unknown").hint.expect("advice");
        assert_eq!(advice(Channel::Push, "colapse_id"), "did you mean `collapse_id`?");
        assert_eq!(advice(Channel::Push, "headings"), "set the field `headings` of the copy instead");
        assert!(advice(Channel::Sms, "delayed_option").starts_with("known options include"));
    }
}
