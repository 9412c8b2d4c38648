//! Texts by language, and the Liquid that push can't do.

use serde_json::Value;

use super::super::json::{Object, field};
use super::super::refusal::{NO_ENGLISH, Refusal};

const NULL_HEADINGS: &str = "Notification headings must not be null for any languages.";

/// The texts by language under `name`; `None` when the field is absent or empty.
pub(in crate::sandbox) fn texts<'a>(object: &'a Object, name: &str) -> Result<Option<&'a Object>, Refusal> {
    let Some(value) = field(object, name) else { return Ok(None) };
    let wrong = || Refusal::bad(format!("{name} must be an object of languages, each with a text."));
    let texts = value.as_object().ok_or_else(wrong)?;
    if texts.values().any(|text| !text.is_string() && !text.is_null()) {
        return Err(wrong());
    }
    Ok(Some(texts).filter(|texts| !texts.is_empty()))
}

/// Validates `contents`, `headings` and `subtitle`; returns whether there are contents.
pub(in crate::sandbox) fn check(object: &Object) -> Result<bool, Refusal> {
    let contents = texts(object, "contents")?;
    if contents.is_some_and(|contents| !says(contents, "en")) {
        return Err(Refusal::bad(NO_ENGLISH));
    }
    for name in ["headings", "subtitle"] {
        let Some(found) = texts(object, name)? else { continue };
        let languages = contents.into_iter().flat_map(Object::keys).chain(found.keys());
        if languages.into_iter().any(|language| !says(found, language)) || !says(found, "en") {
            return Err(Refusal::bad(NULL_HEADINGS.replace("headings", name)));
        }
        if contents.is_some_and(|contents| found.keys().any(|language| !says(contents, language))) {
            return Err(Refusal::bad(format!(
                "Message Notifications must have content for every language of {name}."
            )));
        }
    }
    Ok(contents.is_some())
}

/// Refuses `for` in the fields of a push where OneSignal does not run it.
pub(in crate::sandbox) fn check_push_liquid(object: &Object) -> Result<(), Refusal> {
    for name in ["contents", "headings", "subtitle", "url", "web_url", "app_url"] {
        let loops = match field(object, name) {
            Some(Value::String(text)) => has_loop(text),
            Some(Value::Object(texts)) => texts.values().filter_map(Value::as_str).any(has_loop),
            _ => false,
        };
        if loops {
            return Err(Refusal::bad(format!("Liquid syntax error: 'for' is not allowed in push {name}.")));
        }
    }
    Ok(())
}

fn says(texts: &Object, language: &str) -> bool {
    texts.get(language).and_then(Value::as_str).is_some_and(|text| !text.trim().is_empty())
}

/// Whether the text has a `for` tag outside of `raw`.
fn has_loop(text: &str) -> bool {
    let mut raw = false;
    for tag in text.split("{%").skip(1) {
        let name = tag.trim_start_matches('-').trim_start();
        let is = |wanted: &str| {
            name.strip_prefix(wanted)
                .is_some_and(|rest| !rest.starts_with(|c: char| c.is_alphanumeric() || c == '_'))
        };
        match raw {
            true if is("endraw") => raw = false,
            false if is("raw") => raw = true,
            false if is("for") => return true,
            true | false => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn refusal(request: &Value) -> String {
        check(request.as_object().unwrap()).map_or_else(|refusal| refusal.text(), |_| "fine".to_owned())
    }

    #[test]
    fn english_is_needed_and_headings_speak_the_same_languages() {
        for (request, answer) in [
            (json!({"contents": {"en": "x"}}), "fine"),
            (json!({"contents": {"de": "x"}}), NO_ENGLISH),
            (json!({"contents": {"en": " "}}), NO_ENGLISH),
            (json!({"contents": {"en": "x", "de": "y"}, "headings": {"en": "a", "de": "b"}}), "fine"),
            (json!({"contents": {"en": "x", "de": "y"}, "headings": {"en": "a"}}), NULL_HEADINGS),
            (json!({"contents": {"en": "x"}, "headings": {"en": null}}), NULL_HEADINGS),
            (json!({"headings": {"en": "a"}}), "fine"),
        ] {
            assert_eq!(refusal(&request), answer, "{request}");
        }
        assert!(refusal(&json!({"contents": "x"})).contains("must be an object of languages"));
        assert!(
            refusal(&json!({"contents": {"en": "x"}, "headings": {"en": "a", "de": "b"}}))
                .contains("every language")
        );
    }

    #[test]
    fn loops_are_found_outside_of_raw_only() {
        assert!(has_loop("a {%- for x in y %}{% endfor %}"));
        assert!(has_loop("{%for x in y%}"));
        assert!(!has_loop("{% raw %}{% for x in y %}{% endraw %}"));
        assert!(has_loop("{% raw %}{% endraw %}{% for x in y %}"));
        assert!(!has_loop("{% form %} for {{ for }}"));
    }
}
