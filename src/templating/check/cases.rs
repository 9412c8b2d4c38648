//! Every code: a catalog entry in which nothing is wrong, one thing broken in it, and the finding with its place.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde_json::json;

use super::fixtures::World;
use super::{Finding, Observed, Severity};
use crate::domain::channel::Channel;
use Channel::{Email, Push, Sms};
use Severity::{Error, Warning};

/// Every code that `check` finds by itself, beyond those of the compiler.
const CODES: [&str; 32] = [
    "unknown_path",
    "unlisted_path",
    "optional_path",
    "maybe_blank",
    "wrong_type",
    "too_long_title",
    "too_long_body",
    "too_long_subject",
    "too_long_preheader",
    "many_segments",
    "forces_ucs2",
    "bad_link",
    "insecure_image",
    "missing_field",
    "missing_field_in_locale",
    "no_default_copy",
    "bad_locale",
    "too_large",
    "may_be_too_large",
    "sensitive_subtree",
    "sensitive_on_lock_screen",
    "unknown_option",
    "bad_option",
    "provider_syntax",
    "front_matter",
    "date_pattern",
    "text_comparison",
    "encoded_by_hand",
    "markup_in_text",
    "markup_in_quotes",
    "mjml_left",
    "push_too_long",
];

/// The codes of the compiler, which are errors here.
const COMPILER_CODES: [&str; 11] = [
    "mjml",
    "liquid_syntax",
    "unknown_name",
    "unknown_field",
    "fixed_field",
    "loop_in_push",
    "filter_unavailable",
    "unsafe_place",
    "reserved_name",
    "too_entangled",
    "encoded_text",
];

