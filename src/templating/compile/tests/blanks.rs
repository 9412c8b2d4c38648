//! Missing and blank values: what holds a message, and what replaces them.

use serde_json::{Value, json};

use super::{ValueError, compiled, push, values};
use crate::domain::budget::Budget;
use crate::domain::channel::Channel;

#[test]
fn a_missing_or_blank_value_is_named_with_its_field() {
    let missing = |path: &str| Err(ValueError::Missing { path: path.into(), field: "contents".into() });
    let content = push("Hi {{ data.name }}, {% for i in data.items %}{{ i.name }}{% endfor %}");
    assert_eq!(values(&content, &json!({"items": []})), missing("data.name"));
    assert_eq!(values(&content, &json!({"name": null, "items": []})), missing("data.name"));
    assert_eq!(values(&content, &json!({"name": " \n", "items": []})), missing("data.name"));
    assert_eq!(values(&content, &json!({"name": "x"})), missing("data.items"));
    assert_eq!(
        values(&content, &json!({"name": "x", "items": [{"name": "y"}, {}]})),
        missing("data.items[].name")
    );
    assert_eq!(
        values(&push("{% assign n = data.name | strip %}Hi {{ n }}"), &json!({"name": " "})),
        missing("data.name")
    );
    assert_eq!(values(&push("{{ data.x | append: user.y }}"), &json!({})), missing("data.x"));
}

#[test]
fn defaults_and_tests_let_a_value_be_missing() {
    let content = push(
        "{{ data.name | default: 'you' }}{% if data.code %} {{ data.code }}{% endif %}{{ data.x | append: user.y | default: 'z' }}",
    );
    assert_eq!(values(&content, &json!({"name": ""})), Ok(json!({"a": "you", "b": ""})));
}

#[test]
fn a_default_stands_in_for_blanks_and_does_not_hide_another_blank() {
    let content = push("Hi {{ data.name | default: 'you' }}");
    for blank in ["  ", "\n", "\u{a0}"] {
        assert_eq!(values(&content, &json!({"name": blank})), Ok(json!({"a": "you"})), "{blank:?}");
    }
    let nick = push("Hi {{ data.name | default: data.nick }}");
    assert_eq!(values(&nick, &json!({"name": " ", "nick": "Al"})), Ok(json!({"a": "Al"})));
    assert_eq!(
        values(&nick, &json!({"name": "", "nick": " "})),
        Err(ValueError::Missing { field: "contents".into(), path: "data.nick".into() })
    );
    assert_eq!(values(&push("Hi{{ data.name | default: '' }}"), &json!({"name": " "})), Ok(json!({"a": ""})));
}

#[test]
fn a_blank_of_the_event_is_held_wherever_it_would_be_printed() {
    for source in [
        "{{ data.x }}",
        "{{ user.name | default: data.x }}",
        "{{ user.a | default: user.b | default: data.x }}",
        "{{ data.missing | default: data.x }}",
        "{{ data.x | truncate: user.n }}",
        "{{ user.n | pluralize: data.x, 's' }}",
        "{% if user.vip %}{% assign v = data.x %}{{ v }}{% endif %}",
    ] {
        for blank in ["", " ", "\n\t"] {
            let found = push(source).values(&json!({"x": blank}), &Budget::default());
            assert!(
                matches!(&found, Err(ValueError::Missing { path, .. }) if path == "data.x"),
                "{source}: {found:?}"
            );
        }
        assert!(push(source).values(&json!({"x": "y"}), &Budget::default()).is_ok(), "{source}");
    }
}

#[test]
fn what_stands_in_for_a_blank_is_taken() {
    let text = |source: &str, data: &Value| {
        push(source).render_inline(data, &Budget::default()).map(|f| f["contents"].clone())
    };
    assert_eq!(text("Hi {{ data.x | default: 'you' }},", &json!({"x": "  "})), Ok("Hi you,".to_owned()));
    assert_eq!(text("Hi {{ data.x | default: '' }},", &json!({"x": "  "})), Ok("Hi ,".to_owned()));
    let content = push("{{ user.x | default: data.b | default: 'z' }}");
    assert_eq!(values(&content, &json!({})), Ok(json!({})));
    assert_eq!(values(&content, &json!({"b": " "})), Ok(json!({})));
    assert_eq!(values(&content, &json!({"b": "y"})), Ok(json!({"a": "y"})));
    assert_eq!(
        values(&push("{% if data.x == user.x %}y{% endif %}"), &json!({"x": ""})),
        Ok(json!({"a": ""}))
    );
}

