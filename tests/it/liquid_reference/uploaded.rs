//! Copy made up from a seed, compiled, with what is uploaded and sent of it.

use herald::domain::budget::Budget;
use herald::domain::channel::Channel;
use herald::domain::template::Fields;
use herald::templating::preview::{Person, preview};
use herald::templating::{CompiledContent, compile};
use serde_json::{Value, json};

use super::generated::Random;

/// How many copies are compiled.
pub const COPIES: u64 = 3_000;

/// One field of a copy as OneSignal has it, and what the preview shows of it.
pub struct Shown {
    pub written: String,
    pub uploaded: String,
    pub globals: Value,
    pub preview: String,
}

const VALUES: [&str; 12] = [
    "data.name",
    "data.n",
    "data.price",
    "data.code",
    "data.note",
    "data.day",
    "data.list",
    "data.items[0].name",
    "data.missing",
    "user.tags.nick",
    "user.tags.points",
    "user.external_id",
];
const FILTERS: [&str; 20] = [
    "upcase",
    "downcase",
    "capitalize",
    "strip",
    "lstrip",
    "rstrip",
    "append: '!'",
    "append: data.code",
    "append: user.tags.nick",
    "prepend: '<'",
    "default: 'you & me'",
    "default: data.name",
    "default: user.tags.nick",
    "truncate: 9",
    "truncatewords: 2",
    "replace: ' ', '_'",
    "replace_first: 'e', 'E'",
    "plus: 1",
    "minus: 0.5",
    "round",
];
/// Filters that OneSignal doesn't have: Herald computes them.
const OWN: [&str; 10] = [
    "escape",
    "newline_to_br",
    "url_encode",
    "size",
    "split: ' ' | join: '-'",
    "slice: 0, 4",
    "times: 3",
    "remove: 'a'",
    "date: '%-d %B %Y'",
    "json",
];

fn expression(random: &mut Random) -> String {
    let mut text = random.of(&VALUES).to_owned();
    for _ in 0..random.below(4) {
        let filter =
            if text.contains("user") || random.one_in(2) { random.of(&FILTERS) } else { random.of(&OWN) };
        text = format!("{text} | {filter}");
    }
    text
}

fn condition(random: &mut Random) -> &'static str {
    random.of(&[
        "data.yes",
        "data.no",
        "data.missing",
        "user.tags.nick",
        "user.tags.none",
        "data.n > 5 and user.tags.nick == 'Al & Co'",
        "data.name contains 'Tom' or user.tags.none",
        "user.tags.nick != blank",
        "data.list contains 'a'",
        "data.note == blank",
    ])
}

fn part(random: &mut Random, depth: usize) -> String {
    let inner = |random: &mut Random| -> String {
        if depth == 0 {
            String::new()
        } else {
            (0..random.below(3)).map(|_| part(random, depth - 1)).collect()
        }
    };
    match random.below(if depth == 0 { 6 } else { 11 }) {
        0..4 => format!("{{{{ {} }}}}", expression(random)),
        4 => random
            .of(&[
                " and ",
                "\n",
                "{ {",
                "{% raw %}{{ x }}{% endraw %}",
                "Hello, this is a text that is worth keeping. ",
            ])
            .to_owned(),
        5 => format!("{{% assign v = {} %}}{{{{ v }}}}", expression(random)),
        6 => {
            let (condition, yes, no) = (condition(random), inner(random), inner(random));
            format!("{{% if {condition} %}}{yes}{{% else %}}{no}{{% endif %}}")
        }
        7 => format!("{{% for x in data.items %}}{{{{ x.name }}}}{}{{% endfor %}}", inner(random)),
        8 => format!(
            "{{% capture w %}}{}<i>{{% endcapture %}}{{{{ w | {} }}}}",
            inner(random),
            random.of(&["strip", "upcase", "append: '.'"])
        ),
        9 => {
            let (one, two) = (inner(random), inner(random));
            format!(
                "{{% case data.state %}}{{% when 'x' %}}{one}{{% when 'z', 'z' %}}{two}{{% else %}}-{{% endcase %}}"
            )
        }
        _ => format!("{{% unless {} %}} {} {{% endunless %}}", condition(random), inner(random)),
    }
}

fn data() -> Value {
    json!({
        "name": "Tom & Jerry's <b>", "n": 7, "price": 19.99, "code": "A B&C/1", "note": "Ring twice\nthen wait", "day": "2026-11-25", "yes": true, "no": false,
        "list": ["a", "b & c"], "items": [{"name": "Tea & \"Co\""}, {"name": "{{ x }}{%"}], "state": "z",
    })
}

/// What comes of one seed: nothing where the copy has a problem or the event would be held.
pub fn shown(seed: u64) -> Vec<Shown> {
    let mut random = Random::new(seed);
    let (channel, field, before) = match random.below(5) {
        0 => (Channel::Push, "contents", ""),
        1 => (Channel::Push, "url", "https://x.io/"),
        2 => (Channel::Email, "subject", ""),
        3 => (Channel::Email, "body", "<p title=\""),
        _ => (Channel::Email, "body", "<p>"),
    };
    let body: String = (0..=random.below(3)).map(|_| part(&mut random, 2)).collect();
    let written = format!("{before}{body}");
    let budget = Budget::default();
    let fields = Fields::from([(field.to_owned(), written.clone())]);
    let Ok(content) = compile(channel, &fields, &budget) else { return Vec::new() };
    compare(&content, &written, &budget)
}

fn compare(content: &CompiledContent, written: &str, budget: &Budget) -> Vec<Shown> {
    let (data, user) = (data(), json!({"external_id": "u1", "tags": {"nick": "Al & Co", "points": "7"}}));
    let Ok(values) = content.values(&data, budget) else { return Vec::new() };
    let person = Person { user: user.clone() };
    let preview = preview(content, &data, &person, budget).expect("what has values has a preview");
    // What travels is what is left of the values after they were sent as JSON.
    let sent: Value = serde_json::from_str(&json!({"all": values}).to_string()).expect("it is JSON");
    let globals =
        json!({"message": {"custom_data": sent}, "user": user, "subscription": {"external_id": "u1"}});
    let uploaded = content.template_fields().iter().chain(content.call_fields());
    uploaded
        .map(|(name, text)| Shown {
            written: written.to_owned(),
            uploaded: text.clone(),
            globals: globals.clone(),
            preview: preview.fields[name].clone(),
        })
        .collect()
}