type Case = (Channel, &'static str, &'static str, &'static str, Severity, (usize, usize));

/// Channel, field, its text, and the one finding that this leads to.
#[rustfmt::skip]
const CASES: &[Case] = &[
    (Push, "contents", "Hi {{ data.nmae }}", "unknown_path", Error, (1, 7)),
    (Push, "contents", "Hi\n{{ data.customer.town | default: 'x' }}", "unknown_path", Error, (2, 4)),
    (Push, "contents", "{{ data.order_id.x }}", "unknown_path", Error, (1, 4)),
    (Push, "contents", "{% if data.payed %}x{% endif %}", "unknown_path", Error, (1, 7)),
    (Email, "body", "{% for i in data.items %}{{ i.titel }}{% endfor %}", "unknown_path", Error, (1, 29)),
    (Push, "contents", "{{ data.extra.x }}", "unlisted_path", Warning, (1, 4)),
    (Push, "contents", "{{ data.prices.EUR }}", "unlisted_path", Warning, (1, 4)),
    (Push, "contents", "{{ data.name }}", "optional_path", Error, (1, 4)),
    (Push, "contents", "{{ data.gift }}", "optional_path", Error, (1, 4)),
    (Push, "contents", "x {{ data.name | upcase }}", "optional_path", Error, (1, 6)),
    (Push, "contents", "{{ data.order_id | append: data.name }}", "optional_path", Error, (1, 28)),
    (Push, "contents", "{% assign n = data.gift %}Hi {{ n }}", "optional_path", Error, (1, 33)),
    (Push, "contents", "{% if data.paid %}{{ data.gift }}{% endif %}", "optional_path", Error, (1, 22)),
    (Push, "contents", "{% if data.gift or data.paid %}{{ data.gift }}{% endif %}", "optional_path", Error, (1, 35)),
    (Push, "contents", "{% if data.gift and user.vip %}{{ data.gift }}{% endif %}", "optional_path", Error, (1, 35)),
    (Push, "contents", "{{ data.gift | default: data.name }}", "optional_path", Error, (1, 4)),
    (Push, "contents", "{{ user.name | default: data.gift }}", "optional_path", Error, (1, 25)),
    (Push, "contents", "{{ data.items[0].title }}", "optional_path", Error, (1, 4)),
    (Push, "contents", "{{ data.items.first.title }}", "optional_path", Error, (1, 4)),
    (Email, "body", "{% for i in data.items %}{{ i.colour }}{% endfor %}", "optional_path", Error, (1, 29)),
    (Push, "contents", "{% assign v = data.gift %}{% for i in data.items %}{% assign v = 'x' %}{% endfor %}{{ v }}", "optional_path", Error, (1, 87)),
    (Push, "contents", "{% assign v = 'x' %}{% for i in data.items %}{{ v }}{% assign v = data.gift %}{% endfor %}", "optional_path", Error, (1, 49)),
    (Push, "contents", "{% assign v = 'x' %}{% for i in data.items %}{% assign v = data.gift %}{% if data.paid %}{% break %}{% endif %}{% assign v = 'y' %}{% endfor %}{{ v }}", "optional_path", Error, (1, 147)),
    (Push, "contents", "{{ forloop.index }}", "unknown_name", Error, (1, 4)),
    (Email, "body", "{% for i in data.items %}{{ forloop.lenght }}{% endfor %}", "unknown_name", Error, (1, 29)),
    (Push, "contents", "{{ data.note }}", "maybe_blank", Warning, (1, 4)),
    (Push, "contents", "{% if data.paid %}Paid{% endif %}", "maybe_blank", Warning, (1, 1)),
    (Push, "contents", "{{ data.code | upcase }}", "sensitive_on_lock_screen", Warning, (1, 1)),
    (Push, "contents", "{{ data.order_id | remove: 'x' }}", "maybe_blank", Warning, (1, 4)),
    (Push, "contents", "{{ data.count | pluralize: data.note, 's' }}", "maybe_blank", Warning, (1, 4)),
    (Push, "contents", "{{ data.gift | default: data.note }}", "maybe_blank", Warning, (1, 4)),
    (Push, "contents", "{{ user.x | append: data.note | default: 'z' }}", "maybe_blank", Warning, (1, 21)),
    (Push, "contents", "{{ data.note | append: user.x }}", "maybe_blank", Warning, (1, 4)),
    (Push, "contents", "{{ user.n | pluralize: data.note, 's' }}", "maybe_blank", Warning, (1, 24)),
    (Push, "contents", "{% if user.vip %}{% assign v = data.note %}{% if v %}x{% endif %}{% endif %}", "maybe_blank", Warning, (1, 32)),
    (Push, "contents", "{{ user.name | default: data.note }}", "maybe_blank", Warning, (1, 25)),
    (Push, "contents", "{% if data.note %}{{ data.note }}{% endif %}", "maybe_blank", Warning, (1, 22)),
    (Push, "contents", "{{ data.order_id | plus: 1 }}", "wrong_type", Warning, (1, 20)),
    (Push, "contents", "{{ data.note | strip | default: 'x' | plus: 1 }}", "wrong_type", Warning, (1, 39)),
    (Push, "contents", "{{ data.prices | upcase }}", "wrong_type", Error, (1, 18)),
    (Push, "contents", "{{ data.prices }}", "wrong_type", Error, (1, 1)),
    (Push, "contents", "{{ data.paid | date: '%d' }}", "wrong_type", Error, (1, 16)),
    (Push, "contents", "{{ data.order_id | date: '%d' }}", "wrong_type", Warning, (1, 20)),
    (Push, "contents", "{{ data.count | divided_by: 0 }}", "wrong_type", Warning, (1, 17)),
    (Push, "contents", "{{ data.count | first }}", "wrong_type", Error, (1, 17)),
    (Push, "contents", "{% for c in data.order_id %}{{ c }}{% endfor %}", "wrong_type", Error, (1, 13)),
    (Push, "contents", "{% if data.count == '2' %}x{% endif %}", "wrong_type", Error, (1, 7)),
    (Push, "contents", "{% if data.order_id > 2 %}x{% endif %}", "wrong_type", Error, (1, 7)),
    (Push, "contents", "{% case data.count %}{% when 'a' %}x{% endcase %}", "wrong_type", Error, (1, 1)),
    (Push, "headings", "A title that goes on for rather longer than a phone shows", "too_long_title", Warning, (1, 1)),
    (Push, "contents", "A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on.", "too_long_body", Warning, (1, 1)),
    (Email, "subject", "A subject that goes on for rather longer than mail programs show", "too_long_subject", Warning, (1, 1)),
    (Sms, "contents", "A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on. A text that goes on.", "many_segments", Warning, (1, 1)),
    (Sms, "contents", "Order {{ data.order_id }}\n– on its way", "forces_ucs2", Warning, (2, 1)),
    (Push, "url", "javascript:alert(1)", "bad_link", Error, (1, 1)),
    (Push, "url", "shop.example/x", "bad_link", Error, (1, 1)),
    (Email, "body", "<p>\n<a href=\"javascript:x\">", "bad_link", Error, (2, 10)),
    (Email, "body", "<img src=\"http://x.io/a.png\">", "insecure_image", Warning, (1, 11)),
    (Push, "contents", " ", "missing_field", Error, (1, 1)),
    (Push, "contents", "Your code is {{ data.code }}", "sensitive_on_lock_screen", Warning, (1, 14)),
    (Push, "headings", "{% capture c %}{{ data.code }}{% endcapture %}{{ c }}", "sensitive_on_lock_screen", Warning, (1, 47)),
    (Email, "body", "{{ data.customer | json }}", "sensitive_subtree", Error, (1, 1)),
    (Email, "body", "{{ data.customer[user.tags.what] | default: 'x' }}", "sensitive_subtree", Error, (1, 4)),
    (Email, "body", "<mjml><mj-body>\n<mj-section>{{ data.customer[user.x] | default: 'x' }}</mj-section></mj-body></mjml>", "sensitive_subtree", Error, (2, 16)),
    (Email, "body", "<mjml><mj-body>\n<mj-raw>{{ data.nmae }}</mj-raw></mj-body></mjml>", "unknown_path", Error, (2, 12)),
    (Email, "body", "<mjml><mj-body><mj-txt>x</mj-txt></mj-body></mjml>", "mjml", Error, (1, 16)),
    (Push, "contents", "Hi {{ user.tags.nick | default: \"{friend}\" }}", "provider_syntax", Error, (1, 41)),
    (Push, "contents", "{% if user.tags.vip==\"1\" %}x{% endif %}", "provider_syntax", Error, (1, 20)),
    (Push, "contents", "{% comment %}{% if user.tags.vip %}{% endcomment %}x", "provider_syntax", Error, (1, 36)),
    (Push, "contents", "+++\nheadings = 'x'\n+++\nHi", "front_matter", Error, (1, 1)),
    (Push, "contents", "{{ data.eta | date: 'DD.MM.YYYY' }}", "date_pattern", Error, (1, 15)),
    (Push, "contents", "{{ data.eta | date: '%d. %q' }}", "date_pattern", Warning, (1, 15)),
    (Push, "contents", "{% if user.tags.points > 5 %}x{% endif %}", "text_comparison", Error, (1, 7)),
    (Push, "contents", "{% if 5 == user.tags.points %}x{% endif %}", "text_comparison", Error, (1, 7)),
    (Email, "body", "{{ data.order_id | escape }}", "encoded_by_hand", Warning, (1, 20)),
    (Push, "url", "https://x.io/{{ data.order_id | url_encode }}", "encoded_by_hand", Warning, (1, 33)),
    (Push, "contents", "{{ data.order_id | newline_to_br }}", "markup_in_text", Error, (1, 20)),
    (Email, "body", "{{ data.order_id | append: '<br>' }}", "markup_in_quotes", Warning, (1, 1)),
    (Email, "body", "{{ data.order_id | replace: '&', '&amp;' }}", "markup_in_quotes", Warning, (1, 1)),
    (Email, "body", "<p>\n<mj-text>x</mj-text>", "mjml_left", Error, (2, 1)),
    (Email, "body", "{{ data.order_id | append: user.x | truncate: 9 }}", "encoded_text", Error, (1, 37)),
    (Push, "contents", "{{ data.order_id | upcas }}", "liquid_syntax", Error, (1, 20)),
    (Push, "contents", "{{ order_id }}", "unknown_name", Error, (1, 4)),
    (Push, "small_icon", "{{ data.order_id }}", "fixed_field", Error, (1, 4)),
    (Push, "contents", "{% for i in user.l %}{{ i }}{% endfor %}", "loop_in_push", Error, (1, 1)),
    (Push, "contents", "{{ user.x | times: 2 }}", "filter_unavailable", Error, (1, 13)),
    (Email, "body", "<script>{{ data.order_id }}</script>", "unsafe_place", Error, (1, 9)),
    (Push, "contents", "{% assign user = 1 %}{{ data.order_id }}", "reserved_name", Error, (1, 1)),
    (Push, "title", "x", "unknown_field", Error, (1, 1)),
];

/// Ways to break an entry other than in a field's text.
fn others() -> Vec<(&'static str, Severity, World)> {
    let mut found = Vec::new();
    let mut add = |code, severity, channel, breaking: &dyn Fn(&mut World)| {
        let mut world = World::sound(channel);
        breaking(&mut world);
        found.push((code, severity, world));
    };
    add("no_default_copy", Error, Push, &|world| "fr".clone_into(&mut world.default_locale));
    add("bad_locale", Error, Push, &|world| {
        let german = world.contents["de"].clone();
        world.contents.insert("german!".to_owned(), german);
    });
    add("missing_field_in_locale", Warning, Push, &|world| {
        world.contents.entry("de".to_owned()).or_default().remove("headings");
    });
    add("too_long_preheader", Warning, Email, &|world| {
        for fields in world.contents.values_mut().take(1) {
            fields.insert("preheader".to_owned(), "A preheader ".repeat(9));
        }
    });
    add("unknown_option", Error, Push, &|world| drop(world.options.insert("colapse_id".into(), json!("x"))));
    add("bad_option", Error, Push, &|world| drop(world.options.insert("priority".into(), json!(7))));
    add("too_large", Warning, Sms, &|world| {
        world.schema["properties"]["order_id"] =
            json!({"type": "string", "pattern": "\\S", "minLength": 3000});
        world.samples.clear();
        world.contents.remove("de");
    });
    add("too_large", Error, Sms, &|world| {
        world.schema["properties"]["order_id"] =
            json!({"type": "string", "pattern": "\\S", "minLength": 3000});
        world.samples.clear();
        world.contents.remove("de");
        *world = world.clone().with("contents", "{{ data.order_id }}{{ user.name }}");
    });
    add("may_be_too_large", Warning, Email, &|world| {
        world.samples["usual"]["order_id"] = json!("x".repeat(10_000));
        world.contents.remove("de");
        *world = world.clone().with("subject", "Order").with("body", "{{ data.order_id }}");
    });
    add("may_be_too_large", Warning, Push, &|world| {
        world.observed = Some(Observed { events: 1_000, p99_bytes: 1_900 });
        world.contents.remove("de");
    });
    add("push_too_long", Error, Push, &|world| {
        world.contents.remove("de");
        *world = world.clone().with("big_picture", &format!("https://x.io/{}", "a".repeat(4_100)));
    });
    add("too_entangled", Error, Push, &|world| {
        let chain =
            (0..200).map(|n| format!("{{% assign v{n} = v{} %}}", n + 1)).collect::<Vec<_>>().concat();
        *world = world
            .clone()
            .with("contents", &format!("{chain}{{% assign v200 = user.x %}}{{{{ data.order_id }}}}"));
    });
    found
}

/// What is found of the copy without the warning that all of it depends on conditions, which many cases do.
fn without_conditional(world: &World) -> Vec<Finding> {
    let is_it =
        |finding: &Finding| (finding.code, finding.line.zip(finding.column)) == ("maybe_blank", Some((1, 1)));
    world.check().into_iter().filter(|finding| !is_it(finding)).collect()
}

fn listed(found: &[Finding]) -> String {
    found.iter().map(|finding| format!("{finding:?}\n")).collect::<Vec<_>>().concat()
}

#[test]
fn nothing_is_found_where_nothing_is_wrong() {
    for channel in [Push, Email, Sms] {
        let found = World::sound(channel).check();
        assert!(found.is_empty(), "{channel}: {}", listed(&found));
    }
}

#[test]
fn each_fault_in_copy_is_found_where_it_is_and_nothing_else() {
    let mut wrong = String::new();
    for (channel, field, text, code, severity, place) in CASES {
        let mut world = World::sound(*channel).with(field, text);
        world.contents.remove("de");
        let is_conditional = (*code, *place) == ("maybe_blank", (1, 1));
        let found = if is_conditional { world.check() } else { without_conditional(&world) };
        let seen: Vec<_> =
            found.iter().map(|f| (f.code, f.severity, f.line.zip(f.column), f.field.as_deref())).collect();
        if seen != [(*code, *severity, Some(*place), Some(*field))] {
            let _ = writeln!(wrong, "{text}\nwanted {code} {severity:?} {place:?}\n{}", listed(&found));
        }
    }
    assert!(wrong.is_empty(), "{wrong}");
}

#[test]
fn each_other_fault_is_found_and_nothing_else() {
    for (code, severity, world) in others() {
        let found = world.check();
        let seen: BTreeSet<_> = found.iter().map(|f| (f.code, f.severity)).collect();
        assert_eq!(seen, [(code, severity)].into(), "{}", listed(&found));
    }
}

#[test]
fn every_code_has_a_case_and_every_finding_a_remedy() {
    let worlds = CASES.iter().map(|(channel, field, text, ..)| World::sound(*channel).with(field, text));
    let found: Vec<Finding> = worlds
        .chain(others().into_iter().map(|(_, _, world)| world))
        .flat_map(|world| world.check())
        .collect();
    let seen: BTreeSet<&str> = found.iter().map(|finding| finding.code).collect();
    let all: BTreeSet<&str> = CODES.into_iter().chain(COMPILER_CODES).collect();
    assert_eq!(seen, all);
    for finding in found.iter().filter(|finding| CODES.contains(&finding.code)) {
        assert!(finding.hint.as_ref().is_some_and(|hint| hint.len() > 5), "{finding:?}");
    }
}

#[test]
fn what_a_condition_makes_sure_of_is_not_asked_for_again() {
    for text in [
        "{% if data.name != blank %}{{ data.name }}{% endif %}",
        "{% if data.gift %}{{ data.gift }}{% endif %}",
        "{% if data.gift and data.paid %}{{ data.gift }}{% endif %}",
        "{% unless data.gift == nil %}{{ data.gift }}{% endunless %}",
        "{% if data.gift == nil %}none{% else %}{{ data.gift }}{% endif %}",
        "{% if data.gift == nil or data.paid %}none{% else %}{{ data.gift }}{% endif %}",
        "{% if data.state == 'packed' %}{{ data.state }}{% endif %}",
        "{% case data.state %}{% when 'packed' or 'shipped' %}{{ data.state }}{% endcase %}",
        "{% assign g = data.gift %}{% if g %}{{ g }}{% endif %}",
        "{% if data.gift %}{% assign g = data.gift %}{% else %}{% assign g = 'x' %}{% endif %}{{ g }}",
        "{% if data.items.size > 0 %}{{ data.items[0].title }}{{ data.items.first.title }}{% endif %}",
        "{% for i in data.items %}{% if i.colour %}{{ i.colour }}{% endif %}{% endfor %}",
        "{% assign t = 0 %}{% for i in data.items %}{% assign t = t | plus: i.price %}{% endfor %}{{ t }}",
        "{% for i in data.items %}{{ forloop.index }}{% unless forloop.last %}, {% endunless %}{% endfor %}",
        "{{ data.gift | default: 'none' | upcase }}",
        "{{ data.items | map: 'title' | first | default: 'x' }}",
        "{{ data.count | pluralize: '', 's' }}{{ data.note | default: '' }}{{ data.note | default: 'x' }}",
        "{{ user.x | default: data.gift | default: 'z' }}{{ user.x | default: data.note | default: 'z' }}",
        "{{ data.count | plus: 1 }}{{ data.eta | date: '%Y' }}{{ data.count | date: '%Y' }}",
        "{{ data.order_id | split: '-' | join: '/' | default: '-' }}",
        "{{ user.first_name | default: 'you' }}{{ data.order_id | append: user.x }}",
    ] {
        let mut world = World::sound(Push).with("contents", text);
        world.contents.remove("de");
        let found = without_conditional(&world);
        assert!(found.is_empty(), "{text}\n{}", listed(&found));
    }
}

#[test]
fn a_member_that_distinguishes_alternatives_says_which_members_there_are() {
    let found = |text: &str| {
        let mut world = World::sound(Push).with("contents", text);
        world.contents.remove("de");
        world.samples.clear();
        world.schema["oneOf"] = json!([
            {"properties": {"pay": {"const": "card"}, "card": {"type": "string", "pattern": "\\S"}}, "required": ["pay", "card"]},
            {"properties": {"pay": {"const": "iban"}, "iban": {"type": "string", "pattern": "\\S"}}, "required": ["pay", "iban"]},
        ]);
        without_conditional(&world).into_iter().map(|finding| finding.code).collect::<Vec<_>>()
    };
    for text in [
        "{% if data.pay == 'card' %}{{ data.card }}{% endif %}",
        "{% if data.pay == 'card' %}{{ data.card }}{% else %}{{ data.iban }}{% endif %}",
        "{% if data.pay != 'card' %}{{ data.iban }}{% endif %}",
        "{% case data.pay %}{% when 'iban' %}{{ data.iban }}{% when 'card' %}{{ data.card }}{% endcase %}",
    ] {
        assert_eq!(found(text), [""; 0], "{text}");
    }
    for text in [
        "{{ data.card }}",
        "{% if data.pay == 'iban' %}{{ data.card }}{% endif %}",
        "{% if data.paid %}{{ data.card }}{% endif %}",
    ] {
        assert!(!found(text).is_empty(), "{text}");
    }
}

#[test]
fn hostile_schemas_and_copy_do_not_run_away() {
    let doubling: serde_json::Map<_, _> = (0..40)
        .map(|n| {
            let next = json!({"$ref": format!("#/$defs/d{}", n + 1)});
            (format!("d{n}"), json!({"anyOf": [next, next], "allOf": [next]}))
        })
        .collect();
    let schemas = [
        json!({"$defs": doubling, "properties": {"x": {"$ref": "#/$defs/d0"}}}),
        json!({"$ref": "#"}),
        json!({"$defs": {"l": {"type": "array", "minItems": 9, "items": {"$ref": "#/$defs/l"}}},
            "properties": {"x": {"$ref": "#/$defs/l"}}, "required": ["x"]}),
        json!({"properties": {"x": {"type": "string", "minLength": 9e15}}, "required": ["x"]}),
    ];
    let nested =
        "{% for i in data.x %}{% assign v = v | append: i %}".repeat(50) + &"{% endfor %}".repeat(50);
    let many: String = (0..300)
        .map(|n| format!("{{% if data.x %}}{{% assign v{n} = data.x %}}{{% endif %}}"))
        .collect::<Vec<_>>()
        .concat();
    for schema in schemas {
        for text in
            [nested.as_str(), many.as_str(), "{{ data.x }}{{ data.x | join: ',' }}{{ data.x[0][0].x }}"]
        {
            let mut world = World::sound(Email).with("body", text);
            world.schema = schema.clone();
            world.check();
        }
    }
}

#[test]
fn a_misspelt_key_is_put_right() {
    let hint =
        |text: &str| World::sound(Push).with("contents", text).check()[0].hint.clone().unwrap_or_default();
    assert_eq!(hint("{{ data.ordre_id }}"), "did you mean `order_id`?");
    assert_eq!(hint("{{ data.customer.cty }}"), "did you mean `city`?");
    assert!(hint("{{ data.customer.zip }}").contains("city, phone"));
}

#[test]
fn what_an_element_of_a_list_holds_back_does_not_travel_with_it() {
    let body = |text: &str| World::sound(Email).with("body", text).check();
    let loops = "{% assign mine = data.items | where: 'title', user.tags.t %}{% for i in mine %}{{ i.title }}{% endfor %}";
    assert!(body(loops).is_empty(), "{}", listed(&body(loops)));
    let leak = "{% assign mine = data.items | where: 'title', user.tags.t %}{% for i in mine %}{{ i.title }}{{ user.pin }}{% endfor %}";
    assert_eq!(body(leak)[0].code, "sensitive_subtree", "`pin` is a key that the field names");
}