#[test]
fn an_empty_text_of_the_authors_own_is_printed() {
    let content = push("{{ data.n }} parcel{{ data.n | pluralize: '', 's' }}");
    assert_eq!(values(&content, &json!({"n": 1})), Ok(json!({"a": "1", "b": ""})));
    assert_eq!(values(&content, &json!({"n": 2})), Ok(json!({"a": "2", "b": "s"})));
    let content = push("parcel{% assign s = data.n | pluralize: '', 's' %}{{ s }}");
    assert_eq!(values(&content, &json!({"n": 1})), Ok(json!({"a": ""})));
    let content = push("parcel{{ data.n | pluralize: '', data.s }}");
    assert!(values(&content, &json!({"n": 2, "s": ""})).is_err());
    assert!(values(&content, &json!({"n": 1, "s": ""})).is_ok());
}

#[test]
fn a_value_that_shows_no_glyph_is_blank_whatever_characters_it_has() {
    let texts = [
        "\u{1}",
        "\u{7f}",
        "\u{200b}",
        "\u{2060}",
        "\u{ad}",
        "\u{3164}",
        "\u{2800}",
        "\u{200f}",
        "\u{feff} \u{202e}",
        "\u{1}\u{a0}\n",
    ];
    for text in texts {
        let data = json!({"name": text});
        let push = |source: &str| {
            push(source).render_inline(&data, &Budget::default()).map(|f| f["contents"].clone())
        };
        assert_eq!(push("Hi {{ data.name | default: 'you' }},"), Ok("Hi you,".to_owned()), "{text:?}");
        assert!(push("Hi {{ data.name }},").is_err(), "{text:?} is held");
        assert_eq!(
            push("Hi{% if data.name != blank %} {{ data.name }}{% endif %}"),
            Ok("Hi".to_owned()),
            "{text:?}"
        );
        for (channel, field, source) in [
            (Channel::Push, "url", "https://x.io/orders/{{ data.name }}"),
            (Channel::Email, "subject", "{{ data.name }}"),
            (Channel::Email, "body", "<a href=\"https://x.io/{{ data.name }}\">x</a>"),
            (Channel::Email, "body", "{% if user.x %}{{ user.y | default: data.name }}{% endif %}"),
        ] {
            let content = compiled(channel, &[(field, source)]);
            let found = values(&content, &data);
            assert!(matches!(found, Err(ValueError::Missing { .. })), "{text:?} {source}: {found:?}");
        }
    }
}

#[test]
fn a_needed_field_that_comes_out_blank_is_refused_although_each_value_is_there() {
    let blank = |field: &str| Err(ValueError::Blank { field: field.to_owned() });
    for (channel, field, source) in [
        (Channel::Sms, "contents", "{% if data.id == '2' %}x{% endif %}"),
        (Channel::Push, "contents", "{% if data.id == '2' %}x{% endif %}\u{200b}"),
        (Channel::Push, "contents", "{% for i in data.list %}{{ i }}{% endfor %}"),
        (Channel::Email, "subject", "{% case data.id %}{% when '2' %}x{% endcase %}"),
        (Channel::Sms, "contents", "{% assign x = '' %}{{ x }}{% if data.id == '2' %}x{% endif %}"),
    ] {
        let content = compiled(channel, &[(field, source)]);
        let data = json!({"id": "1", "list": []});
        let found = content.values(&data, &Budget::default()).map(|_| ());
        assert_eq!(found, blank(field), "{source}");
        let found = content.render_inline(&data, &Budget::default()).map(|_| ());
        assert_eq!(found, blank(field), "{source}");
        let full = json!({"id": "2", "list": ["a"]});
        assert!(content.values(&full, &Budget::default()).is_ok(), "{source}");
    }
}
