//! Herald's Liquid against the Ruby engine that OneSignal follows: hand-written templates, generated ones, and what is
//! uploaded with the values as they are sent.

mod differences;
mod generated;
mod oracle;
mod uploaded;

use herald::domain::budget::Budget;
use herald::templating::liquid::{Strictness, Template};
use serde_json::{Map, Value, json};

use oracle::Oracle;

/// The values that templates are rendered with.
fn globals() -> Map<String, Value> {
    let values: Value = serde_json::from_str(include_str!("data.json")).expect("data.json is JSON");
    values.as_object().cloned().expect("an object")
}

/// What Herald's engine makes of a template as OneSignal's would; the error if it can't be parsed.
fn ours(source: &str, globals: &Map<String, Value>) -> Result<String, String> {
    let budget = Budget::default();
    let template = Template::parse_as_provider(source, &budget).map_err(|error| error.to_string())?;
    let globals: Vec<(&str, &Value)> = globals.iter().map(|(name, value)| (name.as_str(), value)).collect();
    let rendered = template.render(&globals, Strictness::Lenient, &budget);
    Ok(rendered.map_err(|error| error.to_string())?.text)
}

/// The hand-written templates: one a line, with Rust's escapes for what can't stand in a line.
fn hand_written() -> Vec<String> {
    let lines = include_str!("templates.txt").lines();
    lines.filter(|line| !line.is_empty() && !line.starts_with('#')).map(unescaped).collect()
}

fn unescaped(line: &str) -> String {
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at + 1..];
        let code = escape.strip_prefix("u{").and_then(|code| Some(code.split_once('}')?.0));
        let (text, length) = match (escape.chars().next(), code) {
            (Some('u'), Some(code)) => {
                let point = u32::from_str_radix(code, 16).expect("a code point");
                (char::from_u32(point).expect("a character").to_string(), code.len() + 3)
            }
            (Some('n'), _) => ("\n".to_owned(), 1),
            (Some('r'), _) => ("\r".to_owned(), 1),
            (Some('t'), _) => ("\t".to_owned(), 1),
            (Some('\\'), _) => ("\\".to_owned(), 1),
            (other, _) => panic!("no escape: {other:?} in {line}"),
        };
        out.push_str(&text);
        rest = &escape[length..];
    }
    out + rest
}

#[test]
fn hand_written_templates_render_as_in_the_reference_engine() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (globals, templates) = (globals(), hand_written());
    assert!(templates.len() >= 300, "{} templates", templates.len());
    let mut wrong = Vec::new();
    for source in &templates {
        let theirs = oracle.render(source, &Value::Object(globals.clone())).lax;
        let ours = ours(source, &globals);
        if ours.as_ref().ok() != theirs.as_ref().ok() {
            wrong.push(format!("{source:?}\n   ours   {ours:?}\n   theirs {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), templates.len(), wrong.join("\n"));
}

#[test]
fn generated_templates_render_as_in_the_reference_engine() {
    let Some(mut oracle) = Oracle::start() else { return };
    let globals = globals();
    let all = Value::Object(globals.clone());
    let mut wrong = Vec::new();
    for seed in 0..generated::TEMPLATES {
        let source = generated::template(seed);
        let theirs = oracle.render(&source, &all);
        let ours = ours(&source, &globals);
        // Both parsers of the engine read it, but for a key that begins with a digit.
        let is_read_alike = theirs.lax == theirs.strict || source.contains("data.2fa");
        if ours.as_ref().ok() != theirs.lax.as_ref().ok() || !is_read_alike {
            wrong.push(format!("seed {seed}: {source:?}\n   ours   {ours:?}\n   theirs {theirs:?}"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}:\n{}", wrong.len(), generated::TEMPLATES, few(&wrong));
}

#[test]
fn what_is_uploaded_renders_in_the_reference_engine_as_in_the_preview() {
    let Some(mut oracle) = Oracle::start() else { return };
    let (mut wrong, mut compared) = (Vec::new(), 0);
    for seed in 0..uploaded::COPIES {
        for shown in uploaded::shown(seed) {
            let theirs = oracle.render(&shown.uploaded, &shown.globals);
            compared += 1;
            if theirs.lax.as_deref() != Ok(shown.preview.as_str()) || theirs.lax != theirs.strict {
                wrong.push(format!(
                    "seed {seed}: {}\n   uploaded {:?}\n   preview {:?}\n   theirs  {theirs:?}",
                    shown.written, shown.uploaded, shown.preview
                ));
            }
        }
    }
    println!("{compared} fields compared");
    assert!(compared >= 1_500, "{compared} fields");
    assert!(wrong.is_empty(), "{} of {compared}:\n{}", wrong.len(), few(&wrong));
}

#[test]
fn every_difference_from_the_reference_engine_is_listed_with_its_reason() {
    let table = include_str!("../../../docs/liquid.md");
    for difference in differences::ALL {
        let row = difference.row();
        assert!(table.contains(&row), "docs/liquid.md lacks this row:\n{row}");
    }
    let Some(mut oracle) = Oracle::start() else { return };
    let globals = globals();
    for difference in differences::ALL {
        let theirs = oracle.render(difference.template, &Value::Object(globals.clone())).lax;
        let found = ours(difference.template, &globals);
        assert_eq!(
            found.as_ref().ok().map(String::as_str),
            difference.ours,
            "ours: {} {found:?}",
            difference.template
        );
        assert_ne!(found.ok(), theirs.ok(), "it is no difference any more: {}", difference.template);
    }
}

#[test]
fn the_reference_engine_cannot_parse_what_the_check_says_it_cannot() {
    let Some(mut oracle) = Oracle::start() else { return };
    for source in [
        "{{ user.tags.nick | default: \"{friend}\" }}",
        "{{ user.tags.nick | default: \"%}\" }}",
        "{% comment %}{% if user.tags.x %}{% endcomment %}",
        "{% comment %}{{ x } }}{% endcomment %}",
        "{% raw %}x{%- endraw %}",
    ] {
        let theirs = oracle.render(source, &json!({}));
        assert!(theirs.lax.is_err() && theirs.strict.is_err(), "{source} {theirs:?}");
        assert!(ours(source, &Map::new()).is_err(), "{source}");
    }
}

fn few(wrong: &[String]) -> String {
    wrong.iter().take(40).cloned().collect::<Vec<_>>().join("\n")
}
