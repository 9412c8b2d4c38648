//! Translates OneSignal's names of values to Herald's: `message.custom_data.x` becomes `data.x`.

use std::ops::Range;

/// OneSignal's name of the values of a message.
const VALUES: &str = "message.custom_data";
/// How a recipient's values are looked up.
const MINE: [&str; 2] = ["users[subscription.external_id]", "users[user.external_id]"];

/// The text with Herald's names, and what could not be translated: its line, from 1, and what to do.
pub(super) fn translate(text: &str) -> (String, Vec<(usize, String)>) {
    let tags = tags(text);
    let names: Vec<&str> = tags.iter().filter_map(|tag| assigned(&text[tag.clone()])).collect();
    let (mut out, mut left, mut done) = (String::with_capacity(text.len()), Vec::new(), 0);
    for tag in tags {
        out.push_str(&text[done..tag.start]);
        done = tag.end;
        let source = &text[tag.clone()];
        if assigned(source).is_some() {
            continue;
        }
        let tag_text = with_names(source, &names);
        if tag_text.contains(VALUES) {
            let line = text[..tag.start].matches('\n').count() + 1;
            let what =
                format!("`{VALUES}` is used in a way that can't be converted: write `data.` and the path");
            left.push((line, what));
        }
        out.push_str(&tag_text);
    }
    out.push_str(&text[done..]);
    (out, left)
}

/// The positions of outputs and tags in a text, except in `raw` blocks.
fn tags(text: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let (mut at, mut raw) = (0, false);
    while let Some(open) = text[at..].find(['{']).map(|open| at + open) {
        let close = match &text[open..] {
            rest if rest.starts_with("{{") => "}}",
            rest if rest.starts_with("{%") => "%}",
            _ => {
                at = open + 1;
                continue;
            }
        };
        let Some(end) = text[open + 2..].find(close).map(|end| open + 2 + end + 2) else { break };
        let word = text[open + 2..end - 2].trim_matches(['-', ' ', '\t', '\n', '\r']);
        match (close, word) {
            ("%}", "raw") => raw = true,
            ("%}", "endraw") => raw = false,
            _ if raw => {
                at = open + 2;
                continue;
            }
            _ => found.push(open..end),
        }
        at = end;
    }
    found
}

/// The name that an `assign` gives to a recipient's values, or to all of them.
fn assigned(tag: &str) -> Option<&str> {
    let inner = tag.strip_prefix("{%")?.strip_suffix("%}")?.trim_matches('-').trim();
    let (name, value) = inner.strip_prefix("assign ")?.split_once('=')?;
    let value: String = value.split_whitespace().collect::<Vec<_>>().concat();
    let mine = |value: &str| {
        value.strip_prefix(VALUES).is_some_and(|rest| {
            rest.is_empty() || rest == ".all" || MINE.iter().any(|mine| rest.strip_prefix('.') == Some(*mine))
        })
    };
    value.split("|default:").all(mine).then(|| name.trim())
}

/// A tag with Herald's names; quoted strings are unchanged.
fn with_names(tag: &str, names: &[&str]) -> String {
    let mut out = String::with_capacity(tag.len());
    let mut rest = tag;
    while let Some(c) = rest.chars().next() {
        let before = out.chars().last();
        let begins = before.is_none_or(|b| !(b.is_alphanumeric() || "_.-".contains(b)));
        let taken = if c == '"' || c == '\'' {
            let end = rest[1..].find(c).map_or(rest.len(), |end| end + 2);
            out.push_str(&rest[..end]);
            end
        } else if let Some(length) = begins.then(|| values_at(rest, names)).flatten() {
            out.push_str("data");
            length
        } else {
            out.push(c);
            c.len_utf8()
        };
        rest = &rest[taken..];
    }
    out
}

/// The length of the name of the event's values at the start of `rest`, if a path follows.
fn values_at(rest: &str, names: &[&str]) -> Option<usize> {
    let below = |length: usize| rest[length..].starts_with(['.', '[']).then_some(length);
    if let Some(after) = rest.strip_prefix(VALUES) {
        for mine in MINE.iter().chain(&["all"]) {
            let length = VALUES.len() + 1 + mine.len();
            let is_named = after.strip_prefix('.').is_some_and(|after| after.starts_with(mine));
            if is_named && below(length).is_some() {
                return Some(length);
            }
        }
        // Values of other recipients must not be used.
        return if after.starts_with(".users[") { None } else { below(VALUES.len()) };
    }
    let named = |name: &&&str| rest.strip_prefix(**name).is_some_and(|after| after.starts_with(['.', '[']));
    names.iter().find(named).map(|name| name.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> String {
        let (text, left) = translate(text);
        assert_eq!(left, [], "{text}");
        text
    }

    #[test]
    fn the_paths_of_custom_data_become_paths_of_the_event() {
        for (given, wanted) in [
            ("Hi {{ message.custom_data.name }}!", "Hi {{ data.name }}!"),
            ("{{message.custom_data.order.id|upcase}}", "{{data.order.id|upcase}}"),
            ("{{ message.custom_data['order id'] }}", "{{ data['order id'] }}"),
            ("{{ message.custom_data.items[0].title }}", "{{ data.items[0].title }}"),
            ("{{ message.custom_data.users[subscription.external_id].name }}", "{{ data.name }}"),
            (
                "{% for i in message.custom_data.items %}{{ i.x }}{% endfor %}",
                "{% for i in data.items %}{{ i.x }}{% endfor %}",
            ),
            (
                "{% if message.custom_data.a == message.custom_data.b %}x{% endif %}",
                "{% if data.a == data.b %}x{% endif %}",
            ),
            (
                "{{ user.tags.x | default: message.custom_data.name | default: \"you\" }}",
                "{{ user.tags.x | default: data.name | default: \"you\" }}",
            ),
        ] {
            assert_eq!(of(given), wanted);
        }
    }

    #[test]
    fn a_name_for_a_persons_values_goes_and_what_it_led_to_is_the_events() {
        let given = "{% assign me = message.custom_data.users[subscription.external_id] %}Hi {{ me.name | default: 'me.name' }} {{ some.me.x }} {{ meme.x }}";
        assert_eq!(of(given), "Hi {{ data.name | default: 'me.name' }} {{ some.me.x }} {{ meme.x }}");
        let own = "{%- assign herald = message.custom_data.users[subscription.external_id] | default: message.custom_data.all -%}{{ herald.a }}";
        assert_eq!(of(own), "{{ data.a }}");
        assert_eq!(of("{% assign d = message.custom_data %}{{ d.x }}"), "{{ data.x }}");
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for text in [
            "message.custom_data.x in plain text, {{ user.tags.y }}, {{ 'message.custom_data.x' }}",
            "{% raw %}{{ message.custom_data.x }}{% endraw %}",
            "{{ message.id }} { {x} {{ unclosed",
            "<p style=\"a{b}\">é</p>",
            "",
        ] {
            let (found, _) = translate(text);
            assert_eq!(found, text);
        }
    }

    #[test]
    fn what_has_no_counterpart_stays_and_is_reported_with_its_line() {
        for text in ["a\n{{ message.custom_data }}", "a\n{{ message.custom_data.users['bob'].name }}"] {
            let (found, left) = translate(text);
            assert_eq!((found.as_str(), left.len(), left[0].0), (text, 1, 2));
        }
    }
}
